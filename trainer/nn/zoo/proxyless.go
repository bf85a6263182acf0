package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// proxylessNAS is a ProxylessNAS network (Cai et al. 2019; han-cai/files, proxylessnas/*.config).
func proxylessNAS(stem, head int, blocks []inverted) chain {
	return chain{norm: nn.BatchNorm{Eps: 1e-3, Momentum: 0.1}, act: nn.ReLU6, stem: stem, blocks: blocks, head: head}
}

// The configurations also list blocks that are no more than a shortcut. They are left out here, but count in the names
// of files.
var (
	proxylessGPU = proxylessNAS(40, 1728, []inverted{
		{3, 1, 40, 24, 0, nn.ReLU6},
		{5, 2, 72, 32, 0, nn.ReLU6},
		{7, 2, 96, 56, 0, nn.ReLU6},
		{3, 1, 168, 56, 0, nn.ReLU6},
		{7, 2, 336, 112, 0, nn.ReLU6},
		{5, 1, 336, 112, 0, nn.ReLU6},
		{5, 1, 672, 128, 0, nn.ReLU6},
		{3, 1, 384, 128, 0, nn.ReLU6},
		{5, 1, 384, 128, 0, nn.ReLU6},
		{7, 2, 768, 256, 0, nn.ReLU6},
		{7, 1, 1536, 256, 0, nn.ReLU6},
		{7, 1, 1536, 256, 0, nn.ReLU6},
		{5, 1, 1536, 256, 0, nn.ReLU6},
		{7, 1, 1536, 432, 0, nn.ReLU6},
	})
	proxylessGPUShortcuts = []int{2, 3, 4, 6, 7, 10, 11, 14}

	proxylessMobile = proxylessNAS(32, 1280, []inverted{
		{3, 1, 32, 16, 0, nn.ReLU6},
		{5, 2, 48, 32, 0, nn.ReLU6},
		{3, 1, 96, 32, 0, nn.ReLU6},
		{7, 2, 96, 40, 0, nn.ReLU6},
		{3, 1, 120, 40, 0, nn.ReLU6},
		{5, 1, 120, 40, 0, nn.ReLU6},
		{5, 1, 120, 40, 0, nn.ReLU6},
		{7, 2, 240, 80, 0, nn.ReLU6},
		{5, 1, 240, 80, 0, nn.ReLU6},
		{5, 1, 240, 80, 0, nn.ReLU6},
		{5, 1, 240, 80, 0, nn.ReLU6},
		{5, 1, 480, 96, 0, nn.ReLU6},
		{5, 1, 288, 96, 0, nn.ReLU6},
		{5, 1, 288, 96, 0, nn.ReLU6},
		{5, 1, 288, 96, 0, nn.ReLU6},
		{7, 2, 576, 192, 0, nn.ReLU6},
		{7, 1, 1152, 192, 0, nn.ReLU6},
		{7, 1, 576, 192, 0, nn.ReLU6},
		{7, 1, 576, 192, 0, nn.ReLU6},
		{7, 1, 1152, 320, 0, nn.ReLU6},
	})
	proxylessMobileShortcuts = []int{3, 4}
)
