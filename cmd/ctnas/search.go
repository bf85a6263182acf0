package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	_ "github.com/ctnas/ctnas/search/method"          // registers methods
	_ "github.com/ctnas/ctnas/search/method/ctnas"    // another one
	_ "github.com/ctnas/ctnas/search/method/oneshot"  // others
	_ "github.com/ctnas/ctnas/search/method/released" // another one
	"github.com/ctnas/ctnas/search/report"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// searchSettings are those of a search as flags, with the registered methods.
func searchSettings(c *search.Config) *setting.List {
	l := c.Settings()
	l.Lookup("method").OneOf(searchrun.Names()...)
	return l
}

// searchConfig is the preset's settings with the flags that were given.
func searchConfig(f *pflag.FlagSet) (search.Config, error) {
	preset := f.Lookup("preset").Value.String()
	if f.Lookup("method").Value.String() == search.ReleasedName && !f.Changed("preset") {
		preset = search.PresetReleased // a method's own settings
	}
	c, err := search.Preset(preset)
	if err != nil {
		return c, usagef("--preset: %w", err)
	}
	name := f.Lookup("space").Value.String()
	sp, err := openSpace(name)
	if err != nil {
		return c, err
	}
	c.For(name, sp)
	return c, c.Settings().Take(f, nil)
}

func newSearchCommand(a *app) *cobra.Command {
	var resume string
	var given search.Config
	cmd := &cobra.Command{
		Use:   "search --labels table:FILE --budget N --out DIR",
		Short: "Search an architecture within a budget of labels",
		Long: `Searches an architecture: a comparator learns from labelled architectures which of two is the better, a
controller learns to beat a baseline that improves as it does, and what they propose is labelled, until the
budget is spent. The pick is the best label.

--out DIR (a new folder below runs, named by space, method, budget and seed, if it is not given) then holds
result.json, ledger.jsonl (every label), log.jsonl and TensorBoard events, report.html, and checkpoints: a
search that was stopped, even with kill -9, goes on with --resume DIR and ends in the same result. What
labels come from may have moved: --resume DIR --labels NEW goes on where it says the same as before, and is
refused where not; the space's file and latencies are those that the folder keeps. Of every method no label
is bought twice. With --resume DIR --budget N a search, finished or not, is given more labels than it had:
it spends those first as it would have, then goes on.

` + labelsLong,
		Example: `  ctnas search --space nasbench101 --labels table:nb101.ctt --budget 423 --seed 1 --out runs/a
  ctnas search --labels table:nb101.ctt --budget 150 --max-params 9M --out runs/small
  ctnas search --labels table:nb101.ctt --propose controller --out runs/proper
  ctnas search --space mobilenetv3 --labels predictor:ofa_acc_predictor.f32 --budget 200 \
      --latency cpu.csv --max-latency 12ms --pareto --pareto-cost latency
  ctnas search --space nasbench101-v5 --labels 'train:shapes?recipe=shapes&stop=median' --budget 60 \
      --init 20 --per-round 10 --out runs/own
  ctnas search --labels 'train:imagenet:DIR?recipe=proxy' --space mobilenetv3 --budget 400 --farm 10.0.0.5:7420
  ctnas search --resume runs/a
  ctnas search --resume runs/a --budget 600`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.searchOf(cmd.Flags(), resume)
			if err != nil {
				return err
			}
			if a.out == "" {
				a.out = newOut(c)
			}
			result, err := a.search(cmd, c)
			if errors.Is(err, searchrun.ErrInterrupted) {
				fmt.Fprintf(a.stderr, "A checkpoint is written; go on with: ctnas search --resume %s\n", quoted(a.out))
			}
			if err != nil {
				return err
			}
			if result.Finished {
				fmt.Fprintf(a.stderr, "%s is a finished search: nothing was changed\n", a.out)
			}
			if a.json {
				return a.printJSON(result)
			}
			return a.printSearch(result, c.Pareto || !slices.Contains(space.Costs, c.ParetoCost))
		},
	}
	given, _ = search.Preset(search.PresetDefault) // the name is one of its own
	a.bind(cmd, searchSettings(&given))
	cmd.Flags().StringVar(&resume, "resume", "", "go on with the search in this `folder`")
	return cmd
}

