package supernet_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// tinySpace has networks that take a millisecond for an image.
const tinySpace = "mobilenetv3@w0.35,r16-32,s16"

func openSpace(t testing.TB, name string) space.Elastic {
	sp, err := space.Open(name)
	require.NoError(t, err)
	return sp.(space.Elastic)
}

// writeSupernet writes random weights of a supernet for some classes.
func writeSupernet(t testing.TB, sp space.Elastic, classes []string, metadata map[string]string) string {
	shared, err := sp.Supernet(space.NetworkSize{Classes: len(classes)})
	require.NoError(t, err)
	all := map[string]string{}
	trainer.AddClasses(all, classes)
	maps.Copy(all, metadata)
	path := filepath.Join(t.TempDir(), "w.safetensors")
	require.NoError(t, trainer.WriteShared(path, shared, shared.Initialize(anyValue, 1), all))
	return path
}

// anyValue is a start that takes little time to draw, about as large as He's.
func anyValue(role nn.Role, fan nn.Fan, linear bool, s *philox.Stream) float64 {
	switch {
	case role == nn.Bias:
		return 0
	case linear:
		return (float64(s.Uint32())/(1<<31) - 1) / math.Sqrt(float64(fan.In))
	}
	return (float64(s.Uint32())/(1<<31) - 1) * math.Sqrt(6/float64(fan.Out))
}

