package philox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The known answers of the generator's authors (Random123, kat_vectors, philox4x32 10 rounds).
func TestBlockKnownAnswers(t *testing.T) {
	require.Equal(t, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, Block([4]uint32{}, 0, 0))
	f := uint32(0xffffffff)
	require.Equal(t, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}, Block([4]uint32{f, f, f, f}, f, f))
	require.Equal(t, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		Block([4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0))
}

func TestStreamIsAFunctionOfItsKey(t *testing.T) {
	a, b := New(7, PurposeTest, 3), New(7, PurposeTest, 3)
	other := New(7, PurposeTest, 4)
	same := 0
	for range 1000 {
		x := a.Uint32()
		require.Equal(t, x, b.Uint32())
		if x == other.Uint32() {
			same++
		}
	}
	require.Less(t, same, 3)
}

func TestFromStartsInsideAStep(t *testing.T) {
	whole, part := New(7, PurposeTest, 3), Key{7, PurposeTest}.From(3, 5)
	for range 5 * 4 {
		whole.Uint32()
	}
	for range 100 {
		require.Equal(t, whole.Uint32(), part.Uint32())
	}
}

func TestIntnAndPerm(t *testing.T) {
	s := New(1, PurposeTest, 0)
	var seen [7]int
	for range 70000 {
		seen[s.Intn(7)]++
	}
	for _, c := range seen {
		require.InDelta(t, 10000, c, 500)
	}
	p := s.Perm(100)
	hit := make([]bool, 100)
	for _, v := range p {
		require.False(t, hit[v])
		hit[v] = true
	}
	require.Panics(t, func() { s.Intn(0) })
}

func TestNormal(t *testing.T) {
	s := New(2, PurposeTest, 0)
	var sum, square float64
	const n = 100000
	for range n {
		v := s.NormFloat64()
		sum += v
		square += v * v
	}
	require.InDelta(t, 0, sum/n, 0.02)
	require.InDelta(t, 1, square/n, 0.03)
}
