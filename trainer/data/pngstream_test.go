package data

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/kernels/philox"
)

// pngFile writes a PNG of any kind: rows, or the rows of Adam7's passes, are what pixels say, each behind its filter.
func pngFile(t require.TestingT, h pngHeader, palette, pixels []byte) []byte {
	out := bytes.NewBuffer(bytes.Clone(pngMagic))
	chunk := func(kind string, content []byte) {
		text := append([]byte(kind), content...)
		_ = binary.Write(out, binary.BigEndian, uint32(len(content)))
		out.Write(text)
		_ = binary.Write(out, binary.BigEndian, crc32.ChecksumIEEE(text))
	}
	interlaced := byte(0)
	if h.interlaced {
		interlaced = 1
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(h.size.X)), uint32(h.size.Y))
	chunk("IHDR", append(head, byte(h.depth), h.colour, 0, 0, interlaced))
	if palette != nil {
		chunk("PLTE", palette)
	}
	var body bytes.Buffer
	z, err := zlib.NewWriterLevel(&body, zlib.BestSpeed)
	require.NoError(t, err)
	_, err = z.Write(pixels)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for text := body.Bytes(); len(text) > 0; { // several chunks, one of them empty
		n := min(len(text), 1+len(body.Bytes())/3)
		chunk("IDAT", text[:n])
		chunk("IDAT", nil)
		text = text[n:]
	}
	chunk("IEND", nil)
	return out.Bytes()
}

// pixelBytes is the length of the pixels of a file with their filters.
func pixelBytes(h pngHeader) (rows [][2]int) {
	if !h.interlaced {
		return [][2]int{{h.size.Y, h.rowBytes(h.size.X)}}
	}
	for _, p := range pngPasses {
		w, n := (h.size.X-p.x+p.dx-1)/p.dx, (h.size.Y-p.y+p.dy-1)/p.dy
		if w > 0 && n > 0 {
			rows = append(rows, [2]int{n, h.rowBytes(w)})
		}
	}
	return rows
}

// anyPNG draws a file of random pixels.
func anyPNG(t *rapid.T) ([]byte, pngHeader) {
	kinds := map[byte][]int{pngGrey: {1, 2, 4, 8, 16}, pngRGB: {8, 16}, pngPalette: {1, 2, 4, 8}, pngGreyAlpha: {8,
		16}, pngRGBA: {8, 16}}
	h := pngHeader{size: image.Pt(rapid.IntRange(1, 21).Draw(t, "width"), rapid.IntRange(1, 21).Draw(t, "height")),
		colour:     rapid.SampledFrom([]byte{pngGrey, pngRGB, pngPalette, pngGreyAlpha, pngRGBA}).Draw(t, "colour"),
		interlaced: rapid.Bool().Draw(t, "interlaced")}
	h.depth = rapid.SampledFrom(kinds[h.colour]).Draw(t, "depth")
	s := philox.New(rapid.Uint64().Draw(t, "seed"), philox.PurposeTest, 0)
	var pixels, palette []byte
	for _, r := range pixelBytes(h) {
		for range r[0] {
			pixels = append(pixels, byte(s.Intn(5)))
			for range r[1] {
				pixels = append(pixels, byte(s.Uint32()))
			}
		}
	}
	if h.colour == pngPalette {
		for range 3 * rapid.IntRange(1, 1<<h.depth).Draw(t, "colours") {
			palette = append(palette, byte(s.Uint32()))
		}
	}
	return pngFile(t, h, palette, pixels), h
}

