package loss

/*
#include "classes.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Classes is the mean cross-entropy of a softmax over N rows of logits, times Scale (0 is 1), with label smoothing as
// in PyTorch: the target is 1-Smoothing for the label plus Smoothing/Classes for each class. A row with a negative
// label is left out of the loss and of the mean.
//
// Logit and DLogit may be stored as bfloat16.
//
// With a Teacher's logits the loss is (1-Weight)·cross-entropy + Weight·T²·KL(softmax(teacher/T) ‖ softmax(logit/T)), T
// the Temperature (Hinton et al., 2015).
type Classes struct {
	N, Classes  int
	Logit       *exec.Buffer // [N, Classes]
	Label       *exec.Buffer // [N] integers
	Smoothing   float32
	Teacher     *exec.Buffer // [N, Classes], or nil
	Weight      float32
	Temperature float32
	Scale       float32
	DLogit      *exec.Buffer // [N, Classes]: the gradient; nil: none; may be Logit
	Loss        *exec.Buffer // [1], in nats
	// Integers, or nil: rows, those whose label is first, and among the first five, are added to its 3 elements; of
	// equal logits the lower class comes first.
	Count *exec.Buffer
}

// Record appends the operation to a program.
func (l Classes) Record(p *exec.Program) {
	if l.N < 1 || l.Classes < 1 || !(l.Smoothing >= 0 && l.Smoothing <= 1) || l.Teacher != nil &&
		(!(l.Weight >= 0 && l.Weight <= 1) || !(l.Temperature > 0)) {
		panic(fmt.Sprintf("classes: %+v", l))
	}
	exec.NeedStored("classes", "Logit", l.Logit, l.N*l.Classes)
	exec.Need("classes", "Label", l.Label, l.N)
	exec.Need("classes", "Loss", l.Loss, 1)
	exec.Optional("classes", "Teacher", l.Teacher, l.N*l.Classes)
	if l.DLogit != nil {
		exec.NeedStored("classes", "DLogit", l.DLogit, l.N*l.Classes)
	}
	exec.Optional("classes", "Count", l.Count, 3)
	if l.Scale == 0 {
		l.Scale = 1
	}
	if l.Teacher == nil {
		l.Weight, l.Temperature = 0, 1
	}
	args := C.ctn_classes_args{n: C.int64_t(l.N), classes: C.int64_t(l.Classes), logit: floats(l.Logit),
		teacher: floats(l.Teacher), label: ints(l.Label), dlogit: floats(l.DLogit), row: floats(p.Arena().F32(3 * l.N)),
		loss: floats(l.Loss), count: ints(l.Count), smoothing: C.float(l.Smoothing), weight: C.float(l.Weight),
		temperature: C.float(l.Temperature), scale: C.float(l.Scale)}
	entry := tensor.Entry("cu_classes", tensor.Half("classes", l.Logit, l.DLogit))
	exec.Call(p, "classes", unsafe.Pointer(&C.ctn_classes), &args, 0,
		exec.Launch{File: "classes", Entry: entry, Grid: [3]int{l.N}, Block: C.CTN_CLASSES_BLOCK,
			Work: exec.Work{Bytes: l.Logit.Bytes(l.N*l.Classes) + l.DLogit.Bytes(l.N*l.Classes)}})
	exec.Call(p, "classes_sum", unsafe.Pointer(&C.ctn_classes_sum), &args, 0,
		exec.Launch{File: "classes", Entry: "cu_classes_sum", Block: C.CTN_CLASSES_BLOCK})
}
