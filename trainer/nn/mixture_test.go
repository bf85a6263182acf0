package nn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
)

// A choice costs what nothing else needs, in all places that read its row, and a cost that is given stays.
func TestRowsCost(t *testing.T) {
	b, x := nn.NewBuilder("test", nn.Shape{H: 2, W: 2, C: 4})
	b.Row(nn.Row{Name: "first", Choices: []string{"none", "both", "one", "nothing"}})
	b.Row(nn.Row{Name: "second", Choices: []string{"near", "far"}})
	b.Row(nn.Row{Name: "given", Choices: []string{"a", "b"}, Cost: []float64{3, 5}})
	conv := func(name string, x nn.Tensor) nn.Tensor { return b.Apply(name, nn.Conv2D(1, 4), x) } // 64 each
	shared := conv("shared", x)
	mix := func(name string, x nn.Tensor) nn.Tensor {
		return b.Apply(name, nn.Mix{Row: 0, Rows: 1, Absent: 1}, conv(name+"/2", conv(name+"/1", x)),
			conv(name+"/3", x), x)
	}
	one := mix("one", shared)
	two := mix("two", x)
	// What is far away needs a mixture, which nothing else needs, and what both of its inputs need.
	x = b.Apply("outer", nn.Mix{Row: 1, Rows: 1}, conv("near", two), one)
	twice := conv("twice", x)
	x = b.Apply("given", nn.Mix{Row: 2, Rows: 1}, twice, twice)
	conv("unread", mix("unread by an output", x))
	b.Output(b.Apply("pool", nn.GlobalPool{}, x), 1)
	net, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, []float64{0, 2 * 128, 2 * 64, 0}, net.Mixture[0].Cost)
	require.Equal(t, []float64{64 + 192, 64 + 192}, net.Mixture[1].Cost)
	require.Equal(t, []float64{3, 5}, net.Mixture[2].Cost)
}
