package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
)

func newSupernetCommand(a *app) *cobra.Command {
	return group("supernet", "Weights that all architectures of a space share",
		`  ctnas supernet train --space mobilenetv3@w0.5,r32,s8 --data shapes --recipe shapes --out runs/super
  ctnas supernet eval runs/super --arch largest
  ctnas supernet rank runs/super --labels table:measured.csv --cells 50
  ctnas supernet check ofa_mbv3_w1.0.pth --labels table:ofa_mbv3_w1.0_r224.csv --data imagenet:/data/imagenet`,
		a.onNodes(a.watched(a.copied(newSupernetTrainCommand(a)))), newSupernetEvalCommand(a),
		newSupernetRankCommand(a),
		newSupernetCheckCommand(a))
}

const supernetLong = `RUN is the folder of ctnas supernet train, FILE are weights of a supernet as safetensors or
PyTorch, such as once-for-all's. A sub-network gets statistics of its own for its batch norms, computed on
--calibrate training images (--statistics batch: those of each batch of 64 that judge), and is measured on
--images training images that the supernet has not seen (--split heldout; of a FILE that does not say which
these are, those that once-for-all's have not seen), or on the validation images (--split val). What is said
is an accuracy with shared weights, not of a trained network.`

// judges are the images that judge, in a word.
var judges = map[string]string{supernet.SplitHeldOut: "held-out", supernet.SplitVal: "validation"}

// evalKeys are the settings of an evaluation that commands have as flags; --seed is something else there.
var evalKeys = []string{"data", "split", "images", "calibrate", "statistics"}

// supernetEvaluated is what `ctnas supernet eval` prints.
type supernetEvaluated struct {
	Arch      string `json:"arch"`
	Weights   string `json:"weights"` // checksum
	Data      string `json:"data"`
	Split     string `json:"split"`
	Calibrate int    `json:"calibration_images"`
	// Statistics are what batch norms normalised by.
	Statistics string `json:"statistics"`
	Accuracy   string `json:"accuracy"` // what it is, in words
	Params     *int64 `json:"params"`
	MAdds      *int64 `json:"madds"`
	supernet.Measured
	Seconds float64 `json:"seconds"`
}

func newSupernetEvalCommand(a *app) *cobra.Command {
	spec := supernet.NewSpec("")
	making := search.DefaultMaking()
	var arch string
	cmd := &cobra.Command{
		Use:   "eval RUN|FILE --arch A [--data D]",
		Short: "Test a sub-network of a supernet on images",
		Long: `Measures a sub-network with the weights of a supernet.

` + supernetLong,
		Example: `  ctnas supernet eval runs/super --arch largest
  ctnas supernet eval ofa_mbv3_w1.2.pth --arch ofa_482m --data imagenet:/data/imagenet --split val`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			begin := time.Now()
			spec.Path = args[0]
			e, picked, err := a.openSubNetwork(cmd.Context(), spec, arch, making)
			if err != nil {
				return err
			}
			defer func() { _ = e.Close() }()
			measured, err := e.Evaluate(cmd.Context(), []space.Arch{picked}, func(supernet.Told) {})
			if err != nil {
				return err
			}
			cost := costOf(picked, e)
			d := supernetEvaluated{Arch: picked.String(), Weights: e.Weights.Checksum, Data: e.DataSource(),
				Split: e.Split, Calibrate: e.Calibrate, Statistics: e.Statistics,
				Accuracy: supernet.NewSource(e, nil).Facts().String(), Params: space.Known(cost.Params),
				MAdds: space.Known(cost.MAdds), Measured: measured[0],
				Seconds: time.Since(begin).Seconds()}
			if a.json {
				return a.printJSON(d)
			}
			_, err = fmt.Fprintf(a.stdout, "%s: %.2f %% of %d %s images right, %.2f %% among the first five, loss "+
				"%.4f (weights shared with other networks, %s)\n", d.Arch, 100*d.Top1, d.Measured.Images,
				judges[d.Split], 100*d.Top5, d.Loss, e.StatisticsText())
			return err
		},
	}
	l := setting.New()
	l.Group("Sub-network")
	l.Text(&arch, "arch", "the `ARCH` of the supernet's space, a network of the zoo that is of it (ofa_482m), largest "+
		"or smallest")
	making.AddTo(l)
	a.bind(cmd, setting.Join(l, spec.Settings().Only(evalKeys...)))
	_ = cmd.MarkFlagRequired("arch") // fails only for a flag that does not exist
	return cmd
}

func costOf(arch space.Arch, e *supernet.Evaluator) space.Cost {
	if written, ok := arch.(space.AsWritten); ok {
		arch = written.Arch
	}
	if t, ok := arch.(space.Trainable); ok {
		return t.CostAt(e.NetworkSize())
	}
	return arch.Cost()
}

// Architectures that a space itself knows by a word.
const (
	largestArch  = "largest"
	smallestArch = "smallest"
)

