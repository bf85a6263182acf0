package zoo

import (
	"slices"

	"github.com/ctnas/ctnas/trainer/nn"
)

// network is all that the zoo knows of a network. To add one, write its literal below, its layers into the file of its
// family, and its row into docs/zoo.md; commands, counts, completion and the tests with PyTorch follow the literal.
type network struct {
	Row
	side    int       // the published size of images
	build   build     // nil: there is a row and no network, because the definition was never published
	names   naming    // of tensors in files; nil: those that build gives, or the nodes'
	count   Count     // what an independent counter, which reads lists of layers, finds
	weights []Variant // published weights: the program's default comes first; see Variants for families
}

// Row is a row of the table that `ctnas zoo` prints: one of the paper's ImageNet table (Chen et al. 2021, table 2), or
// a network that stands there for comparison. What is not given is 0.
type Row struct {
	Name       string  // of the network; there is one by that name unless the definition was never published
	Paper      string  // the paper's name of the row; empty: not in its table
	Top1, Top5 float64 // percent: the paper's, in rows of its table; otherwise those of the network's authors
	MAdds      float64 // published, in millions, likewise
	Queries    float64 // architectures that were evaluated, in thousands
	SearchDays float64 // days on a GPU
	TotalDays  float64
	Source     string // where the definition was read
	Note       string // what there is to know before figures are compared
}

const (
	notPublished = "its definition was never published"
	fromSearch   = "the architecture was never published; give one of the space as " +
		"mobilenetv3:depths:kernels:ratios@w1.2"
)

// Rows lists the rows in the paper's order, each followed by its relatives.
func Rows() []Row {
	rows := make([]Row, len(networks))
	for i, n := range networks {
		rows[i] = n.Row
	}
	return rows
}

// lookup finds the network of a name; nil where there is none.
func lookup(name string) *network {
	i := slices.IndexFunc(networks, func(n network) bool { return n.Name == name && n.build != nil })
	if i < 0 { // as timm or torchvision name it
		i = slices.IndexFunc(networks, func(n network) bool {
			return n.build != nil && slices.ContainsFunc(n.weights, func(v Variant) bool { return v.Model == name })
		})
	}
	if i < 0 {
		return nil
	}
	return &networks[i]
}

