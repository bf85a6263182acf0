package space

import "github.com/ctnas/ctnas/gcn/meanfield"

// Initialised is a space that says what its operations do to variances and gradients in a network that has not been
// trained, so that package meanfield can describe an architecture by numbers that need no label. Rules may be several:
// each describes it once more, the last one best.
type Initialised interface {
	Space
	MeanField() []meanfield.Rule
}

var _ Initialised = NASBench101{}

// Promise is how promising an architecture is when no label is known yet, the higher the better: how little the last
// rule's gradient grows from output to input. It is 0 for all architectures of a space that is not Initialised.
func Promise(sp Space, a Arch) float64 {
	s, ok := sp.(Initialised)
	if !ok {
		return 0
	}
	rules, g := s.MeanField(), a.Graph()
	return -rules[len(rules)-1].Numbers(nil, g.Ops, g.Edges)[meanfield.Gain]
}

// MeanField has a rule of guessed constants and one whose constants agree with the gradients that small networks have
// at initialisation. A maximum of 3x3 pixels multiplies the variance, and since neighbours share their maximum, so that
// their gradients add up, the gradient.
func (NASBench101) MeanField() []meanfield.Rule {
	return []meanfield.Rule{nasbench101Guessed, nasbench101Fitted}
}

var (
	nasbench101Guessed = meanfield.Rule{
		Ops: []meanfield.Op{
			nodeConv1x1:    {Normalised: true, Variance: meanfield.Relu, Gradient: 0.5, Weights: 1},
			nodeConv3x3:    {Normalised: true, Variance: meanfield.Relu, Gradient: 0.5, Weights: 9},
			nodeMaxpool3x3: {Variance: 0.8, Gradient: 1},
			nodeOutput:     {},
		},
		Input:  meanfield.Op{Normalised: true, Variance: meanfield.Relu, Gradient: 0.5, Weights: 1},
		Concat: true, Cells: 1,
	}
	nasbench101Fitted = meanfield.Rule{
		Ops: []meanfield.Op{
			nodeConv1x1:    {Normalised: true, Variance: meanfield.Relu, Gradient: 0.475, Weights: 1},
			nodeConv3x3:    {Normalised: true, Variance: meanfield.Relu, Gradient: 0.35, Weights: 9},
			nodeMaxpool3x3: {Variance: 2.55, Gradient: 3.9},
			nodeOutput:     {},
		},
		Input:  meanfield.Op{Normalised: true, Variance: 0.9 * meanfield.Relu, Gradient: 0.1, Weights: 1},
		Concat: true, Correlation: 0.05, Cells: 3,
	}
)
