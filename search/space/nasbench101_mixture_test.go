package space

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// cellRows are the rows of cells of so many vertices.
func cellRows(vertices int) []nn.Row { return zoo.CellSupernet{Interior: vertices - 2}.Rows() }

// drawnCellOf is a cell in which each interior vertex reads what it is told, -1 none, and the rows that give it all
// weight.
func drawnCellOf(from, op []int) (dag, [][]float32) {
	d, live := dag{n: len(from) + 2}, uint8(1)
	for v := range from {
		d.op[v+1] = uint8(op[v])
		if from[v] >= 0 && live>>from[v]&1 == 1 {
			d.in[v+1], live = 1<<from[v], live|2<<v
		}
	}
	d.in[d.n-1] = live
	return d, oneHot(cellRows(d.n), func(row int) int {
		if row%2 == 0 {
			return from[row/2] + 1
		}
		return op[row/2]
	})
}

// anyDag is a cell of any number of edges.
type anyDag struct{ dag }

func (c anyDag) Matrix() [][]int   { return c.pack().Matrix() }
func (c anyDag) OpNames() []string { return c.pack().OpNames() }

// The mixture of cells has two rows a vertex and the widths of a cell in which all vertices feed the output. With all
// weight on one choice of each row it computes what the cell of these choices does, and costs as much.
func TestCellMixture(t *testing.T) {
	sp := NASBench101{}
	p := requireRows(t, sp, NetworkSize{}, cellRows(7))
	require.Len(t, p.Mixture, 10)
	require.Equal(t, nn.Row{Name: "vertex3/from", Choices: []string{"none", "input", "vertex1", "vertex2"},
		Cost: p.Mixture[4].Cost, Start: []float64{0, 10, 10, 10}}, p.Mixture[4])
	require.Equal(t, "vertex5/op", p.Mixture[9].Name)
	require.Equal(t, opNames[:], p.Mixture[9].Choices)
	var parameters, in int64 = 3*9*128 + 2*128 + 512*10 + 10, 128
	for _, out := range []int64{128, 128, 128, 256, 256, 256, 512, 512, 512} {
		for v := range int64(5) {
			c := out / 5
			if v < out%5 {
				c++
			}
			parameters += in*c + 10*c*c + 6*c
		}
		parameters += in*out + 2*out
		in = out
	}
	require.Equal(t, parameters, p.Cost().Params)
	for v, channels := range []int{52, 51, 51, 51, 51} {
		require.Equal(t, channels, p.Nodes[p.Find(fmt.Sprintf("stack2/module1/vertex%d/op", v+1))].Shape.C)
	}

	size := NetworkSize{Side: 4, Channels: 8, Stacks: 2, Modules: 1, Classes: 3}
	for _, c := range []struct{ from, op []int }{
		{[]int{0, 1, 1}, []int{0, 2, 1}}, {[]int{0, 0, 2}, []int{1, 0, 2}}, {[]int{0}, []int{2}},
	} {
		d, weights := drawnCellOf(c.from, c.op)
		sp := NASBench101{d.n}
		requireRows(t, sp, size, cellRows(d.n))
		requireMixesAs(t, sp, size, weights, d.text())
		derived, err := sp.Derive(weights)
		require.NoError(t, err)
		require.Equal(t, d.text(), derived)
	}
	// Five vertices have eleven edges, which is no cell of the benchmark.
	d, weights := drawnCellOf([]int{0, 1, 0, 2, 4}, []int{0, 1, 2, 0, 1})
	size.Channels = 11
	mixed, err := sp.Mixture(size)
	require.NoError(t, err)
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	path, err := sp.supernet(size).Path(anyDag{d}, shared)
	require.NoError(t, err)
	requireSameAs(t, sp, size, mixed, weights, path)

	_, err = sp.Mixture(NetworkSize{Channels: 4})
	require.ErrorContains(t, err, "the mixture of nasbench101: ")
}

// What is derived keeps its places: a path has the weights of the slots that were mixed, and none of a dead vertex'.
func TestDerivedCellsKeepTheirSlots(t *testing.T) {
	sp, size := NASBench101{5}, NetworkSize{Side: 4, Channels: 8, Stacks: 1, Modules: 1, Classes: 3}
	d, weights := drawnCellOf([]int{-1, 0, 2}, []int{1, 0, 1})
	derived, err := sp.Derive(weights)
	require.NoError(t, err)
	require.Equal(t, "nasbench101:5:0101000111:101", derived)
	require.Equal(t, d.text(), derived)
	p, err := sp.WrittenPath(derived, size)
	require.NoError(t, err)
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	slots := map[string]bool{}
	for _, b := range p.Bindings {
		if name, inCell := strings.CutPrefix(shared.Variables[b.Shared].Name, "stack1.module1."); inCell {
			slots[strings.Join(strings.Split(name, ".")[:2], " ")] = true
		}
	}
	require.Equal(t, map[string]bool{"output projection": true, "vertex2 projection": true,
		"vertex2 conv3x3-bn-relu": true, "vertex3 conv1x1-bn-relu": true}, slots)
	a, err := sp.Parse(derived)
	require.NoError(t, err)
	require.Equal(t, 4, a.(Cell).Vertices())
	require.Equal(t, p.Cost().Params, a.(Cell).CostAt(size).Params)
}

