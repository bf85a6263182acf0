package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/cmd/ctnas/bench"
	"github.com/ctnas/ctnas/kernels/exec"
)

// benchPass measures cases one after the other and says each as it is measured.
type benchPass struct {
	*app
	env      *bench.Env
	dev      device
	ceilings bench.Ceilings
	lines    *os.File // JSON lines go there too; nil: nowhere
	wanted   time.Duration
}

// machine is what all figures of a pass were measured on.
type machine struct {
	Device   string         `json:"device"`
	ISA      string         `json:"isa"`
	Threads  int            `json:"threads"`
	Ceilings bench.Ceilings `json:"ceilings"`
}

func (p *benchPass) machine() machine {
	return machine{p.dev.name, p.dev.level, p.dev.threads, p.ceilings}
}

// failure is a case that could not be measured.
type failure struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// line appends a value to the file of lines.
func (p *benchPass) line(v any) error {
	if p.lines == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := p.lines.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("--lines: %w", err)
	}
	return nil
}

// print is Fprintf to stdout where a person reads it.
func (p *benchPass) print(format string, values ...any) {
	if !p.json {
		fmt.Fprintf(p.stdout, format, values...)
	}
}

// head prints and writes the machine.
func (p *benchPass) head() error {
	p.print("%s, %s, %d threads: at most %.0f GFLOP/s, %.1f GB/s\n", p.dev.name, p.dev.level, p.dev.threads,
		p.ceilings.GFLOPs, p.ceilings.CopyGBps)
	return p.line(p.machine())
}

// run measures the cases. The error names those that failed, or it is that of a pass that was cut off.
func (p *benchPass) run(ctx context.Context, cases []bench.Case) error {
	if err := p.head(); err != nil {
		return err
	}
	width := 0
	for _, c := range cases {
		width = max(width, len(c.Name))
	}
	p.print("%-*s  %10s  %10s  %10s  %6s  %8s  %7s  %7s  %5s  %s\n", width, "name", "median ms", "min ms", "wall ms",
		"spread", "GFLOP/s", "GB/s", "ceiling", "ratio", "shape")
	results, failed, tables := []bench.Result{}, []failure{}, 0
	for _, c := range cases {
		r, err := p.env.Measure(ctx, c, p.ceilings, p.wanted)
		p.env.Release(c.Name)
		switch {
		case errors.Is(err, bench.ErrNoTable):
			tables++
			continue
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			f := failure{c.Name, err.Error()}
			failed = append(failed, f)
			p.print("%-*s  failed: %v\n", width, c.Name, err)
			if err := p.line(f); err != nil {
				return err
			}
			continue
		}
		results = append(results, r)
		if err := p.line(r); err != nil {
			return err
		}
		wall, ratio := "–", "–"
		if r.WallMS != nil {
			wall = fmt.Sprintf("%.4g", *r.WallMS)
		}
		if r.Ratio != nil {
			ratio = fmt.Sprintf("%.2f", *r.Ratio)
		}
		p.print("%-*s  %10s  %10s  %10s  %6s  %8s  %7s  %7s  %5s  %s\n", width, r.Name,
			fmt.Sprintf("%.4g", r.MedianMS), fmt.Sprintf("%.4g", r.MinMS), wall, percent(&r.Spread),
			optional(r.GFLOPs), optional(r.GBps), percent(r.CeilingShare), ratio, r.Shape)
		for _, k := range r.Kernels {
			p.print("    %s: %d registers, %.1f KiB shared, %d bytes local, occupancy %s\n", k.Entry, k.Registers,
				float64(k.Shared)/1024, k.LocalBytes, percent(&k.Occupancy))
		}
	}
	if p.json {
		err := p.printJSON(struct {
			machine
			Results []bench.Result `json:"results"`
			Failed  []failure      `json:"failed"`
		}{p.machine(), results, failed})
		if err != nil {
			return err
		}
	}
	if tables > 0 {
		p.print("%d more with --labels table:FILE, a table of the whole space\n", tables)
	}
	if len(failed) > 0 {
		names := make([]string, len(failed))
		for i, f := range failed {
			names[i] = f.Name
		}
		return fmt.Errorf("%d of %d cases failed: %s; the first: %s", len(failed), len(cases),
			strings.Join(names, ", "), failed[0].Error)
	}
	return nil
}

