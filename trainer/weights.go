package trainer

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// SaveWeights writes a model's variables under PyTorch's names and in its order.
func SaveWeights(path string, m *Model, metadata map[string]string) error {
	var tensors []format.Tensor
	values := m.Values()
	for i, v := range m.Net.Variables() {
		tensors = append(tensors, format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])})
	}
	return format.WriteSafetensors(path, tensors, metadata)
}

// LoadWeights sets a model's variables from a file that holds just these.
func LoadWeights(path string, m *Model) error {
	tensors, _, err := format.ReadSafetensors(path)
	if err != nil {
		return err
	}
	byName := map[string]format.Tensor{}
	for _, t := range tensors {
		byName[t.Name] = t
	}
	variables := m.Net.Variables()
	values := make([][]float32, len(variables))
	for i, v := range variables {
		t, ok := byName[v.Name]
		if !ok {
			return fmt.Errorf("%s: there is no tensor %q", path, v.Name)
		}
		if !slices.Equal(t.Shape, v.TorchShape()) {
			return fmt.Errorf("%s: tensor %q has shape %v, want %v", path, v.Name, t.Shape, v.TorchShape())
		}
		values[i] = nn.FromTorch(v, t.Data)
	}
	if len(tensors) != len(variables) {
		return fmt.Errorf("%s: %d tensors, the network has %d", path, len(tensors), len(variables))
	}
	m.SetValues(values)
	return nil
}
