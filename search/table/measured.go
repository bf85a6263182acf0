package table

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
)

// Measurement is a row of a CSV file in which somebody writes down what was measured.
type Measurement struct {
	Arch   space.Arch
	Line   int                // in the file
	Values map[string]float64 // by metric; what the row does not say is absent
}

// Measured reads the rows of a CSV file in their order, an architecture as often as it stands there: the metric, as the
// query chooses it where it is an accuracy, and other metrics by the names of their columns, which must be there. Rows
// that do not say the metric are left out, and counted. Errors are *Error with the line.
func Measured(ctx context.Context, path, metric string, also []string, q Query, o Options) (list []Measurement,
	unsaid int, err error) {
	sp, ok := o.Space.(space.Coder)
	if !ok {
		return nil, 0, fmt.Errorf("tables of the space %s are not read", o.Space.Name())
	}
	file, err := files.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = file.Close() }()
	o.Columns, o.Also = q.Columns, also
	if metric != Accuracy {
		o.Also = append([]string{metric}, also...)
	}
	in, format, _, err := newInput(ctx, path, file, sp, o)
	if err == nil && format != FormatCSV {
		err = in.fail(-1, 0, 0, fmt.Errorf("this is a %s file: measurements are read from CSV", format))
	}
	if err != nil {
		return nil, 0, err
	}
	var at selection // of the metric's columns
	names := map[string]int{}
	err = in.csvRows(func(l csvLayout) error {
		header := &Table{path: path}
		for i, m := range l.metrics {
			header.columns = append(header.columns, &column{Metric: m.Metric})
			if slices.Contains(also, m.Name) {
				names[m.Name] = i
			}
		}
		var err error
		if metric != Accuracy {
			at.columns = []int{slices.IndexFunc(l.metrics, func(m csvMetric) bool { return m.Name == metric })}
		} else if at, err = header.choose(Accuracy, header.split(q), q.Run, q.Epochs); err != nil {
			return err
		}
		return nil
	}, func(r row) error {
		if cells, small := o.Space.(space.NASBench101); small && !cells.Contains(r.arch) {
			return in.fail(r.at.record, r.at.offset, r.at.line, fmt.Errorf("%v is no architecture of %s", r.arch,
				cells.Name()))
		}
		sum := 0.0
		for _, c := range at.columns {
			sum += r.values[c]
		}
		if math.IsNaN(sum) {
			unsaid++
			return nil
		}
		m := Measurement{r.arch, r.at.line, map[string]float64{metric: sum / float64(len(at.columns))}}
		for name, i := range names {
			if v := r.values[i]; v == v {
				m.Values[name] = v
			}
		}
		list = append(list, m)
		return nil
	})
	return list, unsaid, err
}
