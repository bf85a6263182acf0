package space

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/kernels/philox"
)

func parse(t testing.TB, text string) Cell {
	t.Helper()
	a, err := NASBench101{}.Parse(text)
	require.NoError(t, err)
	return a.(Cell)
}

// drawDag draws a graph of n vertices in which any edges may be missing or too many.
func drawDag(t *rapid.T) dag {
	d := dag{n: rapid.IntRange(2, maxVertices).Draw(t, "n")}
	for v := 1; v < d.n; v++ {
		d.in[v] = rapid.Uint8Range(0, 1<<v-1).Draw(t, "in")
	}
	for v := 1; v < d.n-1; v++ {
		d.op[v] = rapid.Uint8Range(0, uint8(len(opNames)-1)).Draw(t, "op")
	}
	return d
}

// drawCell draws one of the 1,293,208 labelled cells and a random topological order of it.
func drawCell(t *rapid.T) (d, relabelled dag) {
	d = labelled(rapid.IntRange(0, labelledCells(maxVertices)-1).Draw(t, "labelled"))
	var at [maxVertices]int // new numbers
	relabelled = dag{n: d.n}
	last := d.n - 1
	at[last] = last
	placed := uint8(1)
	for next := 1; next < last; next++ {
		var ready []int
		for v := 1; v < last; v++ {
			if placed>>v&1 == 0 && d.in[v]&^placed == 0 {
				ready = append(ready, v)
			}
		}
		v := rapid.SampledFrom(ready).Draw(t, "next")
		at[v] = next
		placed |= 1 << v
		relabelled.op[next] = d.op[v]
	}
	for v := 1; v < d.n; v++ {
		for u := range v {
			if d.edge(u, v) {
				relabelled.in[at[v]] |= 1 << at[u]
			}
		}
	}
	return d, relabelled
}

func TestRelabellingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, relabelled := drawCell(t)
		a, err := d.cell()
		require.NoError(t, err)
		b, err := relabelled.cell()
		require.NoError(t, err)
		require.Equal(t, a, b)
		require.Equal(t, d.fingerprint(), relabelled.fingerprint())
		canonical := a.unpack()
		require.Equal(t, d.fingerprint(), canonical.fingerprint())
		require.LessOrEqual(t, a, d.pack())
	})
}

// Pruning is checked against its definition by powers of reachability, and the cell against the constructors and
// accessors.
func TestCellFromAnyGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDag(t)
		reach := [maxVertices][maxVertices]bool{}
		for v := range d.n {
			reach[v][v] = true
			for u := v - 1; u >= 0; u-- {
				for w := range v {
					reach[u][v] = reach[u][v] || reach[u][w] && d.edge(w, v)
				}
			}
		}
		kept, edges := 0, 0
		keeps := func(v int) bool { return reach[0][v] && reach[v][d.n-1] }
		for v := range d.n {
			if !keeps(v) {
				continue
			}
			kept++
			for u := range v {
				if keeps(u) && d.edge(u, v) {
					edges++
				}
			}
		}

		matrix := make([][]int, d.n)
		digits := ""
		names := make([]string, d.n)
		ops := ""
		for v := range d.n {
			matrix[v] = make([]int, d.n)
			for w := v + 1; w < d.n; w++ {
				if d.edge(v, w) {
					matrix[v][w] = 1
				}
				digits += string(rune('0' + matrix[v][w]))
			}
			names[v] = opNames[d.op[v]]
			if v > 0 && v < d.n-1 {
				ops += string(rune('0' + d.op[v]))
			}
		}
		names[0], names[d.n-1] = "input", "output"

		cell, err := NewCell(matrix, names)
		same, sameErr := NewCellFromDigits(digits, ops)
		require.Equal(t, err, sameErr)
		switch {
		case !reach[0][d.n-1]:
			require.ErrorContains(t, err, "no path")
			return
		case edges > maxEdges:
			require.ErrorContains(t, err, "want at most 9")
			return
		}
		require.NoError(t, err)
		require.Equal(t, cell, same)
		require.Equal(t, kept, cell.Vertices())
		require.Len(t, cell.Edges(), edges)

		again, err := NewCell(cell.Matrix(), cell.OpNames())
		require.NoError(t, err)
		require.Equal(t, cell, again)
		again, err = UnpackCell(uint64(cell))
		require.NoError(t, err)
		require.Equal(t, cell, again)
		a, err := NASBench101{}.Parse(cell.String())
		require.NoError(t, err)
		require.True(t, a == Arch(cell))

		g := cell.Graph()
		alphabet := NASBench101{}.Alphabet()
		for v, name := range cell.OpNames() {
			require.Equal(t, name, alphabet[g.Ops[v]])
		}
		require.Equal(t, cell.Edges(), g.Edges)
		for i, e := range g.Edges {
			require.Less(t, e[0], e[1])
			if i > 0 {
				p := g.Edges[i-1]
				require.Less(t, int(p[0])<<8+int(p[1]), int(e[0])<<8+int(e[1]))
			}
		}
	})
}

