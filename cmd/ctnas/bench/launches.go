package bench

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Launch is a kernel that a case's program launches on a GPU; what is not known is null.
type Launch struct {
	Program string   `json:"program"`
	File    string   `json:"file"`
	Entry   string   `json:"entry"`
	Grid    [3]int   `json:"grid"`
	Block   int      `json:"block"`
	Shared  int      `json:"shared_bytes"` // dynamic
	Bytes   *float64 `json:"bytes"`        // read and written, each tensor once
	FLOPs   *float64 `json:"flops"`        // of products and convolutions
	Issued  *float64 `json:"issued_flops"` // with those of the tiles' padding
}

// Blocks is the size of the grid.
func (l Launch) Blocks() int { return l.Grid[0] * l.Grid[1] * l.Grid[2] }

// Launches lists what the case of a name launches in a run on an H100 or H200, which need not be there: its programs
// are recorded and not run. batch is that of its network, 0 as it is measured.
func Launches(ctx context.Context, name string, precision exec.Precision, batch int) (list []Launch, err error) {
	defer exec.Catch(&err)
	c, err := Named(name)
	if err != nil {
		return nil, err
	}
	d := exec.OpenRecorder(precision)
	e := &Env{Batch: batch, dev: d, shared: []func(){d.Close}}
	defer e.Close()
	w, err := e.prepare(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	programs, err := w.programs(name)
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		list = append(list, launches(p)...)
	}
	return list, nil
}

// Named is the case of a name.
func Named(name string) (Case, error) {
	for _, c := range Cases() {
		if c.Name == name {
			return c, nil
		}
	}
	return Case{}, fmt.Errorf("no case is named %q: see ctnas bench --filter", name)
}

// programs are what a prepared case runs on the device, where that is all it does.
func (w work) programs(name string) ([]*exec.Program, error) {
	switch {
	case w.program != nil:
		return []*exec.Program{w.program}, nil
	case w.parts != nil:
		return w.parts, nil
	}
	return nil, fmt.Errorf("%s runs more than recorded programs: single operations, nac_step_released_512 and train_* "+
		"run nothing else, on a GPU controller_iteration neither", name)
}

// launches lists what a program launches.
func launches(p *exec.Program) []Launch {
	known := func(v float64) *float64 {
		if v == 0 {
			return nil
		}
		return &v
	}
	list := make([]Launch, len(p.Launches()))
	for i, l := range p.Launches() {
		w := p.Work()[i]
		list[i] = Launch{p.Name, l.File, l.Entry, l.Grid, l.Block, l.Shared, known(w.Bytes), known(w.FLOPs),
			known(w.Issued)}
	}
	return list
}
