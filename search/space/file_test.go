package space

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

const examples = "../../docs/examples/"

func TestFileSpacesAgreeWithThemselves(t *testing.T) {
	for _, name := range []string{"nb201-like", "blocks"} {
		sp := open(t, "file:"+examples+name+".yaml")
		require.Equal(t, name, sp.Name())
		checkSpace(t, sp)
		again := open(t, "file:"+examples+name+".yaml")
		require.True(t, sp == again, "the same content is the same space")
	}
	checkSpace(t, parseText(t, onNodes))
	// Nodes within that are called as the graph's ends are.
	checkSpace(t, parseText(t, strings.NewReplacer("a,", "output,", "to: b", "to: input", "name: b", "name: input",
		"from: a", "from: output", "[in, a]", "[in, output]", "[b, out]", "[input, out]").Replace(onNodes)))
}

// onNodes is a cell like NAS-Bench-101's: operations on nodes, optional edges.
const onNodes = `
space: nodes
on: nodes
operations: [conv, pool]
nodes: [in, a, {name: b, operations: [conv]}, out]
edges:
  - [in, a]
  - {from: a, to: b, optional: true}
  - {from: in, to: b, operations: [conv, pool], optional: true}
  - [b, out]
  - {from: in, to: out, optional: true}
`

func parseText(t testing.TB, text string) Space {
	t.Helper()
	sp, err := ParseFile("test.yaml", []byte(text))
	require.NoError(t, err)
	return sp
}

func TestFileGraphs(t *testing.T) {
	sp := parseText(t, onNodes)
	a, err := sp.Parse("nodes:pool|conv|edge|-|edge")
	require.NoError(t, err)
	// The same network with the pool on the edge to b: that text stands for both.
	require.Equal(t, "nodes:conv|conv|-|pool|edge", a.String())
	g := a.Graph()
	names := func(g Graph, sp Space) (out []string) {
		for _, op := range g.Ops {
			out = append(out, sp.Alphabet()[op])
		}
		return out
	}
	require.Equal(t, []string{"input", "in>b pool", "b conv", "output"}, names(g, sp))
	require.Equal(t, [][2]uint8{{0, 1}, {0, 3}, {1, 2}, {2, 3}}, g.Edges, "a, which nothing reads, is left out")
	a, err = sp.Parse("nodes:pool|conv|edge|conv|edge")
	require.NoError(t, err)
	require.Equal(t, "nodes:pool|conv|edge|conv|edge", a.String())
	g = a.Graph()
	require.Equal(t, []string{"input", "a pool", "in>b conv", "b conv", "output"}, names(g, sp))
	require.Equal(t, [][2]uint8{{0, 1}, {0, 2}, {0, 4}, {1, 3}, {2, 3}, {3, 4}}, g.Edges)

	cell := open(t, "file:"+examples+"nb201-like.yaml")
	a, err = cell.Parse("conv3x3|none|skip|skip|none|conv1x1")
	require.NoError(t, err)
	require.Equal(t, []string{"input", "in>a conv3x3", "a", "in>out skip", "a>out conv1x1", "output"},
		names(a.Graph(), cell))
	require.Equal(t, Cost{8e6 + 11.8e6 + 1.3e6, 70e3 + 9.4e3 + 1.9e3}, a.Cost())

	chain := open(t, "file:"+examples+"blocks.yaml")
	a, err = chain.Parse("blocks:conv5x5|k3e3+k5e6|k3e6|skip")
	require.NoError(t, err)
	require.Equal(t, []string{"input", "stem conv5x5", "stage1.1 k3e3", "stage1.2 k5e6", "stage1 2 blocks",
		"stage2.1 k3e6", "stage2 1 blocks", "output"}, names(a.Graph(), chain))
	require.Equal(t, Cost{Unknown, Unknown}, a.Cost())
	FileOf(chain).UseCosts(func(x Arch) (Cost, bool) { return Cost{5, 7}, x == a })
	require.Equal(t, Cost{5, 7}, a.Cost())
}

func TestFileSpaceIsListed(t *testing.T) {
	all, err := open(t, "file:"+examples+"blocks.yaml").(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, all, 2*84*84*3)
	seen := map[Arch]int{}
	for _, a := range all {
		seen[a] = 0
	}
	require.Len(t, seen, len(all))
	// Rows of three blocks are 64 of 84.
	s, long := philox.New(1, philox.PurposeTest, 0), 0
	sp := open(t, "file:"+examples+"blocks.yaml")
	for range 3000 {
		a := sp.Sample(s)
		seen[a]++
		if strings.Count(strings.Split(a.String(), "|")[1], "+") == 2 {
			long++
		}
	}
	require.Len(t, seen, len(all), "what is drawn is listed")
	require.InDelta(t, 64./84, float64(long)/3000, 4*math.Sqrt(64./84*20/84/3000))
}

