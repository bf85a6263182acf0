package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Count is what a network takes for one image of its published size, and the part of squeeze-and-excitation in it.
type Count struct{ MAdds, Params, Squeeze int64 }

// Measure counts a network.
func Measure(net *nn.Network) Count {
	cost := net.Cost()
	c := Count{cost.MAdds, cost.Params, 0}
	for i, node := range net.Nodes {
		if strings.Contains(node.Name, "/se/") {
			c.Squeeze += net.NodeCost(i).MAdds
		}
	}
	return c
}

// counts are what an independent counter, which reads lists of layers, finds.
var counts = map[string]Count{
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

// Check builds the network of a name and compares what it takes with what was counted independently.
func Check(name string) (Count, error) {
	net, err := Open(name)
	if err != nil {
		return Count{}, err
	}
	got := Measure(net)
	if want := counts[name]; got != want {
		return got, fmt.Errorf("%s: %d MAdds (%d of squeeze-and-excitation) and %d parameters, want %d (%d) and %d", name, got.MAdds, got.Squeeze, got.Params,
			want.MAdds, want.Squeeze, want.Params)
	}
	return got, nil
}
