// Package tensor says how the operations of a network read and write its tensors. A convolution stores its raw output
// once; batch norm, activation and gate are applied by whatever reads it, and in the other direction by whatever writes
// the gradient. So a network has no pass of its own for them.
//
// Forward, with z a raw output: a producer leaves sums over parts of z (Stats), package norm turns them into a scale
// and a shift per channel, and consumers read a = gate·act(scale·z + shift) through an Input. Backward: consumers write
// the gradient in a through a Sink, one after the other; the last one multiplies by act' and leaves sums of g =
// ∂L/∂(scale·z + shift) and of g·ẑ; package norm turns these into coefficients, with which the producer's backward
// operations read ∂L/∂z = p·g + q·z + r through a Gradient.
package tensor

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "tensor.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Headers are the C headers that the kernel families include; embedded for the reason of exec.Headers.
//
//go:embed *.h *.cuh
var Headers embed.FS

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

// Act is an activation.
type Act int32

// The activations. HSwish is u·relu6(u+3)/6, HSigmoid relu6(u+3)/6 (Howard et al., ICCV 2019), Swish u·σ(u),
// GELU u·Φ(u) with the normal distribution's Φ, not its approximation by tanh (Hendrycks and Gimpel, 2016).
const (
	None     Act = C.CTN_NONE
	ReLU     Act = C.CTN_RELU
	ReLU6    Act = C.CTN_RELU6
	HSwish   Act = C.CTN_HSWISH
	HSigmoid Act = C.CTN_HSIGMOID
	Swish    Act = C.CTN_SWISH
	Sigmoid  Act = C.CTN_SIGMOID
	GELU     Act = C.CTN_GELU

	Acts Act = C.CTN_ACTS // how many there are
)

// Shape is that of an NHWC tensor: images, height, width, channels.
type Shape struct{ N, H, W, C int }

// Pixels is the number of positions of all images.
func (s Shape) Pixels() int { return s.N * s.H * s.W }

// Len is the number of elements.
func (s Shape) Len() int { return s.Pixels() * s.C }

// Input is a tensor as a consumer reads it: Gate·Act(Scale·Z + Shift). Scale and Shift (a channel each) and Gate
// ([images, channels]) are optional.
//
// Z may be stored as bfloat16, and so may the tensors of a Gradient and a Sink, all those of an operation alike;
// whatever is one a channel, gates and sums are float32.
//
// Stride is the number of elements from a pixel to the next, 0 for C. With a larger one the tensor is a group of
// channels of a wider tensor, and Z starts at the group's first channel. Padded: behind the channels of each pixel
// there are zeros up to a multiple of eight, not more than Stride.
type Input struct {
	Shape
	Z            *exec.Buffer // [N, H, W, C]
	Stride       int
	Padded       bool
	Scale, Shift *exec.Buffer // [C], or nil
	Act          Act
	Gate         *exec.Buffer // [N, C], or nil
	GateStride   int          // from an image's factors to the next one's, 0 for C
}

// Gradient is the gradient in a raw output Z as its producer's backward operations read it: P·G + Q·Z + R with a
// coefficient a channel, or G alone when P is nil. Strides as in Input.
type Gradient struct {
	G, Z            *exec.Buffer // [N, H, W, C]
	Stride, ZStride int
	P, Q, R         *exec.Buffer // [C], or nil
}

// Sink is where a consumer's backward operation puts the gradient in its input. The consumers of a tensor write one
// after the other: all but the first accumulate, and the last one has Of, the tensor itself. It then multiplies by the
// derivative of Of's activation and, with Mean, leaves sums for norm.Backward. Of's gate is not looked at: the gradient
// through a gate is package elementwise's.
type Sink struct {
	D          *exec.Buffer // [N, H, W, C]
	Stride     int
	Accumulate bool
	Of         *Input
	Mean       *exec.Buffer // [C], of Z, and 1/sqrt(var + eps)
	InvStd     *exec.Buffer // [C]
}

// Stats are sums over parts of a tensor, which package norm adds up in their order.
type Stats struct {
	Rows  *exec.Buffer // [parts, Width, C]
	Count *exec.Buffer // [parts] integers: pixels of each part
	Parts int
	C     int
	count []int32 // as Count
	made  *made   // on an accelerator: what is made of the sums by the operation that leaves them
}

// made is what becomes of sums once all are there.
type made struct {
	norm    *exec.Buffer // a ctn_norm, all zeros
	tickets *exec.Buffer
	taken   bool
}

// Rows of a part: in the forward direction a value near the mean, the sum of differences from it and that of their
// squares; in the backward one the sums of g and of g·ẑ.
const (
	ForwardRows  = 3
	BackwardRows = 2
)

// NewStats returns room for sums over parts with these numbers of pixels. On an accelerator `chunks` blocks have a
// part's channels between them, and each of them ends with finish_norm (norm.cuh).
func NewStats(a *exec.Arena, rows, c int, count []int32, chunks int) Stats {
	s := Stats{Rows: a.F32(len(count) * rows * c), Parts: len(count), C: c, count: count}
	if !a.Device().Accelerated() {
		s.Count = a.Ints(count)
		return s
	}
	const norm = (C.sizeof_ctn_norm + 255) / 256 * 256 / 4 // pieces begin on 256 bytes
	tickets := chunks * (s.groups() + 1)
	all := a.Ints(append(make([]int32, norm+tickets), count...))
	s.made = &made{norm: all.Slice(0, norm), tickets: all.Slice(norm, tickets)}
	s.Count = all.Slice(norm+tickets, len(count))
	return s
}

