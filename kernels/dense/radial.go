package dense

/*
#include "radial.h"
*/
import "C"

import (
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Radial is a weighted sum of functions of the distances to some centers:
//
//	Out[r] = Σ_c Weight[c] · exp( -(Scale · max(0, |In[r]|² + Norm[c] - 2 Product[r][c]))^(3/4) )
//
// Norm is |center|², and Product holds the rows' products with the centers: gemm.Op{C: Product, A: In, B: centers,
// TransB: true, Exact: true}.
type Radial struct {
	Out, In, Product *exec.Buffer // [rows]; [rows, Width]; [rows, Centers]
	Norm, Weight     *exec.Buffer // [Centers]
	Rows             exec.Dim
	Width, Centers   int
	Scale            float32
}

// Record appends the operation to a program.
func (d Radial) Record(p *exec.Program) {
	exec.Need("radial", "Out", d.Out, d.Rows.Max)
	exec.Need("radial", "In", d.In, d.Rows.Max*d.Width)
	exec.Need("radial", "Product", d.Product, d.Rows.Max*d.Centers)
	exec.Need("radial", "Norm", d.Norm, d.Centers)
	exec.Need("radial", "Weight", d.Weight, d.Centers)
	args := C.ctn_radial_args{width: C.int64_t(d.Width), centers: C.int64_t(d.Centers), in: floats(d.In),
		product: floats(d.Product), norm: floats(d.Norm), weight: floats(d.Weight), out: floats(d.Out),
		scale: C.float(d.Scale)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	exec.Call(p, "radial", unsafe.Pointer(&C.ctn_radial), &args, 0,
		exec.Launch{File: "radial", Entry: "cu_radial", Grid: [3]int{exec.Blocks(d.Rows.Max, C.CTN_DENSE_BLOCK/32)},
			Block: C.CTN_DENSE_BLOCK})
}