func TestBadCells(t *testing.T) {
	in, out, conv := "input", "output", "conv3x3-bn-relu"
	cases := []struct {
		want   string
		matrix [][]int
		ops    []string
	}{
		{"0 rows", nil, nil},
		{"8 rows", make([][]int, 8), nil},
		{"1 operations for 2 vertices", [][]int{{0, 1}, {0, 0}}, []string{in}},
		{"row 1 of the adjacency matrix has 1 columns", [][]int{{0, 1}, {0}}, []string{in, out}},
		{"holds 2 at row 0, column 1", [][]int{{0, 2}, {0, 0}}, []string{in, out}},
		{"edge 1 to 0", [][]int{{0, 1}, {1, 0}}, []string{in, out}},
		{"edge 1 to 1", [][]int{{0, 1}, {0, 1}}, []string{in, out}},
		{`"output" and "input"`, [][]int{{0, 1}, {0, 0}}, []string{out, in}},
		{`vertex 1: unknown operation "conv5x5"`, [][]int{{0, 1, 0}, {0, 0, 1}, {0, 0, 0}},
			[]string{in, "conv5x5", out}},
		{"no path", [][]int{{0, 1, 0}, {0, 0, 0}, {0, 0, 0}}, []string{in, conv, out}},
		{"10 edges", [][]int{{0, 1, 1, 1, 1}, {0, 0, 1, 1, 1}, {0, 0, 0, 1, 1}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}},
			[]string{in, conv, conv, conv, out}},
	}
	for _, c := range cases {
		_, err := NewCell(c.matrix, c.ops)
		require.ErrorContains(t, err, c.want)
	}
}

func TestUnpackCellRefusesOtherNumbers(t *testing.T) {
	good := uint64(parse(t, "nasbench101:best"))
	_, err := UnpackCell(good)
	require.NoError(t, err)
	for bit := range 64 {
		cell, err := UnpackCell(good ^ 1<<bit)
		if err == nil {
			require.Equal(t, good^1<<bit, uint64(cell))
			d := cell.unpack()
			require.Equal(t, cell, d.canonical())
		}
		if bit >= verticesAt {
			require.Error(t, err)
		}
	}
	s := philox.New(3, philox.PurposeTest, 0)
	for range 100000 {
		v := s.Uint64() >> (64 - verticesEnd)
		if cell, err := UnpackCell(v); err == nil {
			require.Equal(t, cell, parse(t, cell.String()))
		}
	}
	_, err = UnpackCell(0)
	require.Error(t, err)
}

