package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
)

// goJPEG decodes with Go's image/jpeg. It decodes the whole image whatever the region, and takes about four times as
// long as libjpeg-turbo. Halved chroma is interpolated as libjpeg does ("fancy upsampling"), so both decoders agree
// within a few levels.
type goJPEG struct{}

func (goJPEG) close() {}

func (goJPEG) size(data []byte) (size image.Point, each int, err error) {
	c, err := jpeg.DecodeConfig(bytes.NewReader(data))
	each = 4
	// progressive, if this is the frame's marker: all coefficients are kept, four bytes each
	if bytes.Contains(data, []byte{0xFF, 0xC2}) {
		each = 20
	}
	return image.Pt(c.Width, c.Height), each, jpegError(err)
}

func (goJPEG) region(data []byte, r image.Rectangle, _ int, buf []byte) (raster, error) {
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return raster{}, jpegError(err)
	}
	out := newRaster(r, 1, buf)
	switch img := img.(type) {
	case *image.Gray:
		i := 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for _, v := range img.Pix[img.PixOffset(r.Min.X, y):img.PixOffset(r.Max.X, y)] {
				out.pix[i], out.pix[i+1], out.pix[i+2] = v, v, v
				i += 3
			}
		}
	case *image.YCbCr:
		convertYCbCr(out, img)
	case *image.CMYK:
		i := 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				c := img.CMYKAt(x, y)
				out.pix[i], out.pix[i+1], out.pix[i+2] = color.CMYKToRGB(c.C, c.M, c.Y, c.K)
				i += 3
			}
		}
	case *image.RGBA:
		i := 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			row := img.Pix[img.PixOffset(r.Min.X, y):img.PixOffset(r.Max.X, y)]
			for ; len(row) >= 4; row = row[4:] {
				copy(out.pix[i:i+3], row)
				i += 3
			}
		}
	default:
		return raster{}, fmt.Errorf("JPEG decoded as %T", img)
	}
	return out, nil
}

// jpegError names the damage in the words that users know.
func jpegError(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errors.New("damaged or unusual JPEG"), err)
}

// convertYCbCr fills out with the RGB of img.
func convertYCbCr(out raster, img *image.YCbCr) {
	r, size := out.rect, img.Rect.Size()
	divX, divY := subsampling(img.SubsampleRatio)
	cw, ch := (size.X+divX-1)/divX, (size.Y+divY-1)/divY
	cb, cr := make([]uint8, r.Dx()), make([]uint8, r.Dx())
	mixed := make([]int, cw)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		chromaRow(cb, mixed, img.Cb, img.CStride, ch, divX, divY, r.Min.X, y)
		chromaRow(cr, mixed, img.Cr, img.CStride, ch, divX, divY, r.Min.X, y)
		luma := img.Y[img.YOffset(r.Min.X, y):]
		pix := out.pix[(y-r.Min.Y)*out.stride:]
		for x := range cb {
			pix[3*x], pix[3*x+1], pix[3*x+2] = color.YCbCrToRGB(luma[x], cb[x], cr[x])
		}
	}
}

func subsampling(s image.YCbCrSubsampleRatio) (x, y int) {
	switch s {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// chromaRow writes the chroma of pixels x0.. of row y. A halved direction is a triangle filter: 3/4 of the nearer
// sample and 1/4 of the next one (libjpeg-turbo, jdsample.c); a quartered one repeats samples. plane has len(mixed)
// samples a row and ch rows.
func chromaRow(dst []uint8, mixed []int, plane []uint8, stride, ch, divX, divY, x0, y int) {
	near := y / divY
	far := near
	if divY == 2 && divX <= 2 {
		far = max(0, min(ch-1, near-1+2*(y%2)))
	}
	a, b := plane[near*stride:], plane[far*stride:]
	for i := range mixed {
		mixed[i] = 3*int(a[i]) + int(b[i]) // times 4
	}
	last := len(mixed) - 1
	for i := range dst {
		x := x0 + i
		if divX != 2 {
			dst[i] = uint8((mixed[x/divX] + 1 + y%2) >> 2)
			continue
		}
		n := x / 2
		f := max(0, min(last, n-1+2*(x%2)))
		dst[i] = uint8((3*mixed[n] + mixed[f] + 8 - x%2) >> 4)
	}
}
