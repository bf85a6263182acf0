package image_test

import (
	"encoding/binary"
	stdimage "image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, image.Sources) }

// axisOf draws how an axis of `side` outputs lies over samples, and how many there are: a crop that is resized, the
// middle of an image of which only what is needed was decoded, or a crop with black borders.
func axisOf(r *rand.Rand, f image.Filter, side, shrink int) (s image.Span, samples int) {
	length := 1 + r.IntN((14/int(1+f)/2)*side*shrink)
	switch r.IntN(3) {
	case 0:
		lo, more := r.IntN(2*shrink), r.IntN(3)
		s = image.Span{Lo: lo, Length: length, Full: side, Begin: lo / shrink, End: (lo + length + shrink - 1) / shrink}
		return s, s.End + more
	case 1:
		full := side + r.IntN(side+3)
		at := (full - side) / 2
		step := float64(length) / float64(full)
		reach := float64(1+f)*math.Max(step, float64(shrink)) + float64(shrink)
		from := max(0, int((float64(at)*step-reach)/float64(shrink)))
		to := min((length+shrink-1)/shrink, int((float64(at+side)*step+reach)/float64(shrink))+1)
		return image.Span{Lo: -from * shrink, Length: length, Full: full, At: at, End: to - from}, to - from
	}
	return image.Span{Length: side * shrink, Full: side, At: r.IntN(7) - 3, End: side}, side
}

// batch is a section with what the reference wants to know of it.
type batch struct {
	op      image.Regions
	side    int
	weight  float32
	draws   []image.Draw
	regions [][]float64 // nil: no image
	bytes   []byte
}

// newBatch draws a batch of n images. Their regions lie in the section in some order.
func newBatch(r *rand.Rand, n, side int, op image.Regions) *batch {
	op.Images, op.Scale, op.Bias = n, [3]float32{1, 0.017, 0.5}, [3]float32{0, -2.1, 3}
	b := &batch{op: op, side: side, weight: r.Float32(), draws: make([]image.Draw, n), regions: make([][]float64, n)}
	room := image.SectionBytes(n, op.Size)
	memory := make([]byte, (room+3)/4*4)
	for i := range memory {
		memory[i] = 0xff // what is no region is NaN as a float
	}
	s := image.NewSection(memory, op.Filter)
	s.Begin(n, side, b.weight)
	for _, i := range r.Perm(n) {
		d := image.Draw{Shrink: 1 << r.IntN(4), Flip: r.IntN(2) == 1}
		if r.IntN(8) == 0 {
			continue
		}
		for {
			d.Y, d.Height = axisOf(r, op.Filter, side, d.Shrink)
			d.X, d.Width = axisOf(r, op.Filter, side, d.Shrink)
			if d.Fits(side, op.Filter) {
				break
			}
		}
		if d.Floats = r.IntN(4) == 0; d.Floats {
			d.Shrink, d.Height, d.Width = 1, side, side
			d.Y, d.X = image.Span{Length: side, Full: side, End: side}, image.Span{Length: side, Full: side, End: side}
		}
		for k, c := range r.Perm(3) {
			colours := []image.Colour{image.Brightness, image.Contrast, image.Saturation}
			if r.IntN(4) > 0 && (op.Contrast || colours[c] != image.Contrast) {
				d.Colours[k], d.Factors[k] = colours[c], 2*r.Float32()
			}
		}
		if r.IntN(2) == 1 {
			x, y := r.IntN(side), r.IntN(side)
			d.Cut = stdimage.Rect(x, y, x+r.IntN(side-x+1), y+r.IntN(side-y+1))
		}
		values := d.Height * d.Width * 3
		var pix []byte
		if d.Floats {
			d.At, pix = s.Room(4 * values)
		} else {
			d.At, pix = s.Room(values)
		}
		for k := range values {
			v := float64(255 * r.IntN(2)) // the largest errors and, of the cubic filter, the farthest values
			if i%2 == 0 {
				v = float64(r.IntN(256))
			}
			if d.Floats {
				binary.NativeEndian.PutUint32(pix[4*k:], math.Float32bits(float32(v)))
			} else {
				pix[k] = byte(v)
			}
			b.regions[i] = append(b.regions[i], v)
		}
		s.Put(i, d)
		b.draws[i] = d
	}
	b.bytes = s.Bytes()
	return b
}

// Odd sides and shapes, both filters, images that are not there, smaller sides than the largest, mixtures, colours in
// every order: the reference's within 1e-4 of a level of 255, more where colours multiply it; nothing is written behind
// the images, nor is what was in the output before read.
func TestRegions(t *testing.T) {
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	var all []*batch
	var wants [][]float64
	for k, c := range []struct {
		n, size, side   int
		filter          image.Filter
		contrast, mixed bool
	}{
		{5, 7, 7, image.Bilinear, false, false},
		{4, 33, 33, image.Bicubic, false, false},
		{3, 70, 41, image.Bilinear, false, false},
		{4, 35, 35, image.Bilinear, true, false},
		{5, 34, 17, image.Bicubic, true, true},
		{6, 12, 12, image.Bilinear, false, true},
		{1, 1, 1, image.Bilinear, true, true},
	} {
		b := newBatch(r, c.n, c.side, image.Regions{Size: c.size, Filter: c.filter, Contrast: c.contrast, Mix: c.mixed})
		all = append(all, b)
		wants = append(wants, b.op.RegionsReference(b.draws, b.regions, c.side, float64(b.weight)))
		t.Logf("case %d: %+v, weight %g", k, c, b.weight)
	}
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		a := d.NewArena()
		defer a.Free()
		worst := 0.0
		for k, b := range all {
			op, p := b.op, a.NewProgram("regions")
			n := op.Images * op.Size * op.Size * 3
			op.Section, op.Out = a.I32(exec.Blocks(image.SectionBytes(op.Images, op.Size), 4)), a.F32(n+9)
			op.Record(p)
			for range 2 { // the second time over what the first one has left
				op.Section.WriteBytes(b.bytes)
				p.Run(1)
			}
			got := op.Out.Values()
			for i, want := range wants[k] {
				off := math.Abs(float64(got[i])-want) / float64(op.Scale[i%3])
				tol := 1e-4
				if b.draws[i/(3*b.side*b.side)].Colours != [3]image.Colour{} || op.Mix {
					tol = 2e-3 // factors of up to 2, one after the other
				} else {
					worst = max(worst, off)
				}
				if !(off <= tol) {
					t.Fatalf("case %d, number %d: %g, want %g: %+v", k, i, got[i], want, b.draws[i/(3*b.side*b.side)])
				}
			}
			for _, v := range got[len(wants[k]):] {
				require.True(t, math.IsNaN(float64(v)), "case %d: written behind the images", k)
			}
		}
		t.Logf("the largest difference: %.2g of 255 levels", worst)
	})
}

