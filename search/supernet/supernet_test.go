package supernet_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/format"
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
	values := shared.Initialize(nn.HeFanOut, 1)
	var tensors []format.Tensor
	for i, v := range shared.Variables {
		tensors = append(tensors, format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])})
	}
	names, err := json.Marshal(classes)
	require.NoError(t, err)
	all := map[string]string{trainer.ClassesKey: string(names)}
	for k, v := range metadata {
		all[k] = v
	}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	require.NoError(t, format.WriteSafetensors(path, tensors, all))
	return path
}

// tiny is an evaluator of a random supernet on few images.
func tiny(t testing.TB, change func(*supernet.Config)) *supernet.Evaluator {
	sp := openSpace(t, tinySpace)
	c := supernet.Config{Space: sp, Device: exec.Config{Device: "cpu", Threads: 2}, Cache: t.TempDir(), Version: "v"}
	c.Spec = supernet.NewSpec("")
	c.Data, c.Images, c.Calibrate = "imagenet:"+testdata.Images(t), 20, 24
	change(&c)
	if c.Path == "" {
		c.Path = writeSupernet(t, sp, classes(t), nil)
	}
	e, err := supernet.Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// classes are those of testdata.Images.
func classes(t testing.TB) (names []string) {
	entries, err := os.ReadDir(filepath.Join(testdata.Images(t), "train"))
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

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
	one := tiny(t, func(c *supernet.Config) { c.Workers, c.Device.Threads = 1, 1 })
	archs := sample(one.Space, 4)
	want, err := one.Evaluate(t.Context(), archs, quiet)
	require.NoError(t, err)
	for _, m := range want {
		require.Equal(t, 20, m.Images)
	}
	require.NotEqual(t, want[0].Loss, want[1].Loss)
	three := tiny(t, func(c *supernet.Config) {
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
	_, err = tiny(t, func(c *supernet.Config) {}).Evaluate(stopped, archs, quiet)
	require.ErrorIs(t, err, context.Canceled)
}