// searchOf is the search of the flags, or with --resume that of the folder, which becomes the run's.
func (a *app) searchOf(f *pflag.FlagSet, resume string) (search.Config, error) {
	if resume != "" {
		return a.resumedSearch(f, resume)
	}
	c, err := searchConfig(f)
	if err == nil {
		if m, wrong := searchrun.For(c); wrong != nil {
			err = usagef("%w", wrong)
		} else if c.Labels == "" && !searchrun.IsUnlabelled(m) {
			err = usagef(`required flag(s) "labels" not set`)
		}
	}
	if err == nil && a.out != "" {
		err = checkOut(a.out)
	}
	return c, err
}

// resumedSearch is the search that a folder holds, with what of it the line may say again, the method, or otherwise.
func (a *app) resumedSearch(f *pflag.FlagSet, dir string) (search.Config, error) {
	if err := a.mayResume(new(search.Config).Settings()); err != nil {
		return search.Config{}, err
	}
	a.out, a.resumes = dir, true
	c, err := search.LoadConfig(dir)
	if err != nil {
		return c, err
	}
	if err := a.computeWhere(dir, f); err != nil {
		return c, err
	}
	before := c
	if err := c.Settings().Take(f, func(name string) bool { return a.onLine[name] }); err != nil {
		return c, usagef("--%w", err)
	}
	switch {
	case c.Method != before.Method:
		return c, usagef("--method %s: %s is a search with %s, which the folder says", c.Method, dir, before.Method)
	case c.Budget < before.Budget:
		return c, usagef("--budget %d: %s has %d labels to spend; it can be given more, not less", c.Budget, dir,
			before.Budget)
	case c.Budget > before.Budget:
		c.Before = before.Budgets()
	}
	if a.onLine["labels"] { // what they say is compared with what they said
		a.moved = map[string]string{"labels": before.Labels}
	}
	if c.Latency != "" { // the folder's copy is what the search began with
		c.Latency = filepath.Join(dir, report.LatencyName)
	}
	return c, nil
}

// folderName is a space's name without what a folder's should not have: of a file its name.
func folderName(space string) string {
	path, ok := strings.CutPrefix(space, "file:")
	if ok {
		return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return space
}

// newOut names a folder that does not exist yet.
func newOut(c search.Config) string {
	base := filepath.Join("runs", fmt.Sprintf("%s-%s-%d-seed%d", folderName(c.Space), c.Method, c.Budget, c.Seed))
	if unlabelled(c) {
		base = filepath.Join("runs", fmt.Sprintf("%s-%s-seed%d", folderName(c.Space), c.Method, c.Seed))
	}
	dir := base
	for n := 2; ; n++ {
		if _, err := os.Stat(dir); err != nil {
			return dir
		}
		dir = fmt.Sprintf("%s-%d", base, n)
	}
}

// checkOut refuses a folder that holds something else than a run.
func checkOut(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, search.ConfigName)); err == nil {
		return nil
	}
	return refuseOther(dir, "run")
}

// refuseOther refuses a folder that is not empty, for it is not that of a run or comparison. Names with a leading dot
// do not count: the lock's is one, and a killed run may leave some.
func refuseOther(dir, what string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("--out: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			return usagef("--out %s: the folder is not empty and holds no %s", dir, what)
		}
	}
	return nil
}

// runFacts is the block run: of config.yaml.
type runFacts struct {
	Command  string `yaml:"command"`
	Version  string `yaml:"version"`
	Commit   string `yaml:"commit"`
	Modified bool   `yaml:"modified"`
	Go       string `yaml:"go"`
	Platform string `yaml:"platform"`
	Device   string `yaml:"device"`
	ISA      string `yaml:"isa"`
	Threads  int    `yaml:"threads"`
	Labels   string `yaml:"labels"` // which accuracy
	Checksum string `yaml:"checksum"`
	Content  string `yaml:"content_checksum,omitempty"` // of what labels say, wherever they come from
	Images   string `yaml:"data_checksum,omitempty"`    // of the images that are trained on
	Out      string `yaml:"out"`
}

// keptSpace is the copy of a space's file in the folder of a run that goes on, wherever the file is by now; a space
// without a file is the one that is named.
func (a *app) keptSpace(name string) string {
	copied := filepath.Join(a.out, report.SpaceName)
	if !strings.HasPrefix(name, "file:") || !a.resumes {
		return name
	}
	if _, err := os.Stat(copied); err != nil {
		return name
	}
	return "file:" + copied
}

