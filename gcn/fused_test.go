package gcn

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// smallest is a preset at the width of one tile.
func smallest(t *testing.T, preset string) Config {
	c, err := Preset(preset)
	require.NoError(t, err)
	c.Width = 16
	return c
}

func simulated(t *testing.T, p exec.Precision) *exec.Device {
	d, err := exec.Open(exec.Config{Device: "sim:random", Precision: p})
	require.NoError(t, err)
	return d
}

// closeWeights compares tensor by tensor.
func closeWeights(t *testing.T, lay *layout, want, got []float32, tol float64, what string) {
	for _, tn := range lay.tensors {
		var w []float64
		for _, v := range want[tn.off : tn.off+tn.len()] {
			w = append(w, float64(v))
		}
		kerneltest.Close(t, w, got[tn.off:tn.off+tn.len()], tol, what+": "+tn.name)
	}
}

// After 30 updates, 100 where every case is asked for, with pseudo-labelled pairs in some, the packed graphs of an
// accelerator have led to the CPU's weights.
func TestPackedUpdatesFollowTheCPU(t *testing.T) {
	data := problem(60, 70)
	data.Features = nil
	pool := problem(30, 71).Graphs
	var pairs []Pair
	for i := range 200 {
		pairs = append(pairs, Pair{i % 30, (i*7 + 3) % 30, float32(i % 2)})
	}
	c, updates := smallest(t, "released"), 30
	if testdata.All() {
		updates = 100
	}
	run := func(dev *exec.Device) (ReleasedState, float64) {
		defer dev.Close()
		r, err := NewReleased(dev, c, data, 3)
		require.NoError(t, err)
		defer r.Close()
		require.Equal(t, dev.Accelerated(), r.packed != nil)
		l := 0.0
		for i := range updates {
			with := pairs
			if i%10 > 0 {
				with = nil
			}
			l, err = r.Epoch(pool, with)
			require.NoError(t, err)
		}
		return r.State(), l
	}
	cpu, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	want, wantLoss := run(cpu)
	got, gotLoss := run(simulated(t, exec.FP32))
	require.InDelta(t, wantLoss, gotLoss, 1e-5)
	closeWeights(t, c.layout(6, nil, 0), want.W, got.W, 1e-5, "weights")
	rounded, roundedLoss := run(simulated(t, exec.BF16))
	require.InDelta(t, wantLoss, roundedLoss, 0.02)
	require.NotEqual(t, got.W, rounded.W)
}

// Without sharing the update is the same.
func TestPackedApart(t *testing.T) {
	data := problem(40, 72)
	data.Features = nil
	c := smallest(t, "released")
	dev := simulated(t, exec.FP32)
	defer dev.Close()
	var states []ReleasedState
	for _, open := range []func(*exec.Device, Config, Data, uint64) (*Released, error){NewReleased, NewPlainReleased} {
		r, err := open(dev, c, data, 3)
		require.NoError(t, err)
		for range 3 {
			_, err = r.Epoch(nil, nil)
			require.NoError(t, err)
		}
		states = append(states, r.State())
		r.Close()
	}
	closeWeights(t, c.layout(6, nil, 0), states[0].W, states[1].W, 1e-5, "weights")
}

// Training and scoring on an accelerator against the CPU's.
func TestFusedTrainAndScore(t *testing.T) {
	data, test := problem(60, 80), problem(200, 81)
	for _, preset := range []string{"paper", "released"} {
		c := smallest(t, preset)
		c.Steps, c.LR = 20, 1e-3
		var want *Scores
		for _, device := range []exec.Config{{Threads: 2}, {Device: "sim:ascending"},
			{Device: "sim:descending", Precision: exec.BF16}} {
			cmp, err := Train(context.Background(), device, c, data, 5, nil)
			require.NoError(t, err)
			e, err := cmp.Prepare(test)
			require.NoError(t, err)
			scores, err := cmp.Score(device, e)
			require.NoError(t, err)
			if want == nil {
				want = scores
				continue
			}
			tol := 1e-4
			if device.Precision == exec.BF16 {
				tol = 0.1
			}
			for i, v := range want.Rank {
				require.InDelta(t, v, scores.Rank[i], tol*math.Max(1, math.Abs(v)), fmt.Sprint(preset, device, i))
			}
		}
	}
}

// What does not fit falls back to the shared parts, on an accelerator too.
func TestWhatIsPacked(t *testing.T) {
	cpu, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer cpu.Close()
	dev := simulated(t, exec.FP32)
	defer dev.Close()
	graphs := randomGraphs(10, 3)
	n := smallest(t, "released").Network
	require.Len(t, n.pack(dev, graphs, 5), 10)
	require.Nil(t, n.pack(cpu, graphs, 5))
	require.Nil(t, n.pack(dev, graphs, 8), "an alphabet of nine with the padding")
	require.Nil(t, n.pack(dev, append(graphs[:9:9], Graph{Ops: make([]uint16, 9)}), 5), "nine nodes")
	require.Nil(t, n.pack(dev, append(graphs[:9:9], Graph{Ops: []uint16{0, 1}, Edges: [][2]uint8{{0, 1}, {0, 1}}}), 5),
		"an edge twice")
	require.Nil(t, n.pack(dev, append(graphs[:9:9], Graph{Ops: []uint16{0, 6}}), 5), "an unknown operation")
	n.Width = 20
	require.Nil(t, n.pack(dev, graphs, 5))
}
