package ask

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Told is what became of what was told.
type Told struct {
	New      int `json:"new"`      // architectures that had no measurement
	Repeated int `json:"repeated"` // measurements of architectures that had another one: the mean counts
	Known    int `json:"known"`    // measurements that had been told before
	Failed   int `json:"failed"`   // architectures that cannot be measured
}

// values are what one measurement says, by metric.
type values = map[string]float64

// telling is an architecture with all that is told of it.
type telling struct {
	label int      // in the ledger
	all   []values // those of before first
	left  map[string]int
}

// Tell enters measurements, all of them or, on an error, none. An architecture may be measured several times: the mean
// counts. What was told before, in all its values, is no new measurement, so that a file that grows can be told again
// and again; equal ones in one call are as many as they are.
func (f *Folder) Tell(all []table.Measurement) (t Told, err error) {
	labels := slices.Clone(f.labels)
	at := make(map[space.Arch]int, len(labels))
	for i, l := range labels {
		at[l.Arch] = i
	}
	from := f.byArch()
	tellings := map[space.Arch]*telling{}
	var order []*telling
	for _, m := range all {
		if err := f.check(m); err != nil && m.Line > 0 {
			return Told{}, fmt.Errorf("line %d: %w", m.Line, err)
		} else if err != nil {
			return Told{}, err
		}
		this := tellings[m.Arch]
		if this == nil {
			i, had := at[m.Arch]
			this = &telling{label: i, left: map[string]int{}}
			if had {
				this.all = f.measurements(labels[i])
			} else {
				this.label = len(labels)
				labels = append(labels, fresh(m.Arch, len(labels)+1, from))
			}
			for _, v := range this.all {
				this.left[text(v)]++
			}
			tellings[m.Arch], order = this, append(order, this)
		}
		key := text(m.Values)
		switch {
		case this.left[key] > 0:
			this.left[key]--
			t.Known++
			continue
		case len(this.all) > 0:
			t.Repeated++
		default:
			t.New++
		}
		this.all = append(slices.Clip(this.all), m.Values)
	}
	for _, this := range order {
		f.settle(&labels[this.label], this.all)
	}
	if t.New+t.Repeated == 0 {
		return t, nil
	}
	if err := ledger.Write(f.path(report.LedgerName), f.facts(), labels); err != nil {
		return Told{}, err
	}
	f.labels = labels
	return t, nil
}

// Fail notes architectures that cannot be measured: they are not suggested again, unless a measurement is told all the
// same.
func (f *Folder) Fail(archs []space.Arch) (Told, error) {
	t, failed := Told{}, slices.Clone(f.suggested.Failed)
	for _, a := range archs {
		if slices.ContainsFunc(f.labels, func(l ledger.Label) bool { return l.Arch == a }) {
			return Told{}, fmt.Errorf("%v has been measured", a)
		}
		if !slices.Contains(failed, a.String()) {
			failed = append(failed, a.String())
			t.Failed++
		}
	}
	before := f.suggested.Failed
	f.suggested.Failed = failed
	if err := f.writeSuggestions(); err != nil {
		f.suggested.Failed = before
		return Told{}, err
	}
	return t, nil
}

func (f *Folder) check(m table.Measurement) error {
	for _, name := range append([]string{f.MetricName()}, f.Others()...) {
		if _, said := m.Values[name]; !said {
			return fmt.Errorf("%v: its %s is not said, but %s", m.Arch, name,
				strings.Join(slices.Sorted(maps.Keys(m.Values)), ", "))
		}
	}
	name := f.MetricName()
	if err := f.facts().Check(m.Values[name]); err != nil && f.Metric.IsZero() {
		return fmt.Errorf("%v: %s %w, or per cent with %% behind", m.Arch, name, err)
	} else if err != nil {
		return fmt.Errorf("%v: %s %w", m.Arch, name, err)
	}
	for name, v := range m.Values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%v: %s is %g, want a number", m.Arch, name, v)
		}
	}
	return nil
}

// byArch finds suggestions by the text of their architectures.
func (f *Folder) byArch() map[string]Suggestion {
	from := make(map[string]Suggestion, len(f.suggested.All))
	for _, x := range f.suggested.All {
		from[x.Arch] = x
	}
	return from
}

// proposerUser is whoever measures what nobody had suggested.
const proposerUser = "user"

// fresh is the label of an architecture of which nothing was told yet.
func fresh(a space.Arch, n int, from map[string]Suggestion) ledger.Label {
	l := ledger.Label{N: n, Arch: a, Proposer: proposerUser, Predicted: math.NaN()}
	if x, suggested := from[a.String()]; suggested {
		l.Round, l.Proposer = x.Round, x.Proposer
		if x.Probability != nil {
			l.Predicted = *x.Probability
		}
	}
	return l
}

// measurements are those that a label is made of.
func (f *Folder) measurements(l ledger.Label) []values {
	if len(l.Note.Measurements) > 0 {
		return l.Note.Measurements
	}
	one := values{f.MetricName(): l.Value}
	for name, v := range l.Note.Metrics {
		one[name] = v
	}
	return []values{one}
}

// settle makes a label's values of its measurements: the means of those that say them.
func (f *Folder) settle(l *ledger.Label, all []values) {
	l.Note = ledger.Note{}
	if len(all) > 1 {
		l.Note.Measurements = all
	}
	sums, times := values{}, values{}
	for _, one := range all {
		for name, v := range one {
			sums[name] += v
			times[name]++
		}
	}
	for name, sum := range sums {
		if mean := sum / times[name]; name == f.MetricName() {
			l.Value = mean
		} else {
			if l.Note.Metrics == nil {
				l.Note.Metrics = values{}
			}
			l.Note.Metrics[name] = mean
		}
	}
}

// text tells measurements apart.
func text(v values) string {
	t, err := json.Marshal(v) // in the order of the names; they are numbers
	if err != nil {
		panic(err)
	}
	return string(t)
}
