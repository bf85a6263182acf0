package latency

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Options say how a space is measured.
type Options struct {
	Device   exec.Config
	Batch    int           // images a run
	Rounds   int           // how often every part is set up, warmed up and timed
	Networks int           // random architectures that are measured whole, to tell how far off the sums are
	Each     time.Duration // how long a part is timed in a round, after half as long for warming up
	Seed     uint64        // of the architectures and of the order in a round
	Program  string        // version, for the table's head

	Progress func(done, total int) // may be nil
}

// Check tells what is wrong with the options, by the names of flags.
func (o Options) Check() error {
	switch {
	case o.Batch < 1 || o.Batch > 1<<12:
		return fmt.Errorf("--batch %d: want 1..%d", o.Batch, 1<<12)
	case o.Rounds < 1 || o.Rounds > 1000:
		return fmt.Errorf("--repeats %d: want 1..1000", o.Rounds)
	case o.Networks < 0 || o.Networks > 1000:
		return fmt.Errorf("--networks %d: want 0..1000", o.Networks)
	case o.Each < 0 || o.Each > time.Minute:
		return fmt.Errorf("--time %v: want 0s..1m", o.Each)
	}
	return nil
}

// Check is how good a measurement is: how steady, and how far sums of parts are from networks that were measured whole.
type Check struct {
	Spread   float64 // distance of the quartiles by the median, of the middle part
	Networks []Whole
	Mean     float64 // relative error, without sign
	Median   float64
	Bias     float64 // relative error, with sign: above 0 the sums are too large
	TauB     float64 // between sums and measured; not a number of fewer than two networks
}

// Whole is a network that was measured.
type Whole struct {
	Arch                string
	Predicted, Measured float64 // milliseconds
}

// String says it in a line.
func (c Check) String() string {
	return fmt.Sprintf("%.1f %% on average, %.1f %% in the median, bias %+.1f %%, tau-b %.3f, %d networks", 100*c.Mean, 100*c.Median, 100*c.Bias, c.TauB, len(c.Networks))
}

// run is a network that is timed.
type run struct {
	net     *nn.Network
	samples []float64 // milliseconds, one a round
}

// Measure times every part of a space and, to judge the sums, random architectures. In each round all of them are set up anew in another order, so that a drifting
// clock and the place of tensors in memory spread over all.
func Measure(ctx context.Context, sp space.Measurable, o Options) (t *Table, check Check, err error) {
	defer exec.Catch(&err)
	if err := o.Check(); err != nil {
		return nil, check, err
	}
	device, err := exec.Open(o.Device)
	if err != nil {
		return nil, check, err
	}
	defer device.Close()

	var runs []*run
	add := func(net *nn.Network) int {
		runs = append(runs, &run{net: net})
		return len(runs) - 1
	}
	names := sp.Parts()
	part, tail := make([]int, len(names)), make([]int, len(names)) // indices into runs; of no tail -1
	tails := map[nn.Shape]int{}                                    // by what they read
	for i := range names {
		net, behind, err := sp.PartNetwork(i)
		if err != nil {
			return nil, check, fmt.Errorf("part %s: %w", names[i], err)
		}
		part[i], tail[i] = add(net), -1
		if behind == nil {
			continue
		}
		at, known := tails[behind.Input()]
		if !known {
			at = add(behind)
			tails[behind.Input()] = at
		}
		tail[i] = at
	}
	var archs []space.Arch
	draw := philox.New(o.Seed, philox.PurposeSample, 0)
	for range o.Networks {
		a := sp.Sample(draw)
		net, err := sp.WholeNetwork(a)
		if err != nil {
			return nil, check, fmt.Errorf("%s: %w", a, err)
		}
		archs = append(archs, a)
		add(net)
	}

	clocks := newClocks(o.Device)
	clocks.look()
	begin := time.Now()
	order := philox.New(o.Seed, philox.PurposeEvaluate, 0)
	done := 0
	for range o.Rounds {
		for _, i := range order.Perm(len(runs)) {
			if err := ctx.Err(); err != nil {
				return nil, check, err
			}
			ms, err := o.time(device, runs[i].net)
			if err != nil {
				return nil, check, err
			}
			runs[i].samples = append(runs[i].samples, ms)
			if done++; o.Progress != nil {
				o.Progress(done, o.Rounds*len(runs))
			}
		}
		clocks.look()
	}

	t = &Table{}
	var spreads []float64
	for i, name := range names {
		samples := slices.Clone(runs[part[i]].samples)
		if tail[i] >= 0 {
			for k, ms := range runs[tail[i]].samples {
				samples[k] = max(0, samples[k]-ms)
			}
		}
		slices.Sort(samples)
		p := Part{Name: name, MS: quantile(samples, 0.5), First: quantile(samples, 0.25), Third: quantile(samples, 0.75), Rounds: o.Rounds}
		t.Parts = append(t.Parts, p)
		if p.MS > 0 {
			spreads = append(spreads, (p.Third-p.First)/p.MS)
		}
	}
	check.Spread = stat.Median(spreads)
	if err := check.judge(sp, t, archs, runs[len(runs)-len(archs):]); err != nil {
		return nil, check, err
	}
	t.describe(sp, device, o, clocks, check, begin)
	return t, check, nil
}

