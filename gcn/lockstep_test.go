package gcn

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// From the same weights an accelerator computes the CPU's loss, scores and gradients, in each of 30 consecutive
// updates, of 100 where every case is asked for.
func TestTrainingInLockstep(t *testing.T) {
	for name, c := range map[string]Config{
		"gated": {
			Network: Network{Kind: Gated, Width: 16, Features: true, FeatureWidth: 8, HeadWidth: 16, Dropout: 0.1},
			Loss:    Comparison, NoiseFloor: 0.0025, NoiseSlope: 0.1, Decoupled: true, WeightDecay: 1,
		},
		"layered": {
			Network: Network{Kind: LayeredGCN, Width: 16, Layers: 3, Residual: true, Bias: true, Pad: 7, Pair: true},
			Loss:    Comparison, WeightDecay: 5e-4,
		},
	} {
		steps := 30
		if testdata.All() {
			steps = 100
		}
		c.Members, c.Steps, c.LR, c.Warmup, c.Cosine, c.Beta1, c.Beta2 = 1, steps, 5e-3, 10, true, 0.9, 0.999
		t.Run(name, func(t *testing.T) { lockstep(t, c, problem(14, 3)) })
	}
}

// positional draws architectures of a space with labels of noise, as a search describes them: alphabets, graphs and
// lists of operations are longer than a cell's.
func positional(t *testing.T, name string, n int, stream uint32) Data {
	sp, err := space.Open(name)
	require.NoError(t, err)
	d := Data{Alphabet: len(sp.Alphabet())}
	if e := space.EncoderOf(sp); e.Kind != nil {
		d.Places = &Places{Kind: e.Kind, Place: e.Place}
	}
	s := philox.New(2, philox.PurposeTest, stream)
	for range n {
		g := Graph(sp.Sample(s).Graph())
		d.Graphs = append(d.Graphs, g)
		d.Features = append(d.Features, Counts(g, d.Alphabet))
		d.Labels = append(d.Labels, 0.75+0.01*s.NormFloat64())
	}
	return d
}

// The same of the comparator for spaces whose operations say where they stand, with its linear term in their counts.
// What it learned scores alike, too.
func TestPositionalInLockstep(t *testing.T) {
	for name, steps := range map[string]int{"mobilenetv3": 5, "darts": 10, "file:../docs/examples/blocks.yaml": 10} {
		t.Run(name, func(t *testing.T) {
			c, data := Positional(), positional(t, name, 12, 5)
			c.Members, c.Steps, c.Warmup = 1, steps, 2
			lockstep(t, c, data)

			cmp, err := Train(t.Context(), exec.Config{Threads: 2}, c, data, 5, nil)
			require.NoError(t, err)
			e, err := cmp.Prepare(positional(t, name, 20, 6))
			require.NoError(t, err)
			want, err := cmp.Score(exec.Config{Threads: 2}, e)
			require.NoError(t, err)
			for _, device := range kerneltest.Accelerators() {
				got, err := cmp.Score(exec.Config{Device: device}, e)
				require.NoError(t, err)
				for i, v := range want.Rank {
					require.InDelta(t, v, got.Rank[i], 1e-4, "%s, architecture %d", device, i)
				}
			}
		})
	}
}

func lockstep(t *testing.T, c Config, data Data) {
	cpu, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer cpu.Close()
	open := func(d *exec.Device) *trainer {
		e, err := newComparator(c, data).encode(data)
		require.NoError(t, err)
		tr, err := newTrainer(d, c, e, data, 7, 0)
		require.NoError(t, err)
		return tr
	}
	kerneltest.EachAccelerator(t, func(t *testing.T, d *exec.Device) {
		a, b := open(cpu), open(d)
		defer a.ar.Free()
		defer b.ar.Free()
		for step := range c.Steps {
			a.program.Run(1)
			b.program.Run(1)
			require.InEpsilon(t, a.loss.Values()[0], b.loss.Values()[0], 1e-5, "loss of step %d", step)
			require.LessOrEqual(t, apart(a.score.Values(), b.score.Values(), 0), 1e-5, "scores of step %d", step)
			// The gradient of a bias is a sum that nearly cancels, of slopes σ(z) - 1 that have lost digits themselves:
			// there a tenth of the whole gradient is the measure.
			whole := norm(a.g.Values())
			for _, tn := range a.lay.tensors {
				want, got := a.lay.part(a.g, tn.name).Values(), a.lay.part(b.g, tn.name).Values()
				require.LessOrEqual(t, apart(want, got, whole/10), 1e-5, "gradient of %s in step %d", tn.name, step)
			}
			for _, move := range [][2]*exec.Buffer{{a.w, b.w}, {a.m, b.m}, {a.v, b.v}} {
				if step == 0 {
					require.LessOrEqual(t, apart(move[0].Values(), move[1].Values(), 0), 1e-5, "the first update")
				}
				move[1].WriteF32(0, move[0].Values())
			}
		}
	})
}

// apart is the norm of the difference by the norm of want, or by least where that is smaller; infinite where a number
// is missing.
func apart(want, got []float32, least float64) float64 {
	difference := make([]float32, len(want))
	for i, w := range want {
		difference[i] = got[i] - w
	}
	d := norm(difference)
	switch {
	case d == 0:
		return 0
	case d > 0:
		return d / math.Max(norm(want), least)
	}
	return math.Inf(1)
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}
