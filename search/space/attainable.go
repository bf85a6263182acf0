package space

import (
	"fmt"
	"iter"
	"math"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

// How the cheapest architecture of a space is looked for: by draws, then by steps from the cheapest of them, each to
// the cheapest of some neighbours.
const (
	attainableDraws      = 1000
	attainableSteps      = 100
	attainableNeighbours = 400
)

// Loosen says for messages which limits to loosen, and how much of each cost that is limited the cheapest architecture
// has that is listed, or, without a list, that was found in the space: what each limit must allow at least.
func (l Limits) Loosen(sp Space, listed iter.Seq[Arch]) string {
	var said []string
	for _, c := range []struct {
		limit      int64
		name, what string
		unit       float64
	}{
		{l.MAdds, CostMAdds, "the fewest MAdds that were found are %.0f", 1},
		{l.Params, CostParams, "the smallest that was found has %.0f parameters", 1},
		{l.Latency, CostLatency, "the fastest that was found takes %g ms", 1e6},
	} {
		if c.limit == 0 {
			continue
		}
		if least := l.least(c.name, sp, listed); least < math.MaxInt64 {
			said = append(said, fmt.Sprintf(c.what, float64(least)/c.unit))
		}
	}
	if len(said) == 0 { // no cost is known
		return l.Flags()
	}
	return l.Flags() + "; " + strings.Join(said, ", ")
}

// least is the least of a cost; math.MaxInt64 where none is known.
func (l Limits) least(cost string, sp Space, listed iter.Seq[Arch]) int64 {
	least, at := int64(math.MaxInt64), Arch(nil)
	try := func(a Arch) {
		if v, known := l.CostOf(cost, a); known && v < least {
			least, at = v, a
		}
	}
	if listed != nil {
		for a := range listed {
			try(a)
		}
		return least
	}
	s := philox.New(0, philox.PurposeSample, math.MaxUint32-1)
	for range attainableDraws {
		try(sp.Sample(s))
	}
	for range attainableSteps {
		before, from := least, at
		if from == nil {
			break
		}
		for range attainableNeighbours {
			try(sp.Mutate(from, s))
		}
		if least == before {
			break
		}
	}
	return least
}
