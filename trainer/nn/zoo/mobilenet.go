package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// MobileNetV2 is MobileNet-V2 (Sandler et al. 2018, table 2) with channels multiplied by width and rounded; the last
// convolution does not become narrower than 1280. Batch norms and dropout are timm's mobilenetv2_140.
func MobileNetV2(width float64, side, classes int) (*nn.Network, error) {
	stem := roundChannels(32 * width)
	stages := []stage{
		{1, 3, 1, 1, 16, 0}, {2, 3, 2, 6, 24, 0}, {3, 3, 2, 6, 32, 0}, {4, 3, 2, 6, 64, 0}, {3, 3, 1, 6, 96, 0},
		{3, 3, 2, 6, 160, 0}, {1, 3, 1, 6, 320, 0},
	}
	for i := range stages {
		stages[i].out = roundChannels(float64(stages[i].out) * width)
	}
	return chain{norm: torchNorm, act: nn.ReLU6, stem: stem, blocks: unroll(stem, nn.ReLU6, stages),
		head: max(1280, roundChannels(1280*width)), dropout: 0.2}.build("mobilenetv2", side, classes)
}

// mobileNetV3Style is what the blocks of MobileNet-V3 and of the networks of its space have in common.
var mobileNetV3Style = blockStyle{squeeze: nn.ReLU, gate: nn.HSigmoid}

// mobileNetV3 is a MobileNet-V3 with some channels of its head and features.
func mobileNetV3(head, features int, blocks []inverted) chain {
	return chain{norm: mobileNorm, act: nn.HSwish, stem: 16, blockStyle: mobileNetV3Style, blocks: blocks, head: head,
		features: nn.Conv2D(1, features).Biased(), dropout: 0.2}
}

// MobileNetV3Large is MobileNetV3-Large 1.0 (Howard et al. 2019, table 1) as timm and slim have it:
// squeeze-and-excitation to a quarter of the expanded channels, and a last 1x1 convolution with bias and without batch
// norm after the pooling.
func MobileNetV3Large(side, classes int) (*nn.Network, error) {
	return mobileNetV3(960, 1280, []inverted{
		{3, 1, 16, 16, 0, nn.ReLU},
		{3, 2, 64, 24, 0, nn.ReLU},
		{3, 1, 72, 24, 0, nn.ReLU},
		{5, 2, 72, 40, 24, nn.ReLU},
		{5, 1, 120, 40, 32, nn.ReLU},
		{5, 1, 120, 40, 32, nn.ReLU},
		{3, 2, 240, 80, 0, nn.HSwish},
		{3, 1, 200, 80, 0, nn.HSwish},
		{3, 1, 184, 80, 0, nn.HSwish},
		{3, 1, 184, 80, 0, nn.HSwish},
		{3, 1, 480, 112, 120, nn.HSwish},
		{3, 1, 672, 112, 168, nn.HSwish},
		{5, 2, 672, 160, 168, nn.HSwish},
		{5, 1, 960, 160, 240, nn.HSwish},
		{5, 1, 960, 160, 240, nn.HSwish},
	}).build("mobilenetv3_large", side, classes)
}

// mobileNetV3Small is MobileNetV3-Small 1.0 (Howard et al. 2019, table 2), likewise.
var mobileNetV3Small = mobileNetV3(576, 1024, []inverted{
	{3, 2, 16, 16, 8, nn.ReLU},
	{3, 2, 72, 24, 0, nn.ReLU},
	{3, 1, 88, 24, 0, nn.ReLU},
	{5, 2, 96, 40, 24, nn.HSwish},
	{5, 1, 240, 40, 64, nn.HSwish},
	{5, 1, 240, 40, 64, nn.HSwish},
	{5, 1, 120, 48, 32, nn.HSwish},
	{5, 1, 144, 48, 40, nn.HSwish},
	{5, 2, 288, 96, 72, nn.HSwish},
	{5, 1, 576, 96, 144, nn.HSwish},
	{5, 1, 576, 96, 144, nn.HSwish},
})
