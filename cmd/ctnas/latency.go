package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/command"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/space"
)

func newLatencyCommand(a *app) *cobra.Command {
	return group("latency", "Measure how long architectures take on a device",
		`  ctnas latency measure --space mobilenetv3 --device cpu -o cpu.csv
  ctnas latency measure --space mobilenetv3 --runtime 'exec:python3 ms.py {onnx}' -o phone.csv
  ctnas latency collect --space mobilenetv3 -o blocks
  ctnas latency import blocks times.csv -o phone.csv
  ctnas latency info cpu.csv`, newLatencyMeasureCommand(a), newLatencyCollectCommand(a),
		newLatencyImportCommand(a), newLatencyInfoCommand(a))
}

// measurable opens a space whose networks can be cut into blocks.
func measurable(name string) (space.Measurable, error) {
	sp, err := openSpace(name)
	if err != nil {
		return nil, err
	}
	m, ok := sp.(space.Measurable)
	if !ok {
		return nil, usagef("--space %s: blocks are known of %s only; a table for a space from a file is written by "+
			"hand, see docs/latency.md", name, strings.Join(space.NamesOf[space.Measurable](), ", "))
	}
	return m, nil
}

// newFile finds out whether a file can be written, before all is measured.
func newFile(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return usagef("--out %s: a folder", path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return usagef("--out %s: %w", path, err)
	}
	return nil
}

// newFolder refuses a folder that holds something.
func newFolder(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("--out: %w", err)
	}
	if len(entries) > 0 {
		return usagef("--out %s: the folder is not empty: %s", path, held(path))
	}
	return nil
}

// accepting says how far off a table's sums may be.
type accepting struct {
	mostOff float64
	force   bool
}

func (x *accepting) addTo(l *setting.List) {
	x.mostOff = 0.25
	l.Group("Measuring latencies")
	l.Float(&x.mostOff, "most-off", "", "share of whole networks' times that sums of blocks may be off by, on "+
		"average; a table that is worse is not written", 0, 10)
	l.Bool(&x.force, "force", "write a table whatever its sums are off by")
}

// write writes a table whose sums are near enough, and says what there is to say of it.
func (x *accepting) write(a *app, t *latency.Table, check latency.Check, path string, took time.Duration) error {
	if err := check.Refuse(x.mostOff); err != nil && !x.force {
		return err
	}
	if err := t.Write(path); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(newLatencyDocument(t, &check))
	}
	fmt.Fprintf(a.stdout, "%d parts of %s", len(t.Parts), t.Fact("space"))
	if took > 0 {
		fmt.Fprintf(a.stdout, " in %.0f s", took.Seconds())
	}
	fmt.Fprintf(a.stdout, ": %s\n", path)
	if math.IsNaN(check.Spread) {
		fmt.Fprintf(a.stdout, "spread unknown: one sample a part says nothing of it, take more\n")
	} else {
		fmt.Fprintf(a.stdout, "spread %.1f %% (distance of the quartiles by the median, of the middle part); above "+
			"15 %% other work ran meanwhile: measure again on a quiet machine\n", 100*check.Spread)
	}
	_, err := fmt.Fprintf(a.stdout, "sums of parts beside whole networks: off by %s\n", check)
	return err
}

