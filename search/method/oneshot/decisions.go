package oneshot

import (
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// mutationRate is the probability with which SPOS draws a decision anew.
const mutationRate = 0.1

// mutate draws each decision of an architecture anew with probability mutationRate; behind another first decision, which
// says what the others are, all are new.
func mutate(sp space.Space, a space.Arch, s *philox.Stream) (space.Arch, error) {
	actions, err := sp.Encode(a)
	if err != nil {
		return nil, err
	}
	g := sp.Grammar()
	if g.First.Choices > 1 && s.Float64() < mutationRate {
		first := s.Intn(g.First.Choices)
		if first != actions[0] {
			actions = []int{first}
			for _, step := range g.Variants[first] {
				actions = append(actions, s.Intn(step.Choices))
			}
			return sp.Decode(actions)
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
func cross(sp space.Space, a, b space.Arch, s *philox.Stream) (space.Arch, error) {
	if c, ok := sp.(space.Crosser); ok {
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
