package space

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// The search network has the 1.930618 million parameters that the published code prints (quark0/darts,
// train_search.py on CIFAR-10); a path has a part of them, whole variables, each in the place of its operation.
func TestDartsSupernet(t *testing.T) {
	sp := open(t, "darts@cifar10").(Sharing)
	shared, err := sp.Supernet(NetworkSize{})
	require.NoError(t, err)
	parameters := 0
	for _, v := range shared.Variables {
		if v.Role.Trainable() {
			parameters += v.Len()
		}
	}
	require.Equal(t, 1930618, parameters)

	a, err := sp.Parse(dartsV2)
	require.NoError(t, err)
	a = a.(Genotype).on(1)
	p, err := sp.Path(a, NetworkSize{})
	require.NoError(t, err)
	require.Equal(t, a.String(), p.Name)
	reduces, normals := map[string]bool{}, map[string]bool{}
	for i, v := range p.Variables() {
		name := shared.Variables[p.Bindings[i].Shared].Name
		require.Equal(t, v.Shape, shared.Variables[p.Bindings[i].Shared].Shape, name)
		if cut, of := strings.CutPrefix(name, "cell2.node"); of && strings.Contains(name, ".from") {
			reduces[strings.Join(strings.Split(cut, ".")[:3], " ")] = true
		} else if cut, of := strings.CutPrefix(name, "cell7.node"); of && strings.Contains(name, ".from") {
			normals[strings.Join(strings.Split(cut, ".")[:3], " ")] = true
		}
	}
	normal, reduce := a.(Genotype).Cells()
	require.Equal(t, weighted(normal, 1), normals)
	require.Equal(t, weighted(reduce, 2), reduces)

	_, err = sp.Path(a.(Genotype).on(0), NetworkSize{})
	require.ErrorContains(t, err, "not in the supernet of darts@cifar10")
	_, err = sp.Path(Cell(0), NetworkSize{})
	require.ErrorContains(t, err, "not in the supernet of darts@cifar10")
}

// on is the genotype in another network.
func (g Genotype) on(macro uint8) Genotype {
	g.macro = macro
	return g
}

// weighted are the places of a cell's operations that have variables: all but none, and but an identity.
func weighted(cell []DartsOp, stride int) map[string]bool {
	places := map[string]bool{}
	for i, op := range cell {
		if op.Name == "none" || op.Name == "skip_connect" && (stride == 1 || op.From > 1) {
			continue
		}
		places[string(rune('2'+i/2))+" from"+string(rune('0'+op.From))+" "+op.Name] = true
	}
	return places
}

var dartsSmall = NetworkSize{Side: 8, Channels: 4, Stacks: 2, Modules: 2, Classes: 3}

// written gives all weight, of each edge of a genotype's text, to its operation, and to none on all others.
func written(t *testing.T, text string) [][]float32 {
	g, err := Darts{}.parse(text)
	require.NoError(t, err)
	return oneHot(zoo.DARTSRows(), func(row int) int {
		cell, row := g.cells[row/14], row%14
		node := 0
		for ; row >= dartsInputs+node; node++ {
			row -= dartsInputs + node
		}
		for _, e := range cell[2*node : 2*node+2] {
			if int(e.from) == row {
				return int(e.op)
			}
		}
		return dartsNone
	})
}

