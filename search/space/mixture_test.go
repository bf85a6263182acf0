package space

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// oneHot are the weights of rows that give all to one choice of each.
func oneHot(rows []nn.Row, choice func(row int) int) [][]float32 {
	weights := make([][]float32, len(rows))
	for i, r := range rows {
		weights[i] = make([]float32, len(r.Choices))
		weights[i][choice(i)] = 1
	}
	return weights
}

// requireMixesAs holds a mixture with some weights to a path: same images, same shared values, the statistics of the
// batch. The path is that of a text, and takes what the choices of the weights cost.
func requireMixesAs(t *testing.T, sp Mixed, size NetworkSize, weights [][]float32, text string) {
	t.Helper()
	mixed, err := sp.Mixture(size)
	require.NoError(t, err)
	path, err := sp.WrittenPath(text, size)
	require.NoError(t, err)
	requireSameAs(t, sp, size, mixed, weights, path)
}

func requireSameAs(t *testing.T, sp Sharing, size NetworkSize, mixed nn.Path, weights [][]float32, path nn.Path) {
	t.Helper()
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	require.NoError(t, shared.Check(mixed))
	values := shared.Initialize(nn.HeFanOut, 3)
	s := philox.New(5, philox.PurposeTest, 0)
	for i, v := range shared.Variables {
		if v.Role == nn.Scale || v.Role == nn.Shift {
			for k := range values[i] {
				values[i][k] += float32(s.NormFloat64()) / 4
			}
		}
	}
	const batch = 2
	images := make([]float64, batch*mixed.Input().Len())
	for i := range images {
		images[i] = s.NormFloat64()
	}
	for _, net := range []*nn.Network{mixed.Network, path.Network} {
		for i, node := range net.Nodes {
			if _, ok := node.Op.(nn.Dropout); ok {
				net.Nodes[i].Op = nn.Dropout{} // what is dropped depends on a node's number
			}
		}
	}
	m := reference.Path(shared, mixed, values)
	for i, row := range weights {
		for k, w := range row {
			m.Mixture[i][k] = float64(w)
		}
	}
	mode := reference.Mode{Train: true}
	got := m.Forward(images, batch, mode).Logits(0)
	require.InDeltaSlice(t, reference.Path(shared, path, values).Forward(images, batch, mode).Logits(0), got, 1e-9)

	madds := float64(mixed.Cost().MAdds)
	for i, row := range mixed.Mixture {
		for k, c := range row.Cost {
			madds -= (1 - float64(weights[i][k])) * c
		}
	}
	require.Equal(t, float64(path.Cost().MAdds), madds)
}

// requireRows holds a mixture to the space's rows, whose names differ, and to weights of all shared variables.
func requireRows(t *testing.T, sp Mixed, size NetworkSize, rows []nn.Row) nn.Path {
	t.Helper()
	p, err := sp.Mixture(size)
	require.NoError(t, err)
	require.Equal(t, "the mixture of "+sp.Name(), p.Name)
	require.Len(t, p.Mixture, len(rows))
	names := map[string]bool{}
	for i, r := range p.Mixture {
		require.Equal(t, rows[i].Name, r.Name)
		require.Equal(t, rows[i].Choices, r.Choices)
		require.Len(t, r.Cost, len(r.Choices))
		names[r.Name] = true
	}
	require.Len(t, names, len(rows))
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	bound := map[int]bool{}
	for _, b := range p.Bindings {
		bound[b.Shared] = true
	}
	require.Len(t, bound, len(shared.Variables))
	return p
}

// requireRefusals holds Derive to errors that name the space and the row.
func requireRefusals(t *testing.T, sp Mixed, rows []nn.Row) {
	t.Helper()
	weights := func() [][]float32 { return oneHot(rows, func(int) int { return 0 }) }
	_, err := sp.Derive(weights())
	require.NoError(t, err)
	_, err = sp.Derive(weights()[1:])
	require.ErrorContains(t, err, sp.Name()+": ")
	require.ErrorContains(t, err, "rows of weights, want ")
	last := len(rows) - 1
	for _, bad := range []float32{float32(math.NaN()), -0.5, 1.5} {
		w := weights()
		w[last][1] = bad
		_, err = sp.Derive(w)
		require.ErrorContains(t, err, sp.Name()+": row "+rows[last].Name+" has weight ")
	}
	w := weights()
	w[last] = w[last][1:]
	_, err = sp.Derive(w)
	require.ErrorContains(t, err, sp.Name()+": row "+rows[last].Name+" has ")
}
