package trainer

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Once-for-all's package loads our files by its own function, and we what it makes of its supernet then, all tensors
// equal. It has no space of small strides, whose files are alike.
func TestSupernetFilesOfOnceForAll(t *testing.T) {
	if testing.Short() {
		t.Skip("runs PyTorch")
	}
	python := testdata.Python(t, "torch", "safetensors", "ofa")
	dir := t.TempDir()
	s := philox.New(9, philox.PurposeTest, 0)
	names := map[string]nn.Shared{}
	all := map[string][][]float32{}
	for name, width := range map[string]float64{"w1": 1, "w1.2": 1.2} {
		shared, err := zoo.OnceForAll{Width: width}.Supernet(map[string]int{"w1": 1000, "w1.2": 10}[name])
		require.NoError(t, err)
		values := make([][]float32, len(shared.Variables))
		for i, v := range shared.Variables {
			values[i] = make([]float32, v.Len())
			for k := range values[i] {
				values[i][k] = float32(s.Float64())
			}
		}
		for _, extension := range []string{".pth", ".safetensors"} {
			require.NoError(t, WriteShared(filepath.Join(dir, name+extension), shared, values, nil))
		}
		names[name], all[name] = shared, values
	}
	out, err := exec.Command(python, filepath.Join(testdata.Root(), "scripts", "peers", "supernet.py"), "--files",
		dir).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, 4, strings.Count(string(out), ": 411 tensors"), string(out))
	for name, shared := range names {
		for _, extension := range []string{".pth", ".safetensors", ".ofa.pth"} {
			values, err := ReadShared(filepath.Join(dir, name+extension), shared)
			require.NoError(t, err)
			for i, v := range shared.Variables {
				require.True(t, slices.Equal(all[name][i], values[i]), "%s%s: %s", name, extension, v.Name)
			}
		}
	}
}
