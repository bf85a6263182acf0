package image

/*
#include "regions.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"image"
	"sync/atomic"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

// Span says how the outputs of an axis lie over a region's samples: Length pixels of the image, the first of them Lo
// behind the first pixel of the region, are resized to Full outputs, of which those from At on are wanted. Only samples
// [Begin, End) of the region are used, even where the filter reaches further. Outputs beside Full are black.
type Span struct {
	Lo, Length, Full, At int
	Begin, End           int
}

// taps is how many samples an output may be made of.
func (s *Span) taps(f Filter, shrink int) int {
	sample, far := s.Full*shrink, max(s.Length, s.Full*shrink)
	return (2*int(1+f)*far + sample - 1) / sample
}

// Colour is what a step of a Draw changes.
type Colour int32

// Colours.
const (
	Unchanged  Colour = C.CTN_COLOUR_NONE
	Brightness Colour = C.CTN_BRIGHTNESS // a factor of all values
	Contrast   Colour = C.CTN_CONTRAST   // of the distances from the image's mean brightness
	Saturation Colour = C.CTN_SATURATION // of the distances from the pixel's brightness
)

// Draw is what becomes of an image's region.
type Draw struct {
	At            int // where it begins in the section, from Section.Room
	Floats        bool
	Height, Width int // [Height, Width, 3] bytes, or float32 from 0 to 255; dense
	Shrink        int // a sample is Shrink x Shrink pixels of the image
	Y, X          Span
	Flip          bool // mirrored
	Colours       [3]Colour
	Factors       [3]float32      // of them
	Cut           image.Rectangle // of the output, which is blanked
}

// Section is a part of a batch on its way to a device: what becomes of each image, and the regions of them. Several
// goroutines may make room and put draws at the same time.
type Section struct {
	memory []byte
	filter Filter
	used   atomic.Int64
}

const (
	sectionAlign = 16 // bytes on which regions begin, counted from the section's begin
	headBytes    = int(unsafe.Sizeof(C.ctn_section{}))
	drawBytes    = int(unsafe.Sizeof(C.ctn_draw{}))
)

// MostRegion is the most bytes of a region for an output of a side: those of the output. A larger one is put as
// floats that have been resampled.
func MostRegion(side int) int { return 12 * side * side }

// SectionBytes is what a section of so many images takes at most: whole units of sectionAlign.
func SectionBytes(images, side int) int {
	return up(headBytes+images*drawBytes) + images*up(MostRegion(side))
}

func up(n int) int { return (n + sectionAlign - 1) / sectionAlign * sectionAlign }

// NewSection is a section over SectionBytes bytes, which Begin makes one. They start on eight, as all memory of Go does
// that is larger than a word.
func NewSection(memory []byte, f Filter) *Section {
	if uintptr(unsafe.Pointer(&memory[0]))%8 != 0 {
		panic("image: a section must start on eight bytes")
	}
	return &Section{memory: memory, filter: f}
}

// Begin empties the section for so many images, none of which is there: what is not put is zeros. weight is that of an
// image in its mixture with another one.
func (s *Section) Begin(images, side int, weight float32) {
	if len(s.memory) < SectionBytes(images, side) {
		panic(fmt.Sprintf("image: %d bytes for %d images of %d pixels", len(s.memory), images, side))
	}
	clear(s.memory[:headBytes+images*drawBytes])
	*s.head() = C.ctn_section{images: C.int32_t(images), side: C.int32_t(side), weight: C.float(weight)}
	s.used.Store(int64(up(headBytes + images*drawBytes)))
}

func (s *Section) head() *C.ctn_section { return (*C.ctn_section)(unsafe.Pointer(&s.memory[0])) }

// Room is room for a region. There is as much as MostRegion says for every image.
func (s *Section) Room(bytes int) (at int, memory []byte) {
	end := int(s.used.Add(int64(up(bytes))))
	at = end - up(bytes)
	return at, s.memory[at : at+bytes]
}

// Fits tells whether a region for an image of a side can be put as it is: whether it is small enough and its outputs
// are made of few enough samples.
func (d *Draw) Fits(side int, f Filter) bool {
	return 3*d.Height*d.Width <= MostRegion(side) && d.Y.taps(f, d.Shrink) <= C.CTN_REGION_TAPS &&
		d.X.taps(f, d.Shrink) <= C.CTN_REGION_TAPS
}

// Put says what becomes of image i. Kernels believe it, so it panics where anything lies outside.
func (s *Section) Put(i int, d Draw) {
	head := s.head()
	bytes, form := 3*d.Height*d.Width, C.int32_t(C.CTN_REGION_BYTES)
	if d.Floats {
		bytes, form = 4*bytes, C.CTN_REGION_FLOATS
	}
	within := func(x *Span, samples int) bool {
		return x.Begin >= 0 && x.Begin < x.End && x.End <= samples && x.Length > 0 && x.Full > 0
	}
	if i < 0 || i >= int(head.images) || d.Shrink < 1 || !within(&d.Y, d.Height) || !within(&d.X, d.Width) ||
		d.At < headBytes+int(head.images)*drawBytes || d.At%sectionAlign != 0 || d.At+bytes > len(s.memory) ||
		!d.Floats && !d.Fits(int(head.side), s.filter) {
		panic(fmt.Sprintf("image: %+v for image %d of %+v in %d bytes", d, i, *head, len(s.memory)))
	}
	span := func(x Span) C.ctn_span {
		return C.ctn_span{lo: C.int64_t(x.Lo), length: C.int64_t(x.Length), full: C.int64_t(x.Full),
			at: C.int64_t(x.At), begin: C.int32_t(x.Begin), end: C.int32_t(x.End)}
	}
	out := C.ctn_draw{region: C.int64_t(d.At), form: form, height: C.int32_t(d.Height), width: C.int32_t(d.Width),
		shrink: C.int32_t(d.Shrink), flip: exec.Flag[C.int32_t](d.Flip), y: span(d.Y), x: span(d.X),
		cut: [4]C.int32_t{C.int32_t(d.Cut.Min.X), C.int32_t(d.Cut.Min.Y), C.int32_t(d.Cut.Max.X),
			C.int32_t(d.Cut.Max.Y)}}
	for k, c := range d.Colours {
		out.colour[k], out.factor[k] = C.int32_t(c), C.float(d.Factors[k])
	}
	*(*C.ctn_draw)(unsafe.Pointer(&s.memory[headBytes+i*drawBytes])) = out
}

// Bytes is what a device needs of the section.
func (s *Section) Bytes() []byte { return s.memory[:s.used.Load()] }

// Regions makes the images of a section: resamples regions with antialiasing, mirrors them, changes colours,
// normalises, blanks squares and mixes images. A result is off by less than 1e-4 of a level of 255 (without steps of
// colour), and depends on nothing but the section: not on where in it regions lie.
type Regions struct {
	Section *exec.Buffer // SectionBytes(Images, Size) bytes of whole words
	Images  int          // the most
	Size    int          // the largest side
	Filter  Filter
	// Scale and Bias of a channel make what a network gets of values from 0 to 255.
	Scale, Bias [3]float32
	Contrast    bool         // draws may change contrast
	Mix         bool         // the first image is mixed with the last, and so on inwards
	Out         *exec.Buffer // [Images, side, side, 3], of the section's images and side
}

// Record appends the operation to a program.
func (o Regions) Record(p *exec.Program) {
	if o.Images < 1 || o.Size < 1 || o.Size > 4096 || o.Filter > Bicubic {
		panic(fmt.Sprintf("regions: %d images of %d pixels, filter %d", o.Images, o.Size, o.Filter))
	}
	exec.Need("regions", "Section", o.Section, exec.Blocks(SectionBytes(o.Images, o.Size), 4))
	exec.Need("regions", "Out", o.Out, o.Images*o.Size*o.Size*3)
	exec.Aligned("regions", o.Section)
	args := C.ctn_regions_args{section: (*C.ctn_section)(o.Section.Pointer()), out: exec.Ptr[C.float](o.Out),
		size: C.int32_t(o.Size), mix: exec.Flag[C.int32_t](o.Mix), cubic: C.int32_t(o.Filter)}
	for c := range 3 {
		args.scale[c], args.bias[c] = C.float(o.Scale[c]), C.float(o.Bias[c])
	}
	across := exec.Blocks(o.Size, C.CTN_REGION_TILE)
	written := o.Out.Bytes(o.Images*o.Size*o.Size*3) + float64(headBytes+o.Images*drawBytes) // and regions of any size
	launches := []exec.Launch{{File: "regions", Entry: "cu_regions", Grid: [3]int{o.Images, across * across},
		Block: C.CTN_REGION_BLOCK, Work: exec.Work{Bytes: written}}}
	if o.Contrast || o.Mix {
		blocks := o.Images
		if o.Mix {
			blocks = (blocks + 1) / 2
		}
		launches = append(launches, exec.Launch{File: "regions", Entry: "cu_regions_finish",
			Grid:  [3]int{blocks * exec.Blocks(o.Size*o.Size, C.CTN_REGION_BLOCK)},
			Block: C.CTN_REGION_BLOCK, Work: exec.Work{Bytes: 2 * o.Out.Bytes(o.Images*o.Size*o.Size*3)}})
	}
	if o.Contrast && p.Arena().Device().Accelerated() {
		args.sums = exec.Ptr[C.float](p.Arena().F32(o.Images * across * across))
	}
	scratch := 2 * o.Size * (C.CTN_REGION_TAPS + 2)
	exec.Call(p, "regions", unsafe.Pointer(&C.ctn_regions), &args, scratch, launches...)
}
