package space

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Limits bound what an architecture may cost; zero is no limit. What is not known is above every limit.
type Limits struct {
	MAdds, Params int64
	Latency       int64  // nanoseconds, by Times
	Times         *Times // of the space's parts; nil where they are not known
	// Size is of the networks whose multiply-adds and parameters count: those that labels are trained for. Zero: the
	// space's own, Arch.Cost.
	Size NetworkSize
	Said func(Arch) Cost // what others say that these networks take, who do not say their size; nil: nobody
}

// Cost is what counts of an architecture.
func (l Limits) Cost(a Arch) Cost {
	if l.Said != nil {
		return l.Said(a)
	}
	if t, ok := a.(Trainable); ok && l.Size != (NetworkSize{}) {
		return t.CostAt(l.Size)
	}
	return a.Cost()
}

// CostOf is one of the Costs of an architecture: multiply-adds, parameters, or nanoseconds; false where it is not
// known.
func (l Limits) CostOf(cost string, a Arch) (value int64, known bool) {
	switch cost {
	case CostParams:
		value = l.Cost(a).Params
	case CostLatency:
		return l.Times.Of(a)
	default:
		value = l.Cost(a).MAdds
	}
	return value, value >= 0
}

// None tells whether nothing is limited.
func (l Limits) None() bool { return l.MAdds == 0 && l.Params == 0 && l.Latency == 0 }

// Allow tells whether an architecture is within the limits.
func (l Limits) Allow(a Arch) bool { return l.None() || l.Excess(a) <= 1 }

// Excess is how far an architecture is above the limits, the largest of the quotients, at least 1.
func (l Limits) Excess(a Arch) float64 {
	excess := 1.0
	above := func(cost, limit int64) {
		switch {
		case limit == 0:
		case cost < 0:
			excess = math.Inf(1)
		case cost > limit:
			// Of large numbers one more may not show in the quotient.
			excess = max(excess, float64(cost)/float64(limit), math.Nextafter(1, 2))
		}
	}
	if l.MAdds > 0 || l.Params > 0 {
		c := l.Cost(a)
		above(c.MAdds, l.MAdds)
		above(c.Params, l.Params)
	}
	if l.Latency > 0 {
		t, known := l.Times.Of(a)
		if !known {
			return math.Inf(1)
		}
		above(t, l.Latency)
	}
	return excess
}

// Bounded is a space that draws within limits without drawing in vain.
type Bounded interface {
	Space
	// Within returns a Sample that is uniform over the distinct architectures within limits; an error where it finds
	// none.
	Within(l Limits) (func(s *philox.Stream) Arch, error)
}

// Sampler returns how to draw from a space under limits. Where the space cannot draw within them, architectures above
// may come: the caller checks.
func Sampler(sp Space, l Limits) (func(s *philox.Stream) Arch, error) {
	if b, ok := sp.(Bounded); ok && !l.None() {
		if l.Said != nil && (l.MAdds > 0 || l.Params > 0) { // nothing to count with
			return within(sp, l, sp.Sample)
		}
		return b.Within(l)
	}
	return sp.Sample, nil
}

// sums draws from a product of groups, one option of each, uniformly over the combinations whose costs sum to no less
// than one number and no more than another. Costs are rounded down to a grid, on which the combinations are counted;
// what the rounding let through is drawn again, so that the draw is exact.
type sums struct {
	unit        int64
	least, most int           // on the grid
	groups      [][]gridPoint // of each group, by ascending cost
	ways        [][]float64   // ways[g][b]: combinations of the groups from g on that cost at most b
}

// gridPoint is the options of one group that cost the same on the grid.
type gridPoint struct {
	cost    int
	options []int
}

// gridSize is how fine the grid is.
const gridSize = 4096

// newSums counts the combinations whose sum of costs, costs[g][i] of option i of group g, is in least..most. false:
// there are none.
func newSums(costs [][]int64, least, most int64) (*sums, bool) {
	if most < 0 {
		return nil, false
	}
	t := &sums{unit: most/gridSize + 1}
	t.most = int(most / t.unit)
	t.least = max(0, int(max(0, least)/t.unit)-len(costs)+1) // each option lost less than a unit
	for _, group := range costs {
		at := map[int][]int{}
		for i, c := range group {
			if b := c / t.unit; b <= int64(t.most) {
				at[int(b)] = append(at[int(b)], i)
			}
		}
		points := make([]gridPoint, 0, len(at))
		for cost, options := range at {
			points = append(points, gridPoint{cost, options})
		}
		sort.Slice(points, func(i, j int) bool { return points[i].cost < points[j].cost })
		t.groups = append(t.groups, points)
	}
	t.ways = make([][]float64, len(costs)+1)
	last := make([]float64, t.most+1)
	for b := range last {
		last[b] = 1
	}
	t.ways[len(costs)] = last
	for g := len(costs) - 1; g >= 0; g-- {
		t.ways[g] = make([]float64, t.most+1)
		for b := range t.ways[g] {
			for _, p := range t.groups[g] {
				if p.cost > b {
					break
				}
				t.ways[g][b] += float64(len(p.options)) * t.ways[g+1][b-p.cost]
			}
		}
	}
	return t, t.total() > 0
}

