package bench

import (
	"cmp"
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Profile says where the time of a case goes.
type Profile struct {
	Name    string    `json:"name"`
	Repeats int       `json:"repeats"`
	StepMS  float64   `json:"step_ms"`  // of a whole run by the clock on the wall, the median
	PartsMS float64   `json:"parts_ms"` // of all parts together
	Parts   []Part    `json:"parts"`    // in the order in which they run
	Sums    []PartSum `json:"sums"`     // by entry, the longest first
}

// Part is a launch of a case on a GPU, or an operation of one on the CPU. What is not known or does not apply is null.
type Part struct {
	Program string   `json:"program"`
	Entry   string   `json:"entry"` // of a kernel; the operation's name on the CPU
	Grid    *[3]int  `json:"grid"`
	MS      float64  `json:"ms"` // the median
	GBps    *float64 `json:"gbps"`
	TFLOPs  *float64 `json:"tflops"`
	// The larger of the shares of both ceilings.
	CeilingShare *float64 `json:"ceiling_share"`
}

// PartSum is all parts of one entry.
type PartSum struct {
	Entry string  `json:"entry"`
	Count int     `json:"count"`
	MS    float64 `json:"ms"`
	Share float64 `json:"share"` // of PartsMS
}

// Profile measures a case that runs recorded programs part by part, so many times: each launch on a GPU by its clock,
// each operation on the CPU.
func (e *Env) Profile(ctx context.Context, c Case, ceilings Ceilings, repeats int) (r Profile, err error) {
	defer exec.Catch(&err)
	steps, err := e.Times(ctx, c, repeats)
	if err != nil {
		return r, err
	}
	w := e.runs[c.Name]
	if w.program != nil && e.dev.Accelerated() {
		if steps, err = e.Walls(ctx, c, repeats); err != nil {
			return r, err
		}
	}
	programs, err := w.programs(c.Name)
	if err != nil {
		return r, err
	}
	r = Profile{Name: c.Name, Repeats: repeats, StepMS: median(steps)}
	for _, p := range programs {
		var times [][]float64 // [part][repeat]
		for range repeats {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			for i, ms := range p.Profile() {
				if i == len(times) {
					times = append(times, nil)
				}
				times[i] = append(times[i], ms)
			}
		}
		parts := make([]Part, len(times))
		list := launches(p)
		for i := range parts {
			parts[i] = Part{Program: p.Name, MS: median(times[i])}
			if !e.dev.Accelerated() {
				parts[i].Entry = p.Ops()[i]
				continue
			}
			parts[i].Entry, parts[i].Grid = list[i].Entry, &list[i].Grid
			parts[i].rates(list[i], ceilings)
		}
		r.Parts = append(r.Parts, parts...)
	}
	r.sum()
	return r, nil
}

// rates puts what a launch reached.
func (p *Part) rates(l Launch, ceilings Ceilings) {
	rate := func(work *float64, ceiling float64) *float64 { // in 1e9 a second
		if work == nil || p.MS <= 0 {
			return nil
		}
		v := *work / p.MS / 1e6
		if share := v / ceiling; ceiling > 0 && (p.CeilingShare == nil || share > *p.CeilingShare) {
			p.CeilingShare = &share
		}
		return &v
	}
	p.GBps = rate(l.Bytes, ceilings.CopyGBps)
	if p.TFLOPs = rate(l.FLOPs, ceilings.GFLOPs); p.TFLOPs != nil {
		*p.TFLOPs /= 1e3
	}
}

// sum adds the parts up by entry.
func (r *Profile) sum() {
	for _, p := range r.Parts {
		i := slices.IndexFunc(r.Sums, func(s PartSum) bool { return s.Entry == p.Entry })
		if i < 0 {
			i = len(r.Sums)
			r.Sums = append(r.Sums, PartSum{Entry: p.Entry})
		}
		r.Sums[i].Count++
		r.Sums[i].MS += p.MS
		r.PartsMS += p.MS
	}
	for i := range r.Sums {
		r.Sums[i].Share = r.Sums[i].MS / r.PartsMS
	}
	slices.SortStableFunc(r.Sums, func(x, y PartSum) int { return cmp.Compare(y.MS, x.MS) })
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
