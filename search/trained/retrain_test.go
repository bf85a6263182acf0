package trained

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// The random architectures are distinct, allowed and not the pick; accuracies are those of the trainings.
func TestCompare(t *testing.T) {
	archs := cells(t, 91)
	seed, allowed := uint64(1), map[space.Arch]bool{}
	for _, a := range archs[10:30] {
		allowed[a] = true
	}
	s := tiny(t, testdata.Images(t), "&seed=7&seeds=2", nil)
	compare := func(random int) (c Comparison) {
		return Comparison{Pick: archs[12], Random: random, Seed: seed, May: func(a space.Arch) bool {
			return allowed[a]
		}}
	}
	r, err := s.Compare(t.Context(), compare(6))
	require.NoError(t, err)
	require.Equal(t, []uint64{7, 8}, r.Seeds)
	require.Equal(t, archs[12].String(), r.Pick.Arch)
	require.Len(t, r.Random, 6)
	seen := map[string]bool{r.Pick.Arch: true}
	beaten := 0
	for _, x := range r.Random {
		a, err := s.Space.Parse(x.Arch)
		require.NoError(t, err)
		require.True(t, allowed[a])
		require.False(t, seen[x.Arch], x.Arch)
		seen[x.Arch] = true
		s.Unseal()
		test, _, err := s.Judge(a)
		require.NoError(t, err)
		require.InDelta(t, test, float64(x.Mean), 1e-12)
		require.Len(t, x.Test, 2)
		require.Positive(t, x.Params)
		if x.Mean < r.Pick.Mean {
			beaten++
		}
	}
	require.Equal(t, beaten, r.Beaten)

	again, err := s.Compare(t.Context(), compare(6))
	require.NoError(t, err)
	require.Equal(t, r, again)
	seed = 2
	other, err := s.Compare(t.Context(), compare(6))
	require.NoError(t, err)
	require.NotEqual(t, r.Random, other.Random)
	_, err = s.Compare(t.Context(), compare(20))
	require.ErrorContains(t, err, "only 19 of 20 random architectures")
}

// The weights of the pick's best training stay, and no others; where they are lost they are made again, the same.
func TestKeptWeights(t *testing.T) {
	pick := cells(t, 91)[12]
	s := tiny(t, testdata.Images(t), "&seed=7&seeds=3", func(c *Config) { c.Keep = pick })
	_, err := s.Compare(t.Context(), Comparison{Pick: pick, Random: 1, Seed: 1,
		May: func(space.Arch) bool { return true }})
	require.NoError(t, err)
	path, err := s.Weights()
	require.NoError(t, err)
	w, err := trainer.OpenWeights(path)
	require.NoError(t, err)
	require.Equal(t, pick.String(), w.Metadata[trainer.ArchKey])
	all, err := filepath.Glob(filepath.Join(s.Cache, "*", "*.safetensors"))
	require.NoError(t, err)
	require.Len(t, all, 3, "of the pick alone, by seed")
	records, err := s.Records(pick)
	require.NoError(t, err)
	for _, r := range records {
		got, of := last(r), s.cache.weights(r.Key)
		for _, other := range records {
			if of == path {
				require.GreaterOrEqual(t, got, last(other))
			}
		}
	}

	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	again := s.Fresh().(*Source)
	_, err = again.Label(t.Context(), []space.Arch{pick})
	require.NoError(t, err)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func last(r *Record) float64 { return r.Validation[len(r.Validation)-1] }
