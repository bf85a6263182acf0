package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/compare"
	"github.com/ctnas/ctnas/search/labels"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

const formatJSON = "json"

// compareFlags are the flags of `ctnas compare`.
type compareFlags struct {
	space, labels, judge, preset, propose, format string
	methods, set                                  []string
	against                                       string
	budget, seeds, jobs                           int
	seed                                          uint64
	ablations                                     bool
	search.Bounds
	search.Making
	search.SharedWeights
}

// settings are all of them.
func (o *compareFlags) settings() *setting.List {
	l := setting.New()
	l.Group("Comparison")
	search.SpaceSetting(l, &o.space)
	search.LabelsSetting(l, &o.labels)
	search.JudgeSetting(l, &o.judge)
	l.Words(&o.methods, "methods", "methods to compare")
	l.Bool(&o.ablations, "ablations", "compare CTNAS with itself without its parts; --methods is not used")
	l.Int(&o.budget, "budget", "labels", "labels that each method may buy", search.MinimumInitial, 1<<24)
	l.Uint64(&o.seed, "seed", "", "the first seed")
	l.Int(&o.seeds, "seeds", "seeds", "how many seeds: --seed and those that follow it", 1, 1<<20)
	l.Text(&o.against, "against", "the `method` that the others are tested against, by Wilcoxon's signed-rank test "+
		"over the seeds; empty: ctnas where it is among them, otherwise the first")
	l.Int(&o.jobs, "jobs", "runs", "runs that go on side by side, each with its part of the threads: of methods that "+
		"ask for labels, on a table", 1, 1024)
	search.PresetSetting(l, &o.preset, "settings of ctnas and network of the predictors")
	l.Text(&o.propose, "propose", "who proposes ctnas's candidates; with controller no method ranks the "+
		"enumerated space").
		OneOf(search.ProposeController, search.ProposeSpace, search.ProposeAuto)
	o.AddLimits(l)
	l.Group("Comparison")
	l.Text(&o.format, "format", "how tables are written; --json is --format json").
		OneOf(compare.FormatTable, compare.FormatCSV, formatJSON, compare.FormatMarkdown).Unkept()
	l.Texts(&o.set, "set", "change a setting of ctnas, `key=value` with the names of search's flags and _ for -; "+
		"for experiments, may be repeated")
	o.Making.AddTo(l)
	o.SharedWeights.AddTo(l)
	return l
}

func newCompareCommand(a *app) *cobra.Command {
	o := compareFlags{space: defaultSpace, preset: search.PresetDefault, propose: search.ProposeAuto,
		format: compare.FormatTable, methods: compare.Methods(), budget: 423, seed: defaultSeed, seeds: 10, jobs: 1,
		Making: search.DefaultMaking(), SharedWeights: search.DefaultSharedWeights()}
	cmd := &cobra.Command{
		Use:   "compare --labels table:FILE --methods random,ctnas",
		Short: "Run methods side by side with the same number of labels",
		Long: `Runs methods side by side on a table, each with the same number of labels, once a seed, and prints what
the paper's table 1 prints, with the paper's own numbers in a table of their own below. Every method picks
the best label it bought. Its rank is 1 + the number of better architectures.

` + searchrun.About(searchrun.Names()) + `
With --ablations it runs CTNAS itself, then with the predicted
performance as reward, with a fixed baseline, and without data exploration, and prints 95 % intervals over
the seeds (Student's t). Candidates then come from the controller (--propose controller) unless told
otherwise: where the whole space is ranked, the controller decides little.

Where labels are predicted, what is called accuracy in JSON is a predicted score of "predictor", and tables
say so (docs/searching.md).

Methods that ask for no labels train a supernet on --supernet-data, whatever --labels are: these judge what they
pick. Tau-b is then over a sample of the whole space; that of the parameter count stands beside, for shared weights
that rank worse have learned nothing of use.

With --out DIR every finished run is kept there with its ledger, and a comparison that was stopped goes on when it
is started again, in the middle of a supernet's training too. The folder then has report.html of all, with curves of
the best so far, and what a paper takes: curves.csv and curves.svg, table.tex and table.md, comparison.json.

The others are tested against one method (--against): Wilcoxon's signed-rank test of the accuracies that judge,
paired by seed, with Holm's correction. Fewer than six seeds cannot differ by it, and are not said to.

` + labelsLong + `

Picks of labels that are trained for are compared by the test accuracy of their own trainings; ranks are not known.`,
		Example: `  ctnas compare --space nasbench101 --labels table:nb101.ctt \
      --methods random,regression,renas,evolution,ctnas --budget 423 --seeds 10
  ctnas compare --labels table:nb101.ctt --budget 150 --format markdown --out runs/compare150
  ctnas compare --labels table:nb101.ctt --ablations --seeds 10 --json
  ctnas compare --space nasbench101 --labels supernet:runs/super --judge table:nb101.ctt \
      --methods random,spos-evolution,ctnas --budget 150
  ctnas compare --space nasbench101 --labels table:nb101.ctt --methods spos,fairnas,enas,darts,fbnet,ctnas \
      --supernet-data cifar10:DIR --out runs/oneshot`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.compare(cmd, o) },
	}
	a.bind(cmd, o.settings())
	_ = cmd.MarkFlagRequired("labels") // fails only for a flag that does not exist
	return cmd
}

