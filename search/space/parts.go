package space

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Composed is a space whose architectures are made of parts that run one after the other, so that an architecture takes
// about as long as its parts together.
type Composed interface {
	Space
	// Parts are the names of all parts that any architecture of the space may have.
	Parts() []string
	// EachPart visits the parts of an architecture by their index in Parts, a part as often as it is there; false where
	// it has others.
	EachPart(a Arch, visit func(part int)) bool
}

// Measurable is a space whose parts can be timed where they stand, in networks.
type Measurable interface {
	Composed
	// Dissect builds an architecture for the classes and the size that its costs are of, in sections: section[i] is
	// that of node i, from 0 on in the order of the nodes, and part[k] is of which part section k is.
	Dissect(a Arch) (net *nn.Network, section, part []int, err error)
	// Cover draws architectures that have every part between them.
	Cover(s *philox.Stream) []Arch
}

// What an architecture costs, by name.
const (
	CostMAdds   = "madds"
	CostParams  = "params"
	CostLatency = "latency"
)

// Costs are their names.
var Costs = []string{CostMAdds, CostParams, CostLatency}

// MaxMilliseconds is the longest time of a part and the largest limit, some quarter of an hour.
const MaxMilliseconds = 1e6

// Nanoseconds are those of a time that is at most MaxMilliseconds.
func Nanoseconds(ms float64) int64 { return int64(math.Round(ms * 1e6)) }

// Times say how long the parts of a space take, in whole nanoseconds, so that sums do not depend on their order.
type Times struct {
	space Composed
	parts []int64
}

// NewTimes returns the times of a space's parts, in the order of Parts.
func NewTimes(sp Composed, nanoseconds []int64) (*Times, error) {
	if n := len(sp.Parts()); n != len(nanoseconds) {
		return nil, fmt.Errorf("%d times for %d parts of %s", len(nanoseconds), n, sp.Name())
	}
	sum := int64(0)
	for i, t := range nanoseconds {
		if t < 0 || t > math.MaxInt64/4-sum {
			return nil, fmt.Errorf("part %s of %s takes %d ns", sp.Parts()[i], sp.Name(), t)
		}
		sum += t
	}
	return &Times{sp, nanoseconds}, nil
}

// Space is whose parts they are.
func (t *Times) Space() Composed { return t.space }

// Of is how long an architecture takes, in nanoseconds; false where it has parts that no time is known of.
func (t *Times) Of(a Arch) (nanoseconds int64, known bool) {
	if t == nil {
		return 0, false
	}
	known = t.space.EachPart(a, func(part int) { nanoseconds += t.parts[part] })
	return nanoseconds, known
}

// Milliseconds is Of for a result; nil where it is not known.
func (t *Times) Milliseconds(a Arch) *float64 {
	ns, known := t.Of(a)
	if !known {
		return nil
	}
	ms := float64(ns) / 1e6
	return &ms
}
