// Package method holds the ways to find a good architecture that CTNAS is compared with: random search, regression,
// pairwise ranking with evolution (ReNAS), and evolutions that ask for labels alone. A file is a method, registered by
// its name. All of them buy their labels from their run's ledger, so each knows what it paid for and nothing else.
package method

import (
	"context"
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// account is a run as the methods of this package draw and buy in it.
type account struct{ *run.Run }

// tries is how many draws may fail in a row before it is taken for certain that nothing is left to draw.
const tries = 100000

// draw returns n distinct architectures that may be bought, uniformly at random, fewer where no more are left: of the
// list where there is one, for it holds what has a label.
func (a account) draw(n int, s *philox.Stream) []space.Arch {
	switch {
	case a.All == nil:
		return a.Draw(n, s, a.Sample, tries)
	case a.All.Len() > tries:
		return a.Draw(n, s, func(s *philox.Stream) space.Arch { return a.All.Arch(s.Intn(a.All.Len())) }, tries)
	}
	var out []space.Arch
	for _, i := range s.Perm(a.All.Len()) { // a small list: every one of it is found
		if len(out) == n {
			break
		}
		if x := a.All.Arch(i); a.May(x) {
			out = append(out, x)
		}
	}
	return out
}

// mutate returns a neighbour of an architecture that may be bought, a random architecture where none is found, nil
// where nothing is left.
func (a account) mutate(x space.Arch, s *philox.Stream) space.Arch {
	for range 100 {
		if child := a.Deps.Space.Mutate(x, s); a.May(child) {
			return child
		}
	}
	if found := a.draw(1, s); len(found) == 1 {
		return found[0]
	}
	return nil
}

// buy pays for architectures. predicted is nil or one number an architecture.
func (a account) buy(ctx context.Context, round int, archs []space.Arch, proposer string,
	predicted []float64) ([]float64, error) {
	if len(archs) == 0 {
		return nil, ctx.Err()
	}
	requests := make([]ledger.Request, len(archs))
	for i, x := range archs {
		requests[i] = ledger.Request{Arch: x, Proposer: proposer, Predicted: math.NaN()}
		if predicted != nil {
			requests[i].Predicted = predicted[i]
		}
	}
	answers, err := a.Buy(ctx, round, requests)
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(answers))
	for i, x := range answers {
		values[i] = x.Score
	}
	return values, ctx.Err()
}