// variants are the methods to run.
func (o *compareFlags) variants(cmd *cobra.Command) ([]compare.Variant, error) {
	c, err := search.Preset(o.preset)
	if err != nil {
		return nil, usagef("--preset: %w", err)
	}
	sp, err := openSpace(o.space)
	if err != nil {
		return nil, err
	}
	c.For(o.space, sp)
	if err := applySettings(o.set, &c); err != nil {
		return nil, err
	}
	c.Budget, c.MaxMAdds, c.MaxParams = o.budget, o.MaxMAdds, o.MaxParams
	c.Latency, c.MaxLatency = o.Latency, o.MaxLatency
	c.SharedWeights = o.SharedWeights
	if c.SupernetData, err = data.Absolute(o.SupernetData); o.SupernetData != "" && err != nil {
		return nil, usagef("--supernet-data: %w", err)
	}
	if (o.ablations || o.preset != search.PresetDefault) && !cmd.Flags().Changed("propose") {
		o.propose = search.ProposeController
	}
	c.Propose = o.propose
	list := compare.Ablations(c)
	if !o.ablations {
		list = nil
		for _, name := range o.methods {
			c := c
			c.Method = strings.TrimSpace(name)
			if _, err := searchrun.Open(c.Method); err != nil {
				return nil, usagef("--methods: %w", err)
			}
			list = append(list, compare.Variant{Name: c.Method, Config: c})
		}
	}
	for _, v := range list {
		if _, err := searchrun.For(v.Config); err != nil { // better now than when its turn comes
			return nil, usageError{err}
		}
	}
	return list, nil
}