// The same bits for any number of threads and in any order, and wherever in a section regions lie.
func TestRegionsAreAFunctionOfDraws(t *testing.T) {
	b := newBatch(rand.New(rand.NewPCG(1, 2)), 5, 20, image.Regions{Size: 20, Contrast: true, Mix: true})
	memory := make([]byte, len(b.bytes)+64)
	s := image.NewSection(append(memory, make([]byte, image.SectionBytes(5, 20))...), b.op.Filter)
	s.Begin(5, 20, b.weight)
	for i := range b.draws {
		d := b.draws[len(b.draws)-1-i]
		if b.regions[len(b.draws)-1-i] == nil {
			continue
		}
		n := 3 * d.Height * d.Width
		if d.Floats {
			n *= 4
		}
		at, room := s.Room(n)
		copy(room, b.bytes[d.At:d.At+n])
		d.At = at
		s.Put(len(b.draws)-1-i, d)
	}
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		a := d.NewArena()
		defer a.Free()
		var first []float32
		for _, bytes := range [][]byte{b.bytes, s.Bytes()} {
			op, p := b.op, a.NewProgram("regions")
			op.Section, op.Out = a.I32(exec.Blocks(image.SectionBytes(5, 20), 4)), a.F32(5*20*20*3)
			op.Record(p)
			op.Section.WriteBytes(bytes)
			p.Run(1)
			if first == nil {
				first = op.Out.Values()
			}
			require.Equal(t, first, op.Out.Values())
		}
		return first
	})
}

// Regions may be anywhere but outside, and no kernel meets a draw that reads beside them.
func TestSectionRefuses(t *testing.T) {
	s := image.NewSection(make([]byte, image.SectionBytes(2, 8)), image.Bilinear)
	require.Panics(t, func() { s.Begin(3, 8, 1) })
	require.Panics(t, func() { s.Begin(2, 9, 1) })
	s.Begin(2, 8, 1)
	at, room := s.Room(3 * 5 * 6)
	require.Len(t, room, 90)
	good := image.Draw{At: at, Height: 5, Width: 6, Shrink: 1, Y: image.Span{Length: 5, Full: 8, End: 5},
		X: image.Span{Length: 6, Full: 8, End: 6}}
	s.Put(1, good)
	for what, change := range map[string]func(d *image.Draw){
		"before the regions":   func(d *image.Draw) { d.At = 0 },
		"behind the section":   func(d *image.Draw) { d.At = len(s.Bytes()) + 1<<20 },
		"between words":        func(d *image.Draw) { d.At++ },
		"samples below":        func(d *image.Draw) { d.Y.Begin = -1 },
		"samples behind":       func(d *image.Draw) { d.X.End = 7 },
		"no samples":           func(d *image.Draw) { d.X.Begin = 6 },
		"an empty box":         func(d *image.Draw) { d.Y.Length = 0 },
		"no outputs":           func(d *image.Draw) { d.Y.Full = 0 },
		"a sample of nothing":  func(d *image.Draw) { d.Shrink = 0 },
		"too many samples":     func(d *image.Draw) { d.Y.Length = 100 },
		"more than the output": func(d *image.Draw) { d.Height, d.Width = 16, 17 },
	} {
		d := good
		change(&d)
		require.Panics(t, func() { s.Put(0, d) }, what)
	}
	require.Panics(t, func() { s.Put(2, good) }, "image 2 of 2")
	require.Panics(t, func() { image.NewSection(make([]byte, 64)[1:], image.Bilinear) }, "not aligned")
}
