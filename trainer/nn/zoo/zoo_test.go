package zoo_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

func TestCosts(t *testing.T) {
	for _, name := range zoo.Names() {
		_, err := zoo.Check(name)
		require.NoError(t, err)
		net, err := zoo.Open(name)
		require.NoError(t, err)
		require.Equal(t, name, net.Name)
	}
	_, err := zoo.Open("lenet")
	require.ErrorContains(t, err,
		`unknown network "lenet"; known: mobilenetv2_1.4, shufflenetv2_2.0, shufflenetv1_2.0_g3`)
}

// Every network has a row and every row a network or a note that says why there is none.
func TestRows(t *testing.T) {
	rows := map[string]bool{}
	paper := 0
	for _, r := range zoo.Rows() {
		require.False(t, rows[r.Name], r.Name)
		rows[r.Name] = true
		if r.Paper != "" {
			paper++
			require.Positive(t, r.Top1)
			require.Positive(t, r.MAdds)
		}
		if !slices.Contains(zoo.Names(), r.Name) {
			require.Contains(t, r.Note, "never published")
		} else {
			require.NotEmpty(t, r.Source)
		}
	}
	require.Equal(t, 18, paper)
	for _, name := range zoo.Names() {
		require.True(t, rows[name], name)
	}
}

// The definitions that the networks were written from, layer by layer, lie beside the other large test data.
func TestDefinitions(t *testing.T) {
	path := filepath.Join(testdata.Dir(), "..", "spec", "zoo.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("no definitions at %s", path)
	}
	var definitions struct {
		Archs []struct {
			ID, Family string
			BN         *struct{ Eps, Momentum float64 }
			Computed   struct {
				MAdds, Params int64
				Squeeze       int64 `json:"se_madds"`
				Input         []int
			}
			Layers []layer
		}
	}
	require.NoError(t, json.Unmarshal(text, &definitions))
	defined := 0
	for _, a := range definitions.Archs {
		if a.Family == "not_found" {
			require.NotContains(t, zoo.Names(), a.ID)
			continue
		}
		defined++
		net, err := zoo.Open(a.ID)
		require.NoError(t, err)
		require.Equal(t, zoo.Count{a.Computed.MAdds, a.Computed.Params, a.Computed.Squeeze}, zoo.Measure(net), a.ID)
		require.Equal(t, nn.Shape{H: a.Computed.Input[1], W: a.Computed.Input[2], C: a.Computed.Input[0]},
			net.Input(), a.ID)
		if want := steps(a.Layers); want != nil {
			require.Equal(t, want, performed(net), a.ID)
		}
		for _, node := range net.Nodes {
			if norm, ok := node.Op.(nn.BatchNorm); ok && a.BN != nil {
				require.Equal(t, nn.BatchNorm{Eps: a.BN.Eps, Momentum: a.BN.Momentum}, norm, a.ID)
			}
		}
	}
	require.Equal(t, 35, defined) // networks that came later were counted from the packages that have them
}

// layer is a layer or block of a definition.
type layer struct {
	Type, Act    string
	K, Mid       numbers
	S, In, Out   int
	Expand, Skip bool
	Bias, BN     *bool
	ConvBias     bool `json:"conv_bias"`
	P            float64
	SE           *struct {
		Mid       int
		Act, Gate string
	}
}

// numbers are one or several.
type numbers []int

func (n *numbers) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		return json.Unmarshal(text, (*[]int)(n))
	}
	*n = []int{0}
	return json.Unmarshal(text, &(*n)[0])
}

// steps lists in words what a network of layers does in turn; nil where blocks have an order of their own.
func steps(layers []layer) []string {
	var out []string
	conv := func(k, s, in, o, groups int, bias, norm bool, act string) {
		out = append(out, fmt.Sprintf("conv %dx%d/%d %d>%d groups %d bias %t", k, k, s, in, o, groups, bias))
		if norm {
			out = append(out, "norm")
		}
		if act != "" {
			out = append(out, act)
		}
	}
	for _, l := range layers {
		mid := 0
		for _, m := range l.Mid {
			mid += m
		}
		switch l.Type {
		case "conv":
			conv(l.K[0], l.S, l.In, l.Out, 1, l.Bias != nil && *l.Bias, l.BN == nil || *l.BN, l.Act)
		case "mbconv", "mixconv":
			if l.Expand {
				conv(1, 1, l.In, mid, 1, l.ConvBias, true, l.Act)
			}
			for i, k := range l.K {
				conv(k, l.S, l.Mid[i], l.Mid[i], l.Mid[i], l.ConvBias, true, l.Act)
			}
			if l.SE != nil {
				out = append(out, "pool")
				conv(1, 1, mid, l.SE.Mid, 1, true, false, l.SE.Act)
				conv(1, 1, l.SE.Mid, mid, 1, true, false, l.SE.Gate)
				out = append(out, "gate")
			}
			conv(1, 1, mid, l.Out, 1, l.ConvBias, true, "")
			if l.Skip {
				out = append(out, "sum")
			}
		case "gap":
			out = append(out, "pool")
		case "dropout":
			out = append(out, fmt.Sprintf("dropout %v", l.P))
		case "linear":
			out = append(out, fmt.Sprintf("linear %d bias %t", l.Out, l.Bias == nil || *l.Bias))
		default:
			return nil
		}
	}
	return out
}