// openSubNetwork opens the supernet that an architecture in words is of.
func (a *app) openSubNetwork(ctx context.Context, spec supernet.Spec, arch string, making search.Making) (
	*supernet.Evaluator, space.Arch, error) {
	w, err := supernet.OpenWeights(spec.Path)
	if err != nil {
		return nil, nil, err
	}
	picked, err := subNetwork(w, arch)
	if err != nil {
		return nil, nil, err
	}
	e, err := a.openSupernet(ctx, spec, cmp.Or(w.Space, space.Narrow(picked)), making)
	if err != nil {
		return nil, nil, err
	}
	picked = asDerived(picked, arch, spec.Path)
	if err := e.Has(picked); err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	return e, picked, nil
}

// subNetwork is the architecture in words of a supernet.
func subNetwork(w *supernet.Weights, arch string) (space.Arch, error) {
	if arch != largestArch && arch != smallestArch {
		picked, err := space.Find(arch)
		if err != nil {
			return nil, usagef("--arch: %w", err)
		}
		return picked, nil
	}
	if w.Space == "" {
		return nil, usagef("--arch %s: %s does not say what space it is of: name the architecture", arch, w.Path)
	}
	sp, err := openSpace(w.Space)
	if err != nil {
		return nil, err
	}
	elastic, ok := sp.(space.Elastic)
	switch {
	case !ok:
		return nil, usagef("--arch %s: networks of %s do not hold one another: name the architecture", arch, w.Space)
	case arch == largestArch:
		return elastic.Largest(0), nil
	}
	return elastic.Smallest(0), nil
}

// openSupernet opens an evaluator of a supernet of a space.
func (a *app) openSupernet(ctx context.Context, spec supernet.Spec, spaceName string, making search.Making) (
	*supernet.Evaluator, error) {
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	if _, sharing := sp.(space.Sharing); !sharing {
		return nil, usageError{supernet.ErrNotSharing(sp)}
	}
	dev, err := a.openDevice()
	if err != nil {
		return nil, err
	}
	o := a.labelOptions(dev, making, false)
	c, err := supernet.NewConfig(spec, sp, o)
	if err != nil {
		return nil, err
	}
	return supernet.OpenWith(ctx, c, o)
}

// supernetRanked is what `ctnas supernet rank` and `check` print.
type supernetRanked struct {
	Weights   string  `json:"weights"` // checksum
	Space     string  `json:"space"`
	Labels    string  `json:"labels"` // what the table says, in words
	Data      string  `json:"data"`
	Split     string  `json:"split"`
	Judging   int     `json:"images"`
	Calibrate int     `json:"calibration_images"`
	Cells     int     `json:"cells"`
	Seed      uint64  `json:"seed"` // of their choice
	Seconds   float64 `json:"seconds"`
	Forward   int     `json:"images_forward"` // through networks, what was cached not counted
	// Statistics are what batch norms normalised by.
	Statistics string `json:"statistics"`
	supernet.Agreement
	statistics string // in words
}

// ranking are the flags of `ctnas supernet rank` and `check`.
type ranking struct {
	spec   supernet.Spec
	space  string
	labels string
	cells  int
	seed   uint64
	making search.Making
}

// settings are the flags, whose --seed chooses the architectures.
func (r *ranking) settings() *setting.List {
	l := setting.New()
	l.Group("Rank")
	l.Text(&r.space, "space", "the `space` of the table's architectures (empty = the supernet's, mobilenetv3 where "+
		"that is not said)")
	search.LabelsSetting(l, &r.labels)
	l.Int(&r.cells, "cells", "architectures", "architectures of the table, drawn at random (0 = all)", 0, 1<<24)
	l.Uint64(&r.seed, "seed", "", "seed of their choice")
	r.making.AddTo(l)
	return setting.Join(l, r.spec.Settings().Only(evalKeys...))
}

