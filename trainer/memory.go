package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Memory is how many bytes of a GPU's memory the training of a network by a recipe takes: parameters, gradients and
// what the optimizer keeps, the tensors of a batch, programs' workspaces, and two batches of images on their way. It is
// what is allocated when the training is recorded as for an H100, without one. What is not in it: the CUDA context and
// kernels (some 500 MB), the sums of shards on several devices, and a recalibration's packed weights.
func Memory(net *nn.Network, r Recipe, p exec.Precision) (int64, error) {
	d := exec.OpenRecorder(p)
	defer d.Close()
	m, err := NewModel(d, net, (&Job{Recipe: r}).options())
	if err != nil {
		return 0, err
	}
	defer m.Close()
	if _, err := newOptimizer(m.Parameters, r.Optimization); err != nil {
		return 0, fmt.Errorf("%s: %w", net.Name, err)
	}
	images := data.Config{Batch: r.Batch, Shards: r.parts(), Transform: data.Transform{Size: net.Input().H}}
	return m.Bytes() + 2*int64(images.RawBytes()), nil
}