// Repeated is room for n times the sums, those of n tensors of one shape one behind the other, with so many rows a
// part. They are no operation's: whoever has them writes them there.
func (s Stats) Repeated(a *exec.Arena, rows, n int) Stats {
	count := slices.Repeat(s.count, n)
	return Stats{Rows: a.F32(len(count) * rows * s.C), Count: a.Ints(count), Parts: len(count), C: s.C, count: count}
}

// together is how many parts are added up before their groups are: about as many as there are groups.
func (s Stats) together() int { return max(16, int(math.Ceil(math.Sqrt(float64(s.Parts))))) }

func (s Stats) groups() int { return exec.Blocks(s.Parts, s.together()) }

// Norm is where the operation that leaves the sums finds what is made of them, a ctn_norm; nil on the CPU.
func (s Stats) Norm() unsafe.Pointer {
	if s.made == nil {
		return nil
	}
	return s.made.norm.Pointer()
}

// Make lets the operation that leaves the sums make of them what a ctn_batchnorm_args says. It reports whether it does:
// once, on an accelerator.
func (s Stats) Make(a *exec.Arena, args unsafe.Pointer) bool {
	if s.made == nil || s.made.taken {
		return false
	}
	s.made.taken = true
	n := C.ctn_norm{of: *(*C.ctn_batchnorm_args)(args), together: C.int32_t(s.together()),
		tickets: (*C.int32_t)(s.made.tickets.Pointer())}
	if groups := s.groups(); groups > 1 {
		n.sums = (*C.double)(a.F32(2 * 4 * groups * s.C).Pointer())
	}
	s.made.norm.WriteI32(0, unsafe.Slice((*int32)(unsafe.Pointer(&n)), C.sizeof_ctn_norm/4))
	return true
}

// Parts splits `pixels` into parts of `block`, the last one maybe smaller.
func Parts(pixels, block int) []int32 {
	var out []int32
	for at := 0; at < pixels; at += block {
		out = append(out, int32(min(block, pixels-at)))
	}
	return out
}

// Check panics if the input's buffers are too small.
func (in Input) Check(op string) {
	if in.N <= 0 || in.H <= 0 || in.W <= 0 || in.C <= 0 || in.Act < None || in.Act >= Acts {
		panic(fmt.Sprintf("%s: input %+v", op, in.Shape))
	}
	Span(op, "Z", in.Z, in.Shape, in.Stride)
	if in.Scale != nil || in.Shift != nil {
		exec.Need(op, "Scale", in.Scale, in.C)
		exec.Need(op, "Shift", in.Shift, in.C)
	}
	if in.Gate != nil {
		exec.Need(op, "Gate", in.Gate, (in.N-1)*max(in.C, in.GateStride)+in.C)
	}
}

// Put stores the input into a kernel's argument, a ctn_input.
func (in Input) Put(dst unsafe.Pointer) {
	*(*C.ctn_input)(dst) = C.ctn_input{z: floats(in.Z), scale: floats(in.Scale), shift: floats(in.Shift),
		gate: floats(in.Gate), ld: stride(in.Stride, in.C), gate_ld: stride(in.GateStride, in.C),
		image: C.int64_t(in.H * in.W), act: C.int32_t(in.Act)}
}

// Bytes is what reading the input moves.
func (in Input) Bytes() float64 { return in.Z.Bytes(in.Len()) + in.Gate.Bytes(in.N*in.C) }

// Channels is the input's channels [c0, c0+n).
func (in Input) Channels(c0, n int) Input {
	in.Stride, in.GateStride = int(stride(in.Stride, in.C)), int(stride(in.GateStride, in.C))
	in.C = n
	in.Z, in.Gate = from(in.Z, c0), from(in.Gate, c0)
	in.Scale, in.Shift = from(in.Scale, c0), from(in.Shift, c0)
	return in
}

// Check panics if the gradient of a tensor of this shape does not fit its buffers.
func (g Gradient) Check(op string, s Shape) {
	Span(op, "G", g.G, s, g.Stride)
	if g.P != nil {
		Span(op, "Z", g.Z, s, g.ZStride)
		exec.Need(op, "P", g.P, s.C)
		exec.Need(op, "Q", g.Q, s.C)
		exec.Need(op, "R", g.R, s.C)
	}
}

// Tensors are the buffers that hold tensors: what Half looks at.
func (g Gradient) Tensors() []*exec.Buffer {
	if g.P == nil {
		return []*exec.Buffer{g.G}
	}
	return []*exec.Buffer{g.G, g.Z}
}

