package space

import "github.com/ctnas/ctnas/kernels/philox"

// Breed makes up to n children of parents, distinct and such as may be: half are crossovers of two, half mutations of
// one, as the evolution of SPOS has it (Guo et al., ECCV 2020). They are fewer where a hundred tries in a row make
// none.
func Breed(sp Space, parents []Arch, n int, s *philox.Stream, may func(Arch) bool) (out []Arch, err error) {
	const tries = 100
	seen := map[Arch]bool{}
	add := func(n int, child func() (Arch, error)) error {
		for failed := 0; n > 0 && failed < tries; failed++ {
			a, err := child()
			if err != nil {
				return err
			}
			if seen[a] || !may(a) {
				continue
			}
			seen[a], failed = true, -1
			out = append(out, a)
			n--
		}
		return nil
	}
	one := func() Arch { return parents[s.Intn(len(parents))] }
	if err := add(n/2, func() (Arch, error) { return cross(sp, one(), one(), s) }); err != nil {
		return nil, err
	}
	err = add(n-len(out), func() (Arch, error) { return redraw(sp, one(), s) })
	return out, err
}

// mutationRate is the probability with which SPOS draws a decision anew.
const mutationRate = 0.1

// redraw draws each decision of an architecture anew with probability mutationRate; behind another first decision,
// which says what the others are, all are new.
func redraw(sp Space, a Arch, s *philox.Stream) (Arch, error) {
	actions, err := sp.Encode(a)
	if err != nil {
		return nil, err
	}
	g := sp.Grammar()
	if g.First.Choices > 1 && s.Float64() < mutationRate {
		first := s.Intn(g.First.Choices)
		if first != actions[0] {
			return sp.Decode(g.drawBehind(first, s))
		}
	}
	for i, step := range g.Variants[actions[0]] {
		if s.Float64() < mutationRate {
			actions[i+1] = s.Intn(step.Choices)
		}
	}
	return sp.Decode(actions)
}

// cross takes each decision from one of two architectures, the first one from a. Where the other has no such decision
// it is a's.
func cross(sp Space, a, b Arch, s *philox.Stream) (Arch, error) {
	if c, ok := sp.(Crosser); ok {
		return c.Cross(a, b, s), nil
	}
	x, err := sp.Encode(a)
	if err != nil {
		return nil, err
	}
	y, err := sp.Encode(b)
	if err != nil {
		return nil, err
	}
	g := sp.Grammar()
	for i, step := range g.Variants[x[0]] {
		if at := i + 1; s.Intn(2) == 1 && at < len(y) && y[at] < step.Choices &&
			g.Variants[y[0]][i].Head == step.Head {
			x[at] = y[at]
		}
	}
	return sp.Decode(x)
}
