package sidekick

import "time"

// A health is what the checks have found so far.
type health int

const (
	undecided health = iota // since the start: not yet up, not yet given up
	passing
	failing
)

// An app that changes its health more than flapLimit times in flapWindow is
// flapping. Each further change doubles what it has to pass in a row to be up
// again, to flapRise at most, until it has been up for flapWindow.
const (
	flapLimit  = 6
	flapWindow = 5 * time.Minute
	flapRise   = 8
)

// A verdict makes a health of the results of checks. It has no clock of its
// own: whoever adds a result says how long the checks have been running.
type verdict struct {
	rise, fall  int
	startPeriod time.Duration

	health        health
	passes, fails int // in a row
	passed        bool
	changes       []time.Duration // ages of the changes, those of the last flapWindow
	penalty       int             // rise while the app is flapping; 0: it is not
}

// add takes one result and reports whether it changed the health. A failure
// does not count within the start period before the first pass: an app that is
// still starting is not one that fails.
func (v *verdict) add(pass bool, age time.Duration) (changed bool) {
	if v.health == passing && v.penalty > 0 && age-v.changes[len(v.changes)-1] >= flapWindow {
		v.penalty = 0
	}
	if pass {
		v.passed = true
		v.passes, v.fails = v.passes+1, 0
		return v.passes >= v.needed() && v.become(passing, age)
	}
	v.passes = 0
	if !v.passed && age < v.startPeriod {
		return false
	}
	v.fails++
	return v.fails >= v.fall && v.become(failing, age)
}

// needed is how many passes in a row make the app up.
func (v *verdict) needed() int { return max(v.rise, v.penalty) }

// deciding reports whether the next checks decide: there was no verdict yet, or
// the last result speaks against it. An app that is flapping has to prove itself
// slowly, and is withdrawn as fast as any other.
func (v *verdict) deciding() bool {
	switch v.health {
	case passing:
		return v.fails > 0
	case failing:
		return v.passes > 0 && v.penalty == 0
	default:
		return true
	}
}

func (v *verdict) become(h health, age time.Duration) (changed bool) {
	if v.health == h {
		return false
	}
	v.health = h
	for len(v.changes) > 0 && age-v.changes[0] >= flapWindow {
		v.changes = v.changes[1:]
	}
	v.changes = append(v.changes, age)
	if len(v.changes) > flapLimit && v.needed() < flapRise {
		v.penalty = min(2*v.needed(), flapRise)
	}
	return true
}
