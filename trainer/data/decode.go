package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"
)

// What an image may be at most. Larger ones are damaged or not meant for training; a file of a few bytes can claim any
// size.
const (
	maxPixels    = 1 << 27
	maxSide      = 1 << 20 // a row of it is decoded at once
	maxFileBytes = 1 << 28
)

// What decoding may take.
const (
	// largePixels is from how many pixels on that are needed of an image it is reduced while it is decoded
	// (artist.reduction).
	largePixels = 1 << 24
	// streamedPixels is from how many pixels on a PNG is decoded row by row.
	streamedPixels = 1 << 22
	// decodeBudget is how many bytes all decoders of the program may take at a time for images: where one needs more
	// than is left, it waits.
	decodeBudget = 1 << 30
	// keptBytes is the most that a worker keeps for its next image, of a file and of its pixels.
	keptBytes = 3 * largePixels
)

var decoding = semaphore.NewWeighted(decodeBudget)

// raster is a rectangle of an image: RGB, 8 bits a sample.
type raster struct {
	pix    []byte          // row after row; valid until the next image is decoded
	stride int             // bytes
	rect   image.Rectangle // in pixels of the reduced image
	shrink int             // a pixel stands for shrink x shrink pixels of the image
}

// jpegDecoder decodes JPEG files: Go's image/jpeg or libjpeg-turbo. Not for several goroutines at once.
type jpegDecoder interface {
	// size reads the header. each is how many bytes a pixel of the whole image decoding takes beside the region.
	size(data []byte) (size image.Point, each int, err error)
	// region decodes at least the pixels of r, which lie in the image. The result may be reduced by shrink (1, 2, 4 or
	// 8) or by less; its pixels may lie in buf.
	region(data []byte, r image.Rectangle, shrink int, buf []byte) (raster, error)
	close()
}

// decoder decodes JPEG, PNG and WebP files, told apart by their first bytes and not by their names: ImageNet holds a
// PNG named .JPEG. Orientation tags are ignored, as torchvision does. Colours: grey is repeated, CMYK and YCCK become
// RGB as in Pillow (with Adobe's inverted values), transparency is dropped, of 16 bits the upper 8 count. Not for
// several goroutines at once.
type decoder struct {
	jpeg jpegDecoder
	buf  []byte
	file header // that size has accepted
}

// header is what is known of an image before it is decoded.
type header struct {
	format string
	size   image.Point
	each   int       // bytes a pixel of the whole image that decoding takes beside the region
	png    pngHeader // of a PNG
}

func newDecoder() (*decoder, error) {
	j, err := newJPEG()
	if err != nil {
		return nil, err
	}
	return &decoder{jpeg: j}, nil
}

func (d *decoder) close() { d.jpeg.close() }

// Formats of images.
const (
	formatJPEG = "JPEG"
	formatPNG  = "PNG"
	formatWebP = "WebP"
)

var (
	jpegMagic = []byte{0xFF, 0xD8, 0xFF}
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
)

// formatOf tells a file's format by its first bytes; empty: none that is decoded.
func formatOf(data []byte) string {
	switch {
	case bytes.HasPrefix(data, jpegMagic):
		return formatJPEG
	case bytes.HasPrefix(data, pngMagic):
		return formatPNG
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return formatWebP
	}
	return ""
}

