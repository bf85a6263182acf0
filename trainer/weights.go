package trainer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// SaveWeights writes a model's variables under PyTorch's names and in its order.
func SaveWeights(path string, m *Model, metadata map[string]string) error {
	return WriteWeights(path, m.Net, m.Values(), metadata)
}

// WriteWeights writes values of a network's variables, in the layout of memory, likewise.
func WriteWeights(path string, net *nn.Network, values [][]float32, metadata map[string]string) error {
	var tensors []format.Tensor
	for i, v := range net.Variables() {
		tensors = append(tensors, format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])})
	}
	return format.WriteSafetensors(path, tensors, metadata)
}

// ClassesKey is the entry of a weights file's metadata, and of an ONNX file's, that holds the names of the classes in the order of the logits, a list in JSON.
const ClassesKey = "classes"

// AddClasses puts names of classes into metadata; none: nothing is put there.
func AddClasses(metadata map[string]string, names []string) {
	if len(names) > 0 {
		text, _ := json.Marshal(names) // a list of texts
		metadata[ClassesKey] = string(text)
	}
}

// Weights are what a file of weights holds.
type Weights struct {
	Path     string
	Metadata map[string]string // of safetensors; empty otherwise

	tensors []format.Tensor
}

// OpenWeights reads a file of safetensors or PyTorch.
func OpenWeights(path string) (*Weights, error) {
	tensors, metadata, err := format.Read(path)
	if err != nil {
		return nil, err
	}
	return &Weights{path, metadata, tensors}, nil
}

// Classes are the names of the classes that the file says its logits are of, in their order; nil where it does not say.
func (w *Weights) Classes() ([]string, error) {
	text, found := w.Metadata[ClassesKey]
	if !found {
		return nil, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%s: metadata %q is %.200q, want a list of names in JSON", w.Path, ClassesKey, text)
	}
	return names, nil
}

// LoadWeights sets a model's variables from a file that holds just these.
func LoadWeights(path string, m *Model) error {
	values := m.Values()
	if err := ReadWeights(path, m.Net, values); err != nil {
		return err
	}
	m.SetValues(values)
	return nil
}

// ReadWeights is Fill with the weights of a file.
func ReadWeights(path string, net *nn.Network, values [][]float32) error {
	w, err := OpenWeights(path)
	if err != nil {
		return err
	}
	return w.Fill(net, values)
}

// Fill replaces the values of a network's variables, in the layout of memory, by those of the file, which must hold just these. Auxiliary heads may be missing
// in the file or in the network, and PyTorch's counts of batches are not used. Of a supernet of once-for-all the network's part is taken.
func (w *Weights) Fill(net *nn.Network, values [][]float32) (err error) {
	byName := map[string]format.Tensor{}
	for _, t := range w.tensors {
		byName[canonical(t.Name)] = t
	}
	whole := !isSupernet(byName)
	if !whole {
		if byName, err = subNetwork(net, byName); err != nil {
			return fmt.Errorf("%s: %w", w.Path, err)
		}
	}
	needed := net.Ancestors(net.Outputs[0].Node)
	for i, v := range net.Variables() {
		t, ok := byName[canonical(v.Name)]
		if !ok {
			if !needed[v.Node] {
				continue
			}
			return fmt.Errorf("%s: there is no tensor %q", w.Path, v.Name)
		}
		delete(byName, canonical(v.Name))
		if !slices.Equal(t.Shape, v.TorchShape()) {
			return fmt.Errorf("%s: tensor %q has shape %v, want %v", w.Path, v.Name, t.Shape, v.TorchShape())
		}
		values[i] = nn.FromTorch(v, t.Data)
	}
	for _, t := range w.tensors {
		name := canonical(t.Name)
		if _, left := byName[name]; whole && left && !strings.HasSuffix(name, ".num_batches_tracked") && !strings.HasPrefix(name, "auxiliary") {
			return fmt.Errorf("%s: the network has no tensor %q (%d tensors, %d variables)", w.Path, t.Name, len(w.tensors), len(values))
		}
	}
	return nil
}

// canonical is a name without what PyTorch's wrappers for several GPUs put in front of it, and with the one of the two names that the convolutions of a block
// have in the programs of mit-han-lab.
func canonical(name string) string {
	return strings.Replace(strings.TrimPrefix(name, "module."), ".mobile_inverted_conv.", ".conv.", 1)
}