// search runs it, or reads the result of a folder whose search has ended.
func (a *app) search(cmd *cobra.Command, c search.Config) (*searchrun.Result, error) {
	if a.resumes { // what a search that has ended stood on may be gone
		if result, err := a.endedSearch(c); err != nil || result != nil {
			return result, err
		}
	}
	dev, err := a.openDevice()
	if err != nil {
		return nil, err
	}
	listed := c.Propose != search.ProposeController
	farm, err := a.openFarm(dev, a.out)
	if err != nil {
		return nil, err
	}
	defer farm.finish()
	o := farm.with(a.labelOptions(dev, c.Making, listed))
	o.Metric, o.Measures = c.Metric, c.Measures(c.Metric)
	l, err := a.searchLabels(cmd.Context(), c, o)
	if a.resumes && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; if what labels come from has moved, say where it is now with --labels", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	times, err := a.openLatency(c.Latency, l.Space)
	if err != nil {
		return nil, err
	}
	if err := labelsError(c.Settings().Absolute()); err != nil {
		return nil, err
	}
	build := thisBuild()
	d := searchrun.Deps{
		Space: l.Space, Source: l.Source, Checksum: l.Content, Images: l.Images, All: catalogue.OfLabels(l),
		Device: dev.Config, Latency: times, Dir: a.out,
		Stale: func(from *files.Holder) { a.takenOver(a.out, from) },
		Program: searchrun.Program{Version: build.Version, Command: a.commandLine(), Settings: a.where(dev),
			Facts: runFacts{
				a.commandLine(), build.Version, build.Commit, build.Modified, build.Go, build.Platform, dev.name,
				dev.level, dev.threads, l.Source.Describe(), l.Checksum, l.Content, l.Images, a.out,
			}},
	}
	d.Differing = farm.differing
	a.live.search(a.out, farm.look)
	if a.moved != nil {
		d.Moved = map[string]string{"labels": c.Labels, "labels_before": a.moved["labels"]}
	}
	var finish func()
	if d.Progress, finish = a.searchProgress(l.Source.Facts()); unlabelled(c) {
		d.Progress, finish = a.unlabelledProgress()
		d.Supernets, d.All = a.supernets(), nil
	}
	defer finish()
	if err := errors.Join(sameImages(a.out, l.Images), sameLabels(a.out, l)); err != nil {
		return nil, err
	}
	result, err := searchrun.Do(cmd.Context(), c, d)
	if err != nil {
		return nil, err
	}
	return result, farm.end(cmd.Context())
}

// endedSearch is the result of the folder that --resume names where its search has ended and is given no more budget,
// nil where it goes on. Reading takes no lock; the page that a kill kept from being written does.
func (a *app) endedSearch(c search.Config) (*searchrun.Result, error) {
	result, err := searchrun.Finished(a.out, c)
	if err != nil || result == nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(a.out, report.PageName)); !errors.Is(err, fs.ErrNotExist) {
		return result, err
	}
	unlock, err := a.lockFolder(a.out)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return result, searchrun.CompletePage(a.out)
}