// Row by row come the pixels that image/png gives, of every kind of file, of any part of it and reduced by any factor.
func TestPNGStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file, h := anyPNG(t)
		read, ok := readPNGHeader(file)
		require.True(t, ok)
		require.Equal(t, h, read)
		whole := image.Rectangle{Max: h.size}
		full := newSink(h.size, whole, 1, false, nil)
		require.NoError(t, pngRegion(file, full))

		x, y := rapid.IntRange(0, h.size.X-1).Draw(t, "x"), rapid.IntRange(0, h.size.Y-1).Draw(t, "y")
		part := image.Rect(x, y, rapid.IntRange(x+1, h.size.X).Draw(t, "right"), rapid.IntRange(y+1, h.size.Y).Draw(t,
			"bottom"))
		shrink := 1 << rapid.IntRange(0, 3).Draw(t, "shrink")
		s := newSink(h.size, part, shrink, h.interlaced, nil)
		require.NoError(t, pngStream(file, h, s))
		again := newSink(h.size, part, shrink, false, nil)
		require.NoError(t, pngRegion(file, again))
		require.Equal(t, again.out, s.out)
		r := s.out.rect
		require.True(t, part.In(image.Rectangle{r.Min.Mul(shrink), r.Max.Mul(shrink)}))
		for by := r.Min.Y; by < r.Max.Y; by++ {
			for bx := r.Min.X; bx < r.Max.X; bx++ {
				box := image.Rect(bx*shrink, by*shrink, (bx+1)*shrink, (by+1)*shrink).Intersect(whole)
				for c := range 3 {
					sum, n := 0, box.Dx()*box.Dy()
					for py := box.Min.Y; py < box.Max.Y; py++ {
						for px := box.Min.X; px < box.Max.X; px++ {
							sum += int(full.out.pix[py*full.out.stride+3*px+c])
						}
					}
					require.EqualValues(t, (sum+n/2)/n, s.out.pix[(by-r.Min.Y)*s.out.stride+3*(bx-r.Min.X)+c])
				}
			}
		}
	})
}

// What image/png refuses is refused row by row as well.
func TestPNGStreamDamage(t *testing.T) {
	h := pngHeader{size: image.Pt(9, 7), depth: 8, colour: pngRGB}
	pixels := make([]byte, 7*28)
	good := pngFile(t, h, nil, pixels)
	filter := bytes.Clone(pixels)
	filter[28] = 5
	flipped := bytes.Clone(good)
	flipped[len(flipped)-14] ^= 1
	at := bytes.Index(good, []byte("IDAT")) + 4 + 5
	grey := h
	grey.colour = pngPalette
	broken := bytes.Clone(good)
	broken[at] ^= 0x55
	for name, c := range map[string]struct {
		h    pngHeader
		file []byte
		want string
	}{
		"cut":            {h, good[:len(good)/2], "unexpected EOF"},
		"without an end": {h, good[:len(good)-12], "unexpected EOF"},
		"checksum":       {h, broken, "wrong checksum"},
		"too few":        {h, pngFile(t, h, nil, pixels[:100]), "not enough pixel data"},
		"too many":       {h, pngFile(t, h, nil, append(bytes.Clone(pixels), 0)), "too much pixel data"},
		"filter":         {h, pngFile(t, h, nil, filter), "row 1: unknown filter 5"},
		"no palette":     {grey, pngFile(t, grey, nil, make([]byte, 7*10)), "no palette"},
		"palette":        {grey, pngFile(t, grey, make([]byte, 4), make([]byte, 7*10)), "PLTE"},
	} {
		_, err := png.Decode(bytes.NewReader(c.file))
		require.Error(t, err, name)
		s := newSink(c.h.size, image.Rectangle{Max: c.h.size}, 1, false, nil)
		require.ErrorContains(t, pngStream(c.file, c.h, s), c.want, name)
	}
	s := newSink(h.size, image.Rect(2, 1, 5, 2), 1, false, nil)
	require.NoError(t, pngStream(pngFile(t, h, nil, pixels[:100]), h, s), "rows below the region are not decoded")
	require.Error(t, pngStream(flipped, h, s))
}

