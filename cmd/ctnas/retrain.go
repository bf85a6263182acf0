package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/trained"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

func newRetrainCommand(a *app) *cobra.Command {
	seeds, random := 3, 10
	var labels string
	var fine fineTuning
	var onCorrupt data.OnCorrupt
	making := search.DefaultMaking()
	cmd := &cobra.Command{
		Use:   "retrain RUN",
		Short: "Train a search's pick anew, beside random architectures",
		Long: `Trains the pick of a finished search and random architectures that the search has not labelled, all in
the same way and with seeds that no label came from, and compares their test accuracies. The folder then
holds retrained.json, and report.html shows it; the weights of the pick's training that was best on
validation images are retrained.safetensors, which ctnas export RUN and ctnas eval RUN take.

They are trained as the search's labels were, or as --labels says: longer, wider, on other images.

Of a search whose labels are a supernet's, --from-supernet has all of them begin with their part of its weights
(fine-tuning) in place of random values; --weights takes another supernet.`,
		Example: `  ctnas retrain runs/own --seeds 3 --random 10
  ctnas retrain runs/a --labels 'train:cifar10:DIR?recipe=fast-cifar' --seeds 1 --random 3
  ctnas retrain runs/s --labels 'train:imagenet:DIR?recipe=ofa&epochs=25' --from-supernet --seeds 1 --random 1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			how := retraining{labels: labels, seeds: seeds, random: random, fine: fine}
			if cmd.Flags().Changed("on-corrupt") {
				how.onCorrupt = &onCorrupt
			}
			r, err := a.retrain(cmd, args[0], how, making)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			return a.printRetrained(r, args[0])
		},
	}
	l := setting.New()
	l.Group("Retraining")
	l.Text(&labels, "labels", "how they are trained: train:DATA?recipe=R&key=value (empty = as the "+
		"search's labels were)")
	l.Int(&seeds, "seeds", "trainings", "trainings of each architecture", 1, 1000)
	l.Int(&random, "random", "architectures", "random architectures", 1, 1<<16)
	fine.addTo(l)
	trainer.AddOnCorrupt(l, &onCorrupt)
	making.AddTo(l)
	a.bind(cmd, l)
	return cmd
}

// retraining is what of a retraining is set by flags.
type retraining struct {
	labels        string // empty: as the search's labels were made
	seeds, random int
	onCorrupt     *data.OnCorrupt // nil: as the labels say
	fine          fineTuning
}

func (a *app) retrain(cmd *cobra.Command, dir string, how retraining, making search.Making) (*report.Retrained, error) {
	page, err := report.Load(dir)
	if err != nil {
		return nil, err
	}
	settings, err := search.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	labels := how.labels
	own := labels == ""
	if own {
		if labels = settings.Labels; !strings.HasPrefix(labels, trained.Prefix) {
			return nil, usagef("the labels of %s were not trained for: say how to train with --labels %sDATA?recipe=R",
				dir, trained.Prefix)
		}
	}
	if making.LabelCache == "" {
		making.LabelCache = settings.LabelCache
	}
	dev, err := a.openDevice()
	if err != nil {
		return nil, err
	}
	sp, err := openSpace(page.Result.Space)
	if err != nil {
		return nil, err
	}
	pick, err := sp.Parse(page.Result.Pick)
	if err != nil {
		return nil, err
	}
	if n := len(page.Ledger); n != page.Result.LabelsUsed {
		return nil,
			fmt.Errorf("%s: %d labels, the search bought %d: which architectures it has not labelled cannot be told",
				filepath.Join(dir, report.LedgerName), n, page.Result.LabelsUsed)
	}
	known := map[string]bool{}
	for _, l := range page.Ledger {
		known[l.Arch] = true
	}
	var times *latency.Model
	if settings.Latency != "" {
		if times, err = latency.Open(filepath.Join(dir, report.LatencyName), sp); err != nil {
			return nil, err
		}
	}
	limits := settings.Limits(times.Known())
	if page.Result.Network != nil { // what the search's limits looked at
		limits.Size = *page.Result.Network
	}
	farm, err := a.openFarm(dev, dir)
	if err != nil {
		return nil, err
	}
	defer farm.finish()
	o := farm.with(a.labelOptions(dev, making, false))
	c, err := trained.NewConfig(labels, sp, o)
	if err != nil {
		return nil, labelsError(err)
	}
	c.Seed += uint64(c.Seeds) // the first that no label came from
	c.Seeds, c.Stop, c.OnNaN, c.Keep = how.seeds, 0, trainer.OnNaNSkip, pick
	if how.onCorrupt != nil {
		c.OnCorrupt = *how.onCorrupt
	}
	super, err := a.startFrom(cmd.Context(), how.fine, settings.Labels, sp, making)
	if err != nil {
		return nil, err
	}
	if super != nil {
		defer func() { _ = super.Close() }()
		if o.Farm != nil {
			return nil, usagef("--farm: weights that networks begin with are not sent to workers")
		}
		c.Start = super.start()
	}
	source, err := trained.OpenWith(cmd.Context(), c, o)
	if err != nil {
		return nil, err
	}
	if super != nil {
		if err := super.sameClasses(source.Classes()); err != nil {
			return nil, errors.Join(err, source.Close())
		}
	}
	if own {
		if err := sameImages(dir, source.ImagesChecksum()); err != nil {
			return nil, errors.Join(fmt.Errorf("%w; to retrain on those give --labels", err), source.Close())
		}
	}
	unlock, err := a.lockFolder(dir)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	defer unlock()
	if page.Result.Network == nil && slices.ContainsFunc(page.Result.Architectures,
		func(x report.Architecture) bool { return x.SpaceParams != nil }) {
		limits.Size = source.NetworkSize() // a table said what its networks take; these are the nearest to them
	}
	update, finish := a.progress("trainings")
	source.Observe(nil, update)
	within := func(x space.Arch) bool { return !known[x.String()] && limits.Allow(x) }
	r, err := source.Compare(cmd.Context(), trained.Comparison{Pick: pick, Random: how.random, Seed: settings.Seed,
		Limits: limits, May: within})
	finish()
	if err == nil {
		err = keepWeights(source, filepath.Join(dir, report.RetrainedWeightsName))
	}
	if err = errors.Join(err, source.Close()); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := files.Write(filepath.Join(dir, report.RetrainedName), append(text, '\n')); err != nil {
		return nil, err
	}
	page.Retrained = r
	return r, errors.Join(page.Write(dir), farm.end(cmd.Context()))
}

// keepWeights copies the weights of the pick's best training. Those of an earlier retraining go where there are none.
func keepWeights(source *trained.Source, path string) error {
	from, err := source.Weights()
	if err != nil {
		return err
	}
	if from == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	in, err := files.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := files.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Discard()
		return err
	}
	return out.Commit()
}

// printRetrained is the comparison for people.
func (a *app) printRetrained(r *report.Retrained, dir string) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\ttest %\t±\tparameters\tarchitecture\n")
	line := func(name string, x report.Retraining) {
		sd := "unknown" // of one seed
		if x.SD.Known() {
			sd = fmt.Sprintf("%.2f", 100*x.SD)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%d\t%s\n", name, 100*x.Mean, sd, x.Params, x.Arch)
	}
	line("pick", r.Pick)
	for _, x := range r.Random {
		line("random", x)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	written := []string{report.RetrainedName, report.PageName}
	if isFile(filepath.Join(dir, report.RetrainedWeightsName)) {
		written = append(written, report.RetrainedWeightsName+" (the pick's)")
	}
	_, err := fmt.Fprintf(a.stdout, "%s\nwritten in %s: %s\n", r.Verdict(), dir, strings.Join(written, ", "))
	return err
}
