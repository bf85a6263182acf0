package trainer

import (
	"fmt"
	"path/filepath"
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

// ReadShared returns the values of a supernet's variables, in their order and the layout of memory, from a file of
// safetensors or PyTorch that must hold just these.
func ReadShared(path string, s nn.Shared) ([][]float32, error) {
	w, err := OpenWeights(path)
	if err != nil {
		return nil, err
	}
	return w.FillShared(s)
}

// WriteShared writes a supernet's values as safetensors, or where the path ends with .pth or .pt as a file of PyTorch,
// which has no metadata. Names are the variables', so that once-for-all's program reads its own supernet.
func WriteShared(path string, s nn.Shared, values [][]float32, metadata map[string]string) error {
	if len(values) != len(s.Variables) {
		return fmt.Errorf("%s: values of %d variables of %s, want %d", path, len(values), s.Name, len(s.Variables))
	}
	tensors := make([]format.Tensor, len(values))
	for i, v := range s.Variables {
		if len(values[i]) != v.Len() {
			return fmt.Errorf("%s: %d values of %s, want %d", path, len(values[i]), v.Name, v.Len())
		}
		tensors[i] = format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])}
	}
	if extension := filepath.Ext(path); extension == ".pth" || extension == ".pt" {
		return format.WriteTorch(path, tensors)
	}
	return format.WriteSafetensors(path, tensors, metadata)
}

// FillShared returns the values of a supernet's variables, in their order and the layout of memory: those of the file,
// which must hold just these. PyTorch's counts of batches are not used. Once-for-all's names may be in any of their
// spellings.
func (w *Weights) FillShared(s nn.Shared) ([][]float32, error) {
	byName := make(map[string]format.Tensor, len(w.tensors))
	for _, t := range w.tensors {
		name := simple(t.Name)
		if strings.HasSuffix(name, ".num_batches_tracked") {
			continue
		}
		if twin, twice := byName[name]; twice {
			return nil, fmt.Errorf("%s: tensors %q and %q are one variable of the supernet %s", w.Path, twin.Name,
				t.Name, s.Name)
		}
		byName[name] = t
	}
	values := make([][]float32, len(s.Variables))
	for i, v := range s.Variables {
		name := simple(v.Name)
		t, found := byName[name]
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
		delete(byName, name)
	}
	for _, t := range w.tensors { // in the file's order
		if _, left := byName[simple(t.Name)]; left {
			return nil, fmt.Errorf("%s: the supernet %s has no tensor %q (%d tensors, %d variables)", w.Path, s.Name,
				t.Name, len(w.tensors), len(values))
		}
	}
	return values, nil
}

// simple is a canonical name in which the modules that once-for-all puts around the convolutions, norms and linear
// layers of elastic blocks are left out: its program reads names with and without them.
func simple(name string) string {
	name = canonical(name)
	for _, module := range []string{".conv", ".bn", ".linear"} {
		name = strings.Replace(name, module+module+".", module+".", 1)
	}
	return name
}
