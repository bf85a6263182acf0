package latency

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Options say how a space is measured; Settings says what each is.
type Options struct {
	Device   exec.Config
	Batch    int
	Rounds   int
	Networks int
	Each     time.Duration
	Seed     uint64 // of the architectures and of their order
	Program  string // version, for the table's head

	Progress func(done, total int) // may be nil
}

// DefaultOptions are those of `ctnas latency measure`.
func DefaultOptions() Options {
	return Options{Batch: 1, Rounds: 10, Each: 300 * time.Millisecond, Networks: 20}
}

// Settings are the options that flags set.
func (o *Options) Settings() *setting.List {
	l := setting.New()
	l.Group("Measuring latencies")
	l.Int(&o.Batch, "batch", "images", "images a run", 1, 1<<12)
	l.Int(&o.Rounds, "repeats", "rounds", "rounds, in each of which every block is timed, in another network", 1, 1000)
	l.Duration(&o.Each, "time", "how long a network is timed in a round", 0, time.Minute)
	l.Int(&o.Networks, "networks", "networks", "random networks that are measured whole, to tell how far off the "+
		"sums are", 0, 1000)
	return l
}

// Check is how good a measurement is: how steady, and how far sums of parts are from networks that were measured whole.
type Check struct {
	Spread   float64 // distance of the quartiles by the median, of the middle part; not a number of one sample a part
	Overhead float64 // milliseconds that a section takes longer by itself than in the whole; the parts are without it
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

// Refuse is an error where sums are off, on average, by more than a share of what whole networks take. Where none was
// measured nothing is known.
func (c Check) Refuse(share float64) error {
	if len(c.Networks) == 0 || c.Mean <= share {
		return nil
	}
	return fmt.Errorf("sums of parts are off whole networks' times by %s, and --most-off allows %g %% on average: "+
		"nothing was written; --force writes it", c, 100*share)
}

// String says it in a line.
func (c Check) String() string {
	if len(c.Networks) == 0 {
		return "unknown: no network was measured whole"
	}
	tau := "unknown"
	if !math.IsNaN(c.TauB) {
		tau = fmt.Sprintf("%.3f", c.TauB)
	}
	return fmt.Sprintf("%.1f %% on average, %.1f %% in the median, bias %+.1f %%, tau-b %s, %d networks", 100*c.Mean,
		100*c.Median, 100*c.Bias, tau, len(c.Networks))
}

// Measure times every part of a space where it stands, in networks that have all of them, and, to judge the sums,
// random architectures whole. In each round other networks are set up, in a random order, so that a drifting clock and
// the place of tensors in memory spread over all parts.
func Measure(ctx context.Context, sp space.Measurable, o Options) (t *Table, check Check, err error) {
	defer exec.Catch(&err)
	if err := o.Settings().Check(); err != nil {
		return nil, check, fmt.Errorf("--%w", err)
	}
	device, err := exec.Open(o.Device)
	if err != nil {
		return nil, check, err
	}
	defer device.Close()
	clocks := newClocks(o.Device)
	begin := time.Now()

	draw := philox.New(o.Seed, philox.PurposeSample, 0)
	var judged []space.Arch
	for range o.Networks {
		judged = append(judged, sp.Sample(draw))
	}
	wholes := make([][]float64, len(judged))      // milliseconds
	samples := make([][]float64, len(sp.Parts())) // of each part, likewise
	var overheads []float64                       // of a section, likewise
	for round := range o.Rounds {
		clocks.look()
		archs := append(slices.Clone(judged), sp.Cover(draw)...)
		for done, i := range draw.Perm(len(archs)) {
			if err := ctx.Err(); err != nil {
				return nil, check, err
			}
			// A network that is only judged is timed in every third round: the median of a few is enough.
			if every := min(judgedEvery, o.Rounds); i >= len(judged) || (i+round)%every == 0 {
				v, err := o.visit(device, sp, archs[i])
				if err != nil {
					return nil, check, fmt.Errorf("%s: %w", archs[i], err)
				}
				if i < len(judged) {
					wholes[i] = append(wholes[i], v.whole)
				} else {
					sum := 0.0
					for k, part := range v.part {
						samples[part] = append(samples[part], v.section[k])
						sum += v.section[k]
					}
					overheads = append(overheads, (sum-v.whole)/float64(len(v.part)))
				}
			}
			if o.Progress != nil {
				o.Progress(round*len(archs)+done+1, o.Rounds*len(archs))
			}
		}
	}
	clocks.look()

	t, check, err = tabulate(sp, samples, max(0, stat.Median(overheads)), judged, wholes)
	if err != nil {
		return nil, check, err
	}
	t.describe(sp, device, o, clocks, check, begin)
	return t, check, nil
}

// tabulate makes a table of the times of parts without what a part takes longer by itself than in the whole, and judges
// it by whole networks. All are in milliseconds.
func tabulate(sp space.Composed, samples [][]float64, overhead float64, judged []space.Arch, wholes [][]float64) (
	t *Table, check Check, err error) {
	t = &Table{}
	var spreads []float64
	for i, name := range sp.Parts() {
		if len(samples[i]) == 0 {
			return nil, check, fmt.Errorf("part %s was in no network", name)
		}
		slices.Sort(samples[i])
		at := func(q float64) float64 { return max(0, quantile(samples[i], q)-math.Round(1e6*overhead)/1e6) }
		p := Part{Name: name, MS: at(0.5), First: at(0.25), Third: at(0.75), Samples: len(samples[i])}
		t.Parts = append(t.Parts, p)
		if p.Samples > 1 {
			spreads = append(spreads, (p.Third-p.First)/max(p.MS, 1e-6))
		}
	}
	check.Spread, check.Overhead = stat.Median(spreads), overhead
	err = check.judge(sp, t, judged, wholes)
	return t, check, err
}

// judgedEvery is in which rounds a network that is only judged is timed.
const judgedEvery = 3

// visit is what was measured of one network, in milliseconds.
type visit struct {
	whole   float64
	section []float64
	part    []int
}

// visit sets a network up, warms it up and times it, in sections and whole in turn: medians over what fits into the
// time that was given.
func (o Options) visit(device *exec.Device, sp space.Measurable, a space.Arch) (v visit, err error) {
	net, section, part, err := sp.Dissect(a)
	if err != nil {
		return v, err
	}
	m, err := trainer.NewModel(device, net, trainer.Options{Batch: o.Batch, EvalOnly: true})
	if err != nil {
		return v, err
	}
	defer m.Close()
	m.Initialize(nn.TorchDefault, o.Seed) // quicker to draw than normal ones; time does not depend on the values
	s := philox.New(o.Seed, philox.PurposeEvaluate, 0)
	images := make([]float32, m.Images.Len())
	for i := range images {
		images[i] = float32(s.NormFloat64())
	}
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, make([]int32, o.Batch))
	sections, err := m.Sections(section)
	if err != nil {
		return v, err
	}
	if sections.Len() != len(part) {
		return v, fmt.Errorf("%d sections of %d parts", sections.Len(), len(part))
	}
	const warmups, least = 2, 3
	ms := make([]float64, len(part))
	each := make([][]float64, len(part))
	var wholes []float64
	for n, spent := 0, 0.0; n < warmups+least || spent < 1000*o.Each.Seconds(); n++ {
		sections.Times(ms)
		whole := m.EvaluationTime(1)
		if n < warmups {
			continue
		}
		spent += 2 * whole
		wholes = append(wholes, whole)
		for k := range ms {
			each[k] = append(each[k], ms[k])
		}
	}
	v = visit{whole: stat.Median(wholes), part: part}
	for _, times := range each {
		v.section = append(v.section, stat.Median(times))
	}
	return v, nil
}

// judge compares sums with networks that were measured whole.
func (c *Check) judge(sp space.Composed, t *Table, archs []space.Arch, wholes [][]float64) error {
	times, err := t.timesOf(sp)
	if err != nil {
		return err
	}
	var predicted, measured, off, signs []float64
	for i, a := range archs {
		sum, known := times.Of(a)
		if !known {
			return fmt.Errorf("%s has parts that its space does not list", a)
		}
		w := Whole{Arch: a.String(), Predicted: float64(sum) / 1e6, Measured: stat.Median(wholes[i])}
		c.Networks = append(c.Networks, w)
		predicted, measured = append(predicted, w.Predicted), append(measured, w.Measured)
		signs = append(signs, w.Predicted/w.Measured-1)
		off = append(off, math.Abs(w.Predicted/w.Measured-1))
	}
	c.Mean, c.Median, c.Bias, c.TauB = stat.Mean(off), stat.Median(off), stat.Mean(signs),
		stat.KendallB(predicted, measured)
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
