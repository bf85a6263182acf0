package space

import (
	"fmt"
	"math/bits"

	"github.com/ctnas/ctnas/internal/names"
)

// Limits of NAS-Bench-101 (Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019,
// section 2.1).
const (
	maxVertices = 7 // input and output included
	maxInterior = maxVertices - 2
	maxEdges    = 9
)

// opNames are the operations of interior vertices in the data set's order, so that an index is both the digit of the
// text form and the label that the module hash uses.
var opNames = [...]string{"conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"}

const (
	conv3x3 = iota
	conv1x1
	maxpool3x3
)

const (
	inputName  = "input"
	outputName = "output"
)

// Cell is an architecture of NAS-Bench-101: a directed acyclic graph of 2 to 7 vertices and at most 9 edges, in which
// every vertex lies on a path from the input (the first vertex) to the output (the last). It is canonical: isomorphic
// cells are equal with ==.
//
// The canonical form is the one that the data set publishes: of all numberings of the vertices in a topological order
// the one whose value is smallest, where the edges count first and the operations second
// (nasbench/scripts/generate_graphs.py keeps the first graph it meets, and it counts upwards). Published costs depend
// on this choice, because channels that do not divide evenly go to the first vertices.
//
// Layout, from the lowest bit: ten bits of operations, two a vertex, the first interior vertex highest; 21 bits of
// edges, that of x to y at x + y(y-1)/2; three bits of the number of vertices. Numbers made otherwise than by this
// package's functions are no cells; UnpackCell checks one that was stored.
type Cell uint64

const (
	opShift     = 2
	edgesAt     = opShift * maxInterior
	verticesAt  = edgesAt + maxVertices*(maxVertices-1)/2
	opMask      = 1<<opShift - 1
	verticesEnd = verticesAt + 3
)

// opAt is the position of vertex v's operation in a Cell, columnAt that of its incoming edges.
func opAt(v int) int     { return opShift * (maxInterior - v) }
func columnAt(v int) int { return edgesAt + v*(v-1)/2 }

// NewCell makes a cell of an adjacency matrix (n rows of n zeros and ones, n in 2..7, row = from, strictly upper
// triangular) and the names of the n operations, "input" first and "output" last. Like the official code it first drops
// the vertices that lie on no path from input to output; the limit of 9 edges applies to what remains.
func NewCell(matrix [][]int, ops []string) (Cell, error) {
	n := len(matrix)
	if n < 2 || n > maxVertices {
		return 0, fmt.Errorf("adjacency matrix has %d rows, want 2..%d", n, maxVertices)
	}
	if len(ops) != n {
		return 0, fmt.Errorf("%d operations for %d vertices", len(ops), n)
	}
	d := dag{n: n}
	for from, row := range matrix {
		if len(row) != n {
			return 0, fmt.Errorf("row %d of the adjacency matrix has %d columns, want %d", from, len(row), n)
		}
		for to, edge := range row {
			switch {
			case edge == 0:
			case edge != 1:
				return 0, fmt.Errorf("adjacency matrix holds %d at row %d, column %d, want 0 or 1", edge, from, to)
			case from >= to:
				return 0, fmt.Errorf("edge %d to %d: the adjacency matrix must be strictly upper triangular", from, to)
			default:
				d.in[to] |= 1 << from
			}
		}
	}
	if ops[0] != inputName || ops[n-1] != outputName {
		return 0, fmt.Errorf("first and last operation are %q and %q, want %q and %q", ops[0], ops[n-1],
			inputName, outputName)
	}
	for v := 1; v < n-1; v++ {
		op, err := opIndex(ops[v])
		if err != nil {
			return 0, fmt.Errorf("vertex %d: %w", v, err)
		}
		d.op[v] = op
	}
	return d.cell()
}

func opIndex(name string) (uint8, error) {
	for i, known := range opNames {
		if name == known {
			return uint8(i), nil
		}
	}
	return 0, names.Unknown("operation", name, opNames[:])
}