// searchProgress shows labels bought, the best of them and what goes on: a bar on a terminal, in a pipe a line for
// every twentieth of them.
func (a *app) searchProgress(f ledger.Facts) (update func(searchrun.Progress), finish func()) {
	best := func(p searchrun.Progress, digits int) string {
		switch {
		case p.Labels == 0:
			return "no label yet"
		case !p.Fits:
			return "none within the bounds yet"
		case f.Predicted():
			return fmt.Sprintf("best predicted score %.*f", digits+2, p.Best)
		case f.Direction != "":
			return fmt.Sprintf("best %s %s", f.Metric, quantity(p.Best, f.Unit))
		}
		return fmt.Sprintf("best %.*f %%", digits, p.Best*100)
	}
	switch {
	case a.quiet || a.json:
		return nil, func() {}
	case !onTerminal(a.stderr):
		labels, times := 0, clock{}
		return func(p searchrun.Progress) {
			passed := times.of(p.Recalled, p.Labels, p.Budget)
			if p.Labels >= labels+max(1, p.Budget/20) || p.Labels > labels && p.Labels == p.Budget {
				labels = p.Labels
				fmt.Fprintf(a.stderr, "round %d: %d of %d labels, %s, %s\n", p.Round, p.Labels, p.Budget, best(p, 4),
					passed)
			}
		}, func() {}
	}
	var mu sync.Mutex
	stage, known := "", searchrun.Progress{}
	var times clock
	bars, wait := a.newBars(40)
	bar := bars.AddBar(0, mpb.PrependDecorators(decor.Name("labels "), decor.CountersNoUnit("%d / %d ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			mu.Lock()
			defer mu.Unlock()
			if stage == "" {
				return ""
			}
			return stage + ", " + times.of(known.Recalled, known.Labels, known.Budget)
		})))
	return func(p searchrun.Progress) {
			mu.Lock()
			known = p
			times.of(p.Recalled, p.Labels, p.Budget)
			stage = fmt.Sprintf(" %s  round %d: %s", best(p, 2), p.Round, p.Stage)
			if p.Total > 0 {
				stage += fmt.Sprintf(" %d/%d", p.Done, p.Total)
			}
			mu.Unlock()
			bar.SetTotal(int64(p.Budget), false)
			bar.SetCurrent(int64(p.Labels))
		}, func() {
			bar.Abort(false)
			wait()
		}
}

