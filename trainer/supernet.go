package trainer

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// A supernet of once-for-all (Cai et al. 2020) holds in one set of tensors the weights of all its sub-networks: of each
// unit the first blocks, of each block the first channels, and of each 7x7 kernel the inner 5x5, multiplied with a
// matrix of its layer, and of that the inner 3x3, with another.
//
// The names are those of the sub-network with one more module around each convolution and batch norm:
// "blocks.3.conv.point_linear.conv.conv.weight".

// ofaUnit is how many blocks of a supernet a unit has; block 0 stands before the units.
const ofaUnit = 4

// subNetwork returns the tensors of a network from those of the supernet that it belongs to, by canonical names.
func subNetwork(net *nn.Network, super map[string]format.Tensor) (map[string]format.Tensor, error) {
	at := map[string]string{} // of each block of the network, by the begin of its names: that of the supernet's block
	for block, next := 0, 0; ; block++ {
		own := fmt.Sprintf("block%d/", block+1)
		if net.Find(own+"depthwise/conv") < 0 {
			break
		}
		if block > 0 && net.Find(own+"sum") < 0 { // the first of a unit changes the channels, so that it adds no input
			next = (next+ofaUnit-2)/ofaUnit*ofaUnit + 1
		}
		at[fmt.Sprintf("blocks.%d.", block)] = fmt.Sprintf("blocks.%d.", next)
		next++
	}
	out := map[string]format.Tensor{}
	for _, v := range net.Variables() {
		name := canonical(v.Name)
		source := name
		if parts := strings.SplitAfterN(name, ".", 3); len(parts) == 3 && at[parts[0]+parts[1]] != "" {
			source = at[parts[0]+parts[1]] + parts[2]
		}
		t, found := super[source]
		if !found {
			module, role := source[:strings.LastIndex(source, ".")], source[strings.LastIndex(source, "."):]
			source = module + module[strings.LastIndex(module, "."):] + role
			t, found = super[source]
		}
		if !found {
			continue // the caller says what is missing
		}
		shape := v.TorchShape()
		if len(t.Shape) != len(shape) {
			return nil, fmt.Errorf("tensor %q has shape %v, want one that holds %v", source, t.Shape, shape)
		}
		var err error
		if len(shape) == 4 && shape[2] < t.Shape[2] {
			if t, err = shrink(t, shape[2], super, strings.TrimSuffix(source, "conv.weight")); err != nil {
				return nil, err
			}
		}
		if t, err = corner(t, shape); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", source, err)
		}
		out[name] = t
	}
	return out, nil
}

// shrink makes k x k kernels of larger ones, by steps of two: the inner part of each, as a vector, times a matrix.
func shrink(t format.Tensor, k int, super map[string]format.Tensor, layer string) (format.Tensor, error) {
	for size := t.Shape[2]; size > k; size -= 2 {
		name := fmt.Sprintf("%s%dto%d_matrix", layer, size, size-2)
		matrix, found := super[name]
		small := size - 2
		taps := small * small
		if !found || len(matrix.Data) != taps*taps || t.Shape[3] != size {
			return t, fmt.Errorf("tensor %q has shape %v, and there is no matrix %q for a kernel of %dx%d", t.Name,
				t.Shape, name, k, k)
		}
		kernels := len(t.Data) / (size * size)
		data := make([]float32, kernels*taps)
		for n := range kernels {
			for o := range taps {
				sum := float32(0)
				for i := range taps {
					sum += matrix.Data[o*taps+i] * t.Data[n*size*size+(i/small+1)*size+i%small+1]
				}
				data[n*taps+o] = sum
			}
		}
		t.Shape, t.Data = []int{t.Shape[0], t.Shape[1], small, small}, data
	}
	return t, nil
}

// corner is the part of a tensor with the first indices of every dimension.
func corner(t format.Tensor, shape []int) (format.Tensor, error) {
	for k, d := range shape {
		if d > t.Shape[k] {
			return t, fmt.Errorf("shape %v, want one that holds %v", t.Shape, shape)
		}
	}
	var data []float32
	var copyRows func(from, k int)
	copyRows = func(from, k int) {
		if k == len(shape)-1 {
			data = append(data, t.Data[from:from+shape[k]]...)
			return
		}
		stride := 1
		for _, d := range t.Shape[k+1:] {
			stride *= d
		}
		for i := range shape[k] {
			copyRows(from+i*stride, k+1)
		}
	}
	copyRows(0, 0)
	return format.Tensor{Name: t.Name, Shape: shape, Data: data}, nil
}
