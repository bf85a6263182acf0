package trainer

import (
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

// LoadWeights sets a model's variables from a file that holds just these.
func LoadWeights(path string, m *Model) error {
	values := m.Values()
	if err := ReadWeights(path, m.Net, values); err != nil {
		return err
	}
	m.SetValues(values)
	return nil
}

// ReadWeights replaces the values of a network's variables, in the layout of memory, by those of a file of safetensors or PyTorch that holds just these.
// Auxiliary heads may be missing in the file or in the network, and PyTorch's counts of batches are not used.
func ReadWeights(path string, net *nn.Network, values [][]float32) error {
	tensors, err := format.Read(path)
	if err != nil {
		return err
	}
	byName := map[string]format.Tensor{}
	for _, t := range tensors {
		byName[formerName(t.Name)] = t
	}
	needed := net.Ancestors(net.Outputs[0].Node)
	for i, v := range net.Variables() {
		t, ok := byName[v.Name]
		if !ok {
			if !needed[v.Node] {
				continue
			}
			return fmt.Errorf("%s: there is no tensor %q", path, v.Name)
		}
		delete(byName, v.Name)
		if !slices.Equal(t.Shape, v.TorchShape()) {
			return fmt.Errorf("%s: tensor %q has shape %v, want %v", path, v.Name, t.Shape, v.TorchShape())
		}
		values[i] = nn.FromTorch(v, t.Data)
	}
	for _, t := range tensors {
		name := formerName(t.Name)
		if _, left := byName[name]; left && !strings.HasSuffix(name, ".num_batches_tracked") && !strings.HasPrefix(name, "auxiliary") {
			return fmt.Errorf("%s: the network has no tensor %q (%d tensors, %d variables)", path, t.Name, len(tensors), len(values))
		}
	}
	return nil
}

// formerName undoes what PyTorch's wrappers for several GPUs put in front of a name.
func formerName(name string) string { return strings.TrimPrefix(name, "module.") }
