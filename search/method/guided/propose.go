package guided

import (
	"cmp"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// selection collects distinct candidates for labels.
type selection struct {
	s     *Search
	list  []ledger.Request
	taken map[space.Arch]bool
	rule  func(space.Arch) bool // what may be chosen; nil: what can be labelled next

	apart     int     // in how many decisions candidates should differ from each other
	decisions [][]int // of those in the list, where that is more than one
}

func (c *selection) may(a space.Arch) bool {
	rule := c.rule
	if rule == nil {
		rule = c.s.May
	}
	return !c.taken[a] && rule(a)
}

func (c *selection) add(a space.Arch, proposer string, predicted float64) {
	c.taken[a] = true
	c.list = append(c.list, ledger.Request{Arch: a, Proposer: proposer, Predicted: predicted})
	if c.apart > 1 {
		if x, err := c.s.Deps.Space.Encode(a); err == nil {
			c.decisions = append(c.decisions, x)
		}
	}
}

// best adds up to n of the architectures that may be labelled, those with the highest values first; as long as there
// are enough of them, only such as are apart from all that were added before. What the comparator ranks highest is else
// one architecture and its neighbours, whose labels say the same twenty times.
func (c *selection) best(n int, values []float64, at func(i int) space.Arch,
	proposer func(i int) string, rank []float64) {
	if c.apart > 1 {
		order := make([]int, len(values))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(values[j], values[i]) })
		for apart := c.apart; n > 0 && apart > 1; apart-- {
			for _, i := range order {
				if a := at(i); n > 0 && c.may(a) && c.isApart(a, apart) {
					c.add(a, proposer(i), rank[i])
					n--
				}
			}
		}
	}
	for _, i := range Highest(n, values, func(i int) bool { return c.may(at(i)) }) {
		if a := at(i); c.may(a) {
			c.add(a, proposer(i), rank[i])
		}
	}
}

// isApart tells whether an architecture differs in so many decisions from each that was added.
func (c *selection) isApart(a space.Arch, decisions int) bool {
	x, err := c.s.Deps.Space.Encode(a)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(c.decisions, func(y []int) bool { return differences(x, y) < decisions })
}

// differences counts the decisions in which two sequences differ, those that only one has among them.
func differences(a, b []int) int {
	n := max(len(a), len(b)) - min(len(a), len(b))
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// Highest returns the indices of the n largest values that ok accepts, largest first, the lower index first of equal
// ones.
func Highest(n int, values []float64, ok func(i int) bool) []int {
	var top []int
	if n <= 0 {
		return nil
	}
	for i, v := range values {
		if len(top) == n && !(v > values[top[n-1]]) || !ok(i) {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, v, func(j int, v float64) int {
			if values[j] >= v {
				return -1
			}
			return 1
		})
		if len(top) == n {
			top = top[:n-1]
		}
		top = slices.Insert(top, at, i)
	}
	return top
}

// Candidates chooses up to n architectures to label: what the comparator ranks best in the space and among the
// controller's samples, a share of them by single members of the ensemble (each member is a draw from what the labels
// leave possible: Thompson sampling).
func (s *Search) Candidates(n int) ([]ledger.Request, error) {
	c := &selection{s: s, taken: make(map[space.Arch]bool, n)}
	if s.List == nil { // the closer the end, the closer together: what is left then is to tell neighbours apart
		c.apart = s.Apart(float64(s.Ledger.Left()) / float64(s.Budget))
	}
	pool, from, err := s.pool(s.May, s.List == nil)
	if err != nil {
		return nil, err
	}
	share := n
	if s.List != nil {
		share = int(math.Round(s.ControllerShare * float64(n)))
	}
	if len(pool) > 0 {
		scores, err := s.Scorer.Score(pool)
		if err != nil {
			return nil, err
		}
		at := func(i int) space.Arch { return pool[i] }
		if s.Pareto {
			c.front(share, scores.Rank, at, func(i int) string { return from[i] })
			share = 0
		}
		s.choose(c, share, scores.Rank, scores.Member, at, func(i int) string { return from[i] })
	}
	if s.List != nil {
		whole := s.Scorer.whole
		if s.Pareto {
			c.front(n-len(c.list), whole.Rank, s.List.Arch, func(int) string { return ProposerSpace })
		}
		s.choose(c, n-len(c.list), whole.Rank, whole.Member, s.List.Arch, func(int) string { return ProposerSpace })
	}
	if missing := n - len(c.list); missing > 0 {
		for _, a := range s.Random(missing, philox.New(s.Seed, philox.PurposeSample, uint32(s.Round))) {
			if c.may(a) {
				c.add(a, ProposerRandom, math.NaN())
			}
		}
	}
	return c.list, nil
}

// cost is what fronts are of beside accuracy; what is not known stands behind everything.
func (s *Search) cost(a space.Arch) int64 {
	cost, known := s.Limits.CostOf(s.ParetoCost, a)
	if !known {
		return math.MaxInt64
	}
	return cost
}

// front adds up to n of the architectures that may be labelled and that nothing cheaper beats in the ranking; then
// those that only such beat, and so on.
func (c *selection) front(n int, rank []float64, at func(i int) space.Arch, proposer func(i int) string) {
	type point struct {
		i    int
		cost int64
	}
	var left []point
	for i := range rank {
		if a := at(i); c.may(a) {
			left = append(left, point{i, c.s.cost(a)})
		}
	}
	slices.SortStableFunc(left, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(rank[b.i], rank[a.i]))
	})
	for n > 0 && len(left) > 0 {
		var layer, rest []point
		best := math.Inf(-1)
		for _, p := range left {
			if rank[p.i] > best {
				best = rank[p.i]
				layer = append(layer, p)
			} else {
				rest = append(rest, p)
			}
		}
		if take := min(n, len(layer)); take > 0 { // evenly along the front
			for k := range take {
				p := layer[(2*k+1)*len(layer)/(2*take)]
				if a := at(p.i); c.may(a) {
					c.add(a, proposer(p.i), rank[p.i])
					n--
				}
			}
		}
		left = rest
	}
}

