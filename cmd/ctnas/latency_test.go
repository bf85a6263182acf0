package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// timesByHand writes a table of a space's parts: 0.1 ms each, more for larger numbers at the end of their names.
func timesByHand(t *testing.T, name string) string {
	t.Helper()
	sp, err := space.Open(name)
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString("part,ms\n")
	for _, p := range sp.(space.Composed).Parts() {
		ms := 0.1
		if digit := p[len(p)-1]; digit > '0' && digit <= '9' {
			ms *= float64(digit - '0')
		}
		fmt.Fprintf(&b, "%s,%.3f\n", p, ms)
	}
	path := filepath.Join(t.TempDir(), "times.csv")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

// The smallest networks there are, a round: every part is there, the table is whole, and its sums are said.
func TestLatencyMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("sets up eleven networks")
	}
	path := filepath.Join(t.TempDir(), "t.csv")
	code, stdout, stderr := call(nil, "latency", "measure", "--space", "mobilenetv3@w1.0,r32", "--device", "cpu", "-o", path, "--repeats", "1", "--time", "0s", "--networks", "2", "--json")
	require.Equal(t, exitOK, code, stderr)
	var d latencyDocument
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.True(t, d.Signed)
	require.Len(t, d.Parts, 92)
	require.Equal(t, 2, d.Error.Networks)
	arch := "mobilenetv3:22222:33003300330033003300:33003300330033003300@w1.0,r32"
	code, stdout, stderr = call(nil, "latency", "info", path, "--space", "mobilenetv3@w1.0,r32", arch)
	require.Equal(t, exitOK, code, stderr)
	for _, want := range []string{"space ", "batch ", "error of sums ", "slowest ", "latency ", "parts "} {
		require.Contains(t, stdout, want)
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), ",9", ",1", 1)), 0o600))
	code, _, stderr = call(nil, "latency", "info", path)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "the table was changed")
}

// Quartiles that a table does not say are unknown, not a spread of 0.
func TestLatencyOfATableByHand(t *testing.T) {
	code, stdout, stderr := call(nil, "latency", "info", examples+"blocks-latency.csv")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "(quartiles unknown)")
	code, stdout, stderr = call(nil, "latency", "info", examples+"blocks-latency.csv", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, `"q1_ms": null`)
	require.Contains(t, stdout, `"samples": null`)
	require.NotContains(t, stdout, `"samples": 0`)
}

func TestLatencyMistakes(t *testing.T) {
	mobile, chain := timesByHand(t, "mobilenetv3"), timesByHand(t, "file:"+examples+"blocks.yaml")
	labels := "table:" + examples + "blocks.csv"
	for want, c := range map[string]struct {
		code int
		line []string
	}{
		"blocks of mobilenetv3, nasbench201 only": {exitUsage, []string{"latency", "measure", "--space", "darts", "-o", "x.csv"}},
		`"out" not set`:             {exitUsage, []string{"latency", "measure"}},
		"--repeats 0":               {exitUsage, []string{"latency", "measure", "-o", "x.csv", "--repeats", "0"}},
		"a folder":                  {exitUsage, []string{"latency", "measure", "-o", t.TempDir()}},
		"no such file or directory": {exitUsage, []string{"latency", "measure", "-o", filepath.Join(t.TempDir(), "none", "x.csv")}},
		"and no --space":            {exitUsage, []string{"latency", "info", mobile, "mobilenetv3:x"}},
		"parts of mobilenetv3@w1.2,r224 are missing": {exitFailed, []string{"latency", "info", mobile, "--space", "mobilenetv3@w1.2"}},
		"of which the times are":                     {exitFailed, []string{"latency", "info", mobile, "--space", "mobilenetv3", "mobilenetv3:22222:33003300330033003300:33003300330033003300@w1.2,r224"}},
		"say with --latency FILE":                    {exitUsage, []string{"search", "--labels", labels, "--max-latency", "12ms"}},
		"--pareto-cost latency: say":                 {exitUsage, []string{"search", "--labels", labels, "--pareto-cost", "latency"}},
		`"12h" is not a time`:                        {exitUsage, []string{"search", "--labels", labels, "--max-latency", "12h"}},
		"--max-latency: say with":                    {exitUsage, []string{"compare", "--labels", labels, "--max-latency", "12", "--budget", "20"}},
		"parts of blocks are missing: fixed": {exitFailed, []string{"search", "--space", "file:" + examples + "blocks.yaml", "--labels", labels, "--latency", mobile, "--out",
			filepath.Join(t.TempDir(), "a")}},
		"no sum over parts": {exitFailed, []string{"search", "--labels", "table:" + searchTable(t), "--latency", chain, "--out", filepath.Join(t.TempDir(), "b")}},
	} {
		code, stdout, stderr := call(nil, c.line...)
		require.Equal(t, c.code, code, stderr)
		require.Contains(t, stderr, want)
		require.Empty(t, stdout)
	}
}

