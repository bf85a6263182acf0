package table

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/search/space"
)

// Columns names the columns of a CSV file that do not have the usual names. Empty fields mean the usual ones. If any of Accuracy,
// Validation and Test is set, the file's other accuracies are not read.
type Columns struct {
	Arch       string // canonical text; usually "arch"
	Adjacency  string // usually "adjacency" or "adj"
	Operations string // usually "operations" or "ops"
	Accuracy   string // an accuracy of a split that its name may say, as usual names do
	Validation string // a validation accuracy
	Test       string // a test accuracy
	Hash       string // usually "hash" or "module_hash"
	Params     string // usually "params"
	MAdds      string // usually "madds"
}

// accuracyColumn is the usual name of a column of accuracies, for example test_accuracy, validation_accuracy_run2_epochs108 or
// test_acc_percent.
var accuracyColumn = regexp.MustCompile(`^(?:(train|validation|valid|val|test)_)?acc(?:uracy)?(?:_run([1-9]))?(?:_mean)?(?:_epochs([0-9]{1,5}))?(_percent)?$`)

// splitNames are the ways to write a split.
var splitNames = map[string]string{"": "", "train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}

// csvMetric is a column of numbers: what it holds, where, and what a value is divided by.
type csvMetric struct {
	Metric
	column  int
	divisor float64
}

// csvLayout says which column of a file holds what; -1 where none does.
type csvLayout struct {
	arch, adjacency, operations, hash, params, madds int
	metrics                                          []csvMetric

	space    space.Space
	networks []int // columns of a MobileNetV3 network: depths, kernels, expansions; its arch is -1
	merge    bool  // the file is known to write some architectures in several ways
}

// recognised are files whose header does not follow the usual names.
var recognised = map[string]csvLayout{
	// NAS-Bench-101's first run of each cell: test images right, of the 9,984 in whole batches.
	"index,hash,n,adj,ops,test_correct_of_9984,params,flops": {
		arch: -1, adjacency: 3, operations: 4, hash: 1, params: 6, madds: -1,
		metrics: []csvMetric{{Metric{Accuracy, "test", 1, 108}, 5, 9984}},
	},
	// EC-NAS-Bench: the cells of at most five vertices after 4 epochs, mean of its runs, beside NAS-Bench-101's first run.
	"index,hash,adj,ops,n_runs,val_acc_4ep,test_acc_4ep,train_time_s,nb101_run0_test_108": {
		arch: -1, adjacency: 2, operations: 3, hash: 1, params: -1, madds: -1,
		metrics: []csvMetric{
			{Metric{Accuracy, "validation", 0, 4}, 5, 1}, {Metric{Accuracy, "test", 0, 4}, 6, 1},
			{Metric{TrainingTime, "", 0, 4}, 7, 1}, {Metric{Accuracy, "test", 1, 108}, 8, 1},
		},
	},
	// Sub-networks of the once-for-all MobileNetV3 supernet of width 1.0, measured on ImageNet's validation images (IntelLabs/DyNAS-T).
	"depths,kernels,expands,macs,params,top1_mean,n_meas,sources": {
		arch: -1, adjacency: -1, operations: -1, hash: -1, params: 4, madds: 3, networks: []int{0, 1, 2},
		metrics: []csvMetric{{Metric{Accuracy, "validation", 0, 0}, 5, 100}},
	},
	// OnceNAS-Bench: DARTS cells trained on CIFAR-10. Its valid_acc50 and test_acc50 are the same numbers; its params and flop are in millions.
	"weights_index,architecture,flop,params,train_time10,train_acc10,valid_acc10,train_time50,train_acc50,valid_acc50,test_acc50,gpu_latency,rasp_latency,fpga_latency,mcu_latency": {
		arch: 1, adjacency: -1, operations: -1, hash: -1, params: -1, madds: -1, merge: true,
		metrics: []csvMetric{{Metric{Accuracy, "validation", 1, 10}, 6, 100}, {Metric{Accuracy, "validation", 1, 50}, 9, 100}},
	},
}

type csvItem struct {
	fields []string
	at     place
}

func readCSV(in *input) (*builder, error) {
	limited := &rationed{r: in.r, left: maxRecordBytes}
	base := int64(0)
	if mark, _ := in.r.Peek(3); string(mark) == "\ufeff" { // some spreadsheets begin with a byte order mark
		_, _ = in.r.Discard(len(mark)) // just peeked at
		base = int64(len(mark))
	}
	reader := csv.NewReader(limited)
	header, err := reader.Read()
	if err != nil {
		return nil, in.fail(-1, 0, 0, fmt.Errorf("header: %w", csvError(err)))
	}
	layout, err := newLayout(header, in.columns, in.space)
	if err != nil {
		return nil, in.fail(-1, 0, 0, err)
	}
	metrics := make([]Metric, len(layout.metrics))
	for i, m := range layout.metrics {
		metrics[i] = m.Metric
	}
	b := newBuilder(in, metrics)
	b.merge = layout.merge
	produce := func(emit func([]csvItem) error) error {
		var items []csvItem
		for number := int64(0); ; number++ {
			limited.left = maxRecordBytes
			offset := base + reader.InputOffset()
			fields, err := reader.Read()
			if err == nil {
				line, _ := reader.FieldPos(0)
				items = append(items, csvItem{fields, place{number, offset, line}})
			}
			if len(items) == batchSize || err != nil && len(items) > 0 {
				if err := emit(items); err != nil {
					return err
				}
				items = nil
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				line := 0
				var parse *csv.ParseError
				if errors.As(err, &parse) {
					line = parse.StartLine
				}
				return in.fail(number, offset, line, csvError(err))
			}
		}
	}
	work := func(items []csvItem) ([]row, error) {
		rows := make([]row, len(items))
		for i, item := range items {
			r, err := layout.row(item.fields, in.tells)
			if err != nil {
				return nil, in.fail(item.at.record, item.at.offset, item.at.line, err)
			}
			r.at = item.at
			rows[i] = r
		}
		return rows, nil
	}
	return b, inOrder(in.ctx, in.workers(), produce, work, func(rows []row) error {
		for _, r := range rows {
			if err := b.addRow(in, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func csvError(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case errors.Is(err, csv.ErrFieldCount):
		return errors.New("the number of columns is not that of the header")
	case errors.As(err, &parse):
		return fmt.Errorf("column %d: %w", parse.Column, parse.Err)
	}
	return unpackError(err)
}

// newLayout finds out what a header says.
func newLayout(header []string, set Columns, sp space.Space) (csvLayout, error) {
	if known, ok := recognised[strings.Join(header, ",")]; ok && set == (Columns{}) {
		known.space = sp
		return known, known.fits()
	}
	names := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := names[name]; twice && name != "" {
			return csvLayout{}, fmt.Errorf("the header names column %.60q twice", name)
		}
		names[name] = i
	}
	var missing error
	find := func(set string, usual ...string) int {
		if set != "" {
			usual = []string{set}
		}
		for _, name := range usual {
			if i, ok := names[name]; ok {
				return i
			}
		}
		if set != "" && missing == nil {
			missing = fmt.Errorf("no column %q; the header has %.400s", set, strings.Join(header, ", "))
		}
		return -1
	}
	l := csvLayout{
		space: sp,
		arch:  find(set.Arch, "arch", "architecture"), adjacency: find(set.Adjacency, "adjacency", "adj", "matrix"),
		operations: find(set.Operations, "operations", "ops"), hash: find(set.Hash, "hash", "module_hash"),
		params: find(set.Params, "params"), madds: find(set.MAdds, "madds"),
	}
	if set.Accuracy == "" && set.Validation == "" && set.Test == "" {
		for i, name := range header {
			if m, ok := usualMetric(strings.TrimSpace(name)); ok {
				m.column = i
				l.metrics = append(l.metrics, m)
			}
		}
	}
	for _, named := range []struct{ name, split string }{{set.Accuracy, ""}, {set.Validation, "validation"}, {set.Test, "test"}} {
		if named.name == "" {
			continue
		}
		m, ok := usualMetric(named.name)
		if !ok {
			m = csvMetric{Metric: Metric{Name: Accuracy}, divisor: 1}
			if strings.HasSuffix(named.name, "_percent") {
				m.divisor = 100
			}
		}
		if named.split != "" {
			m.Split = named.split
		}
		m.column = find(named.name)
		l.metrics = append(l.metrics, m)
	}
	switch {
	case missing != nil:
		return l, missing
	case len(header) > maxMetrics:
		return l, fmt.Errorf("%d columns, at most %d are accepted", len(header), maxMetrics)
	case l.arch < 0 && !l.cells():
		return l, fmt.Errorf("no column arch, which holds an architecture of %s; the header has %.400s", sp.Name(), strings.Join(header, ", "))
	case l.arch < 0 && (l.adjacency < 0 || l.operations < 0):
		return l, fmt.Errorf("no column arch, nor columns adjacency and operations; the header has %.400s", strings.Join(header, ", "))
	case len(l.metrics) == 0:
		return l, fmt.Errorf("no column of accuracies such as validation_accuracy or test_accuracy_run1; the header has %.400s", strings.Join(header, ", "))
	}
	for i, m := range l.metrics {
		if slices.ContainsFunc(l.metrics[:i], func(o csvMetric) bool { return o.Metric == m.Metric }) {
			return l, fmt.Errorf("two columns hold %v", m.Metric)
		}
	}
	return l, nil
}

// usualMetric reads a column's name.
func usualMetric(name string) (csvMetric, bool) {
	if name == TrainingTime || name == TrainedMAdds || name == TrainedParams {
		return csvMetric{Metric: Metric{Name: name}, divisor: 1}, true
	}
	part := accuracyColumn.FindStringSubmatch(name)
	if part == nil {
		return csvMetric{}, false
	}
	m := csvMetric{Metric: Metric{Name: Accuracy, Split: splitNames[part[1]]}, divisor: 1}
	m.Run, _ = strconv.Atoi(part[2]) // nothing is 0
	m.Epochs, _ = strconv.Atoi(part[3])
	if part[4] != "" {
		m.divisor = 100
	}
	return m, true
}

// cells tells whether the architectures are NAS-Bench-101's.
func (l *csvLayout) cells() bool {
	_, ok := l.space.(space.NASBench101)
	return ok
}

// fits tells whether a recognised file is of the space.
func (l *csvLayout) fits() error {
	_, mobile := l.space.(space.MobileNetV3)
	switch {
	case l.networks != nil && !mobile:
		return fmt.Errorf("the file lists MobileNetV3 networks, not architectures of %s: use --space mobilenetv3", l.space.Name())
	case l.networks == nil && l.arch < 0 && !l.cells():
		return fmt.Errorf("the file lists cells of NAS-Bench-101, not architectures of %s", l.space.Name())
	}
	return nil
}

// network reads an architecture of another space than NAS-Bench-101.
func (l *csvLayout) network(fields []string) (space.Arch, error) {
	if mobile, ok := l.space.(space.MobileNetV3); ok && l.networks != nil {
		return mobile.NewMobileNet(strings.TrimSpace(fields[l.networks[0]]), strings.TrimSpace(fields[l.networks[1]]), strings.TrimSpace(fields[l.networks[2]]))
	}
	return l.space.Parse(strings.TrimSpace(fields[l.arch]))
}

// row checks a record.
func (l *csvLayout) row(fields []string, tells [len(told)]bool) (r row, err error) {
	if l.cells() {
		r.arch, err = l.cell(fields)
	} else {
		r.arch, err = l.network(fields)
	}
	if err != nil {
		return row{}, err
	}
	c := noClaims
	if l.hash >= 0 {
		c.hash = strings.TrimSpace(fields[l.hash])
	}
	for _, claim := range []struct {
		column int
		value  *int64
		name   string
	}{{l.params, &c.params, "params"}, {l.madds, &c.madds, "madds"}} {
		if claim.column < 0 || strings.TrimSpace(fields[claim.column]) == "" {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(fields[claim.column]), 10, 64)
		if err != nil || v < 0 {
			return row{}, fmt.Errorf("%s %.40q is not a number of them", claim.name, fields[claim.column])
		}
		*claim.value = v
	}
	r.values = make([]float64, len(l.metrics))
	r.claims = c
	for k, claim := range []*int64{&c.madds, &c.params} {
		if tells[k] { // nothing to compare with
			*claim = space.Unknown
		}
	}
	if r.hash, err = c.verify(r.arch); err != nil {
		return row{}, err
	}
	for i, m := range l.metrics {
		text := strings.TrimSpace(fields[m.column])
		if text == "" {
			r.values[i] = math.NaN()
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return row{}, fmt.Errorf("%v: %.40q is not a number", m.Metric, text)
		}
		if m.divisor != 1 {
			v /= m.divisor
		}
		if err := checkValue(m.Name, v); err != nil {
			return row{}, fmt.Errorf("%v: %w", m.Metric, err)
		}
		r.values[i] = v
	}
	return r, nil
}

// separators stand between the numbers of a matrix and between the names of operations.
func separators(r rune) bool { return strings.ContainsRune(" \t\n,;[]'\"", r) }

func (l *csvLayout) cell(fields []string) (space.Cell, error) {
	if l.arch >= 0 {
		a, err := space.NASBench101{}.Parse(strings.TrimSpace(fields[l.arch]))
		if err != nil {
			return 0, err
		}
		return a.(space.Cell), nil
	}
	adjacency := strings.Join(strings.FieldsFunc(fields[l.adjacency], separators), "")
	names := strings.FieldsFunc(fields[l.operations], separators)
	if len(names) <= 1 && strings.Trim(strings.Join(names, ""), "012") == "" {
		return cellOfDigits(adjacency, strings.Join(names, ""))
	}
	if names[0] != "input" {
		names = append(append([]string{"input"}, names...), "output")
	}
	return cellOf(adjacency, names)
}