// tiny is an evaluator of a random supernet on few images.
func tiny(t testing.TB, images string, change func(*supernet.Config)) *supernet.Evaluator {
	e, err := supernet.Open(t.Context(), tinyConfig(t, images, change))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func tinyConfig(t testing.TB, images string, change func(*supernet.Config)) supernet.Config {
	sp := openSpace(t, tinySpace)
	c := supernet.Config{Space: sp, Device: exec.Config{Device: "cpu", Threads: 2}, Cache: t.TempDir(), Version: "v"}
	c.Spec = supernet.NewSpec("")
	c.Data, c.Spec.Images, c.Calibrate = images, 20, 24
	change(&c)
	if c.Path == "" {
		c.Path = writeSupernet(t, sp, classNames, nil)
	}
	return c
}

// refused are the words with which an evaluator is refused.
func refused(t *testing.T, images, want string, change func(*supernet.Config)) {
	t.Helper()
	_, err := supernet.Open(t.Context(), tinyConfig(t, images, change))
	require.ErrorContains(t, err, want)
}

// imageSet is testdata.Images.
func imageSet(t testing.TB) string { return "imagenet:" + testdata.Images(t) }

// classNames are those of testdata.Images.
var classNames = []string{"class0", "class1", "class2"}

func sample(sp space.Space, n int) (archs []space.Arch) {
	s := philox.New(7, philox.PurposeTest, 0)
	for range n {
		archs = append(archs, sp.Sample(s))
	}
	return archs
}

func quiet(supernet.Told) {}

// What is measured depends neither on how many architectures are evaluated at once nor on threads; what is in the cache
// is not evaluated again.
func TestEvaluate(t *testing.T) {
	set := imageSet(t)
	one := tiny(t, set, func(c *supernet.Config) { c.Workers, c.Device.Threads = 1, 1 })
	archs := sample(one.Space, 4)
	want, err := one.Evaluate(t.Context(), archs, quiet)
	require.NoError(t, err)
	for _, m := range want {
		require.Equal(t, 20, m.Images)
	}
	require.NotEqual(t, want[0].Loss, want[1].Loss)
	three := tiny(t, set, func(c *supernet.Config) {
		c.Path, c.Cache, c.Workers, c.Device.Threads = one.Path, one.Cache, 3, 2
		c.Cache = t.TempDir()
	})
	told := 0
	got, err := three.Evaluate(t.Context(), archs, func(x supernet.Told) {
		require.False(t, x.Cached)
	})
	require.NoError(t, err)
	require.Equal(t, want, got)

	got, err = one.Evaluate(t.Context(), archs, func(x supernet.Told) {
		require.True(t, x.Cached)
		told++
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, 4, told)

	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err = tiny(t, set, func(c *supernet.Config) {}).Evaluate(stopped, archs, quiet)
	require.ErrorIs(t, err, context.Canceled)
}

// dying is a device without memory, that says so when it is closed too, as a GPU that has died does.
type dying struct {
	exec.Accelerator
	err error
}

var errDying = errors.New("it has died")

func (*dying) Level() string { return "dying" }

func (d *dying) Alloc(int) (unsafe.Pointer, error) {
	d.err = errDying
	return nil, d.err
}

func (d *dying) Close() error { return d.err }

// A device that dies is opened anew as often as an evaluation is tried again, and then its error is the end.
func TestDeviceDies(t *testing.T) {
	opened := 0
	exec.Register("dying", func(string, exec.Precision) (exec.Accelerator, error) {
		opened++
		return &dying{}, nil
	})
	e := tiny(t, imageSet(t), func(c *supernet.Config) { c.Device.Device, c.Retries, c.Workers = "dying:0", 2, 1 })
	opened = 0
	_, err := e.Evaluate(t.Context(), sample(e.Space, 1), quiet)
	require.ErrorIs(t, err, errDying)
	require.Equal(t, 3, opened)
	_, err = e.CutOut(t.Context(), sample(e.Space, 1)[0])
	require.ErrorIs(t, err, errDying)
}

// What does not belong together is refused before anything is evaluated, by its name.
func TestOpenRefuses(t *testing.T) {
	set := imageSet(t)
	sp, names := openSpace(t, tinySpace), classNames
	good := writeSupernet(t, sp, names, nil)
	with := func(path string) func(*supernet.Config) {
		return func(c *supernet.Config) { c.Path = path }
	}
	refused(t, set, "there is no supernet of nasbench201: the spaces with one are ",
		func(c *supernet.Config) { c.Path, c.Space = good, mustOpen(t, "nasbench201") })
	refused(t, set, `there is no tensor "stem.conv.weight", which the supernet nasbench101-v4 has`,
		func(c *supernet.Config) { c.Path, c.Space = good, mustOpen(t, "nasbench101-v4") })
	refused(t, set, "it is of another width or for other classes", func(c *supernet.Config) {
		c.Path, c.Space = good, openSpace(t, "mobilenetv3@w0.5,r16,s16")
	})
	refused(t, set, "the weights do not know these classes of the images: class2",
		with(writeSupernet(t, sp, names[:2], nil)))
	refused(t, set, "is not in the supernet of mobilenetv3@w0.35,r32-64,s16: its resolution is 16",
		with(writeSupernet(t, sp, names, map[string]string{trainer.SpaceKey: "mobilenetv3@w0.35,r32-64,s16"})))
	refused(t, set, "want a number of images", with(writeSupernet(t, sp, names,
		map[string]string{trainer.HeldOutKey: "some"})))

	text, err := os.ReadFile(good)
	require.NoError(t, err)
	broken := filepath.Join(t.TempDir(), "broken.safetensors")
	require.NoError(t, os.WriteFile(broken, text[:len(text)-100], 0o644))
	refused(t, set, broken, with(broken))
	alone := filepath.Join(t.TempDir(), "alone.safetensors")
	net, err := sp.Smallest(0).(space.Trainable).Network(space.NetworkSize{Classes: 3})
	require.NoError(t, err)
	require.NoError(t, trainer.WriteWeights(alone, net, net.Initialize(anyValue, 1), nil))
	refused(t, set, "holds the weights of one network", with(alone))
	refused(t, set, "no such file", with(filepath.Join(t.TempDir(), "none")))
	refused(t, set, "or the folder of a supernet whose training has ended", with(t.TempDir()))

	images := func(want string, change func(*supernet.Config)) {
		t.Helper()
		refused(t, set, want, func(c *supernet.Config) {
			c.Path = good
			change(c)
		})
	}
	images("images=61: imagenet:", func(c *supernet.Config) { c.Spec.Images = 61 })
	images("images=13: imagenet:", func(c *supernet.Config) { c.Spec.Images, c.Split = 13, supernet.SplitVal })
	images("calibrate=61: imagenet:", func(c *supernet.Config) { c.Calibrate = 61 })
	images("calibrate 211: want a number of images that equal batches", func(c *supernet.Config) { c.Calibrate = 211 })
	images("does not say what images it was trained on", func(c *supernet.Config) { c.Data = "" })
	refused(t, set, "of the training images the supernet has not seen 10, and no others can judge",
		with(writeSupernet(t, sp, names, map[string]string{trainer.HeldOutKey: "10"})))
}

func mustOpen(t *testing.T, name string) space.Space {
	sp, err := space.Open(name)
	require.NoError(t, err)
	return sp
}

// The folder of a training says its images and how many it has not seen; an architecture outside the supernet is not
// labelled.
func TestRunFolder(t *testing.T) {
	sp := openSpace(t, tinySpace)
	dir := t.TempDir()
	text, err := os.ReadFile(writeSupernet(t, sp, classNames, map[string]string{trainer.SpaceKey: tinySpace,
		trainer.HeldOutKey: "15"}))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, trainer.WeightsName), text, 0o644))
	set := imageSet(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("data: "+set+"\n"), 0o644))
	e := tiny(t, set, func(c *supernet.Config) { c.Path, c.Data, c.Spec.Images = dir, "", 0 })
	require.Equal(t, set, e.Data)
	require.Equal(t, 15, e.Judging())
	require.Equal(t, 24+15, e.Forward())
	file := tiny(t, set, func(c *supernet.Config) { c.Spec.Images = 0 })
	require.Equal(t, 6, file.Judging(), "a tenth of the training images")
	require.NoError(t, e.Has(sp.Smallest(32)))
	require.ErrorContains(t, e.Has(sp.Smallest(48)), "its resolution is 48")
	require.ErrorContains(t, e.Has(mustOpen(t, "mobilenetv3").(space.Elastic).Largest(0)), "its width is 1.0")
	_, err = e.CutOut(t.Context(), sp.Smallest(48))
	require.ErrorContains(t, err, "its resolution is 48")
}

