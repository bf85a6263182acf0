package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// SPOS is the space of blocks of Single Path One-Shot (Guo et al., ECCV 2020; megvii-model/SinglePathOneShot): 20
// layers in stages of 4, 4, 8 and 4, each a block of ShuffleNet-V2 with a kernel of 3, 5 or 7, or one of three
// separable convolutions. The first layer of a stage reads all channels twice and halves the images; the others read
// the odd channels and hand on the even ones. The supernet's norms have neither scale nor shift.
func SPOS(s ChainSize) BlockChain {
	c := BlockChain{Name: "spos", dropout: 0.1, plain: true, names: sposName,
		stem: func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.Scope("stem").ConvNorm(x, nn.Conv2D(3, s.channels(16)).Strided(s.stride(0)), nn.ReLU)
		},
		head: func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.Scope("head").ConvNorm(x, nn.Conv2D(1, s.channels(1024)), nn.ReLU)
		}}
	for stage, repeat := range [4]int{4, 4, 8, 4} {
		out := s.channels([4]int{64, 160, 320, 640}[stage])
		c.add(repeat, func(i int) []Block {
			if i == 0 {
				return shuffleBlocks(shuffleBlock{out: out, stride: s.stride(stage + 1), whole: true})
			}
			return shuffleBlocks(shuffleBlock{out: out, stride: 1})
		})
	}
	return c.ready()
}

// shuffleBlocks are those of a layer.
func shuffleBlocks(v shuffleBlock) (blocks []Block) {
	for _, v.kernel = range [3]int{3, 5, 7} {
		blocks = append(blocks, Block{fmt.Sprintf("shuffle%d", v.kernel),
			[]string{fmt.Sprintf("shuffle %d", v.kernel)}, v.build(v.shuffle)})
	}
	v.kernel = 3
	return append(blocks, Block{"xception", []string{"xception"}, v.build(v.xception)})
}

// shuffleBlock is a block of two branches, whose outputs are concatenated: one that reads all channels in both, or one
// that hands on the even channels and reads the odd ones.
type shuffleBlock struct {
	kernel, out, stride int
	whole               bool
}

// build builds the block around its main branch, which makes so many channels.
func (v shuffleBlock) build(main func(b *nn.Builder, x nn.Tensor, channels int) nn.Tensor) func(*nn.Builder,
	nn.Tensor) nn.Tensor {
	return func(b *nn.Builder, x nn.Tensor) nn.Tensor {
		kept := x
		if v.whole {
			b := b.Scope("pass")
			kept = v.depthwise(b, x)
			kept = b.Scope("project").ConvNorm(kept, nn.Conv2D(1, x.C), nn.ReLU)
		} else {
			both := b.Apply("split", nn.Shuffle{Groups: x.C / 2}, x)
			kept = b.Apply("even", nn.Slice{To: x.C / 2}, both)
			x = b.Apply("odd", nn.Slice{From: x.C / 2, To: x.C}, both)
		}
		return b.Apply("concat", nn.Concat{}, kept, main(b, x, v.out-kept.C))
	}
}

func (v shuffleBlock) depthwise(b *nn.Builder, x nn.Tensor) nn.Tensor {
	return b.Scope("depthwise").ConvNorm(x, nn.Depthwise(v.kernel, x.C).Strided(v.stride), nn.Identity)
}

// shuffle is the main branch of ShuffleNet-V2.
func (v shuffleBlock) shuffle(b *nn.Builder, x nn.Tensor, channels int) nn.Tensor {
	x = b.Scope("expand").ConvNorm(x, nn.Conv2D(1, v.out/2), nn.ReLU)
	return b.Scope("project").ConvNorm(v.depthwise(b, x), nn.Conv2D(1, channels), nn.ReLU)
}

// xception is three separable convolutions, the first of which has the stride.
func (v shuffleBlock) xception(b *nn.Builder, x nn.Tensor, channels int) nn.Tensor {
	block := v
	for i, out := range [3]int{v.out / 2, v.out / 2, channels} {
		b := b.Scope("separable%d", i+1)
		x = b.Scope("project").ConvNorm(block.depthwise(b, x), nn.Conv2D(1, out), nn.ReLU)
		block.stride = 1
	}
	return x
}

// Where convolutions stand in a branch of the published code, which counts norms and activations.
var sposPlaces = map[string]int{
	"expand": 0, "depthwise": 3, "project": 5, "pass/depthwise": 0, "pass/project": 2,
	"separable1/depthwise": 0, "separable1/project": 2, "separable2/depthwise": 5, "separable2/project": 7,
	"separable3/depthwise": 10, "separable3/project": 12,
}

// sposName is the module of the published code.
func sposName(layer int, block string, node []string) string {
	if layer < 0 {
		return map[string]string{"stem/conv": "first_conv.0", "stem/bn": "first_conv.1", "head/conv": "conv_last.0",
			"head/bn": "conv_last.1", "classifier": "classifier.0"}[strings.Join(node, "/")]
	}
	place, branch := sposPlaces[strings.Join(node[:len(node)-1], "/")], "main"
	if node[0] == "pass" {
		branch = "proj"
	}
	if node[len(node)-1] == "bn" {
		place++
	}
	return fmt.Sprintf("features.%d.%sbranch_%s.%d", layer, block, branch, place)
}
