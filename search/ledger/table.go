package ledger

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Table is a source of labels that have been measured before: a view of a tabular benchmark.
type Table struct {
	view   *table.View
	metric Metric
	also   *also // nil: nothing
}

// also is what a table says beside the labels.
type also struct {
	names  []string
	values []func(row int) float64
}

var (
	_ Source = Table{}
	_ Judge  = Table{}
	_ Lister = Table{}
	_ Noter  = Table{}
)

// FromTable makes a view a source.
func FromTable(v *table.View) Table { return Table{view: v} }

// Of is the source of a metric, which the view is of, that says other metrics too.
func (t Table) Of(m Metric, names []string) (Table, error) {
	if t.metric = m; len(names) == 0 {
		return t, nil
	}
	t.also = &also{names: names}
	for _, name := range names {
		values, err := t.view.Table().Other(name)
		if err != nil {
			return t, err
		}
		t.also.values = append(t.also.values, values)
	}
	return t, nil
}

// Note is what else the table says of an architecture.
func (t Table) Note(a space.Arch) (n Note) {
	i, ok := t.view.Table().Index(a)
	if !ok || t.also == nil {
		return n
	}
	for k, name := range t.also.names {
		if v := t.also.values[k](i); v == v {
			if n.Metrics == nil {
				n.Metrics = map[string]float64{}
			}
			n.Metrics[name] = v
		}
	}
	return n
}

// View is the view that labels come from.
func (t Table) View() *table.View { return t.view }

// Has tells whether the table lists an architecture and the view keeps it.
func (t Table) Has(a space.Arch) bool {
	_, ok := t.row(a)
	return ok
}

// row finds an architecture that the view keeps.
func (t Table) row(a space.Arch) (int, bool) {
	i, ok := t.view.Table().Index(a)
	if !ok {
		return 0, false
	}
	v := t.view.Seen(i)
	return i, v == v
}

// Len is how many architectures the view keeps.
func (t Table) Len() int { return len(t.view.Cells()) }

// Arch is one of them.
func (t Table) Arch(i int) space.Arch { return t.view.Table().Arch(t.view.Cells()[i]) }

// Label returns the accuracies that a search may see.
func (t Table) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	values := make([]float64, len(archs))
	for k, a := range archs {
		i, ok := t.view.Table().Index(a)
		if !ok {
			return nil, fmt.Errorf("label of %v: %w", a, ErrNoLabel)
		}
		values[k] = t.view.Seen(i)
	}
	return values, ctx.Err()
}

// Facts names the metric that a search sees.
func (t Table) Facts() Facts {
	m := t.view.SeenMetric()
	metric := m.Name
	if m.Split != "" {
		metric = m.Split + " " + metric
	}
	return Facts{Source: "table", Metric: metric, Run: m.Run, Epochs: m.Epochs}.As(t.metric)
}

// Describe is the view's own description.
func (t Table) Describe() string { return t.view.Describe() }

// Unseal ends the search.
func (t Table) Unseal() { t.view.Unseal() }

// Judge returns the judging accuracy and the rank by it; table.ErrSealed while the search goes on.
func (t Table) Judge(a space.Arch) (float64, int, error) {
	i, ok := t.row(a)
	if !ok {
		return 0, 0, fmt.Errorf("accuracy of %v: %w", a, ErrNoLabel)
	}
	accuracy, err := t.view.Judged(i)
	if err != nil {
		return 0, 0, err
	}
	rank, err := t.view.Rank(i)
	return accuracy, rank, err
}

// Percentile is 100 · rank / Total; equal ones share the mean of their ranks.
func (t Table) Percentile(a space.Arch) (float64, error) {
	i, ok := t.row(a)
	if !ok {
		return 0, fmt.Errorf("rank of %v: %w", a, ErrNoLabel)
	}
	return t.view.Percentile(i)
}

// Total is how many architectures are ranked.
func (t Table) Total() int { return len(t.view.Cells()) }
