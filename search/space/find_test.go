package space

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// A network of the zoo is found in its space as the same network.
func TestFind(t *testing.T) {
	for _, name := range []string{"ofa_230m", "ofa_482m", "pnag_gpu_90"} {
		a, err := Find(name)
		require.NoError(t, err)
		want, err := zoo.Open(name)
		require.NoError(t, err)
		got, err := a.(Trainable).Network(NetworkSize{})
		require.NoError(t, err)
		require.Equal(t, want.Cost(), got.Cost())
		require.Equal(t, want.Input(), got.Input())
		again, err := Find(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
	}
	_, err := Find("resnet")
	require.ErrorContains(t, err, "want one of a space")
	_, err = Find("nowhere:1")
	require.ErrorContains(t, err, "unknown search space")
}

// The narrow space of an architecture reads its text.
func TestNarrow(t *testing.T) {
	for _, name := range []string{"mobilenetv3@w1.2,r160-224", "mobilenetv3@w0.35,r32,s8", "nasbench101-v4",
		"darts@cifar10"} {
		sp := open(t, name)
		a := sp.Sample(philox.New(3, philox.PurposeTest, 0))
		narrow, err := Open(Narrow(a))
		require.NoError(t, err)
		same, err := narrow.Parse(a.String())
		require.NoError(t, err)
		require.Equal(t, a, same)
	}
}
