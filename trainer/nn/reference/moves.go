package reference

import "github.com/ctnas/ctnas/trainer/nn"

// sliding is a pooling window with its shapes.
type sliding struct {
	kernel, stride nn.Size
	pad            nn.Pad
	batch          int
	in, out        nn.Shape
	x              []float64
}

func (p *Pass) window(i int, kernel, stride nn.Size, pad nn.Pad) sliding {
	node := &p.Net.Nodes[i]
	return sliding{kernel, stride, pad, p.Batch, p.Net.Inputs(i)[0], node.Shape, p.Outputs[node.In[0]]}
}

// each visits every output element with the input elements in its window, in row-major order.
func (s sliding) each(visit func(out int, in []int)) {
	for n := range s.batch {
		for y := range s.out.H {
			for x := range s.out.W {
				for c := range s.out.C {
					var in []int
					for a := range s.kernel.H {
						for b := range s.kernel.W {
							v, u := y*s.stride.H-s.pad.Top+a, x*s.stride.W-s.pad.Left+b
							if v >= 0 && v < s.in.H && u >= 0 && u < s.in.W {
								in = append(in, ((n*s.in.H+v)*s.in.W+u)*s.in.C+c)
							}
						}
					}
					visit(((n*s.out.H+y)*s.out.W+x)*s.out.C+c, in)
				}
			}
		}
	}
}

// max visits every output element with the first of its largest input elements.
func (s sliding) max(visit func(out, in int)) {
	s.each(func(out int, in []int) {
		largest := in[0]
		for _, k := range in {
			if s.x[k] > s.x[largest] {
				largest = k
			}
		}
		visit(out, largest)
	})
}

// mean visits every pair of an output and an input element with the input's share of the output.
func (s sliding) mean(countPad bool, visit func(out, in int, share float64)) {
	s.each(func(out int, in []int) {
		count := len(in)
		if countPad {
			count = s.kernel.H * s.kernel.W
		}
		for _, k := range in {
			visit(out, k, 1/float64(count))
		}
	})
}

func (p *Pass) global(i int, visit func(out, in int, share float64)) {
	s := p.Net.Inputs(i)[0]
	for k := range p.Batch * s.Len() {
		visit(k/s.Len()*s.C+k%s.C, k, 1/float64(s.H*s.W))
	}
}

// gated visits every element of a gate's first input with the element of its second.
func (p *Pass) gated(i int, visit func(k, gate int)) {
	s := p.Net.Nodes[i].Shape
	for k := range p.Batch * s.Len() {
		visit(k, k/s.Len()*s.C+k%s.C)
	}
}

// kept is the factor of an element of dropout or drop path: 0 or 1/(1-p), and 1 outside training.
func (p *Pass) kept(i, element int) float64 {
	var probability float64
	switch op := p.Net.Nodes[i].Op.(type) {
	case nn.Dropout:
		probability = op.P
	case nn.DropPath:
		probability = op.P * (1 - p.PathsOff)
		element /= p.Net.Nodes[i].Shape.Len()
	}
	switch {
	case !p.Train:
		return 1
	case nn.Kept(probability, p.Seed, i, p.Step, element):
		return 1 / (1 - probability)
	}
	return 0
}

// moved visits every output element of an operation that only moves channels, with the input and the element it comes
// from.
func (p *Pass) moved(i int, visit func(out, source, in int)) {
	inputs, out := p.Net.Inputs(i), p.Net.Nodes[i].Shape
	from := make([][2]int, 0, out.C) // of each output channel: input and channel
	switch op := p.Net.Nodes[i].Op.(type) {
	case nn.Concat:
		for source, s := range inputs {
			for c := range s.C {
				from = append(from, [2]int{source, c})
			}
		}
	case nn.Shuffle:
		for c := range out.C {
			from = append(from, [2]int{0, c%op.Groups*(out.C/op.Groups) + c/op.Groups})
		}
	case nn.Slice:
		for c := op.From; c < op.To; c++ {
			from = append(from, [2]int{0, c})
		}
	}
	for pixel := range p.Batch * out.H * out.W {
		for c, f := range from {
			visit(pixel*out.C+c, f[0], pixel*inputs[f[0]].C+f[1])
		}
	}
}
