package gcn

import (
	"fmt"
	"math"
)

// Preset returns a named configuration: "default", "paper" (the two-layer GCN of the paper) or "released" (the released
// code's network, for its training see Released).
func Preset(name string) (Config, error) {
	switch name {
	case "default":
		return Config{
			Network: Network{Kind: Gated, Width: 96, Features: true, FeatureWidth: 32, HeadWidth: 96, Dropout: 0.1},
			Members: 10, Process: 0.5, Loss: Comparison, NoiseFloor: 0.0025, NoiseSlope: 0.1,
			Steps: 200, LR: 5e-3, Warmup: 20, Cosine: true, Beta1: 0.9, Beta2: 0.999, WeightDecay: 1, Decoupled: true,
			Adapt: true,
		}, nil
	case "paper":
		return Config{
			Network: Network{Kind: LayeredGCN, Width: 128, Layers: 2, LinearLast: true, Pair: true},
			Members: 1, Loss: Comparison, Steps: 1000, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, WeightDecay: 5e-4,
		}, nil
	case "released":
		return Config{
			Network: Network{Kind: LayeredGCN, Width: 128, Layers: 4, Residual: true, Bias: true, Pad: 7, Pair: true},
			Members: 1, Loss: Comparison, Steps: 2000, LR: 2e-4, Beta1: 0.5, Beta2: 0.999, WeightDecay: 5e-4,
		}, nil
	}
	return Config{}, fmt.Errorf("unknown preset %q: default, paper or released", name)
}

// Positional is the default comparator for spaces whose operations say where in the network they stand. Most of an
// architecture's worth is then a sum over its operations: a linear term in their counts learns it, and a small network
// with much dropout learns the rest. Settings were chosen with seeds >= 1000 on the MobileNetV3 and DARTS spaces
// (docs/comparator.md).
func Positional() Config {
	return Config{
		Network: Network{Kind: Gated, Width: 64, Features: true, FeatureWidth: 64, HeadWidth: 64,
			Dropout: 0.3, Linear: 30},
		Members: 4, Folds: 4, Loss: Comparison, NoiseFloor: 0.0005, NoiseSlope: 0.02,
		Steps: 300, LR: 5e-3, Warmup: 20, Cosine: true, Beta1: 0.9, Beta2: 0.999, WeightDecay: 0.6,
		Decoupled: true, Adapt: true,
	}
}

// adapted is the configuration for a number of labels: few of them need more dropout and fewer updates, many less decay
// and more updates, or a wider network. The steps were chosen on seeds >= 1000 and, for cells, on those with an even
// hash (docs/comparator.md).
func (c Config) adapted(labels int) Config {
	if !c.Adapt {
		return c
	}
	switch {
	case c.Linear > 0: // Positional, for some 200: the more labels, the less of both
		few := 200 / float64(max(labels, 1))
		c.Dropout *= min(max(math.Pow(few, 0.75), 1./3), 5./3)
		c.WeightDecay *= min(max(math.Sqrt(few), 0.5), 5./3)
	case labels <= 200:
		c.Dropout = math.Max(c.Dropout, 0.3)
		c.Steps = max(1, c.Steps*3/5)
	case labels > 1500:
		c.Dropout /= 2
		c.WeightDecay *= 0.3
		c.Steps = c.Steps * 3 / 2
		c.Members = min(c.Members, 4) // an update over so many pairs is long
	}
	return c
}
