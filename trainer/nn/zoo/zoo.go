package zoo

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

type build = func(side, classes int) (*nn.Network, error)

// networks are the networks with names, by families.
var networks = []struct {
	name  string
	side  int // published input size
	build build
}{
	{"mobilenetv2_1.4", 224, func(side, classes int) (*nn.Network, error) { return MobileNetV2(1.4, side, classes) }},
	{"shufflenetv2_2.0", 224, shuffleNetV2},
	{"shufflenetv1_2.0_g3", 224, shuffleNetV1},
	{"nasnet_a_mobile", 224, nasNetA.build},
	{"amoebanet_a_mobile", 224, amoebaNetA.build},
	{"darts_v2", 224, ofGenotype(dartsV2, 48)},
	{"darts_v1_c50", 224, ofGenotype(dartsV1, 50)},
	{"pdarts_cifar10", 224, ofGenotype(pdartsCIFAR10, 48)},
	{"pcdarts_imagenet", 224, ofGenotype(pcdartsImageNet, 48)},
	{"pcdarts_cifar10", 224, ofGenotype(pcdartsCIFAR10, 48)},
	{"cnas", 224, ofGenotype(cnas, 48)},
	{"nasnet_a_darts_macro", 224, ofGenotype(nasnetAsDARTS, 44)},
	{"amoebanet_a_darts_macro", 224, ofGenotype(amoebanetAsDARTS, 50)},
	{"mobilenetv3_large_1.0", 224, MobileNetV3Large},
	{"fbnet_c", 224, ofChain(fbNetC(habits{biased: true}))},
	{"fbnet_c_timm", 224, ofChain(fbNetC(habits{expands: true}))},
	{"mnasnet_a1", 224, ofChain(mnasNetA1)},
	{"mnasnet_b1", 224, ofChain(mnasNetB1)},
	{"efficientnet_b0", 224, ofChain(efficientNetB0)},
	{"proxylessnas_gpu", 224, ofChain(proxylessGPU)},
	{"proxylessnas_mobile", 224, ofChain(proxylessMobile)},
	{"ofa_230m", 220, ofa230M},
	{"ofa_389m", 224, ofa389M},
	{"ofa_482m", 224, ofa482M},
	{"ofa_595m", 236, ofa595M},
	{"fbnetv2_l1", 224, ofChain(fbNetV2L1)},
	{"fbnetv2_f4", 224, ofChain(fbNetV2F4)},
	{"atomnas_c", 224, func(side, classes int) (*nn.Network, error) { return atomNAS(false, side, classes) }},
	{"atomnas_c_plus", 224, func(side, classes int) (*nn.Network, error) { return atomNAS(true, side, classes) }},
	{"pnag_cpu_30", 224, pnagCPU30},
	{"pnag_cpu_40", 224, pnagCPU40},
	{"pnag_gpu_90", 224, pnagGPU90},
	{"pnag_mobile_110", 224, pnagMobile110},
	{"pnag_mobile_140", 224, pnagMobile140},
	{"pnag_mobile_200", 224, pnagMobile200},
}

func ofChain(c chain) build {
	return func(side, classes int) (*nn.Network, error) { return c.build("chain", side, classes) }
}

func ofGenotype(g Genotype, channels int) build {
	return func(side, classes int) (*nn.Network, error) { return DARTS(g, channels, side, classes) }
}

// Names lists the networks that Open knows.
func Names() []string {
	names := make([]string, len(networks))
	for i, e := range networks {
		names[i] = e.name
	}
	return names
}

// Open builds the network of a name for 1000 classes and its published input size.
func Open(name string) (*nn.Network, error) { return Build(name, 0, 1000) }

// mobileNetV3Space begins the text of a sub-network of once-for-all's MobileNetV3 space.
const mobileNetV3Space = "mobilenetv3:"

// Build builds the network of a name, or of a text that begins with mobileNetV3Space, for square images of a side, 0 for the published one, and a number of
// classes.
func Build(name string, side, classes int) (*nn.Network, error) {
	build, published, err := find(name)
	if err != nil {
		return nil, err
	}
	if side == 0 {
		side = published
	}
	net, err := build(side, classes)
	if err != nil {
		return nil, err
	}
	net.Name = name
	return net, nil
}

func find(name string) (build, int, error) {
	if text, found := strings.CutPrefix(name, mobileNetV3Space); found {
		o, err := ParseOnceForAll(text)
		o.Dropout = ofaDropout
		return o.Build, cmp.Or(o.Side, 224), err
	}
	for _, n := range networks {
		if n.name == name {
			return n.build, n.side, nil
		}
	}
	return nil, 0, fmt.Errorf("unknown network %q; known: %s, or %sdepths:kernels:ratios@w1.2,r224", name, strings.Join(Names(), ", "), mobileNetV3Space)
}
