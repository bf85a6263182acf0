package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A small heap grows by 32 MiB, a large one by a tenth, and none by less.
func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 1 << 20: 800, 4 << 20: 800, 64 << 20: 50, 320 << 20: 10,
		4 << 30: 10} {
		require.Equal(t, want, growth(live), live)
	}
}