// A record that somebody changed is not believed.
func TestCacheIsChecked(t *testing.T) {
	set := imageSet(t)
	e := tiny(t, set, func(*supernet.Config) {})
	archs := []space.Arch{openSpace(t, tinySpace).Smallest(16)}
	_, err := e.Evaluate(t.Context(), archs, quiet)
	require.NoError(t, err)
	records, err := filepath.Glob(filepath.Join(e.Cache, "*", "*.json"))
	require.NoError(t, err)
	require.Len(t, records, 1)
	text, err := os.ReadFile(records[0])
	require.NoError(t, err)
	changed := bytes.Replace(text, []byte(`"top5": 1`), []byte(`"top5": 0`), 1)
	require.NotEqual(t, text, changed)
	require.NoError(t, os.WriteFile(records[0], changed, 0o644))
	_, err = e.Evaluate(t.Context(), archs, quiet)
	require.ErrorContains(t, err, records[0])
	require.ErrorContains(t, err, "cannot be believed")
}

// The text of labels is read as it is written, in any working directory.
func TestSpec(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for text, want := range map[string]string{
		"supernet:w.pth":                       "supernet:" + dir + "/w.pth",
		"supernet:r?data=shapes&split=heldout": "supernet:" + dir + "/r?data=shapes",
		"supernet:r?data=imagenet:i&split=val&images=500&calibrate=200&seed=3": "supernet:" + dir +
			"/r?data=imagenet:" + dir + "/i&split=val&images=500&calibrate=200&seed=3",
		"supernet:r?data=shapes&statistics=batch": "supernet:" + dir + "/r?data=shapes&statistics=batch",
		"supernet:r?data=shards:a{0..3}.tar?test=b.tar": "supernet:" + dir + "/r?data=shards:" + dir +
			"/a%7B0..3%7D.tar%3Ftest%3D" + dir + "/b.tar",
	} {
		s, err := supernet.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, s.String())
		again, err := supernet.Parse(want)
		require.NoError(t, err)
		require.Equal(t, want, again.String())
	}
	for text, want := range map[string]string{
		"train:x": "want supernet:RUN|FILE", "supernet:": "no supernet is named",
		"supernet:w?epochs=3":   `unknown key "epochs"; known: data, split, images, calibrate, statistics, seed`,
		"supernet:w?split=test": "split", "supernet:w?statistics=none": "statistics",
		"supernet:w?images=-1": "images", "supernet:w?data=photos": "photos",
		"supernet:w?calibrate=499": "equal batches of 50 to 200", "supernet:w?seed=1&seed=2": "seed wants one value",
		"supernet:w?seed=%zz": "invalid URL escape",
	} {
		_, err := supernet.Parse(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, text)
	}
}

