package trainer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Tensor returns the shape, in PyTorch's order, of the file's tensor of a name; nil where it has none. Names are
// compared as Fill does.
func (w *Weights) Tensor(name string) []int {
	for _, t := range w.tensors {
		if canonical(t.Name) == canonical(name) {
			return t.Shape
		}
	}
	return nil
}

// FillShared returns the values of a supernet's variables, in their order and the layout of memory: those of the file,
// which must hold just these.
func (w *Weights) FillShared(s nn.Shared) ([][]float32, error) {
	byName := make(map[string]format.Tensor, len(w.tensors))
	for _, t := range w.tensors {
		byName[canonical(t.Name)] = t
	}
	values := make([][]float32, len(s.Variables))
	for i, v := range s.Variables {
		t, found := byName[canonical(v.Name)]
		switch {
		case !found:
			return nil, fmt.Errorf("%s: there is no tensor %q, which the supernet %s has", w.Path, v.Name, s.Name)
		case !slices.Equal(t.Shape, v.TorchShape()):
			return nil, fmt.Errorf("%s: tensor %q has shape %v, and that of the supernet %s has %v: it is of another "+
				"width or for other classes", w.Path, t.Name, t.Shape, s.Name, v.TorchShape())
		}
		if wrong := defect(v, t.Data); wrong != "" && !w.AllowNonFinite {
			return nil, fmt.Errorf("%s: %w: %s", w.Path, ErrNotFinite, wrong)
		}
		values[i] = nn.FromTorch(v, t.Data)
		delete(byName, canonical(v.Name))
	}
	for _, t := range w.tensors {
		if _, left := byName[canonical(t.Name)]; left && !strings.HasSuffix(t.Name, ".num_batches_tracked") {
			return nil, fmt.Errorf("%s: the supernet %s has no tensor %q (%d tensors, %d variables)", w.Path, s.Name,
				t.Name, len(w.tensors), len(values))
		}
	}
	return values, nil
}