// Fewest and most runs of a profile.
const fewestProfiles, mostProfiles = 3, 1000

// profile prints where a case's time goes.
func (p *benchPass) profile(ctx context.Context, name string) error {
	c, err := bench.Named(name)
	if err != nil {
		return usagef("--profile: %w", err)
	}
	if err := p.head(); err != nil {
		return err
	}
	once, err := p.env.Times(ctx, c, 1)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	repeats := int(p.wanted.Seconds() * 1000 / max(once[0], 1e-3))
	r, err := p.env.Profile(ctx, c, p.ceilings, min(max(repeats, fewestProfiles), mostProfiles))
	if err != nil {
		return err
	}
	if err := p.line(r); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			machine
			bench.Profile
		}{p.machine(), r})
	}
	p.print("%9s  %-32s  %-16s  %8s  %8s  %7s\n", "ms", "entry", "grid", "GB/s", "TFLOP/s", "ceiling")
	slices.SortStableFunc(r.Parts, func(x, y bench.Part) int { return cmp.Compare(y.MS, x.MS) })
	for _, part := range r.Parts {
		grid := "–"
		if part.Grid != nil {
			grid = fmt.Sprintf("%dx%dx%d", part.Grid[0], part.Grid[1], part.Grid[2])
		}
		p.print("%9.4f  %-32s  %-16s  %8s  %8s  %7s\n", part.MS, part.Entry, grid, optional(part.GBps),
			optional(part.TFLOPs), percent(part.CeilingShare))
	}
	p.print("\n%9s  %6s  %5s  %s\n", "ms", "share", "count", "entry")
	for _, s := range r.Sums {
		p.print("%9.4f  %6s  %5d  %s\n", s.MS, percent(&s.Share), s.Count, s.Entry)
	}
	p.print("\n%s: %.4g ms a run by the clock on the wall, %.4g ms in %d parts (medians of %d runs)\n", r.Name,
		r.StepMS, r.PartsMS, len(r.Parts), r.Repeats)
	return nil
}

// listLaunches prints what a case launches: all of it as JSON, or sums by entry.
func (a *app) listLaunches(ctx context.Context, name string, batch int) error {
	list, err := bench.Launches(ctx, name, exec.Precision(a.precision), batch)
	if err != nil {
		return usagef("--launches: %w", err)
	}
	if a.json {
		return a.printJSON(struct {
			Name      string         `json:"name"`
			Precision string         `json:"precision"`
			Launches  []bench.Launch `json:"launches"`
		}{name, a.precision, list})
	}
	type sum struct {
		program, entry string
		launches       int
		few            int // with fewer blocks than an H100 has multiprocessors
	}
	const multiprocessors = 132
	var sums []*sum
	total := map[string]int{}
	for _, l := range list {
		i := slices.IndexFunc(sums, func(s *sum) bool { return s.program == l.Program && s.entry == l.Entry })
		if i < 0 {
			i = len(sums)
			sums = append(sums, &sum{program: l.Program, entry: l.Entry})
		}
		total[l.Program]++
		if sums[i].launches++; l.Blocks() < multiprocessors {
			sums[i].few++
		}
	}
	slices.SortStableFunc(sums, func(x, y *sum) int { return cmp.Compare(y.launches, x.launches) })
	fmt.Fprintf(a.stdout, "%-32s  %8s  %s\n", "entry", "launches", "of fewer blocks than an H100 has multiprocessors")
	for _, s := range sums {
		fmt.Fprintf(a.stdout, "%-32s  %8d  %d\n", s.entry, s.launches, s.few)
	}
	for _, program := range slices.Sorted(maps.Keys(total)) {
		fmt.Fprintf(a.stdout, "%s: %d launches\n", program, total[program])
	}
	return nil
}

func optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *v)
}

func percent(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", *v*100)
}
