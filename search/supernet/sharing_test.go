package supernet_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// sharingSize is that of small networks of spaces that leave it open.
var sharingSize = trainer.Size{Channels: 8, Stacks: 2, Modules: 1, Resolution: 16}

// sharing is the configuration of an evaluator of a random supernet whose file says its space and size.
func sharing(t testing.TB, images, name string, change func(*supernet.Config)) supernet.Config {
	opened, err := space.Open(name)
	require.NoError(t, err)
	sp := opened.(space.Sharing)
	shared, err := sp.Supernet(space.NetworkSize{Classes: 3, Channels: sharingSize.Channels, Stacks: sharingSize.Stacks,
		Modules: sharingSize.Modules, Side: sharingSize.Resolution})
	require.NoError(t, err)
	metadata := map[string]string{trainer.SpaceKey: name, trainer.HeldOutKey: "20"}
	trainer.AddClasses(metadata, classNames)
	trainer.AddSize(metadata, sharingSize)
	path := t.TempDir() + "/w.safetensors"
	require.NoError(t, trainer.WriteShared(path, shared, shared.Initialize(anyValue, 1), metadata))
	return tinyConfig(t, images, func(c *supernet.Config) {
		c.Path, c.Space = path, sp
		if change != nil {
			change(c)
		}
	})
}

// A path of any supernet is measured as the network that is cut out of it and evaluated by itself, whose size is that
// of the training.
func TestMeasuredPathsOfAnySpace(t *testing.T) {
	set := imageSet(t)
	d, err := data.Open(set, data.Options{})
	require.NoError(t, err)
	held, err := d.Train.Drawn(20, data.HeldOutSeed)
	require.NoError(t, err)
	for _, name := range []string{"nasbench101-v4", "spos@w0.25,r32,s8", "darts@cifar10"} {
		t.Run(name, func(t *testing.T) {
			e, err := supernet.Open(t.Context(), sharing(t, set, name, nil))
			require.NoError(t, err)
			defer e.Close()
			archs := sample(e.Space, 3)
			all, err := e.Evaluate(t.Context(), archs, quiet)
			require.NoError(t, err)
			require.NotEqual(t, all[0].Loss, all[1].Loss)
			for i, a := range archs[:2] {
				require.NoError(t, e.Has(a))
				cut, err := e.CutOut(t.Context(), a)
				require.NoError(t, err)
				got := alone(t, cut, d, held)
				require.Equal(t, 20, all[i].Images)
				require.InDelta(t, float64(got.Loss), float64(all[i].Loss), 0.03)
				require.InDelta(t, got.Top1, all[i].Top1, 0.11) // two of 20 images
				net, err := a.(space.Trainable).Network(e.NetworkSize())
				require.NoError(t, err)
				require.Equal(t, net.Cost().MAdds, cut.Cost().MAdds) // norms may have no parameters in a supernet
			}
		})
	}
}

