package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

const examples = "../../docs/examples/"

// A space that the program has never seen works from its file and a table alone, and its folder without the file.
func TestSearchOfAFile(t *testing.T) {
	sheet, err := os.ReadFile(examples + "blocks.yaml")
	require.NoError(t, err)
	dir := t.TempDir()
	path, out := filepath.Join(dir, "mine.yaml"), filepath.Join(dir, "run")
	require.NoError(t, os.WriteFile(path, sheet, 0o600))
	code, stdout, stderr := call(nil, "search", "--space", "file:"+path, "--labels", "table:"+examples+"blocks.csv", "--budget", "30", "--init", "15", "--per-round", "15",
		"--members", "1", "--steps", "10", "--iterations", "5", "--batch", "8", "--pool", "32", "--max-madds", "40M", "--pareto", "--out", out, "--json")
	require.Equal(t, exitOK, code, stderr)
	var result report.Result
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Equal(t, "blocks", result.Space)
	require.Equal(t, 30, result.LabelsUsed)
	require.NotEmpty(t, result.Pareto)
	for _, x := range result.Architectures {
		require.LessOrEqual(t, x.MAdds, int64(40e6))
		require.Positive(t, x.MAdds, "the table says it")
	}
	require.NoError(t, os.Remove(path))
	before, err := os.ReadFile(filepath.Join(out, report.PageName))
	require.NoError(t, err)
	code, _, stderr = call(nil, "report", out)
	require.Equal(t, exitOK, code, stderr)
	after, err := os.ReadFile(filepath.Join(out, report.PageName))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	require.Contains(t, string(after), "stage1.1 k5e6")

	code, _, stderr = call(nil, "search", "--space", "file:"+path, "--labels", "table:"+examples+"blocks.csv")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "mine.yaml")
}

// randomPredictor writes a predictor with random weights.
func randomPredictor(t *testing.T) string {
	t.Helper()
	s := philox.New(4, philox.PurposeTest, 0)
	var data []byte
	for i := range 1491204 / 4 {
		v := 0.05 * s.NormFloat64()
		if i == 1491204/4-1 { // the last bias: accuracies lie about it
			v = 0.8
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
	}
	path := filepath.Join(t.TempDir(), "p.f32")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// Methods meet at equal labels, all of them within the limit, and nothing is ranked; a run that is resumed ends the same.
func TestCompareWithPredictor(t *testing.T) {
	labels := "predictor:" + randomPredictor(t)
	line := append([]string{"compare", "--space", "mobilenetv3@w1.2", "--labels", labels, "--max-madds", "300M", "--budget", "24", "--seeds", "1", "--methods",
		"random,evolution,ofa,renas,ctnas", "--json", "--set", "generations=2"}, quickly...)
	code, stdout, stderr := call(nil, line...)
	require.Equal(t, exitOK, code, stderr)
	var d compareDocument
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Len(t, d.Methods, 5)
	require.Empty(t, d.Paper)
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	for _, m := range d.Methods {
		require.Equal(t, 24, m.Labels, m.Method)
		require.True(t, math.IsNaN(float64(m.Rank.Mean)))
		a, err := sp.Parse(m.Runs[0].Arch)
		require.NoError(t, err)
		require.LessOrEqual(t, a.Cost().MAdds, int64(300e6), m.Method)
	}
	for line, want := range map[string][]string{
		"knows networks of":                        {"search", "--space", "darts", "--labels", labels},
		"3 bytes are not the accuracy predictor's": {"search", "--space", "mobilenetv3", "--labels", "predictor:" + shortFile(t)},
		"loosen": {"search", "--space", "mobilenetv3", "--labels", labels, "--max-madds", "100M", "--out", filepath.Join(t.TempDir(), "x")},
	} {
		code, _, stderr := call(nil, want...)
		require.NotEqual(t, exitOK, code)
		require.Contains(t, stderr, line)
	}
}

func shortFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "short.f32")
	require.NoError(t, os.WriteFile(path, []byte("abc"), 0o600))
	return path
}
