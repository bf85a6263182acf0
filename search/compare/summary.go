package compare

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/report"
)

// Summary is a method over all seeds, beside the paper's. N is of how many seeds a quantity is known; it is null
// where there are none.
type Summary struct {
	Method   string      `json:"method"`
	Labels   int         `json:"labels"`  // the most that a seed bought
	Queries  *int        `json:"queries"` // the same; null of a method that asks for none
	Seconds  stat.Number `json:"seconds"` // mean of a search
	Accuracy struct {
		Mean stat.Number `json:"mean"`
		SD   stat.Number `json:"sd"`
		Best stat.Number `json:"best"`
		N    int         `json:"n"`
	} `json:"accuracy"`
	Rank struct {
		Mean   stat.Number `json:"mean"`
		Median stat.Number `json:"median"`
		Best   stat.Number `json:"best"`
		N      int         `json:"n"`
	} `json:"rank"` // 1 + number of better architectures in the table
	RankPercent struct {
		Best   stat.Number `json:"best"`
		Median stat.Number `json:"median"`
	} `json:"rank_percent"` // rank in per cent of the table
	TauB       *MeanSD   `json:"tau_b"`        // null where the method predicts nothing
	TauBParams *MeanSD   `json:"tau_b_params"` // of the parameter count, over the same architectures
	PoolTauB   *MeanSD   `json:"pool_tau_b,omitempty"`
	Paper      *PaperRow `json:"paper"` // null where the paper has no such method, and in other spaces than the paper's
	Runs       []Run     `json:"runs"`
}

// MeanSD is a quantity over seeds.
type MeanSD struct {
	Mean stat.Number `json:"mean"`
	SD   stat.Number `json:"sd"`
	N    int         `json:"n"`
}

// known are those of the values that are numbers.
func known(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) })
}

// greatest is the maximum, not a number of nothing.
func greatest(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Max(values)
}

// Summarize gathers runs by method, in the order in which methods first appear. total is the number of ranked
// architectures; 0: they have no ranks. paper puts the paper's rows beside methods of its kind: in its space.
func Summarize(runs []Run, total int, paper bool) []Summary {
	var order []string
	by := map[string][]Run{}
	for _, r := range runs {
		if by[r.Method] == nil {
			order = append(order, r.Method)
		}
		by[r.Method] = append(by[r.Method], r)
	}
	out := make([]Summary, 0, len(order))
	for _, name := range order {
		s := Summary{Method: name, Runs: by[name]}
		if paper {
			s.Paper = paperOf(name)
		}
		var seconds, accuracy, rank, tau, params, selected []float64
		for _, r := range s.Runs {
			s.Labels = max(s.Labels, r.Labels)
			if r.Queries != nil {
				s.Queries = &s.Labels
			}
			seconds, accuracy = append(seconds, r.Seconds), append(accuracy, float64(r.Accuracy))
			if r.Rank != nil {
				rank = append(rank, float64(*r.Rank))
			}
			for _, x := range []struct {
				of *float64
				to *[]float64
			}{{r.TauB, &tau}, {r.TauBParams, &params}, {r.PoolTauB, &selected}} {
				if x.of != nil {
					*x.to = append(*x.to, *x.of)
				}
			}
		}
		accuracy = known(accuracy)
		top := math.NaN()
		if len(rank) > 0 {
			top = slices.Min(rank)
		}
		percent := 100 / float64(total) // without ranks nothing is multiplied with it
		s.Seconds = stat.Number(stat.Mean(seconds))
		s.Accuracy.Mean, s.Accuracy.SD, s.Accuracy.Best = stat.Number(stat.Mean(accuracy)),
			stat.Number(stat.SD(accuracy)), stat.Number(greatest(accuracy))
		s.Accuracy.N, s.Rank.N = len(accuracy), len(rank)
		s.Rank.Mean, s.Rank.Median, s.Rank.Best = stat.Number(stat.Mean(rank)), stat.Number(stat.Median(rank)),
			stat.Number(top)
		s.RankPercent.Best, s.RankPercent.Median = stat.Number(top*percent), stat.Number(stat.Median(rank)*percent)
		s.TauB, s.TauBParams, s.PoolTauB = newMeanSD(tau), newMeanSD(params), newMeanSD(selected)
		out = append(out, s)
	}
	return out
}

