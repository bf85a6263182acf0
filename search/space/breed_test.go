package space

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// A mutant and a cross are of the space, and decisions come from the parents.
func TestChildren(t *testing.T) {
	for _, name := range []string{"nasbench101", "nasbench101-v5", "spos"} {
		sp, err := Open(name)
		require.NoError(t, err)
		s := philox.New(1, philox.PurposeTest, 0)
		same, other := 0, 0
		for range 100 {
			a, b := sp.Sample(s), sp.Sample(s)
			m, err := redraw(sp, a, s)
			require.NoError(t, err)
			if m == a {
				same++
			}
			x, err := cross(sp, a, b, s)
			require.NoError(t, err)
			if x != a && x != b {
				other++
			}
			self, err := cross(sp, a, a, s)
			require.NoError(t, err)
			require.Equal(t, a, self)
			_, err = sp.Encode(x)
			require.NoError(t, err)
		}
		require.Less(t, same, 90, name)
		require.Positive(t, other, name)
	}
}

// Children are distinct and such as may be, half of each kind where both are found, and fewer where there are no more.
func TestBreed(t *testing.T) {
	sp := NASBench101{Vertices: 4}
	s := philox.New(2, philox.PurposeTest, 0)
	parents := []Arch{sp.Sample(s), sp.Sample(s), sp.Sample(s)}
	may := func(a Arch) bool { return a != parents[0] && a != parents[1] && a != parents[2] }
	children, err := Breed(sp, parents, 10, s, may)
	require.NoError(t, err)
	require.Len(t, children, 10)
	seen := map[Arch]bool{}
	for _, a := range children {
		require.True(t, may(a))
		require.False(t, seen[a])
		seen[a] = true
	}
	children, err = Breed(sp, parents, 200, s, func(a Arch) bool { return a.(Cell).Vertices() < 4 })
	require.NoError(t, err)
	require.LessOrEqual(t, len(children), 7)
}
