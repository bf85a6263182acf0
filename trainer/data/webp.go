package data

import (
	"bytes"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

// webpRegion decodes a WebP file, the whole of it whatever the region. Colours are those of libwebp, and so of
// Pillow: the package decodes to luma and chroma of BT.601's limited range (16 to 235), and image/color would take
// them for JPEG's full range.
func webpRegion(data []byte, s *sink) error {
	img, err := webp.Decode(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("damaged, animated or unusual WebP: %w", err)
	}
	switch img := img.(type) {
	case *image.YCbCr:
		return limitedRange(img, s)
	case *image.NYCbCrA: // transparency is dropped
		return limitedRange(&img.YCbCr, s)
	case *image.NRGBA:
		row := make([]byte, 3*s.columns())
		for y := s.top(); y < s.bottom(); y++ {
			from := img.Pix[img.PixOffset(s.left(), y):]
			for i := range s.columns() {
				copy(row[3*i:3*i+3], from[4*i:4*i+3])
			}
			s.put(y, row)
		}
		return nil
	}
	return fmt.Errorf("WebP decoded as %T", img)
}

// limitedRange converts as libwebp does: chroma is interpolated between the four nearest samples, with 9, 3, 3 and 1
// sixteenths.
func limitedRange(img *image.YCbCr, s *sink) error {
	if img.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return fmt.Errorf("WebP with chroma of %v", img.SubsampleRatio)
	}
	size := img.Rect.Size()
	cw, ch := (size.X+1)/2, (size.Y+1)/2
	u, v := make([]int32, cw), make([]int32, cw)
	row := make([]byte, 3*s.columns())
	for y := s.top(); y < s.bottom(); y++ {
		near := y / 2
		far := max(0, min(ch-1, near-1+2*(y%2)))
		for i := range cw {
			u[i] = 3*int32(img.Cb[near*img.CStride+i]) + int32(img.Cb[far*img.CStride+i])
			v[i] = 3*int32(img.Cr[near*img.CStride+i]) + int32(img.Cr[far*img.CStride+i])
		}
		luma := img.Y[img.YOffset(s.left(), y):]
		for i := range s.columns() {
			x := s.left() + i
			n := x / 2
			f := max(0, min(cw-1, n-1+2*(x%2)))
			row[3*i], row[3*i+1], row[3*i+2] = limitedRGB(int32(luma[i]), (3*u[n]+u[f]+8)>>4, (3*v[n]+v[f]+8)>>4)
		}
		s.put(y, row)
	}
	return nil
}

// limitedRGB is libwebp's conversion in fixed point (src/dsp/yuv.h).
func limitedRGB(y, u, v int32) (r, g, b uint8) {
	const fraction = 6
	clip := func(x int32) uint8 { return uint8(max(0, min(255, x>>fraction))) }
	high := func(x, factor int32) int32 { return x * factor >> 8 }
	luma := high(y, 19077)
	return clip(luma + high(v, 26149) - 14234), clip(luma - high(u, 6419) - high(v, 13320) + 8708), clip(luma +
		high(u, 33050) - 17685)
}
