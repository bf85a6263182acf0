package data_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/data"
)

// What torch 2.15.0 gives: torch.randperm(n, generator=torch.Generator().manual_seed(seed)), its first and last numbers
// and the beginning of the SHA-256 of all of them as little-endian 32-bit integers.
func TestRandPermIsTorchs(t *testing.T) {
	for _, c := range []struct {
		n           int
		seed        uint64
		first, last []int32
		sum         string
	}{
		{0, 1, []int32{}, []int32{}, "e3b0c44298fc1c14"},
		{1, 1, []int32{0}, []int32{0}, "df3f619804a92fdb"},
		{2, 1, []int32{1, 0}, []int32{1, 0}, "7c9fa136d4413fa6"},
		{2, 3, []int32{0, 1}, []int32{0, 1}, "01acecb507abfe1a"},
		{10, 0, []int32{4, 1, 7, 5, 3}, []int32{8, 6, 2}, "fdf6acceb49ea7dd"},
		{10, 1<<32 + 7, []int32{5, 0, 3, 4, 1}, []int32{6, 8, 2}, "e69634a7bf0e341f"},
		{10, 1<<63 + 5, []int32{1, 4, 9, 6, 3}, []int32{2, 8, 7}, "a153bed30475c401"},
		{625, 12345, []int32{65, 406, 502, 566, 247}, []int32{51, 148, 522}, "a6b6011a860a2c84"},
		{1000, 2147483647, []int32{31, 378, 137, 590, 573}, []int32{645, 703, 405}, "6ca37aee8521a4dc"},
		{50_000, 937162211, []int32{33381, 47914, 36762, 7494, 3534}, []int32{33300, 9771, 4152}, "b08dac1e01264e81"},
		{1281167, data.HeldOutSeed, []int32{1023925, 462055, 496986, 493287, 360050},
			[]int32{1160228, 404412, 1099756}, "7919d954b143617d"},
		{1281167, data.CalibrationSeed, []int32{925741, 825791, 779019, 1075681, 712784},
			[]int32{12056, 876059, 1252081}, "99be32ae9ef25338"},
	} {
		got := data.RandPerm(c.n, c.seed)
		require.Len(t, got, c.n)
		require.Equal(t, c.first, got[:min(5, c.n)], "n %d, seed %d", c.n, c.seed)
		require.Equal(t, c.last, got[max(0, c.n-3):], "n %d, seed %d", c.n, c.seed)
		var all []byte
		for _, v := range got {
			all = binary.LittleEndian.AppendUint32(all, uint32(v))
		}
		sum := sha256.Sum256(all)
		require.Equal(t, c.sum, hex.EncodeToString(sum[:8]), "n %d, seed %d", c.n, c.seed)
	}
	require.Panics(t, func() { data.RandPerm(-1, 0) })
	require.Panics(t, func() { data.RandPerm(1<<32/20, 0) }, "there PyTorch draws otherwise")
}
