package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer"
)

// supernetPage is the page of a result.
func supernetPage(t *testing.T, r trainer.SupernetResult) string {
	dir := t.TempDir()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ResultName), text, 0o644))
	require.NoError(t, WriteSupernet(dir))
	page, err := os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	return string(page)
}

// A supernet's page says how often each choice was trained, where that is known.
func TestSupernetPageOfFairness(t *testing.T) {
	const heading = "How often each choice was trained"
	require.NotContains(t, supernetPage(t, trainer.SupernetResult{Method: "sandwich"}), heading)
	page := supernetPage(t, trainer.SupernetResult{Method: "spos", Fairness: []trainer.Fairness{
		{Decision: "vertex1", Choices: []string{"conv3x3", "<b>"}, Paths: []int64{1234, 0}, Least: 0, Most: 1234}}})
	require.Contains(t, page, heading)
	require.Contains(t, strings.Join(strings.Fields(page), " "), `<td>vertex1</td><td>conv3x3 1,234, &lt;b&gt; 0</td>`+
		`<td class="number">0</td><td class="number">1,234</td>`)
}

// A mixture's page draws the weights of every decision, and tells what they stand for.
func TestSupernetPageOfMixture(t *testing.T) {
	const heading = "Weights of the choices over the epochs"
	require.NotContains(t, supernetPage(t, trainer.SupernetResult{Method: "spos"}), heading)
	r := trainer.SupernetResult{Method: "darts", Mixture: &trainer.MixtureResult{Derived: "the <pick>",
		Rows: []trainer.MixtureRow{{Name: "edge1", Choices: []string{"none", "skip"}},
			{Name: "edge2", Choices: []string{"only"}}},
		Epochs: []trainer.MixtureWeights{{Epoch: 1, Weights: [][]float32{{0.5, 0.5}, {1}}},
			{Epoch: 2, Weights: [][]float32{{0.25, 0.75}, {1}}}}}}
	page := supernetPage(t, r)
	require.Contains(t, page, heading)
	require.Contains(t, page, "<code>the &lt;pick&gt;</code>")
	require.Contains(t, page, "<h3>edge1</h3>")
	require.Contains(t, page, "<h3>edge2</h3>")
	require.Equal(t, 2, strings.Count(page, "weight</text>"))
	r.Mixture.Epochs[1].Weights = [][]float32{{1}} // a damaged result is no reason to fail
	require.Contains(t, supernetPage(t, r), "<h3>edge2</h3>")
}
