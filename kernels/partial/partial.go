// Package partial adds up what the operations of an accelerator leave of their sums in parts: of many operations in one
// launch. The CPU's operations add up their parts themselves.
package partial

/*
#include "partial.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

// Sum is Out[i] = Σ In[p][i] over the parts p.
type Sum struct {
	In         *exec.Buffer // [Parts, Len], which may be stored as bfloat16
	Parts, Len int
	Out        *exec.Buffer // as many elements of float32, [Len/(Rows Cols), Rows, Cols]
	Accumulate bool         // add to Out
	// How Out lies in memory; 0: dense. Elements of a row, rows of a tap, and elements from a row to the next and from
	// a tap to the next.
	Cols, Rows   int
	RowLD, TapLD int
}

// Sums collects sums that are then made in one launch, to be recorded behind all that leave their parts and before what
// reads a sum. A sum into what another one writes too comes after that, in a launch of its own.
type Sums struct{ launches []launch }

type launch struct {
	all    []C.ctn_partial
	spans  [][2]uintptr // addresses that the sums write between
	blocks int
}

// Add adds a sum to the list.
func (s *Sums) Add(x Sum) {
	if x.Cols == 0 {
		x.Cols, x.Rows = x.Len, 1
	}
	if x.RowLD == 0 {
		x.RowLD, x.TapLD = x.Cols, x.Rows*x.Cols
	}
	if x.Len < 1 || x.Parts < 1 || x.Len%(x.Cols*x.Rows) != 0 {
		panic(fmt.Sprintf("partial: %d parts of %d elements, as rows of %d, %d a tap", x.Parts, x.Len, x.Cols, x.Rows))
	}
	span := (x.Len/(x.Cols*x.Rows)-1)*x.TapLD + (x.Rows-1)*x.RowLD + x.Cols
	exec.NeedStored("partial", "In", x.In, x.Parts*x.Len)
	exec.Need("partial", "Out", x.Out, span)
	const few, some = 8, 64 // parts that one way, or four, add up quickly
	ways := C.CTN_PARTIAL_WAYS
	if x.Parts <= few {
		ways = 1
	} else if x.Parts <= some {
		ways = 4
	}
	begin := uintptr(x.Out.Pointer())
	writes := [2]uintptr{begin, begin + 4*uintptr(span)}
	l := s.after(writes)
	l.all = append(l.all, C.ctn_partial{in: x.In.Pointer(), out: floats(x.Out), len: C.int64_t(x.Len),
		parts: C.int32_t(x.Parts), half: flag(x.In.Half()), accumulate: flag(x.Accumulate), cols: C.int32_t(x.Cols),
		rows: C.int32_t(x.Rows), row_ld: C.int32_t(x.RowLD), tap_ld: C.int32_t(x.TapLD), ways: C.int32_t(ways),
		first: C.int32_t(l.blocks)})
	l.spans = append(l.spans, writes)
	l.blocks += exec.Blocks(x.Len, C.CTN_PARTIAL_BLOCK/ways)
}

// after is the launch behind the last one that writes any of these addresses.
func (s *Sums) after(writes [2]uintptr) *launch {
	k := len(s.launches)
	for ; k > 0; k-- {
		for _, other := range s.launches[k-1].spans {
			if writes[0] < other[1] && other[0] < writes[1] {
				return s.at(k)
			}
		}
	}
	return s.at(0)
}

func (s *Sums) at(k int) *launch {
	if k == len(s.launches) {
		s.launches = append(s.launches, launch{})
	}
	return &s.launches[k]
}

// Record appends the sums to a program.
func (s *Sums) Record(p *exec.Program) {
	for _, l := range s.launches {
		n := len(l.all) * int(unsafe.Sizeof(l.all[0])) / 4
		table := p.Arena().Ints(unsafe.Slice((*int32)(unsafe.Pointer(&l.all[0])), n))
		args := C.ctn_partial_args{all: (*C.ctn_partial)(table.Pointer()), count: C.int32_t(len(l.all))}
		exec.Call(p, "partial", nil, &args, 0, exec.Launch{File: "partial", Entry: "cu_partial",
			Grid: [3]int{l.blocks}, Block: C.CTN_PARTIAL_BLOCK})
	}
}

// Record appends one sum to a program, or adds it to a list if there is one.
func (x Sum) Record(p *exec.Program, later *Sums) {
	if later != nil {
		later.Add(x)
		return
	}
	var alone Sums
	alone.Add(x)
	alone.Record(p)
}