func (a *app) compare(cmd *cobra.Command, o compareFlags) error {
	if a.json {
		o.format = formatJSON
	}
	variants, err := o.variants(cmd)
	if err != nil {
		return err
	}
	build := thisBuild()
	listed := o.propose != search.ProposeController
	c := compare.Comparison{
		Seed: o.seed, Seeds: o.seeds, Methods: variants, Version: build.Version + " " + build.Commit, Cache: a.out,
		Jobs: o.jobs,
	}
	if err := c.Check(); err != nil {
		return usageError{err}
	}
	against, err := o.tested(variants)
	if err != nil {
		return err
	}
	d := compare.Document{
		Space: o.space, Labels: o.labels, Budget: o.budget, Preset: o.preset, Propose: o.propose, Version: c.Version,
	}
	for k := range o.seeds {
		d.Seeds = append(d.Seeds, o.seed+uint64(k))
	}
	dev, err := a.openDevice()
	if err != nil {
		return err
	}
	c.Device, d.Device, d.ISA, d.Threads = dev.Config, dev.name, dev.level, dev.threads
	farm, err := a.openFarm(dev, a.out)
	if err != nil {
		return err
	}
	defer farm.finish()
	if farm.farm != nil && a.out == "" {
		return usagef("--farm needs --out: the folder that its keys are kept in")
	}
	l, err := a.openLabels(cmd.Context(), o.labels, o.space, farm.with(a.labelOptions(dev, o.Making, listed)))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if c.Field, err = compare.FieldOf(l); err != nil {
		return err
	}
	if c.Latency, err = a.openLatency(o.Latency, l.Space); err != nil {
		return err
	}
	d.Accuracy, d.Predictor = l.Source.Describe(), l.Source.Facts().Predictor
	judge := l
	if o.judge != "" {
		if judge, err = a.judge(cmd.Context(), o.judge, o.space); err != nil {
			return err
		}
		defer func() { _ = judge.Close() }()
		if c.Field, err = c.Field.JudgedBy(judge.View()); err != nil {
			return usagef("--judge %s: %w", o.judge, err)
		}
		d.Judge = filepath.Base(judge.View().Table().Path())
		d.Accuracy = fmt.Sprintf("chosen on %v; judged by %s (%s)", l.Source.Facts(), d.Judge, judge.Source.Describe())
	}
	if v := judge.View(); v != nil {
		d.Total = len(v.Cells())
		if l.Space == (space.NASBench101{}) {
			d.PaperNote, d.Paper = compare.PaperNote, compare.Paper()
		}
	}
	if err := c.CheckJobs(); err != nil {
		return usageError{err}
	}
	if d.Optimum, err = c.Field.Optimum(); err != nil {
		return err
	}
	if a.out != "" {
		unlock, err := a.openComparison(o, dev)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if !a.quiet && o.format != formatJSON {
		fmt.Fprintf(a.stderr, "%s: %s\n", l.Name(), d.Accuracy)
	}
	c.Supernets = a.supernets()
	c.Program = searchrun.Program{Command: a.commandLine(), Settings: a.where(dev), Facts: runFacts{a.commandLine(),
		build.Version, build.Commit, build.Modified, build.Go, build.Platform, dev.name, dev.level, dev.threads,
		l.Source.Describe(), l.Checksum, l.Content, l.Images, a.out}}
	c.Stale = a.takenOver
	var stop func()
	c.Progress, c.Stage, c.Done, stop = a.compareProgress(o, len(variants), d.Predictor)
	runs, err := compare.Compare(cmd.Context(), c)
	stop()
	if err == nil {
		err = farm.end(cmd.Context())
	}
	if len(runs) > 0 {
		d.Methods = compare.Summarize(runs, d.Total, d.Paper != nil)
		if o.ablations {
			d.Ablations = compare.Ablate(runs)
		}
		d.Tests = compare.Tests(d.Methods, against)
		d.Missing = len(variants)*o.seeds - len(runs)
		if a.out != "" && !o.ablations { // of one that is stopped, what has finished
			err = errors.Join(err, d.Write(a.out, a.commandLine()))
		}
	}
	if errors.Is(err, context.Canceled) && a.out != "" {
		fmt.Fprintf(a.stderr, "Finished runs are kept in %s; the same command goes on from there.\n", a.out)
	}
	if err != nil {
		return err
	}
	return a.printComparison(o, d)
}

// tested is the method that the others are tested against.
func (o *compareFlags) tested(list []compare.Variant) (string, error) {
	name := search.MethodName
	if o.against != "" {
		name = o.against
	}
	if slices.ContainsFunc(list, func(v compare.Variant) bool { return v.Name == name }) {
		return name, nil
	}
	if o.against != "" {
		return "", usagef("--against %s: it is none of the methods that are compared", o.against)
	}
	return list[0].Name, nil
}

// judge opens the table that judges picks.
func (a *app) judge(ctx context.Context, text, spaceName string) (*labels.Labels, error) {
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	l, err := labels.Open(ctx, text, sp, labels.Options{Threads: a.threads, Progress: a.progress})
	if wrong := new(labels.TextError); errors.As(err, &wrong) {
		return nil, usagef("--judge %w", err)
	} else if err != nil {
		return nil, err
	}
	if l.View() == nil {
		return nil, errors.Join(usagef("--judge %s: want the accuracies of a table, table:FILE", text), l.Close())
	}
	return l, nil
}

// comparisonName is the file that marks the folder of a comparison.
const comparisonName = "compare.yaml"

// openComparison claims the folder, until unlock: an empty one, or one of a comparison. Whether its runs are of the
// same settings, their files say.
func (a *app) openComparison(o compareFlags, dev device) (unlock func(), err error) {
	path := filepath.Join(a.out, comparisonName)
	if _, err := os.Stat(path); err != nil {
		if err := refuseOther(a.out, "comparison"); err != nil {
			return nil, err
		}
	}
	if unlock, err = a.lockFolder(a.out); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil {
		return unlock, nil
	}
	settings := setting.Join(o.settings(), a.where(dev))
	err = labelsError(settings.Absolute())
	if err == nil {
		var text []byte
		if text, err = settings.YAML(thisBuild()); err == nil {
			err = files.Write(path, text)
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// compareProgress shows a bar for the run in work on a terminal, where it is one, and a line for every finished one
// with how many there are and how long the others may take. stop ends the last bar.
func (a *app) compareProgress(o compareFlags, methods int, predictor string) (update func(string, uint64, int, float64),
	stage func(string, uint64, searchrun.Progress), done func(compare.Run), stop func()) {
	if a.quiet || a.json {
		return nil, nil, nil, func() {}
	}
	var show func(done, total int)
	var finish func() // of the bar that is shown, nil without one
	staged, ended := a.stages()
	stop = func() {
		ended()
		if finish != nil {
			finish()
			finish = nil
		}
	}
	if onTerminal(a.stderr) && o.jobs == 1 {
		update = func(name string, seed uint64, labels int, _ float64) {
			if finish == nil {
				show, finish = a.progress(fmt.Sprintf("%s, seed %d", name, seed))
			}
			show(labels, o.budget)
		}
	}
	stage = func(name string, seed uint64, p searchrun.Progress) {
		staged(fmt.Sprintf("%s, seed %d: %s", name, seed, p.Stage), p.Done, p.Total)
	}
	var times clock
	kept, finished, all := 0, 0, methods*o.seeds
	times.of(0, 0, all)
	done = func(r compare.Run) {
		stop()
		from := ""
		if r.Kept {
			from = ", kept from before"
		}
		rank := ""
		if r.Rank != nil {
			rank = fmt.Sprintf("rank %d, ", *r.Rank)
		}
		value := "accuracy unknown"
		switch {
		case predictor != "":
			value = fmt.Sprintf("predicted score %.5f", float64(r.Accuracy))
		case r.Accuracy.Known():
			value = fmt.Sprintf("%.3f %%", 100*r.Accuracy)
		}
		labels := "no labels"
		if r.Queries != nil {
			labels = fmt.Sprintf("%d labels", *r.Queries)
		}
		if finished++; r.Kept {
			kept++
		}
		fmt.Fprintf(a.stderr, "%s, seed %d: %s%s, %s, %.1f s%s; %d of %d, %s\n", r.Method, r.Seed, rank, value, labels,
			r.Seconds, from, finished, all, times.of(kept, finished, all))
	}
	return update, stage, done, stop
}

func (a *app) printComparison(o compareFlags, d compare.Document) error {
	if o.format == formatJSON {
		return a.printJSON(d)
	}
	if o.format != compare.FormatCSV {
		of := ""
		if d.Total > 0 {
			of = fmt.Sprintf(" of %d architectures", d.Total)
		}
		fmt.Fprintf(a.stdout, "%s, %d labels, seeds %d..%d%s: %s\n\n", o.space, o.budget, o.seed,
			o.seed+uint64(o.seeds)-1, of, d.Accuracy)
	}
	if o.ablations {
		if err := compare.WriteAblations(a.stdout, o.format, d.Ablations, d.Predictor); err != nil {
			return err
		}
		if o.format != compare.FormatCSV {
			fmt.Fprintf(a.stdout,
				"\n± are 95 %% intervals over the seeds; changes are against the first row, seed by seed; "+
					"percentiles: 0 is the best of the table, over the samples that it has\n")
		}
		return nil
	}
	if err := compare.WriteSummaries(a.stdout, o.format, d.Methods, d.Predictor, d.Paper, d.Tests); err != nil {
		return err
	}
	if o.format != compare.FormatCSV {
		fmt.Fprintln(a.stdout, "\n± are standard deviations over the seeds")
		if o.seeds >= compare.SignificantPairs {
			fmt.Fprintln(a.stdout, compare.TestNote)
		}
	}
	return nil
}
