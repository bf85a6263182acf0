package ledger

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Directions of a Metric.
const (
	Maximize = "maximize"
	Minimize = "minimize"
)

// Metric is what labels measure where that is no accuracy: a number of any size. The zero one is accuracy, 0..1.
type Metric struct {
	Name      string `json:"name" yaml:"name"`
	Direction string `json:"direction" yaml:"direction"` // Maximize or Minimize
	Unit      string `json:"unit,omitempty" yaml:"unit,omitempty"`
}

// IsZero tells whether accuracy is meant.
func (m Metric) IsZero() bool { return m == Metric{} }

// metricName is what a metric may be called: a column of a table, a key of JSON.
var metricName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.@/-]*$`)

// String is the text that Set reads: NAME:DIRECTION, perhaps with :UNIT.
func (m Metric) String() string {
	if m.IsZero() {
		return ""
	}
	text := m.Name + ":" + m.Direction
	if m.Unit != "" {
		text += ":" + m.Unit
	}
	return text
}

// Set reads perplexity:minimize or throughput:maximize:images/s; empty is accuracy.
func (m *Metric) Set(text string) error {
	if text == "" {
		*m = Metric{}
		return nil
	}
	parts := strings.SplitN(text, ":", 3)
	x := Metric{Name: parts[0]}
	if len(parts) > 1 {
		x.Direction = parts[1]
	}
	if len(parts) > 2 {
		x.Unit = parts[2]
	}
	if err := x.Check(); err != nil {
		return err
	}
	*m = x
	return nil
}

// Type is what help calls it.
func (*Metric) Type() string { return "metric" }

// CheckName tells whether a metric may be called so.
func CheckName(name string) error {
	if !metricName.MatchString(name) {
		return fmt.Errorf("%q is no name of a metric: want letters, digits and _ . @ / -", name)
	}
	return nil
}

// Check tells what is wrong with it.
func (m Metric) Check() error {
	switch {
	case m.IsZero():
		return nil
	case m.Name == "accuracy":
		return fmt.Errorf("accuracy is what is measured where no metric is said, from 0 to 1 and more is better")
	case CheckName(m.Name) != nil:
		return CheckName(m.Name)
	case m.Direction != Maximize && m.Direction != Minimize:
		return fmt.Errorf("%s: say whether less or more is better, as %s:%s or %s:%s", m.Name, m.Name, Minimize, m.Name,
			Maximize)
	}
	return nil
}

// UnmarshalYAML reads {name: perplexity, direction: minimize} or the text that Set reads.
func (m *Metric) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return m.Set(node.Value)
	}
	for i := 0; i+1 < len(node.Content) && node.Kind == yaml.MappingNode; i += 2 {
		if key := node.Content[i].Value; key != "name" && key != "direction" && key != "unit" {
			return fmt.Errorf("unknown key %q; known: name, direction, unit", key)
		}
	}
	type plain Metric
	var x plain
	if err := node.Decode(&x); err != nil {
		return err
	}
	*m = Metric(x)
	return m.Check()
}

// Bound is the most that a metric may be, of those that are measured with a label.
type Bound struct {
	Name string
	Most float64
}

// ParseBound reads latency_ms<=15.
func ParseBound(text string) (Bound, error) {
	name, most, ok := strings.Cut(text, "<=")
	name = strings.TrimSpace(name)
	v, err := strconv.ParseFloat(strings.TrimSpace(most), 64)
	if !ok || err != nil || CheckName(name) != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return Bound{}, fmt.Errorf("%q: want NAME<=NUMBER, as latency_ms<=15", text)
	}
	return Bound{name, v}, nil
}

func (b Bound) String() string { return b.Name + "<=" + strconv.FormatFloat(b.Most, 'g', -1, 64) }

// unfit is a score that no label within bounds has: beyond it, ordered by how far they are exceeded, lie those outside.
const unfit = -1e300

// largest is the largest number that a metric may be.
const largest = 1e299

// score is what a search maximises: the label itself, its negative where less is better, and for labels outside of
// bounds something below all that are within them, the lower the further outside (Deb 2000, an efficient constraint
// handling method for genetic algorithms).
func score(f Facts, bounds []Bound, l Label) (float64, error) {
	v := l.Value
	if err := f.Check(v); err != nil {
		return 0, err
	}
	if f.Direction == Minimize {
		v = -v
	}
	excess := 0.0
	for _, b := range bounds {
		said, known := l.Measured(f, b.Name)
		if n := l.Note; !known && (n.Stopped != nil || n.Diverged || n.Failed != nil) {
			excess++ // its training did not come to that: what is not known is not within
			continue
		} else if !known {
			return 0, fmt.Errorf("%s is not said, which --max %v limits", b.Name, b)
		}
		excess += max(0, (said-b.Most)/max(math.Abs(b.Most), 1e-9))
	}
	if excess > 0 {
		v = unfit * (1.1 + excess/(1+excess))
	}
	return v, nil
}

// Scores are what a network learns of labels: their scores, where those outside of bounds lie below the others by some
// of what these differ by, still the lower the further outside.
func Scores(labels []Label) []float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range labels {
		if l.Fits() {
			low, high = min(low, l.Score), max(high, l.Score)
		}
	}
	span := high - low
	if !(span > 0) { // none fits, or all are the same
		span = 1
	}
	if low > high {
		low = 0
	}
	out := make([]float64, len(labels))
	for i, l := range labels {
		if out[i] = l.Score; !l.Fits() {
			out[i] = low - span*(l.Score/unfit-1)
		}
	}
	return out
}

// Check tells whether a number can be a label.
func (f Facts) Check(v float64) error {
	if f.Direction == "" && !(v >= 0 && v <= 1) {
		return fmt.Errorf("%g, want 0..1", v)
	} else if f.Direction != "" && !(math.Abs(v) <= largest) {
		return fmt.Errorf("%g, want a number", v)
	}
	return nil
}

// As are facts about labels of a metric.
func (f Facts) As(m Metric) Facts {
	if !m.IsZero() {
		f.Metric, f.Direction, f.Unit = m.Name, m.Direction, m.Unit
	}
	return f
}

// Other is the metric of labels that are no accuracies and no predicted scores; zero of those.
func (f Facts) Other() Metric {
	if f.Direction == "" {
		return Metric{}
	}
	return Metric{f.Metric, f.Direction, f.Unit}
}

// Fits tells whether the label is within all bounds.
func (l Label) Fits() bool { return l.Score > unfit }

// Measured is a metric that a label says, itself or beside its value.
func (l Label) Measured(f Facts, name string) (float64, bool) {
	if name == f.Metric || f.Direction == "" && name == "accuracy" {
		return l.Value, true
	}
	v, known := l.Note.Metrics[name]
	return v, known
}
