//go:build !nofarm

package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Node 0 tells all when all are there; one that is another program, or counts other nodes, ends them with one line; of
// two that are one node the first stays for as long as it asks.
func TestTable(t *testing.T) {
	fresh := func() *table {
		return &table{members: []member{{0, 4, "1", "a", "a:1", "pa", false}, {}, {}, {}}, heard: make([]time.Time, 4),
			knowing: map[int]bool{}, change: make(chan struct{}, 1)}
	}
	b, c, d := member{1, 4, "1", "b", "b:1", "pb", false}, member{2, 4, "1", "c", "c:1", "pc", false},
		member{3, 4, "1", "d", "d:1", "pd", false}
	n := fresh()
	require.Equal(t, answer{}, n.join(b))
	require.Equal(t, []string{"node 2", "node 3"}, n.missing())
	require.Equal(t, answer{}, n.join(c))
	require.Equal(t, answer{Taken: "c"}, n.join(member{2, 4, "1", "x", "x:1", "px", false}))
	require.Equal(t, n.members, n.join(d).Members)
	require.Equal(t, n.members, n.join(b).Members)
	require.Empty(t, n.knowing, "told is not known")
	knows := b
	knows.Knows = true
	require.Equal(t, n.members[2:], n.join(knows).Members[2:])
	require.Equal(t, map[int]bool{1: true}, n.knowing)
	n.heard[2] = time.Now().Add(-2 * forgetAfter)
	require.Equal(t, answer{}, n.join(d), "one that no longer asks is not there")
	again := member{2, 4, "1", "y", "y:1", "py", false}
	require.Equal(t, again, n.join(again).Members[2])

	for want, other := range map[string]member{
		"node 0 (a) is ctnas 1 and node 1 (b) is ctnas 2":                     {1, 4, "2", "b", "b:1", "pb", false},
		"node 0 (a) was started with --nodes 4 and node 1 (b) with --nodes 2": {1, 2, "1", "b", "b:1", "pb", false},
		"node 4 (b) is none of 4 nodes":                                       {4, 4, "1", "b", "b:1", "pb", false},
		"node 0 (b) is none of 4 nodes":                                       {0, 4, "1", "b", "b:1", "pb", false},
	} {
		n := fresh()
		require.Contains(t, n.join(other).Refused, want)
		require.Contains(t, n.join(c).Refused, want, "the others are told, too")
	}
}
