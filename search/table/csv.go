package table

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/search/space"
)

// Columns names the columns of a CSV file that do not have the usual names. Empty fields mean the usual ones. If any of
// Accuracy, Validation and Test is set, the file's other accuracies are not read.
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
	Unit       string // of accuracies: UnitFraction or UnitPercent; empty: what a column's name says, else fractions
}

// Values of Columns.Unit.
const (
	UnitFraction = "fraction"
	UnitPercent  = "percent"
)

// accuracyColumn is the usual name of a column of accuracies, for example test_accuracy,
// validation_accuracy_run2_epochs108 or test_acc_percent.
var accuracyColumn = regexp.MustCompile(`^(?:(train|validation|valid|val|test)_)?acc(?:uracy)?(?:_run([1-9]))?` +
	`(?:_mean)?(?:_epochs([0-9]{1,5}))?((?:_in)?_(?:percent|pct))?$`)

// splitNames are the ways to write a split.
var splitNames = map[string]string{"": "", "train": "train", "validation": "validation", "valid": "validation",
	"val": "validation", "test": "test"}

// csvMetric is a column of numbers: what it holds, where, and what a value is divided by.
type csvMetric struct {
	Metric
	column  int
	divisor float64
	percent bool // divided by 100 because the column's name or the query says so
}

// csvLayout says which column of a file holds what; -1 where none does.
type csvLayout struct {
	arch, adjacency, operations, hash, params, madds int
	metrics                                          []csvMetric

	space    space.Space
	networks []int // columns of a MobileNetV3 network: depths, kernels, expansions; its arch is -1
	choices  []int // of space.Columned's columns where there is no arch
	merge    bool  // the file is known to write some architectures in several ways
	header   []string
}

// recognised are files whose header does not follow the usual names.
var recognised = map[string]csvLayout{
	// NAS-Bench-101's first run of each cell: test images right, of the 9,984 in whole batches.
	"index,hash,n,adj,ops,test_correct_of_9984,params,flops": {
		arch: -1, adjacency: 3, operations: 4, hash: 1, params: 6, madds: -1,
		metrics: []csvMetric{{Metric{Accuracy, "test", 1, 108}, 5, 9984, false}},
	},
	// EC-NAS-Bench: the cells of at most five vertices after 4 epochs, mean of its runs, beside NAS-Bench-101's first
	// run.
	"index,hash,adj,ops,n_runs,val_acc_4ep,test_acc_4ep,train_time_s,nb101_run0_test_108": {
		arch: -1, adjacency: 2, operations: 3, hash: 1, params: -1, madds: -1,
		metrics: []csvMetric{
			{Metric{Accuracy, "validation", 0, 4}, 5, 1, false}, {Metric{Accuracy, "test", 0, 4}, 6, 1, false},
			{Metric{TrainingTime, "", 0, 4}, 7, 1, false}, {Metric{Accuracy, "test", 1, 108}, 8, 1, false},
		},
	},
	// Sub-networks of the once-for-all MobileNetV3 supernet of width 1.0, measured on ImageNet's validation images
	// (IntelLabs/DyNAS-T).
	"depths,kernels,expands,macs,params,top1_mean,n_meas,sources": {
		arch: -1, adjacency: -1, operations: -1, hash: -1, params: 4, madds: 3, networks: []int{0, 1, 2},
		metrics: []csvMetric{{Metric{Accuracy, "validation", 0, 0}, 5, 100, false}},
	},
	// OnceNAS-Bench: DARTS cells trained on CIFAR-10. Its valid_acc50 and test_acc50 are the same numbers; its params
	// and flop are in millions.
	"weights_index,architecture,flop,params,train_time10,train_acc10,valid_acc10,train_time50,train_acc50," +
		"valid_acc50,test_acc50,gpu_latency,rasp_latency,fpga_latency,mcu_latency": {
		arch: 1, adjacency: -1, operations: -1, hash: -1, params: -1, madds: -1, merge: true,
		metrics: []csvMetric{{Metric{Accuracy, "validation", 1, 10}, 6, 100, false},
			{Metric{Accuracy, "validation", 1, 50}, 9, 100, false}},
	},
}

type csvItem struct {
	fields []string
	at     place
}

func readCSV(in *input) (*builder, error) {
	var b *builder
	err := in.csvRows(func(l csvLayout) error {
		metrics := make([]Metric, len(l.metrics))
		for i, m := range l.metrics {
			metrics[i] = m.Metric
		}
		b = newBuilder(in, metrics)
		b.merge = l.merge || space.FileOf(in.space) != nil // whose isomorphic cells are one
		return nil
	}, func(r row) error { return b.addRow(in, r) })
	return b, err
}

