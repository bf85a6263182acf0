package zoo_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Of each network the first variant is as it was built, and each has its constants everywhere, other names at most,
// and the same sizes.
func TestVariants(t *testing.T) {
	for _, name := range zoo.Names() {
		net, err := zoo.Build(name, 97, 10)
		require.NoError(t, err)
		all := zoo.Variants(net)
		require.Equal(t, zoo.FromCTNAS, all[0].Origin, name)
		require.Nil(t, all[0].Images)
		require.Equal(t, net, all[0].Adopt(net), name)
		for _, v := range all {
			named, err := zoo.Named(net, v.String())
			require.NoError(t, err)
			require.Equal(t, v.Constants, named.Constants)
			require.NotEmpty(t, v.Source, "%s of %s", name, v)
			adopted := v.Adopt(net)
			require.Equal(t, net.Cost(), adopted.Cost())
			seen := map[string]bool{}
			for _, w := range adopted.Variables() {
				require.False(t, seen[w.Name], "%s of %s: %s", name, v, w.Name)
				seen[w.Name] = true
				require.NotRegexp(t, `^\.|\.\.|-1`, w.Name, "%s of %s", name, v)
			}
			for i, node := range adopted.Nodes {
				require.Equal(t, net.Nodes[i].Shape, node.Shape)
				switch op := node.Op.(type) {
				case nn.BatchNorm:
					require.Equal(t, nn.BatchNorm{Eps: v.Eps, Momentum: v.Momentum}, op)
				case nn.Dropout:
					require.Equal(t, v.Dropout, op.P)
				}
			}
			if v.Origin != zoo.FromCTNAS {
				require.NoError(t, v.Images.Check())
				require.Empty(t, named.OtherImages(net))
			}
		}
	}
	net, err := zoo.Open("mobilenetv3_large_1.0")
	require.NoError(t, err)
	_, err = zoo.Named(net, "torchvision:V3")
	require.ErrorContains(t, err, "are those of ctnas, timm:ra_in1k, timm:ra4_e3600_r224_in1k, "+
		"timm:miil_in21k_ft_in1k, timm-tf:in1k, torchvision:IMAGENET1K_V2, torchvision:IMAGENET1K_V1")
	bare, err := zoo.Named(net, "timm")
	require.NoError(t, err)
	require.Equal(t, "timm", bare.String())
	require.Len(t, bare.OtherImages(net), 2)
	// The constants at issue: what timm 1.0.31 and torchvision 0.29.2 build.
	for name, eps := range map[string]float64{"ctnas": 1e-3, "timm": 1e-5, "timm-tf": 1e-3, "torchvision": 1e-3} {
		v, err := zoo.Named(net, name)
		require.NoError(t, err)
		require.Equal(t, eps, v.Eps, name)
	}
	for _, name := range []string{"mnasnet_a1", "mnasnet_b1", "efficientnet_b0"} {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		v, err := zoo.Named(net, "timm")
		require.NoError(t, err)
		require.Equal(t, 1e-5, v.Eps, name)
	}
}

// TensorFlow pads a convolution with a stride by what the size of its input leaves; without a stride nothing changes.
func TestSamePadding(t *testing.T) {
	for side, want := range map[int]map[int]nn.Pad{ // of the first 3x3 with a stride and of the first 5x5
		224: {3: {Bottom: 1, Right: 1}, 5: {Top: 1, Bottom: 2, Left: 1, Right: 2}},
		97:  {3: {Top: 1, Bottom: 1, Left: 1, Right: 1}, 5: {Top: 2, Bottom: 2, Left: 2, Right: 2}},
	} {
		net, err := zoo.Build("efficientnet_b0", side, 1000)
		require.NoError(t, err)
		v, err := zoo.Named(net, "timm-tf")
		require.NoError(t, err)
		adopted := v.Adopt(net)
		seen := map[int]bool{}
		for i, node := range adopted.Nodes {
			op, ok := node.Op.(nn.Conv)
			if !ok {
				continue
			}
			k := op.Kernel.H
			switch before := net.Nodes[i].Op.(nn.Conv); {
			case op.Stride == nn.Square(1):
				require.Equal(t, before, op)
			case !seen[k]:
				seen[k] = true
				require.Equal(t, nn.Same(op.Kernel, 1), before.Pad)
				require.Equal(t, want[k], op.Pad, "%dx%d at %d", k, k, side)
			}
		}
		require.Len(t, seen, 2)
	}
}

