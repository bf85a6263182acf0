//go:build cuda

package serve

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// fakeDriver compiles testdata/nvml.c.
func fakeDriver(t *testing.T, flags ...string) nvml.LibraryOption {
	path := filepath.Join(t.TempDir(), "nvml.so")
	out, err := exec.Command("cc", append(flags, "-shared", "-fPIC", "-o", path, "testdata/nvml.c")...).CombinedOutput()
	require.NoError(t, err, string(out))
	return nvml.WithLibraryPath(path)
}

func told(t *testing.T, g *gpus) map[string]float64 {
	r := prometheus.NewRegistry()
	require.NoError(t, r.Register(g))
	families, err := r.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			all[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
	}
	return all
}

func TestGPUs(t *testing.T) {
	g, err := newGPUs(fakeDriver(t))
	require.NoError(t, err)
	want := map[string]float64{
		"ctnas_gpu_utilization 0": 0.73, "ctnas_gpu_memory_bytes 0": 1000000007, "ctnas_gpu_memory_bytes 1": 2000000014,
		"ctnas_gpu_power_watts 0": 312.5, "ctnas_gpu_ecc_errors 0": 5, "ctnas_gpu_xid 0": 79,
	}
	require.Eventually(t, func() bool { return len(told(t, g)) == len(want) }, time.Minute, time.Millisecond)
	require.Equal(t, want, told(t, g))
	require.NoError(t, g.Close())
}

// What an old driver's library lacks is absent, and is not called: that would end the process.
func TestAnOldDriver(t *testing.T) {
	g, err := newGPUs(fakeDriver(t, "-DOLD"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{
		"ctnas_gpu_utilization 0": 0.73, "ctnas_gpu_memory_bytes 0": 1000000007, "ctnas_gpu_memory_bytes 1": 2000000014,
		"ctnas_gpu_power_watts 0": 312.5,
	}, told(t, g))
	require.NoError(t, g.Close())
}

func TestNoDriver(t *testing.T) {
	_, err := newGPUs(nvml.WithLibraryPath(filepath.Join(t.TempDir(), "none.so")))
	require.Error(t, err)
}
