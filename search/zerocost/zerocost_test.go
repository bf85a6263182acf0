package zerocost_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/zerocost"
)

func open(t *testing.T, name, text string) (*labels.Labels, error) {
	t.Helper()
	sp, err := space.Open(name)
	require.NoError(t, err)
	return labels.Open(t.Context(), text, sp, labels.Options{})
}

// Scores are in the order of what is counted, within 0..1, and everything that says what they are says that nobody
// measured them.
func TestScoresAreInTheOrderOfCosts(t *testing.T) {
	t.Parallel()
	for text, cost := range map[string]func(space.Cost) int64{
		"zero-cost:params": func(c space.Cost) int64 { return c.Params },
		"zero-cost:madds":  func(c space.Cost) int64 { return c.MAdds },
	} {
		for _, name := range []string{"nasbench101", "mobilenetv3", "darts"} {
			l, err := open(t, name, text)
			require.NoError(t, err)
			stream := philox.New(1, philox.PurposeTest, 0)
			var archs []space.Arch
			for range 50 {
				archs = append(archs, l.Space.Sample(stream))
			}
			scores, err := l.Source.Label(t.Context(), archs)
			require.NoError(t, err)
			for i, a := range archs {
				require.True(t, l.Source.Has(a))
				require.True(t, scores[i] > 0 && scores[i] < 1, scores[i])
				b := archs[(i+1)%len(archs)]
				require.Equal(t, cost(a.Cost()) < cost(b.Cost()), scores[i] < scores[(i+1)%len(archs)], "%v, %v", a, b)
			}
			facts := l.Source.Facts()
			require.True(t, facts.Predicted())
			require.Equal(t, "zero-cost proxy score of "+text, facts.String())
			require.Contains(t, l.Source.Describe(), "no network is trained, no accuracy measured or predicted")
		}
	}
}

func TestWhatNobodyKnowsHasNoScore(t *testing.T) {
	t.Parallel()
	_, err := open(t, "nasbench101", "zero-cost:synflow")
	require.ErrorContains(t, err, `unknown proxy "synflow"; known: params, madds`)
	path := filepath.Join(t.TempDir(), "s.yaml")
	require.NoError(t, os.WriteFile(path, []byte("space: s\noperations: [a, b]\nblocks: [{name: x}, {name: y}]\n"),
		0o644))
	_, err = open(t, "file:"+path, "zero-cost:params")
	require.ErrorContains(t, err, "nothing says what architectures of s cost")
	sp, err := space.Open("file:" + path)
	require.NoError(t, err)
	a := sp.Sample(philox.New(1, philox.PurposeTest, 0))
	require.False(t, zerocost.Source{}.Has(a))
	_, err = zerocost.Source{}.Label(t.Context(), []space.Arch{a})
	require.ErrorIs(t, err, ledger.ErrNoLabel)
}
