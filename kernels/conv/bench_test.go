package conv_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Layers of NAS-Bench-101's best cell, batch 8 of 32x32; of MobileNetV3-Large and MobileNetV2-1.4, batch 16 of 224x224.
var layers = []struct{ n, size, in, out, k, stride int }{
	{8, 32, 128, 128, 3, 1}, {8, 32, 128, 128, 1, 1}, {8, 16, 256, 256, 3, 1}, {8, 16, 256, 256, 1, 1},
	{8, 8, 512, 512, 3, 1}, {8, 8, 512, 512, 1, 1},
	{16, 224, 3, 16, 3, 2}, {16, 112, 16, 64, 1, 1}, {16, 56, 72, 24, 1, 1}, {16, 28, 40, 120, 1, 1},
	{16, 28, 120, 40, 1, 1}, {16, 14, 112, 672, 1, 1},
	{16, 7, 672, 160, 1, 1}, {16, 7, 160, 960, 1, 1}, {16, 56, 32, 192, 1, 1}, {16, 14, 528, 136, 1, 1},
}

func BenchmarkConv(b *testing.B) {
	for _, level := range exec.Levels() {
		if level == "portable" || level == "avx2x16" {
			continue
		}
		for _, l := range layers {
			for _, way := range []string{"forward", "input", "weight", "forward-direct", "input-direct",
				"weight-direct"} {
				if strings.Contains(way, "direct") && l.k == 1 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d/%d-%d/k%ds%d/%s", level, l.size, l.in, l.out, l.k, l.stride, way),
					func(b *testing.B) {
						d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
						defer d.Close()
						ar := d.NewArena()
						defer ar.Free()
						c := Conv{In: tensor.Shape{N: l.n, H: l.size, W: l.size, C: l.in}, Out: l.out, KH: l.k, KW: l.k,
							Stride: l.stride, PadH: l.k / 2, PadW: l.k / 2, Direct: strings.Contains(way, "direct")}
						x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{Norm: true, Act: tensor.ReLU}, 1)
						w, _ := kerneltest.Random(c.WeightLen(), 2)
						grad, _ := kerneltest.NewGradient(ar, c.Shape(), true, 0, 3)
						p := ar.NewProgram("bench")
						switch strings.TrimSuffix(way, "-direct") {
						case "forward":
							Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: ar.F32(c.Shape().Len()),
								Sums: true}.Record(p)
						case "input":
							of := x.Input
							InputGradient{Conv: c, Grad: grad, Weight: ar.Floats(w),
								Sink: tensor.Sink{D: ar.F32(c.In.Len()), Of: &of, Mean: x.Mean,
									InvStd: x.InvStd}}.Record(p)
						case "weight":
							WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen())}.Record(p)
						}
						tensors := float64(c.In.Len() + c.Shape().Len())
						if !strings.HasPrefix(way, "forward") {
							tensors += float64(c.Shape().Len())
						}
						kerneltest.Bench(b, 2*float64(c.MAdds()), 4*tensors, p)
					})
			}
		}
	}
}
