package trainer

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Start is where a training begins in place of random values: with weights that were trained before.
type Start struct {
	Values   [][]float32 // of the network's variables, in the layout of memory; nil: the recipe's random ones
	Checksum string      // of what they depend on
}

func (s *Start) checksum() string {
	if s == nil {
		return ""
	}
	return s.Checksum
}

// partial tells whether some variables begin at random.
func (s *Start) partial() bool {
	return slices.ContainsFunc(s.Values, func(v []float32) bool { return v == nil })
}

// fits tells why the values are not a network's.
func (s *Start) fits(net *nn.Network) error {
	variables := net.Variables()
	if len(s.Values) != len(variables) {
		return fmt.Errorf("the weights to begin with are %d tensors, and %s has %d", len(s.Values), net.Name,
			len(variables))
	}
	for i, v := range variables {
		if s.Values[i] != nil && len(s.Values[i]) != v.Len() {
			return fmt.Errorf("the weights to begin with have %d numbers for %s of %s, want %d", len(s.Values[i]),
				v.Name, net.Name, v.Len())
		}
	}
	return nil
}
