package loss

/*
#include "mixup.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Mixup turns the cross-entropy that Classes has left for Label into that of images mixed of two (Zhang et al., ICLR
// 2018): Weight of Label's class and the rest of Partner's. A cross-entropy is linear in its target, so two elements a
// row change, by (1-Weight)·Share over the number of rows whose label is not negative.
type Mixup struct {
	N, Classes     int
	Logit          *exec.Buffer // [N, Classes]
	Label, Partner *exec.Buffer // [N] integers; rows with a negative label are left out
	Weight         *exec.Buffer // [1], 0..1
	// What the target's largest element is multiplied by in the loss: Classes' Scale·(1-Smoothing)·(1-Weight of the
	// teacher).
	Share  float32
	DLogit *exec.Buffer // [N, Classes], added to; nil: none; not Logit
	Loss   *exec.Buffer // [1], added to
}

// Record appends the operation to a program.
func (m Mixup) Record(p *exec.Program) {
	if m.N < 1 || m.Classes < 1 || m.DLogit == m.Logit {
		panic(fmt.Sprintf("mixup: %+v", m))
	}
	half := tensor.Half("mixup", m.Logit, m.DLogit)
	exec.NeedStored("mixup", "Logit", m.Logit, m.N*m.Classes)
	exec.Need("mixup", "Label", m.Label, m.N)
	exec.Need("mixup", "Partner", m.Partner, m.N)
	exec.Need("mixup", "Weight", m.Weight, 1)
	exec.Need("mixup", "Loss", m.Loss, 1)
	if m.DLogit != nil {
		exec.NeedStored("mixup", "DLogit", m.DLogit, m.N*m.Classes)
	}
	args := C.ctn_mixup_args{n: C.int64_t(m.N), classes: C.int64_t(m.Classes), logit: floats(m.Logit),
		label: ints(m.Label), partner: ints(m.Partner), weight: floats(m.Weight), dlogit: floats(m.DLogit),
		loss: floats(m.Loss), share: C.float(m.Share)}
	exec.Call(p, "mixup", unsafe.Pointer(&C.ctn_mixup), &args, 0,
		exec.Launch{File: "mixup", Entry: tensor.Entry("cu_mixup", half), Block: C.CTN_MIXUP_BLOCK})
}
