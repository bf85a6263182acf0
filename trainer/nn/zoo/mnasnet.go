package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// mnasNet ends MnasNets and EfficientNet-B0: 1280 channels and dropout 0.2.
func mnasNet(act nn.Activation, stages []stage) chain {
	return chain{norm: mobileNorm, act: act, stem: 32, blockStyle: blockStyle{gate: nn.Sigmoid},
		blocks: unroll(32, act, stages), head: 1280, dropout: 0.2}
}

// MnasNets (Tan et al. 2019; tensorflow/tpu, mnasnet_models.py), where A1 has squeeze-and-excitation, and
// EfficientNet-B0 (Tan and Le 2019; timm), which was found in their space with a larger target.
var (
	mnasNetA1 = mnasNet(nn.ReLU, []stage{
		{1, 3, 1, 1, 16, 0},
		{2, 3, 2, 6, 24, 0},
		{3, 5, 2, 3, 40, 0.25},
		{4, 3, 2, 6, 80, 0},
		{2, 3, 1, 6, 112, 0.25},
		{3, 5, 2, 6, 160, 0.25},
		{1, 3, 1, 6, 320, 0},
	})
	mnasNetB1 = mnasNet(nn.ReLU, []stage{
		{1, 3, 1, 1, 16, 0},
		{3, 3, 2, 3, 24, 0},
		{3, 5, 2, 3, 40, 0},
		{3, 5, 2, 6, 80, 0},
		{2, 3, 1, 6, 96, 0},
		{4, 5, 2, 6, 192, 0},
		{1, 3, 1, 6, 320, 0},
	})
	efficientNetB0 = mnasNet(nn.Swish, []stage{
		{1, 3, 1, 1, 16, 0.25},
		{2, 3, 2, 6, 24, 0.25},
		{2, 5, 2, 6, 40, 0.25},
		{3, 3, 2, 6, 80, 0.25},
		{3, 5, 1, 6, 112, 0.25},
		{4, 5, 2, 6, 192, 0.25},
		{1, 3, 1, 6, 320, 0.25},
	})
)
