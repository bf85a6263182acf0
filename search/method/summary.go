package method

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ctnas/ctnas/internal/stat"
)

// Number is a float64 of a JSON document; what is not a number is null there.
type Number float64

// MarshalJSON writes the number or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

// Summary is a method over all seeds, beside the paper's.
type Summary struct {
	Method   string `json:"method"`
	Labels   int    `json:"labels"`  // the most that a seed bought
	Seconds  Number `json:"seconds"` // mean of a search
	Accuracy struct {
		Mean Number `json:"mean"`
		SD   Number `json:"sd"`
		Best Number `json:"best"`
	} `json:"accuracy"`
	Rank struct {
		Mean   Number `json:"mean"`
		Median Number `json:"median"`
		Best   Number `json:"best"`
	} `json:"rank"` // 1 + number of better architectures in the table; null where nobody knows
	RankPercent struct {
		Best   Number `json:"best"`
		Median Number `json:"median"`
	} `json:"rank_percent"` // rank in per cent of the table
	TauB  *MeanSD   `json:"tau_b"` // null where the method predicts nothing
	Paper *PaperRow `json:"paper"` // null where the paper has no such method
	Runs  []Run     `json:"runs"`
}

// MeanSD is a quantity over seeds.
type MeanSD struct {
	Mean Number `json:"mean"`
	SD   Number `json:"sd"`
}

// rank is that of the pick, not a number where it is not known.
func (r Run) rank() float64 {
	if r.Rank == 0 {
		return math.NaN()
	}
	return float64(r.Rank)
}

// Summarize gathers runs by method, in the order in which methods first appear. total is the number of ranked architectures; 0: they have no ranks,
// and the paper's numbers do not stand beside them.
func Summarize(runs []Run, total int) []Summary {
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
		if total > 0 {
			s.Paper = paperOf(name)
		}
		var seconds, accuracy, rank, tau []float64
		for _, r := range s.Runs {
			s.Labels = max(s.Labels, r.Labels)
			seconds, accuracy, rank = append(seconds, r.Seconds), append(accuracy, r.Accuracy), append(rank, r.rank())
			if r.TauB != nil {
				tau = append(tau, *r.TauB)
			}
		}
		best, top := math.Inf(-1), math.Inf(1)
		for i := range rank {
			best, top = math.Max(best, accuracy[i]), math.Min(top, rank[i])
		}
		percent := 100 / float64(max(total, 1))
		s.Seconds = Number(stat.Mean(seconds))
		s.Accuracy.Mean, s.Accuracy.SD, s.Accuracy.Best = Number(stat.Mean(accuracy)), Number(stat.SD(accuracy)), Number(best)
		s.Rank.Mean, s.Rank.Median, s.Rank.Best = Number(stat.Mean(rank)), Number(stat.Median(rank)), Number(top)
		s.RankPercent.Best, s.RankPercent.Median = Number(top*percent), Number(stat.Median(rank)*percent)
		if len(tau) > 0 {
			s.TauB = &MeanSD{Number(stat.Mean(tau)), Number(stat.SD(tau))}
		}
		out = append(out, s)
	}
	return out
}

// Interval is a mean over seeds with its 95 % confidence interval by Student's t; Low and High are null of one seed.
type Interval struct {
	Mean Number `json:"mean"`
	Low  Number `json:"low"`
	High Number `json:"high"`
}

func newInterval(values []float64) *Interval {
	if len(values) == 0 {
		return nil
	}
	mean, half := stat.MeanInterval(values)
	return &Interval{Number(mean), Number(mean - half), Number(mean + half)}
}

// Ablation is CTNAS with one part changed, over all seeds.
type Ablation struct {
	Name     string    `json:"name"`
	Accuracy *Interval `json:"accuracy"` // 0..1
	Rank     *Interval `json:"rank"`
	TauB     *Interval `json:"tau_b"`
	// The mean true percentile of the controller's samples, 0 the best and 100 the worst of the table, at the start and at the end; null
	// without a controller.
	PercentileStart *Interval `json:"percentile_start"`
	PercentileEnd   *Interval `json:"percentile_end"`
	// What the change costs, seed by seed: this minus the unchanged search. Null for that one.
	AccuracyChange      *Interval `json:"accuracy_change"`
	PercentileEndChange *Interval `json:"percentile_end_change"`
}