// The mixture has the published number of parameters in 28 rows; with all weight on some edges and on none elsewhere it
// computes what their genotype does, wherever its nodes stand, and costs as much.
func TestDartsMixture(t *testing.T) {
	sp := open(t, "darts@cifar10").(Mixed)
	p := requireRows(t, sp, NetworkSize{}, zoo.DARTSRows())
	require.Equal(t, int64(1930618), p.Cost().Params)
	require.Len(t, p.Mixture, 28)
	require.Equal(t, "normal/node2/from0", p.Mixture[0].Name)
	require.Equal(t, "normal/node5/from4", p.Mixture[13].Name)
	require.Equal(t, "reduce/node4/from3", p.Mixture[14+8].Name)
	require.Equal(t, dartsOps[:], p.Mixture[27].Choices)
	require.Zero(t, p.Mixture[3].Cost[dartsSkip])
	require.Positive(t, p.Mixture[14].Cost[dartsSkip])

	// The second is not canonical: node 3 might stand before node 2.
	for _, text := range []string{dartsV2, dartsUnordered} {
		weights := written(t, text)
		requireMixesAs(t, sp, dartsSmall, weights, text+"@cifar10")
		derived, err := sp.Derive(weights)
		require.NoError(t, err)
		want, err := sp.(Darts).parse(text)
		require.NoError(t, err)
		got, err := sp.(Darts).parse(derived)
		require.NoError(t, err)
		require.Equal(t, want.sorted(), got.sorted())
	}
	a, err := sp.Parse(dartsUnordered)
	require.NoError(t, err)
	unordered, err := sp.(Darts).parse(dartsUnordered)
	require.NoError(t, err)
	require.NotEqual(t, unordered.sorted(), a.(Genotype).sorted())

	_, err = sp.Mixture(NetworkSize{Stacks: 1})
	require.EqualError(t, err,
		"the mixture of darts@cifar10: a network of this size decides nothing by reduce/node2/from0")
	_, err = sp.WrittenPath("darts:Genotype()", dartsSmall)
	require.ErrorContains(t, err, "is not in the supernet of darts@cifar10")
}

// sorted has the two operations of each node in order, and the nodes where they stand.
func (g Genotype) sorted() Genotype {
	for i := range g.cells {
		for n := range dartsNodes {
			if pair := g.cells[i][2*n : 2*n+2]; pair[1].compare(pair[0]) < 0 {
				pair[0], pair[1] = pair[1], pair[0]
			}
		}
	}
	return g
}

// dartsUnordered has nodes that do not stand in canonical order.
const dartsUnordered = "Genotype(normal=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_3x3', 0), " +
	"('skip_connect', 1), ('dil_conv_3x3', 2), ('sep_conv_3x3', 3), ('avg_pool_3x3', 4), ('dil_conv_5x5', 0)], " +
	"normal_concat=range(2, 6), reduce=[('dil_conv_5x5', 1), ('skip_connect', 0), ('skip_connect', 0), " +
	"('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 4), ('sep_conv_3x3', 2)], " +
	"reduce_concat=range(2, 6))"

// Each node keeps the two edges on which an operation besides none has most weight; of equal ones the first.
func TestDartsDerive(t *testing.T) {
	sp := open(t, "darts@cifar10").(Mixed)
	requireRefusals(t, sp, zoo.DARTSRows())
	weights := make([][]float32, 28)
	for i := range weights {
		weights[i] = make([]float32, 8)
	}
	set := func(row, op int, w float32) { weights[row][op] = w }
	derived := func() []DartsOp {
		text, err := sp.Derive(weights)
		require.NoError(t, err)
		g, err := sp.(Darts).parse(text)
		require.NoError(t, err)
		normal, _ := g.Cells()
		return normal[4:6] // node 4, of rows 5 to 8
	}
	require.Equal(t, []DartsOp{{"max_pool_3x3", 0}, {"max_pool_3x3", 1}}, derived(), "all equal")
	for row := 5; row < 9; row++ {
		set(row, dartsNone, 0.5) // which counts nowhere
	}
	set(5, dartsSep3, 0.1)
	set(6, dartsSep5, 0.2)
	set(7, dartsDil3, 0.3)
	set(8, dartsDil5, 0.2)
	set(8, dartsSkip, 0.2)
	require.Equal(t, []DartsOp{{"dil_conv_3x3", 2}, {"sep_conv_5x5", 1}}, derived())
	set(8, dartsDil5, 0.25)
	require.Equal(t, []DartsOp{{"dil_conv_3x3", 2}, {"dil_conv_5x5", 3}}, derived())
	set(5, dartsDil5, 1)
	require.Equal(t, []DartsOp{{"dil_conv_5x5", 0}, {"dil_conv_3x3", 2}}, derived())
}