// Put stores the gradient in a tensor of c channels into a kernel's argument, a ctn_gradient.
func (g Gradient) Put(dst unsafe.Pointer, c int) {
	*(*C.ctn_gradient)(dst) = C.ctn_gradient{g: floats(g.G), z: floats(g.Z), p: floats(g.P),
		q: floats(g.Q), r: floats(g.R), g_ld: stride(g.Stride, c), z_ld: stride(g.ZStride, c)}
}

// Bytes is what reading the gradient of a tensor of this shape moves.
func (g Gradient) Bytes(s Shape) float64 {
	n := 0.0
	for _, b := range g.Tensors() {
		n += b.Bytes(s.Len())
	}
	return n
}

// Channels is the gradient in channels from c0 on of a tensor of c channels.
func (g Gradient) Channels(c0, c int) Gradient {
	if g.Stride == 0 {
		g.Stride = c
	}
	if g.ZStride == 0 {
		g.ZStride = c
	}
	return Gradient{from(g.G, c0), from(g.Z, c0), g.Stride, g.ZStride, from(g.P, c0), from(g.Q, c0), from(g.R, c0)}
}

// Check panics if the gradient of a tensor of this shape does not fit the sink.
func (s Sink) Check(op string, shape Shape) {
	Span(op, "D", s.D, shape, s.Stride)
	if s.Of != nil {
		if s.Of.Shape != shape {
			panic(fmt.Sprintf("%s: the gradient of %+v in a sink of %+v", op, shape, s.Of.Shape))
		}
		s.Of.Check(op)
		if s.Mean != nil {
			exec.Need(op, "Mean", s.Mean, shape.C)
			exec.Need(op, "InvStd", s.InvStd, shape.C)
		}
	}
}

// Tensors are the buffers that hold tensors: what Half looks at.
func (s Sink) Tensors() []*exec.Buffer {
	if s.Of == nil {
		return []*exec.Buffer{s.D}
	}
	return []*exec.Buffer{s.D, s.Of.Z}
}

// Sums reports whether the operation that writes the sink leaves sums.
func (s Sink) Sums() bool { return s.Of != nil && s.Mean != nil }

// Put stores the sink of a tensor of c channels into a kernel's argument, a ctn_sink; stats is where the operation
// leaves sums.
func (s Sink) Put(dst unsafe.Pointer, c int, stats Stats) {
	out := C.ctn_sink{d: floats(s.D), ld: stride(s.Stride, c)}
	out.accumulate = flag(s.Accumulate)
	if s.Of != nil {
		s.Of.Put(unsafe.Pointer(&out.of))
		out.last = 1
		out.mean, out.invstd, out.stats, out.stats_ld = floats(s.Mean), floats(s.InvStd), floats(stats.Rows),
			C.int64_t(stats.C)
		out.norm = (*C.ctn_norm)(stats.Norm())
	}
	*(*C.ctn_sink)(dst) = out
}

// Bytes is what writing the gradient of a tensor of this shape moves; 0 of no sink.
func (s Sink) Bytes(shape Shape) float64 {
	n := s.D.Bytes(shape.Len())
	if s.Accumulate {
		n *= 2
	}
	if s.Of != nil && (s.Sums() || s.Of.Act != None) {
		n += s.Of.Z.Bytes(shape.Len())
	}
	return n
}

// Channels is the sink of channels [c0, c0+n) of a tensor of c channels.
func (s Sink) Channels(c0, n, c int) Sink {
	if s.Stride == 0 {
		s.Stride = c
	}
	s.D, s.Mean, s.InvStd = from(s.D, c0), from(s.Mean, c0), from(s.InvStd, c0)
	if s.Of != nil {
		of := *s.Of
		of.Gate = nil
		of = of.Channels(c0, n)
		s.Of = &of
	}
	return s
}

// Half tells whether the tensors that an operation reads and writes (nil: none) are stored as bfloat16. It panics if
// some are and some are not: an operation has one kernel for each.
func Half(op string, tensors ...*exec.Buffer) bool {
	half, first := false, true
	for _, b := range tensors {
		if b == nil {
			continue
		}
		if !first && b.Half() != half {
			panic(op + ": tensors of float32 and of bfloat16")
		}
		half, first = b.Half(), false
	}
	return half
}

// Entry is the name of an operation's kernel for accelerators: that of the one for float32, or for tensors stored as
// bfloat16.
func Entry(name string, half bool) string {
	if half {
		return name + "_bf16"
	}
	return name
}

// Span panics if a tensor of this shape and stride does not fit a buffer.
func Span(op, name string, b *exec.Buffer, s Shape, ld int) {
	if ld == 0 {
		ld = s.C
	}
	if ld < s.C {
		panic(fmt.Sprintf("%s: %s has a stride of %d for %d channels", op, name, ld, s.C))
	}
	if n := (s.Pixels()-1)*ld + s.C; b == nil || b.Len() < n {
		panic(fmt.Sprintf("%s: %s needs %d elements", op, name, n))
	}
}

func stride(ld, c int) C.int64_t {
	if ld == 0 {
		return C.int64_t(c)
	}
	return C.int64_t(ld)
}

func from(b *exec.Buffer, at int) *exec.Buffer {
	if b == nil {
		return nil
	}
	return b.Slice(at, b.Len()-at)
}
