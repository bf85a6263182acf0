package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchCommand(t *testing.T) {
	code, stdout, stderr := call(nil, "bench", "--filter", "^(pairlist|rank)", "--threads", "1", "--time", "1ms", "--json")
	require.Equal(t, exitOK, code, stderr)
	var d struct {
		Device   string
		Threads  int
		Ceilings map[string]float64
		Results  []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, "cpu", d.Device)
	require.Equal(t, 1, d.Threads)
	require.Len(t, d.Results, 1, "the others need a table")
	for _, key := range []string{"name", "shape", "median_ms", "min_ms", "spread", "gflops", "gbps", "ceiling_share"} {
		require.Contains(t, d.Results[0], key)
	}
	require.Positive(t, d.Ceilings["copy_gbps"])
	require.Positive(t, d.Ceilings["gflops"])
	code, stdout, _ = call(nil, "bench", "--filter", "^rank|adam", "--time", "1ms")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "2 more with --labels")
	require.Regexp(t, `\nname +median ms .* shape\nadam_100000 +[0-9.]+ .* 100,000 weights\n`, stdout)
	code, _, stderr = call(nil, "bench", "--time", "0s")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--time")
	code, _, stderr = call(nil, "bench", "--filter", "(")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--filter")
}
