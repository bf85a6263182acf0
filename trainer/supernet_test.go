package trainer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// largest is the largest network of once-for-all's space of a width, for images of side 32 and 10 classes.
func largest(width float64) (*nn.Network, error) {
	o := zoo.OnceForAll{Width: width, Depths: [5]int{4, 4, 4, 4, 4}, Dropout: zoo.OnceForAllDropout}
	for i := range o.Kernels {
		o.Kernels[i], o.Ratios[i] = 7, 6
	}
	return o.Build(32, 10)
}

// The largest network of the space with its weights as a supernet: matrices that double what they are multiplied with.
func writeSupernet(t *testing.T, path, leaveOut string) (*nn.Network, map[string]format.Tensor) {
	net, err := largest(1)
	require.NoError(t, err)
	values := net.Initialize(nn.HeFanOut, 4)
	own := map[string]format.Tensor{}
	var tensors []format.Tensor
	for i, v := range net.Variables() {
		x := format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])}
		own[v.Name] = x
		if strings.HasPrefix(v.Name, "blocks.") && !strings.HasPrefix(v.Name, "blocks.0.") &&
			!strings.Contains(v.Name, ".se.") {
			module, role := v.Name[:strings.LastIndex(v.Name, ".")], v.Name[strings.LastIndex(v.Name, "."):]
			x.Name = module + module[strings.LastIndex(module, "."):] + role
			for _, m := range []struct {
				name string
				n    int
			}{{"7to5_matrix", 25}, {"5to3_matrix", 9}} {
				if strings.HasSuffix(v.Name, "depth_conv.conv.weight") {
					matrix := make([]float32, m.n*m.n)
					for k := range m.n {
						matrix[k*m.n+k] = 2
					}
					tensors = append(tensors, format.Tensor{Name: module + "." + m.name, Shape: []int{m.n, m.n},
						Data: matrix})
				}
			}
		}
		x.Name = strings.Replace(x.Name, ".conv.", ".mobile_inverted_conv.",
			strings.Count(x.Name[:min(10, len(x.Name))], "blocks."))
		if !strings.Contains(x.Name, leaveOut) {
			tensors = append(tensors, x)
		}
	}
	require.NoError(t, format.WriteSafetensors(path, tensors, nil))
	return net, own
}

func TestSupernet(t *testing.T) {
	if testing.Short() {
		t.Skip("a supernet is written twice: not with -short")
	}
	path := filepath.Join(t.TempDir(), "supernet.safetensors")
	whole, own := writeSupernet(t, path, "nothing of this name")
	values := whole.Initialize(nn.HeFanOut, 9)
	require.NoError(t, ReadWeights(path, whole, values))
	for i, v := range whole.Variables() {
		require.Equal(t, own[v.Name].Data, nn.ToTorch(v, values[i]), v.Name)
	}
	// Units of 2, 3, 2, 2, 3 blocks: the third block of the second unit is the supernet's block 7.
	net, err := zoo.OnceForAll{
		Depths:  [5]int{2, 3, 2, 2, 3},
		Kernels: [20]int{5, 3, 0, 0, 7, 5, 3, 0, 3, 5, 0, 0, 7, 7, 0, 0, 3, 3, 5, 0},
		Ratios:  [20]int{3, 4, 0, 0, 6, 6, 4, 0, 3, 3, 0, 0, 6, 6, 0, 0, 3, 4, 6, 0},
		Width:   1, Dropout: zoo.OnceForAllDropout,
	}.Build(32, 10)
	require.NoError(t, err)
	values = net.Initialize(nn.HeFanOut, 9)
	require.NoError(t, ReadWeights(path, net, values))
	get := func(name string) (nn.Variable, []float32) {
		for i, v := range net.Variables() {
			if v.Name == name {
				return v, nn.ToTorch(v, values[i])
			}
		}
		require.Fail(t, name)
		return nn.Variable{}, nil
	}
	v, small := get("blocks.5.conv.depth_conv.conv.weight")
	large := own["blocks.7.conv.depth_conv.conv.weight"]
	require.Equal(t, []int{160, 1, 3, 3}, v.TorchShape())
	for c := range 160 {
		for y := range 3 {
			for x := range 3 {
				require.Equal(t, 4*large.Data[(c*7+y+2)*7+x+2], small[(c*3+y)*3+x])
			}
		}
	}
	v, small = get("blocks.5.conv.point_linear.conv.weight")
	large = own["blocks.7.conv.point_linear.conv.weight"]
	require.Equal(t, []int{40, 160, 1, 1}, v.TorchShape())
	for o := range 40 {
		require.Equal(t, large.Data[o*240:o*240+160], small[o*160:o*160+160])
	}
	_, small = get("blocks.12.conv.depth_conv.se.fc.expand.bias") // the last of all
	require.Equal(t, own["blocks.19.conv.depth_conv.se.fc.expand.bias"].Data[:len(small)], small)

	writeSupernet(t, path, "blocks.7.mobile_inverted_conv.point_linear.bn")
	require.ErrorContains(t, ReadWeights(path, net, values),
		`there is no tensor "blocks.5.conv.point_linear.bn.weight"`)
	wide, err := largest(1.2)
	require.NoError(t, err)
	require.ErrorContains(t, ReadWeights(path, wide, wide.Initialize(nn.HeFanOut, 9)), "want one that holds")
}
