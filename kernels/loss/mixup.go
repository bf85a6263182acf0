package loss

/*
#include "mixup_cpu.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Mixup turns the cross-entropy that Classes has left for Label into that of images mixed of two (Zhang et al., ICLR 2018): Weight of Label's class and the rest of
// Partner's. A cross-entropy is linear in its target, so two elements a row change, by (1-Weight)·Share over the number of rows whose label is not negative.
type Mixup struct {
	N, Classes     int
	Logit          *exec.Buffer // N x Classes
	Label, Partner *exec.Buffer // integers: N; rows with a negative label are left out
	Weight         *exec.Buffer // one float, 0..1
	Share          float32      // what the target's largest element is multiplied by in the loss: Classes' Scale·(1-Smoothing)·(1-Weight of the teacher)
	DLogit         *exec.Buffer // N x Classes, added to; nil: none; not Logit
	Loss           *exec.Buffer // 1, added to
}

// Record appends the operation to a program.
func (m Mixup) Record(p *exec.Program) {
	if m.N < 1 || m.Classes < 1 || m.DLogit == m.Logit {
		panic(fmt.Sprintf("mixup: %+v", m))
	}
	need("mixup", m.N*m.Classes, m.Logit)
	need("mixup", m.N, m.Label, m.Partner)
	need("mixup", 1, m.Weight, m.Loss)
	if m.DLogit != nil {
		need("mixup", m.N*m.Classes, m.DLogit)
	}
	args := C.ctn_mixup_args{n: C.int64_t(m.N), classes: C.int64_t(m.Classes), logit: floats(m.Logit), label: ints(m.Label), partner: ints(m.Partner),
		weight: floats(m.Weight), dlogit: floats(m.DLogit), loss: floats(m.Loss), share: C.float(m.Share)}
	p.Record(exec.Op{Name: "mixup", CPU: unsafe.Pointer(&C.ctn_mixup), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args)})
}
