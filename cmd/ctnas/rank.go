package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/compare"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trained"
)

// number is a float64 of a JSON document, null there where it is not a number.
type number = stat.Number

// spreadOf is a quantity over the seeds of which it is known.
type spreadOf struct {
	Mean   number   `json:"mean"`
	SD     number   `json:"sd"`
	N      int      `json:"n"` // how many seeds these are
	Values []number `json:"values"`
}

func newSpread(values []float64) spreadOf {
	s := spreadOf{Values: make([]number, len(values))}
	var known []float64
	for i, v := range values {
		if s.Values[i] = number(v); s.Values[i].Known() {
			known = append(known, v)
		}
	}
	s.Mean, s.SD, s.N = number(stat.Mean(known)), number(stat.SD(known)), len(known)
	return s
}

// fixed is a number with some digits, or the word for one that nobody knows.
func fixed[T float64 | number](v T, digits int) string {
	if !number(v).Known() {
		return "unknown"
	}
	return strconv.FormatFloat(float64(v), 'f', digits, 64)
}

// rankDocument is what `ctnas rank --json` prints.
type rankDocument struct {
	Space        string        `json:"space"`
	Labels       string        `json:"labels"`
	Accuracy     string        `json:"accuracy"` // which one trains and which one judges
	Preset       string        `json:"preset"`
	Config       gcn.Config    `json:"config"`
	Train        int           `json:"train"`
	Seeds        []uint64      `json:"seeds"`
	Judge        compare.Half  `json:"judge"`
	Device       string        `json:"device"`
	ISA          string        `json:"isa"`
	Threads      int           `json:"threads"`
	Seconds      float64       `json:"seconds"` // of all, the table's reading included
	SeedSeconds  []seedSeconds `json:"seconds_per_seed"`
	TauB         spreadOf      `json:"tau_b"`
	TauBOdd      spreadOf      `json:"tau_b_odd"`
	PAt1         number        `json:"p_at_1"`
	PAtTenth     number        `json:"p_at_0.1"`
	TauTop       number        `json:"tau_b_best_1"` // within the predicted best 1 %
	TopRank      spreadOf      `json:"top_rank"`
	Transitivity number        `json:"transitivity"`
	// Judged is how many architectures a seed is judged by: the quantities rest on them.
	Judged      []int  `json:"judged"`
	JudgedOdd   []int  `json:"judged_odd"`           // those of the odd half, a seed
	Triples     []int  `json:"transitivity_triples"` // that the transitivity rests on, a seed
	Calibration number `json:"calibration_error"`
}

type seedSeconds struct {
	Train float64 `json:"train"`
	Score float64 `json:"score"`
}