// csvRows reads the header and then, in their order, the rows of a CSV file.
func (in *input) csvRows(begin func(csvLayout) error, add func(row) error) error {
	in.unixLines()
	mark := in.separated()
	layout, comma, err := in.layout(mark)
	if err != nil {
		return err
	}
	limited := &rationed{r: in.r, left: maxRecordBytes}
	reader := csv.NewReader(limited)
	reader.Comma = comma
	reader.TrimLeadingSpace = comma != '\t' // which is a space, too
	if _, err := reader.Read(); err != nil {
		return in.fail(-1, 0, 0, fmt.Errorf("header: %w", csvError(err, nil, layout.header)))
	}
	if err := begin(layout); err != nil {
		return err
	}
	units := newUnits(layout)
	produce := func(emit func([]csvItem) error) error {
		var items []csvItem
		for number := int64(0); ; number++ {
			limited.left = maxRecordBytes
			offset := in.base + reader.InputOffset()
			fields, err := reader.Read()
			if err == nil {
				line, _ := reader.FieldPos(0)
				if !slices.ContainsFunc(fields, func(f string) bool { return f != "" }) {
					number-- // a row of empty cells that a spreadsheet left
					continue
				}
				items = append(items, csvItem{fields, place{number, offset, in.skipped + line}})
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
					line = in.skipped + parse.StartLine
				}
				return in.fail(number, offset, line, csvError(err, fields, layout.header))
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
	err = inOrder(in.ctx, in.workers(), produce, work, func(rows []row) error {
		for _, r := range rows {
			if err := add(r); err != nil {
				return err
			}
			units.see(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return units.check(in)
}

// layout finds out what separates the columns, if mark does not say it, and what they hold: the first separator with
// which the header makes sense; if it does with none, what is wrong is told of the one that makes most columns.
func (in *input) layout(mark rune) (csvLayout, rune, error) {
	head, _ := in.r.Peek(headBytes)
	tried := separatorsOfColumns
	if mark != 0 {
		tried = []rune{mark}
	}
	var failure error
	columns, best := 0, ','
	for _, comma := range tried {
		reader := csv.NewReader(bytes.NewReader(head))
		reader.Comma = comma
		header, err := reader.Read()
		if err == nil {
			var l csvLayout
			if l, err = newLayout(header, in.columns, in.also, in.space); err == nil {
				l.header = header
				return l, comma, nil
			}
		} else {
			err = fmt.Errorf("header: %w", csvError(err, nil, nil))
		}
		if len(header) > columns || failure == nil {
			columns, best, failure = len(header), comma, err
		}
	}
	if best != ',' {
		failure = fmt.Errorf("%w (columns separated by %q)", failure, best)
	}
	return csvLayout{}, 0, in.fail(-1, 0, 0, failure)
}

// units watches the columns in percent: values that were meant as fractions stand a hundred times too low, and nothing
// else shows it.
type units struct {
	layout    csvLayout
	low, high []place   // by metric: the first row with a value below and above 1; line 0: none
	value     []float64 // the low one
	beside    []float64
}

func newUnits(l csvLayout) *units {
	n := len(l.metrics)
	return &units{l, make([]place, n), make([]place, n), make([]float64, n), make([]float64, n)}
}

func (u *units) see(r row) {
	for i, v := range r.values {
		if !u.layout.metrics[i].percent {
			continue
		}
		if v *= 100; v > 0 && v < 1 && u.low[i].line == 0 {
			u.low[i], u.value[i] = r.at, v
		} else if v > 1 && u.high[i].line == 0 {
			u.high[i], u.beside[i] = r.at, v
		}
	}
}

func (u *units) check(in *input) error {
	for i, m := range u.layout.metrics {
		low, high := u.low[i], u.high[i]
		name := u.layout.name(m.column)
		switch {
		case low.line == 0:
		case high.line == 0:
			return in.fail(low.record, low.offset, low.line,
				fmt.Errorf("column %s: %.4g, and no value is above 1: these are fractions, not percent; "+
					"say ?unit=fraction", name, u.value[i]))
		case in.columns.Unit == "":
			return in.fail(low.record, low.offset, low.line,
				fmt.Errorf("column %s: %.4g beside %.4g at line %d: if it is a fraction, write it in percent; "+
					"if it is %.4g %%, say ?unit=percent", name, u.value[i], u.beside[i], high.line, u.value[i]))
		}
	}
	return nil
}

// name is a column's, for errors.
func (l *csvLayout) name(column int) string {
	return strconv.Quote(strings.TrimSpace(l.header[column]))
}

func csvError(err error, fields, header []string) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case errors.Is(err, csv.ErrFieldCount):
		return fmt.Errorf("the number of columns is not that of the header: %d, want %d", len(fields), len(header))
	case errors.As(err, &parse):
		return fmt.Errorf("column %d: %w", parse.Column, parse.Err)
	}
	return unpackError(err)
}

// newLayout finds out what a header says, which names columns of other metrics than the usual ones.
func newLayout(header []string, set Columns, also []string, sp space.Space) (csvLayout, error) {
	if known, ok := recognised[strings.Join(header, ",")]; ok && set == (Columns{}) && len(also) == 0 {
		known.space = sp
		return known, known.fits()
	}
	names, alike := map[string]int{}, map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := names[name]; twice && name != "" {
			return csvLayout{}, fmt.Errorf("the header names column %.60q twice", name)
		}
		names[name] = i
		name = headerName(name)
		if _, twice := alike[name]; twice {
			i = -1
		}
		alike[name] = i
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
			if i, ok := alike[headerName(name)]; ok && i < 0 && missing == nil {
				missing = fmt.Errorf("two columns are named like %q; the header has %.400s", name,
					strings.Join(header, ", "))
			} else if ok {
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
		arch:  find(set.Arch, "arch", "architecture", "genotype"), adjacency: find(set.Adjacency, "adjacency", "adj",
			"matrix"),
		operations: find(set.Operations, "operations", "ops"), hash: find(set.Hash, "hash", "module_hash"),
		params: find(set.Params, "params"), madds: find(set.MAdds, "madds"),
	}
	if set.Accuracy == "" && set.Validation == "" && set.Test == "" {
		for i, name := range header {
			if m, ok := usualMetric(headerName(name)); ok {
				m.column = i
				l.metrics = append(l.metrics, m)
			}
		}
	}
	for _, named := range []struct{ name, split string }{{set.Accuracy, ""}, {set.Validation, "validation"},
		{set.Test, "test"}} {
		if named.name == "" {
			continue
		}
		m, ok := usualMetric(headerName(named.name))
		if !ok {
			m = csvMetric{Metric: Metric{Name: Accuracy}, divisor: 1}
			if name := headerName(named.name); strings.HasSuffix(name, "_percent") || strings.HasSuffix(name, "_pct") {
				m.divisor = 100
			}
		}
		if named.split != "" {
			m.Split = named.split
		}
		m.column = find(named.name)
		l.metrics = append(l.metrics, m)
	}
	for i := range l.metrics {
		if m := &l.metrics[i]; m.Name == Accuracy && set.Unit != "" {
			m.divisor = 1
			if set.Unit == UnitPercent {
				m.divisor = 100
			}
		}
		l.metrics[i].percent = l.metrics[i].divisor == 100
	}
	for _, name := range also {
		l.metrics = append(l.metrics, csvMetric{Metric: Metric{Name: name}, column: find(name), divisor: 1})
	}
	lacks := ""
	if l.arch < 0 {
		lacks = l.columned(find)
	}
	switch {
	case missing != nil:
		return l, missing
	case len(header) > maxMetrics:
		return l, fmt.Errorf("%d columns, at most %d are accepted", len(header), maxMetrics)
	case lacks != "":
		return l, fmt.Errorf("no column arch, and of the columns with a decision each it lacks %s; "+
			"the header has %.400s", lacks, strings.Join(header, ", "))
	case l.arch < 0 && l.choices == nil && !l.cells():
		return l, fmt.Errorf("no column arch, which holds an architecture of %s; the header has %.400s", sp.Name(),
			strings.Join(header, ", "))
	case l.arch < 0 && l.cells() && (l.adjacency < 0 || l.operations < 0):
		return l, fmt.Errorf("no column arch, nor columns adjacency and operations; the header has %.400s",
			strings.Join(header, ", "))
	case len(l.metrics) == 0:
		return l, fmt.Errorf("no column of accuracies such as validation_accuracy or test_accuracy_run1; the header "+
			"has %.400s", strings.Join(header, ", "))
	}
	for i, m := range l.metrics {
		if slices.ContainsFunc(l.metrics[:i], func(o csvMetric) bool { return o.Metric == m.Metric }) {
			return l, fmt.Errorf("two columns hold %v", m.Metric)
		}
	}
	return l, nil
}

// columned looks for a column a decision. lacks names those missing where there are some; empty where all are there,
// or none.
func (l *csvLayout) columned(find func(set string, usual ...string) int) (lacks string) {
	sp, ok := l.space.(space.Columned)
	if !ok {
		return ""
	}
	var absent []string
	names := sp.Columns()
	columns := make([]int, len(names))
	for i, name := range names {
		if columns[i] = find("", name); columns[i] < 0 {
			absent = append(absent, name)
		}
	}
	switch len(absent) {
	case 0:
		l.choices = columns
	case len(names):
	default:
		return strings.Join(absent[:min(len(absent), 8)], ", ")
	}
	return ""
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
		return fmt.Errorf("the file lists MobileNetV3 networks, not architectures of %s: use --space mobilenetv3",
			l.space.Name())
	case l.networks == nil && l.arch < 0 && !l.cells():
		return fmt.Errorf("the file lists cells of NAS-Bench-101, not architectures of %s", l.space.Name())
	}
	return nil
}

// text is a field that is not a number: what Python writes around it is taken off.
func text(field string) string {
	field = strings.Trim(field, " \t\r\n\u00a0")
	if inner, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(field, "numpy."), "np."), "str_("); ok {
		field = strings.TrimSuffix(inner, ")")
	}
	if n := len(field); n >= 2 && (field[0] == '\'' || field[0] == '"') && field[n-1] == field[0] {
		field = field[1 : n-1]
	}
	return field
}

// network reads an architecture of another space than NAS-Bench-101.
func (l *csvLayout) network(fields []string) (space.Arch, error) {
	if mobile, ok := l.space.(space.MobileNetV3); ok && l.networks != nil {
		return mobile.NewMobileNet(text(fields[l.networks[0]]), text(fields[l.networks[1]]),
			text(fields[l.networks[2]]))
	}
	if l.choices != nil {
		chosen := make([]string, len(l.choices))
		for i, column := range l.choices {
			chosen[i] = text(fields[column])
		}
		return l.space.(space.Columned).FromColumns(chosen) // as columned found out
	}
	return l.space.Parse(text(fields[l.arch]))
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
		if c.hash = text(fields[l.hash]); isGap(c.hash) {
			c.hash = ""
		}
	}
	for _, claim := range []struct {
		column int
		value  *int64
	}{{l.params, &c.params}, {l.madds, &c.madds}} {
		if claim.column < 0 {
			continue
		}
		v, err := wholeNumber(strings.TrimSpace(fields[claim.column]))
		if err != nil {
			return row{}, fmt.Errorf("column %s: %w", l.name(claim.column), err)
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
		if r.values[i], err = m.value(fields[m.column]); err != nil {
			return row{}, fmt.Errorf("column %s: %w", l.name(m.column), err)
		}
	}
	return r, nil
}

// value reads a column's field; NaN where it is not known.
func (m csvMetric) value(field string) (float64, error) {
	k := anyNumber
	switch m.Name {
	case Accuracy:
		k = fraction
	case TrainedMAdds, TrainedParams:
		k = count
	}
	v, percent, err := number(strings.TrimSpace(field), k)
	if err != nil || v != v {
		return v, err
	}
	switch {
	case percent && m.Name == Accuracy:
		v /= 100
	case m.divisor != 1:
		v /= m.divisor
	}
	if err := checkValue(m.Name, v); err != nil {
		if m.Name == Accuracy && m.divisor == 1 && v > 1 && v <= 100 {
			err = fmt.Errorf("%w; if the column is in percent, end its name in _percent or say ?unit=percent", err)
		}
		return v, err
	}
	return v, nil
}

func (l *csvLayout) cell(fields []string) (space.Cell, error) {
	if l.arch >= 0 {
		a, err := space.NASBench101{}.Parse(text(fields[l.arch]))
		if err != nil {
			return 0, err
		}
		return a.(space.Cell), nil
	}
	adjacency, err := matrixDigits(fields[l.adjacency])
	if err != nil {
		return 0, fmt.Errorf("column %s: %w", l.name(l.adjacency), err)
	}
	digits, names := operationsOf(fields[l.operations])
	if names == nil {
		return cellOfDigits(adjacency, digits)
	}
	return cellOf(adjacency, names)
}