func TestFileSpaceWithin(t *testing.T) {
	sp := open(t, "file:"+examples+"nb201-like.yaml").(Bounded)
	limits := Limits{MAdds: 12e6, Params: 90e3}
	draw, err := sp.Within(limits)
	require.NoError(t, err)
	all, err := sp.(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	allowed := map[Arch]int{}
	for _, a := range all {
		if limits.Allow(a) {
			allowed[a] = 0
		}
	}
	s := philox.New(2, philox.PurposeTest, 0)
	n := 5 * len(allowed)
	for range n {
		a := draw(s)
		allowed[a]++
	}
	require.Len(t, allowed, n/5, "what is drawn is allowed")
	chi := 0.0
	for _, k := range allowed {
		chi += float64((k-5)*(k-5)) / 5
	}
	free := float64(len(allowed) - 1)
	require.InDelta(t, free, chi, 5*math.Sqrt(2*free))
	_, err = sp.Within(Limits{MAdds: 7e6})
	require.ErrorContains(t, err, "--max-madds")
}

func TestFileErrors(t *testing.T) {
	base, err := os.ReadFile(examples + "nb201-like.yaml")
	require.NoError(t, err)
	for want, change := range map[string][2]string{
		`line 4: unknown key "absence"`:                {"absent: none", "absence: none"},
		"line 13: no node is called \"x\"":             {"[in, a]", "[in, x]"},
		"line 13: edge out to a: want the nodes":       {"[in, a]", "[out, a]"},
		"line 14: edge in to a comes twice":            {"[in, b]", "[in, a]"},
		`line 8: operation "skip" comes twice`:         {"avgpool3x3", "skip"},
		`line 9: "much" is not a size`:                 {"1.3M", "much"},
		"line 9: no madds, which other operations":     {"madds: 1.3M, ", ""},
		`line 2: space "a b": want a word`:             {"nb201-like", "a b"},
		"line 2: darts is the name of a built-in":      {"nb201-like", "darts"},
		"line 3: want at least the input and the":      {"[in, a, b, out]", "[in]"},
		"want blocks, or nodes and edges":              {"nodes: [in, a, b, out]", ""},
		"line 3: nodes: want a list":                   {"[in, a, b, out]", "[]"},
		"line 13: unknown key \"form\"":                {"[in, a]", "{form: in, to: a}"},
		"line 13: operation \"x\" is none of the file": {"[in, a]", "{from: in, to: a, operations: [x]}"},
		"line 11: unknown key \"time\"":                {"params: 70K", "time: 70K"},
		"more than one YAML document":                  {"  - [b, out]", "  - [b, out]\n---\nx: 1"},
		"s.yaml: yaml: line":                           {"{name: skip", "{name: [skip"},
	} {
		text := strings.Replace(string(base), change[0], change[1], 1)
		require.NotEqual(t, string(base), text)
		_, err := ParseFile("s.yaml", []byte(text))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "s.yaml: ")
	}
	blocks := func(b string) string { return "space: x\nblocks:\n" + b }
	many := "  - {name: row, operations: [a, b], repeat: [1, 64]}\n"
	for text, want := range map[string]string{
		"":                        "the file is empty",
		"[1]":                     "line 1: want keys and values",
		blocks("  - {name: b}\n"): "line 3: no operations, and the file lists none",
		blocks("  - {name: b, operations: [a]}\n"): "one architecture",
		blocks(many): "65 decisions",
		blocks("  - {name: b, operations: [a, c], repeat: [3, 2]}\n"):                    "line 3: repeat: from 3 to 2",
		blocks("  - {name: b, operations: [a, c]}\n  - {name: b, operations: [a, c]}\n"): "line 4: b comes twice",
		blocks("  - {name: b, operations: [a, edge]}\n"):                                 "stands for an edge",
		"space: x\non: nodes\n" + blocks("  - {name: b, operations: [a, c]}\n")[9:]:      "belong to a cell",
		fmt.Sprintf("space: x\nblocks: [%s]", strings.Repeat("{name: a},", 300)):         "want a list of 1 to 250",
	} {
		_, err := ParseFile("s.yaml", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
	sp := parseText(t, string(base))
	for text, want := range map[string]string{
		"nb201-like:none|none":                  "2 choices, want 6",
		"none|none|none|none|none|conv9x9":      "is no choice at b>out; known: none, skip",
		"none|none|none|none|none|conv1x1+skip": "2 blocks at b>out, want 1..1",
	} {
		_, err := sp.Parse(text)
		require.ErrorContains(t, err, want)
	}
	for _, name := range []string{"file:", "file", "file:/nowhere.yaml", "file:" + examples} {
		_, err := Open(name)
		require.Error(t, err)
	}
}

func FuzzSpaceFile(f *testing.F) {
	for _, name := range []string{"nb201-like", "blocks"} {
		text, err := os.ReadFile(examples + name + ".yaml")
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(onNodes))
	f.Fuzz(func(t *testing.T, text []byte) {
		var sp *FileSpace
		var err error
		testdata.WithinMemory(t, len(text), func() { sp, err = parseSpace(text) })
		if err != nil {
			return
		}
		s := philox.New(1, philox.PurposeTest, 0)
		a := sp.Sample(s)
		back, err := sp.Parse(a.String())
		require.NoError(t, err)
		require.True(t, a == back)
		require.False(t, sp.Mutate(a, s) == a)
		require.NoError(t, checkGraph(a.Graph(), len(sp.Alphabet())))
	})
}

func checkGraph(g Graph, alphabet int) error {
	for _, op := range g.Ops {
		if int(op) >= alphabet {
			return fmt.Errorf("operation %d of %d", op, alphabet)
		}
	}
	for _, e := range g.Edges {
		if e[0] >= e[1] || int(e[1]) >= len(g.Ops) {
			return fmt.Errorf("edge %v of %d nodes", e, len(g.Ops))
		}
	}
	return nil
}

// tiedBlocks has a row of tied blocks whose number is a choice, one whose number is not, and one that is not tied.
const tiedBlocks = `
space: tied
blocks:
  - {name: a, operations: [x, y, z], repeat: [1, 3], tied: true}
  - {name: b, operations: [x, y], repeat: 2, tied: true}
  - {name: c, operations: [x, y], repeat: [1, 2]}
operations: [{name: x, madds: 3, params: 1}, {name: y, madds: 5, params: 2}, {name: z, madds: 9, params: 4}]
`

// Tied blocks are decided once: fewer architectures, fewer decisions, and as many nodes and costs.
func TestTiedBlocks(t *testing.T) {
	sp := parseText(t, tiedBlocks)
	checkSpace(t, sp)
	f := FileOf(sp)
	require.Equal(t, 3.0*3*2*(2+4), f.Size())
	require.Len(t, f.Grammar().Heads, 2+1+3)
	a, err := sp.Parse("a=y+y+y|b=x+x|c=y")
	require.NoError(t, err)
	require.Equal(t, "tied:y+y+y|x+x|y", a.String())
	require.Equal(t, Cost{3*5 + 2*3 + 5, 3*2 + 2*1 + 2}, a.Cost())
	g := a.Graph()
	require.Len(t, g.Ops, 1+(3+1)+2+(1+1)+1)
	require.Equal(t, g.Ops[1], g.Ops[3], "what stands at one place is one operation")
	require.LessOrEqual(t, len(g.Ops), f.MaxNodes())
	b, err := f.FromColumns([]string{"y", "y", "y", "x", "x", "y", ""})
	require.NoError(t, err)
	require.Equal(t, a, b)
	_, err = sp.Parse("y+x|x+x|y")
	require.ErrorContains(t, err, `"y" and "x" at a, whose blocks are tied`)
	all, err := sp.(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, all, 108)
	draws, s := map[Arch]int{}, philox.New(3, philox.PurposeTest, 0)
	within, err := f.Within(Limits{MAdds: 30})
	require.NoError(t, err)
	allowed := 0
	for _, a := range all {
		if a.Cost().MAdds <= 30 {
			allowed++
		}
	}
	for range 20000 {
		draws[within(s)]++
	}
	require.Len(t, draws, allowed, "all that are allowed, and no other")
	for _, n := range draws {
		require.InDelta(t, 20000/float64(allowed), n, 7*math.Sqrt(20000/float64(allowed)))
	}
	for _, wrong := range []string{"repeat: [1, 2], tied: yes", "tied: true"} {
		_, err := ParseFile("x.yaml", []byte("space: x\nblocks:\n  - {name: a, operations: [x, y], "+wrong+"}\n"))
		require.ErrorContains(t, err, "x.yaml: line 3: tied")
	}
}
