package nn_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/trainer/nn"
)

// checkPlacement requires that tensors that live together do not overlap, and that offsets, peak and bound are
// consistent.
func checkPlacement(t require.TestingT, tensors []nn.Lifetime, align int64) nn.Placement {
	p := nn.Place(tensors, align)
	require.Equal(t, p, nn.Place(tensors, align))
	require.Len(t, p.Offsets, len(tensors))
	var sum, end int64
	for i, a := range tensors {
		require.GreaterOrEqual(t, p.Offsets[i], int64(0))
		require.Zero(t, p.Offsets[i]%align)
		end = max(end, p.Offsets[i]+a.Bytes)
		sum += (a.Bytes + align - 1) / align * align
		for k, b := range tensors[:i] {
			if a.First <= b.Last && b.First <= a.Last && p.Offsets[i] < p.Offsets[k]+b.Bytes &&
				p.Offsets[k] < p.Offsets[i]+a.Bytes {
				require.Fail(t, "overlap", "%+v at %d and %+v at %d", a, p.Offsets[i], b, p.Offsets[k])
			}
		}
	}
	require.LessOrEqual(t, end, p.Peak)
	require.Less(t, p.Peak-end, align)
	require.LessOrEqual(t, p.Live, p.Peak)
	require.LessOrEqual(t, p.Peak, sum)
	return p
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := rapid.SliceOf(rapid.Custom(func(t *rapid.T) nn.Lifetime {
			first := rapid.IntRange(0, 30).Draw(t, "first")
			return nn.Lifetime{Bytes: rapid.Int64Range(0, 1000).Draw(t, "bytes"), First: first,
				Last: rapid.IntRange(first, 40).Draw(t, "last")}
		})).Draw(t, "tensors")
		checkPlacement(t, tensors, rapid.SampledFrom([]int64{1, 16, 256}).Draw(t, "align"))
	})
}

func TestPlace(t *testing.T) {
	require.Equal(t, nn.Placement{Offsets: []int64{}}, nn.Place(nil, 256))
	// The third reuses the first's place; the fourth fits beside it.
	tensors := []nn.Lifetime{
		{Bytes: 100, First: 0, Last: 1}, {Bytes: 60, First: 1, Last: 3}, {Bytes: 50, First: 2, Last: 3},
		{Bytes: 40, First: 2, Last: 2},
	}
	require.Equal(t, nn.Placement{Offsets: []int64{0, 100, 0, 50}, Peak: 160, Live: 160}, nn.Place(tensors, 1))
}

// A tensor goes where it leaves the least room.
func TestPlaceInTheSmallestGap(t *testing.T) {
	tensors := []nn.Lifetime{
		{Bytes: 90, First: 0, Last: 0}, {Bytes: 80, First: 0, Last: 1}, {Bytes: 70, First: 0, Last: 0},
		{Bytes: 60, First: 0, Last: 1},
		{Bytes: 50, First: 1, Last: 1},
	}
	require.Equal(t, nn.Placement{Offsets: []int64{0, 90, 170, 240, 170}, Peak: 300, Live: 300}, nn.Place(tensors, 1))
}
