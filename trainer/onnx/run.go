package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Run computes the logits of images, [N, channels, height, width], by what an ONNX file that Encode wrote says: read
// anew, by definitions of the operators (github.com/onnx/onnx, docs/Operators.md, opset 17) that share nothing with
// the kernels. It is how an export is checked, and knows only the operators and attributes that Encode uses.
func Run(model []byte, images []float32) (logits []float32, err error) {
	defer func() { // what was written wrongly may be of any shape
		if p := recover(); p != nil {
			logits, err = nil, fmt.Errorf("a graph that cannot be computed: %v", p)
		}
	}()
	g, err := decodeGraph(model)
	if err != nil {
		return nil, err
	}
	shape := g.inputs[inputName]
	if len(shape) != 4 {
		return nil, errors.New("no graph with images of four dimensions")
	}
	size := 1
	for _, d := range shape[1:] {
		size *= d
	}
	if size == 0 || len(images) == 0 || len(images)%size != 0 {
		return nil, fmt.Errorf("%d numbers for images of %v", len(images), shape[1:])
	}
	g.values[inputName] = array{shape: append([]int{len(images) / size}, shape[1:]...), f: images}
	if err := g.compute(outputName); err != nil {
		return nil, err
	}
	return g.values[outputName].f, nil
}

// compute computes some outputs of what the values hold.
func (g *decoded) compute(outputs ...string) error {
	last := map[string]int{}
	for i, s := range g.steps {
		for _, name := range s.in {
			last[name] = max(last[name], i)
		}
	}
	for _, name := range outputs {
		last[name] = len(g.steps)
	}
	for i, s := range g.steps {
		in := make([]array, len(s.in))
		for k, name := range s.in {
			v, ok := g.values[name]
			if !ok {
				return fmt.Errorf("node %q: there is no %q before it", s.name, name)
			}
			in[k] = v
		}
		op, ok := operators[s.op]
		if !ok {
			return fmt.Errorf("node %q: operator %q is none that is written here", s.name, s.op)
		}
		g.values[s.out] = op(s, in)
		for _, name := range s.in {
			if last[name] == i {
				delete(g.values, name)
			}
		}
	}
	for _, name := range outputs {
		if _, ok := g.values[name]; !ok {
			return fmt.Errorf("the graph has no %q", name)
		}
	}
	return nil
}

// array is a tensor, of float32 or of int64.
type array struct {
	shape []int
	f     []float32
	i     []int
}

// step is a node of the graph.
type step struct {
	op, name, out string
	in            []string
	numbers       map[string]float64
	lists         map[string][]int
}

// number is an attribute, or what it is without being there.
func (s step) number(name string, otherwise float64) float64 {
	if v, ok := s.numbers[name]; ok {
		return v
	}
	return otherwise
}

// decoded is a graph as its file has it.
type decoded struct {
	inputs map[string][]int // shapes by name
	steps  []step
	values map[string]array
}

// each visits the fields of a message: number for those of one number (floats by their bits), text for the others.
func each(m []byte, visit func(field protowire.Number, number uint64, text []byte) error) error {
	for len(m) > 0 {
		field, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return protowire.ParseError(n)
		}
		m = m[n:]
		var number uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(m)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(m)
			number = uint64(v)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(m)
		default:
			return fmt.Errorf("field %d of wire type %d", field, kind)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		m = m[n:]
		if err := visit(field, number, text); err != nil {
			return err
		}
	}
	return nil
}

func decodeGraph(model []byte) (*decoded, error) {
	g := &decoded{inputs: map[string][]int{}, values: map[string]array{}}
	err := each(model, func(field protowire.Number, _ uint64, graph []byte) error {
		if field != 7 {
			return nil
		}
		return each(graph, func(field protowire.Number, _ uint64, text []byte) error {
			switch field {
			case 1:
				s, err := decodeStep(text)
				g.steps = append(g.steps, s)
				return err
			case 5:
				name, t, err := decodeTensor(text)
				g.values[name] = t
				return err
			case 11:
				name, shape, err := decodeInput(text)
				g.inputs[name] = shape
				return err
			}
			return nil
		})
	})
	return g, err
}

