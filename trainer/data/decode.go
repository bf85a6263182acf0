package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
)

// What an image may be at most. Larger ones are damaged or not meant for training; a file of a few bytes can claim any size.
const (
	maxPixels    = 1 << 27
	maxFileBytes = 1 << 28
)

// raster is a rectangle of an image: RGB, 8 bits a sample.
type raster struct {
	pix    []byte          // row after row; valid until the next image is decoded
	stride int             // bytes
	rect   image.Rectangle // in pixels of the reduced image
	shrink int             // a pixel stands for shrink x shrink pixels of the image
}

// jpegDecoder decodes JPEG files: Go's image/jpeg or libjpeg-turbo. Not for several goroutines at once.
type jpegDecoder interface {
	size(data []byte) (image.Point, error)
	// region decodes at least the pixels of r, which lie in the image. The result may be reduced by shrink (1, 2, 4 or 8) or by less;
	// its pixels may lie in buf.
	region(data []byte, r image.Rectangle, shrink int, buf []byte) (raster, error)
	close()
}

// decoder decodes JPEG and PNG files, told apart by their first bytes and not by their names: ImageNet holds a PNG named .JPEG.
// Orientation tags are ignored, as torchvision does. Colours: grey is repeated, CMYK and YCCK become RGB as in Pillow (with Adobe's
// inverted values), transparency is dropped, of 16 bits the upper 8 count. Not for several goroutines at once.
type decoder struct {
	jpeg jpegDecoder
	buf  []byte
}

func newDecoder() (*decoder, error) {
	j, err := newJPEG()
	if err != nil {
		return nil, err
	}
	return &decoder{jpeg: j}, nil
}

func (d *decoder) close() { d.jpeg.close() }

var (
	jpegMagic = []byte{0xFF, 0xD8, 0xFF}
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
)

// size reads the header of a file.
func (d *decoder) size(data []byte) (image.Point, error) {
	var size image.Point
	var err error
	switch {
	case bytes.HasPrefix(data, jpegMagic):
		size, err = d.jpeg.size(data)
	case bytes.HasPrefix(data, pngMagic):
		var c image.Config
		c, err = png.DecodeConfig(bytes.NewReader(data))
		size = image.Pt(c.Width, c.Height)
	case len(data) == 0:
		return size, errors.New("empty file")
	default:
		return size, fmt.Errorf("neither JPEG nor PNG: starts with % x", data[:min(8, len(data))])
	}
	if err != nil {
		return size, err
	}
	if size.X < 1 || size.Y < 1 || size.X > maxPixels/size.Y {
		return size, fmt.Errorf("image of %dx%d pixels: at most %d are accepted", size.X, size.Y, maxPixels)
	}
	return size, nil
}

// region decodes at least the pixels of r; see jpegDecoder. size must have accepted the file.
func (d *decoder) region(data []byte, r image.Rectangle, shrink int) (raster, error) {
	var out raster
	var err error
	if bytes.HasPrefix(data, pngMagic) {
		out, err = pngRegion(data, r, d.buf)
	} else {
		out, err = d.jpeg.region(data, r, shrink, d.buf)
	}
	if cap(out.pix) > cap(d.buf) {
		d.buf = out.pix
	}
	return out, err
}

func pngRegion(data []byte, r image.Rectangle, buf []byte) (raster, error) {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return raster{}, err
	}
	out := newRaster(r, 1, buf)
	i := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			// The straight colour: RGBA() would multiply it by the transparency.
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			if p, ok := img.(*image.NRGBA64); ok {
				q := p.NRGBA64At(x, y)
				c = color.NRGBA{R: uint8(q.R >> 8), G: uint8(q.G >> 8), B: uint8(q.B >> 8)}
			}
			out.pix[i], out.pix[i+1], out.pix[i+2] = c.R, c.G, c.B
			i += 3
		}
	}
	return out, nil
}

// newRaster makes room for the pixels of rect, in buf where it is large enough.
func newRaster(rect image.Rectangle, shrink int, buf []byte) raster {
	n := 3 * rect.Dx() * rect.Dy()
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	return raster{pix: buf[:n], stride: 3 * rect.Dx(), rect: rect, shrink: shrink}
}

// DecodeRGB decodes a whole JPEG or PNG file: RGB, 8 bits a sample, row after row.
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
	r, err := d.region(data, image.Rectangle{Max: size}, 1)
	return r.pix, size.X, size.Y, err
}
