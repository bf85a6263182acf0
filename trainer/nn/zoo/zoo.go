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
	names naming // in files; nil: those that build gives, or the nodes'
}{
	{"mobilenetv2_1.4", 224, func(side, classes int) (*nn.Network, error) { return MobileNetV2(1.4, side, classes) }, timm(false, 1, 2, 3, 4, 3, 3, 1)},
	{"shufflenetv2_2.0", 224, shuffleNetV2, torchvisionShuffle},
	{"shufflenetv1_2.0_g3", 224, shuffleNetV1, nil},
	{"nasnet_a_mobile", 224, nasNetA.build, nil},
	{"amoebanet_a_mobile", 224, amoebaNetA.build, nil},
	{"darts_v2", 224, ofGenotype(dartsV2, 48), nil},
	{"darts_v1_c50", 224, ofGenotype(dartsV1, 50), nil},
	{"pdarts_cifar10", 224, ofGenotype(pdartsCIFAR10, 48), nil},
	{"pcdarts_imagenet", 224, ofGenotype(pcdartsImageNet, 48), nil},
	{"pcdarts_cifar10", 224, ofGenotype(pcdartsCIFAR10, 48), nil},
	{"cnas", 224, ofGenotype(cnas, 48), nil},
	{"nasnet_a_darts_macro", 224, ofGenotype(nasnetAsDARTS, 44), nil},
	{"amoebanet_a_darts_macro", 224, ofGenotype(amoebanetAsDARTS, 50), nil},
	{"mobilenetv3_large_1.0", 224, MobileNetV3Large, timm(true, 1, 2, 3, 4, 2, 3)},
	{"fbnet_c", 224, ofChain(fbNetC(habits{biased: true})), nil},
	{"fbnet_c_timm", 224, ofChain(fbNetC(habits{expands: true})), timm(false, 1, 3, 4, 4, 4, 4, 1)},
	{"mnasnet_a1", 224, ofChain(mnasNetA1), timm(false, 1, 2, 3, 4, 2, 3, 1)},
	{"mnasnet_b1", 224, ofChain(mnasNetB1), timm(false, 1, 3, 3, 3, 2, 4, 1)},
	{"efficientnet_b0", 224, ofChain(efficientNetB0), timm(false, 1, 2, 2, 3, 3, 4, 1)},
	{"proxylessnas_gpu", 224, ofChain(proxylessGPU), proxylessNames(proxylessGPUShortcuts)},
	{"proxylessnas_mobile", 224, ofChain(proxylessMobile), proxylessNames(proxylessMobileShortcuts)},
	{"ofa_230m", 220, ofa230M, onceForAllNames},
	{"ofa_389m", 224, ofa389M, onceForAllNames},
	{"ofa_482m", 224, ofa482M, onceForAllNames},
	{"ofa_595m", 236, ofa595M, onceForAllNames},
	{"fbnetv2_l1", 224, ofChain(fbNetV2L1), nil},
	{"fbnetv2_f4", 224, ofChain(fbNetV2F4), nil},
	{"atomnas_c", 224, func(side, classes int) (*nn.Network, error) { return atomNAS(false, side, classes) }, nil},
	{"atomnas_c_plus", 224, func(side, classes int) (*nn.Network, error) { return atomNAS(true, side, classes) }, nil},
	{"pnag_cpu_30", 224, pnagCPU30, onceForAllNames},
	{"pnag_cpu_40", 224, pnagCPU40, onceForAllNames},
	{"pnag_gpu_90", 224, pnagGPU90, onceForAllNames},
	{"pnag_mobile_110", 224, pnagMobile110, onceForAllNames},
	{"pnag_mobile_140", 224, pnagMobile140, onceForAllNames},
	{"pnag_mobile_200", 224, pnagMobile200, onceForAllNames},
}

func ofChain(c chain) build {
	return func(side, classes int) (*nn.Network, error) { return c.build("chain", side, classes) }
}

func ofGenotype(g Genotype, channels int) build {
	return func(side, classes int) (*nn.Network, error) {
		return DARTSNetwork{Genotype: g, Side: side, Classes: classes, Channels: channels, Cells: 14, Stacks: 3}.Build()
	}
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
	build, names, published, err := find(name)
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
	if names != nil {
		names(net)
	}
	return net, nil
}

// find returns how a network is built and named, and its published size.
func find(name string) (build, naming, int, error) {
	if text, found := strings.CutPrefix(name, mobileNetV3Space); found {
		o, err := ParseOnceForAll(text)
		o.Dropout = ofaDropout
		return o.Build, onceForAllNames, cmp.Or(o.Side, 224), err
	}
	for _, n := range networks {
		if n.name == name {
			return n.build, n.names, n.side, nil
		}
	}
	return nil, nil, 0, fmt.Errorf("unknown network %q; known: %s, or %sdepths:kernels:ratios@w1.2,r224", name, strings.Join(Names(), ", "), mobileNetV3Space)
}
