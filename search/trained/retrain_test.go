package trained

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/space"
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
