package space

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// cell201 is the cell of NAS-Bench-201 in its benchmark's words.
const cell201 = `
space: cell
absent: none
identity: skip_connect
operations: [none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3]
nodes: [0, 1, 2, 3]
edges: [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]]
`

func classOf(t *testing.T, sp Space, text string) Arch {
	t.Helper()
	a, err := sp.Parse(text)
	require.NoError(t, err)
	return a
}

func TestIsomorphicCellsAreOne(t *testing.T) {
	sp := parseText(t, cell201)
	conv, pool := "nor_conv_3x3", "avg_pool_3x3"
	same := func(texts ...string) {
		t.Helper()
		for _, text := range texts[1:] {
			require.Equal(t, classOf(t, sp, texts[0]), classOf(t, sp, text), text)
		}
	}
	// One convolution, wherever it stands, whatever nothing reads; the text with the fewest operations stands for all.
	same("none|none|none|"+conv+"|none|none", "skip_connect|none|none|none|"+conv+"|none",
		conv+"|none|none|none|skip_connect|none", conv+"|none|skip_connect|none|none|skip_connect",
		"none|"+pool+"|none|"+conv+"|none|none")
	require.Equal(t, "cell:none|none|none|"+conv+"|none|none",
		classOf(t, sp, "skip_connect|"+pool+"|none|none|"+conv+"|none").String())
	// The order of sums.
	same(conv+"|"+pool+"|none|none|skip_connect|skip_connect", pool+"|"+conv+"|none|none|skip_connect|skip_connect",
		conv+"|none|none|"+pool+"|skip_connect|none")
	// Nothing at all.
	same("none|none|none|none|none|none", conv+"|"+conv+"|none|none|none|none")
	for _, pair := range [][2]string{
		// A sum of two convolutions of the same is not one.
		{"none|none|none|" + conv + "|none|none", conv + "|none|none|" + conv + "|skip_connect|none"},
		// One convolution that two read is not two (by the benchmark's rule it is).
		{conv + "|none|" + conv + "|none|skip_connect|skip_connect",
			conv + "|none|none|" + conv + "|" + conv + "|none"},
		{"none|none|none|" + conv + "|none|none", "none|none|none|" + pool + "|none|none"},
	} {
		require.NotEqual(t, classOf(t, sp, pair[0]), classOf(t, sp, pair[1]))
	}
	f := FileOf(sp)
	require.True(t, f.Isomorphic())
	require.Equal(t, 15625., f.texts)
	require.Equal(t, 5425., f.Size())
	require.False(t, FileOf(open(t, "file:"+examples+"blocks.yaml")).Isomorphic(), "a chain")
	checkSpace(t, sp)
}

// Two texts stand for one network exactly where one is the other with its operations renumbered: all pairs of a small
// cell are compared with a search through all renumberings.
func TestIsomorphicCellsAgainstRenumbering(t *testing.T) {
	sp := parseText(t, `
space: small
on: nodes
operations: [x, y]
nodes: [in, a, b, c, out]
edges:
  - {from: in, to: a, optional: true}
  - {from: in, to: b, optional: true}
  - {from: a, to: b, optional: true}
  - {from: in, to: c, optional: true}
  - {from: a, to: c, optional: true}
  - {from: b, to: out, optional: true}
  - {from: c, to: out, optional: true}
`)
	f := FileOf(sp)
	reader, code := newCellReader(f), make([]byte, f.slots)
	forms := map[string]int32{} // of each network the text that stands for it
	for i := range int(f.texts) {
		f.codeOf(i, code)
		require.Equal(t, i, f.numberOf(code))
		reader.parse(code)
		form := smallestForm(reader)
		first := f.classes().first[i]
		if seen, ok := forms[form]; ok {
			require.Equal(t, seen, first)
		}
		forms[form] = first
	}
	require.Len(t, f.classes().list, len(forms))
}

// smallestForm is the smallest of the texts of what a code computes over all orders of its operations that are read.
func smallestForm(r *cellReader) string {
	n := len(r.label)
	alive := []int{n - 1}
	for k := 0; k < len(alive); k++ {
		for i, times := range r.row(r.reads, alive[k])[1:] {
			if times > 0 && !slices.Contains(alive, i) {
				alive = append(alive, i)
			}
		}
	}
	best := ""
	var visit func(order, left []int)
	visit = func(order, left []int) {
		if len(left) == 0 {
			var b []byte
			for _, i := range order {
				row := r.row(r.reads, i)
				b = append(b, byte(r.label[i]), byte(r.label[i]>>8), byte(row[0]))
				for _, k := range order {
					b = append(b, byte(row[1+k]))
				}
			}
			if best == "" || string(b) < best {
				best = string(b)
			}
		}
		for k := range left {
			rest := slices.Delete(slices.Clone(left), k, k+1)
			visit(append(slices.Clone(order), left[k]), rest)
		}
	}
	visit(alive[:1], alive[1:])
	return best
}

func TestIsomorphicCellsAreDrawnOnce(t *testing.T) {
	sp := parseText(t, onNodes)
	f := FileOf(sp)
	all, err := sp.(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, all, int(f.Size()))
	seen := map[Arch]int{}
	s := philox.New(3, philox.PurposeTest, 0)
	n := 50 * len(all)
	for range n {
		seen[sp.Sample(s)]++
	}
	require.Len(t, seen, len(all))
	chi := 0.0
	for _, k := range seen {
		chi += float64((k-50)*(k-50)) / 50
	}
	free := float64(len(all) - 1)
	require.InDelta(t, free, chi, 5*math.Sqrt(2*free))
	code, ok := f.AppendCode(nil, all[0])
	require.True(t, ok)
	require.NoError(t, f.CheckCode(code))
	for i, first := range f.classes().first {
		if int32(i) != first {
			f.codeOf(i, code)
			require.ErrorContains(t, f.CheckCode(code), "convert the table again")
			break
		}
	}
	// Operations that cost differently are different ones, whatever they are called.
	priced := parseText(t, `
space: priced
nodes: [in, a, out]
absent: none
edges:
  - {from: in, to: a, operations: [none, {name: conv, madds: 1, params: 1}]}
  - {from: in, to: out, operations: [none, {name: conv, madds: 2, params: 1}]}
  - [a, out]
`)
	require.NotEqual(t, classOf(t, priced, "conv|none"), classOf(t, priced, "none|conv"))
	// A cell in which nothing reaches the output is left as it is.
	idle := parseText(t, "space: idle\nnodes: [in, a, out]\nedges: [{from: in, to: a, operations: [x, y]}]\n")
	require.Equal(t, 2., FileOf(idle).Size())
	checkSpace(t, idle)
}
