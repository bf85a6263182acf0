// Package bench measures how fast kernels and steps are on this machine: `ctnas bench`, and our side of the comparison
// with PyTorch in scripts/peers.
package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/peak"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

// Case is one thing to measure.
type Case struct {
	Name, Shape string
	FLOPs       float64 // floating-point operations of one run; 0 where a number would say little
	Bytes       float64 // read and written from memory, where that is what bounds it; otherwise 0
	Cold        bool    // too long to be run for warming up
	Long        bool    // measured only where it is asked for by name
	Slow        bool    // likewise on the CPU
	// Setup prepares and returns the run.
	Setup func(ctx context.Context, e *Env) (run func() error, err error)
}

// Env is what cases work with. Close it after use.
type Env struct {
	Device exec.Config
	Open   func() (*table.Table, table.Query, error) // nil: there is no table
	Batch  int                                       // images of a network's batch; 0: those of the case

	copied int // floats that Ceilings copies on an accelerator
	dev    *exec.Device
	table  *table.Table
	query  table.Query
	list   *catalogue.Catalogue
	at     func(i int) space.Arch // of list
	runs   map[string]work
	last   *exec.Program   // what a case's Setup recorded, where it is a single program
	parts  []*exec.Program // what one of several runs
	moved  float64         // Bytes of a case whose size depends on the device
	worked float64         // FLOPs of one
	beside func() error    // what a case is compared with, which does the same work in another way
	close  []func()        // of the case that is being prepared
	shared []func()        // of what all cases share
}

// work is a prepared case.
type work struct {
	run     func() error
	program *exec.Program   // nil, or run is a run of it: then the device's own clock measures
	parts   []*exec.Program // nil, or run is a run of them, with what the host does between
	moved   float64
	worked  float64
	beside  func() error // nil: it is compared with nothing
	close   []func()
}

func (w work) free() {
	for _, f := range slices.Backward(w.close) {
		f()
	}
}

// ErrNoTable says that a case needs a table and there is none.
var ErrNoTable = errors.New("needs a table: --labels table:FILE")

func (e *Env) device() (*exec.Device, error) {
	if e.dev == nil {
		d, err := exec.Open(e.Device)
		if err != nil {
			return nil, err
		}
		e.dev = d
		e.shared = append(e.shared, d.Close)
		if e.copied == 0 {
			e.copied = 64 << 20 // 256 MiB: more than any cache
		}
	}
	return e.dev, nil
}

// batch is how many images a case takes that takes so many on the CPU, or on an accelerator.
func (e *Env) batch(cpu, accelerator int) int {
	switch {
	case e.Batch > 0:
		return e.Batch
	case e.dev.Accelerated():
		return accelerator
	}
	return cpu
}

// fill writes numbers in [-1, 1) into a buffer, the same few again and again: the host writes them once and the device
// copies, because writing whole tensors of a large batch takes longer than measuring.
func fill(b *exec.Buffer) {
	few := min(1<<16, b.Len())
	b.WriteF32(0, random(few, 1))
	whole := b
	if b.Half() {
		whole, few = b.AsF32(), few/2 // what is copied are words
	}
	ar := b.Device().NewArena()
	defer ar.Free()
	p := ar.NewProgram("fill").Once()
	for at := few; at < whole.Len(); at *= 2 {
		n := min(at, whole.Len()-at)
		peak.RecordCopy(p, whole.Slice(at, n), whole.Slice(0, n))
	}
	p.Run(1)
}

func (e *Env) labels() (*table.Table, error) {
	if e.table == nil {
		if e.Open == nil {
			return nil, ErrNoTable
		}
		t, q, err := e.Open()
		if err != nil {
			return nil, err
		}
		e.table, e.query = t, q
		e.shared = append(e.shared, func() { _ = t.Close() })
	}
	return e.table, nil
}

