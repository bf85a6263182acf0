package zoo_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// count is what an independent counter, which reads lists of layers, finds for a network at its published input size.
type count struct{ madds, params, squeeze int64 }

var counted = map[string]count{
	"mobilenetv2_1.4":         {582195824, 6108776, 0},
	"shufflenetv2_2.0":        {590783000, 7402600, 0},
	"shufflenetv1_2.0_g3":     {524045184, 5449776, 0},
	"nasnet_a_mobile":         {563638816, 5289978, 0},
	"amoebanet_a_mobile":      {554687204, 5086930, 0},
	"darts_v2":                {529911552, 4718752, 0},
	"darts_v1_c50":            {547483200, 4853975, 0},
	"pdarts_cifar10":          {542819328, 4944352, 0},
	"pcdarts_imagenet":        {581627328, 5342464, 0},
	"pcdarts_cifar10":         {571137408, 5270560, 0},
	"cnas":                    {577158528, 5318368, 0},
	"nasnet_a_darts_macro":    {512024480, 4774846, 0},
	"amoebanet_a_darts_macro": {569705600, 4985475, 0},
	"mobilenetv3_large_1.0":   {216589760, 5483032, 1507200},
	"fbnet_c":                 {378136224, 5590784, 0},
	"fbnet_c_timm":            {384960160, 5572200, 0},
	"mnasnet_a1":              {311579072, 3887038, 253728},
	"mnasnet_b1":              {314415872, 4383312, 0},
	"efficientnet_b0":         {385814752, 5288548, 627200},
	"proxylessnas_gpu":        {465260160, 7119848, 0},
	"proxylessnas_mobile":     {320427584, 4080512, 0},
	"ofa_230m":                {229846296, 5809576, 1582848},
	"ofa_389m":                {389487856, 8386544, 2499840},
	"ofa_482m":                {482413168, 9066368, 2881792},
	"ofa_595m":                {595189032, 9135928, 2904832},
	"fbnetv2_l1":              {325025344, 8538776, 1597312},
	"fbnetv2_f4":              {237605592, 7022864, 899328},
	"atomnas_c":               {359801485, 4782696, 0},
	"atomnas_c_plus":          {360977253, 5968040, 1175768},
	"pnag_cpu_30":             {336165936, 7638920, 2148096},
	"pnag_cpu_40":             {503657904, 9374656, 2999296},
	"pnag_gpu_90":             {311429008, 7734280, 2162048},
	"pnag_mobile_110":         {452679344, 9880072, 3463680},
	"pnag_mobile_140":         {493111792, 9166008, 2911744},
	"pnag_mobile_200":         {725396720, 10359088, 3646976},
}

// measure counts a network, and the part of squeeze-and-excitation.
func measure(net *nn.Network) count {
	cost := net.Cost()
	c := count{cost.MAdds, cost.Params, 0}
	for i, node := range net.Nodes {
		if strings.Contains(node.Name, "/se/") {
			c.squeeze += net.NodeCost(i).MAdds
		}
	}
	return c
}

func TestCosts(t *testing.T) {
	require.Len(t, counted, len(zoo.Names()))
	for _, name := range zoo.Names() {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		require.Equal(t, counted[name], measure(net), name)
		require.Equal(t, name, net.Name)
	}
	_, err := zoo.Open("lenet")
	require.ErrorContains(t, err, `unknown network "lenet"; known: mobilenetv2_1.4, shufflenetv2_2.0`)
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
		require.Equal(t, count{a.Computed.MAdds, a.Computed.Params, a.Computed.Squeeze}, measure(net), a.ID)
		require.Equal(t, nn.Shape{H: a.Computed.Input[1], W: a.Computed.Input[2], C: a.Computed.Input[0]}, net.Input(), a.ID)
		if want := steps(a.Layers); want != nil {
			require.Equal(t, want, performed(net), a.ID)
		}
		for _, node := range net.Nodes {
			if norm, ok := node.Op.(nn.BatchNorm); ok && a.BN != nil {
				require.Equal(t, nn.BatchNorm{Eps: a.BN.Eps, Momentum: a.BN.Momentum}, norm, a.ID)
			}
		}
	}
	require.Equal(t, len(zoo.Names()), defined)
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

var activations = map[nn.Activation]string{nn.ReLU: "relu", nn.ReLU6: "relu6", nn.HSwish: "hswish", nn.HSigmoid: "hsigmoid", nn.Sigmoid: "sigmoid", nn.Swish: "swish"}

// performed lists the same of a network.
func performed(net *nn.Network) []string {
	var out []string
	for i, node := range net.Nodes[1:] {
		switch op := node.Op.(type) {
		case nn.Conv:
			out = append(out, fmt.Sprintf("conv %s/%d %d>%d groups %d bias %t", op.Kernel, op.Stride.H, net.Inputs(i + 1)[0].C, op.Out, op.Groups, op.Bias))
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

// Any size of images and number of classes will do; parameters do not depend on the size.
func TestSizes(t *testing.T) {
	for _, name := range zoo.Names() {
		for _, side := range []int{64, 97} {
			net, err := zoo.Build(name, side, 1000)
			require.NoError(t, err, "%s at %d", name, side)
			require.Equal(t, counted[name].params, net.Cost().Params, name)
			require.Less(t, net.Cost().MAdds, counted[name].madds)
		}
		_, err := zoo.Build(name, -1, 10)
		require.ErrorContains(t, err, "input: input of -1x-1x3", name)
		_, err = zoo.Build(name, 64, 0)
		require.ErrorContains(t, err, "classifier: linear layer to 0 outputs", name)
	}
	// Widths of the published 1.0 network: 300.8M multiply-accumulates and 3.50M parameters.
	one, err := zoo.MobileNetV2(1, 224, 1000)
	require.NoError(t, err)
	require.Equal(t, nn.Cost{MAdds: 300774272, Params: 3504872}, one.Cost())
}
