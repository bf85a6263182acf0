package conv

/*
#include "hopper.h"
*/
import "C"

import (
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
)

// Weights collects gradients in weights. An accelerator makes those that one kernel makes in one launch, some at a
// time: by itself most of them has no more blocks than a large GPU runs at once, and waits for the slowest.
type Weights struct{ rounds []round }

// round is gradients of which no two write to the same place.
type round struct {
	jobs  []weightJob
	spans [][2]uintptr // addresses that they write between
}

// weightJob is a gradient in a weight: the arguments for one of the two kinds of kernels, and the launch that would
// make it alone.
type weightJob struct {
	general               *C.ctn_conv_weight_gpu
	hopper                *C.ctn_conv_weight_hopper
	tiles, groups, splits int // blocks
	launch                exec.Launch
}

// together is how many gradients a launch makes, at most.
const together = C.CTN_CONV_WEIGHTS

// record adds the gradient to those that are collected, or records it, and what adds up its splits.
func (w WeightGradient) record(p *exec.Program, c Conv, v view, job weightJob) {
	if w.Together != nil && w.Later == nil && job.splits > 1 {
		panic("conv: a gradient that is made with others leaves its sum to Later")
	}
	if w.Together != nil {
		rows := c.In.C / c.Groups
		begin := uintptr(w.DWeight.Pointer())
		w.Together.add(job, begin, begin+4*uintptr((c.KH*c.KW-1)*v.tap+(rows-1)*v.ld+c.Out))
	} else {
		launchWeights(p, []weightJob{job})
	}
	if job.splits > 1 {
		partial.Sum{In: w.Partial, Parts: job.splits, Len: c.WeightLen(), Out: w.DWeight, Accumulate: w.Accumulate,
			Cols: c.Out, Rows: c.In.C / c.Groups, RowLD: v.ld, TapLD: v.tap}.Record(p, w.Later)
	}
}

// add puts a gradient into the first round after the last that writes any of its addresses.
func (k *Weights) add(job weightJob, begin, end uintptr) {
	at := len(k.rounds)
	for ; at > 0; at-- {
		meets := false
		for _, other := range k.rounds[at-1].spans {
			meets = meets || begin < other[1] && other[0] < end
		}
		if meets {
			break
		}
	}
	if at == len(k.rounds) {
		k.rounds = append(k.rounds, round{})
	}
	r := &k.rounds[at]
	r.jobs, r.spans = append(r.jobs, job), append(r.spans, [2]uintptr{begin, end})
}

// Record appends the launches that make what was collected, and forgets it.
func (k *Weights) Record(p *exec.Program) {
	for _, r := range k.rounds {
		by, order := map[string][]weightJob{}, []string(nil)
		for _, job := range r.jobs {
			entry := job.launch.Entry
			if by[entry] == nil {
				order = append(order, entry)
			}
			if by[entry] = append(by[entry], job); len(by[entry]) == together {
				launchWeights(p, by[entry])
				by[entry] = by[entry][:0]
			}
		}
		for _, entry := range order {
			if len(by[entry]) > 0 {
				launchWeights(p, by[entry])
			}
		}
	}
	k.rounds = nil
}

// launchWeights records one launch for gradients of one kernel.
func launchWeights(p *exec.Program, jobs []weightJob) {
	launch, first := jobs[0].launch, 0
	launch.Work = exec.Work{}
	blocks := C.ctn_conv_weight_blocks{count: C.int32_t(len(jobs))}
	for i, job := range jobs {
		blocks.first[i], blocks.tiles[i] = C.int32_t(first), C.int32_t(job.tiles)
		blocks.groups[i] = C.int32_t(job.groups)
		first += job.tiles * job.groups * job.splits
		launch.Work.Add(job.launch.Work)
	}
	launch.Grid = [3]int{first}
	const name = "conv_weight_gradient"
	if jobs[0].hopper != nil {
		args := C.ctn_conv_weight_hopper_args{blocks: blocks}
		for i, job := range jobs {
			args.all[i] = *job.hopper
		}
		exec.Call(p, name, nil, &args, 0, launch)
		return
	}
	args := C.ctn_conv_weight_gpu_args{blocks: blocks}
	for i, job := range jobs {
		args.all[i] = *job.general
	}
	exec.Call(p, name, nil, &args, 0, launch)
}

// The arguments of a launch are a parameter of a kernel.
const (
	_ = uint(4096 - unsafe.Sizeof(C.ctn_conv_weight_gpu_args{}))
	_ = uint(4096 - unsafe.Sizeof(C.ctn_conv_weight_hopper_args{}))
)
