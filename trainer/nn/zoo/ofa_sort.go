package zoo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// ChannelOrder is an order of the channels within the blocks of a supernet: new channel c of a list is old channel
// list[c]. It changes what the smaller sub-networks get, the largest one computes the same in any order.
type ChannelOrder []blockOrder // of blocks 1, 2, …

type blockOrder struct {
	middle   []int // of the expanded channels
	squeezed []int // of those within squeeze-and-excitation; nil where there is none
}

// SortChannels puts the most important channels of each elastic block first, as once-for-all does before it trains
// smaller expansions (dynamic_layers.py, re_organize_middle_weights): middle channels by the sum of the magnitudes with
// which the last convolution takes them, those of squeeze-and-excitation by that of its second convolution, the largest
// first, in their old order where they are equal. trained are the ratios whose networks have been trained so far,
// besides the largest: the channels of each of these widths stay in front of all others. Values are those of the
// Supernet of the width, in memory's layout.
func (o OnceForAll) SortChannels(s nn.Shared, values [][]float32, trained ...int) (ChannelOrder, error) {
	blocks, err := elasticBlocks(s, values)
	if err != nil {
		return nil, err
	}
	order := make(ChannelOrder, len(blocks))
	for i, b := range blocks {
		in, middle := b.shape("inverted_bottleneck.conv.conv.weight")
		var widths []int
		for _, r := range trained {
			widths = append(widths, roundChannels(math.Round(float64(in*r))))
		}
		_, out := b.shape("point_linear.conv.conv.weight")
		order[i].middle = descending(magnitudes(b.values("point_linear.conv.conv.weight"), middle, out), widths)
		if expand := b.values("depth_conv.se.fc.expand.weight"); expand != nil {
			order[i].squeezed = descending(magnitudes(expand, len(expand)/middle, middle), nil)
		}
	}
	return order, nil
}

// Apply returns values, or what belongs to them one by one such as their momentum, in the order.
func (order ChannelOrder) Apply(s nn.Shared, values [][]float32) ([][]float32, error) {
	blocks, err := elasticBlocks(s, values)
	if err != nil {
		return nil, err
	}
	if len(order) != len(blocks) {
		return nil, fmt.Errorf("%s: an order of %d blocks for %d", s.Name, len(order), len(blocks))
	}
	out := slices.Clone(values)
	for i, b := range blocks {
		for name, at := range b.at {
			v := s.Variables[at]
			in, channels := order[i].of(name)
			if v.Role != nn.Weight {
				v.Shape = []int{1, v.Len()}
			}
			out[at] = permuted(values[at], v.Shape[len(v.Shape)-2], in, channels)
		}
	}
	return out, nil
}

// of is the order of a variable's input and of its output channels; nil: as they are.
func (b blockOrder) of(name string) (in, out []int) {
	switch name {
	case "inverted_bottleneck.conv.conv.weight", "depth_conv.conv.conv.weight", "depth_conv.se.fc.expand.bias":
		return nil, b.middle
	case "depth_conv.se.fc.reduce.weight":
		return b.middle, b.squeezed
	case "depth_conv.se.fc.reduce.bias":
		return nil, b.squeezed
	case "depth_conv.se.fc.expand.weight":
		return b.squeezed, b.middle
	case "point_linear.conv.conv.weight":
		return b.middle, nil
	case "inverted_bottleneck.bn.bn.weight", "inverted_bottleneck.bn.bn.bias",
		"inverted_bottleneck.bn.bn.running_mean", "inverted_bottleneck.bn.bn.running_var",
		"depth_conv.bn.bn.weight", "depth_conv.bn.bn.bias", "depth_conv.bn.bn.running_mean",
		"depth_conv.bn.bn.running_var":
		return nil, b.middle
	}
	return nil, nil // matrices and the last norm
}

// permuted takes the inputs and outputs of each tap of a weight in an order.
func permuted(x []float32, inputs int, in, out []int) []float32 {
	y := make([]float32, 0, len(x))
	if len(x) == 0 {
		return y
	}
	outputs := len(out)
	if out == nil {
		outputs = len(x) / inputs
	}
	for row := range len(x) / outputs {
		if in != nil {
			row += in[row%inputs] - row%inputs
		}
		from := x[row*outputs : (row+1)*outputs]
		if out == nil {
			y = append(y, from...)
			continue
		}
		for _, c := range out {
			y = append(y, from[c])
		}
	}
	return y
}

// elasticBlock is a block of a supernet: its variables by their names within it.
type elasticBlock struct {
	s   nn.Shared
	all [][]float32
	at  map[string]int
}

func (b elasticBlock) values(name string) []float32 {
	at, found := b.at[name]
	if !found {
		return nil
	}
	return b.all[at]
}

// shape is that of a 1x1 convolution: input and output channels.
func (b elasticBlock) shape(name string) (in, out int) {
	shape := b.s.Variables[b.at[name]].Shape
	return shape[2], shape[3]
}

// elasticBlocks lists blocks 1 and on.
func elasticBlocks(s nn.Shared, values [][]float32) ([]elasticBlock, error) {
	if len(values) != len(s.Variables) {
		return nil, fmt.Errorf("%s: values of %d variables, want %d", s.Name, len(values), len(s.Variables))
	}
	blocks := make([]elasticBlock, ofaUnits*ofaDepth)
	for i := range blocks {
		blocks[i] = elasticBlock{s, values, map[string]int{}}
	}
	for i, v := range s.Variables {
		if len(values[i]) != v.Len() {
			return nil, fmt.Errorf("%s: %s has %d values, want %d", s.Name, v.Name, len(values[i]), v.Len())
		}
		block, rest, inBlock := cutBlock(v.Name)
		if inBlock && block > 0 && block <= len(blocks) {
			blocks[block-1].at[strings.TrimPrefix(rest, "conv.")] = i
		}
	}
	for i, b := range blocks {
		for _, name := range []string{"inverted_bottleneck.conv.conv.weight", "point_linear.conv.conv.weight"} {
			if _, found := b.at[name]; !found {
				return nil, fmt.Errorf("%s has no blocks.%d.conv.%s: it is no supernet of once-for-all", s.Name, i+1,
					name)
			}
		}
	}
	return blocks, nil
}

// magnitudes are, of each input channel of a 1x1 convolution, the sum of its weights' absolute values.
func magnitudes(weight []float32, in, out int) []float64 {
	sums := make([]float64, in)
	for i := range sums {
		for _, w := range weight[i*out : (i+1)*out] {
			sums[i] += math.Abs(float64(w))
		}
	}
	return sums
}

// descending orders channels by importance, the groups that end at widths one after the other.
func descending(importance []float64, widths []int) []int {
	widths = append(slices.Clone(widths), len(importance))
	slices.Sort(widths)
	order := make([]int, 0, len(importance))
	for _, w := range widths {
		group := order[len(order):]
		for c := len(order); c < w; c++ {
			group = append(group, c)
		}
		slices.SortStableFunc(group, func(a, b int) int { return cmp.Compare(importance[b], importance[a]) })
		order = append(order, group...)
	}
	return order
}

// Block is the order of the channels of block n, from 1 on; squeezed is nil without squeeze-and-excitation.
func (order ChannelOrder) Block(n int) (middle, squeezed []int) {
	return order[n-1].middle, order[n-1].squeezed
}
