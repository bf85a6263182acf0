package data

import (
	"fmt"
	"image"
	"slices"
	"unsafe"

	kernel "github.com/ctnas/ctnas/kernels/image"
)

// Raw batches: the workers decode what the crops show, and a device makes images of it. What is drawn for an image is
// what it is without, so that the same batches come of it but for rounding.

// RawBytes is the memory of a raw batch.
func (c *Config) RawBytes() int {
	parts := max(1, c.Shards)
	return parts * kernel.SectionBytes(c.Batch/parts, c.Transform.Size)
}

// layOut makes the slot's memory, or takes the i-th of the configuration's.
func (s *slot) layOut(c Config, i int) error {
	need := c.RawBytes()
	var memory []byte
	if c.Memory == nil {
		memory = make([]byte, need)
	} else if memory = c.Memory[i]; len(memory) != need {
		return fmt.Errorf("memory of %d bytes for a raw batch, want %d", len(memory), need)
	}
	for part := range slices.Chunk(memory, need/max(1, c.Shards)) {
		s.raw = append(s.raw, kernel.NewSection(part, c.Transform.Filter))
	}
	return nil
}

// Regions is what makes a shard of a raw batch the images that Batch.Images would be; Section and Out are not set.
func (l *Loader) Regions() kernel.Regions {
	t := &l.c.Transform
	r := kernel.Regions{Images: l.c.Batch / l.shards(), Size: t.Size, Filter: t.Filter, Contrast: t.Jitter.Contrast > 0,
		Mix: l.c.Mixup > 0}
	r.Scale, r.Bias, _ = t.normalised()
	return r
}

// lay puts what a view needs of a raster into a section, as bytes, with what was drawn. What would take more than the
// floats that it becomes, or be made smaller than kernels make it, is resampled here: of that floats go there.
func (a *artist) lay(dst place, r raster, v view, d draws) {
	c := a.t.colours(d)
	out := kernel.Draw{Shrink: r.shrink, Flip: v.flip, Colours: c.kinds, Factors: c.factors, Cut: a.t.cut(d)}
	need := a.needed(v)
	need = image.Rect(need.Min.X/r.shrink, need.Min.Y/r.shrink, (need.Max.X+r.shrink-1)/r.shrink,
		(need.Max.Y+r.shrink-1)/r.shrink).Intersect(r.rect)
	if a.t.Crop == CropPadded {
		need = r.rect
	}
	span := func(lo, hi, full, at, from, to int) kernel.Span {
		return kernel.Span{Lo: lo - from*r.shrink, Length: hi - lo, Full: full, At: at,
			Begin: max(from, lo/r.shrink) - from, End: min(to, (hi+r.shrink-1)/r.shrink) - from}
	}
	out.X = span(v.box.Min.X, v.box.Max.X, v.full.X, v.at.X, need.Min.X, need.Max.X)
	out.Y = span(v.box.Min.Y, v.box.Max.Y, v.full.Y, v.at.Y, need.Min.Y, need.Max.Y)
	out.Width, out.Height = need.Dx(), need.Dy()
	if out.Fits(a.t.Size, a.t.Filter) {
		var room []byte
		out.At, room = dst.section.Room(3 * out.Width * out.Height)
		for y := range out.Height {
			copy(room[3*out.Width*y:3*out.Width*(y+1)],
				r.pix[(need.Min.Y-r.rect.Min.Y+y)*r.stride+3*(need.Min.X-r.rect.Min.X):])
		}
		dst.section.Put(dst.number, out)
		return
	}
	n := a.t.Size
	whole := kernel.Span{Length: n, Full: n, End: n}
	out.Floats, out.Shrink, out.Height, out.Width, out.Y, out.X = true, 1, n, n, whole, whole
	var room []byte
	out.At, room = dst.section.Room(12 * n * n)
	v.flip = false
	a.resample(unsafe.Slice((*float32)(unsafe.Pointer(&room[0])), 3*n*n), r, v)
	dst.section.Put(dst.number, out)
}
