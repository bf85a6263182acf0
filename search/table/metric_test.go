package table

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

// A metric of any size is seen and judged in the place of accuracy, less or more being better.
func TestAnotherMetric(t *testing.T) {
	sp, err := space.ParseFile("tiny", []byte("space: tiny\nblocks:\n- {name: a, operations: [x, y, z]}\n"))
	require.NoError(t, err)
	open := func(text string, also ...string) (*Table, error) {
		return Read(context.Background(), "t.csv", []byte(text), Options{Space: sp, Also: also})
	}
	table, err := open("a,Perplexity,latency_ms,accuracy\nx,25.5,-3,0.5\ny,20,,0.7\nz,25.5,1e9,0.6\n", "perplexity",
		"latency_ms")
	require.NoError(t, err)
	for minimize, best := range map[bool]string{true: "tiny:y", false: "tiny:x"} {
		v, err := table.View(Query{Metric: "perplexity", Minimize: minimize})
		require.NoError(t, err)
		require.False(t, v.Sealed())
		i, value, err := v.Best()
		require.NoError(t, err)
		if minimize {
			require.Equal(t, best, table.Arch(i).String())
			require.Equal(t, 20.0, value)
		} else {
			require.Equal(t, 25.5, value)
		}
		ranks := map[string]int{}
		for _, row := range v.Cells() {
			ranks[table.Arch(row).String()], err = v.Rank(row)
			require.NoError(t, err)
		}
		if minimize {
			require.Equal(t, map[string]int{"tiny:y": 1, "tiny:x": 2, "tiny:z": 2}, ranks)
			require.Contains(t, v.Describe(), "perplexity, of which less is better")
		} else {
			require.Equal(t, map[string]int{"tiny:y": 3, "tiny:x": 1, "tiny:z": 1}, ranks)
			require.Contains(t, v.Describe(), "perplexity, of which more is better")
		}
	}
	latency, err := table.Other("latency_ms")
	require.NoError(t, err)
	x, err := sp.Parse("x")
	require.NoError(t, err)
	i, _ := table.Index(x)
	require.Equal(t, -3.0, latency(i))
	_, err = table.Other("memory")
	require.ErrorContains(t, err, "t.csv has no memory")
	// Accuracy is what it was beside them.
	v, err := table.View(Query{})
	require.NoError(t, err)
	require.Equal(t, 0.5, v.Seen(i))
	_, err = table.View(Query{Metric: "perplexity", Split: "test"})
	require.ErrorContains(t, err, "perplexity has not")
	_, err = open("a,accuracy\nx,0.5\n", "perplexity")
	require.ErrorContains(t, err, `no column "perplexity"`)
	_, err = open("a,perplexity\nx,1e400\n", "perplexity")
	require.Error(t, err)
	bare, err := open("a,perplexity\nx,\ny,3\n", "perplexity")
	require.NoError(t, err)
	_, err = bare.View(Query{Metric: "perplexity"})
	require.ErrorContains(t, err, "1 of 2 architectures lack perplexity")
}