// between is how many combinations of the groups from g on cost least..most; most is not negative.
func (t *sums) between(g, least, most int) float64 {
	if least <= 0 {
		return t.ways[g][most]
	}
	return t.ways[g][most] - t.ways[g][min(least-1, most)]
}

// total is how many combinations there are on the grid.
func (t *sums) total() float64 { return t.between(0, t.least, t.most) }

// draw returns an option of each group.
func (t *sums) draw(s *philox.Stream) []int {
	out := make([]int, len(t.groups))
	least, most := t.least, t.most
	for g, points := range t.groups {
		x := s.Float64() * t.between(g, least, most)
		chosen := -1
		for k, p := range points {
			if p.cost > most {
				break
			}
			w := float64(len(p.options)) * t.between(g+1, least-p.cost, most-p.cost)
			if w == 0 {
				continue
			}
			chosen = k
			if x -= w; x < 0 {
				break
			}
		}
		p := points[chosen] // there is one: ways counted it
		out[g] = p.options[s.Intn(len(p.options))]
		least, most = least-p.cost, most-p.cost
	}
	return out
}

// withinTries is how many draws may fail in a row before no architecture is taken to be within limits.
const withinTries = 100000

// within turns a draw that may exceed the limits into one that does not. It fails where a first draw does not come.
func within(sp Space, l Limits, draw func(s *philox.Stream) Arch) (func(s *philox.Stream) Arch, error) {
	out, found := among(draw, l.Allow)
	if !found && math.IsInf(l.Excess(draw(philox.New(0, philox.PurposeSample, math.MaxUint32))), 1) {
		return nil,
			fmt.Errorf("%s: what architectures of %s cost is not known: neither the space nor a table says it of "+
				"those that were drawn", l.Flags(), sp.Name())
	} else if !found {
		return nil, errNone(sp, l)
	}
	return out, nil
}

// among turns a draw into one of what is wanted alone; false where a first draw does not come.
func among(draw func(s *philox.Stream) Arch, want func(a Arch) bool) (out func(s *philox.Stream) Arch, found bool) {
	try := func(s *philox.Stream) (Arch, bool) {
		for range withinTries {
			if a := draw(s); want(a) {
				return a, true
			}
		}
		return nil, false
	}
	fallback, found := try(philox.New(0, philox.PurposeSample, math.MaxUint32))
	return func(s *philox.Stream) Arch {
		if a, ok := try(s); ok {
			return a
		}
		return fallback // so rare that it was found once in 100,000 draws
	}, found
}

// errNone says what the limits are and what they must allow at least.
func errNone(sp Space, l Limits) error {
	var said []string
	if l.MAdds > 0 {
		said = append(said, fmt.Sprintf("%d MAdds", l.MAdds))
	}
	if l.Params > 0 {
		said = append(said, fmt.Sprintf("%d parameters", l.Params))
	}
	if l.Latency > 0 {
		said = append(said, fmt.Sprintf("%g ms", float64(l.Latency)/1e6))
	}
	return fmt.Errorf("no architecture of %s was found with at most %s%s: loosen %s", sp.Name(),
		strings.Join(said, " and "), l.Counted(), l.Loosen(sp, nil))
}

// Counted says for messages which networks are looked at, where they are others than the space's own.
func (l Limits) Counted() string {
	switch {
	case l.MAdds == 0 && l.Params == 0:
		return ""
	case l.Said != nil:
		return ", as the table says of the networks that were trained"
	case l.Size != NetworkSize{}:
		return fmt.Sprintf(", as it is trained for its label (%s)", l.Size)
	}
	return ""
}

// Flags are those of the limits that are set, for messages.
func (l Limits) Flags() string {
	var flags []string
	for flag, limit := range map[string]int64{"--max-madds": l.MAdds, "--max-params": l.Params,
		"--max-latency": l.Latency} {
		if limit > 0 {
			flags = append(flags, flag)
		}
	}
	slices.Sort(flags)
	return strings.Join(flags, " or ")
}