// newMeanSD is null of nothing.
func newMeanSD(values []float64) *MeanSD {
	if len(values) == 0 {
		return nil
	}
	return &MeanSD{stat.Number(stat.Mean(values)), stat.Number(stat.SD(values)), len(values)}
}

// Interval is a mean over seeds with its 95 % confidence interval by Student's t; Low and High are null of one seed.
type Interval struct {
	Mean stat.Number `json:"mean"`
	Low  stat.Number `json:"low"`
	High stat.Number `json:"high"`
	N    int         `json:"n"` // seeds that it rests on
}

// newInterval is over those of the values that are known; null of none.
func newInterval(values []float64) *Interval {
	values = known(values)
	if len(values) == 0 {
		return nil
	}
	mean, half := stat.MeanInterval(values)
	return &Interval{stat.Number(mean), stat.Number(mean - half), stat.Number(mean + half), len(values)}
}

// Ablation is CTNAS with one part changed, over all seeds.
type Ablation struct {
	Name     string    `json:"name"`
	Accuracy *Interval `json:"accuracy"` // 0..1
	Rank     *Interval `json:"rank"`
	TauB     *Interval `json:"tau_b"`
	// The mean true percentile of the controller's samples, 0 the best and 100 the worst of the table, at the start and
	// at the end; null without a controller, and where the table has none of the samples.
	PercentileStart *Interval `json:"percentile_start"`
	PercentileEnd   *Interval `json:"percentile_end"`
	// On how many samples they rest, over all seeds.
	StartSamples int `json:"percentile_start_samples"`
	EndSamples   int `json:"percentile_end_samples"`
	// What the change costs, seed by seed: this minus the unchanged search. Null for that one.
	AccuracyChange      *Interval `json:"accuracy_change"`
	PercentileEndChange *Interval `json:"percentile_end_change"`
}

// Ablate compares each method of runs with the first one, seed by seed.
func Ablate(runs []Run) []Ablation {
	var out []Ablation
	base := map[uint64]Run{}
	for _, s := range Summarize(runs, 1, false) {
		a := Ablation{Name: s.Method}
		var accuracy, rank, tau, start, end, accuracyChange, endChange []float64
		for _, r := range s.Runs {
			accuracy = append(accuracy, float64(r.Accuracy))
			if r.Rank != nil {
				rank = append(rank, float64(*r.Rank))
			}
			if r.TauB != nil {
				tau = append(tau, *r.TauB)
			}
			if c := r.Curriculum; c != nil {
				start, end = append(start, orNaN(c.Start)), append(end, orNaN(c.End))
				a.StartSamples, a.EndSamples = a.StartSamples+c.StartSamples, a.EndSamples+c.EndSamples
			}
			b, ok := base[r.Seed]
			if !ok {
				continue
			}
			accuracyChange = append(accuracyChange, float64(r.Accuracy-b.Accuracy))
			if r.Curriculum != nil && b.Curriculum != nil {
				endChange = append(endChange, orNaN(r.Curriculum.End)-orNaN(b.Curriculum.End))
			}
		}
		if len(out) == 0 {
			for _, r := range s.Runs {
				base[r.Seed] = r
			}
		}
		a.Accuracy, a.Rank, a.TauB = newInterval(accuracy), newInterval(rank), newInterval(tau)
		a.PercentileStart, a.PercentileEnd = newInterval(start), newInterval(end)
		a.AccuracyChange, a.PercentileEndChange = newInterval(accuracyChange), newInterval(endChange)
		out = append(out, a)
	}
	return out
}

// orNaN is a value, not a number where it is not known.
func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// Formats of tables.
const (
	FormatTable    = "table"
	FormatCSV      = "csv"
	FormatMarkdown = "markdown"
)

// WriteSummaries writes the methods as a table. predictor names what labels are predicted by, empty where they are
// accuracies. The paper's rows, which are means of three runs and ranked by them, follow in a table of their own;
// CSV, of which a column holds one kind of number, accuracies 0..1, has columns of their own.
func WriteSummaries(w io.Writer, format string, list []Summary, predictor string, paper []PaperRow,
	tests []Test) error {
	if format == FormatCSV {
		return writeCSV(w, list, predictor, paper, tests)
	}
	methods := methodGrid(list, predictor, tests)
	if err := writeTable(w, format, methods.Head, methods.Rows); err != nil || len(paper) == 0 {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s\n\n", PaperNote); err != nil {
		return err
	}
	rows := paperGrid(paper)
	return writeTable(w, format, rows.Head, rows.Rows)
}

