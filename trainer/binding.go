package trainer

import (
	"github.com/ctnas/ctnas/kernels/elastic"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// statistics are the running statistics of one path alone: those that paths share belong to none of them.
type statistics struct {
	buf    *exec.Buffer
	offset map[int]int // of each variable that is a running statistic
}

// newStatistics allocates them, as they start: means of 0, variances of 1.
func newStatistics(a *exec.Arena, variables []nn.Variable) *statistics {
	s := &statistics{offset: map[int]int{}}
	var start []float32
	for i, v := range variables {
		if v.Role.Trainable() {
			continue
		}
		s.offset[i] = len(start)
		for range up(v.Len(), align) {
			start = append(start, map[nn.Role]float32{nn.Variance: 1}[v.Role])
		}
	}
	s.buf = a.Floats(start)
	return s
}

// smaller is a depthwise kernel that is made of a shared one.
type smaller struct {
	k, c, ld           int            // taps a side and channels of the shared kernel; channels of this one are c
	from, dfrom        *exec.Buffer   // the shared kernel [k, k, ld] and the gradient in it
	matrices, gradient []*exec.Buffer // the shared matrices that it is made with, and the gradients in them
	weight             *exec.Buffer   // the kernel, dense
}

// record appends the making of the kernel.
func (s *smaller) record(p *exec.Program) {
	elastic.Shrink{K: s.k, C: s.c, LD: s.ld, Weight: s.from, Matrices: s.matrices, Out: s.weight}.Record(p)
}

// recordGradient appends what the gradient in the kernel adds to the shared ones.
func (s *smaller) recordGradient(p *exec.Program, dweight *exec.Buffer) {
	elastic.Gradient{K: s.k, C: s.c, LD: s.ld, Weight: s.from, Matrices: s.matrices, DOut: dweight, DWeight: s.dfrom,
		DMatrices: s.gradient}.Record(p)
}

// distances are those between a variable's elements in memory: from an input channel's row to the next, and from a tap
// to the next. The variable may be part of a shared one, whose they are.
func (m *Model) distances(node, k int) (row, tap int) {
	s := m.Variables[m.bindings[m.first[node]+k].Shared].Shape
	if len(s) < 2 {
		return 0, 0
	}
	row = s[len(s)-1]
	return row, row * s[len(s)-2]
}

// span is from which element of the shared variable's buffer to which the k-th variable of a node reaches.
func (m *Model) span(node, k int) (from, n int) {
	i := m.first[node] + k
	v := m.variables[i]
	from = m.offset[m.bindings[i].Shared]
	row, tap := m.distances(node, k)
	switch s := v.Shape; len(s) {
	case 2:
		return from, (s[0]-1)*row + s[1]
	case 4:
		return from, (s[0]*s[1]-1)*tap + (s[2]-1)*row + s[3]
	}
	return from, v.Len()
}

// variable is the part of State that the k-th variable of a node lies in: distances tells how.
func (m *Model) variable(node, k int) *exec.Buffer {
	i := m.first[node] + k
	if v := m.variables[i]; m.own != nil && !v.Role.Trainable() {
		return m.own.buf.Slice(m.own.offset[i], v.Len())
	}
	from, n := m.span(node, k)
	return m.State.Slice(from, n)
}

// gradient is the part of Grad that the gradient in the k-th variable of a node lies in.
func (m *Model) gradient(node, k int) *exec.Buffer {
	from, n := m.span(node, k)
	return m.Grad.Slice(from, n)
}

// shared is a whole shared variable and the gradient in it.
func (m *Model) shared(i int) (value, gradient *exec.Buffer) {
	n := m.Variables[i].Len()
	return m.State.Slice(m.offset[i], n), m.Grad.Slice(m.offset[i], n)
}

// kernel is the depthwise kernel of a node where that is made of a shared one; nil where it is a shared one.
func (m *Model) kernel(node int) *smaller {
	i := m.first[node]
	b, v := m.bindings[i], m.variables[i]
	whole := m.Variables[b.Shared]
	if len(b.Through) == 0 && v.Len() == whole.Len() {
		return nil
	}
	if k := m.smaller[i]; k != nil {
		return k
	}
	k := &smaller{k: whole.Shape[0], c: v.Shape[3], ld: whole.Shape[3], weight: m.arena.F32(v.Len())}
	k.from, k.dfrom = m.shared(b.Shared)
	for _, through := range b.Through {
		matrix, gradient := m.shared(through)
		k.matrices, k.gradient = append(k.matrices, matrix), append(k.gradient, gradient)
	}
	if m.smaller == nil {
		m.smaller = map[int]*smaller{}
	}
	m.smaller[i] = k
	return k
}

// kernelOf is the depthwise kernel of a node [K, K, C].
func (m *Model) kernelOf(node int) *exec.Buffer {
	if made := m.kernel(node); made != nil {
		return made.weight
	}
	return m.variable(node, 0)
}

// recordKernel returns the same once it has appended its making, where it is made.
func (m *Model) recordKernel(p *exec.Program, node int) *exec.Buffer {
	if made := m.kernel(node); made != nil {
		made.record(p)
	}
	return m.kernelOf(node)
}

// Values returns the network's variables, in the order of Net.Variables() and the layout of memory: of a path what it
// takes out of the shared ones.
func (m *Model) Values() [][]float32 {
	p := m.arena.NewProgram("cut out")
	for i, node := range m.Net.Nodes {
		if op, ok := node.Op.(nn.Conv); ok && op.Groups > 1 {
			if k := m.kernel(i); k != nil {
				k.record(p)
			}
		}
	}
	p.Run(1)
	out := make([][]float32, len(m.variables))
	for i, v := range m.variables {
		node, k := v.Node, i-m.first[v.Node]
		if made := m.smaller[i]; made != nil {
			out[i] = made.weight.Values()
			continue
		}
		row, tap := m.distances(node, k)
		out[i] = packed(m.variable(node, k).Values(), v.Shape, row, tap)
	}
	return out
}

// packed takes the elements of a variable of a shape out of memory in which its rows and taps lie so far apart.
func packed(from []float32, shape []int, row, tap int) []float32 {
	taps, rows, columns := 1, 1, len(from)
	switch len(shape) {
	case 2:
		rows, columns = shape[0], shape[1]
	case 4:
		taps, rows, columns = shape[0]*shape[1], shape[2], shape[3]
	}
	out := make([]float32, 0, taps*rows*columns)
	for t := range taps {
		for r := range rows {
			at := t*tap + r*row
			out = append(out, from[at:at+columns]...)
		}
	}
	return out
}