// size reads the header of a file.
func (d *decoder) size(data []byte) (image.Point, error) {
	h := header{format: formatOf(data)}
	var c image.Config
	var err error
	switch h.format {
	case formatJPEG:
		h.size, h.each, err = d.jpeg.size(data)
	case formatPNG:
		c, err = png.DecodeConfig(bytes.NewReader(data))
		h.size, h.each = image.Pt(c.Width, c.Height), 8
		h.png, _ = readPNGHeader(data) // DecodeConfig has read more
		if c.Width*c.Height > streamedPixels {
			h.each = 0
		}
	case formatWebP:
		c, err = webp.DecodeConfig(bytes.NewReader(data))
		// luma and chroma or RGBA, and the same once more of transparency
		h.size, h.each = image.Pt(c.Width, c.Height), 10
	default:
		if len(data) == 0 {
			return h.size, errors.New("empty file")
		}
		return h.size, fmt.Errorf("neither JPEG nor PNG nor WebP: starts with % x", data[:min(8, len(data))])
	}
	if err != nil {
		return h.size, err
	}
	if h.size.X < 1 || h.size.Y < 1 || h.size.X > maxPixels/h.size.Y {
		return h.size, fmt.Errorf("image of %dx%d pixels: at most %d are accepted", h.size.X, h.size.Y, maxPixels)
	}
	if max(h.size.X, h.size.Y) > maxSide {
		return h.size, fmt.Errorf("image of %dx%d pixels: a side of at most %d is accepted", h.size.X, h.size.Y,
			maxSide)
	}
	d.file = h
	return h.size, nil
}

// region decodes at least the pixels of r; size must have accepted the file. The result may be reduced by shrink,
// where the decoder can do that at no cost, and is reduced by reduce, a power of two, in any case where it can be.
func (d *decoder) region(data []byte, r image.Rectangle, shrink, reduce int) (raster, error) {
	memory := int64(d.file.each)*int64(d.file.size.X)*int64(d.file.size.Y) +
		3*int64(r.Dx())*int64(r.Dy())/int64(reduce*reduce)
	memory = min(memory, decodeBudget)
	_ = decoding.Acquire(context.Background(), memory) // which cannot fail; others give theirs back after an image
	defer decoding.Release(memory)
	var out raster
	var err error
	switch d.file.format {
	case formatJPEG:
		out, err = d.jpeg.region(data, r, min(8, max(shrink, reduce)), d.buf)
	default:
		streamed := d.file.format == formatPNG && d.file.size.X*d.file.size.Y > streamedPixels
		s := newSink(d.file.size, r, reduce, streamed && d.file.png.interlaced, d.buf)
		switch {
		case d.file.format == formatWebP:
			err = webpRegion(data, s)
		case streamed:
			err = pngStream(data, d.file.png, s)
		default:
			err = pngRegion(data, s)
		}
		out = s.out
	}
	if err != nil {
		return raster{}, err
	}
	if cap(out.pix) > cap(d.buf) && cap(out.pix) <= keptBytes {
		d.buf = out.pix
	}
	return out, nil
}

func pngRegion(data []byte, s *sink) error {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return err
	}
	row := make([]byte, 3*s.columns())
	for y := s.top(); y < s.bottom(); y++ {
		for i := range s.columns() {
			// The straight colour: RGBA() would multiply it by the transparency.
			c := color.NRGBAModel.Convert(img.At(s.left()+i, y)).(color.NRGBA)
			if p, ok := img.(*image.NRGBA64); ok {
				q := p.NRGBA64At(s.left()+i, y)
				c = color.NRGBA{R: uint8(q.R >> 8), G: uint8(q.G >> 8), B: uint8(q.B >> 8)}
			}
			row[3*i], row[3*i+1], row[3*i+2] = c.R, c.G, c.B
		}
		s.put(y, row)
	}
	return nil
}

// newRaster makes room for the pixels of rect, in buf where it is large enough.
func newRaster(rect image.Rectangle, shrink int, buf []byte) raster {
	n := 3 * rect.Dx() * rect.Dy()
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	return raster{pix: buf[:n], stride: 3 * rect.Dx(), rect: rect, shrink: shrink}
}

// DecodeRGB decodes a whole JPEG, PNG or WebP file: RGB, 8 bits a sample, row after row.
func DecodeRGB(data []byte) (pix []byte, width, height int, err error) {
	d, err := newDecoder()
	if err != nil {
		return nil, 0, 0, err
	}
	defer d.close()
	size, err := d.size(data)
	if err != nil {
		return nil, 0, 0, err
	}
	r, err := d.region(data, image.Rectangle{Max: size}, 1, 1)
	return r.pix, size.X, size.Y, err
}