// testOf is the test of a method; nil where there is none.
func testOf(tests []Test, method string) *Test {
	i := slices.IndexFunc(tests, func(t Test) bool { return t.Method == method })
	if i < 0 {
		return nil
	}
	return &tests[i]
}

// methodGrid are the methods as text. Tests have a column where one of them can tell something.
func methodGrid(list []Summary, predictor string, tests []Test) (g report.Grid) {
	accuracy, best, factor, digits := "accuracy %", "best accuracy %", stat.Number(100), 2
	if predictor != "" {
		accuracy, best, factor, digits = "predicted score", "best predicted score", 1, 4
	}
	g.Head = []string{"method", "labels", "tau-b", "of parameters", accuracy, best, "mean rank", "median rank",
		"best rank", "best rank %", "seconds"}
	for _, s := range list {
		of := func(n int) string { // the seeds that a quantity rests on, where it does not rest on all
			if n == 0 || n == len(s.Runs) {
				return ""
			}
			return fmt.Sprintf(" (%d of %d seeds)", n, len(s.Runs))
		}
		tau := func(t *MeanSD) string {
			if t == nil {
				return dash
			}
			return plusMinus(t.Mean, t.SD, 3) + of(t.N)
		}
		labels := dash
		if s.Queries != nil {
			labels = strconv.Itoa(*s.Queries)
		}
		g.Rows = append(g.Rows, []string{
			s.Method, labels, tau(s.TauB), tau(s.TauBParams),
			plusMinus(factor*s.Accuracy.Mean, factor*s.Accuracy.SD, digits) + of(s.Accuracy.N),
			decimal(factor*s.Accuracy.Best, digits),
			decimal(s.Rank.Mean, 1) + of(s.Rank.N), decimal(s.Rank.Median, 1), decimal(s.Rank.Best, 0),
			decimal(s.RankPercent.Best, 4), decimal(s.Seconds, 1),
		})
	}
	if !telling(tests) {
		return g
	}
	g.Head = append(g.Head, "p against "+tests[0].Against)
	for i, s := range list {
		p := dash
		if t := testOf(tests, s.Method); t != nil {
			p = probability(t.Holm)
		}
		g.Rows[i] = append(g.Rows[i], p)
	}
	return g
}

// probability is short: 0.023, 0.0011, and < 0.0001.
func probability(p float64) string {
	switch {
	case p < 0.0001:
		return "< 0.0001"
	case p < 0.01:
		return strconv.FormatFloat(p, 'f', 4, 64)
	}
	return strconv.FormatFloat(p, 'f', 3, 64)
}

// paperGrid are the paper's rows as text.
func paperGrid(paper []PaperRow) report.Grid {
	g := report.Grid{Head: []string{"paper's method", "queries", "tau over 100", "accuracy of 3 runs %",
		"best of 3 runs %", "best rank by 3 runs %"}}
	for _, p := range paper {
		tau, queries := dash, dash
		if p.TauB != nil {
			tau = decimal(stat.Number(*p.TauB), 3)
		}
		if p.Queries > 0 {
			queries = strconv.Itoa(p.Queries)
		}
		g.Rows = append(g.Rows, []string{
			p.Name, queries, tau, plusMinus(stat.Number(100*p.AccuracyMean), stat.Number(100*p.AccuracySD), 2),
			decimal(stat.Number(100*p.AccuracyBest), 2), decimal(stat.Number(p.RankPercent), 2),
		})
	}
	return g
}