// alone evaluates a network that was cut out.
func alone(t *testing.T, cut *supernet.CutOut, d *data.Dataset, set *data.Set) trainer.Evaluation {
	dev, err := exec.Open(exec.Config{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	m, err := trainer.NewModel(dev, cut.Network, trainer.Options{Batch: 10, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.SetValues(cut.Values)
	got, err := trainer.Evaluate(t.Context(), m, d, set, trainer.EvalTransform(d, cut.Origin.Images,
		cut.Network.Input().H), trainer.Loading{})
	require.NoError(t, err)
	return got
}

// With the statistics of each batch there is nothing to calibrate, and what is measured does not depend on which images
// would be.
func TestStatisticsOfBatches(t *testing.T) {
	set := imageSet(t)
	open := func(change func(*supernet.Config)) *supernet.Evaluator {
		e, err := supernet.Open(t.Context(), sharing(t, set, "nasbench101-v4", func(c *supernet.Config) {
			c.Split = supernet.SplitVal
			c.Spec.Images, c.Statistics = 12, supernet.StatisticsBatch
			change(c)
		}))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	}
	e := open(func(*supernet.Config) {})
	require.Equal(t, 12, e.Forward())
	archs := sample(e.Space, 3)
	want, err := e.Evaluate(t.Context(), archs, quiet)
	require.NoError(t, err)
	require.Equal(t, 12, want[0].Images)
	other := open(func(c *supernet.Config) { c.Path, c.Cache, c.Seed, c.Calibrate = e.Path, e.Cache, 5, 30 })
	got, err := other.Evaluate(t.Context(), archs, func(x supernet.Told) { require.True(t, x.Cached) })
	require.NoError(t, err)
	require.Equal(t, want, got)
	calibrated := open(func(c *supernet.Config) {
		c.Path, c.Cache, c.Statistics = e.Path, e.Cache, supernet.StatisticsCalibrated
	})
	got, err = calibrated.Evaluate(t.Context(), archs, func(x supernet.Told) { require.False(t, x.Cached) })
	require.NoError(t, err)
	require.NotEqual(t, want, got)
	_, err = e.CutOut(t.Context(), archs[0])
	require.ErrorContains(t, err, "has none of its own")
	require.Contains(t, supernet.NewSource(e, nil).Describe(), "with the statistics of each batch of 12")
}

// Architectures of a space are labelled by a supernet of a space that has them all, and by no other.
func TestSupernetOfAWiderSpace(t *testing.T) {
	set := imageSet(t)
	c := sharing(t, set, "nasbench101-v5", func(c *supernet.Config) { c.Space = mustOpen(t, "nasbench101-v4") })
	e, err := supernet.Open(t.Context(), c)
	require.NoError(t, err)
	defer e.Close()
	require.Equal(t, "nasbench101-v5", e.Supernet().Name())
	all, err := e.Evaluate(t.Context(), sample(e.Space, 1), quiet)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.ErrorContains(t, e.Has(mustParse(t, "nasbench101:best")), "is not in the supernet of nasbench101-v5")

	c.Space = mustOpen(t, "nasbench101")
	_, err = supernet.Open(t.Context(), c)
	require.ErrorContains(t, err, "is not in the supernet of nasbench101-v5")
	require.ErrorContains(t, err, c.Path)
	c.Space = openSpace(t, tinySpace)
	_, err = supernet.Open(context.Background(), c)
	require.ErrorContains(t, err, "is not in the supernet of nasbench101-v5")
}

// A cell as it is written has the weights of the slots in which its vertices stand there, and a label of its own.
func TestMeasuredAsWritten(t *testing.T) {
	e, err := supernet.Open(t.Context(), sharing(t, imageSet(t), "nasbench101-v5", nil))
	require.NoError(t, err)
	defer e.Close()
	a := mustParse(t, "nasbench101:4:101101:01")
	loss := func(a space.Arch) trainer.Real {
		require.NoError(t, e.Has(a))
		all, err := e.Evaluate(t.Context(), []space.Arch{a}, quiet)
		require.NoError(t, err)
		return all[0].Loss
	}
	want := loss(a)
	require.Equal(t, want, loss(space.AsWritten{Arch: a, Text: a.String()}))
	later := space.AsWritten{Arch: a, Text: "nasbench101:5:0101000101:201"} // vertex 1 leads nowhere
	require.Equal(t, a, mustParse(t, later.Text))
	require.NotEqual(t, want, loss(later))
	cut, err := e.CutOut(t.Context(), later)
	require.NoError(t, err)
	require.Equal(t, later.Text, cut.Name)
	bad := space.AsWritten{Arch: a, Text: "nasbench101:6:100001000100101:0101"}
	require.ErrorContains(t, e.Has(bad), "is not in the supernet of nasbench101-v5")
}

func mustParse(t *testing.T, text string) space.Arch {
	a, err := space.Find(text)
	require.NoError(t, err)
	return a
}
