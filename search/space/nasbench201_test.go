package space

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Costs that the benchmark publishes (nas_201_api, get_cost_info): FLOPs in millions, which count the classifier's
// bias, and parameters in millions; the least, the most, ResNet's cell and the cell of the best validation accuracy on
// CIFAR-10.
func TestPublishedCostsOfNASBench201(t *testing.T) {
	t.Parallel()
	const (
		none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
		all  = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
		best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
	)
	cifar100, imageNet16 := NetworkSize{Classes: 100}, NetworkSize{Side: 16, Classes: 120}
	for _, c := range []struct {
		cell          string
		size          NetworkSize
		flops, params int64
	}{
		{none, NetworkSize{}, 7783050, 73306}, {all, NetworkSize{}, 220119690, 1531546},
		{none, cifar100, 7788900, 79156}, {all, cifar100, 220125540, 1537396},
		{none, imageNet16, 1953400, 80456}, {all, imageNet16, 55037560, 1538696},
		{best, NetworkSize{}, 153272970, 1073466},
	} {
		a, err := NASBench201{}.Parse(c.cell)
		require.NoError(t, err)
		classes := int64(of201(c.size).Classes)
		require.Equal(t, Cost{MAdds: c.flops - classes, Params: c.params}, a.(Trainable).CostAt(c.size), c.cell)
		net, err := a.(Trainable).Network(c.size)
		require.NoError(t, err)
		require.Equal(t, c.flops-classes, net.Cost().MAdds)
		require.Equal(t, c.params, net.Cost().Params)
	}
}

// What an architecture's costs count is what its network has, at any size.
func TestNetworksOfNASBench201(t *testing.T) {
	t.Parallel()
	s := philox.New(1, philox.PurposeTest, 0)
	for _, size := range []NetworkSize{{}, {Side: 13, Classes: 3, Channels: 5, Stacks: 4, Modules: 2},
		{Side: 1, Channels: 1, Stacks: 2, Modules: 1}} {
		for range 10 {
			a := NASBench201{}.Sample(s).(EdgeCell)
			net, err := a.Network(size)
			require.NoError(t, err, "%v", size)
			cost := net.Cost()
			require.Equal(t, Cost{MAdds: cost.MAdds, Params: cost.Params}, a.CostAt(size), "%v at %v", a, size)
			require.Equal(t, a.String(), net.Name)
		}
	}
	a := NASBench201{}.Sample(s).(EdgeCell)
	for _, size := range []NetworkSize{{Side: -1}, {Channels: -1}} {
		_, err := a.Network(size)
		require.Error(t, err)
		require.Equal(t, Cost{Unknown, Unknown}, a.CostAt(size))
	}
	// Variables have the names of the benchmark's own files.
	net, err := EdgeCell{edgeConv3x3, 0, 0, 0, 0, edgeConv1x1}.Network(NetworkSize{Modules: 1, Stacks: 2})
	require.NoError(t, err)
	var names []string
	for _, v := range net.Variables() {
		names = append(names, v.Name)
	}
	for _, want := range []string{
		"stem.0.weight", "stem.1.running_mean", "cells.0.layers.0.op.1.weight", "cells.0.layers.5.op.2.bias",
		"cells.1.conv_a.op.1.weight", "cells.1.conv_b.op.2.weight", "cells.1.downsample.1.weight", "lastact.0.weight",
		"classifier.bias",
	} {
		require.Contains(t, names, want)
	}
}

// Of 15,625 cells 6,466 differ by the benchmark's own rule (section 2.2 of the paper; Structure.to_unique_str), 12,751
// where zeros count as operations.
func TestCellsOfNASBench201(t *testing.T) {
	t.Parallel()
	all, err := NASBench201{}.All(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, all, 15625)
	require.True(t, slices.IsSortedFunc(all, func(a, b Arch) int { return strings.Compare(a.Hash(), b.Hash()) }))
	unique, withZeros := map[string]bool{}, map[string]bool{}
	for _, a := range all {
		unique[function(a.(EdgeCell), true)], withZeros[function(a.(EdgeCell), false)] = true, true
	}
	require.Equal(t, []int{6466, 12751}, []int{len(unique), len(withZeros)})
}

// function is what a cell computes, as the benchmark writes it (its order of characters counts: sums within sums are
// not taken apart). Where zeros are known, what comes of a zero is one.
func function(c EdgeCell, zeros bool) string {
	nodes := []string{"0"}
	var terms []string
	for k, e := range zoo.EdgesOf201 {
		switch from := nodes[e[0]]; {
		case zeros && (c[k] == edgeNone || from == "#"):
			terms = append(terms, "#")
		case c[k] == edgeSkip:
			terms = append(terms, from)
		default:
			terms = append(terms, "("+from+")@"+edgeOps[c[k]])
		}
		if e[0] == e[1]-1 {
			slices.Sort(terms)
			nodes, terms = append(nodes, strings.Join(terms, "+")), nil
		}
	}
	return nodes[3]
}