func decodeStep(m []byte) (step, error) {
	s := step{numbers: map[string]float64{}, lists: map[string][]int{}}
	err := each(m, func(field protowire.Number, _ uint64, text []byte) error {
		switch field {
		case 1:
			s.in = append(s.in, string(text))
		case 2:
			s.out = string(text)
		case 3:
			s.name = string(text)
		case 4:
			s.op = string(text)
		case 5:
			var name string
			return each(text, func(field protowire.Number, number uint64, text []byte) error {
				switch field {
				case 1:
					name = string(text)
				case 2:
					s.numbers[name] = float64(math.Float32frombits(uint32(number)))
				case 3:
					s.numbers[name] = float64(int64(number))
				case 5:
					_, t, err := decodeTensor(text)
					if err == nil && len(t.f) == 1 {
						s.numbers[name] = float64(t.f[0])
					}
					return err
				case 8:
					s.lists[name] = append(s.lists[name], int(int64(number)))
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

func decodeTensor(m []byte) (name string, t array, err error) {
	kind, n := uint64(0), 1
	var raw []byte
	err = each(m, func(field protowire.Number, number uint64, text []byte) error {
		switch field {
		case 1:
			t.shape = append(t.shape, int(number))
			n *= int(number)
		case 2:
			kind = number
		case 8:
			name = string(text)
		case 9:
			raw = text
		}
		return nil
	})
	switch {
	case err != nil:
	case kind == typeFloat && len(raw) == 4*n:
		for ; len(raw) > 0; raw = raw[4:] {
			t.f = append(t.f, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
		}
	case kind == typeInt64 && len(raw) == 8*n:
		for ; len(raw) > 0; raw = raw[8:] {
			t.i = append(t.i, int(binary.LittleEndian.Uint64(raw)))
		}
	default:
		err = fmt.Errorf("tensor %q: %d bytes of type %d for shape %v", name, len(raw), kind, t.shape)
	}
	return name, t, err
}

// decodeInput reads a ValueInfoProto's name and dimensions; that of the batch has no number and is 0.
func decodeInput(m []byte) (name string, shape []int, err error) {
	path := []protowire.Number{2, 1, 2, 1} // type, tensor_type, shape, dim
	var down func(m []byte, path []protowire.Number) error
	down = func(m []byte, path []protowire.Number) error {
		if len(path) == 0 {
			shape = append(shape, 0)
		}
		return each(m, func(field protowire.Number, number uint64, text []byte) error {
			switch {
			case len(path) == 4 && field == 1:
				name = string(text)
			case len(path) == 0 && field == 1:
				shape[len(shape)-1] = int(number)
			case len(path) > 0 && field == path[0]:
				return down(text, path[1:])
			}
			return nil
		})
	}
	err = down(m, path)
	return name, shape, err
}

// parallel calls f with 0..n-1 on all processors.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var failure atomic.Value
	var wait sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					failure.Store(fmt.Sprint(p))
				}
			}()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wait.Wait()
	if p := failure.Load(); p != nil {
		panic(p)
	}
}

var operators = map[string]func(s step, in []array) array{
	"Conv":               conv,
	"Gemm":               gemm,
	"BatchNormalization": normalize,
	"Relu":               elementwise(func(_ step, x float64) float64 { return math.Max(x, 0) }),
	"Sigmoid":            elementwise(func(_ step, x float64) float64 { return 1 / (1 + math.Exp(-x)) }),
	"HardSigmoid": elementwise(func(s step, x float64) float64 {
		return math.Max(0, math.Min(1, s.number("alpha", 0.2)*x+s.number("beta", 0.5)))
	}),
	"HardSwish": elementwise(func(_ step, x float64) float64 { return x * math.Max(0, math.Min(1, x/6+0.5)) }),
	"Clip": func(_ step, in []array) array {
		low, high := float64(in[1].f[0]), float64(in[2].f[0])
		return elementwise(func(_ step, x float64) float64 { return math.Min(math.Max(x, low), high) })(step{}, in[:1])
	},
	"Erf":      elementwise(func(_ step, x float64) float64 { return math.Erf(x) }),
	"Identity": func(_ step, in []array) array { return in[0] },
	"Mul":      combine(func(a, b float32) float32 { return a * b }),
	"Sum":      combine(func(a, b float32) float32 { return a + b }),
	"MaxPool":  pool(true), "AveragePool": pool(false),
	"GlobalAveragePool": func(_ step, in []array) array {
		x := in[0]
		out := array{shape: []int{x.shape[0], x.shape[1], 1, 1}}
		for n := x.shape[2] * x.shape[3]; len(x.f) > 0; x.f = x.f[n:] {
			sum := 0.0
			for _, v := range x.f[:n] {
				sum += float64(v)
			}
			out.f = append(out.f, float32(sum/float64(n)))
		}
		return out
	},
	"Flatten": func(_ step, in []array) array {
		return array{shape: []int{in[0].shape[0], len(in[0].f) / in[0].shape[0]}, f: in[0].f}
	},
	"Unsqueeze": func(_ step, in []array) array {
		shape := slices.Clone(in[0].shape)
		for _, axis := range in[1].i {
			shape = slices.Insert(shape, axis, 1)
		}
		return array{shape: shape, f: in[0].f}
	},
	"Reshape": func(_ step, in []array) array {
		shape := slices.Clone(in[1].i)
		for k, d := range shape {
			if d == 0 { // as it was
				shape[k] = in[0].shape[k]
			}
		}
		return array{shape: shape, f: in[0].f}
	},
	"Transpose": func(s step, in []array) array {
		perm := s.lists["perm"]
		at := distances(in[0].shape)
		return gather(permuted(in[0].shape, perm), permuted(at, perm), 0, in[0].f)
	},
	"Slice": func(_ step, in []array) array {
		axis, shape, at := in[3].i[0], slices.Clone(in[0].shape), distances(in[0].shape)
		shape[axis] = in[2].i[0] - in[1].i[0]
		return gather(shape, at, in[1].i[0]*at[axis], in[0].f)
	},
	"Shape": func(s step, in []array) array {
		part := in[0].shape[int(s.number("start", 0)):int(s.number("end", float64(len(in[0].shape))))]
		return array{shape: []int{len(part)}, i: part}
	},
	"Concat": concat,
	"ConstantOfShape": func(s step, in []array) array {
		n := 1
		for _, d := range in[0].i {
			n *= d
		}
		out := array{shape: in[0].i, f: make([]float32, n)}
		for i := range out.f {
			out.f[i] = float32(s.number("value", 0))
		}
		return out
	},
	"Pad": func(_ step, in []array) array {
		x, p := in[0], in[1].i
		shape := slices.Clone(x.shape)
		for k := range shape {
			shape[k] += p[k] + p[k+4]
		}
		out := array{shape: shape, f: make([]float32, shape[0]*shape[1]*shape[2]*shape[3])}
		h, w := x.shape[2], x.shape[3]
		for plane := range shape[0] * shape[1] {
			for y := max(0, -p[2]); y < h+min(0, p[6]); y++ {
				for c := max(0, -p[3]); c < w+min(0, p[7]); c++ {
					out.f[(plane*shape[2]+y+p[2])*shape[3]+c+p[3]] = x.f[(plane*h+y)*w+c]
				}
			}
		}
		return out
	},
}

func elementwise(f func(s step, x float64) float64) func(step, []array) array {
	return func(s step, in []array) array {
		out := array{shape: in[0].shape, f: make([]float32, len(in[0].f))}
		for i, v := range in[0].f {
			out.f[i] = float32(f(s, float64(v)))
		}
		return out
	}
}

// combine is an operator of two or more arrays of one shape, or of images and numbers a channel.
func combine(f func(a, b float32) float32) func(step, []array) array {
	return func(_ step, in []array) array {
		out := array{shape: in[0].shape, f: slices.Clone(in[0].f)}
		for _, x := range in[1:] {
			for k, d := range x.shape {
				if d != out.shape[k] && d != 1 {
					panic(fmt.Sprintf("arrays of %v and %v", out.shape, x.shape))
				}
			}
			each := len(out.f) / len(x.f)
			for i := range out.f {
				out.f[i] = f(out.f[i], x.f[i/each])
			}
		}
		return out
	}
}

func permuted(list, perm []int) []int {
	out := make([]int, len(perm))
	for k, p := range perm {
		out[k] = list[p]
	}
	return out
}

// distances are the distances between neighbours along each dimension.
func distances(shape []int) []int {
	out := make([]int, len(shape))
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		out[k] = n
		n *= shape[k]
	}
	return out
}

// gather copies the elements of a shape that lie at distances from a first.
func gather(shape, at []int, first int, from []float32) array {
	out := array{shape: shape}
	var copyFrom func(k, i int)
	copyFrom = func(k, i int) {
		if k == len(shape) {
			out.f = append(out.f, from[i])
			return
		}
		for j := range shape[k] {
			copyFrom(k+1, i+j*at[k])
		}
	}
	copyFrom(0, first)
	return out
}

func concat(s step, in []array) array {
	axis := int(s.number("axis", 0))
	out := array{shape: slices.Clone(in[0].shape)}
	outer, total := 1, 0
	for _, d := range out.shape[:axis] {
		outer *= d
	}
	for _, x := range in {
		total += x.shape[axis]
	}
	out.shape[axis] = total
	for o := range outer {
		for _, x := range in {
			if x.i != nil {
				out.i = append(out.i, x.i...)
				continue
			}
			n := len(x.f) / outer
			out.f = append(out.f, x.f[o*n:(o+1)*n]...)
		}
	}
	return out
}

// span is how many windows fit along a dimension.
func span(in, kernel, stride, dilation, before, after int) int {
	return (in+before+after-dilation*(kernel-1)-1)/stride + 1
}

func conv(s step, in []array) array {
	x, w := in[0], in[1]
	n, channels, h, width := x.shape[0], x.shape[1], x.shape[2], x.shape[3]
	outs, each, kh, kw := w.shape[0], w.shape[1], w.shape[2], w.shape[3]
	stride, pad, dilation, groups := s.lists["strides"], s.lists["pads"], s.lists["dilations"],
		int(s.number("group", 1))
	if each*groups != channels || outs%groups != 0 {
		panic(fmt.Sprintf("node %q: a weight of %v for %v in %d groups", s.name, w.shape, x.shape, groups))
	}
	oh, ow := span(h, kh, stride[0], dilation[0], pad[0], pad[2]), span(width, kw, stride[1], dilation[1], pad[1],
		pad[3])
	out := array{shape: []int{n, outs, oh, ow}, f: make([]float32, n*outs*oh*ow)}
	parallel(n*outs, func(i int) {
		image, o := i/outs, i%outs
		plane := out.f[i*oh*ow : (i+1)*oh*ow]
		if len(in) > 2 {
			for k := range plane {
				plane[k] = in[2].f[o]
			}
		}
		for c := range each {
			source := x.f[(image*channels+o/(outs/groups)*each+c)*h*width:][:h*width]
			for a := range kh {
				for b := range kw {
					tap := w.f[((o*each+c)*kh+a)*kw+b]
					left := b*dilation[1] - pad[1]
					first, end := 0, ow // outputs whose sample lies inside
					for first < ow && first*stride[1]+left < 0 {
						first++
					}
					for end > first && (end-1)*stride[1]+left >= width {
						end--
					}
					for y := range oh {
						row := y*stride[0] + a*dilation[0] - pad[0]
						if row < 0 || row >= h || first == end {
							continue
						}
						to := plane[y*ow+first : y*ow+end]
						from := source[row*width+first*stride[1]+left:]
						if stride[1] == 1 {
							from = from[:len(to)]
							for k := range to {
								to[k] += tap * from[k]
							}
							continue
						}
						for k := range to {
							to[k] += tap * from[k*stride[1]]
						}
					}
				}
			}
		}
	})
	return out
}

func gemm(s step, in []array) array {
	x, w := in[0], in[1]
	if s.number("transB", 0) != 1 || x.shape[1] != w.shape[1] {
		panic(fmt.Sprintf("node %q: a matrix of %v for %v", s.name, w.shape, x.shape))
	}
	out := array{shape: []int{x.shape[0], w.shape[0]}}
	for n := range x.shape[0] {
		for o := range w.shape[0] {
			sum := 0.0
			if len(in) > 2 {
				sum = float64(in[2].f[o])
			}
			for k := range x.shape[1] {
				sum += float64(x.f[n*x.shape[1]+k]) * float64(w.f[o*x.shape[1]+k])
			}
			out.f = append(out.f, float32(sum))
		}
	}
	return out
}

func normalize(s step, in []array) array {
	x := in[0]
	out := array{shape: x.shape, f: make([]float32, len(x.f))}
	channels := x.shape[1]
	n := len(x.f) / (x.shape[0] * channels)
	for i := range x.shape[0] * channels {
		c := i % channels
		scale := float64(in[1].f[c]) / math.Sqrt(float64(in[4].f[c])+s.number("epsilon", 1e-5))
		for k := i * n; k < (i+1)*n; k++ {
			out.f[k] = float32((float64(x.f[k])-float64(in[3].f[c]))*scale + float64(in[2].f[c]))
		}
	}
	return out
}

func pool(largest bool) func(step, []array) array {
	return func(s step, in []array) array {
		x, kernel, stride, pad := in[0], s.lists["kernel_shape"], s.lists["strides"], s.lists["pads"]
		h, w := x.shape[2], x.shape[3]
		oh, ow := span(h, kernel[0], stride[0], 1, pad[0], pad[2]), span(w, kernel[1], stride[1], 1, pad[1], pad[3])
		out := array{shape: []int{x.shape[0], x.shape[1], oh, ow}, f: make([]float32, x.shape[0]*x.shape[1]*oh*ow)}
		parallel(x.shape[0]*x.shape[1], func(i int) {
			source := x.f[i*h*w : (i+1)*h*w]
			for y := range oh {
				for c := range ow {
					most, sum, count := math.Inf(-1), 0.0, 0
					for a := y*stride[0] - pad[0]; a < y*stride[0]-pad[0]+kernel[0]; a++ {
						for b := c*stride[1] - pad[1]; b < c*stride[1]-pad[1]+kernel[1]; b++ {
							if a >= 0 && a < h && b >= 0 && b < w {
								v := float64(source[a*w+b])
								most, sum, count = math.Max(most, v), sum+v, count+1
							}
						}
					}
					if !largest {
						if s.number("count_include_pad", 0) == 1 {
							count = kernel[0] * kernel[1]
						}
						most = sum / float64(count)
					}
					out.f[(i*oh+y)*ow+c] = float32(most)
				}
			}
		})
		return out
	}
}