// time sets a network up, warms it up and returns how long an evaluation takes: the median over what fits into the time that was given.
func (o Options) time(device *exec.Device, net *nn.Network) (ms float64, err error) {
	m, err := trainer.NewModel(device, net, trainer.Options{Batch: o.Batch, EvalOnly: true})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	m.Initialize(nn.HeFanOut, o.Seed)
	s := philox.New(o.Seed, philox.PurposeEvaluate, 1)
	images := make([]float32, m.Images.Len())
	for i := range images {
		images[i] = float32(s.NormFloat64())
	}
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, make([]int32, o.Batch))
	const (
		least    = 3   // timings
		together = 0.5 // milliseconds: shorter runs are timed some in a row
	)
	once := m.EvaluationTime(1)
	for spent := 0.0; spent < 500*o.Each.Seconds(); spent += once {
		once = m.EvaluationTime(1)
	}
	row := 1 + int(min(1000, together/max(once, 1e-6)))
	var times []float64
	for spent := 0.0; len(times) < least || spent < 1000*o.Each.Seconds(); {
		ms := m.EvaluationTime(row)
		spent += ms
		times = append(times, ms/float64(row))
	}
	return stat.Median(times), nil
}

// judge compares sums with networks that were measured whole.
func (c *Check) judge(sp space.Composed, t *Table, archs []space.Arch, runs []*run) error {
	ns := make([]int64, len(t.Parts))
	for i, p := range t.Parts {
		ns[i] = space.Nanoseconds(p.MS)
	}
	times, err := space.NewTimes(sp, ns)
	if err != nil {
		return err
	}
	var predicted, measured, off, signs []float64
	for i, a := range archs {
		sum, known := times.Of(a)
		if !known {
			return fmt.Errorf("%s has parts that its space does not list", a)
		}
		w := Whole{Arch: a.String(), Predicted: float64(sum) / 1e6, Measured: stat.Median(runs[i].samples)}
		c.Networks = append(c.Networks, w)
		predicted, measured = append(predicted, w.Predicted), append(measured, w.Measured)
		signs = append(signs, w.Predicted/w.Measured-1)
		off = append(off, math.Abs(w.Predicted/w.Measured-1))
	}
	c.Mean, c.Median, c.Bias, c.TauB = stat.Mean(off), stat.Median(off), stat.Mean(signs), stat.KendallB(predicted, measured)
	return nil
}

// quantile is that of ascending numbers, in whole nanoseconds of milliseconds as a table says them.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	v := sorted[i]
	if i+1 < len(sorted) {
		v += (at - float64(i)) * (sorted[i+1] - v)
	}
	return math.Round(1e6*v) / 1e6
}
