package space

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

const nasbench101Name = "nasbench101"

// NASBench101 is the space of the 423,624 cells whose accuracies NAS-Bench-101 publishes (Ying et al., ICML 2019), or
// of the small ones among them: 7 cells have at most 3 vertices, 91 at most 4, 2,532 at most 5, 64,542 at most 6.
type NASBench101 struct {
	Vertices int // at most so many, input and output included: 3..7; 0: 7
}

var _ Enumerable = NASBench101{}

// leastVertices is the smallest limit that leaves something to decide.
const leastVertices = 3

// Name is "nasbench101", of small cells "nasbench101-v5".
func (sp NASBench101) Name() string {
	if n := sp.MaxNodes(); n < maxVertices {
		return fmt.Sprintf("%s-v%d", nasbench101Name, n)
	}
	return nasbench101Name
}

// MaxNodes is the limit of vertices, input and output included.
func (sp NASBench101) MaxNodes() int {
	if sp.Vertices == 0 {
		return maxVertices
	}
	return sp.Vertices
}

// Contains tells whether a cell belongs to the space.
func (sp NASBench101) Contains(a Arch) bool {
	c, ok := a.(Cell)
	return ok && c.Vertices() <= sp.MaxNodes()
}

// Operations as indices into the alphabet. The order is that of the code released with the CTNAS paper, without its
// padding.
const (
	nodeInput = iota
	nodeConv1x1
	nodeConv3x3
	nodeMaxpool3x3
	nodeOutput
)

// Alphabet lists the operations of a Graph's nodes: input, conv1x1-bn-relu, conv3x3-bn-relu, maxpool3x3, output.
func (NASBench101) Alphabet() []string {
	return []string{
		nodeInput: inputName, nodeConv1x1: opNames[conv1x1], nodeConv3x3: opNames[conv3x3],
		nodeMaxpool3x3: opNames[maxpool3x3],
		nodeOutput:     outputName,
	}
}

// nodeOf is the index of an operation of opNames in the alphabet.
var nodeOf = [...]uint8{conv3x3: nodeConv3x3, conv1x1: nodeConv1x1, maxpool3x3: nodeMaxpool3x3}

// Graph is the cell with operations as indices into NASBench101's alphabet.
func (c Cell) Graph() Graph {
	d := c.unpack()
	ops := make([]uint16, d.n)
	for v := range ops {
		switch v {
		case 0:
			ops[v] = nodeInput
		case d.n - 1:
			ops[v] = nodeOutput
		default:
			ops[v] = uint16(nodeOf[d.op[v]])
		}
	}
	return Graph{Ops: ops, Edges: c.Edges()}
}

// knownCells have names that Parse accepts.
var knownCells = []struct{ name, adjacency, ops string }{
	// The cell with the highest mean test accuracy of three runs at 108 epochs, 0.943175752957662; hash
	// 02e5a0247bbdcf2860b7e96f74961594. Its edges are those that an author of the data set gives
	// (github.com/google-research/nasbench, issue 4: 0-1-2-3-5, 0-4-5, 0-5, 0-6, 5-6). Its operations follow from the
	// 32,426,634 parameters quoted for it, which leave twenty orders of three conv3x3, a conv1x1 and a maxpool3x3, and
	// from the first runs of those: 0.9445 in this order, at most 0.9402 in any other.
	{"best", "110011000101000100101", "10200"},
	// The Inception-like cell of the data set's README: branches of 1x1, of 3x3, of two 3x3 in place of 5x5, and of
	// max-pooling.
	{"inception", "111010000010001100011", "10002"},
	// The basic block of ResNet: two 3x3 convolutions beside the shortcut.
	{"resnet", "101101", "00"},
}

// Parse reads a cell's text, nasbench101:<vertices>:<strict upper triangle, row by row>:<operation digits>, in any
// topological order and with vertices that pruning removes, or one of the names nasbench101:best, nasbench101:inception
// and nasbench101:resnet. ModelSpec(matrix= [[0, 1, ...], ...], ops=['input', 'conv3x3-bn-relu', ..., 'output']), as
// the data set's code has it, is read too, behind words as well; its matrix may be of 0 and 1, False and True, or 0.0
// and 1.0.
func (sp NASBench101) Parse(text string) (Arch, error) {
	text = plainWords(text)
	cell, err := parseCell(text)
	if err == nil && !sp.Contains(cell) {
		err = fmt.Errorf("%d vertices, the space %s has at most %d", cell.Vertices(), sp.Name(), sp.MaxNodes())
	}
	if err != nil {
		return nil, fmt.Errorf("architecture %.300q: %w", text, err)
	}
	return cell, nil
}

// maxSpecBytes bounds a written ModelSpec; the longest has some 400.
const maxSpecBytes = 4096

// constants are the names that the code of NAS-Bench-101 gives the operations.
var constants = map[pyName]string{
	"INPUT": inputName, "OUTPUT": outputName,
	"CONV1X1": opNames[conv1x1], "CONV3X3": opNames[conv3x3], "MAXPOOL3X3": opNames[maxpool3x3],
}