func newSupernetRankCommand(a *app) *cobra.Command {
	r := ranking{spec: supernet.NewSpec(""), cells: 50, seed: defaultSeed, making: search.DefaultMaking()}
	cmd := &cobra.Command{
		Use:   "rank RUN|FILE --labels table:T [--data D]",
		Short: "Say how well a supernet orders architectures whose accuracy is known",
		Long: `Measures architectures of a table with the weights of a supernet, and says Kendall's tau-b of these
accuracies with the table's. The tau-b of parameters and of multiply-adds stand beside it: a supernet that
does not beat them has learned nothing of use. The architectures are drawn from the whole table at random,
not by what the supernet says of them.

` + supernetLong,
		Example: `  ctnas supernet rank runs/super --labels table:measured.csv --cells 50 --seed 0
  ctnas supernet rank ofa.pth --labels table:ofa_mbv3_w1.0_r224.csv --data imagenet:/data/imagenet --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.rankSupernet(cmd.Context(), r, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			return a.printSupernetRanked(d)
		},
	}
	a.bind(cmd, r.settings())
	_ = cmd.MarkFlagRequired("labels") // fails only for a flag that does not exist
	return cmd
}

// What is to be expected of once-for-all's checkpoint of width 1.0 beside the measured accuracies of its sub-networks
// (DyNAS-T's table): estimates, since it is not known how those were calibrated.
const (
	expectedDifference = 0.0015
	expectedTau        = 0.93
)

func newSupernetCheckCommand(a *app) *cobra.Command {
	r := ranking{spec: supernet.NewSpec(""), cells: 50, seed: defaultSeed, making: search.DefaultMaking()}
	r.spec.Split = supernet.SplitVal
	cmd := &cobra.Command{
		Use:   "check FILE --labels table:T --data imagenet:DIR",
		Short: "Compare a released supernet with the accuracies that others have measured",
		Long: `Says whether the weights of a supernet give, here, the accuracies that others have measured of its
sub-networks: the mean absolute difference and Kendall's tau-b, on the validation images. It is for whoever
has once-for-all's checkpoint of width 1.0 and ImageNet; the accuracies of 1,081 sub-networks are those of
ofa_mbv3_w1.0_r224.csv. A difference of some 0.15 points and a tau-b of some 0.93 are to be expected
(estimates: how those were calibrated is not known).

` + supernetLong,
		Example: `  ctnas supernet check ofa_mbv3_d234_e346_k357_w1.0 --labels table:ofa_mbv3_w1.0_r224.csv \
      --data imagenet:/data/imagenet --cells 50`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.rankSupernet(cmd.Context(), r, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			if err := a.printSupernetRanked(d); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "expected of once-for-all's checkpoint: some %.2f points and a tau-b of "+
				"some %.2f\n", 100*expectedDifference, expectedTau)
			return err
		},
	}
	a.bind(cmd, r.settings())
	_ = cmd.MarkFlagRequired("labels") // fails only for a flag that does not exist
	return cmd
}

func (a *app) rankSupernet(ctx context.Context, r ranking, path string) (d *supernetRanked, err error) {
	begin := time.Now()
	r.spec.Path = path
	name := r.space
	if name == "" {
		w, err := supernet.OpenWeights(path)
		if err != nil {
			return nil, err
		}
		name = cmp.Or(w.Space, defaultElastic)
	}
	l, err := a.openLabels(ctx, r.labels, name, labels.Options{Threads: a.threads, Progress: a.progress})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	view := l.View()
	if view == nil {
		return nil, usagef("--labels %s: want the accuracies of a table, table:FILE", r.labels)
	}
	e, err := a.openSupernet(ctx, r.spec, name, r.making)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	forward := 0
	done := a.candidateDone()
	update, finish := a.progress("sub-networks")
	g, err := e.Rank(ctx, view, r.cells, r.seed, func(archs []space.Arch, t supernet.Told) {
		if !t.Cached {
			forward += e.Forward()
		}
		c := e.Candidate(archs[t.I], t, len(archs))
		if update(t.Done, len(archs)); done != nil {
			done(c)
		}
	})
	finish()
	if err != nil {
		return nil, err
	}
	return &supernetRanked{Weights: e.Weights.Checksum, Space: name, Labels: l.Source.Describe(), Data: e.DataSource(),
		Split: e.Split, Judging: e.Judging(), Calibrate: e.Calibrate, Cells: len(g.Architectures), Seed: r.seed,
		Seconds: time.Since(begin).Seconds(), Forward: forward, Statistics: e.Statistics, Agreement: *g,
		statistics: e.StatisticsText()}, nil
}

// defaultElastic is the space of a supernet that does not say which one it is of.
const defaultElastic = "mobilenetv3"

func (a *app) printSupernetRanked(d *supernetRanked) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "supernet %\ttable %\tparameters\tMAdds\tarchitecture\n")
	for _, x := range d.Architectures {
		fmt.Fprintf(w, "%.2f\t%.2f\t%s\t%s\t%s\n", 100*x.Supernet, 100*x.Table, count(x.Params), count(x.MAdds), x.Arch)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%d architectures, accuracy with shared weights on %d %s images of %s, %s, "+
		"against the table (%s):\ntau-b %s, of parameters %s, of multiply-adds %s; mean absolute difference %.2f "+
		"points, mean difference %+.2f; %d images forward, %.1f s\n", d.Cells, d.Judging,
		judges[d.Split], d.Data, d.statistics, d.Labels,
		fixed(d.TauB, 4), fixed(d.TauBParams, 4), fixed(d.TauBMAdds, 4), 100*d.MeanDifference, 100*d.Bias, d.Forward,
		d.Seconds)
	if err == nil && d.Worse != nil && *d.Worse {
		_, err = fmt.Fprint(a.stdout, "the supernet ranks worse than the number of parameters does: it has learned "+
			"nothing of use\n")
	}
	return err
}