func TestParse(t *testing.T) {
	// Vertex 2 leads nowhere and goes; what remains is conv1x1 between input and output.
	require.Equal(t, "nasbench101:3:101:1", parse(t, "nasbench101:4:110010:12").String())
	// Not in canonical order: the example's two branches are interchanged.
	require.Equal(t, parse(t, "nasbench101:4:110011:12"), parse(t, "nasbench101:4:110011:21"))

	for text, want := range map[string]string{
		"":                             "want nasbench101:",
		"nasbench101":                  "want nasbench101:",
		"nasbench201:2:1:":             "want nasbench101:",
		"nasbench101:worst":            "known: best, inception, resnet",
		"nasbench101:2:1":              "3 fields",
		"nasbench101:2:1::":            "5 fields",
		"nasbench101:x:1:":             `"x" vertices`,
		"nasbench101:8:1:000000":       `"8" vertices`,
		"nasbench101:3:101:":           "0 operations for 3 vertices",
		"nasbench101:3:10:0":           "2 adjacency digits for 3 vertices, want 3",
		"nasbench101:3:1x1:0":          `adjacency digit 1 is 'x'`,
		"nasbench101:3:101:3":          `operation digit 0 is '3'`,
		"nasbench101:2:0:":             "no path",
		"nasbench101:5:1111111111:000": "10 edges",
	} {
		_, err := NASBench101{}.Parse(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, text)
	}
	// The specification of the data set's own code, and what Python and NumPy print of it.
	spec := "ModelSpec(matrix=[[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], " +
		"ops=['input', 'conv1x1-bn-relu', 'maxpool3x3', 'output'])"
	for _, text := range []string{
		spec, "nasbench101:" + spec, "cell = api." + spec, strings.NewReplacer("matrix=", "", "ops=", "").Replace(spec),
		strings.NewReplacer("0", "False", "1,", "True,", "1]", "True]").Replace(spec),
		strings.NewReplacer("0", "0.", "1,", "1.0,", "1]", "1.]").Replace(spec),
		strings.NewReplacer("[[", "np.array([[", "]],", "]], dtype=int),", "0, ", "0 ", "1, ", "1 ", "], [",
			"]\n [").Replace(spec),
		"ModelSpec(matrix=[[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], ops=[INPUT, CONV1X1, " +
			"MAXPOOL3X3, OUTPUT])",
	} {
		require.Equal(t, parse(t, "nasbench101:4:110011:12"), parse(t, text), text)
	}
	for from, to := range map[[2]string]string{
		{"[0, 1, 1, 0]", "[0, 2, 1, 0]"}:    "the matrix holds 2 at row 0, column 1",
		{"[0, 1, 1, 0]", "[0, None, 1, 0]"}: "the matrix holds None at row 0, column 1",
		{"[0, 1, 1, 0]", "7"}:               "row 0 of the matrix is 7",
		{", ops=", ", operations="}:         "without ops",
		{"'input'", "3"}:                    "operation 0 is 3, want a name",
		{"[0, 1, 1, 0], ", ""}:              "4 operations for 3 vertices",
		{"'maxpool3x3'", "'maxpool2x2'"}:    "unknown operation",
	} {
		_, err := NASBench101{}.Parse(strings.Replace(spec, from[0], from[1], 1))
		require.ErrorContains(t, err, to)
	}
	_, err := NewCellFromDigits("1", "000000")
	require.ErrorContains(t, err, "6 operations")
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"nasbench101:best", "nasbench101:7:100110100001001010101:02001", "nasbench101:2:1:",
		"nasbench101:4:110010:12", "nasbench101:5:1111111111:000", "nasbench101:3:1\x001:0", "::::",
		"x = ModelSpec([[0. 1.] [False, True]], ops=np.array(['input' OUTPUT], dtype=str))"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := NASBench101{}.Parse(text)
		if err != nil {
			require.Nil(t, a)
			return
		}
		again, err := NASBench101{}.Parse(a.String())
		require.NoError(t, err)
		require.True(t, a == again)
		require.True(t, strings.HasPrefix(a.String(), "nasbench101:"))
		require.Len(t, a.Hash(), 32)
		require.Positive(t, a.Cost().Params)
		require.LessOrEqual(t, len(a.Graph().Ops), maxVertices)
	})
}
