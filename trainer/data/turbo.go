//go:build turbojpeg

package data

/*
#cgo CFLAGS: -O2 -std=gnu11
#cgo LDFLAGS: -ljpeg
#include <stdlib.h>
#include "turbo.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"image"
	"unsafe"
)

// Decoder names the JPEG decoder of this build.
const Decoder = "libjpeg-turbo"

func newJPEG() (jpegDecoder, error) {
	j := C.ctn_jpeg_new()
	if j == nil {
		return nil, errors.New("libjpeg-turbo: out of memory, or another version than the program was built with")
	}
	return &turboJPEG{j}, nil
}

// turboJPEG decodes with libjpeg-turbo: exact inverse DCT and interpolated chroma, the library's defaults.
type turboJPEG struct{ j *C.ctn_jpeg }

func (t *turboJPEG) close() {
	C.ctn_jpeg_free(t.j)
	t.j = nil
}

func (t *turboJPEG) fail() error {
	return fmt.Errorf("damaged or unusual JPEG: %s", C.GoString(C.ctn_jpeg_message(t.j)))
}

func (t *turboJPEG) size(data []byte) (size image.Point, each int, err error) {
	var w, h, kept C.int32_t
	if C.ctn_jpeg_size(t.j, (*C.uint8_t)(&data[0]), C.size_t(len(data)), &w, &h, &kept) != 0 {
		return image.Point{}, 0, t.fail()
	}
	return image.Pt(int(w), int(h)), int(kept), nil
}

// blockColumns is the most columns that a crop is widened by to the left: a column of blocks of the most subsampled
// component.
const blockColumns = 32

func (t *turboJPEG) region(data []byte, r image.Rectangle, shrink int, buf []byte) (raster, error) {
	want := image.Rect(r.Min.X/shrink, r.Min.Y/shrink, (r.Max.X+shrink-1)/shrink, (r.Max.Y+shrink-1)/shrink)
	// A row more: one of CMYK is longer before it is converted.
	room := 3 * (want.Dx() + 2 + blockColumns) * (want.Dy() + 1)
	if cap(buf) < room {
		buf = make([]byte, room)
	}
	got := C.ctn_rect{C.int32_t(want.Min.X), C.int32_t(want.Min.Y), C.int32_t(want.Dx()), C.int32_t(want.Dy())}
	if C.ctn_jpeg_region(t.j, (*C.uint8_t)(&data[0]), C.size_t(len(data)), C.int(shrink), &got,
		(*C.uint8_t)(&buf[:1][0]), C.size_t(room)) != 0 {
		return raster{}, t.fail()
	}
	rect := image.Rect(int(got.x), int(got.y), int(got.x+got.width), int(got.y+got.height))
	return raster{pix: buf[:3*rect.Dx()*rect.Dy()], stride: 3 * rect.Dx(), rect: rect, shrink: shrink}, nil
}

// turboEncoder encodes with a quality from 1 to 100.
type turboEncoder int

func newEncoder(quality int) (jpegEncoder, string, error) {
	return turboEncoder(quality), Decoder + " " + C.GoString(C.ctn_jpeg_version()), nil
}

func (q turboEncoder) encode(pix []byte, width, height int, buf []byte) ([]byte, error) {
	var out *C.uint8_t
	var bytes C.size_t
	var message [256]C.char
	if C.ctn_jpeg_encode((*C.uint8_t)(&pix[0]), C.int32_t(width), C.int32_t(height), C.int(q), &out, &bytes,
		&message[0]) != 0 {
		return buf, fmt.Errorf("libjpeg-turbo: %s", C.GoString(&message[0]))
	}
	defer C.free(unsafe.Pointer(out))
	return append(buf, unsafe.Slice((*byte)(out), int(bytes))...), nil
}
