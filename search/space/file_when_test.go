package space

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// whenBlocks has conditions on one block, on two, on a tied row, and on a block that has a condition itself.
const whenBlocks = `
space: when
blocks:
  - {name: stem, operations: [conv, pool, none]}
  - {name: kernel, operations: [k3, k5, k7], when: {stem: conv}}
  - {name: body, operations: [a, b], repeat: [1, 2], tied: true}
  - {name: extra, operations: [x, y], repeat: [1, 3], when: {stem: [conv, pool], body: b}}
  - {name: wide, operations: [w1, w2, w3, w4], when: {kernel: [k5, k7]}}
`

// whenTexts are all architectures, by loops over what the file says.
func whenTexts() map[string]bool {
	var extras []string
	for n := 1; n <= 3; n++ {
		for k := range 1 << n {
			var row []string
			for b := range n {
				row = append(row, []string{"x", "y"}[k>>b&1])
			}
			extras = append(extras, strings.Join(row, "+"))
		}
	}
	all := map[string]bool{}
	for _, stem := range []string{"conv", "pool", "none"} {
		kernels := []string{"-"}
		if stem == "conv" {
			kernels = []string{"k3", "k5", "k7"}
		}
		for _, kernel := range kernels {
			wides := []string{"-"}
			if kernel == "k5" || kernel == "k7" {
				wides = []string{"w1", "w2", "w3", "w4"}
			}
			for _, body := range []string{"a", "a+a", "b", "b+b"} {
				rows := []string{"-"}
				if stem != "none" && body[0] == 'b' {
					rows = extras
				}
				for _, extra := range rows {
					for _, wide := range wides {
						all["when:"+strings.Join([]string{stem, kernel, body, extra, wide}, "|")] = true
					}
				}
			}
		}
	}
	return all
}

