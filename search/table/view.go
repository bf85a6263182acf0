package table

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ctnas/ctnas/search/space"
)

// DivergedBelow is the accuracy under which a run counts as diverged. A run that falls apart ends near chance, 0.1 for
// ten classes: of NAS-Bench-101's first runs of 108 epochs 0.6 % lie between 0.09 and 0.12, and hardly any between that
// and 0.3. After 4 epochs a sound run may still lie here.
const DivergedBelow = 0.2

// Values of Query.
const (
	RunMean      = -1 // the mean of all runs of the file
	MissingFail  = "fail"
	MissingDrop  = "drop"
	DivergedKeep = "keep"
	DivergedDrop = "drop"
)

// Query says which accuracy a search sees and which one judges it. What is left at its zero value is taken as
// described, and View.Describe says what it became. Something that is asked for and absent is an error, never replaced
// by something else.
type Query struct {
	Run    int    // 1..9 or RunMean; 0: the file's means or its only run, otherwise the mean of its runs
	Split  string // that the search sees; empty: validation, or what the file has
	Epochs int    // 0: the largest number that the file has
	// A search that sees validation or training accuracy is judged on test accuracy where the file has any, of the same
	// run and epochs unless these say otherwise (with the same meaning as Run and Epochs).
	JudgeRun    int
	JudgeEpochs int
	Missing     string  // architectures without one of the numbers: MissingFail (also if empty) or MissingDrop
	Diverged    string  // runs below DivergedBelow: DivergedKeep (also if empty) or DivergedDrop
	Columns     Columns // of a CSV file, for Open
	// What is seen and judged in the place of accuracy, one of Options.Also, and whether less is better. It has no
	// splits, runs and epochs. No text says it.
	Metric   string
	Minimize bool
	Dataset  string // of a benchmark with several, for Open: see Options
}

// queryKeys are the names in a query's text.
var queryKeys = []struct {
	name string
	set  func(q *Query, value string) error
}{
	{"run", func(q *Query, v string) error { return parseRun(&q.Run, v) }},
	{"split", func(q *Query, v string) error { q.Split = v; return oneOf(v, "train", "validation", "test") }},
	{"epochs", func(q *Query, v string) error { return parseEpochs(&q.Epochs, v) }},
	{"judge_run", func(q *Query, v string) error { return parseRun(&q.JudgeRun, v) }},
	{"judge_epochs", func(q *Query, v string) error { return parseEpochs(&q.JudgeEpochs, v) }},
	{"missing", func(q *Query, v string) error { q.Missing = v; return oneOf(v, MissingFail, MissingDrop) }},
	{"diverged", func(q *Query, v string) error { q.Diverged = v; return oneOf(v, DivergedKeep, DivergedDrop) }},
	{"dataset", func(q *Query, v string) error {
		q.Dataset = v
		return oneOf(v, slices.Sorted(maps.Keys(natsSets))...)
	}},
	{"arch", func(q *Query, v string) error { q.Columns.Arch = v; return nil }},
	{"adjacency", func(q *Query, v string) error { q.Columns.Adjacency = v; return nil }},
	{"operations", func(q *Query, v string) error { q.Columns.Operations = v; return nil }},
	{"accuracy", func(q *Query, v string) error { q.Columns.Accuracy = v; return nil }},
	{"validation", func(q *Query, v string) error { q.Columns.Validation = v; return nil }},
	{"test", func(q *Query, v string) error { q.Columns.Test = v; return nil }},
	{"hash", func(q *Query, v string) error { q.Columns.Hash = v; return nil }},
	{"params", func(q *Query, v string) error { q.Columns.Params = v; return nil }},
	{"madds", func(q *Query, v string) error { q.Columns.MAdds = v; return nil }},
	{"unit", func(q *Query, v string) error { q.Columns.Unit = v; return oneOf(v, UnitFraction, UnitPercent) }},
}

func parseRun(run *int, text string) error {
	switch text {
	case "mean", "0":
		*run = RunMean
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 9 {
		return errors.New("want 1, 2, 3 or mean")
	}
	*run = n
	return nil
}

func parseEpochs(epochs *int, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxEpoch {
		return fmt.Errorf("want a number in 1..%d", maxEpoch)
	}
	*epochs = n
	return nil
}

func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("want %s", strings.Join(allowed, " or "))
}