// NewCellFromDigits makes a cell of the strict upper triangle of its adjacency matrix, row by row as zeros and ones,
// and a digit for each interior vertex (0 conv3x3-bn-relu, 1 conv1x1-bn-relu, 2 maxpool3x3). It prunes as NewCell does.
func NewCellFromDigits(adjacency, ops string) (Cell, error) {
	n := len(ops) + 2
	if n > maxVertices {
		return 0, fmt.Errorf("%d operations, want at most %d", len(ops), maxInterior)
	}
	if want := n * (n - 1) / 2; len(adjacency) != want {
		return 0, fmt.Errorf("%d adjacency digits for %d vertices, want %d", len(adjacency), n, want)
	}
	d := dag{n: n}
	i := 0
	for from := range n {
		for to := from + 1; to < n; to++ {
			switch adjacency[i] {
			case '0':
			case '1':
				d.in[to] |= 1 << from
			default:
				return 0, fmt.Errorf("adjacency digit %d is %q, want 0 or 1", i, adjacency[i])
			}
			i++
		}
	}
	for i := range len(ops) {
		if ops[i] < '0' || int(ops[i]-'0') >= len(opNames) {
			return 0, fmt.Errorf("operation digit %d is %q, want 0..%d", i, ops[i], len(opNames)-1)
		}
		d.op[i+1] = ops[i] - '0'
	}
	return d.cell()
}