// networks is the zoo, in the order of the paper's table.
var networks = []network{
	{
		Row: Row{Name: "mobilenetv2_1.4", Paper: "MobileNetV2 (1.4x)", Top1: 74.7, MAdds: 585,
			Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
			Note:   "slim's authors count 582M, as we do"},
		side: 224, build: func(side, classes int) (*nn.Network, error) { return MobileNetV2(1.4, side, classes) },
		names: timm(false, 1, 2, 3, 4, 3, 3, 1),
		count: Count{MAdds: 582195824, Params: 6108776},
		weights: []Variant{
			ofTimm("mobilenetv2_140", "", bicubic),
			ofTorchvision("mobilenet_v2(width_mult=1.4)", "", 1e-5, 0.1, 0.2, torchvision232, torchvisionV2),
		},
	},
	{
		Row: Row{Name: "shufflenetv2_2.0", Paper: "ShuffleNetV2 (2x)", Top1: 73.7, MAdds: 524,
			Source: "megvii-model/ShuffleNet-Series ShuffleNetV2",
			Note: "the row's figures are those of ShuffleNetV1 2x, shufflenetv1_2.0_g3; this network's are 75.0 " +
				"and 591M"},
		side: 224, build: shuffleNetV2, names: torchvisionShuffle,
		count:   Count{MAdds: 590783000, Params: 7402600},
		weights: []Variant{ofTorchvision("shufflenet_v2_x2_0", "", 1e-5, 0.1, 0, torchvision232, nil)},
	},
	{
		Row: Row{Name: "shufflenetv1_2.0_g3", Top1: 73.7, MAdds: 524,
			Source: "megvii-model/ShuffleNet-Series ShuffleNetV1",
			Note:   "what the row ShuffleNetV2 (2x) describes"},
		side: 224, build: shuffleNetV1,
		count: Count{MAdds: 524045184, Params: 5449776},
	},
	{
		Row: Row{Name: "nasnet_a_mobile", Paper: "NASNet-A", Top1: 74.0, Top5: 91.6, MAdds: 564, Queries: 20,
			TotalDays: 1800, Source: "tensorflow/models research/slim/nets/nasnet"},
		side: 224, build: nasNetA.build,
		count: Count{MAdds: 563638816, Params: 5289978},
	},
	{
		Row: Row{Name: "nasnet_a_darts_macro", Source: "quark0/darts cnn/genotypes.py",
			Note: "NASNet-A's cells in DARTS's network; no published model"},
		side: 224, build: ofGenotype(nasnetAsDARTS, 44),
		count: Count{MAdds: 512024480, Params: 4774846},
	},
	{
		Row: Row{Name: "amoebanet_a_mobile", Paper: "AmoebaNet-A", Top1: 74.5, Top5: 92.0, MAdds: 555, Queries: 20,
			TotalDays: 3150, Source: "tensorflow/tpu models/official/amoeba_net",
			Note: "published cells; depth and width are the paper's N = 4, F = 50, no released configuration " +
				"has them"},
		side: 224, build: amoebaNetA.build,
		count: Count{MAdds: 554687204, Params: 5086930},
	},
	{
		Row: Row{Name: "amoebanet_a_darts_macro", Source: "quark0/darts cnn/genotypes.py",
			Note: "AmoebaNet-A's cells in DARTS's network; no published model"},
		side: 224, build: ofGenotype(amoebanetAsDARTS, 50),
		count: Count{MAdds: 569705600, Params: 4985475},
	},
	{
		Row: Row{Name: "darts_v1_c50", Paper: "DARTS", Top1: 73.1, Top5: 91.0, MAdds: 595, Queries: 19.5,
			SearchDays: 4, TotalDays: 4, Source: "quark0/darts cnn/genotypes.py (first release)",
			Note: "the row is this first version; no stated way of counting gives the authors' 595M, but their " +
				"4.9M parameters agree"},
		side: 224, build: ofGenotype(dartsV1, 50),
		count: Count{MAdds: 547483200, Params: 4853975},
	},
	{
		Row: Row{Name: "darts_v2", Top1: 73.3, Top5: 91.3, MAdds: 574, Source: "quark0/darts cnn/genotypes.py",
			Note: "what is called DARTS today; the authors' 574M is counted in an unpublished way"},
		side: 224, build: ofGenotype(dartsV2, 48),
		count: Count{MAdds: 529911552, Params: 4718752},
	},
	{
		Row: Row{Name: "pdarts_cifar10", Paper: "P-DARTS", Top1: 75.6, Top5: 92.6, MAdds: 577, Queries: 11.7,
			SearchDays: 0.3, TotalDays: 0.3, Source: "chenxin061/pdarts genotypes.py",
			Note: "the row joins this model's accuracy (557M, counted with batch norms and pools) with the 577M " +
				"of the one found on CIFAR-100, whose genotype was never published"},
		side: 224, build: ofGenotype(pdartsCIFAR10, 48),
		count: Count{MAdds: 542819328, Params: 4944352},
	},
	{
		Row: Row{Name: "pcdarts_imagenet", Paper: "PC-DARTS", Top1: 75.8, Top5: 92.7, MAdds: 597, Queries: 3.4,
			SearchDays: 3.8, TotalDays: 3.8, Source: "yuhuixu1993/PC-DARTS genotypes.py",
			Note: "the authors' 597M counts batch norms, ReLUs and pools"},
		side: 224, build: ofGenotype(pcdartsImageNet, 48),
		count: Count{MAdds: 581627328, Params: 5342464},
	},
	{
		Row: Row{Name: "pcdarts_cifar10", Top1: 74.9, Top5: 92.2, MAdds: 586,
			Source: "yuhuixu1993/PC-DARTS genotypes.py",
			Note:   "found on CIFAR-10; counted as above"},
		side: 224, build: ofGenotype(pcdartsCIFAR10, 48),
		count: Count{MAdds: 571137408, Params: 5270560},
	},
	{
		Row: Row{Name: "cnas", Paper: "CNAS", Top1: 75.4, Top5: 92.6, MAdds: 576, Queries: 100, SearchDays: 0.3,
			TotalDays: 0.3, Source: "guoyongcs/CNAS cnas/model/genotypes.py",
			Note: "the authors' 576M leaves the classifier out"},
		side: 224, build: ofGenotype(cnas, 48),
		count: Count{MAdds: 577158528, Params: 5318368},
	},
	{
		Row: Row{Name: "mobilenetv3_large_1.0", Paper: "MobileNetV3-Large", Top1: 75.2, MAdds: 219,
			Source: "huggingface/pytorch-image-models timm/models/mobilenetv3.py",
			Note:   "slim's authors count 217M"},
		side: 224, build: MobileNetV3Large, names: timm(true, 1, 2, 3, 4, 2, 3),
		count: Count{MAdds: 216589760, Params: 5483032, Squeeze: 1507200},
		weights: []Variant{
			ofTimm("mobilenetv3_large_100", "ra_in1k", bicubic),
			ofTimm("mobilenetv3_large_100", "ra4_e3600_r224_in1k", halves95),
			ofTimm("mobilenetv3_large_100", "miil_in21k_ft_in1k", fromZeroToOne),
			ofTimmTF("tf_mobilenetv3_large_100", "in1k", bilinear.normalized(halves, halves)),
			ofTorchvision("mobilenet_v3_large", "IMAGENET1K_V2", 1e-3, 0.01, 0.2, torchvision232, torchvisionV3(15)),
			ofTorchvision("mobilenet_v3_large", "IMAGENET1K_V1", 1e-3, 0.01, 0.2, torchvision256, torchvisionV3(15)),
		},
	},
	{
		Row: Row{Name: "mobilenetv3_small_1.0", Top1: 67.4, MAdds: 56,
			Source: "huggingface/pytorch-image-models timm/models/mobilenetv3.py",
			Note:   "Howard et al. 2019, table 2; counted from timm's model"},
		side: 224, build: ofChain(mobileNetV3Small), names: timm(true, 1, 2, 3, 2, 3),
		count: Count{MAdds: 56510400, Params: 2542856, Squeeze: 458752},
		weights: []Variant{
			ofTimm("mobilenetv3_small_100", "", bicubic),
			ofTimmTF("tf_mobilenetv3_small_100", "in1k", bilinear.normalized(halves, halves)),
			ofTorchvision("mobilenet_v3_small", "", 1e-3, 0.01, 0.2, torchvision256, torchvisionV3(11)),
		},
	},
	{
		Row: Row{Name: "fbnet_c", Paper: "FBNet-C", Top1: 74.9, MAdds: 375, Queries: 11.5, SearchDays: 1.8,
			TotalDays: 9, Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2",
			Note: "the released model has 378.2M with the pool's inputs"},
		side: 224, build: ofChain(fbNetC(blockStyle{biased: true})),
		count: Count{MAdds: 378136224, Params: 5590784},
	},
	{
		Row: Row{Name: "fbnet_c_timm", Top1: 75.12, Top5: 92.38, MAdds: 400,
			Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
			Note:   "timm's fbnetc_100 is not quite the authors' network"},
		side: 224, build: ofChain(fbNetC(blockStyle{expands: true})), names: timm(false, 1, 3, 4, 4, 4, 4, 1),
		count:   Count{MAdds: 384960160, Params: 5572200},
		weights: []Variant{ofTimm("fbnetc_100", "", bilinear)},
	},
	{
		Row: Row{Name: "mnasnet_a3", Paper: "MnasNet-A3", Top1: 76.7, Top5: 93.3, MAdds: 403, Queries: 8,
			Note: notPublished},
	},
	{
		Row: Row{Name: "mnasnet_a1", Top1: 75.2, Top5: 92.5, MAdds: 312,
			Source: "tensorflow/tpu models/official/mnasnet",
			Note:   "the nearest released relative of A3"},
		side: 224, build: ofChain(mnasNetA1), names: timm(false, 1, 2, 3, 4, 2, 3, 1),
		count:   Count{MAdds: 311579072, Params: 3887038, Squeeze: 253728},
		weights: []Variant{ofTimm("semnasnet_100", "", bicubic)},
	},
	{
		Row: Row{Name: "mnasnet_b1", Top1: 74.5, Top5: 92.0, MAdds: 315,
			Source: "tensorflow/tpu models/official/mnasnet"},
		side: 224, build: ofChain(mnasNetB1), names: timm(false, 1, 3, 3, 3, 2, 4, 1),
		count: Count{MAdds: 314415872, Params: 4383312},
		weights: []Variant{
			ofTimm("mnasnet_100", "", bicubic),
			ofTorchvision("mnasnet1_0", "", 1e-5, 1-0.9997, 0.2, torchvision256, torchvisionMnasNet),
		},
	},
	{
		Row: Row{Name: "efficientnet_b0", Top1: 77.1, Top5: 93.3, MAdds: 390,
			Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
			Note:   "found in MnasNet's space with a target of 400M; not A3"},
		side: 224, build: ofChain(efficientNetB0), names: timm(false, 1, 2, 2, 3, 3, 4, 1),
		count: Count{MAdds: 385814752, Params: 5288548, Squeeze: 627200},
		weights: []Variant{
			ofTimm("efficientnet_b0", "ra_in1k", bicubic),
			ofTimm("efficientnet_b0", "ra4_e3600_r224_in1k", halves90),
			ofTimmTF("tf_efficientnet_b0", "ns_jft_in1k", bicubic),
			ofTimmTF("tf_efficientnet_b0", "aa_in1k", bicubic),
			ofTimmTF("tf_efficientnet_b0", "in1k", bicubic),
			ofTimmTF("tf_efficientnet_b0", "ap_in1k", bicubic.normalized(halves, halves)),
			ofTorchvision("efficientnet_b0", "", 1e-5, 0.1, 0.2, imageNet(Bicubic, 224./256, "round"),
				torchvisionEfficient),
		},
	},
	{
		Row: Row{Name: "proxylessnas_gpu", Paper: "ProxylessNAS", Top1: 75.1, Top5: 92.3, MAdds: 465, TotalDays: 8.3,
			Source: "han-cai/files proxylessnas/proxyless_gpu.config"},
		side: 224, build: ofChain(proxylessGPU), names: proxylessNames(proxylessGPUShortcuts),
		count:   Count{MAdds: 465260160, Params: 7119848},
		weights: []Variant{ofProxyless},
	},
	{
		Row: Row{Name: "proxylessnas_mobile", Top1: 74.594, Top5: 92.202, MAdds: 320.4,
			Source: "han-cai/files proxylessnas/proxyless_mobile.config"},
		side: 224, build: ofChain(proxylessMobile), names: proxylessNames(proxylessMobileShortcuts),
		count:   Count{MAdds: 320427584, Params: 4080512},
		weights: []Variant{ofProxyless},
	},
	{
		Row: Row{Name: "ofa_230m", Paper: "OFA", Top1: 76.0, MAdds: 230, Queries: 16, SearchDays: 1.7,
			TotalDays: 51.7, Source: "han-cai/files ofa/ofa_specialized/pixel1_lat-58ms",
			Note: "76.0 is without fine-tuning, 76.9 with it; at 220x220"},
		side: 220, build: ofa230M.Build,
		count: Count{MAdds: 229846296, Params: 5809576, Squeeze: 1582848},
	},
	{
		Row: Row{Name: "ofa_389m", Top1: 79.1, Top5: 94.5, MAdds: 389,
			Source: "han-cai/files ofa/ofa_specialized/flops-389M"},
		side: 224, build: ofa389M.Build,
		count: Count{MAdds: 389487856, Params: 8386544, Squeeze: 2499840},
	},
	{
		Row: Row{Name: "ofa_482m", Top1: 79.6, Top5: 94.8, MAdds: 482,
			Source: "han-cai/files ofa/ofa_specialized/flops-482M",
			Note:   "of the size of the paper's result"},
		side: 224, build: ofa482M.Build,
		count: Count{MAdds: 482413168, Params: 9066368, Squeeze: 2881792},
	},
	{
		Row: Row{Name: "ofa_595m", Top1: 80.0, Top5: 94.9, MAdds: 595,
			Source: "han-cai/files ofa/ofa_specialized/flops-595M",
			Note:   "at 236x236"},
		side: 236, build: ofa595M.Build,
		count: Count{MAdds: 595189032, Params: 9135928, Squeeze: 2904832},
	},
	{
		Row: Row{Name: "fbnetv2_l1", Paper: "FBNetV2", Top1: 76.3, Top5: 92.9, MAdds: 321, Queries: 11.5,
			SearchDays: 5, TotalDays: 25, Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2",
			Note: "the row matches no released model; L1 (77.0, 326.0M with the pools' inputs) is the closest"},
		side: 224, build: ofChain(fbNetV2L1),
		count: Count{MAdds: 325025344, Params: 8538776, Squeeze: 1597312},
	},
	{
		Row: Row{Name: "fbnetv2_f4", Top1: 75.818, Top5: 92.342, MAdds: 238.352,
			Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2",
			Note:   "published with the pools' inputs"},
		side: 224, build: ofChain(fbNetV2F4),
		count: Count{MAdds: 237605592, Params: 7022864, Squeeze: 899328},
	},
	{
		Row: Row{Name: "atomnas_c", Paper: "AtomNAS", Top1: 75.9, Top5: 92.0, MAdds: 367, Queries: 78,
			Source: "meijieru/AtomNAS apps/searched/models/atomnas_c.yml",
			Note:   "the authors count 360M"},
		side: 224, build: func(side, classes int) (*nn.Network, error) { return atomNAS(false, side, classes) },
		count: Count{MAdds: 359801485, Params: 4782696},
	},
	{
		Row: Row{Name: "atomnas_c_plus", Top1: 77.6, Top5: 93.6, MAdds: 363,
			Source: "meijieru/AtomNAS apps/searched/atomnas_c/atomnas_c+.yml",
			Note:   "published with the pools' inputs"},
		side: 224, build: func(side, classes int) (*nn.Network, error) { return atomNAS(true, side, classes) },
		count: Count{MAdds: 360977253, Params: 5968040, Squeeze: 1175768},
	},
	{
		Row: Row{Name: "random_search", Paper: "Random Search", Top1: 76.0, Top5: 92.6, MAdds: 314, Queries: 1,
			TotalDays: 50,
			Note:      fromSearch},
	},
	{
		Row: Row{Name: "best_sampled", Paper: "Best Sampled Architectures", Top1: 76.7, Top5: 93.1, MAdds: 382,
			Queries: 1, TotalDays: 50,
			Note: fromSearch},
	},
	{
		Row: Row{Name: "ctnas", Paper: "CTNAS", Top1: 77.3, Top5: 93.4, MAdds: 482, Queries: 1, SearchDays: 0.1,
			TotalDays: 50.1,
			Note:      fromSearch},
	},
	pnag("pnag_cpu_30", 78.3, 335, pnagCPU30, Count{MAdds: 336165936, Params: 7638920, Squeeze: 2148096}),
	pnag("pnag_cpu_40", 79.8, 502, pnagCPU40, Count{MAdds: 503657904, Params: 9374656, Squeeze: 2999296}),
	pnag("pnag_gpu_90", 78.3, 310, pnagGPU90, Count{MAdds: 311429008, Params: 7734280, Squeeze: 2162048}),
	pnag("pnag_mobile_110", 79.4, 451, pnagMobile110, Count{MAdds: 452679344, Params: 9880072, Squeeze: 3463680}),
	pnag("pnag_mobile_140", 79.8, 492, pnagMobile140, Count{MAdds: 493111792, Params: 9166008, Squeeze: 2911744}),
	pnag("pnag_mobile_200", 80.5, 724, pnagMobile200, Count{MAdds: 725396720, Params: 10359088, Squeeze: 3646976}),
}

// pnag is a network of PNAG's in once-for-all's space, with its accuracy, its published millions of multiply-adds and
// what it takes.
func pnag(name string, top1, madds float64, net OnceForAll, count Count) network {
	return network{
		Row: Row{Name: name, Top1: top1, MAdds: madds, Source: "guoyongcs/PNAG core/pnag.py",
			Note: "published without the classifier's 1.5M"},
		side: 224, build: net.Build,
		count: count,
	}
}