// ParseQuery reads a query such as "run=1&split=validation&missing=drop". Values may be escaped as in a URL. Keys: run
// (1, 2, 3, mean), split (validation, test, train), epochs, judge_run, judge_epochs, missing (fail, drop), diverged
// (keep, drop), of NATS-Bench dataset (cifar10, cifar100, ImageNet16-120), and for a CSV file the names of its columns:
// arch, adjacency, operations, accuracy, validation, test, hash, params, madds, and the unit (fraction, percent) of its
// accuracies.
func ParseQuery(text string) (Query, error) {
	var q Query
	values, err := url.ParseQuery(text)
	if err != nil {
		return q, fmt.Errorf("query %q: %w", text, err)
	}
	for _, key := range queryKeys {
		given, ok := values[key.name]
		if !ok {
			continue
		}
		delete(values, key.name)
		if len(given) != 1 || given[0] == "" {
			return q, fmt.Errorf("query %q: %s wants one value", text, key.name)
		}
		if err := key.set(&q, given[0]); err != nil {
			return q, fmt.Errorf("query %q: %s=%s: %w", text, key.name, given[0], err)
		}
	}
	if len(values) > 0 {
		unknown, known := make([]string, 0, len(values)), make([]string, len(queryKeys))
		for name := range values {
			unknown = append(unknown, name)
		}
		slices.Sort(unknown)
		for i, key := range queryKeys {
			known[i] = key.name
		}
		return q, fmt.Errorf("query %q: unknown key %q; known: %s", text, unknown[0], strings.Join(known, ", "))
	}
	return q, nil
}

// labelsPrefix marks a table among the sources of labels.
const labelsPrefix = "table:"

// ParseLabels reads a source of labels of the form table:FILE or table:FILE?QUERY, see ParseQuery. The file's name ends
// at the first question mark.
func ParseLabels(s string) (path string, q Query, err error) {
	rest, ok := strings.CutPrefix(s, labelsPrefix)
	if !ok {
		return "", q, fmt.Errorf("labels %q: want table:FILE or table:FILE?run=1&split=validation", s)
	}
	path, text, _ := strings.Cut(rest, "?")
	if path == "" {
		return "", q, fmt.Errorf("labels %q: no file", s)
	}
	if q, err = ParseQuery(text); err != nil {
		return "", q, fmt.Errorf("labels %q: %w", s, err)
	}
	return path, q, nil
}

// AbsentError says that a query asks for what a table does not have.
type AbsentError struct {
	File string
	What string // that is asked for
	Have []Metric
}