// parseSpec reads a ModelSpec.
func parseSpec(text string) (Cell, error) {
	const want = "ModelSpec(matrix=[[0, 1, ...], ...], ops=['input', ..., 'output'])"
	if len(text) > maxSpecBytes {
		return 0, fmt.Errorf("%d bytes, more than any ModelSpec has", len(text))
	}
	read, err := parsePython(text)
	if err != nil {
		return 0, fmt.Errorf("%w; want %s", err, want)
	}
	call, _ := read.(pyCall)
	parts := [2]any{}
	for i, key := range []string{"matrix", "ops"} {
		var there bool
		if parts[i], there = call.named(key); !there && i < len(call.arguments)-len(call.keys) {
			parts[i], there = call.arguments[i], true
		}
		if !there {
			return 0, fmt.Errorf("a ModelSpec without %s; want %s", key, want)
		}
	}
	rows, ok := parts[0].(pyList)
	if !ok {
		return 0, fmt.Errorf("matrix is %s; want %s", said(parts[0]), want)
	}
	matrix := make([][]int, len(rows))
	for i, row := range rows {
		numbers, ok := row.(pyList)
		if !ok {
			return 0, fmt.Errorf("row %d of the matrix is %s; want %s", i, said(row), want)
		}
		for k, v := range numbers {
			switch {
			case v == 0.0, v == pyName("False"):
				matrix[i] = append(matrix[i], 0)
			case v == 1.0, v == pyName("True"):
				matrix[i] = append(matrix[i], 1)
			default:
				return 0, fmt.Errorf("the matrix holds %s at row %d, column %d, want 0 or 1", said(v), i, k)
			}
		}
	}
	list, ok := parts[1].(pyList)
	if !ok {
		return 0, fmt.Errorf("ops is %s; want %s", said(parts[1]), want)
	}
	ops := make([]string, len(list))
	for i, v := range list {
		switch v := v.(type) {
		case pyText:
			ops[i] = string(v)
		case pyName:
			ops[i] = constants[v]
		}
		if ops[i] == "" {
			return 0, fmt.Errorf("operation %d is %s, want a name such as 'conv3x3-bn-relu'", i, said(v))
		}
	}
	return NewCell(matrix, ops)
}

func parseCell(s string) (Cell, error) {
	if spec, found := pyCalls(strings.TrimPrefix(s, nasbench101Name+":"), "ModelSpec"); found {
		return parseSpec(spec)
	}
	fields := strings.Split(s, ":")
	if fields[0] != nasbench101Name || len(fields) == 1 {
		return 0, fmt.Errorf("want %s:<nodes>:<edges>:<operations>", nasbench101Name)
	}
	if len(fields) == 2 {
		names := make([]string, len(knownCells))
		for i, k := range knownCells {
			if k.name == fields[1] {
				return NewCellFromDigits(k.adjacency, k.ops)
			}
			names[i] = k.name
		}
		return 0, fmt.Errorf("unknown name %q; known: %s", fields[1], strings.Join(names, ", "))
	}
	if len(fields) != 4 {
		return 0, fmt.Errorf("%d fields, want %s:<vertices>:<upper triangle>:<operations>", len(fields),
			nasbench101Name)
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil || n < 2 || n > maxVertices {
		return 0, fmt.Errorf("%q vertices, want 2..%d", fields[1], maxVertices)
	}
	if len(fields[3]) != n-2 {
		return 0, fmt.Errorf("%d operations for %d vertices, want %d", len(fields[3]), n, n-2)
	}
	return NewCellFromDigits(fields[2], fields[3])
}

// Sample draws a cell with exactly the same probability for each of the space: a labelled cell is drawn, and drawn
// again until it is canonical, which one labelled cell of each isomorphism class is.
func (sp NASBench101) Sample(s *philox.Stream) Arch {
	for {
		d := labelled(s.Intn(labelledCells(sp.MaxNodes())))
		if cell := d.canonical(); cell == d.pack() {
			return cell
		}
	}
}

// Mutate returns a different cell made by the mutation of the NAS-Bench-101 paper's regularized evolution (appendix,
// and NASBench.ipynb): in a graph of 7 vertices (of n where the space has no more) each possible edge is flipped with
// probability 1/7 (1/n) and each operation replaced by another with probability 1/5 (1/(n-2)), until a valid cell
// results. Pruned vertices come back, unconnected, at random places. a must be a Cell of the space.
func (sp NASBench101) Mutate(a Arch, s *philox.Stream) Arch {
	parent, n := a.(Cell), sp.MaxNodes()
	for {
		d := parent.grow(n, s)
		for v := 1; v < d.n; v++ {
			for u := range v {
				if s.Intn(n) == 0 {
					d.in[v] ^= 1 << u
				}
			}
		}
		for v := 1; v < d.n-1; v++ {
			if s.Intn(n-2) == 0 {
				d.op[v] = (d.op[v] + 1 + uint8(s.Intn(len(opNames)-1))) % uint8(len(opNames))
			}
		}
		if child, err := d.cell(); err == nil && child != parent {
			return child
		}
	}
}

// grow adds unconnected vertices with random operations at random places until there are n.
func (c Cell) grow(n int, s *philox.Stream) dag {
	small := c.unpack()
	places := s.Perm(n - 2)[:small.n-2]
	slices.Sort(places)
	var at [maxVertices]int // the new number of a vertex; the input keeps 0
	at[small.n-1] = n - 1
	for i, p := range places {
		at[i+1] = p + 1
	}
	d := dag{n: n}
	for v := 1; v <= n-2; v++ {
		d.op[v] = uint8(s.Intn(len(opNames)))
	}
	for v := 1; v < small.n; v++ {
		d.op[at[v]] = small.op[v]
		for u := range v {
			if small.edge(u, v) {
				d.in[at[v]] |= 1 << at[u]
			}
		}
	}
	return d
}