func writeCSV(w io.Writer, list []Summary, predictor string, paper []PaperRow, tests []Test) error {
	head := []string{"method", "source", "labels", "seconds", "tau_b_mean", "tau_b_sd", "tau_b_params_mean",
		"accuracy_mean", "accuracy_sd", "accuracy_best",
		"rank_mean", "rank_median", "rank_best", "rank_percent_best", "rank_percent_median", "p_wilcoxon", "p_holm"}
	if predictor != "" {
		for i, name := range head {
			head[i] = strings.Replace(name, "accuracy", "predicted_score", 1)
		}
	}
	ours := len(head)
	if len(paper) > 0 { // numbers of other measurements
		head = append(head, "paper_tau", "paper_accuracy_mean", "paper_accuracy_sd", "paper_accuracy_best",
			"paper_rank_percent_best")
	}
	rows := [][]string{head}
	nan := stat.Number(math.NaN())
	for _, s := range list {
		tau, params, labels := MeanSD{Mean: nan, SD: nan}, nan, ""
		if s.TauB != nil {
			tau = *s.TauB
		}
		if s.TauBParams != nil {
			params = s.TauBParams.Mean
		}
		if s.Queries != nil {
			labels = strconv.Itoa(*s.Queries)
		}
		row := []string{s.Method, "ctnas", labels}
		for _, v := range []stat.Number{s.Seconds, tau.Mean, tau.SD, params, s.Accuracy.Mean, s.Accuracy.SD,
			s.Accuracy.Best, s.Rank.Mean, s.Rank.Median, s.Rank.Best,
			s.RankPercent.Best, s.RankPercent.Median} {
			row = append(row, exactly(v))
		}
		p, holm := nan, nan
		if t := testOf(tests, s.Method); t != nil {
			p, holm = stat.Number(t.P), stat.Number(t.Holm)
		}
		row = append(row, exactly(p), exactly(holm))
		rows = append(rows, append(row, make([]string, len(head)-ours)...))
	}
	for _, p := range paper {
		tau, queries := nan, ""
		if p.TauB != nil {
			tau = stat.Number(*p.TauB)
		}
		if p.Queries > 0 {
			queries = strconv.Itoa(p.Queries)
		}
		row := append([]string{p.Name, "paper", queries}, make([]string, ours-3)...)
		for _, v := range []stat.Number{tau, stat.Number(p.AccuracyMean), stat.Number(p.AccuracySD),
			stat.Number(p.AccuracyBest), stat.Number(p.RankPercent)} {
			row = append(row, exactly(v))
		}
		rows = append(rows, row)
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// WriteAblations writes the ablations as a table. predictor is that of WriteSummaries.
func WriteAblations(w io.Writer, format string, list []Ablation, predictor string) error {
	accuracy, factor, digits := "accuracy %", stat.Number(100), 3
	if predictor != "" {
		accuracy, factor, digits = "predicted score", 1, 5
	}
	head := []string{"search", accuracy, "change", "mean rank", "tau-b", "samples' percentile at start", "of samples",
		"at end", "of samples", "change"}
	if format == FormatCSV { // where a name should say which one it is
		head[6], head[8] = "samples at start", "samples at end"
	}
	var rows [][]string
	for _, a := range list {
		rows = append(rows, []string{
			a.Name, interval(a.Accuracy, factor, digits), interval(a.AccuracyChange, factor, digits),
			interval(a.Rank, 1, 1), interval(a.TauB, 1, 3),
			interval(a.PercentileStart, 1, 2), strconv.Itoa(a.StartSamples),
			interval(a.PercentileEnd, 1, 2), strconv.Itoa(a.EndSamples),
			interval(a.PercentileEndChange, 1, 2),
		})
	}
	return writeTable(w, format, head, rows)
}

const dash = "-"

func decimal(v stat.Number, digits int) string {
	if !v.Known() {
		return dash
	}
	return strconv.FormatFloat(float64(v), 'f', digits, 64)
}

func plusMinus(v, sd stat.Number, digits int) string {
	if math.IsNaN(float64(sd)) {
		return decimal(v, digits)
	}
	return decimal(v, digits) + " ± " + decimal(sd, digits)
}

func interval(i *Interval, factor stat.Number, digits int) string {
	if i == nil {
		return dash
	}
	return plusMinus(i.Mean*factor, (i.High-i.Mean)*factor, digits)
}

func writeTable(w io.Writer, format string, head []string, rows [][]string) error {
	switch format {
	case FormatTable:
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{head}, rows...) {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		return t.Flush()
	case FormatCSV:
		c := csv.NewWriter(w)
		return c.WriteAll(append([][]string{head}, rows...))
	case FormatMarkdown:
		line := func(cells []string) error {
			_, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
			return err
		}
		if err := line(head); err != nil {
			return err
		}
		rule := make([]string, len(head))
		for i := range rule {
			rule[i] = "---"
		}
		for _, row := range append([][]string{rule}, rows...) {
			if err := line(row); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("unknown format %q: want %s, %s or %s", format, FormatTable, FormatCSV, FormatMarkdown)
}