func TestTextsOfNASBench201(t *testing.T) {
	t.Parallel()
	const cell = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
	for _, text := range []string{cell, "nasbench201:" + cell, "Structure(4 nodes with " + cell + ")",
		" " + cell + "\n"} {
		a, err := NASBench201{}.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, Arch(EdgeCell{edgeConv3x3, 0, edgeConv3x3, edgeSkip, 0, 0}), a)
		require.Equal(t, "nasbench201:"+cell, a.String())
	}
	for text, want := range map[string]string{
		"":                 "0 operations, want 6",
		"|":                "edge 0>1 is \"\"",
		cell[:len(cell)-1]: "something stands behind",
		cell + "|":         "something stands behind",
		strings.Replace(cell, "none~2", "none~1", 1):               `edge 2>3 is "none~1", want an operation and ~2`,
		strings.Replace(cell, "skip_connect", "sep_conv_3x3", 1):   "known: none, skip_connect",
		"|none~0|+|none~0|none~1|":                                 "want |op~0|+",
		strings.Replace(cell, "nor_conv_3x3~0|+", "none~0|x|+", 1): "want |op~0|+",
	} {
		_, err := NASBench201{}.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

// A graph has an operation of an edge as a node between its ends; what is none is not there.
func TestGraphsOfNASBench201(t *testing.T) {
	t.Parallel()
	sp := NASBench201{}
	s := philox.New(2, philox.PurposeTest, 0)
	for range 200 {
		c := sp.Sample(s).(EdgeCell)
		g := c.Graph()
		operations := 0
		for _, op := range c {
			if op != edgeNone {
				operations++
			}
		}
		require.Len(t, g.Ops, 4+operations)
		require.Len(t, g.Edges, 2*operations)
		require.LessOrEqual(t, len(g.Ops), sp.MaxNodes())
		require.Equal(t, "output", sp.Alphabet()[g.Ops[len(g.Ops)-1]])
		require.True(t, slices.IsSortedFunc(g.Edges, func(x, y [2]uint8) int {
			return (int(x[0])-int(y[0]))<<8 + int(x[1]) - int(y[1])
		}))
		for _, e := range g.Edges {
			require.Less(t, e[0], e[1])
		}
	}
	g := EdgeCell{edgeConv3x3, 0, edgeSkip, 0, 0, edgeAvgPool}.Graph()
	var names []string
	for _, op := range g.Ops {
		names = append(names, sp.Alphabet()[op])
	}
	require.Equal(t, []string{"input", "0>1 nor_conv_3x3", "node1", "1>2 skip_connect", "node2", "2>3 avg_pool_3x3",
		"output"}, names)
}

// Each part has sections of its own that do the same work in every cell, and is covered.
func TestSectionsOfNASBench201(t *testing.T) {
	t.Parallel()
	sp := NASBench201{}
	s := philox.New(3, philox.PurposeTest, 0)
	archs := sp.Cover(s)
	covered := map[int]bool{}
	for _, a := range archs {
		require.True(t, sp.EachPart(a, func(part int) { covered[part] = true }))
	}
	require.Len(t, covered, len(sp.Parts()))
	for range 30 {
		archs = append(archs, sp.Sample(s))
	}
	work := map[int]int64{}
	for _, a := range archs {
		net, section, part, err := sp.Dissect(a)
		require.NoError(t, err)
		require.True(t, slices.IsSorted(section))
		require.Equal(t, len(part)-1, section[len(section)-1], "%v", a)
		madds := make([]int64, len(part))
		dead := int64(0)
		live := net.Ancestors(net.Outputs[0].Node)
		for i := range net.Nodes {
			if cost := net.NodeCost(i).MAdds; live[i] {
				madds[section[i]] += cost
			} else {
				dead += cost
			}
		}
		sum := dead
		for k, p := range part {
			known, seen := work[p]
			require.True(t, !seen || known == madds[k], "%v: %s", a, sp.Parts()[p])
			work[p] = madds[k]
			sum += madds[k]
		}
		require.Equal(t, a.Cost().MAdds, sum)
	}
	require.False(t, sp.EachPart(Cell(0), nil))
}

func FuzzNASBench201(f *testing.F) {
	f.Add("nasbench201:|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
	f.Add("Structure(4 nodes with |none~0|+|none~0|none~1|+|none~0|none~1|none~2|)")
	f.Add("||+||+|~")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := NASBench201{}.Parse(text)
		if err != nil {
			require.Less(t, len(err.Error()), 1<<11)
			return
		}
		again, err := NASBench201{}.Parse(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}