// UnpackCell checks that a stored number is a cell in canonical form.
func UnpackCell(v uint64) (Cell, error) {
	c := Cell(v)
	if n := v >> verticesAt; v>>verticesEnd == 0 && n >= 2 {
		d := c.unpack()
		known := true
		for _, op := range d.op {
			known = known && int(op) < len(opNames)
		}
		if canonical, err := d.cell(); known && err == nil && canonical == c {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%#x is not a NAS-Bench-101 cell in canonical form", v)
}

// Vertices is the number of vertices, input and output included.
func (c Cell) Vertices() int { return int(c >> verticesAt) }

// Edges lists the edges, from and to, in ascending order.
func (c Cell) Edges() [][2]uint8 {
	d := c.unpack()
	edges := make([][2]uint8, 0, maxEdges)
	for from := range d.n {
		for to := from + 1; to < d.n; to++ {
			if d.edge(from, to) {
				edges = append(edges, [2]uint8{uint8(from), uint8(to)})
			}
		}
	}
	return edges
}

// Matrix is the adjacency matrix, row = from.
func (c Cell) Matrix() [][]int {
	n := c.Vertices()
	m := make([][]int, n)
	for v := range m {
		m[v] = make([]int, n)
	}
	for _, e := range c.Edges() {
		m[e[0]][e[1]] = 1
	}
	return m
}

// OpNames lists the operations of the vertices, "input" first and "output" last.
func (c Cell) OpNames() []string {
	d := c.unpack()
	names := make([]string, d.n)
	for v := range names {
		switch v {
		case 0:
			names[v] = inputName
		case d.n - 1:
			names[v] = outputName
		default:
			names[v] = opNames[d.op[v]]
		}
	}
	return names
}

// String is the canonical text, nasbench101:<vertices>:<strict upper triangle, row by row>:<operation digits>.
func (c Cell) String() string {
	d := c.unpack()
	return d.text()
}

// text is that of a cell with its vertices in their order.
func (d *dag) text() string {
	text := make([]byte, 0, 48)
	text = fmt.Appendf(text, "%s:%d:", nasbench101Name, d.n)
	for from := range d.n {
		for to := from + 1; to < d.n; to++ {
			if d.edge(from, to) {
				text = append(text, '1')
			} else {
				text = append(text, '0')
			}
		}
	}
	text = append(text, ':')
	for v := 1; v < d.n-1; v++ {
		text = append(text, '0'+d.op[v])
	}
	return string(text)
}

// dag is a cell unpacked. Its vertices are in some topological order, not always the canonical one, and before pruning
// some may lie on no path from input to output.
type dag struct {
	n  int
	in [maxVertices]uint8 // bit u of in[v]: an edge from u to v, u < v
	op [maxVertices]uint8 // of interior vertices, an index into opNames; 0 elsewhere
}

func (c Cell) unpack() dag {
	d := dag{n: c.Vertices()}
	for v := 1; v < d.n; v++ {
		d.in[v] = uint8(c>>columnAt(v)) & (1<<v - 1)
	}
	for v := 1; v < d.n-1; v++ {
		d.op[v] = uint8(c>>opAt(v)) & opMask
	}
	return d
}

// pack is the inverse of unpack; the result is a Cell only where d is canonical.
func (d *dag) pack() Cell {
	c := Cell(d.n) << verticesAt
	for v := 1; v < d.n; v++ {
		c |= Cell(d.in[v]) << columnAt(v)
	}
	for v := 1; v < d.n-1; v++ {
		c |= Cell(d.op[v]) << opAt(v)
	}
	return c
}

func (d *dag) edge(from, to int) bool { return d.in[to]>>from&1 == 1 }

// cell prunes and checks a dag and brings it to canonical form.
func (d *dag) cell() (Cell, error) {
	p, connected := d.prune()
	if !connected {
		return 0, fmt.Errorf("no path leads from the input to the output")
	}
	edges := 0
	for _, in := range p.in {
		edges += bits.OnesCount8(in)
	}
	if edges > maxEdges {
		return 0, fmt.Errorf("%d edges, want at most %d", edges, maxEdges)
	}
	return p.canonical(), nil
}

// prune drops the vertices that lie on no path from input to output, and tells whether there is such a path.
func (d *dag) prune() (dag, bool) {
	live := d.live()
	return d.keep(live), live>>(d.n-1)&1 == 1
}

// live is the set of vertices that lie on a path from input to output.
func (d *dag) live() uint8 {
	last := d.n - 1
	reached := uint8(1) // from the input
	for v := 1; v <= last; v++ {
		if d.in[v]&reached != 0 {
			reached |= 1 << v
		}
	}
	reaches := uint8(1) << last // the output
	for v := last; v > 0; v-- {
		if reaches>>v&1 == 1 {
			reaches |= d.in[v]
		}
	}
	return reached & reaches
}

// keep drops all vertices but those of a set.
func (d *dag) keep(keep uint8) dag {
	var p dag
	for v := range d.n {
		if keep>>v&1 == 0 {
			continue
		}
		for u, to := 0, 0; u < v; u++ {
			if keep>>u&1 == 1 {
				p.in[p.n] |= d.in[v] >> u & 1 << to
				to++
			}
		}
		p.op[p.n] = d.op[v]
		p.n++
	}
	return p
}

// canonical returns the smallest Cell among all topological orders of a pruned dag. They are few: the 423,624 cells
// have 1,293,208 different ones together.
func (d *dag) canonical() Cell {
	r := relabelling{dag: d, best: ^Cell(0)}
	r.bit[0] = 1
	r.place(1, 1, Cell(d.n)<<verticesAt)
	return r.best
}

// relabelling is the state of the search for the canonical form.
type relabelling struct {
	*dag
	bit  [maxVertices]uint8 // of a placed vertex: 1 << its new number
	best Cell
}

// place gives the number next to each vertex in turn whose predecessors all have numbers (a mask of old numbers). key
// is the Cell as far as it is known.
func (r *relabelling) place(next int, placed uint8, key Cell) {
	last := r.n - 1
	if next == last {
		r.best = min(r.best, key|r.column(last)<<columnAt(last))
		return
	}
	for v := 1; v < last; v++ {
		if placed>>v&1 == 0 && r.in[v]&^placed == 0 {
			r.bit[v] = 1 << next
			r.place(next+1, placed|1<<v, key|r.column(v)<<columnAt(next)|Cell(r.op[v])<<opAt(next))
		}
	}
}

// column is the set of v's predecessors by their new numbers.
func (r *relabelling) column(v int) Cell {
	var c uint8
	for in := r.in[v]; in != 0; in &= in - 1 {
		c |= r.bit[bits.TrailingZeros8(in)]
	}
	return Cell(c)
}
