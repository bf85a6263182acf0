package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// fbNetC is FBNet-C (Wu et al. 2019; mobile-vision, fbnet_modeldef_cls_fbnet.py). The authors' convolutions in blocks
// have biases; timm's fbnetc_100 has none, but keeps a convolution in front of every block, also where it does not
// expand.
func fbNetC(style blockStyle) chain {
	return chain{norm: torchNorm, act: nn.ReLU, stem: 16, blockStyle: style, blocks: []inverted{
		{3, 1, 16, 16, 0, nn.ReLU},
		{3, 2, 96, 24, 0, nn.ReLU},
		{3, 1, 24, 24, 0, nn.ReLU},
		{3, 1, 24, 24, 0, nn.ReLU},
		{5, 2, 144, 32, 0, nn.ReLU},
		{5, 1, 96, 32, 0, nn.ReLU},
		{5, 1, 192, 32, 0, nn.ReLU},
		{3, 1, 192, 32, 0, nn.ReLU},
		{5, 2, 192, 64, 0, nn.ReLU},
		{5, 1, 192, 64, 0, nn.ReLU},
		{5, 1, 384, 64, 0, nn.ReLU},
		{5, 1, 384, 64, 0, nn.ReLU},
		{5, 1, 384, 112, 0, nn.ReLU},
		{5, 1, 672, 112, 0, nn.ReLU},
		{5, 1, 672, 112, 0, nn.ReLU},
		{5, 1, 336, 112, 0, nn.ReLU},
		{5, 2, 672, 184, 0, nn.ReLU},
		{5, 1, 1104, 184, 0, nn.ReLU},
		{5, 1, 1104, 184, 0, nn.ReLU},
		{5, 1, 1104, 184, 0, nn.ReLU},
		{3, 1, 1104, 352, 0, nn.ReLU},
	}, head: 1984}
}

// fbNetV2 is an FBNet-V2 (Wan et al. 2020; mobile-vision, fbnet_modeldef_cls_fbnetv2.py and irf_block.py): widths are
// multiples of 8, so that the blocks' expansions are no whole numbers; squeeze-and-excitation goes to a quarter of
// them.
func fbNetV2(blocks []inverted) chain {
	return chain{norm: torchNorm, act: nn.HSwish, stem: 16, blockStyle: blockStyle{gate: nn.HSigmoid}, blocks: blocks,
		before: 224, head: 1344, features: nn.Conv2D(1, 1984)}
}

var (
	fbNetV2L1 = fbNetV2([]inverted{
		{3, 1, 16, 16, 0, nn.HSwish},
		{5, 2, 88, 24, 0, nn.HSwish},
		{5, 1, 48, 24, 0, nn.HSwish},
		{3, 1, 48, 24, 0, nn.HSwish},
		{5, 1, 48, 24, 0, nn.HSwish},
		{5, 2, 128, 40, 32, nn.HSwish},
		{5, 1, 144, 32, 40, nn.HSwish},
		{5, 1, 144, 32, 40, nn.HSwish},
		{5, 1, 144, 32, 40, nn.HSwish},
		{5, 2, 184, 64, 0, nn.HSwish},
		{3, 1, 136, 64, 0, nn.HSwish},
		{3, 1, 200, 64, 0, nn.HSwish},
		{3, 1, 320, 112, 0, nn.HSwish},
		{5, 1, 280, 112, 72, nn.HSwish},
		{5, 1, 200, 112, 48, nn.HSwish},
		{5, 1, 312, 112, 80, nn.HSwish},
		{5, 1, 424, 112, 104, nn.HSwish},
		{5, 1, 424, 112, 104, nn.HSwish},
		{3, 2, 624, 184, 160, nn.HSwish},
		{5, 1, 520, 184, 128, nn.HSwish},
		{5, 1, 520, 184, 128, nn.HSwish},
		{5, 1, 896, 184, 224, nn.HSwish},
		{5, 1, 896, 184, 224, nn.HSwish},
	})
	fbNetV2F4 = fbNetV2([]inverted{
		{3, 1, 16, 16, 0, nn.HSwish},
		{5, 2, 88, 24, 0, nn.HSwish},
		{5, 1, 48, 24, 0, nn.HSwish},
		{5, 1, 48, 24, 0, nn.HSwish},
		{5, 2, 128, 32, 32, nn.ReLU},
		{5, 1, 112, 32, 32, nn.ReLU},
		{5, 1, 144, 32, 40, nn.ReLU},
		{5, 1, 144, 32, 40, nn.ReLU},
		{5, 2, 184, 64, 0, nn.HSwish},
		{3, 1, 136, 64, 0, nn.HSwish},
		{3, 1, 320, 104, 0, nn.HSwish},
		{5, 1, 264, 104, 64, nn.HSwish},
		{5, 1, 184, 104, 48, nn.HSwish},
		{5, 1, 392, 112, 96, nn.HSwish},
		{3, 2, 624, 184, 160, nn.HSwish},
		{5, 1, 520, 184, 128, nn.HSwish},
		{5, 1, 896, 184, 224, nn.HSwish},
	})
)