// randomWeights are weights of the rows of cells of so many vertices, of which those of the first choices have more.
func randomWeights(vertices int, first float64, s *philox.Stream) [][]float32 {
	var weights [][]float32
	for _, r := range cellRows(vertices) {
		row, sum := make([]float64, len(r.Choices)), 0.0
		for k := range row {
			row[k] = s.Float64()
			if k == 0 {
				row[k] += first
			}
			sum += row[k]
		}
		rounded := make([]float32, len(row))
		for k := range row {
			rounded[k] = float32(row[k] / sum)
		}
		weights = append(weights, rounded)
	}
	return weights
}

// allDrawings visits all choices of all rows of cells of so many vertices, with their product.
func allDrawings(weights [][]float32, visit func(d dag, product float64)) {
	n := len(weights) / 2
	from, op := make([]int, n), make([]int, n)
	var choose func(v int, product float64)
	choose = func(v int, product float64) {
		if v == n {
			d, _ := drawnCellOf(from, op)
			visit(d, product)
			return
		}
		for k, w := range weights[2*v] {
			for o, x := range weights[2*v+1] {
				from[v], op[v] = k-1, o
				choose(v+1, product*float64(w)*float64(x))
			}
		}
	}
	choose(0, 1)
}

// The derived cell is that of the largest product of weights, over all choices of all rows, in the benchmark.
func TestCellDerive(t *testing.T) {
	for _, vertices := range []int{4, 7} {
		requireRefusals(t, NASBench101{vertices}, cellRows(vertices))
	}
	s := philox.New(7, philox.PurposeTest, 0)
	for _, vertices := range []int{3, 4, 5, 5, 5} {
		weights := randomWeights(vertices, 0, s)
		most, want := 0.0, dag{}
		allDrawings(weights, func(d dag, product float64) {
			if product > most {
				most, want = product, d
			}
		})
		derived, err := NASBench101{vertices}.Derive(weights)
		require.NoError(t, err)
		require.Equal(t, want.text(), derived)
	}
	// Of five vertices that would live the one dies that is surest of it; no cell of five is in the benchmark.
	d, weights := drawnCellOf([]int{0, 0, 0, 2, 0}, []int{0, 1, 2, 0, 1})
	_, err := d.cell()
	require.Error(t, err)
	for v := range 5 {
		weights[2*v][0], weights[2*v][1] = 0.01, 0.99
	}
	weights[6][1], weights[6][3] = 0, 0.99
	weights[4][0], weights[4][1] = 0.02, 0.98
	derived, err := NASBench101{}.Derive(weights)
	require.NoError(t, err)
	d, _ = drawnCellOf([]int{0, 0, -1, 2, 0}, []int{0, 1, 2, 0, 1})
	require.Equal(t, d.text(), derived)
	// So does one where all other weights are zeros.
	_, weights = drawnCellOf([]int{0, 0, 0, 0, 0}, []int{0, 1, 2, 0, 1})
	derived, err = NASBench101{}.Derive(weights)
	require.NoError(t, err)
	require.Equal(t, 6, parse(t, derived).Vertices())
}

// The cell that is drawn most often is the most probable one, however it was drawn, and those outside of the benchmark
// are counted: all five vertices live where none reads nothing.
func TestCellsDrawn(t *testing.T) {
	const n = 20000
	s := philox.New(8, philox.PurposeTest, 0)
	weights := randomWeights(4, 0.2, s)
	sums := map[Cell]float64{}
	allDrawings(weights, func(d dag, product float64) {
		c, err := d.cell()
		require.NoError(t, err)
		sums[c] += product
	})
	drawn, outside, err := NASBench101{4}.Drawn(weights, n, s)
	require.NoError(t, err)
	require.Zero(t, outside)
	for _, p := range sums {
		require.LessOrEqual(t, p, sums[drawn.(Cell)])
	}
	weights = randomWeights(7, 0, s)
	all := 1.0
	for v := range 5 {
		all *= 1 - float64(weights[2*v][0])
	}
	drawn, outside, err = NASBench101{}.Drawn(weights, n, s)
	require.NoError(t, err)
	require.Less(t, drawn.(Cell).Vertices(), 7)
	require.InDelta(t, all, float64(outside)/n, 0.02)
	require.Greater(t, all, 0.1)

	_, weights = drawnCellOf([]int{0, 0, 0, 0, 0}, []int{0, 1, 2, 0, 1})
	drawn, outside, err = NASBench101{}.Drawn(weights, 10, s)
	require.NoError(t, err)
	require.Equal(t, 10, outside)
	derived, err := NASBench101{}.Derive(weights)
	require.NoError(t, err)
	require.Equal(t, parse(t, derived), drawn)
	_, _, err = NASBench101{}.Drawn(weights[1:], 10, s)
	require.ErrorContains(t, err, "9 rows of weights, want 10")
}
