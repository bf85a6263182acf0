package space

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Choices may be whole numbers with costs of each one more, and texts may name their places.
func TestIntegersAndNames(t *testing.T) {
	sp, err := ParseFile("n", []byte("space: n\nfixed: {madds: 5, params: 2}\nblocks:\n"+
		"- {name: width, operations: {from: 16, to: 64, step: 16, madds: 1K, params: 10}}\n"+
		"- {name: act, operations: [{name: relu, madds: 1, params: 0}, {name: gelu, madds: 4, params: 0}]}\n"+
		"- {name: depth, operations: {from: 0, to: 2, madds: 0, params: 0}, repeat: [1, 2]}\n"))
	require.NoError(t, err)
	n, exact := Count(sp)
	require.True(t, exact)
	require.EqualValues(t, 4*2*(3+9), n.Int64())
	a, err := sp.Parse("48|gelu|2+0")
	require.NoError(t, err)
	require.Equal(t, Cost{48000 + 4 + 5, 480 + 2}, a.Cost())
	for _, text := range []string{"width=48|act=gelu|depth=2+0", "n:depth = 2+0|width=48|act= gelu"} {
		b, err := sp.Parse(text)
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
	for text, want := range map[string]string{
		"width=48|gelu|depth=2":         "does not say at which place",
		"width=48|act=gelu":             "depth is not said",
		"width=48|act=gelu|width=16":    "width is said twice",
		"width=48|act=gelu|depth=1|x=1": "is no place of n",
		"width=40|act=gelu|depth=1":     `"40" is no choice at width`,
		"width=48|act=gelu|depth=1|":    "does not say",
	} {
		_, err := sp.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		"{from: 16}":                        "line 3: operations: to is missing",
		"{from: 3, to: 2}":                  "want 1 to 250",
		"{from: 0, to: 250}":                "want 1 to 250",
		"{from: 0, to: 4, step: 0}":         "want 1 to 250",
		"{from: -1, to: 4}":                 "not negative",
		"{from: 0.5, to: 4}":                "whole number",
		"{from: 0, to: 4, by: 2}":           "unknown key",
		"{from: 1, to: 4, madds: 1000000G}": "too large",
		"{from: 1, to: [4]}":                "whole number",
	} {
		_, err := ParseFile("n", []byte("space: n\nblocks:\n- {name: a, operations: "+text+"}\n"))
		require.ErrorContains(t, err, want, text)
	}
}
