package space

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Spaces that are listed have as many architectures as Count says, and the published numbers stand for the others.
func TestCount(t *testing.T) {
	for name, want := range map[string]string{
		"nasbench101": "423624", "nasbench101-v3": "7", "nasbench101-v4": "91", "nasbench201": "15625",
		"mobilenetv3": "21758655492572485851", // (9^2 + 9^3 + 9^4)^5
		"spos":        "1099511627776",        // 4^20
		"fairnas":     "609359740010496",      // 6^19
	} {
		sp, err := Open(name)
		require.NoError(t, err)
		n, exact := Count(sp)
		require.True(t, exact, name)
		require.Equal(t, want, n.String(), name)
	}
	_, exact := Count(Darts{})
	require.False(t, exact)
	sp, err := ParseFile("a", []byte("space: a\nabsent: skip\nblocks:\n- {name: b, operations: [x, y, skip], "+
		"repeat: [1, 3]}\n- {name: c, operations: [x, y]}\n"))
	require.NoError(t, err)
	all, err := sp.(Enumerable).All(context.Background(), nil)
	require.NoError(t, err)
	n, exact := Count(sp)
	require.True(t, exact)
	require.EqualValues(t, len(all), n.Int64())
}
