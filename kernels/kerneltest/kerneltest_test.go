package kerneltest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	ctnas "github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
)

// absent is a GPU that no machine has.
const absent = "cuda:4095"

// A GPU that is named and cannot be opened fails every test that would run on it: without any case nothing was tested.
func TestNamedGPUMustBeThere(t *testing.T) {
	if os.Getenv(sim.OnlyVariable) == absent {
		nothing := func(*testing.T, *ctnas.Device) {}
		for name, each := range map[string]func(*testing.T, func(*testing.T, *ctnas.Device)){
			"device": kerneltest.EachDevice, "accelerator": kerneltest.EachAccelerator,
			"tensor core": kerneltest.EachTensorCore, "storage": kerneltest.EachStorage,
			"executor": kerneltest.EachExecutor, "hopper": kerneltest.EachHopper,
		} {
			if t.Run(name, func(t *testing.T) { each(t, nothing) }) {
				t.Log("PASSED " + name)
			}
		}
		return
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestNamedGPUMustBeThere$", "-test.v")
	child.Env = append(os.Environ(), sim.OnlyVariable+"="+absent)
	out, err := child.CombinedOutput()
	require.Error(t, err, "%s", out)
	require.NotContains(t, string(out), "PASSED")
	require.Contains(t, string(out), "--- FAIL: TestNamedGPUMustBeThere/storage/"+absent)
}

// Cases are counted where a GPU takes them.
func TestGPUCases(t *testing.T) {
	before := kerneltest.GPUCases()
	kerneltest.EachCPU(t, func(*testing.T, *ctnas.Device) {})
	require.Equal(t, before, kerneltest.GPUCases())
	t.Setenv(sim.OnlyVariable, absent)
	require.Equal(t, []string{absent}, kerneltest.Accelerators())
	require.Equal(t, before+1, kerneltest.GPUCases())
}
