package conv

/*
#include "patches.h"
*/
import "C"

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Patches stores, on an accelerator and in bfloat16, what each pixel of a convolution's output is made of: the pixels
// under the window, side by side, and zeros where the window leaves the image. With them the convolution is Pointwise.
type Patches struct {
	Conv
	In  *exec.Buffer // [N, H, W, C], float32
	Out *exec.Buffer // [N, OutH, OutW, PatchWidth], bfloat16
}

// Patched tells whether a convolution is better done on patches: one that reads so few channels that they fill no
// vector, a network's first. Its kernels would put every number in its place by itself, twice in a step. weightLD and
// tapLD are those of its weight, which must lie as that of one tap.
func (c Conv) Patched(weightLD, tapLD int) bool {
	c = c.defaults()
	ld := max(weightLD, c.Out)
	const most = C.CTN_CONV_GPU_POINT_STEPS * C.CTN_CONV_GPU_PLAIN_STEP
	return c.In.C < C.CTN_CONV_GPU_LANES_BF16 && c.KH*c.KW > 1 && c.KH*c.KW*c.In.C <= most && c.Groups == 1 &&
		c.Out%C.CTN_CONV_GPU_LANES_BF16 == 0 && (tapLD == 0 || tapLD == c.In.C*ld)
}

// PatchWidth is the number of elements of a patch, a multiple of eight.
func (c Conv) PatchWidth() int {
	const lanes = C.CTN_CONV_GPU_LANES_BF16
	return exec.Blocks(c.KH*c.KW*c.In.C, lanes) * lanes
}

// Pointwise is the convolution over patches, and its input.
func (c Conv) Pointwise(patches *exec.Buffer) (Conv, tensor.Input) {
	shape := c.defaults().Shape()
	shape.C = c.KH * c.KW * c.In.C
	return Conv{In: shape, Out: c.Out, KH: 1, KW: 1},
		tensor.Input{Shape: shape, Z: patches, Stride: c.PatchWidth(), Padded: true}
}

// Record appends the operation to a program.
func (x Patches) Record(p *exec.Program) {
	c := x.Conv.defaults()
	pixels, width := c.Shape().Pixels(), c.PatchWidth()
	exec.Need("patches", "In", x.In, c.In.Len())
	if c.Groups != 1 || !x.Out.Half() || x.Out.Len() < pixels*width || width/8 > C.CTN_CONV_PATCHES_BLOCK {
		panic(fmt.Sprintf("patches of %d elements for %+v in %d", width, c, x.Out.Len()))
	}
	args := C.ctn_conv_patches_args{at: c.geometry(view{}), images: floats(x.In), out: x.Out.Pointer(),
		pixels: C.int32_t(pixels), width: C.int32_t(width)}
	args.at.depth = C.int32_t(c.In.C)
	each := C.CTN_CONV_PATCHES_BLOCK / (width / 8) * C.CTN_CONV_PATCHES_EACH
	exec.Call(p, "patches", nil, &args, 0, exec.Launch{File: "patches", Entry: "cu_conv_patches",
		Grid: [3]int{exec.Blocks(pixels, each)}, Block: C.CTN_CONV_PATCHES_BLOCK,
		Work: exec.Work{Bytes: 4*float64(c.In.Len()) + 2*float64(pixels*width)}})
}
