//go:build !cuda

package cuda

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithoutSupportSaysHowToGetIt(t *testing.T) {
	all, err := Devices()
	require.Empty(t, all)
	require.ErrorContains(t, err, "make gpu")
	d, err := Open(0, nil)
	require.Nil(t, d)
	require.ErrorContains(t, err, "built without GPU support")
}
