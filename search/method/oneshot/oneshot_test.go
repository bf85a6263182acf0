package oneshot

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
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

// train trains a supernet as the program does.
func train(ctx context.Context, o run.SupernetOrder) (*trainer.SupernetResult, error) {
	sp, err := space.Open(o.Space)
	if err != nil {
		return nil, err
	}
	whole, err := data.Open(o.Data, data.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = whole.Close() }()
	d, err := supernet.HoldOut(whole, o.Recipe.HeldOut)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	device := exec.Config{Device: "cpu", Threads: 1}
	how, err := supernet.NewHow(sp, o.Recipe, d, o.Seed, device, o.Sampler)
	if err != nil {
		return nil, err
	}
	defer how.Close()
	return trainer.TrainSupernet(ctx, trainer.SupernetJob{Space: sp.Name(), Paths: how.Paths, Sampler: how.Sampler,
		Data: d, Source: "imagenet", HeldOut: o.Recipe.HeldOut, Recipe: o.Recipe, Seed: o.Seed,
		OnNaN: trainer.OnNaNStop}, trainer.Deps{Device: device, Dir: o.Dir, Version: "test", Progress: o.Progress})
}

// tiny is a recipe of a method whose training takes no time.
const tiny = `
held-out: 12
channels: 4
stacks: 1
modules: 1
resolution: 8
epochs: 2
batch: 12
lr: 0.1
`

// mixing is what a tiny recipe of a mixture has besides.
var mixing = map[string]string{
	"darts": "second-order: true\nalpha-lr: 0.5\nalpha-beta1: 0.5\nalpha-beta2: 0.999\nalpha-start: 0.001\n",
	"fbnet": "alpha-lr: 0.5\nalpha-beta1: 0.9\nalpha-beta2: 0.999\ngumbel-start: 5\ngumbel-decay: 0.1\n",
}

func begin(t *testing.T, method, images, dir string) (search.Config, run.Deps) {
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	recipe := filepath.Join(t.TempDir(), "recipe.yaml")
	require.NoError(t, os.WriteFile(recipe, []byte("method: "+method+tiny+mixing[method]+"recalibrate: 1\n"), 0o644))
	c.Method, c.Space, c.SupernetData, c.SupernetCells, c.SupernetRecipe = method, "nasbench101-v4",
		"imagenet:"+images, 12, recipe
	sp, err := space.Open(c.Space)
	require.NoError(t, err)
	return c, run.Deps{Space: sp, Source: &judge{sealed: true}, Dir: dir,
		Device: exec.Config{Device: "cpu", Threads: 1}, Program: run.Program{Version: "test"},
		Supernets: run.Supernets{Train: train}}
}

// Whatever the method and the protocol: no label is asked for, the pick is judged when the search has ended, and one
// that is stopped at every sign of progress in turn ends in the same bytes.
func TestMethodsPickWithoutLabels(t *testing.T) {
	images := testdata.Images(t)
	for _, preset := range []string{search.PresetDefault, search.PresetPublished} {
		for _, method := range []string{"spos", "fairnas", "enas", "darts", "fbnet"} {
			t.Run(method+" "+preset, func(t *testing.T) {
				c, whole := begin(t, method, images, t.TempDir())
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
				if mixture := mixing[method] != ""; mixture {
					require.Len(t, r.Architectures, 1)
					require.Equal(t, preset == search.PresetPublished, r.Shared.Outside != nil)
					requireMixtureEvents(t, whole.Dir)
				}
				require.FileExists(t, filepath.Join(whole.Dir, report.PageName))
				stopped, stops, step := t.TempDir(), 0, 1
				if !testdata.All() {
					step = 3
				}
				for signs := 1; ; signs += step {
					_, d := begin(t, method, images, stopped)
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

// requireMixtureEvents wants an event an epoch, whose weights are those of the choices: of the operations of all
// decisions together as much as there are decisions that have them.
func requireMixtureEvents(t *testing.T, dir string) {
	all, _, err := events.Read(dir)
	require.NoError(t, err)
	epochs := 0
	for _, e := range all {
		if e.Name != report.EventMixture {
			continue
		}
		epochs++
		require.Equal(t, epochs, e.Step)
		require.InDelta(t, 1, e.Values[report.SharePrefix+"conv3x3-bn-relu"]+
			e.Values[report.SharePrefix+"conv1x1-bn-relu"]+e.Values[report.SharePrefix+"maxpool3x3"], 1e-5)
		require.Positive(t, e.Values["entropy"])
	}
	require.Equal(t, 2, epochs)
}

// What a mixture derives must be within the limits: there is no other.
func TestDerivedBeyondLimits(t *testing.T) {
	c, d := begin(t, "fbnet", testdata.Images(t), "")
	c.MaxParams = 1
	_, err := run.Do(t.Context(), c, d)
	require.ErrorContains(t, err, "is not within the limits: fbnet knows no other")
}

func TestSettingsThatCannotBe(t *testing.T) {
	for text, change := range map[string]func(*search.Config, *run.Deps){
		"--supernet-data is not set":            func(c *search.Config, _ *run.Deps) { c.SupernetData = "" },
		"--supernet-recipe: recipe \"none\" is": func(c *search.Config, _ *run.Deps) { c.SupernetRecipe = "none" },
		"asks for no labels": func(c *search.Config, _ *run.Deps) {
			c.Before, c.Budget = []int{5}, 10
		},
		"--space nasbench201: spos cannot search it": func(c *search.Config, _ *run.Deps) { c.Space = "nasbench201" },
		"--space mobilenetv3@w0.35,r32,s16: darts cannot search it": func(c *search.Config, d *run.Deps) {
			c.Method, c.SupernetRecipe, c.Space = "darts", "darts", "mobilenetv3@w0.35,r32,s16"
		},
		"nothing is there that trains": func(_ *search.Config, d *run.Deps) { d.Supernets.Train = nil },
	} {
		c, d := begin(t, "spos", "nowhere", "")
		change(&c, &d)
		_, err := run.Do(t.Context(), c, d)
		require.ErrorContains(t, err, text)
	}
}

// Who measures on images that no path has seen must have some.
func TestNothingIsHeldOut(t *testing.T) {
	images := testdata.Images(t)
	for method, want := range map[string]string{"enas": "held-out 0: imagenet has no validation images",
		"spos": "no images are held out"} {
		c, d := begin(t, method, images, "")
		c.SupernetPreset = search.PresetPublished
		text := "method: " + method + strings.Replace(tiny, "held-out: 12", "held-out: 0", 1) + "recalibrate: 0\n"
		require.NoError(t, os.WriteFile(c.SupernetRecipe, []byte(text), 0o644))
		_, err := run.Do(t.Context(), c, d)
		require.ErrorContains(t, err, want)
	}
}