// A space from a file with a table by hand: limit, front, report, and a resume without the table's file.
func TestSearchWithLatencies(t *testing.T) {
	sheet := "file:" + examples + "blocks.yaml"
	table := timesByHand(t, sheet)
	for _, method := range []string{"ctnas", "evolution"} {
		out := filepath.Join(t.TempDir(), "run")
		code, stdout, stderr := call(nil, "search", "--space", sheet, "--labels", "table:"+examples+"blocks.csv", "--method", method, "--budget", "30", "--init", "15",
			"--per-round", "15", "--members", "1", "--steps", "10", "--iterations", "5", "--batch", "8", "--pool", "32", "--latency", table, "--max-latency", "1500us",
			"--pareto", "--pareto-cost", "latency", "--out", out)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stderr, "unsigned")
		require.Contains(t, stdout, "ms, the sum of its parts")
		require.Regexp(t, `front .* parameters, \d\.\d+ ms: blocks:`, stdout)
		text, err := os.ReadFile(filepath.Join(out, report.ResultName))
		require.NoError(t, err)
		var result report.Result
		require.NoError(t, json.Unmarshal(text, &result))
		require.Equal(t, space.CostLatency, result.ParetoCost)
		for _, x := range result.Architectures {
			require.LessOrEqual(t, *x.LatencyMS, 1.5)
		}
		code, _, stderr = call(nil, "report", out)
		require.Equal(t, exitOK, code, stderr)
		page, err := os.ReadFile(filepath.Join(out, report.PageName))
		require.NoError(t, err)
		require.Contains(t, string(page), "latency in ms")
		if method != "ctnas" {
			continue
		}
		require.NoError(t, os.Rename(table, table+".away"))
		code, _, stderr = call(nil, "search", "--resume", out)
		require.Equal(t, exitOK, code, stderr)
		after, err := os.ReadFile(filepath.Join(out, report.ResultName))
		require.NoError(t, err)
		require.Equal(t, string(text), string(after))
		require.NoError(t, os.WriteFile(filepath.Join(out, report.LatencyName), []byte(strings.Replace(timesText(t, table+".away"), "0.1", "0.2", 1)), 0o600))
		code, _, stderr = call(nil, "search", "--resume", out) // it has ended: what it stood on is not asked for any more
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stderr, "is a finished search: nothing was changed")
		require.NoError(t, os.Remove(filepath.Join(out, report.ResultName)))
		code, _, stderr = call(nil, "search", "--resume", out)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "cannot be resumed")
		require.NoError(t, os.Rename(table+".away", table))
	}
}

func timesText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// Every method keeps to the limit, and a comparison says the latencies of its picks.
func TestCompareWithinALatency(t *testing.T) {
	table := timesByHand(t, "mobilenetv3")
	line := append([]string{"compare", "--space", "mobilenetv3", "--labels", "predictor:" + randomPredictor(t), "--latency", table, "--max-latency", "4.5", "--budget", "20",
		"--seeds", "1", "--methods", "random,evolution,ofa,ctnas", "--json", "--set", "generations=2"}, quickly...)
	code, stdout, stderr := call(nil, line...)
	require.Equal(t, exitOK, code, stderr)
	var d compareDocument
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Len(t, d.Methods, 4)
	for _, m := range d.Methods {
		require.LessOrEqual(t, *m.Runs[0].LatencyMS, 4.5)
		require.Positive(t, *m.Runs[0].LatencyMS)
	}
}

func TestMilliseconds(t *testing.T) {
	for text, want := range map[string]float64{"12": 12, "12ms": 12, "0.5": 0.5, "800us": 0.8, " 1s": 1000, "0": 0} {
		var v millisecondsValue
		require.NoError(t, v.Set(text))
		require.Equal(t, want, float64(v))
		var again millisecondsValue
		require.NoError(t, again.Set(v.String()))
		require.Equal(t, v, again)
	}
	for _, text := range []string{"", "x", "-1", "-1ms", "NaN", "Inf", "1e9", "0x5", "2h"} {
		require.Error(t, new(millisecondsValue).Set(text), text)
	}
}