func (e *AbsentError) Error() string {
	have := "no accuracy"
	if len(e.Have) > 0 {
		list := make([]string, len(e.Have))
		for i, m := range e.Have {
			list[i] = m.String()
		}
		have = strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s has no %s; it has: %s", e.File, e.What, have)
}

// Other returns the numbers of a metric that is no accuracy, by row; NaN where the row does not say it.
func (t *Table) Other(name string) (func(row int) float64, error) {
	i := slices.IndexFunc(t.columns, func(c *column) bool { return c.Name == name })
	if i < 0 {
		return nil, &AbsentError{File: t.path, What: name, Have: t.accuracies()}
	}
	if err := t.Check(i); err != nil {
		return nil, err
	}
	return t.columns[i].at, nil
}

// ErrSealed is returned for test accuracies while the search that they judge goes on.
var ErrSealed = errors.New("the accuracy that judges is sealed until the search has ended")

// View is a table seen through a query. Indices are those of the table's rows. It may be read by several goroutines.
type View struct {
	table             *Table
	query             Query
	seenBy, judgedBy  selection
	seen, judged      []float64 // NaN in rows that are not kept
	rows              []int
	missing, diverged int // rows that are not kept
	sealed            atomic.Bool
	rankOnce          sync.Once
	ranking           []float64 // judged, in order: ascending, the best first
}

// selection is a metric, or several runs of one whose mean counts.
type selection struct {
	Metric
	columns []int // in the table, one a run
}

// String reads like "test accuracy, mean of runs 1, 2 and 3, 108 epochs".
func (s selection) String() string {
	if len(s.columns) == 1 {
		return s.Metric.String()
	}
	text := s.Name
	if s.Split != "" {
		text = s.Split + " " + text
	}
	text += fmt.Sprintf(", mean of %d runs", len(s.columns))
	if s.Epochs > 0 {
		text += fmt.Sprintf(", %d epochs", s.Epochs)
	}
	return text
}

// accuracies lists the table's accuracies.
func (t *Table) accuracies() (list []Metric) {
	for _, c := range t.columns {
		if c.Name == Accuracy {
			list = append(list, c.Metric)
		}
	}
	return list
}

// has tells whether there is any accuracy of a split.
func (t *Table) has(split string) bool {
	return slices.ContainsFunc(t.columns, func(c *column) bool { return c.Name == Accuracy && c.Split == split })
}

// choose finds the columns of a metric, a split, a run and a number of epochs as Query describes them.
func (t *Table) choose(name, split string, run, epochs int) (selection, error) {
	byRun := map[int]int{} // column by run, at the number of epochs
	largest := -1
	for _, c := range t.columns {
		if c.Name == name && c.Split == split && (epochs == 0 || c.Epochs == epochs) {
			largest = max(largest, c.Epochs)
		}
	}
	for i, c := range t.columns {
		if c.Name == name && c.Split == split && c.Epochs == largest {
			byRun[c.Run] = i
		}
	}
	s := selection{Metric: Metric{Name: name, Split: split, Epochs: max(largest, 0)}}
	absent := func() (selection, error) {
		want := Metric{Name: name, Split: split, Run: max(run, 0), Epochs: cmp.Or(epochs, s.Epochs)}.String()
		if run == 0 {
			want = strings.Replace(want, ", mean of runs", "", 1)
		}
		return s, &AbsentError{File: t.path, What: want, Have: t.accuracies()}
	}
	if len(byRun) == 0 {
		return absent()
	}
	if run > 0 {
		column, ok := byRun[run]
		if !ok {
			return absent()
		}
		s.Run, s.columns = run, []int{column}
		return s, nil
	}
	if column, ok := byRun[0]; ok {
		s.columns = []int{column}
		return s, nil
	}
	for r := 1; r <= 9; r++ {
		if column, ok := byRun[r]; ok {
			s.Run = r
			s.columns = append(s.columns, column)
		}
	}
	if len(s.columns) == 1 {
		if run == RunMean {
			return absent()
		}
		return s, nil
	}
	s.Run = 0
	return s, nil
}

// split is the split that a search sees.
func (t *Table) split(q Query) string {
	if q.Split != "" {
		return q.Split
	}
	for _, s := range []string{"validation", "test"} {
		if t.has(s) {
			return s
		}
	}
	return ""
}

// View resolves a query. Its errors name what the table has.
func (t *Table) View(q Query) (*View, error) {
	v := &View{table: t, query: q}
	split := t.split(q)
	judge := split
	if (split == "validation" || split == "train") && t.has("test") {
		judge = "test"
	}
	var err error
	if q.Metric != "" {
		if q.Split != "" || q.Run != 0 || q.Epochs != 0 || q.JudgeRun != 0 || q.JudgeEpochs != 0 || q.Diverged != "" {
			return nil, fmt.Errorf("%s: the query says a split, a run, epochs or what is diverged, which %s has not",
				t.path, q.Metric)
		}
		split, judge = "", ""
	}
	name := cmp.Or(q.Metric, Accuracy)
	if v.seenBy, err = t.choose(name, split, q.Run, q.Epochs); err != nil {
		return nil, err
	}
	run, epochs := q.JudgeRun, cmp.Or(q.JudgeEpochs, v.seenBy.Epochs)
	if run == 0 {
		if run = v.seenBy.Run; run == 0 {
			run = RunMean
		}
	}
	if q.Metric != "" {
		run = 0
	}
	if v.judgedBy, err = t.choose(name, judge, run, epochs); err != nil {
		return nil, err
	}
	v.sealed.Store(judge != split)
	if err := v.fill(); err != nil {
		return nil, err
	}
	return v, nil
}

// fill takes the numbers out of the table.
func (v *View) fill() error {
	t := v.table
	seen, err := v.reader(v.seenBy)
	if err != nil {
		return err
	}
	judged, err := v.reader(v.judgedBy)
	if err != nil {
		return err
	}
	v.seen, v.judged, v.rows = make([]float64, t.Len()), make([]float64, t.Len()), make([]int, 0, t.Len())
	first := -1
	wanted, cells := t.space.(space.NASBench101) // or a small part of it
	for i := range v.seen {
		v.seen[i], v.judged[i] = math.NaN(), math.NaN()
		if cells && !wanted.Contains(t.Arch(i)) {
			continue
		}
		a, lackA, divergedA := seen(i)
		b, lackB, divergedB := judged(i)
		switch {
		case lackA || lackB:
			if v.missing++; first < 0 {
				first = i
			}
		case divergedA || divergedB:
			v.diverged++
		default:
			v.seen[i], v.judged[i] = a, b
			v.rows = append(v.rows, i)
		}
	}
	if v.missing > 0 && v.query.Missing != MissingDrop {
		return fmt.Errorf("%s: %d of %d architectures lack %v or %v, the first is %v; missing=drop leaves them out",
			t.path, v.missing, t.Len(), v.seenBy, v.judgedBy, t.Arch(first))
	}
	if len(v.rows) == 0 {
		return fmt.Errorf("%s: no architecture of %s is left: %d lack a number, %d diverged", t.path, t.space.Name(),
			v.missing, v.diverged)
	}
	return nil
}

// reader returns a function that gives a row's value, whether it lacks a number, and whether all its runs diverged.
// Runs are judged diverged by the split that the search sees, so that dropping them tells it nothing about the other.
func (v *View) reader(s selection) (func(i int) (value float64, lacks, diverged bool), error) {
	t := v.table
	guards := s.columns
	drop := v.query.Diverged == DivergedDrop
	if drop {
		if s.Run == 0 && len(s.columns) == 1 {
			return nil, fmt.Errorf("%s holds only means of %v: a diverged run cannot be told, ask for diverged=keep",
				t.path, s)
		}
		if s.Split != v.seenBy.Split {
			guards = nil
			for _, c := range s.columns {
				m := t.columns[c].Metric
				guard, err := t.choose(Accuracy, v.seenBy.Split, m.Run, m.Epochs)
				if err != nil {
					return nil, fmt.Errorf("to tell diverged runs: %w", err)
				}
				guards = append(guards, guard.columns[0])
			}
		}
	}
	for _, c := range append(slices.Clone(s.columns), guards...) {
		if err := t.Check(c); err != nil {
			return nil, err
		}
	}
	return func(i int) (float64, bool, bool) {
		sum, n, lacks := 0.0, 0, false
		for k, c := range s.columns {
			value, guard := t.columns[c].at(i), t.columns[guards[k]].at(i)
			lacks = lacks || value != value || drop && guard != guard
			if !drop || guard >= DivergedBelow {
				sum += value
				n++
			}
		}
		return sum / float64(n), lacks, n == 0
	}, nil
}

// Query is what was asked for.
func (v *View) Query() Query { return v.query }

// Table is the table that is viewed.
func (v *View) Table() *Table { return v.table }

// Cells lists the rows that have the numbers asked for, in ascending order: the architectures that a search may label.
// It must not be changed.
func (v *View) Cells() []int { return v.rows }

// Seen is the accuracy that a search learns for architecture i of the table, 0..1; NaN where i is not among Cells.
func (v *View) Seen(i int) float64 { return v.seen[i] }

// Sealed tells whether the judging accuracy is another one than the search sees and still withheld.
func (v *View) Sealed() bool { return v.sealed.Load() }

// Unseal ends the search: from now on Judged answers.
func (v *View) Unseal() { v.sealed.Store(false) }

// Judged is the accuracy that judges architecture i of the table, 0..1; NaN where i is not among Cells. It is ErrSealed
// while Sealed.
func (v *View) Judged(i int) (float64, error) {
	if v.Sealed() {
		return 0, ErrSealed
	}
	return v.judged[i], nil
}

// Rank is 1 + the number of architectures whose judging accuracy is higher than that of i, among Cells.
func (v *View) Rank(i int) (int, error) {
	better, _, err := v.place(i)
	if err != nil {
		return 0, err
	}
	return better + 1, nil
}

// Percentile is 100 · rank / number of architectures; equal ones share the mean of their ranks, as stat.Ranks has it.
// The mean over Cells is just above 50, however many of them are equal.
func (v *View) Percentile(i int) (float64, error) {
	better, equal, err := v.place(i)
	if err != nil {
		return 0, err
	}
	return 100 * (float64(better) + float64(equal+1)/2) / float64(len(v.rows)), nil
}

// place tells how many of Cells have a higher judging accuracy than i and how many have the same, itself among them.
func (v *View) place(i int) (better, equal int, err error) {
	value, err := v.Judged(i)
	if err != nil {
		return 0, 0, err
	}
	if value != value {
		return 0, 0, fmt.Errorf("%s: architecture %d is not in this view", v.table.path, i)
	}
	v.rankOnce.Do(func() {
		v.ranking = make([]float64, len(v.rows))
		for k, row := range v.rows {
			v.ranking[k] = v.order(v.judged[row])
		}
		slices.Sort(v.ranking)
	})
	better, _ = slices.BinarySearch(v.ranking, v.order(value))
	end, _ := slices.BinarySearchFunc(v.ranking[better:], v.order(value), func(have, want float64) int {
		if have <= want {
			return -1
		}
		return 1
	})
	return better, end, nil
}

// order is a number that is smaller for what is better.
func (v *View) order(value float64) float64 {
	if v.query.Minimize {
		return value
	}
	return -value
}

// Best is the architecture with the best judging value, the first of equal ones. Where a table lacks some
// numbers, it is the best of the others.
func (v *View) Best() (i int, accuracy float64, err error) {
	best := v.rows[0]
	for _, row := range v.rows {
		if v.order(v.judged[row]) < v.order(v.judged[best]) || math.IsNaN(v.judged[best]) {
			best = row
		}
	}
	accuracy, err = v.Judged(best)
	if err != nil {
		return 0, 0, err
	}
	return best, accuracy, nil
}

// Checksum is the SHA-256, in hexadecimal, of the architectures that the view keeps and of the two numbers of each: of
// what a search learns and is judged by, whatever file it stands in.
func (v *View) Checksum() string {
	sum := sha256.New()
	var record []byte
	for _, i := range v.rows {
		record = append(record[:0], v.table.code(i)...)
		record = binary.LittleEndian.AppendUint64(record, math.Float64bits(v.seen[i]))
		record = binary.LittleEndian.AppendUint64(record, math.Float64bits(v.judged[i]))
		sum.Write(record)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// SeenMetric is what Seen returns; Run is 0 for a mean.
func (v *View) SeenMetric() Metric { return v.seenBy.Metric }

// Describe says which accuracy the search sees, which one judges it, and what was left out. Every report quotes it.
func (v *View) Describe() string {
	var text string
	switch have := v.table.accuracies(); {
	case v.query.Metric != "":
		text = fmt.Sprintf("chosen and judged on %v, of which more is better", v.seenBy)
		if v.query.Minimize {
			text = fmt.Sprintf("chosen and judged on %v, of which less is better", v.seenBy)
		}
	case v.seenBy.String() != v.judgedBy.String():
		text = fmt.Sprintf("chosen on %v, judged on %v", v.seenBy, v.judgedBy)
	case len(have) == 1:
		text = fmt.Sprintf("chosen and judged on %v (the table has no other)", v.seenBy)
	case v.seenBy.Split != "validation" && v.table.has("validation"):
		text = fmt.Sprintf("chosen and judged on %v, as asked (the table has validation accuracy too)", v.seenBy)
	default:
		text = fmt.Sprintf("chosen and judged on %v", v.seenBy)
	}
	if v.missing > 0 {
		text += fmt.Sprintf("; %d architectures without these numbers left out", v.missing)
	}
	if v.query.Diverged == DivergedDrop {
		text += fmt.Sprintf("; runs below %g %% accuracy left out as diverged, with them %d architectures",
			100*DivergedBelow, v.diverged)
	}
	if v.table.merged > 0 {
		text += fmt.Sprintf("; %d rows that write an architecture once more, averaged", v.table.merged)
	}
	return text
}