func newLatencyMeasureCommand(a *app) *cobra.Command {
	spaceName, output, runtime := "mobilenetv3", "", ""
	o := latency.DefaultOptions()
	var accept accepting
	cmd := &cobra.Command{
		Use:   "measure --space SPACE --device DEVICE -o TABLE.csv",
		Short: "Time every block of a space and write a table of latencies",
		Long: `Times the evaluation of every block that an architecture of the space may have on --device, with this
program's kernels: where it stands, in networks that have all of them between them, other ones in every
round, with median and quartiles. An architecture's latency is the sum over its blocks. Random whole
networks are measured too: how far their sums are off is printed and stands in the table, as do device,
driver, clock and version. A table that was changed or cut off is refused.

The numbers are those of one batch, with this device, number of threads and precision, and of this program:
another runtime has others. --runtime 'exec:COMMAND {onnx}' has it time the blocks, each as an ONNX file by
itself, once a round: the last line that the command prints is the milliseconds of a run, a number or
{"ms": 1.25}. {batch} is --batch. Devices that it cannot reach from here: ctnas latency collect and import.
Tables for spaces from files are written by hand: a CSV file with the columns part and ms
(docs/latency.md). Other programs that run at the same time make them worse.`,
		Example: `  ctnas latency measure --space mobilenetv3 --device cpu -o cpu.csv
  ctnas latency measure --space mobilenetv3@w1.2 --device cuda:0 --precision bf16 --batch 64 -o gpu.csv
  ctnas latency measure --space mobilenetv3 --repeats 3 -o ort.csv \
      --runtime 'exec:python3 docs/examples/latency/onnxruntime_ms.py {onnx} {batch}'
  ctnas search --space mobilenetv3 --labels predictor:ofa_acc_predictor.f32 --latency cpu.csv \
      --max-latency 12ms --budget 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sp, err := measurable(spaceName)
			if err == nil {
				err = newFile(output)
			}
			if err != nil {
				return err
			}
			build := thisBuild()
			o.Seed, o.Program = a.seed, fmt.Sprintf("ctnas %s, commit %s", build.Version, build.Commit)
			begin := time.Now()
			var t *latency.Table
			var check latency.Check
			if runtime != "" {
				t, check, err = a.timeElsewhere(cmd.Context(), sp, o, runtime, begin)
			} else {
				var dev device
				if dev, err = a.openOne(); err != nil {
					return err
				}
				var finish func()
				o.Device = dev.Config
				o.Progress, finish = a.progress("measure")
				t, check, err = latency.Measure(cmd.Context(), sp, o)
				finish()
			}
			if err != nil {
				return err
			}
			return accept.write(a, t, check, output, time.Since(begin))
		},
	}
	l := o.Settings()
	l.Text(&spaceName, "space", "search `space`, with width and resolutions: mobilenetv3@w1.2,r160-224")
	l.Text(&runtime, "runtime", "have another program time the blocks: exec: and a `command`, with {onnx} for a "+
		"block's file")
	l.Text(&output, "out", "the `file` to write").Short("o")
	accept.addTo(l)
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

// timeElsewhere has a command time the blocks of a space, as files that are there meanwhile.
func (a *app) timeElsewhere(ctx context.Context, sp space.Measurable, o latency.Options, runtime string,
	now time.Time) (t *latency.Table, check latency.Check, err error) {
	tool, err := command.ParseTool(runtime, latency.HeldONNX, latency.HeldBatch)
	if err != nil {
		return nil, check, usagef("--runtime: %w", err)
	}
	for _, name := range []string{"device", "precision", "threads", "time"} {
		if a.onLine[name] {
			return nil, check, usagef("--%s: with --runtime that is the command's business", name)
		}
	}
	dir, err := os.MkdirTemp("", "ctnas-latency-")
	if err != nil {
		return nil, check, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m, err := latency.Collect(ctx, sp, o, dir)
	if err != nil {
		return nil, check, err
	}
	var finish func()
	o.Progress, finish = a.progress("measure")
	defer finish()
	s, err := latency.TimeFiles(ctx, dir, m, tool, o)
	if err != nil {
		return nil, check, err
	}
	return latency.Compose(sp, m, s, tool.Command, o.Program, now)
}

func newLatencyCollectCommand(a *app) *cobra.Command {
	spaceName, dir := "mobilenetv3", ""
	o := latency.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "collect --space SPACE -o DIR",
		Short: "Write every block of a space as an ONNX file, to be timed on another device",
		Long: `Writes an ONNX file for every block that an architecture of the space may have, cut out of networks, and
for some random networks whole, which tell how far off sums of blocks are. manifest.json says of each file what
it is, its inputs (without the batch) and its SHA-256. Weights are random; batch norms are folded.

Time them with whatever program the networks will run in, and write the milliseconds down as CSV, with the
columns file and ms, a row a run; ctnas latency import makes a table of it. Where the program runs here,
ctnas latency measure --runtime does all of it.`,
		Example: `  ctnas latency collect --space mobilenetv3@w1.0,r224 -o blocks
  ctnas latency import blocks times.csv --of "Pixel 8, TFLite" -o pixel.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sp, err := measurable(spaceName)
			if err == nil {
				err = newFolder(dir)
			}
			if err != nil {
				return err
			}
			build := thisBuild()
			o.Seed, o.Program = a.seed, fmt.Sprintf("ctnas %s, commit %s", build.Version, build.Commit)
			var finish func()
			o.Progress, finish = a.progress("blocks")
			m, err := latency.Collect(cmd.Context(), sp, o, dir)
			finish()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(m)
			}
			_, err = fmt.Fprintf(a.stdout, "%d parts of %s and %d networks: %s\n", len(m.Files)-o.Networks, sp.Name(),
				o.Networks, filepath.Join(dir, latency.ManifestName))
			return err
		},
	}
	l := o.Settings().Only("batch", "networks")
	l.Text(&spaceName, "space", "search `space`, with width and resolutions: mobilenetv3@w1.2,r160-224")
	l.Text(&dir, "out", "the `folder` to write, new or empty").Short("o")
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

func newLatencyImportCommand(a *app) *cobra.Command {
	var output, of string
	var accept accepting
	cmd := &cobra.Command{
		Use:   "import DIR TIMES.csv -o TABLE.csv",
		Short: "Make a table of latencies of the times of another program",
		Long: `Makes a table of the times of the files that ctnas latency collect has written into DIR: a CSV file with
the columns file and ms, a row a run, of which medians and quartiles are taken. A column sha256 is compared with
the manifest. What a block takes longer by itself than in a network, the median over the networks that were
timed, is divided among its blocks and taken off. A table whose sums are further off whole networks' times than
--most-off is not written without --force.`,
		Example: `  ctnas latency import blocks times.csv --of "Pixel 8, TFLite 2.16, 4 threads" -o pixel.csv`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := latency.ReadManifest(args[0])
			if err != nil {
				return err
			}
			sp, err := measurable(m.Space)
			if err == nil {
				err = newFile(output)
			}
			if err != nil {
				return err
			}
			s, err := latency.ReadTimes(args[1], m)
			if err != nil {
				return err
			}
			build := thisBuild()
			t, check, err := latency.Compose(sp, m, s, of, fmt.Sprintf("ctnas %s, commit %s", build.Version,
				build.Commit), time.Now())
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			return accept.write(a, t, check, output, 0)
		},
	}
	l := setting.New()
	l.Group("Measuring latencies")
	l.Text(&of, "of", "what the times are of, in `words`: device, program, threads")
	l.Text(&output, "out", "the `file` to write").Short("o")
	accept.addTo(l)
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
