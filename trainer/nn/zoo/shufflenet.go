package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// shuffleStages are the blocks of each stage of both ShuffleNets; the first has stride 2 and doubles the channels.
var shuffleStages = [3]int{4, 8, 4}

// shuffleNetV2 is ShuffleNet-V2 2x (Ma et al. 2018; megvii-model/ShuffleNet-Series). A block works on half of the
// channels and hands the others on. Which half is meant is torchvision's: the first half passes, and the channels are
// shuffled after the block. Megvii's blocks read the even and the odd channels instead; the networks are the same but
// for the order of channels.
func shuffleNetV2(side, classes int) (*nn.Network, error) {
	b, x := shuffleStem("shufflenetv2", side, 24)
	for s, out := range [3]int{244, 488, 976} {
		for i := range shuffleStages[s] {
			b := b.Scope("stage%d/block%d", s+2, i+1)
			half, stride := out/2, 1
			branch, kept := x, x
			if i == 0 {
				stride = 2
				kept = b.Scope("pass/depthwise").ConvNorm(x, nn.Depthwise(3, x.C).Strided(2), nn.Identity)
				kept = b.Scope("pass/project").ConvNorm(kept, nn.Conv2D(1, x.C), nn.ReLU)
			} else {
				kept, branch = b.Apply("pass", nn.Slice{To: half}, x), b.Apply("rest", nn.Slice{From: half, To: out}, x)
			}
			branch = b.Scope("expand").ConvNorm(branch, nn.Conv2D(1, half), nn.ReLU)
			branch = b.Scope("depthwise").ConvNorm(branch, nn.Depthwise(3, half).Strided(stride), nn.Identity)
			branch = b.Scope("project").ConvNorm(branch, nn.Conv2D(1, out-kept.C), nn.ReLU)
			x = b.Apply("shuffle", nn.Shuffle{Groups: 2}, b.Apply("concat", nn.Concat{}, kept, branch))
		}
	}
	x = b.Scope("head").ConvNorm(x, nn.Conv2D(1, 2048), nn.ReLU)
	return classify(b, b.Apply("pool", nn.GlobalPool{}, x), nn.Linear{Out: classes}, 0.2)
}

// shuffleNetV1 is ShuffleNet-V1 2x with three groups (Zhang et al. 2018; megvii-model/ShuffleNet-Series).
func shuffleNetV1(side, classes int) (*nn.Network, error) {
	const groups = 3
	b, x := shuffleStem("shufflenetv1", side, 48)
	for s, out := range [3]int{480, 960, 1920} {
		for i := range shuffleStages[s] {
			b := b.Scope("stage%d/block%d", s+2, i+1)
			first, stride, rest := groups, 1, out
			if i == 0 {
				stride, rest = 2, out-x.C
				if s == 0 {
					first = 1 // of too few channels to be grouped
				}
			}
			y := b.Scope("reduce").ConvNorm(x, nn.Conv2D(1, out/4).Grouped(first), nn.ReLU)
			y = b.Scope("depthwise").ConvNorm(y, nn.Depthwise(3, out/4).Strided(stride), nn.Identity)
			y = b.Apply("shuffle", nn.Shuffle{Groups: groups}, y)
			y = b.Scope("project").ConvNorm(y, nn.Conv2D(1, rest).Grouped(groups), nn.Identity)
			if stride == 1 {
				x = b.Apply("act", nn.ReLU, b.Apply("sum", nn.Add{}, x, y))
			} else {
				x = b.Apply("concat", nn.Concat{}, b.Apply("pool", nn.NewAvgPool(3, 2), x), b.Apply("act", nn.ReLU, y))
			}
		}
	}
	return classify(b, b.Apply("pool", nn.GlobalPool{}, x), nn.Linear{Out: classes}, 0)
}

func shuffleStem(name string, side, channels int) (*nn.Builder, nn.Tensor) {
	b, x := nn.NewBuilder(name, nn.Shape{H: side, W: side, C: 3})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, channels).Strided(2), nn.ReLU)
	return b, b.Apply("stem/pool", nn.NewMaxPool(3, 2), x)
}
