package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchCommand(t *testing.T) {
	code, stdout, stderr := call(nil, "bench", "--filter", "^(pairs|rank)", "--threads", "1", "--json")
	require.Equal(t, exitOK, code, stderr)
	var d struct {
		Device  string
		Threads int
		Results []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, "cpu", d.Device)
	require.Equal(t, 1, d.Threads)
	require.Len(t, d.Results, 1, "the other one needs a table")
	for _, key := range []string{"name", "shape", "median_ms", "min_ms", "spread", "gflops", "gbps", "ceiling_share"} {
		require.Contains(t, d.Results[0], key)
	}
	code, stdout, _ = call(nil, "bench", "--filter", "^rank")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "1 more with --labels")
	code, _, stderr = call(nil, "bench", "--filter", "(")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--filter")
}
