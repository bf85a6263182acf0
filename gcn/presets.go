package gcn

import "fmt"

// Preset returns a named configuration: "default", "paper" (the two-layer GCN of the paper) or "released" (the released code's network,
// for its training see Released).
func Preset(name string) (Config, error) {
	switch name {
	case "default":
		return Config{
			Network: Network{Kind: Gated, Width: 64, Features: true, FeatureWidth: 32, HeadWidth: 64, Dropout: 0.1},
			Members: 6, Loss: Comparison, NoiseFloor: 0.0025, NoiseSlope: 0.1,
			Steps: 200, LR: 5e-3, Warmup: 20, Cosine: true, Beta1: 0.9, Beta2: 0.999, WeightDecay: 1, Decoupled: true,
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
