package zoo

// Row is a row of the table that `ctnas zoo` prints: one of the paper's ImageNet table (Chen et al. 2021, table 2), or a network that stands there for
// comparison. What is not given is 0.
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
	fromSearch   = "the architecture was never published; give one of the space as mobilenetv3:depths:kernels:ratios@w1.2"
)

// Rows are the rows in the paper's order, each followed by its relatives.
var Rows = []Row{
	{Name: "mobilenetv2_1.4", Paper: "MobileNetV2 (1.4x)", Top1: 74.7, MAdds: 585, Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
		Note: "slim's authors count 582M, as we do"},
	{Name: "shufflenetv2_2.0", Paper: "ShuffleNetV2 (2x)", Top1: 73.7, MAdds: 524, Source: "megvii-model/ShuffleNet-Series ShuffleNetV2",
		Note: "the row's figures are those of ShuffleNetV1 2x, shufflenetv1_2.0_g3; this network's are 75.0 and 591M"},
	{Name: "shufflenetv1_2.0_g3", Top1: 73.7, MAdds: 524, Source: "megvii-model/ShuffleNet-Series ShuffleNetV1", Note: "what the row ShuffleNetV2 (2x) describes"},
	{Name: "nasnet_a_mobile", Paper: "NASNet-A", Top1: 74.0, Top5: 91.6, MAdds: 564, Queries: 20, TotalDays: 1800, Source: "tensorflow/models research/slim/nets/nasnet"},
	{Name: "nasnet_a_darts_macro", Source: "quark0/darts cnn/genotypes.py", Note: "NASNet-A's cells in DARTS's network; no published model"},
	{Name: "amoebanet_a_mobile", Paper: "AmoebaNet-A", Top1: 74.5, Top5: 92.0, MAdds: 555, Queries: 20, TotalDays: 3150, Source: "tensorflow/tpu models/official/amoeba_net",
		Note: "published cells; depth and width are the paper's N = 4, F = 50, no released configuration has them"},
	{Name: "amoebanet_a_darts_macro", Source: "quark0/darts cnn/genotypes.py", Note: "AmoebaNet-A's cells in DARTS's network; no published model"},
	{Name: "darts_v1_c50", Paper: "DARTS", Top1: 73.1, Top5: 91.0, MAdds: 595, Queries: 19.5, SearchDays: 4, TotalDays: 4, Source: "quark0/darts cnn/genotypes.py (first release)",
		Note: "the row is this first version; no stated way of counting gives the authors' 595M, but their 4.9M parameters agree"},
	{Name: "darts_v2", Top1: 73.3, Top5: 91.3, MAdds: 574, Source: "quark0/darts cnn/genotypes.py", Note: "what is called DARTS today; the authors' 574M is counted in an unpublished way"},
	{Name: "pdarts_cifar10", Paper: "P-DARTS", Top1: 75.6, Top5: 92.6, MAdds: 577, Queries: 11.7, SearchDays: 0.3, TotalDays: 0.3, Source: "chenxin061/pdarts genotypes.py",
		Note: "the row joins this model's accuracy (557M, counted with batch norms and pools) with the 577M of the one found on CIFAR-100, whose genotype was never published"},
	{Name: "pcdarts_imagenet", Paper: "PC-DARTS", Top1: 75.8, Top5: 92.7, MAdds: 597, Queries: 3.4, SearchDays: 3.8, TotalDays: 3.8, Source: "yuhuixu1993/PC-DARTS genotypes.py",
		Note: "the authors' 597M counts batch norms, ReLUs and pools"},
	{Name: "pcdarts_cifar10", Top1: 74.9, Top5: 92.2, MAdds: 586, Source: "yuhuixu1993/PC-DARTS genotypes.py", Note: "found on CIFAR-10; counted as above"},
	{Name: "cnas", Paper: "CNAS", Top1: 75.4, Top5: 92.6, MAdds: 576, Queries: 100, SearchDays: 0.3, TotalDays: 0.3, Source: "guoyongcs/CNAS cnas/model/genotypes.py",
		Note: "the authors' 576M leaves the classifier out"},
	{Name: "mobilenetv3_large_1.0", Paper: "MobileNetV3-Large", Top1: 75.2, MAdds: 219, Source: "huggingface/pytorch-image-models timm/models/mobilenetv3.py",
		Note: "slim's authors count 217M"},
	{Name: "fbnet_c", Paper: "FBNet-C", Top1: 74.9, MAdds: 375, Queries: 11.5, SearchDays: 1.8, TotalDays: 9, Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2",
		Note: "the released model has 378.2M with the pool's inputs"},
	{Name: "fbnet_c_timm", Top1: 75.12, Top5: 92.38, MAdds: 400, Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
		Note: "timm's fbnetc_100 is not quite the authors' network"},
	{Name: "mnasnet_a3", Paper: "MnasNet-A3", Top1: 76.7, Top5: 93.3, MAdds: 403, Queries: 8, Note: notPublished},
	{Name: "mnasnet_a1", Top1: 75.2, Top5: 92.5, MAdds: 312, Source: "tensorflow/tpu models/official/mnasnet", Note: "the nearest released relative of A3"},
	{Name: "mnasnet_b1", Top1: 74.5, Top5: 92.0, MAdds: 315, Source: "tensorflow/tpu models/official/mnasnet"},
	{Name: "efficientnet_b0", Top1: 77.1, Top5: 93.3, MAdds: 390, Source: "huggingface/pytorch-image-models timm/models/efficientnet.py",
		Note: "found in MnasNet's space with a target of 400M; not A3"},
	{Name: "proxylessnas_gpu", Paper: "ProxylessNAS", Top1: 75.1, Top5: 92.3, MAdds: 465, TotalDays: 8.3, Source: "han-cai/files proxylessnas/proxyless_gpu.config"},
	{Name: "proxylessnas_mobile", Top1: 74.594, Top5: 92.202, MAdds: 320.4, Source: "han-cai/files proxylessnas/proxyless_mobile.config"},
	{Name: "ofa_230m", Paper: "OFA", Top1: 76.0, MAdds: 230, Queries: 16, SearchDays: 1.7, TotalDays: 51.7, Source: "han-cai/files ofa/ofa_specialized/pixel1_lat-58ms",
		Note: "76.0 is without fine-tuning, 76.9 with it; at 220x220"},
	{Name: "ofa_389m", Top1: 79.1, Top5: 94.5, MAdds: 389, Source: "han-cai/files ofa/ofa_specialized/flops-389M"},
	{Name: "ofa_482m", Top1: 79.6, Top5: 94.8, MAdds: 482, Source: "han-cai/files ofa/ofa_specialized/flops-482M", Note: "of the size of the paper's result"},
	{Name: "ofa_595m", Top1: 80.0, Top5: 94.9, MAdds: 595, Source: "han-cai/files ofa/ofa_specialized/flops-595M", Note: "at 236x236"},
	{Name: "fbnetv2_l1", Paper: "FBNetV2", Top1: 76.3, Top5: 92.9, MAdds: 321, Queries: 11.5, SearchDays: 5, TotalDays: 25,
		Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2", Note: "the row matches no released model; L1 (77.0, 326.0M with the pools' inputs) is the closest"},
	{Name: "fbnetv2_f4", Top1: 75.818, Top5: 92.342, MAdds: 238.352, Source: "facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2", Note: "published with the pools' inputs"},
	{Name: "atomnas_c", Paper: "AtomNAS", Top1: 75.9, Top5: 92.0, MAdds: 367, Queries: 78, Source: "meijieru/AtomNAS apps/searched/models/atomnas_c.yml",
		Note: "the authors count 360M"},
	{Name: "atomnas_c_plus", Top1: 77.6, Top5: 93.6, MAdds: 363, Source: "meijieru/AtomNAS apps/searched/atomnas_c/atomnas_c+.yml", Note: "published with the pools' inputs"},
	{Name: "random_search", Paper: "Random Search", Top1: 76.0, Top5: 92.6, MAdds: 314, Queries: 1, TotalDays: 50, Note: fromSearch},
	{Name: "best_sampled", Paper: "Best Sampled Architectures", Top1: 76.7, Top5: 93.1, MAdds: 382, Queries: 1, TotalDays: 50, Note: fromSearch},
	{Name: "ctnas", Paper: "CTNAS", Top1: 77.3, Top5: 93.4, MAdds: 482, Queries: 1, SearchDays: 0.1, TotalDays: 50.1, Note: fromSearch},
	{Name: "pnag_cpu_30", Top1: 78.3, MAdds: 335, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
	{Name: "pnag_cpu_40", Top1: 79.8, MAdds: 502, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
	{Name: "pnag_gpu_90", Top1: 78.3, MAdds: 310, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
	{Name: "pnag_mobile_110", Top1: 79.4, MAdds: 451, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
	{Name: "pnag_mobile_140", Top1: 79.8, MAdds: 492, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
	{Name: "pnag_mobile_200", Top1: 80.5, MAdds: 724, Source: "guoyongcs/PNAG core/pnag.py", Note: "published without the classifier's 1.5M"},
}
