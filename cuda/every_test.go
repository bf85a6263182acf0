package cuda

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// All GPUs are those that have an architecture; where none has it they are all there are.
func TestEvery(t *testing.T) {
	list := []Info{{Name: "cuda:0", SM: 90}, {Name: "cuda:1", SM: 80}, {Name: "cuda:3", SM: 90}}
	for architecture, want := range map[string]string{
		"":      "cuda:0,1,3",
		"sm_90": "cuda:0,3",
		"sm_80": "cuda:1",
		"avx2":  "cuda:0,1,3",
	} {
		require.Equal(t, want, Every(list, architecture))
	}
	require.Len(t, list, 3, "the list stays")
}
