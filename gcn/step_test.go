package gcn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
)

// A step by itself is a step of Train.
func TestStep(t *testing.T) {
	c, err := Preset("default")
	require.NoError(t, err)
	c.Members, c.Steps, c.Width, c.HeadWidth = 1, 3, 16, 16
	data := problem(40, 1)
	want, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 5, nil)
	require.NoError(t, err)
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	s, err := NewStep(d, c, data, 5)
	require.NoError(t, err)
	defer s.Close()
	require.Positive(t, s.Run(c.adapted(40).Steps))
	require.Equal(t, want.Weights[0], s.t.w.Values())
	_, err = NewStep(d, c, Data{}, 5)
	require.Error(t, err)
}

// Without sharing the released training is the same training.
func TestPlainReleasedTrainsTheSame(t *testing.T) {
	c, err := Preset("released")
	require.NoError(t, err)
	c.Width, c.LR = 32, 1e-3
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	data := problem(50, 2)
	shared, err := NewReleased(d, c, data, 3)
	require.NoError(t, err)
	defer shared.Close()
	plain, err := NewPlainReleased(d, c, data, 3)
	require.NoError(t, err)
	defer plain.Close()
	for range 5 {
		a, err := shared.Epoch(nil, nil)
		require.NoError(t, err)
		b, err := plain.Epoch(nil, nil)
		require.NoError(t, err)
		require.InDelta(t, a, b, 1e-4)
	}
	require.Equal(t, 5, int(plain.State().Updates))
	_, err = plain.Epoch(data.Graphs, []Pair{{0, 1, 1}})
	require.ErrorContains(t, err, "no pool")
}
