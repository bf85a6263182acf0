package space

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The mean field of random cells, which knows no network, agrees with the gradients of small networks at
// initialisation: the logarithms of both norms correlate. With CTNAS_TEST=all there are more cells, and the figures of
// docs/comparator.md are printed.
func TestMeanFieldAgreesWithNetworks(t *testing.T) {
	cells := 12
	if testdata.All() {
		cells = 120
	}
	sp := NASBench101{}
	dev, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	stream := philox.New(1, philox.PurposeTest, 0)
	var measured, guessed, fitted []float64
	for i := range cells {
		a := sp.Sample(stream)
		g := a.Graph()
		measured = append(measured, gradientNorm(t, dev, a.(Trainable), uint64(i)))
		guessed = append(guessed, nasbench101Guessed.Numbers(nil, g.Ops, g.Edges)[1])
		fitted = append(fitted, nasbench101Fitted.Numbers(nil, g.Ops, g.Edges)[1])
	}
	t.Logf("%d cells: correlation of the gradient's logarithm with the guessed rule's %.3f, the fitted rule's %.3f; "+
		"tau-b %.3f, %.3f", cells, correlation(measured, guessed), correlation(measured, fitted),
		stat.KendallB(measured, guessed), stat.KendallB(measured, fitted))
	require.Greater(t, correlation(measured, fitted), 0.7)
}

// gradientNorm is the logarithm of the norm of the gradient that a small network of three cells has before its first
// update, for random images and labels.
func gradientNorm(t *testing.T, dev *exec.Device, a Trainable, seed uint64) float64 {
	const side, batch, classes = 8, 16, 10
	net, err := a.Network(NetworkSize{Side: side, Classes: classes, Channels: 16, Stacks: 1, Modules: 3})
	require.NoError(t, err)
	m, err := trainer.NewModel(dev, net, trainer.Options{Batch: batch, Seed: seed})
	require.NoError(t, err)
	defer m.Close()
	m.Initialize(nn.NASBench, seed)
	s := philox.New(seed, philox.PurposeTest, 1)
	images, labels := make([]float32, batch*side*side*imageChannels), make([]int32, batch)
	for i := range images {
		images[i] = float32(s.NormFloat64())
	}
	for i := range labels {
		labels[i] = int32(s.Intn(classes))
	}
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, labels)
	m.Step(0, 0)
	_, norm := m.Metrics()
	require.Positive(t, norm)
	return math.Log(norm)
}

// correlation is Pearson's.
func correlation(x, y []float64) float64 {
	mx, my, xy := stat.Mean(x), stat.Mean(y), 0.0
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my) / float64(len(x)-1)
	}
	return xy / (stat.SD(x) * stat.SD(y))
}
