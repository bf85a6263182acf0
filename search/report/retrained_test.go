package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRetrained(t *testing.T) {
	dir := t.TempDir()
	sampleRun(t, dir)
	d, err := Load(dir)
	require.NoError(t, err)
	require.Nil(t, d.Retrained)
	labelled := d.Result.Architectures
	r := Retrained{Labels: "trained on <shapes>", Seeds: []uint64{2, 3},
		Pick: Retraining{Arch: d.Result.Pick, Test: []float64{0.7, 0.8}},
		Random: []Retraining{{Arch: labelled[0].Arch, Test: []float64{0.5, 0.5}},
			{Arch: labelled[1].Arch, Test: []float64{0.9, 0.8}}, {Arch: labelled[2].Arch, Test: []float64{0.75, 0.75}}}}
	r.Summarise()
	require.Equal(t, 1, r.Beaten, "an equal one is not beaten")
	require.InDeltaSlice(t, []float64{0.75, 0.05 * 1.4142135623730951, 0.7, 0.18027756377319948, 0.85},
		[]float64{float64(r.Pick.Mean), float64(r.Pick.SD), float64(r.Mean), float64(r.SD), float64(r.Best)}, 1e-12)
	require.Equal(t, "The pick reaches 75.00 ± 7.07 % test accuracy (2 seeds); 3 random architectures that the "+
		"search had not labelled reach 70.00 ± 18.03 %, the best of them 85.00 %. "+
		"The pick is above 1 of them. (Means; ± is the standard deviation, for the pick between seeds, for the "+
		"others between architectures.)", r.Verdict())
	text, err := json.Marshal(r)
	require.NoError(t, err)
	path := filepath.Join(dir, RetrainedName)
	require.NoError(t, os.WriteFile(path, text, 0o644))
	d, err = Load(dir)
	require.NoError(t, err)
	require.Equal(t, &r, d.Retrained)
	require.NoError(t, d.Write(dir))
	page, err := os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	for _, part := range []string{"Beside random architectures", "trained on &lt;shapes&gt;", "75.00 %", "85.00 %"} {
		require.Contains(t, string(page), part)
	}
	require.Equal(t, 2, strings.Count(string(page), `class="picked"`))

	one := Retrained{Pick: Retraining{Test: []float64{0.5}}, Random: []Retraining{{Test: []float64{0.4}}}}
	one.Summarise()
	text, err = json.Marshal(one)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(text), `sd":null`), "one value has no spread: it is not 0")
	require.Contains(t, one.Verdict(), "reaches 50.00 % test accuracy")
	require.NotContains(t, one.Verdict(), "± 0.00")
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o644))
	d, err = Load(dir)
	require.NoError(t, err)
	require.Nil(t, d.Retrained)
	require.Contains(t, d.Spoiled[0], RetrainedName)
}