// choose adds n candidates of one list: most by the ensemble's mean, the Thompson share by members in turn.
func (s *Search) choose(c *selection, n int, rank []float64, member func(m int) []float64, at func(int) space.Arch,
	proposer func(int) string) {
	explore := int(math.Round(s.Thompson * float64(n)))
	if s.Members < 2 {
		explore = 0
	}
	c.best(n-explore, rank, at, proposer, rank)
	for k := range min(explore, s.Members) {
		m := (s.Round + k) % s.Members
		each := (explore - k + s.Members - 1) / s.Members // shares that differ by one at most and sum to explore
		c.best(each, member(m), at, func(int) string { return ProposerThompson }, rank)
	}
}

// pool lists distinct architectures near what the controller has learned: all it sampled in this round, fresh samples,
// and, bred, neighbours of the best labelled ones and what evolves from them, as far as a rule lets them; and says
// where each came from.
func (s *Search) pool(may func(space.Arch) bool, bred bool) (archs []space.Arch, from []string, err error) {
	if !bred && (s.Propose == search.ProposeSpace || s.ControllerShare == 0) {
		return nil, nil, nil
	}
	seen := map[space.Arch]bool{}
	var stock []space.Arch
	add := func(a space.Arch, proposer string) {
		if !seen[a] && may(a) {
			seen[a] = true
			archs, from = append(archs, a), append(from, proposer)
		}
	}
	for _, group := range s.Scorer.asked {
		for _, a := range group {
			add(a, ProposerController)
		}
	}
	if s.Iterations > 0 {
		b, err := s.Policy.Propose(s.Pool)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range b.Archs {
			add(a, ProposerController)
		}
	}
	if bred { // where there is a list, every neighbour is ranked anyway
		stream := philox.New(s.Seed, philox.PurposePropose, uint32(s.Round))
		parents := slices.Clone(s.Ledger.Labels())
		slices.SortStableFunc(parents, func(a, b ledger.Label) int { return cmp.Compare(b.Score, a.Score) })
		parents = parents[:min(len(parents), mutationParents)]
		for i := range s.Mutations {
			add(s.neighbour(parents[i%len(parents)].Arch, stream), ProposerMutation)
		}
		if s.Generations > 0 {
			for _, l := range parents {
				stock = append(stock, l.Arch)
			}
			evolved, err := s.evolve(append(stock, archs...), stream)
			if err != nil {
				return nil, nil, err
			}
			for _, a := range evolved {
				add(a, ProposerMutation)
			}
		}
	}
	return archs, from, nil
}

// neighbour mutates an architecture. Where limits leave little, it tries some times to stay within them.
func (s *Search) neighbour(a space.Arch, stream *philox.Stream) space.Arch {
	child := s.Deps.Space.Mutate(a, stream)
	for tries := 0; tries < 20 && space.IsPositional(s.Deps.Space) && !s.Allowed(child); tries++ {
		child = s.Deps.Space.Mutate(a, stream)
	}
	return child
}

// evolve breeds architectures within the limits, as the comparator ranks them, and returns all that it bred. It costs
// no labels.
func (s *Search) evolve(stock []space.Arch, stream *philox.Stream) ([]space.Arch, error) {
	type member struct {
		arch  space.Arch
		score float64
	}
	var population []member
	var bred []space.Arch
	known := map[space.Arch]bool{}
	enter := func(archs []space.Arch) error {
		fresh := archs[:0:0]
		for _, a := range archs {
			if !known[a] && s.Allowed(a) {
				known[a] = true
				fresh = append(fresh, a)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		scores, err := s.Scorer.Score(fresh)
		if err != nil {
			return err
		}
		for i, a := range fresh {
			population = append(population, member{a, scores.Rank[i]})
		}
		bred = append(bred, fresh...)
		slices.SortStableFunc(population, func(a, b member) int { return cmp.Compare(b.score, a.score) })
		population = population[:min(len(population), evolvedPopulation)]
		return nil
	}
	if err := enter(stock); err != nil {
		return nil, err
	}
	crosser, cross := s.Deps.Space.(space.Crosser)
	for range s.Generations {
		if len(population) == 0 {
			break
		}
		children := make([]space.Arch, s.Mutations)
		for i := range children {
			child := population[stream.Intn(len(population))].arch
			if cross && i%2 == 1 {
				child = crosser.Cross(child, population[stream.Intn(len(population))].arch, stream)
			} else {
				child = s.neighbour(child, stream)
			}
			children[i] = child
		}
		if err := enter(children); err != nil {
			return nil, err
		}
	}
	return bred, nil
}

// evolvedPopulation is how many architectures an evolution on the comparator's scores keeps.
const evolvedPopulation = 100

// mutationParents is how many of the best labelled architectures have their neighbours among the candidates.
const mutationParents = 25