// Other images of calibration are other statistics; what is cut out has those that were measured.
func TestStatistics(t *testing.T) {
	set := imageSet(t)
	e := tiny(t, set, func(*supernet.Config) {})
	other := tiny(t, set, func(c *supernet.Config) { c.Path, c.Data, c.Seed = e.Path, e.Data, 1 })
	a := openSpace(t, tinySpace).Largest(16)
	cut, err := e.CutOut(t.Context(), a)
	require.NoError(t, err)
	changed, err := other.CutOut(t.Context(), a)
	require.NoError(t, err)
	same, err := e.CutOut(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, cut.Values, same.Values)
	require.NotEqual(t, cut.Checksum, changed.Checksum)
	for i, v := range cut.Variables() {
		if v.Role.Trainable() {
			require.Equal(t, cut.Values[i], changed.Values[i], v.Name)
		} else {
			require.NotEqual(t, cut.Values[i], changed.Values[i], v.Name)
		}
	}
	require.Equal(t, 16, cut.Origin.Images.Side)
	require.Equal(t, "ceil", cut.Origin.Images.Rounding)
}

// A sub-network is measured as the network is that is cut out of the supernet and evaluated by itself: on images that
// are not resized to the bit, on others but for what bytes round.
func TestMeasuredAsCutOut(t *testing.T) {
	set, n, delta := imageSet(t), 12, 0.02
	if testdata.All() {
		set, n, delta = "shapes", 130, 0
	}
	d, err := data.Open(set, data.Options{})
	require.NoError(t, err)
	e := tiny(t, set, func(c *supernet.Config) {
		c.Split, c.Spec.Images, c.Calibrate = supernet.SplitVal, n, 60
		c.Path = writeSupernet(t, c.Space.(space.Elastic), d.Classes, nil)
	})
	a := openSpace(t, tinySpace).Smallest(32)
	all, err := e.Evaluate(t.Context(), []space.Arch{a}, quiet)
	require.NoError(t, err)
	want := all[0]
	cut, err := e.CutOut(t.Context(), a)
	require.NoError(t, err)
	dev, err := exec.Open(exec.Config{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	m, err := trainer.NewModel(dev, cut.Network, trainer.Options{Batch: 60, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.SetValues(cut.Values)
	judging := d.Validation
	if judging.Len() == 0 {
		judging = d.Test
	}
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	got, err := trainer.Evaluate(t.Context(), m, d, judging.Subset(places),
		trainer.EvalTransform(d, cut.Origin.Images, 32), trainer.Loading{})
	require.NoError(t, err)
	require.Equal(t, n, want.Images)
	require.InDelta(t, float64(got.Loss), float64(want.Loss), delta)
	require.InDelta(t, got.Top1, want.Top1, 5*delta)
	require.InDelta(t, got.Top5, want.Top5, 5*delta)
}