func FuzzPNGStream(f *testing.F) {
	h := pngHeader{size: image.Pt(5, 3), depth: 8, colour: pngRGB}
	f.Add(pngFile(f, h, nil, make([]byte, 3*16)), false)
	f.Fuzz(func(t *testing.T, file []byte, part bool) {
		c, err := png.DecodeConfig(bytes.NewReader(file))
		if err != nil || c.Width < 1 || c.Height < 1 || c.Width*c.Height > 1<<14 {
			return
		}
		h, ok := readPNGHeader(file)
		require.True(t, ok)
		r := image.Rectangle{Max: h.size}
		if part {
			r.Max.Y = (r.Max.Y + 1) / 2
		}
		s := newSink(h.size, r, 2, h.interlaced, nil)
		mine := pngStream(file, h, s)
		again := newSink(h.size, r, 2, false, nil)
		if theirs := pngRegion(file, again); theirs == nil && mine == nil {
			require.Equal(t, again.out, s.out)
		}
	})
}

// greyPNG is a file of one channel with pixels as a function of their place.
func greyPNG(t testing.TB, size image.Point, interlaced bool, at func(x, y int) byte) []byte {
	h := pngHeader{size: size, depth: 8, colour: pngGrey, interlaced: interlaced}
	passes := []struct{ x, y, dx, dy int }{{0, 0, 1, 1}}
	if interlaced {
		passes = pngPasses
	}
	var pixels []byte
	for _, p := range passes {
		for y := p.y; y < size.Y; y += p.dy {
			pixels = append(pixels, 0)
			for x := p.x; x < size.X; x += p.dx {
				pixels = append(pixels, at(x, y))
			}
		}
	}
	return pngFile(t, h, nil, pixels)
}

// A small file of many pixels takes memory for what is kept of it, not for what it claims, and is reduced to no less
// than twice the size that is wanted.
func TestLargePNG(t *testing.T) {
	size := image.Pt(5200, 4700)
	for _, interlaced := range []bool{false, true} {
		if testing.Short() && interlaced {
			continue
		}
		file := greyPNG(t, size, interlaced, func(x, y int) byte { return byte(x*120/size.X + y*100/size.Y) })
		require.Less(t, len(file), 1<<20)
		tr := Transform{Size: 224, Resize: 256, Std: unit}
		a, err := newArtist(tr, look{})
		require.NoError(t, err)
		defer a.close()
		dst := make([]float32, 3*224*224)
		draw := func() (allocated uint64) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.NoError(t, a.file(place{floats: dst}, file, draws{}))
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		most := uint64(8 << 20)
		if interlaced {
			most = 48 << 20
		}
		require.Less(t, draw(), most)
		v, err := tr.view(size, draws{})
		require.NoError(t, err)
		for y := range 224 { // a plane: what is in the middle of a pixel is its mean, however it is reduced
			for x := range 224 {
				px, py := (float64(x+v.at.X)+0.5)*float64(size.X)/float64(v.full.X)-0.5,
					(float64(y+v.at.Y)+0.5)*float64(size.Y)/float64(v.full.Y)-0.5
				want := px*120/float64(size.X) + py*100/float64(size.Y) - 1 // both terms are rounded down
				require.InDelta(t, want, 255*float64(dst[3*(224*y+x)]), 0.7, "at %d,%d", x, y)
			}
		}
	}
}

func TestReduction(t *testing.T) {
	for _, c := range []struct {
		box, full, want int
	}{
		{4096, 256, 1}, {4097, 256, 4}, {11585, 256, 8}, {8000, 2000, 2}, {8000, 2001, 1}, {11585, 4096, 1}, {11585,
			1000, 4},
	} {
		v := view{box: image.Rect(0, 0, c.box, c.box), full: image.Pt(c.full, c.full)}
		require.Equal(t, c.want, reduction(v, image.Pt(c.box, c.box)), "%+v", c)
	}
}

// Images that are too large for all of the budget are decoded one after the other, not refused.
func TestDecodeBudget(t *testing.T) {
	d, err := newDecoder()
	require.NoError(t, err)
	defer d.close()
	file := tiny(t, 9)
	size, err := d.size(file)
	require.NoError(t, err)
	d.file.each = decodeBudget
	done := make(chan error)
	require.True(t, decoding.TryAcquire(1))
	go func() {
		_, err := d.region(file, image.Rectangle{Max: size}, 1, 1)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	decoding.Release(1)
	require.NoError(t, <-done)
}
