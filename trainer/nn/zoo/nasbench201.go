package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// EdgesOf201 are the edges of a NAS-Bench-201 cell, from and to, in the order in which the benchmark writes them. Node
// 0 is the cell's input, node 3 its output; a node is the sum of what its edges make.
var EdgesOf201 = [...][2]int{{0, 1}, {0, 2}, {1, 2}, {0, 3}, {1, 3}, {2, 3}}

// Network201 is the network that NAS-Bench-201 trains around a cell (Dong & Yang, "NAS-Bench-201: Extending the Scope
// of Reproducible Neural Architecture Search", ICLR 2020, section 2.1; D-X-Y/AutoDL-Projects, TinyNetwork): a 3x3
// convolution, stacks of cells with a residual block of stride 2 and twice the channels before every stack but the
// first, batch norm and ReLU, global average pooling, a linear layer. The benchmark has 16 channels, 3 stacks of 5
// cells, and images of side 32 (16 of ImageNet16-120). Where a side is odd, halving it rounds up.
type Network201 struct {
	Edges    [len(EdgesOf201)]string // none, skip_connect, nor_conv_1x1, nor_conv_3x3 or avg_pool_3x3
	Side     int
	Classes  int
	Channels int
	Stacks   int
	Cells    int // a stack
}

// Build builds the network. Its variables have the names of the benchmark's own files.
func (n Network201) Build() (*nn.Network, error) {
	b, x := nn.NewBuilder("nasbench201", nn.Shape{H: n.Side, W: n.Side, C: 3})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, n.Channels), nn.Identity)
	at := 0
	for stack := range n.Stacks {
		if stack > 0 {
			x = residual201(b.Scope("cell%d", at), x)
			at++
		}
		for range n.Cells {
			x = n.cell(b.Scope("cell%d", at), x)
			at++
		}
	}
	x = b.Apply("last/act", nn.ReLU, b.Apply("last/bn", b.Norm, x))
	b.Output(b.Apply("classifier", nn.Linear{Out: n.Classes, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	if err != nil {
		return nil, err
	}
	rename(net, name201)
	return net, nil
}

// residual201 halves the size and doubles the channels: two 3x3 convolutions beside a pooled 1x1 convolution.
func residual201(b *nn.Builder, x nn.Tensor) nn.Tensor {
	out := 2 * x.C
	y := reluConvNorm(b.Scope("first"), x, nn.Conv2D(3, out).Strided(2))
	y = reluConvNorm(b.Scope("second"), y, nn.Conv2D(3, out))
	x = b.Apply("shortcut/conv", nn.Conv2D(1, out), b.Apply("shortcut/pool", nn.NewAvgPool(2, 2), x))
	return b.Apply("sum", nn.Add{}, x, y)
}

// cell applies the operations in the order of the edges. A node into which nothing leads is zero.
func (n Network201) cell(b *nn.Builder, x nn.Tensor) nn.Tensor {
	nodes := []nn.Tensor{x}
	var terms []nn.Tensor
	for k, edge := range EdgesOf201 {
		from, scope := nodes[edge[0]], b.Scope("edge%d", k)
		switch op := n.Edges[k]; op {
		case "none":
		case "skip_connect":
			terms = append(terms, from)
		case "nor_conv_1x1":
			terms = append(terms, reluConvNorm(scope, from, nn.Conv2D(1, x.C)))
		case "nor_conv_3x3":
			terms = append(terms, reluConvNorm(scope, from, nn.Conv2D(3, x.C)))
		case "avg_pool_3x3":
			terms = append(terms, scope.Apply("pool", nn.NewAvgPool(3, 1), from))
		default:
			b.Fail("unknown operation %q", op)
		}
		if k+1 < len(EdgesOf201) && EdgesOf201[k+1][1] == edge[1] {
			continue
		}
		if len(terms) == 0 {
			terms = append(terms, b.Apply(fmt.Sprintf("zero%d", edge[1]), nn.Zero{Stride: 1}, x))
		}
		nodes = append(nodes, join(b, fmt.Sprintf("sum%d", edge[1]), nn.Add{}, terms))
		terms = nil
	}
	return nodes[len(nodes)-1]
}

// name201 names modules as the benchmark's code does; modules without names count from 0.
func name201(path []string) string {
	within := map[string]string{"conv": "op.1", "bn": "op.2"}
	switch cell, isCell := numbered(path[0], "cell"); {
	case isCell && path[1] == "shortcut":
		return fmt.Sprintf("cells.%d.downsample.1", cell)
	case isCell && path[1] == "first":
		return fmt.Sprintf("cells.%d.conv_a.%s", cell, within[path[2]])
	case isCell && path[1] == "second":
		return fmt.Sprintf("cells.%d.conv_b.%s", cell, within[path[2]])
	case isCell:
		edge, _ := numbered(path[1], "edge")
		return fmt.Sprintf("cells.%d.layers.%d.%s", cell, edge, within[path[2]])
	}
	return map[string]string{
		"stem/conv": "stem.0", "stem/bn": "stem.1", "last/bn": "lastact.0", "classifier": "classifier",
	}[strings.Join(path, "/")]
}
