package failover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

// What is told, and to which addresses it goes, when sessions end as in script:
// "-" never began, "+" did.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		n                int
		script           string
		visited, telling string
	}{
		{1, "-", "[0]", "[0 -]"},
		{1, "---+-+", "[0 0 0 0 0 0]", "[0 - 0 + 0 +]"}, // away, back, broken, back, broken
		{3, "-+", "[0 1]", "[1 +]"},                     // the first is away: no news while another answers
		{3, "---", "[0 1 2]", "[0 -; 1 -; 2 -]"},
		{2, "--+--+", "[0 1 0 1 0 1]", "[0 -; 1 - 0 + 1 +]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var visited []int
			var told []string
			Follow(t.Context(), c.n, func(_ context.Context, at int) (bool, error) {
				if len(visited) == len(c.script) {
					return false, ErrLeft
				}
				what := c.script[len(visited)]
				visited = append(visited, at)
				return what == '+', fmt.Errorf("%d %c", at, what)
			}, func(err error) bool {
				told = append(told, err.Error())
				return true
			})
			if got := fmt.Sprint(visited); got != c.visited {
				t.Errorf("%d addresses, %s: went to %s, want %s", c.n, c.script, got, c.visited)
			}
			if got := fmt.Sprint(told); got != c.telling {
				t.Errorf("%d addresses, %s: told %s, want %s", c.n, c.script, got, c.telling)
			}
		})
	}
}

func TestFollowEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	Follow(ctx, 1, func(context.Context, int) (bool, error) {
		calls++
		cancel()
		return true, errors.New("broken")
	}, func(error) bool { t.Error("told, though the context had ended"); return true })
	Follow(t.Context(), 1, func(context.Context, int) (bool, error) {
		calls++
		return false, errors.New("away")
	}, func(error) bool { return false })
	if calls != 2 {
		t.Errorf("got %d sessions, want 2", calls)
	}
}