// printSearch is the result for people, with the front of accuracy and cost where that was looked for.
func (a *app) printSearch(r *searchrun.Result, front bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if r.Shared != nil {
		fmt.Fprintf(w, "labels\tnone were asked for; %d architectures were measured with shared weights\n",
			r.Shared.Measured)
		fmt.Fprintf(w, "judged by\t%s\n", r.Labels)
	} else {
		fmt.Fprintf(w, "labels\t%d, %s\n", r.LabelsUsed, r.Labels)
	}
	if r.ImagesForward > 0 {
		fmt.Fprintf(w, "images\t%d forward through networks with shared weights\n", r.ImagesForward)
	}
	if len(r.Budgets) > 1 {
		fmt.Fprintf(w, "budgets\t%s: each was spent as if it were all\n",
			strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Budgets), " ", ", then "), "[]"))
	}
	fmt.Fprintf(w, "pick\t%s\n", r.Pick)
	i := slices.IndexFunc(r.Architectures, func(x report.Architecture) bool { return x.Arch == r.Pick })
	if i >= 0 {
		x := r.Architectures[i]
		switch {
		case x.Predicted:
			fmt.Fprintf(w, "predicted score\t%.6f (of %s; no accuracy was measured)\n", *r.PickAccuracy, r.Predictor)
		case r.Metric != nil:
			fmt.Fprintf(w, "%s\t%s\n", r.Metric.Name, strings.Join(slices.DeleteFunc([]string{
				quantity(*r.PickValue, r.Metric.Unit), x.Note}, func(s string) bool { return s == "" }), "; "))
		default:
			fmt.Fprintf(w, "accuracy\t%.4f %% (%s)\n", *r.PickAccuracy*100,
				strings.Join(slices.DeleteFunc([]string{x.AccuracySource, x.Note},
					func(s string) bool { return s == "" }), "; "))
		}
		for _, name := range slices.Sorted(maps.Keys(x.Metrics)) {
			fmt.Fprintf(w, "%s\t%s\n", name, quantity(x.Metrics[name], ""))
		}
		if x.Judged != nil && *x.Judged != *r.PickAccuracy {
			fmt.Fprintf(w, "judged\t%.4f %%\n", *x.Judged*100)
		}
		if x.Rank > 0 {
			fmt.Fprintf(w, "true rank\t%d of %d\n", x.Rank, r.Ranked)
		}
		fmt.Fprintf(w, "MAdds\t%s\nparameters\t%s\n", count(x.MAdds), count(x.Params))
		if r.Network != nil {
			fmt.Fprintf(w, "\tof the network that the label is of: %s\n", r.Network)
		} else if x.SpaceMAdds != nil || x.SpaceParams != nil {
			fmt.Fprintf(w, "\tof the network that the label is of, as the table says\n")
		}
		if x.SpaceMAdds != nil || x.SpaceParams != nil {
			fmt.Fprintf(w, "full network\t%s MAdds, %s parameters: the space's own, which has no label\n",
				count(x.SpaceMAdds), count(x.SpaceParams))
		}
		if x.LatencyMS != nil {
			of := ""
			if r.Network != nil {
				of = ", of the space's own network"
			}
			fmt.Fprintf(w, "latency\t%.3f ms, the sum of its parts%s\n", *x.LatencyMS, of)
		}
	}
	if s := r.Shared; s != nil && s.Over > 0 {
		fmt.Fprintf(w, "tau-b\t%s over %d architectures of the whole space, of parameters %s", tauText(s.TauB), s.Over,
			tauText(s.TauBParams))
		if s.PoolOver > 0 {
			fmt.Fprintf(w, "; %s over the %d that the supernet itself selected", tauText(s.PoolTauB), s.PoolOver)
		}
		fmt.Fprintln(w)
	}
	if s := r.Shared; s != nil && s.Outside != nil {
		fmt.Fprintf(w, "drawn\t%d by the weights of the mixture, %d of them outside of the space\n", s.Drawn,
			*s.Outside)
	}
	if r.Controller != nil {
		c := r.Controller
		fmt.Fprintf(w, "controller\tmean true percentile of its samples (0 = best): %s, %s\n",
			percentile(c.First, c.FirstKnown, "at first"), percentile(c.Last, c.LastKnown, "at last"))
	}
	// The labelled ones stand first; of the others the comparator's favourite is what the search would pick without a
	// label.
	if i := slices.IndexFunc(r.Architectures, func(x report.Architecture) bool {
		return x.Accuracy == nil && x.Value == nil
	}); i >= 0 {
		x := r.Architectures[i]
		fmt.Fprintf(w, "best unlabelled\t%s, predicted rank %s of %d (by the comparator)", x.Arch,
			count(x.PredictedRank), r.PredictedAmong)
		if x.Rank > 0 {
			fmt.Fprintf(w, ", true rank %d", x.Rank)
		}
		fmt.Fprintln(w)
	}
	for _, x := range r.Suggestions[:min(len(r.Suggestions), suggestionsShown)] {
		fmt.Fprintf(w, "measure next\t%s, beats the pick with probability %s\n", x.Arch, probability(x.Probability))
	}
	if front {
		for _, text := range r.Pareto {
			if i := slices.IndexFunc(r.Architectures, func(x report.Architecture) bool {
				return x.Arch == text
			}); i >= 0 {
				x := r.Architectures[i]
				latency := ""
				if x.LatencyMS != nil {
					latency = fmt.Sprintf(", %.3f ms", *x.LatencyMS)
				}
				value := ""
				switch {
				case r.Metric != nil:
					value = r.Metric.Name + " " + quantity(*x.Value, r.Metric.Unit)
				case x.Predicted:
					value = fmt.Sprintf("predicted score %.6f", *x.Accuracy)
				default:
					value = fmt.Sprintf("%.4f %%", *x.Accuracy*100)
				}
				for _, name := range slices.Sorted(maps.Keys(x.Metrics)) {
					latency += ", " + name + " " + quantity(x.Metrics[name], "")
				}
				fmt.Fprintf(w, "front\t%s at %s MAdds, %s parameters%s: %s\n", value, count(x.MAdds), count(x.Params),
					latency, text)
			}
		}
	}
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	fmt.Fprintf(w, "written\t%s with %s, %s, %s\n", a.out, report.PageName, report.ResultName, report.LedgerName)
	return w.Flush()
}

// quantity is a measured number of any size with its unit.
func quantity(v float64, unit string) string {
	return strings.TrimSpace(strconv.FormatFloat(v, 'g', 6, 64) + " " + unit)
}

// suggestionsShown is how many suggestions a search's summary has; result.json has them all.
const suggestionsShown = 3

// probability is one with two digits, or the word for one that nobody knows.
func probability(p *float64) string {
	if p == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*p, 'f', 2, 64)
}

// count is a whole number, or the word for one that nobody knows.
func count[T int | int64](n *T) string {
	if n == nil {
		return "unknown"
	}
	return strconv.FormatInt(int64(*n), 10)
}

// percentile says a mean with the number of samples that it rests on.
func percentile(mean *float64, samples int, when string) string {
	if mean == nil {
		return "unknown " + when + " (the table has none of them)"
	}
	return fmt.Sprintf("%.1f %s (%d samples)", *mean, when, samples)
}
