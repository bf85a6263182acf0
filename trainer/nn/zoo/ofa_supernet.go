package zoo

import (
	"fmt"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/trainer/nn"
)

// The supernet of a width holds in one set of variables the weights of all its sub-networks: of each unit the first
// blocks, of each block the first channels, and of each 7x7 kernel the smaller ones, made by two matrices of its layer
// (Cai et al. 2020; mit-han-lab/once-for-all, ofa_mbv3.py, dynamic_op.py).
const ofaKernel, ofaRatio = 7, 6 // the largest

// Choices restrict what sub-networks are drawn of, for every block and unit alike: a stage of progressive shrinking. An
// empty list is all that there are.
type Choices struct {
	Kernels    []int `json:"kernels,omitempty"`
	Depths     []int `json:"depths,omitempty"`
	Expansions []int `json:"expansions,omitempty"`
}

// Largest is the largest sub-network of the supernet.
func (o OnceForAll) Largest() OnceForAll {
	for u := range o.Depths {
		o.Depths[u] = ofaDepth
	}
	for i := range o.Kernels {
		o.Kernels[i], o.Ratios[i] = ofaKernel, ofaRatio
	}
	return o
}

// Supernet is what the supernet of the width shares, in the order and under the names of once-for-all's files, in which
// a convolution or batch norm of an elastic block stands within a module of its own:
// "blocks.3.conv.point_linear.conv.conv.weight". Depths, kernels and ratios do not matter, nor does the dropout.
func (o OnceForAll) Supernet(classes int) (nn.Shared, error) {
	const side = 32 // variables do not depend on it
	net, err := o.Largest().Build(side, classes)
	if err != nil {
		return nn.Shared{}, err
	}
	s := nn.Shared{Name: fmt.Sprintf("once-for-all w%g", o.Width)}
	branches := map[int]bool{}
	for _, i := range net.Branches() {
		branches[i] = true
	}
	for i, v := range net.Variables() {
		v.Name = elasticName(v.Name)
		if layer, elastic := elasticKernel(v.Name); elastic {
			for k := 3; k < ofaKernel; k += 2 {
				s.Variables = append(s.Variables, nn.KernelMatrix(matrixName(layer, k), k*k))
			}
		}
		if branches[i] {
			s.Branches = append(s.Branches, len(s.Variables))
		}
		s.Variables = append(s.Variables, v)
	}
	return s, nil
}

// Path is the sub-network, with where its variables are in those of the Supernet.
func (o OnceForAll) Path(side, classes int) (nn.Path, error) {
	net, err := o.Build(side, classes)
	if err != nil {
		return nn.Path{}, err
	}
	blocks := []int{0} // of each block of the network the number that it has in the supernet
	var kernels []int
	for u, depth := range o.Depths {
		for i := range depth {
			blocks, kernels = append(blocks, u*ofaDepth+i+1), append(kernels, o.Kernels[u*ofaDepth+i])
		}
	}
	at := ofaIndices()
	p := nn.Path{Network: net}
	for _, v := range net.Variables() {
		name, kernel := v.Name, 0
		if block, rest, inBlock := cutBlock(v.Name); inBlock {
			name = fmt.Sprintf("blocks.%d.%s", blocks[block], rest)
			if block > 0 {
				kernel = kernels[block-1]
			}
		}
		name = elasticName(name)
		b := nn.Binding{Shared: at[name]}
		if layer, elastic := elasticKernel(name); elastic {
			for k := ofaKernel - 2; k >= kernel; k -= 2 {
				b.Through = append(b.Through, at[matrixName(layer, k)])
			}
		}
		p.Bindings = append(p.Bindings, b)
	}
	return p, nil
}

// ofaIndices are the places of shared variables by their names, the same in all supernets.
var ofaIndices = sync.OnceValue(func() map[string]int {
	s, err := OnceForAll{Width: 1}.Supernet(1)
	if err != nil {
		panic(err)
	}
	at := map[string]int{}
	for i, v := range s.Variables {
		at[v.Name] = i
	}
	return at
})

// cutBlock splits the name of a block's variable, "blocks.3.conv.point_linear.conv.weight", behind the number.
func cutBlock(name string) (block int, rest string, inBlock bool) {
	parts := strings.SplitN(name, ".", 3)
	if len(parts) < 3 || parts[0] != "blocks" {
		return 0, "", false
	}
	block, inBlock = numbered(parts[1], "")
	return block, parts[2], inBlock
}

// elasticName is the name in the supernet of a variable whose block has its number there. Block 0, what stands around
// the blocks, and squeeze-and-excitation have their own names.
func elasticName(name string) string {
	block, _, inBlock := cutBlock(name)
	if !inBlock || block == 0 || strings.Contains(name, ".se.") {
		return name
	}
	role := strings.LastIndex(name, ".")
	return name[:role] + name[strings.LastIndex(name[:role], "."):]
}

// elasticKernel is the layer of a depthwise weight of the supernet that smaller kernels are made of.
func elasticKernel(name string) (layer string, elastic bool) {
	return strings.CutSuffix(name, ".depth_conv.conv.conv.weight")
}

// matrixName is the matrix of a layer that makes kernels of a size of those two taps larger.
func matrixName(layer string, kernel int) string {
	return fmt.Sprintf("%s.depth_conv.conv.%dto%d_matrix", layer, kernel+2, kernel)
}
