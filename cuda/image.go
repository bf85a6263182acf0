//go:build cuda

package cuda

// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// ImageMap writes the ImageMapBytes that a kernel gets for m. The GPU has compute capability 9.0.
func (d *Device) ImageMap(dst unsafe.Pointer, m ImageMap) error {
	image := C.ctn_image{z: m.Z, n: C.int(m.N), h: C.int(m.H), w: C.int(m.W), c: C.int(m.C), ld: C.longlong(m.LD),
		pixels: C.int(m.Pixels)}
	for i := range 2 {
		image.lower[i], image.upper[i] = C.int(m.Lower[i]), C.int(m.Upper[i])
	}
	if err := check(C.ctn_image_map(&image, dst)); err != nil {
		return d.failed(fmt.Sprintf("describe a tensor of %d x %d x %d x %d, %d elements a pixel, to the kernels", m.N, m.H,
			m.W, m.C, m.LD), err)
	}
	return nil
}
