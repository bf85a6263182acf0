package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/space"
)

func newLatencyCommand(a *app) *cobra.Command {
	return group("latency", "Measure how long architectures take on a device",
		`  ctnas latency measure --space mobilenetv3 --device cpu -o cpu.csv
  ctnas latency info cpu.csv`, newLatencyMeasureCommand(a), newLatencyInfoCommand(a))
}

func newLatencyMeasureCommand(a *app) *cobra.Command {
	spaceName, output := "mobilenetv3", ""
	o := latency.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "measure --space SPACE --device DEVICE -o TABLE.csv",
		Short: "Time every block of a space and write a table of latencies",
		Long: `Times the evaluation of every block that an architecture of the space may have on --device, with this
program's kernels: where it stands, in networks that have all of them between them, other ones in every
round, with median and quartiles. An architecture's latency is the sum over its blocks. Random whole
networks are measured too: how far their sums are off is printed and stands in the table, as do device,
driver, clock and version. A table that was changed or cut off is refused.

The numbers are those of one batch, with this device, number of threads and precision, and of this program:
another runtime has others. Tables for those, and for spaces from files, are written by hand: a CSV file
with the columns part and ms (docs/latency.md). Other programs that run at the same time make them worse.`,
		Example: `  ctnas latency measure --space mobilenetv3 --device cpu -o cpu.csv
  ctnas latency measure --space mobilenetv3@w1.2 --device cuda:0 --precision bf16 --batch 64 -o gpu.csv
  ctnas search --space mobilenetv3 --labels predictor:ofa_acc_predictor.f32 --latency cpu.csv \
      --max-latency 12ms --budget 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sp, err := openSpace(spaceName)
			if err != nil {
				return err
			}
			measurable, ok := sp.(space.Measurable)
			if !ok {
				return usagef("--space %s: this program can run the blocks of %s only; a table for a space from a "+
					"file is written by hand, see docs/latency.md", spaceName,
					strings.Join(space.NamesOf[space.Measurable](), ", "))
			}
			if info, err := os.Stat(output); err == nil && info.IsDir() {
				return usagef("--out %s: a folder", output)
			}
			if _, err := os.Stat(filepath.Dir(output)); err != nil { // better now than when all is measured
				return usagef("--out %s: %w", output, err)
			}
			dev, err := a.openOne()
			if err != nil {
				return err
			}
			build := thisBuild()
			o.Device, o.Seed, o.Program = dev.Config, a.seed, fmt.Sprintf("ctnas %s, commit %s", build.Version,
				build.Commit)
			var finish func()
			o.Progress, finish = a.progress("measure")
			begin := time.Now()
			t, check, err := latency.Measure(cmd.Context(), measurable, o)
			finish()
			if err != nil {
				return err
			}
			if err := t.Write(output); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(newLatencyDocument(t, &check))
			}
			fmt.Fprintf(a.stdout, "%d parts of %s in %.0f s: %s\n", len(t.Parts), sp.Name(),
				time.Since(begin).Seconds(), output)
			if math.IsNaN(check.Spread) {
				fmt.Fprintf(a.stdout,
					"spread unknown: one sample a part says nothing of it, take more with --repeats\n")
			} else {
				fmt.Fprintf(a.stdout,
					"spread %.1f %% (distance of the quartiles by the median, of the middle part); above 15 %% other "+
						"work ran meanwhile: measure again on a quiet machine\n", 100*check.Spread)
			}
			if o.Networks > 0 {
				fmt.Fprintf(a.stdout, "sums of parts beside whole networks: off by %s\n", check)
			}
			return nil
		},
	}
	l := o.Settings()
	l.Text(&spaceName, "space", "search `space`, with width and resolutions: mobilenetv3@w1.2,r160-224")
	l.Text(&output, "out", "the `file` to write").Short("o")
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

// latencyDocument is a table of latencies for --json.
type latencyDocument struct {
	Signed bool              `json:"signed"`
	Facts  []latencyFact     `json:"facts"`
	Parts  []latencyPart     `json:"parts"`
	Error  *latencyError     `json:"error,omitempty"` // of a measurement
	Archs  []latencyOfAnArch `json:"architectures,omitempty"`
}

type latencyFact struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type latencyPart struct {
	Part    string   `json:"part"`
	MS      float64  `json:"ms"`
	First   *float64 `json:"q1_ms"` // null where the table does not say them, or one sample has none
	Third   *float64 `json:"q3_ms"`
	Samples *int     `json:"samples"`
}

type latencyError struct {
	Spread   stat.Number `json:"spread"`
	Networks int         `json:"networks"`
	Mean     stat.Number `json:"mean"`
	Median   stat.Number `json:"median"`
	Bias     stat.Number `json:"bias"`
	TauB     stat.Number `json:"tau_b"`
}

type latencyOfAnArch struct {
	Arch string  `json:"arch"`
	MS   float64 `json:"latency_ms"`
}

func newLatencyDocument(t *latency.Table, check *latency.Check) latencyDocument {
	d := latencyDocument{Signed: t.Signed, Facts: []latencyFact{}}
	for _, f := range t.Facts {
		d.Facts = append(d.Facts, latencyFact(f))
	}
	for _, p := range t.Parts {
		part := latencyPart{Part: p.Name, MS: p.MS}
		if p.Measured() {
			part.First, part.Third = &p.First, &p.Third
		}
		if p.Samples > 0 {
			part.Samples = &p.Samples
		}
		d.Parts = append(d.Parts, part)
	}
	if check != nil {
		d.Error = &latencyError{stat.Number(check.Spread), len(check.Networks), stat.Number(check.Mean),
			stat.Number(check.Median), stat.Number(check.Bias), stat.Number(check.TauB)}
	}
	return d
}

func newLatencyInfoCommand(a *app) *cobra.Command {
	var spaceName string
	cmd := &cobra.Command{
		Use:   "info TABLE.csv [ARCH|RUN...]",
		Short: "Check a table of latencies, say what it is of, and sum it up for architectures",
		Long: `Reads a table, which fails where it is not whole, and prints its head and its slowest parts. With --space
it is checked that every block of the space is there, and the latencies of the architectures named are
printed, among them the pick of a search's folder RUN, and the architecture of a training's.`,
		Example: `  ctnas latency info cpu.csv
  ctnas latency info cpu.csv --space mobilenetv3 mobilenetv3:22222:33003300330033003300:33003300330033003300`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := latency.Read(args[0])
			if err != nil {
				return err
			}
			d := newLatencyDocument(t, nil)
			for i, text := range args[1:] {
				c, err := choose(text)
				if err != nil {
					return err
				}
				args[1+i] = c.Arch
				if c.What != "" && spaceName == "" {
					x, err := space.Find(c.Arch)
					if err != nil {
						return err
					}
					spaceName = space.Narrow(x)
				}
			}
			if spaceName == "" && len(args) > 1 {
				return usagef("architectures, and no --space")
			}
			if spaceName != "" {
				if d.Archs, err = latencies(t, spaceName, args[1:]); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(d)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			if !t.Signed {
				fmt.Fprintf(w, "unsigned\tnothing says what the times are of\n")
			}
			for _, f := range t.Facts {
				fmt.Fprintf(w, "%s\t%s\n", f.Key, f.Value)
			}
			fmt.Fprintf(w, "parts\t%d\n", len(t.Parts))
			for _, p := range t.Slowest(5) {
				quartiles := "quartiles unknown"
				if p.Measured() {
					quartiles = fmt.Sprintf("quartiles %.4f to %.4f", p.First, p.Third)
				}
				fmt.Fprintf(w, "slowest\t%s %.4f ms (%s)\n", p.Name, p.MS, quartiles)
			}
			for _, x := range d.Archs {
				fmt.Fprintf(w, "latency\t%.4f ms: %s\n", x.MS, x.Arch)
			}
			return w.Flush()
		},
	}
	l := setting.New()
	l.Group("Latency")
	l.Text(&spaceName, "space", "search `space` whose blocks must all be there")
	a.bind(cmd, l)
	return cmd
}

// latencies sums a table up for architectures of a space.
func latencies(t *latency.Table, spaceName string, archs []string) (out []latencyOfAnArch, err error) {
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	times, err := t.For(sp)
	if err != nil {
		return nil, err
	}
	for _, text := range archs {
		x, err := sp.Parse(text)
		if err != nil {
			return nil, err
		}
		ms := times.Milliseconds(x)
		if ms == nil {
			return nil, fmt.Errorf("%s is not of the width and the resolutions of %s, of which the times are", x,
				sp.Name())
		}
		out = append(out, latencyOfAnArch{x.String(), *ms})
	}
	return out, nil
}

// openLatency opens the table of --latency for a space and says what it is of; nil where none is named.
func (a *app) openLatency(path string, sp space.Space) (*latency.Model, error) {
	if path == "" {
		return nil, nil
	}
	m, err := latency.Open(path, sp)
	if err == nil && !a.quiet && !a.json {
		fmt.Fprintf(a.stderr, "latencies: %s\n", m.Table)
	}
	return m, err
}