// whole is the table's architectures or, without a table, all of the space, prepared for a comparator.
func (e *Env) whole(ctx context.Context) (*catalogue.Catalogue, error) {
	if e.list != nil {
		return e.list, nil
	}
	if e.Open != nil {
		t, err := e.labels()
		if err != nil {
			return nil, err
		}
		e.list, e.at = catalogue.New(t.Space(), t, trees.Stored(t)), t.Arch
		return e.list, nil
	}
	nb := space.NASBench101{}
	archs, err := nb.All(ctx, nil)
	if err != nil {
		return nil, err
	}
	e.list, e.at = catalogue.New(nb, catalogue.NewList(archs), nil), func(i int) space.Arch { return archs[i] }
	return e.list, nil
}

// Close frees what the cases hold.
func (e *Env) Close() {
	for name := range e.runs {
		e.Release(name)
	}
	work{close: e.shared}.free()
	e.shared = nil
}

// Release frees what the case of a name was prepared with: not all cases' tensors fit into one GPU together.
func (e *Env) Release(name string) {
	w := e.runs[name]
	delete(e.runs, name)
	w.free()
}

// warmUp is how long a case runs before it is measured.
const warmUp = 200 * time.Millisecond

// Times runs a case and returns milliseconds, one a repeat. The first call of a case also prepares it and warms it up.
// Failures of an accelerator are errors.
func (e *Env) Times(ctx context.Context, c Case, repeats int) (times []float64, err error) {
	defer exec.Catch(&err)
	w, ready := e.runs[c.Name]
	if !ready {
		if w, err = e.prepare(ctx, c); err != nil {
			return nil, err
		}
		for begin := time.Now(); !c.Cold && time.Since(begin) < warmUp; {
			if err := w.run(); err != nil {
				return nil, err
			}
			e.sync()
		}
	}
	times = make([]float64, repeats)
	for i := range times {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if times[i], err = e.once(w); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// prepare sets a case up.
func (e *Env) prepare(ctx context.Context, c Case) (w work, err error) {
	e.last, e.parts, e.moved, e.worked, e.beside = nil, nil, 0, 0, nil
	defer func() {
		w.close, e.close = e.close, nil
		if e.runs[c.Name] = w; w.run == nil || err != nil {
			e.Release(c.Name)
		}
	}()
	if e.runs == nil {
		e.runs = map[string]work{}
	}
	if w.run, err = c.Setup(ctx, e); err != nil {
		return w, err
	}
	w.program, w.parts, w.moved, w.worked, w.beside = e.last, e.parts, e.moved, e.worked, e.beside
	return w, nil
}

// besides is Times of a case that is compared with something else, and how long that takes, in turns; nil without.
func (e *Env) besides(ctx context.Context, c Case, repeats int) (times, others []float64, err error) {
	beside := e.runs[c.Name].beside
	if beside == nil {
		times, err = e.Times(ctx, c, repeats)
		return times, nil, err
	}
	for range repeats {
		begin := time.Now()
		if err := beside(); err != nil {
			return nil, nil, err
		}
		others = append(others, float64(time.Since(begin).Nanoseconds())/1e6)
		one, err := e.Times(ctx, c, 1)
		if err != nil {
			return nil, nil, err
		}
		times = append(times, one...)
	}
	return times, others, nil
}

// Walls is Times by the clock on the wall, of single runs that are waited for, as PyTorch is measured; nil where Times
// measures so.
func (e *Env) Walls(ctx context.Context, c Case, repeats int) (times []float64, err error) {
	defer exec.Catch(&err)
	w := e.runs[c.Name]
	if w.program == nil || !e.dev.Accelerated() {
		return nil, nil
	}
	for range repeats {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e.sync()
		ms, err := e.wall(w)
		if err != nil {
			return nil, err
		}
		times = append(times, ms)
	}
	return times, nil
}

// once measures one run. On an accelerator a single program is so short that its launch would be measured: some follow
// each other.
func (e *Env) once(w work) (ms float64, err error) {
	if w.program != nil && e.dev.Accelerated() {
		const together = 20
		return w.program.Time(together) / together, nil
	}
	return e.wall(w)
}

// wall measures one run from its begin on the host until the device has ended.
func (e *Env) wall(w work) (ms float64, err error) {
	begin := time.Now()
	if err := w.run(); err != nil {
		return 0, err
	}
	e.sync()
	return float64(time.Since(begin).Nanoseconds()) / 1e6, nil
}

func (e *Env) sync() {
	if e.dev != nil {
		e.dev.Sync()
	}
}

// Ceilings are what this machine reaches at most.
type Ceilings struct {
	CopyGBps float64 `json:"copy_gbps"` // copying memory, read and written
	GFLOPs   float64 `json:"gflops"`    // multiply-adds in registers
}

// Ceilings measures them, each in a few tries of which the best counts. On an accelerator they are those of its
// precision: of float32 in registers, or of tensor cores.
func (e *Env) Ceilings() (c Ceilings, err error) {
	defer exec.Catch(&err)
	d, err := e.device()
	if err != nil {
		return c, err
	}
	ar := d.NewArena()
	defer ar.Free()
	arithmetic, copying := ar.NewProgram("peak"), ar.NewProgram("copy")
	record, tasks, rounds, size := peak.Record, 16*d.Threads(), 100_000, 0
	if d.Accelerated() {
		tasks, rounds, size = 4096, 10_000, e.copied
		if d.Precision() == exec.BF16 {
			record = peak.RecordBF16
		}
	}
	flops := record(arithmetic, ar.F32(tasks), rounds)
	best := func(p *exec.Program, work float64, tries int) float64 {
		rate := 0.0
		for range tries {
			rate = max(rate, work/p.Time(1)/1e6)
		}
		return rate
	}
	const tries = 20
	c.GFLOPs = best(arithmetic, flops, tries)
	if !d.Accelerated() {
		c.CopyGBps = CopyGBps(d.Threads())
		return c, nil
	}
	bytes := peak.RecordCopy(copying, ar.F32(size), ar.Floats(make([]float32, size)))
	c.CopyGBps = best(copying, bytes, tries)
	return c, nil
}

// Result is a measured case as --json prints it; what does not apply is null.
type Result struct {
	Name     string   `json:"name"`
	Shape    string   `json:"shape"`
	MedianMS float64  `json:"median_ms"`
	MinMS    float64  `json:"min_ms"`
	WallMS   *float64 `json:"wall_ms"` // median by the clock on the wall, where the others are by a GPU's clock
	Spread   float64  `json:"spread"`  // (third quartile - first quartile) / median
	Repeats  int      `json:"repeats"`
	GFLOPs   *float64 `json:"gflops"`
	GBps     *float64 `json:"gbps"`
	// The larger of the shares of both ceilings; above 1 where the data stay in the caches.
	CeilingShare *float64 `json:"ceiling_share"`
	// How long what the case is compared with takes, by how long the case does, in turns: above 1 the case is faster.
	Ratio   *float64 `json:"ratio"`
	Kernels []Kernel `json:"kernels,omitempty"`
}

// Kernel is a launch of a case's program on a GPU: what it needs of a multiprocessor.
type Kernel struct {
	Entry      string  `json:"entry"`
	Grid       [3]int  `json:"grid"`
	Block      int     `json:"block"`
	Registers  int     `json:"registers"`    // a thread
	Shared     int     `json:"shared_bytes"` // a block, static and dynamic
	LocalBytes int     `json:"local_bytes"`  // a thread: spilled registers among them
	Occupancy  float64 `json:"occupancy"`    // resident threads by the most that fit
}

// kernels lists what a program launches, each entry once; nothing on the CPU.
func (e *Env) kernels(p *exec.Program) []Kernel {
	var out []Kernel
	seen := map[string]bool{}
	for _, l := range p.Launches() {
		info, ok := e.dev.Inspect(l)
		if !ok || seen[l.Entry] {
			continue
		}
		seen[l.Entry] = true
		out = append(out, Kernel{l.Entry, l.Grid, l.Block, info.Registers, info.StaticShared + l.Shared,
			info.LocalBytes, info.Occupancy})
	}
	return out
}

// Measure runs a case for about the time given, at least 3 times.
func (e *Env) Measure(ctx context.Context, c Case, ceilings Ceilings, wanted time.Duration) (r Result, err error) {
	times, err := e.Times(ctx, c, 1)
	if err != nil {
		return Result{}, err
	}
	repeats := int(min(100_000, max(2, wanted.Seconds()*1000/max(times[0], 1e-3))))
	more, others, err := e.besides(ctx, c, repeats)
	if err != nil {
		return Result{}, err
	}
	times = append(times, more...)
	walls, err := e.Walls(ctx, c, min(repeats, 100))
	if err != nil {
		return Result{}, err
	}
	slices.Sort(times)
	middle := times[len(times)/2]
	r = Result{
		Name: c.Name, Shape: c.Shape, MedianMS: middle, MinMS: times[0], Repeats: len(times),
		Spread: (times[len(times)*3/4] - times[len(times)/4]) / middle,
	}
	if walls != nil {
		wall := median(walls)
		r.WallMS = &wall
	}
	if others != nil {
		ratio := median(others) / median(more)
		r.Ratio = &ratio
	}
	rate := func(work, ceiling float64) *float64 {
		if work == 0 {
			return nil
		}
		v := work / middle / 1e6
		if share := v / ceiling; ceiling > 0 && (r.CeilingShare == nil || share > *r.CeilingShare) {
			r.CeilingShare = &share
		}
		return &v
	}
	r.GFLOPs, r.GBps = rate(max(c.FLOPs, e.runs[c.Name].worked), ceilings.GFLOPs),
		rate(max(c.Bytes, e.runs[c.Name].moved), ceilings.CopyGBps)
	if p := e.runs[c.Name].program; p != nil {
		defer exec.Catch(&err)
		r.Kernels = e.kernels(p)
	}
	return r, nil
}

// CopyGBps is the bandwidth that copying memory reaches on one thread a copy, in 1e9 bytes read and written a second:
// the best of a few copies far larger than the caches.
func CopyGBps(threads int) float64 {
	const size = 64 << 20
	from, to := make([]byte, size*threads), make([]byte, size*threads)
	for i := range from {
		from[i] = byte(i)
	}
	best := 0.0
	for range 5 {
		done := make(chan struct{})
		begin := time.Now()
		for t := range threads {
			go func() {
				copy(to[t*size:(t+1)*size], from[t*size:(t+1)*size])
				done <- struct{}{}
			}()
		}
		for range threads {
			<-done
		}
		best = max(best, 2*float64(size*threads)/time.Since(begin).Seconds()/1e9)
	}
	return best
}

// answer is a line of Serve.
type answer struct {
	Name  string    `json:"name"`
	MS    []float64 `json:"ms,omitempty"`
	Wall  []float64 `json:"wall_ms,omitempty"` // beside those by a GPU's clock
	Error string    `json:"error,omitempty"`
}

// Serve answers lines `NAME REPEATS` with a line of JSON each, {"name":…,"ms":[…]} or {"name":…,"error":…}, until the
// input ends: the protocol of scripts/peers. Everything stays prepared between two lines.
func (e *Env) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		a := e.serve(ctx, lines.Text())
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", text); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (e *Env) serve(ctx context.Context, line string) answer {
	name, count, _ := strings.Cut(strings.TrimSpace(line), " ")
	a := answer{Name: name}
	repeats, err := strconv.Atoi(count)
	if err != nil || repeats < 1 || repeats > 1e6 {
		a.Error = fmt.Sprintf("%q: want a name and how often", line)
		return a
	}
	c, err := Named(name)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	if a.MS, err = e.Times(ctx, c, repeats); err == nil {
		a.Wall, err = e.Walls(ctx, c, repeats)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
