package trainer

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
)

// oneShotFixture is what a plain PyTorch loop computes; scripts/peers/one_shot_fixtures.py writes it and says what each
// key is.
type oneShotFixture struct {
	Side, Batch                 int
	Rate, Momentum, Decay, Clip float64
	Variables                   []ofaNumbers
	Images                      ofaNumbers
	Updates                     []struct {
		Path       string
		Classes    []int32
		Loss, Norm float64
	}
	After map[string]sampledNumbers
}

// Updates by one path each, of small cells of NAS-Bench-101, have the losses and gradients of a plain PyTorch loop and
// leave its weights: parts of weights, clipping, and what momentum and decay do to what a path lacks. On every device.
func TestTrainingOfPathsAsPyTorch(t *testing.T) {
	const tolerance = 2e-5
	text, err := os.ReadFile(filepath.Join("testdata", "one_shot.json"))
	require.NoError(t, err)
	var f oneShotFixture
	require.NoError(t, json.Unmarshal(text, &f))
	sp, err := space.Open("nasbench101-v4")
	require.NoError(t, err)
	c := cells{sp.(space.NASBench101), space.NetworkSize{Side: f.Side, Channels: 8, Stacks: 3, Modules: 1}, nil}
	shared, err := c.Supernet(10)
	require.NoError(t, err)
	numbers := map[string]ofaNumbers{}
	for _, v := range f.Variables {
		numbers[v.Name] = v
	}
	r := RecipeDefaults()
	r.Optimization = Optimization{Optimizer: "sgd", Momentum: f.Momentum, WeightDecay: f.Decay, DecayAll: true}
	r.LR, r.LabelSmoothing = f.Rate, 0
	images := f.Images.values()
	size := len(images) / len(f.Updates)
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		s, err := NewSupernetStep(d, shared, SupernetOptions{Batch: f.Batch, Classes: 10, Clip: f.Clip,
			Image: nn.Shape{H: f.Side, W: f.Side, C: 3}}, r)
		require.NoError(t, err)
		defer s.Close()
		start := s.Values()
		for i, v := range shared.Variables {
			if v.Role.Trainable() {
				require.Equal(t, v.TorchShape(), numbers[v.Name].Shape, v.Name)
				start[i] = nn.FromTorch(v, numbers[v.Name].values())
			}
		}
		s.SetValues(start)
		updates, worst := f.Updates, 0.0
		if d.Accelerated() && !testdata.All() { // seconds an update where it is simulated
			updates = updates[:1]
		} else if d.Accelerated() {
			updates = updates[:3]
		}
		for u, want := range updates {
			s.Images.WriteF32(0, images[u*size:(u+1)*size])
			s.Labels.WriteI32(0, want.Classes)
			losses, err := s.Run(StepPath{want.Path, func() (nn.Path, error) { return c.Path(want.Path, 10) }})
			require.NoError(t, err)
			require.InEpsilon(t, want.Loss, losses[0], tolerance, "loss of update %d, %s", u, want.Path)
			require.InEpsilon(t, want.Norm, s.GradientNorm(), 10*tolerance, "gradient of update %d, %s", u, want.Path)
			worst = max(worst, math.Abs(losses[0]/want.Loss-1))
		}
		t.Logf("losses differ by %.1e", worst)
		if len(updates) < len(f.Updates) {
			return
		}
		got := s.Values()
		for i, v := range shared.Variables {
			if want, known := f.After[v.Name]; known {
				requireSameChange(t, v.Name, nn.ToTorch(v, start[i]), nn.ToTorch(v, got[i]), want.Stride, want.Sample)
			}
		}
		require.Len(t, f.After, len(f.Variables))
	})
}
