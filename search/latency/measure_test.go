package latency

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
)

// tinySpace stands for a measurable space: the chain of docs/examples/blocks.yaml, whose networks are small
// convolutions, one a part.
type tinySpace struct {
	space.Composed
	lost int // a part that no network of Cover has; -1: none
}

func (sp tinySpace) Dissect(a space.Arch) (*nn.Network, []int, []int, error) {
	b, x := nn.NewBuilder("tiny", nn.Shape{H: 8, W: 8, C: 3})
	section := []int{0} // of the input
	var part []int
	sp.EachPart(a, func(p int) {
		x = b.Apply(fmt.Sprint("conv", len(part)), nn.Conv2D(3, 8+p), x)
		section, part = append(section, len(part)), append(part, p)
	})
	b.Output(b.Apply("logits", nn.Linear{Out: 4, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	return net, append(section, len(part)-1, len(part)-1), part, err
}

func (sp tinySpace) Cover(s *philox.Stream) []space.Arch {
	var out []space.Arch
	for len(out) < 60 {
		a := sp.Sample(s)
		lost := false
		sp.EachPart(a, func(p int) { lost = lost || p == sp.lost })
		if !lost {
			out = append(out, a)
		}
	}
	return out
}

func openTiny(t *testing.T, lost int) tinySpace {
	t.Helper()
	sp, err := space.Open(chainFile)
	require.NoError(t, err)
	return tinySpace{sp.(space.Composed), lost}
}

func TestMeasure(t *testing.T) {
	sp := openTiny(t, -1)
	steps := 0
	table, check, err := Measure(context.Background(), sp, Options{
		Device: exec.Config{Threads: 2}, Batch: 2, Rounds: 2, Networks: 5, Seed: 1, Program: "a test",
		Progress: func(done, total int) {
			steps++
			require.Equal(t, steps, done)
			require.Equal(t, 2*(5+60), total)
		},
	})
	require.NoError(t, err)
	require.Equal(t, 2*(5+60), steps)
	require.Len(t, table.Parts, len(sp.Parts()))
	for i, p := range table.Parts {
		require.Equal(t, sp.Parts()[i], p.Name)
		require.True(t, 0 <= p.First && p.First <= p.MS && p.MS <= p.Third && p.Third < 1000, p)
		require.Positive(t, p.Samples)
	}
	require.Equal(t, 2*60, table.Parts[0].Samples, "every network has the fixed part, and those that are only judged "+
		"are no samples")

	// The check is that of the table's own sums.
	times, err := table.timesOf(sp)
	require.NoError(t, err)
	require.Len(t, check.Networks, 5)
	mean, bias := 0.0, 0.0
	for _, w := range check.Networks {
		a, err := sp.Parse(w.Arch)
		require.NoError(t, err)
		require.Equal(t, w.Predicted, *times.Milliseconds(a))
		require.Positive(t, w.Measured)
		mean, bias = mean+math.Abs(w.Predicted/w.Measured-1)/5, bias+(w.Predicted/w.Measured-1)/5
	}
	require.InDelta(t, mean, check.Mean, 1e-12)
	require.InDelta(t, bias, check.Bias, 1e-12)

	path := filepath.Join(t.TempDir(), "t.csv")
	require.NoError(t, table.Write(path))
	back, err := Open(path, sp)
	require.NoError(t, err)
	for key, want := range map[string]string{factSpace: "blocks", factBatch: "2", factThreads: "2",
		factPrecision: "fp32", factProgram: "a test", factError: check.String()} {
		require.Equal(t, want, back.Table.Fact(key))
	}
	for _, key := range []string{factDevice, factDriver, factLevel, factClock, factDate, factEffort,
		factSpread, factOverhead} {
		require.NotEmpty(t, back.Table.Fact(key), key)
	}
	require.Equal(t, 5, strings.Count(string(back.Table.Text()), "# network: "))
}

func TestMeasureSaysWhatIsWrong(t *testing.T) {
	lost := len(openTiny(t, -1).Parts()) - 1
	o := Options{Batch: 1, Rounds: 1}
	_, _, err := Measure(context.Background(), openTiny(t, lost), o)
	require.ErrorContains(t, err, "part tail/conv1x1 was in no network")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err = Measure(ended, openTiny(t, -1), o)
	require.ErrorIs(t, err, context.Canceled)
	for flag, change := range map[string]func(o *Options){
		"--batch": func(o *Options) {
			o.Batch = 0
		}, "--repeats": func(o *Options) { o.Rounds = 0 }, "--networks": func(o *Options) { o.Networks = -1 },
		"--time": func(o *Options) { o.Each = -1 },
	} {
		bad := o
		change(&bad)
		_, _, err = Measure(context.Background(), openTiny(t, -1), bad)
		require.ErrorContains(t, err, flag)
	}
	o.Device.Level = "abacus"
	_, _, err = Measure(context.Background(), openTiny(t, -1), o)
	require.ErrorContains(t, err, "abacus")
}

// A comparison with too few networks says so.
func TestCheckOfFewNetworks(t *testing.T) {
	require.Equal(t, "unknown: no network was measured whole", Check{}.String())
	one := Check{Networks: []Whole{{"a", 1, 1}}, TauB: math.NaN()}
	require.Equal(t, "0.0 % on average, 0.0 % in the median, bias +0.0 %, tau-b unknown, 1 networks", one.String())
}

func TestQuantile(t *testing.T) {
	v := []float64{1, 2, 4, 8}
	require.Equal(t, []float64{1, 1.75, 3, 5, 8}, []float64{quantile(v, 0), quantile(v, 0.25), quantile(v, 0.5),
		quantile(v, 0.75), quantile(v, 1)})
	require.Equal(t, 3.0, quantile([]float64{3}, 0.75))
}