func newRankCommand(a *app) *cobra.Command {
	spaceName, preset, judge := defaultSpace, search.PresetDefault, string(compare.All)
	train, seeds, judged := 423, 10, 100
	making := search.DefaultMaking()
	var labels string
	seed := uint64(defaultSeed)
	var set []string
	cmd := &cobra.Command{
		Use:   "rank --labels table:FILE",
		Short: "Train the comparator on random labels and rank all other architectures",
		Long: `Trains the comparator on --train architectures drawn at random and ranks all others of the table, once a
seed. Kendall's tau-b, the share of the true best 1 % found among the predicted best 1 %, the same of
0.1 %, tau-b within the predicted best 1 %, the true rank of the architecture predicted best,
transitivity and the calibration error of the probabilities are over the architectures without a label
in training. A rank is 1 + the number of better ones. Of equal scores the worst counts as predicted
best, and at the edge of the best 1 % the share is its mean over all orders of equal ones.

Settings that are chosen by these figures are chosen on the even half of the architectures (--judge even, by
the last hexadecimal digit of the hash) with seeds from 1000 on; figures that are reported are over all,
with the odd half beside them.

` + trained.Help + `
Here --train and --judged random architectures are trained, all of them if the space has fewer.`,
		Example: `  ctnas rank --space nasbench101 --labels table:nb101.ctt --train 423 --seeds 10
  ctnas rank --labels table:nb101.ctt --preset released --train 100 --seeds 3 --json
  ctnas rank --labels table:nb101.ctt --seed 1000 --seeds 5 --judge even --set members=3 --set width=48`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			start := time.Now()
			sp, err := openSpace(spaceName)
			if err != nil {
				return err
			}
			config, err := presetConfig(preset, sp, set)
			if err != nil {
				return err
			}
			half := compare.Half(judge)
			dev, err := a.openDevice()
			if err != nil {
				return err
			}
			o := a.labelOptions(dev, making, false)
			l, err := a.openLabels(cmd.Context(), labels, spaceName, o)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			if !a.json {
				fmt.Fprintf(a.stdout, "%s: %s\n", l.Name(), l.Source.Describe())
			}
			view := l.View()
			if view == nil {
				var t *table.Table
				archs := searchrun.Draw(l.Space, l.Source, train+judged, seed) // all, where the space has fewer
				if t, view, err = l.Table(cmd.Context(), archs, o); err != nil {
					return labelsError(err)
				}
				defer func() { _ = t.Close() }()
			}
			update, finish := a.progress("hashes")
			first := true
			results, err := compare.Rank(cmd.Context(), compare.Ranking{
				View: view, Config: config, Train: train, Seed: seed, Seeds: seeds, Judge: half, Device: dev.Config,
				Prepared: update,
				Done: func(r compare.RankSeed) {
					if first {
						finish()
					}
					if first = false; !a.json {
						fmt.Fprintf(a.stdout,
							"seed %d: tau-b %s (odd half %s) over %d, P@1%% %s, P@0.1%% %s, tau-b in the best 1%% %s, "+
								"best predicted has rank %d, train %.2f s, rank %.2f s\n",
							r.Seed, fixed(r.TauB, 4), fixed(r.TauBOdd, 4), r.Judged,
							fixed(r.PAt1, 3), fixed(r.PAtTenth, 3), fixed(r.TauTop, 3), r.TopRank, r.Train, r.Score)
					}
				},
			})
			if first {
				finish()
			}
			if err != nil {
				return err
			}
			d := rankDocument{
				Space: spaceName, Labels: labels, Accuracy: l.Source.Describe(), Preset: preset, Config: config,
				Train: train, Judge: half,
				Device: dev.name, ISA: dev.level, Threads: dev.threads,
			}
			column := func(f func(r compare.RankSeed) float64) []float64 {
				values := make([]float64, len(results))
				for i, r := range results {
					values[i] = f(r)
				}
				return values
			}
			mean := func(f func(r compare.RankSeed) float64) number { return newSpread(column(f)).Mean }
			for _, r := range results {
				d.Judged, d.JudgedOdd = append(d.Judged, r.Judged), append(d.JudgedOdd, r.JudgedOdd)
				d.Triples = append(d.Triples, r.Triples)
				d.Seeds = append(d.Seeds, r.Seed)
				d.SeedSeconds = append(d.SeedSeconds, seedSeconds{r.Train, r.Score})
			}
			d.TauB = newSpread(column(func(r compare.RankSeed) float64 { return r.TauB }))
			d.TauBOdd = newSpread(column(func(r compare.RankSeed) float64 { return r.TauBOdd }))
			d.TopRank = newSpread(column(func(r compare.RankSeed) float64 { return float64(r.TopRank) }))
			d.PAt1 = mean(func(r compare.RankSeed) float64 { return r.PAt1 })
			d.PAtTenth = mean(func(r compare.RankSeed) float64 { return r.PAtTenth })
			d.TauTop = mean(func(r compare.RankSeed) float64 { return r.TauTop })
			d.Transitivity = mean(func(r compare.RankSeed) float64 { return r.Transitivity })
			d.Calibration = mean(func(r compare.RankSeed) float64 { return r.Calibration })
			d.Seconds = time.Since(start).Seconds()
			if a.json {
				return a.printJSON(d)
			}
			sd := ""
			if seeds > 1 {
				sd = ", sd " + fixed(d.TauB.SD, 4)
			}
			over := strconv.Itoa(slices.Min(d.Judged))
			if most := slices.Max(d.Judged); most > slices.Min(d.Judged) {
				over += fmt.Sprintf(" to %d", most)
			}
			fmt.Fprintf(a.stdout,
				"mean of %d seeds, %d labels, preset %s: tau-b %s (odd half %s%s) over %s architectures, P@1%% %s, "+
					"P@0.1%% %s, tau-b in the best 1%% %s, rank of the best predicted %s, "+
					"transitivity %s, calibration error %s, %.1f s\n",
				seeds, train, preset, fixed(d.TauB.Mean, 4), fixed(d.TauBOdd.Mean, 4), sd, over,
				fixed(d.PAt1, 3), fixed(d.PAtTenth, 3), fixed(d.TauTop, 3), fixed(d.TopRank.Mean, 1),
				fixed(d.Transitivity, 4), fixed(d.Calibration, 4), d.Seconds)
			return nil
		},
	}
	l := setting.New()
	l.Group("Rank")
	search.SpaceSetting(l, &spaceName)
	search.LabelsSetting(l, &labels)
	l.Int(&train, "train", "labels", "labels to train with", 2, 1<<24)
	l.Uint64(&seed, "seed", "", "the first seed")
	l.Int(&seeds, "seeds", "seeds", "how many seeds: --seed and those that follow it", 1, 1<<20)
	search.PresetSetting(l, &preset, "comparator")
	l.Text(&judge, "judge", "which architectures judge, all of them or half of them by their hashes").
		OneOf(string(compare.All), string(compare.Even), string(compare.Odd))
	l.Int(&judged, "judged", "architectures", "with labels train:, how many more architectures are trained to judge by",
		3, 1<<24)
	l.Texts(&set, "set", setHelp)
	making.AddTo(l)
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("labels") // fails only for a flag that does not exist
	return cmd
}

const setHelp = "change a setting of the comparator, `key=value` with the keys of --json's config; for " +
	"experiments, may be repeated"

// presetConfig is a comparator's preset for a space with settings changed.
func presetConfig(preset string, sp space.Space, set []string) (gcn.Config, error) {
	c, err := search.Comparator(preset, sp)
	if err != nil {
		return c, usagef("--preset: %w", err)
	}
	err = applySettings(set, &c)
	return c, err
}

// applySettings sets fields of a structure by their names in JSON.
func applySettings(set []string, v any) error {
	for _, s := range set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return usagef("--set %q: want key=value", s)
		}
		if !json.Valid([]byte(value)) { // a word
			quoted, _ := json.Marshal(value) // text is always valid
			value = string(quoted)
		}
		name, _ := json.Marshal(key)
		d := json.NewDecoder(bytes.NewReader([]byte("{" + string(name) + ":" + value + "}")))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			return usagef("--set %s: %w", s, err)
		}
	}
	return nil
}
