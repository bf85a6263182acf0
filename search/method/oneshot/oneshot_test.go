package oneshot

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// judge knows the accuracy of every architecture once it is unsealed: the number of its parameters.
type judge struct {
	ledger.None
	sealed bool
}

func (j *judge) Unseal() { j.sealed = false }
func (j *judge) Judge(a space.Arch) (float64, int, error) {
	if j.sealed {
		panic("judged before the search has ended")
	}
	return float64(a.Cost().Params) / 1e9, 1, nil
}
func (j *judge) Percentile(space.Arch) (float64, error) { return 0, ledger.ErrNoLabel }
func (j *judge) Total() int                             { return 91 }

// untrained writes a supernet's random weights where a training would write its own. A sampler learns as if accuracies
// were shares of an operation.
func untrained(t *testing.T) func(context.Context, run.SupernetOrder) (*trainer.SupernetResult, error) {
	return func(ctx context.Context, o run.SupernetOrder) (*trainer.SupernetResult, error) {
		sp, err := space.Open(o.Space)
		require.NoError(t, err)
		r := o.Recipe
		size := space.NetworkSize{Channels: r.Channels, Stacks: r.Stacks, Modules: r.Modules, Classes: 10}
		shared, err := sp.(space.Sharing).Supernet(size)
		require.NoError(t, err)
		metadata := trainer.Metadata(o.Space, trainer.RandomWeights, zoo.Constants{}, nil)
		metadata[trainer.SpaceKey] = o.Space
		trainer.AddSize(metadata, r.Size)
		require.NoError(t, os.MkdirAll(o.Dir, 0o755))
		if err := trainer.WriteShared(filepath.Join(o.Dir, trainer.WeightsName), shared,
			shared.Initialize(nn.TorchDefault, o.Seed), metadata); err != nil {
			return nil, err
		}
		if o.Sampler != nil {
			for epoch := 1; epoch <= r.Epochs; epoch++ {
				if err := o.Sampler.Learn(ctx, epoch, func(_ context.Context, path string, batch int) (float64, error) {
					a, err := sp.Parse(path)
					return float64(len(a.Graph().Ops)+batch%2) / 20, err
				}); err != nil {
					return nil, err
				}
			}
		}
		if o.Progress != nil {
			o.Progress(trainer.Progress{Update: 1, Updates: 2})
		}
		return &trainer.SupernetResult{}, ctx.Err()
	}
}

func begin(t *testing.T, method, dir string) (search.Config, run.Deps) {
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.Method, c.Space, c.SupernetData, c.SupernetCells, c.SupernetImages = method, "nasbench101-v4", "shapes", 12, 20
	c.Channels, c.Modules, c.Stacks, c.Resolution, c.SupernetEpochs = 2, 1, 1, 8, 2
	sp, err := space.Open(c.Space)
	require.NoError(t, err)
	return c, run.Deps{Space: sp, Source: &judge{sealed: true}, Dir: dir, Device: exec.Config{Device: "cpu", Threads: 1},
		Program: run.Program{Version: "test"}, Supernets: run.Supernets{Train: untrained(t)}}
}

// Whatever the method and the protocol: no label is asked for, the pick is judged when the search has ended, and one
// that is stopped at every sign of progress in turn ends in the same bytes.
func TestMethodsPickWithoutLabels(t *testing.T) {
	for _, preset := range []string{search.PresetDefault, search.PresetPublished} {
		for _, method := range []string{"spos", "fairnas", "enas", "darts", "fbnet"} {
			t.Run(method+" "+preset, func(t *testing.T) {
				c, whole := begin(t, method, t.TempDir())
				c.SupernetPreset = preset
				r, err := run.Do(t.Context(), c, whole)
				require.NoError(t, err)
				require.Zero(t, r.LabelsUsed)
				require.Nil(t, r.Queries)
				require.NotNil(t, r.PickJudged)
				require.Equal(t, r.Architectures[0].Arch, r.Pick)
				require.Equal(t, what, r.Shared.What[:len(what)])
				if method == "spos" && preset == search.PresetDefault {
					require.Greater(t, r.Shared.Measured, 20, "an evolution behind the random ones")
				}
				require.FileExists(t, filepath.Join(whole.Dir, report.PageName))
				stopped, stops := t.TempDir(), 0
				for signs := 1; ; signs++ {
					c, d := begin(t, method, stopped)
					c.SupernetPreset = preset
					ctx, cancel := context.WithCancel(t.Context())
					left := signs
					d.Progress = func(run.Progress) {
						if left--; left == 0 {
							cancel()
						}
					}
					_, err := run.Do(ctx, c, d)
					cancel()
					if err == nil {
						break
					}
					require.ErrorIs(t, err, run.ErrInterrupted)
					stops++
				}
				require.Positive(t, stops)
				runtest.SameFiles(t, whole.Dir, stopped)
				runtest.SameEvents(t, whole.Dir, stopped)
			})
		}
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	for text, change := range map[string]func(*search.Config, *run.Deps){
		"--supernet-data is not set":            func(c *search.Config, _ *run.Deps) { c.SupernetData = "" },
		"--supernet-recipe: recipe \"none\" is": func(c *search.Config, _ *run.Deps) { c.SupernetRecipe = "none" },
		"asks for no labels": func(c *search.Config, _ *run.Deps) {
			c.Before, c.Budget = []int{5}, 10
		},
		"spos cannot search nasbench201": func(_ *search.Config, d *run.Deps) { d.Space = space.NASBench201{} },
		"nothing is there that trains":   func(_ *search.Config, d *run.Deps) { d.Supernets.Train = nil },
	} {
		c, d := begin(t, "spos", "")
		change(&c, &d)
		_, err := run.Do(t.Context(), c, d)
		require.ErrorContains(t, err, text)
	}
}
