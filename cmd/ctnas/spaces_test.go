package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
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
		require.LessOrEqual(t, *x.MAdds, int64(40e6))
		require.Positive(t, *x.MAdds, "the table says it")
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
	require.Equal(t, "p.f32", d.Predictor)
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	for _, m := range d.Methods {
		require.Equal(t, 24, m.Labels, m.Method)
		require.True(t, math.IsNaN(float64(m.Rank.Mean)))
		require.Nil(t, m.Paper, "the paper's rows are of NAS-Bench-101")
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

// A number that is predicted is called a predicted score, with the predictor's name, wherever it stands, and never an
// accuracy.
func TestPredictedScoresAreNoAccuracies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	line := []string{"search", "--space", "mobilenetv3", "--labels", "predictor:" + randomPredictor(t), "--max-madds",
		"300M", "--budget", "20", "--init", "10",
		"--per-round", "10", "--members", "1", "--steps", "5", "--iterations", "5", "--batch", "8", "--pool", "32", "--mutations", "8", "--generations", "1", "--pareto"}
	code, stdout, stderr := call(nil, append(line, "--out", dir)...)
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `(?m)^predicted score +0\.\d{6} \(of p\.f32; no accuracy was measured\)$`, stdout)
	require.NotRegexp(t, `(?m)^accuracy`, stdout)
	require.NotContains(t, stdout, "%")
	require.Contains(t, stdout, "front            predicted score 0.")
	require.Contains(t, stderr, "20 of 20 labels, best predicted score 0.")
	require.NotContains(t, stderr, "%")
	text, err := os.ReadFile(filepath.Join(dir, report.ResultName))
	require.NoError(t, err)
	var result report.Result
	require.NoError(t, json.Unmarshal(text, &result))
	require.Equal(t, "p.f32", result.Predictor)
	for _, x := range result.Architectures {
		require.Equal(t, x.Accuracy != nil, x.Predicted)
		if x.Predicted {
			require.Equal(t, "predicted score of p.f32", x.AccuracySource)
		}
	}
	ledger, err := os.ReadFile(filepath.Join(dir, report.LedgerName))
	require.NoError(t, err)
	require.Equal(t, 20, strings.Count(string(ledger), `"metric":"predicted score","predictor":"p.f32"`))
	log, err := os.ReadFile(filepath.Join(dir, report.LogName))
	require.NoError(t, err)
	require.Contains(t, string(log), `"best_predicted_score":0.`)
	require.NotContains(t, string(log), `"best":`)
	page, err := os.ReadFile(filepath.Join(dir, report.PageName))
	require.NoError(t, err)
	for _, part := range []string{"Predicted score of the pick", `<th class="number">Predicted score</th>`,
		"Predicted score against cost", "no accuracy was measured"} {
		require.Contains(t, string(page), part)
	}
	require.NotContains(t, string(page), ">Accuracy<")
	require.NotRegexp(t, `\d %</(td|b|dd)>`, strings.ReplaceAll(string(page), "What it cost", ""))

	line = append([]string{"compare", "--space", "mobilenetv3", "--labels", "predictor:" + randomPredictor(t),
		"--methods", "random", "--budget", "12", "--seeds", "2"}, quickly...)
	code, stdout, stderr = call(nil, line...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "best predicted score")
	require.NotContains(t, stdout, "accuracy %")
	require.Contains(t, stderr, "random, seed 0: predicted score 0.")
}

// Costs that neither the space's file nor a table says are unknown: on the terminal, in JSON, for limits and for
// fronts.
func TestUnknownCostsAreUnknown(t *testing.T) {
	arch := "blocks:conv3x3|k3e3|k3e3|skip"
	dir := t.TempDir()
	sheet, err := os.ReadFile(examples + "blocks.yaml")
	require.NoError(t, err)
	path := filepath.Join(dir, "mine.yaml")
	require.NoError(t, os.WriteFile(path, append(sheet, "# without a table\n"...), 0o600))
	code, stdout, stderr := call(nil, "space", "show", "file:"+path, arch)
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `(?m)^MAdds +unknown$`, stdout)
	code, stdout, _ = call(nil, "space", "sample", "file:"+path, "--json")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, `"madds": null,`)
	require.Contains(t, stdout, `"params": null`)

	table, err := os.ReadFile(examples + "blocks.csv")
	require.NoError(t, err)
	var bare strings.Builder // the same table without its costs
	for i, line := range strings.Split(strings.TrimSpace(string(table)), "\n") {
		cells := strings.Split(line, ",")
		if i == 0 {
			require.Equal(t, []string{"arch", "test_accuracy"}, cells[:2])
		}
		bare.WriteString(strings.Join(cells[:2], ",") + "\n")
	}
	labels := filepath.Join(dir, "bare.csv")
	require.NoError(t, os.WriteFile(labels, []byte(bare.String()), 0o600))
	line := []string{"search", "--space", "file:" + path, "--labels", "table:" + labels, "--budget", "20", "--init",
		"10", "--per-round", "10", "--members", "1", "--steps", "5",
		"--iterations", "5", "--batch", "8", "--pool", "32"}
	out := filepath.Join(dir, "run")
	code, stdout, stderr = call(nil, append(line, "--out", out)...)
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `(?m)^MAdds +unknown$`, stdout)
	require.Regexp(t, `(?m)^parameters +unknown$`, stdout)
	text, err := os.ReadFile(filepath.Join(out, report.ResultName))
	require.NoError(t, err)
	require.Contains(t, string(text), `"madds": null,`)
	require.Contains(t, string(text), `"pareto": []`)
	page, err := os.ReadFile(filepath.Join(out, report.PageName))
	require.NoError(t, err)
	require.Contains(t, string(page), "<span>Multiply-adds</span><b>unknown</b>")
	require.NotContains(t, string(page), "against cost", "nothing stands at a cost of 0")
	code, _, stderr = call(nil, append(line, "--max-madds", "1G", "--out", filepath.Join(dir, "limited"))...)
	require.NotEqual(t, exitOK, code)
	require.Contains(t, stderr, "not known")
	code, _, stderr = call(nil, append(line, "--method", "random", "--max-madds", "1G", "--out",
		filepath.Join(dir, "limited too"))...)
	require.NotEqual(t, exitOK, code)
	require.Contains(t, stderr, "not known")
}

func shortFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "short.f32")
	require.NoError(t, os.WriteFile(path, []byte("abc"), 0o600))
	return path
}
