package sidekick

import "time"

// A health is what the checks have found so far.
type health int

const (
	undecided health = iota // since the start: not yet up, not yet given up
	passing
	failing
)

// A verdict makes a health of the results of checks. It has no clock of its
// own: whoever adds a result says how long the checks have been running.
type verdict struct {
	rise, fall  int
	startPeriod time.Duration

	health        health
	passes, fails int // in a row
	passed        bool
}

// add takes one result and reports whether it changed the health. A failure
// does not count within the start period before the first pass: an app that is
// still starting is not one that fails.
func (v *verdict) add(pass bool, age time.Duration) (changed bool) {
	if pass {
		v.passed = true
		v.passes, v.fails = v.passes+1, 0
		return v.passes >= v.rise && v.become(passing)
	}
	v.passes = 0
	if !v.passed && age < v.startPeriod {
		return false
	}
	v.fails++
	return v.fails >= v.fall && v.become(failing)
}

func (v *verdict) become(h health) (changed bool) {
	changed = v.health != h
	v.health = h
	return changed
}