var activations = map[nn.Activation]string{nn.ReLU: "relu", nn.ReLU6: "relu6", nn.HSwish: "hswish",
	nn.HSigmoid: "hsigmoid", nn.Sigmoid: "sigmoid", nn.Swish: "swish"}

// performed lists the same of a network.
func performed(net *nn.Network) []string {
	var out []string
	for i, node := range net.Nodes[1:] {
		switch op := node.Op.(type) {
		case nn.Conv:
			out = append(out, fmt.Sprintf("conv %s/%d %d>%d groups %d bias %t", op.Kernel, op.Stride.H,
				net.Inputs(i + 1)[0].C, op.Out, op.Groups, op.Bias))
		case nn.BatchNorm:
			out = append(out, "norm")
		case nn.Activation:
			out = append(out, activations[op])
		case nn.GlobalPool:
			out = append(out, "pool")
		case nn.Gate:
			out = append(out, "gate")
		case nn.Add:
			out = append(out, "sum")
		case nn.Dropout:
			out = append(out, fmt.Sprintf("dropout %v", op.P))
		case nn.Linear:
			out = append(out, fmt.Sprintf("linear %d bias %t", op.Out, op.Bias))
		}
	}
	return out
}

// Names of tensors are unique, and those of other programs where these have the network.
func TestNamesInFiles(t *testing.T) {
	for name, want := range map[string][]string{
		"mobilenetv2_1.4": {"conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.0.0.bn2.running_var",
			"blocks.6.0.bn3.weight", "conv_head.weight", "bn2.bias"},
		"mobilenetv3_large_1.0": {"blocks.5.2.se.conv_expand.bias", "blocks.6.0.conv.weight",
			"blocks.6.0.bn1.running_mean", "conv_head.bias", "classifier.bias"},
		"efficientnet_b0": {"blocks.0.0.se.conv_reduce.weight", "blocks.0.0.conv_pw.weight",
			"blocks.5.3.conv_pwl.weight"},
		"fbnet_c_timm": {"blocks.0.0.conv_pwl.weight", "blocks.6.0.bn3.bias"},
		"shufflenetv2_2.0": {"conv1.0.weight", "stage2.0.branch1.3.running_mean", "stage3.7.branch2.6.weight",
			"conv5.1.bias", "fc.weight"},
		"ofa_230m": {"first_conv.bn.weight", "blocks.15.conv.point_linear.bn.bias",
			"blocks.4.conv.depth_conv.se.fc.reduce.bias", "feature_mix_layer.conv.weight"},
		"proxylessnas_gpu": {"blocks.0.mobile_inverted_conv.depth_conv.conv.weight",
			"blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.weight",
			"blocks.5.mobile_inverted_conv.point_linear.bn.weight",
			"blocks.21.mobile_inverted_conv.point_linear.bn.weight", "feature_mix_layer.bn.weight"},
		"darts_v2": {"stem0.4.running_var", "cells.0.preprocess0.conv_2.weight",
			"cells.1.preprocess0.op.1.weight", "cells.0._ops.0.op.7.bias", "cells.0._ops.7.op.3.bias",
			"cells.13.preprocess1.op.2.weight", "auxiliary_head.features.5.weight"},
		"nasnet_a_darts_macro": {"cells.4._ops.1.op.5.weight", "cells.4._ops.0.op.3.weight"},
		"amoebanet_a_darts_macro": {"cells.4._ops.8.1.weight", "cells.4._ops.8.2.weight",
			"cells.4._ops.8.3.running_mean"},
		"shufflenetv1_2.0_g3": {"stage2.block1.reduce.conv.weight"},
	} {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		var got []string
		for _, v := range net.Variables() {
			got = append(got, v.Name)
		}
		for _, w := range want {
			require.True(t, slices.Contains(got, w), "%s: %s", name, w)
		}
	}
	for _, name := range zoo.Names() {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		seen := map[string]bool{}
		for _, v := range net.Variables() {
			require.False(t, seen[v.Name], "%s: %s", name, v.Name)
			seen[v.Name] = true
			require.NotContains(t, v.Name, "..", name)
		}
	}
}

// Any size of images and number of classes will do; parameters do not depend on the size.
func TestSizes(t *testing.T) {
	for _, name := range zoo.Names() {
		published, err := zoo.Check(name)
		require.NoError(t, err)
		for _, side := range []int{64, 97} {
			net, err := zoo.Build(name, side, 1000)
			require.NoError(t, err, "%s at %d", name, side)
			require.Equal(t, published.Params, net.Cost().Params, name)
			require.Less(t, net.Cost().MAdds, published.MAdds)
		}
		_, err = zoo.Build(name, -1, 10)
		require.ErrorContains(t, err, "input: input of -1x-1x3", name)
		_, err = zoo.Build(name, 64, 0)
		require.ErrorContains(t, err, "classifier: linear layer to 0 outputs", name)
	}
	// Widths of the published 1.0 network: 300.8M multiply-accumulates and 3.50M parameters.
	one, err := zoo.MobileNetV2(1, 224, 1000)
	require.NoError(t, err)
	require.Equal(t, nn.Cost{MAdds: 300774272, Params: 3504872}, one.Cost())
}