// Names and shapes of torchvision's files.
func TestNamesOfTorchvision(t *testing.T) {
	for name, want := range map[string]map[string][]int{
		"mobilenetv2_1.4": {
			"features.0.0.weight": {48, 3, 3, 3}, "features.1.conv.1.weight": {24, 48, 1, 1},
			"features.17.conv.3.running_var": {448}, "features.18.1.bias": {1792}, "classifier.1.weight": {1000, 1792},
		},
		"mobilenetv3_large_1.0": {
			"features.1.block.1.0.weight": {16, 16, 1, 1}, "features.4.block.2.fc1.weight": {24, 72, 1, 1},
			"features.4.block.3.1.running_mean": {40}, "features.15.block.2.fc2.bias": {960},
			"features.16.0.weight": {960, 160, 1, 1}, "classifier.0.weight": {1280, 960}, "classifier.3.bias": {1000},
		},
		"mnasnet_b1": {
			"layers.3.weight": {32, 1, 3, 3}, "layers.7.weight": {16}, "layers.8.0.layers.0.weight": {48, 16, 1, 1},
			"layers.13.0.layers.7.running_var": {320}, "layers.14.weight": {1280, 320, 1, 1},
		},
		"efficientnet_b0": {
			"features.1.0.block.1.fc1.bias": {8}, "features.1.0.block.2.0.weight": {16, 32, 1, 1},
			"features.7.0.block.3.1.weight": {320}, "features.8.0.weight": {1280, 320, 1, 1},
		},
	} {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		v, err := zoo.Named(net, "torchvision")
		require.NoError(t, err)
		got := map[string][]int{}
		for _, w := range v.Adopt(net).Variables() {
			got[w.Name] = w.TorchShape()
		}
		for tensor, shape := range want {
			require.Equal(t, shape, got[tensor], "%s: %s", name, tensor)
		}
	}
}

// Sides to which the programs resize: timm rounds down, once-for-all up.
func TestResized(t *testing.T) {
	for _, c := range []struct {
		crop       float64
		rounding   string
		side, want int
	}{
		{0.875, "floor", 224, 256}, {0.95, "floor", 224, 235}, {0.9, "floor", 224, 248}, {0.875, "floor", 97, 110},
		{0.875, "ceil", 220, 252}, {0.875, "ceil", 236, 270},
		{0.875, "ceil", 224, 256}, {224. / 232, "round", 224, 232}, {0.875, "round", 97, 111}, {1, "floor", 32, 32},
		{0.1 + 0.2, "floor", 3, 10},
	} {
		i := &zoo.Images{Crop: c.crop, Rounding: c.rounding}
		require.Equal(t, c.want, i.Resized(c.side), "%+v", c)
	}
}

// Constants are read back as they were written, and what are none is said.
func TestConstantsInJSON(t *testing.T) {
	var texts []string
	for _, name := range zoo.Names() {
		net, err := zoo.Build(name, 64, 10)
		require.NoError(t, err)
		for _, v := range zoo.Variants(net) {
			text, err := json.Marshal(v.Constants)
			require.NoError(t, err)
			got, err := zoo.ParseConstants(string(text))
			require.NoError(t, err)
			require.Equal(t, v.Constants, got)
			if !slices.Contains(texts, string(text)) {
				texts = append(texts, string(text))
			}
		}
	}
	require.Greater(t, len(texts), 15)
	with := func(rest string) string {
		return `{"batch_norm_eps":0.001,"batch_norm_momentum":0.01,"strided_padding":"same","dropout":0.2` + rest + "}"
	}
	images := func(crop, rounding, std, channels string) string {
		return with(`,"images":{"side":224,"crop":` + crop + `,"rounding":"` + rounding + `","interpolation":` +
			`"bicubic","std":[1,` + std + `,1],"channels":"` + channels + `"}`)
	}
	for _, fine := range []string{with(""), images("1", "floor", "1", "RGB")} {
		_, err := zoo.ParseConstants(fine)
		require.NoError(t, err)
	}
	for _, text := range []string{
		"", "null?", `{"batch_norm_eps":-1,"strided_padding":"same"}`, `{"strided_padding":"valid"}`,
		`{"strided_padding":"same","dropout":1}`, with(`,"squeeze":0.3`), images("0", "floor", "1", "RGB"),
		images("1", "floor", "1", "BGR"), images("1", "up", "1", "RGB"), images("1", "ceil", "0", "RGB"),
	} {
		_, err := zoo.ParseConstants(text)
		require.Error(t, err, text)
	}
}

func FuzzConstants(f *testing.F) {
	for _, name := range []string{"mobilenetv3_large_1.0", "darts_v2"} {
		net, err := zoo.Build(name, 64, 10)
		require.NoError(f, err)
		for _, v := range zoo.Variants(net) {
			text, err := json.Marshal(v.Constants)
			require.NoError(f, err)
			f.Add(string(text))
		}
	}
	f.Add(`{"images":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := zoo.ParseConstants(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		require.NoError(t, err)
		back, err := zoo.ParseConstants(string(again))
		require.NoError(t, err)
		require.Equal(t, c, back)
		if c.Images != nil {
			require.GreaterOrEqual(t, c.Images.Resized(224), 224)
		}
	})
}
