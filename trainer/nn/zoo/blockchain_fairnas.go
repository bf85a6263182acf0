package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// FairNAS is the space of FairNAS (Chu et al., ICCV 2021; the networks of xiaomi-automl/FairNAS, whose supernet was
// never published): 19 layers, each an inverted residual block with a kernel of 3, 5 or 7 that expands its input by 3
// or 6, in the order in which the authors number them, by expansion first.
func FairNAS(s ChainSize) BlockChain {
	c := BlockChain{Name: "fairnas", dropout: 0.2, classifier: nn.Linear{Bias: true}, names: fairnasName,
		stem: func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, s.channels(32)).Strided(s.stride(0)), nn.ReLU6)
			first := inverted{k: 3, stride: 1, mid: x.C, out: s.channels(16), act: nn.ReLU6}
			return first.build(b.Scope("separable"), x, blockStyle{})
		},
		head: func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.Scope("head").ConvNorm(x, nn.Conv2D(1, s.channels(1280)), nn.ReLU6)
		}}
	halving := 1
	for _, stage := range []struct {
		repeat, out int
		halves      bool
	}{{2, 32, true}, {4, 40, true}, {4, 80, true}, {4, 96, false}, {4, 192, true}, {1, 320, false}} {
		stride := 1
		if stage.halves {
			stride = s.stride(halving)
			halving++
		}
		c.add(stage.repeat, func(i int) []Block {
			if i > 0 {
				return invertedBlocks(1, s.channels(stage.out))
			}
			return invertedBlocks(stride, s.channels(stage.out))
		})
	}
	return c.ready()
}

// invertedBlocks are those of a layer of FairNAS.
func invertedBlocks(stride, out int) (blocks []Block) {
	for _, expand := range [2]int{3, 6} {
		for _, k := range [3]int{3, 5, 7} {
			blocks = append(blocks, Block{fmt.Sprintf("k%de%d", k, expand),
				[]string{fmt.Sprintf("expand %d", expand), fmt.Sprintf("kernel %d", k)},
				func(b *nn.Builder, x nn.Tensor) nn.Tensor {
					v := inverted{k: k, stride: stride, mid: expand * x.C, out: out, act: nn.ReLU6}
					return v.build(b, x, blockStyle{expands: true})
				}})
		}
	}
	return blocks
}

// fairnasName is the module of the published networks.
func fairnasName(layer int, block string, node []string) string {
	name := strings.Join(node, "/")
	if layer < 0 {
		return map[string]string{"stem/conv": "stem.0", "stem/bn": "stem.1",
			"separable/depthwise/conv": "separable_conv.0", "separable/depthwise/bn": "separable_conv.1",
			"separable/project/conv": "separable_conv.3", "separable/project/bn": "separable_conv.4",
			"head/conv": "conv_before_pooling.0", "head/bn": "conv_before_pooling.1",
			"classifier": "classifier.1"}[name]
	}
	return fmt.Sprintf("mb_module.%d.%s%s", layer, block, map[string]string{"expand/conv": "conv1", "expand/bn": "bn1",
		"depthwise/conv": "conv2", "depthwise/bn": "bn2", "project/conv": "conv3", "project/bn": "bn3"}[name])
}