// Ablate compares each method of runs with the first one, seed by seed.
func Ablate(runs []Run) []Ablation {
	var out []Ablation
	base := map[uint64]Run{}
	for _, s := range Summarize(runs, 1) {
		a := Ablation{Name: s.Method}
		var accuracy, rank, tau, start, end, accuracyChange, endChange []float64
		for _, r := range s.Runs {
			accuracy = append(accuracy, r.Accuracy)
			if r.Rank > 0 {
				rank = append(rank, float64(r.Rank))
			}
			if r.TauB != nil {
				tau = append(tau, *r.TauB)
			}
			if r.Curriculum != nil {
				start, end = append(start, r.Curriculum.Start), append(end, r.Curriculum.End)
			}
			b, ok := base[r.Seed]
			if !ok {
				continue
			}
			accuracyChange = append(accuracyChange, r.Accuracy-b.Accuracy)
			if r.Curriculum != nil && b.Curriculum != nil {
				endChange = append(endChange, r.Curriculum.End-b.Curriculum.End)
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

// Formats of tables.
const (
	FormatTable    = "table"
	FormatCSV      = "csv"
	FormatMarkdown = "markdown"
)

// WriteSummaries writes the methods as a table, followed by the paper's rows, marked as such. CSV has a column a number, accuracies 0..1.
func WriteSummaries(w io.Writer, format string, list []Summary) error {
	if format == FormatCSV {
		return writeCSV(w, list)
	}
	head := []string{"method", "labels", "tau-b", "accuracy %", "best accuracy %", "mean rank", "median rank", "best rank", "best rank %", "seconds"}
	var rows [][]string
	for _, s := range list {
		tau := dash
		if s.TauB != nil {
			tau = plusMinus(s.TauB.Mean, s.TauB.SD, 3)
		}
		rows = append(rows, []string{
			s.Method, strconv.Itoa(s.Labels), tau, plusMinus(100*s.Accuracy.Mean, 100*s.Accuracy.SD, 2), decimal(100*s.Accuracy.Best, 2),
			decimal(s.Rank.Mean, 1), decimal(s.Rank.Median, 1), decimal(s.Rank.Best, 0), decimal(s.RankPercent.Best, 4), decimal(s.Seconds, 1),
		})
	}
	for _, p := range paperBeside(list) {
		tau, queries := dash, dash
		if p.TauB != nil {
			tau = decimal(Number(*p.TauB), 3)
		}
		if p.Queries > 0 {
			queries = strconv.Itoa(p.Queries)
		}
		rows = append(rows, []string{
			p.Name + " (paper)", queries, tau, plusMinus(Number(100*p.AccuracyMean), Number(100*p.AccuracySD), 2), decimal(Number(100*p.AccuracyBest), 2),
			dash, dash, dash, decimal(Number(p.RankPercent), 2), dash,
		})
	}
	return writeTable(w, format, head, rows)
}

// paperBeside are the paper's rows where ranks are of the paper's table.
func paperBeside(list []Summary) []PaperRow {
	for _, s := range list {
		if !math.IsNaN(float64(s.Rank.Mean)) {
			return Paper()
		}
	}
	return nil
}

func writeCSV(w io.Writer, list []Summary) error {
	number := func(v Number) string {
		if math.IsNaN(float64(v)) {
			return ""
		}
		return strconv.FormatFloat(float64(v), 'g', 10, 64)
	}
	rows := [][]string{{"method", "source", "labels", "seconds", "tau_b_mean", "tau_b_sd", "accuracy_mean", "accuracy_sd", "accuracy_best",
		"rank_mean", "rank_median", "rank_best", "rank_percent_best", "rank_percent_median"}}
	nan := Number(math.NaN())
	for _, s := range list {
		tau := MeanSD{nan, nan}
		if s.TauB != nil {
			tau = *s.TauB
		}
		row := []string{s.Method, "ctnas", strconv.Itoa(s.Labels)}
		for _, v := range []Number{s.Seconds, tau.Mean, tau.SD, s.Accuracy.Mean, s.Accuracy.SD, s.Accuracy.Best, s.Rank.Mean, s.Rank.Median, s.Rank.Best,
			s.RankPercent.Best, s.RankPercent.Median} {
			row = append(row, number(v))
		}
		rows = append(rows, row)
	}
	for _, p := range paperBeside(list) {
		tau, queries := nan, ""
		if p.TauB != nil {
			tau = Number(*p.TauB)
		}
		if p.Queries > 0 {
			queries = strconv.Itoa(p.Queries)
		}
		row := []string{p.Name, "paper", queries}
		for _, v := range []Number{nan, tau, nan, Number(p.AccuracyMean), Number(p.AccuracySD), Number(p.AccuracyBest), nan, nan, nan, Number(p.RankPercent), nan} {
			row = append(row, number(v))
		}
		rows = append(rows, row)
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// WriteAblations writes the ablations as a table.
func WriteAblations(w io.Writer, format string, list []Ablation) error {
	head := []string{"search", "accuracy %", "change", "mean rank", "tau-b", "samples' percentile at start", "at end", "change"}
	var rows [][]string
	for _, a := range list {
		rows = append(rows, []string{
			a.Name, interval(a.Accuracy, 100, 3), interval(a.AccuracyChange, 100, 3), interval(a.Rank, 1, 1), interval(a.TauB, 1, 3),
			interval(a.PercentileStart, 1, 2), interval(a.PercentileEnd, 1, 2), interval(a.PercentileEndChange, 1, 2),
		})
	}
	return writeTable(w, format, head, rows)
}

const dash = "-"

func decimal(v Number, digits int) string {
	if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
		return dash
	}
	return strconv.FormatFloat(float64(v), 'f', digits, 64)
}

func plusMinus(v, sd Number, digits int) string {
	if math.IsNaN(float64(sd)) {
		return decimal(v, digits)
	}
	return decimal(v, digits) + " ± " + decimal(sd, digits)
}

func interval(i *Interval, factor Number, digits int) string {
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
