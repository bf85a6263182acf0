package nn

import (
	"fmt"
	"slices"
)

// Shared are the variables of a supernet, each as large as the largest part of it that a path has, in the order in
// which they lie in memory. Their names are unique, those of files; their Node says nothing.
type Shared struct {
	Name      string
	Variables []Variable
	// Branches are the scales of batch norms that end the branches of residual blocks, as Network.Branches lists them.
	Branches []int
}

// Path is a network whose variables are parts of shared ones: a sub-network of a supernet. A network that is trained by
// itself is the path of its own variables (Alone).
type Path struct {
	*Network
	Bindings []Binding // of Variables(), in their order
}

// Binding says which part of a shared variable a path's variable is: the first input and the first output channels of
// every tap, as many as the path's variable has. A kernel of fewer taps is made of the shared one: the inner part of
// that, two taps smaller each way, times the matrix of the step (Cai et al. 2020, "elastic kernel size").
type Binding struct {
	Shared int
	// Through are the shared matrices of those steps, in order: [taps, taps] from the larger kernel's inner taps to the
	// smaller kernel's, in memory as a linear layer's weight, [in, out]. None: the kernel is the shared one's.
	Through []int
}

// Alone is a network as the only path of its own variables.
func Alone(net *Network) (Shared, Path) {
	s := Shared{Name: net.Name, Variables: net.Variables(), Branches: net.Branches()}
	p := Path{Network: net, Bindings: make([]Binding, len(s.Variables))}
	for i := range p.Bindings {
		p.Bindings[i].Shared = i
	}
	return s, p
}

// Check tells why a path's variables are no parts of the shared ones.
func (s Shared) Check(p Path) error {
	variables := p.Variables()
	if len(p.Bindings) != len(variables) {
		return fmt.Errorf("%s: %d bindings of %d variables", p.Name, len(p.Bindings), len(variables))
	}
	for i, v := range variables {
		b := p.Bindings[i]
		if b.Shared < 0 || b.Shared >= len(s.Variables) {
			return fmt.Errorf("%s: %s is bound to variable %d of %d", p.Name, v.Name, b.Shared, len(s.Variables))
		}
		if err := s.holds(b, v); err != nil {
			return fmt.Errorf("%s: %s %v is no part of %s %v: %w", p.Name, v.Name, v.Shape,
				s.Variables[b.Shared].Name, s.Variables[b.Shared].Shape, err)
		}
	}
	return nil
}

func (s Shared) holds(b Binding, v Variable) error {
	from := s.Variables[b.Shared]
	shape := slices.Clone(from.Shape)
	if from.Role != v.Role || len(shape) != len(v.Shape) {
		return fmt.Errorf("want one of the same kind")
	}
	for _, k := range b.Through {
		if len(shape) != 4 || shape[2] != 1 {
			return fmt.Errorf("only kernels of depthwise convolutions are made smaller")
		}
		shape[0], shape[1] = shape[0]-2, shape[1]-2
		taps := shape[0] * shape[1]
		if k < 0 || k >= len(s.Variables) || !slices.Equal(s.Variables[k].Shape, []int{taps, taps}) {
			return fmt.Errorf("variable %d is no matrix of %d x %d", k, taps, taps)
		}
	}
	for d, n := range v.Shape {
		window := len(shape) == 4 && d < 2
		if n > shape[d] || window && n != shape[d] {
			return fmt.Errorf("dimension %d has %d", d, shape[d])
		}
	}
	return nil
}