func TestFileConditions(t *testing.T) {
	sp := parseText(t, whenBlocks)
	checkSpace(t, sp)
	want := whenTexts()
	n, exact := Count(sp)
	require.True(t, exact)
	require.EqualValues(t, len(want), n.Int64())
	list, err := sp.(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, list, len(want))
	coder := sp.(Coder)
	for _, a := range list {
		require.True(t, want[a.String()], a.String())
		again, err := sp.Parse(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
		code, _ := coder.AppendCode(nil, a)
		require.NoError(t, coder.CheckCode(code))
	}
	const draws = 100
	drawn, s := map[string]int{}, philox.New(3, philox.PurposeTest, 0)
	for range draws * len(want) {
		drawn[sp.Sample(s).String()]++
	}
	require.Len(t, drawn, len(want))
	for text, times := range drawn { // five deviations of 10
		require.InDelta(t, draws, times, 55, text)
	}
	seen := map[string]bool{}
	for range 200 * len(want) {
		x, y := list[s.Intn(len(list))], list[s.Intn(len(list))]
		child := sp.(Crosser).Cross(x, y, s)
		require.True(t, want[child.String()], child.String())
		child = sp.Mutate(x, s)
		require.NotEqual(t, x, child)
		require.True(t, want[child.String()], child.String())
		seen[child.String()] = true
	}
	require.Len(t, seen, len(want))
}

// Of the blocks that are there a graph has one node each, and of the row its count.
func TestConditionalGraphs(t *testing.T) {
	sp := parseText(t, whenBlocks)
	for text, nodes := range map[string]int{"none|-|a|-|-": 2 + 1 + 2, "conv|k3|b|x+y|-": 2 + 1 + 1 + 2 + 3,
		"conv|k7|b+b|y|w2": 2 + 1 + 1 + 3 + 2 + 1} {
		a, err := sp.Parse(text)
		require.NoError(t, err)
		require.Len(t, a.Graph().Ops, nodes, text)
	}
}

// What is not there need not be said by name, is empty in a table's columns, and is refused where it is said.
func TestConditionalTexts(t *testing.T) {
	sp := parseText(t, whenBlocks)
	for text, want := range map[string]string{
		"stem=pool|body=b|extra=x+y":         "when:pool|-|b|x+y|-",
		"body=a|stem=none":                   "when:none|-|a|-|-",
		"kernel=k5|stem=conv|body=a|wide=w4": "when:conv|k5|a|-|w4",
	} {
		a, err := sp.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, a.String())
	}
	for text, want := range map[string]string{
		"pool|k3|a|-|-":      `"k3" at kernel, which is not there for its conditions are not met: want -`,
		"conv|-|a|-|-":       `"-" is no choice at kernel`,
		"conv|k3|a|-|w1":     `"w1" at wide, which is not there`,
		"pool|-|b|-|-":       `"-" is no choice at extra`,
		"body=a|stem=conv":   `"-" is no choice at kernel`,
		"stem=none|kernel=-": "body is not said",
		"pool|-|a|x+y|-":     `"x+y" at extra, which is not there`,
	} {
		_, err := sp.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
	columned := sp.(Columned)
	names := columned.Columns()
	require.Equal(t, "stem kernel body.1 body.2 extra.1 extra.2 extra.3 wide", strings.Join(names, " "))
	a, err := columned.FromColumns([]string{"pool", "", "b", "b", "x", "y", "", " "})
	require.NoError(t, err)
	require.Equal(t, "when:pool|-|b+b|x+y|-", a.String())
	_, err = columned.FromColumns([]string{"pool", "k3", "b", "b", "x", "y", "", ""})
	require.ErrorContains(t, err, `"k3" at kernel`)
}

// A code with something where nothing is, or with a choice that there is not, is refused.
func TestConditionalCodes(t *testing.T) {
	sp := parseText(t, whenBlocks).(Coder)
	a, err := sp.Parse("none|-|a|-|-")
	require.NoError(t, err)
	code, _ := sp.AppendCode(nil, a)
	require.NoError(t, sp.CheckCode(code))
	accepted := map[string]bool{}
	for i := range code {
		for v := range 256 {
			changed := append([]byte(nil), code...)
			changed[i] = byte(v)
			if sp.CheckCode(changed) == nil {
				b := sp.FromCode(changed)
				again, err := sp.Parse(b.String())
				require.NoError(t, err)
				require.Equal(t, b, again)
				accepted[b.String()] = true
			}
		}
	}
	require.Equal(t, map[string]bool{"when:none|-|a|-|-": true, "when:none|-|a+a|-|-": true, "when:none|-|b|-|-": true,
		"when:pool|-|a|-|-": true, "when:conv|k3|a|-|-": true}, accepted)
}

// The decisions of what is not there do not count.
func TestDecisionsThatCount(t *testing.T) {
	sp := parseText(t, whenBlocks)
	heads := sp.Grammar().Heads
	for text, want := range map[string]string{
		"none|-|a|-|-":     "stem, body count, body",
		"conv|k3|b|x+y|-":  "stem, kernel, body count, body, extra count, extra.1, extra.2",
		"conv|k7|b+b|y|w2": "stem, kernel, body count, body, extra count, extra.1, wide",
		"pool|-|b|x+y+x|-": "stem, body count, body, extra count, extra.1, extra.2, extra.3",
		"conv|k5|a+a|-|w1": "stem, kernel, body count, body, wide",
	} {
		a, err := sp.Parse(text)
		require.NoError(t, err)
		actions, err := sp.Encode(a)
		require.NoError(t, err)
		counting := FileOf(sp).Counting(a)
		require.Len(t, counting, len(actions))
		var names []string
		for i, counts := range counting {
			if counts {
				names = append(names, heads[i].Name)
			}
		}
		require.Equal(t, want, strings.Join(names, ", "), text)
	}
}

// What is not there costs nothing, and limits are kept.
func TestConditionalCosts(t *testing.T) {
	sp := parseText(t, "space: costs\nfixed: {madds: 1}\nblocks:\n"+
		"- {name: stem, operations: [{name: conv, madds: 10}, {name: pool, madds: 20}]}\n"+
		"- {name: more, operations: [{name: x, madds: 100}, {name: y, madds: 200}], when: {stem: conv}}\n")
	costs := map[int64]bool{}
	draw, err := FileOf(sp).Within(Limits{MAdds: 111})
	require.NoError(t, err)
	s := philox.New(4, philox.PurposeTest, 0)
	for range 100 {
		costs[draw(s).Cost().MAdds] = true
	}
	require.Equal(t, map[int64]bool{21: true, 111: true}, costs)
	a, err := sp.Parse("conv|y")
	require.NoError(t, err)
	require.EqualValues(t, 211, a.Cost().MAdds)
}

func TestConditionErrors(t *testing.T) {
	for when, want := range map[string]string{
		"{stems: conv}":            `line 5: when: no block above is called "stems"`,
		"{c: x}":                   `line 5: when: no block above is called "c"`,
		"{stem: tanh}":             `line 5: when: "tanh" is no operation of stem`,
		"{stem: [conv, pool]}":     "line 5: when: these are all operations of stem",
		"{row: conv}":              "line 5: when: each block of the row row chooses for itself",
		"{stem: conv, stem: conv}": `line 5: when: stem comes twice`,
		"conv":                     "line 5: when: want blocks above",
		"{}":                       "line 5: when: want blocks above",
		"{stem: []}":               "line 5: when: want a list",
	} {
		_, err := ParseFile("x.yaml", []byte(fmt.Sprintf("space: s\nblocks:\n"+
			"- {name: stem, operations: [conv, pool]}\n- {name: row, operations: [conv, pool], repeat: 2}\n"+
			"- {name: c, operations: [x, y], when: %s}\n", when)))
		require.ErrorContains(t, err, "x.yaml: "+want)
	}
	var many strings.Builder
	many.WriteString("space: many\nblocks:\n")
	for k := range 16 {
		fmt.Fprintf(&many, "- {name: b%d, operations: [x, y]}\n", k)
		fmt.Fprintf(&many, "- {name: c%d, operations: [x, y], when: {b%d: x}}\n", k, k)
	}
	_, err := ParseFile("x.yaml", []byte(many.String()))
	require.ErrorContains(t, err, "have more than 32768 combinations")
}
