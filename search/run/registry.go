package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/search"
)

// Method is a way to search. It asks for labels through its run until the budget is spent, and is a function of the
// run's settings, seed and labels alone: a search that was stopped is begun again, and its ledger answers what was
// bought, unless the method took up what it had saved (Run.Restore).
type Method interface {
	Name() string
	Run(ctx context.Context, r *Run) error
}

// Checker is a method that runs some settings only. Errors name flags.
type Checker interface {
	Check(c search.Config) error
}

// Lagging is a method that goes by search.Config's Lag. The others ask for everything at once, or for what the labels
// before lead them to.
type Lagging interface {
	Method
	Lagging()
}

// Unlabelled is a method that asks for no labels: it says its pick itself (Found.Picked), and labels, where there are
// any, judge it only.
type Unlabelled interface {
	Method
	Unlabelled()
}

// IsUnlabelled tells whether a method asks for no labels.
func IsUnlabelled(m Method) bool {
	_, unlabelled := m.(Unlabelled)
	return unlabelled
}

// Abouter is a method that says in a line what it does, for help.
type Abouter interface{ About() string }

// About lists some methods, a line each, with what they say of themselves.
func About(names []string) string {
	var b strings.Builder
	for _, name := range names {
		about := ""
		if a, ok := registry[name].(Abouter); ok {
			about = a.About()
		}
		fmt.Fprintf(&b, "  %-12s  %s\n", name, about)
	}
	return b.String()
}

var registry = map[string]Method{}

// Register makes a method known by its name, from an init function of its package.
func Register(m Method) {
	if _, twice := registry[m.Name()]; twice {
		panic("run: the method " + m.Name() + " is registered twice")
	}
	registry[m.Name()] = m
}

// Names lists the registered methods in alphabetical order.
func Names() []string { return slices.Sorted(maps.Keys(registry)) }

// Open returns the method of a name.
func Open(name string) (Method, error) {
	if m, ok := registry[name]; ok {
		return m, nil
	}
	return nil, names.Unknown("method", name, Names())
}

// For returns the method that runs some settings, which it has checked.
func For(c search.Config) (Method, error) {
	m, err := Open(c.Algorithm())
	if err != nil {
		return nil, fmt.Errorf("--method: %w", err)
	}
	return m, check(m, c)
}

func check(m Method, c search.Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	if _, lags := m.(Lagging); c.Lag > 0 && !lags {
		return fmt.Errorf("--lag %d: the method %s has none; %s has", c.Lag, m.Name(), search.MethodName)
	}
	if IsUnlabelled(m) && (!c.Metric.IsZero() || len(c.Measures(c.Metric)) > 0) {
		return fmt.Errorf("the method %s asks for no labels: no --metric, no --max and no --pareto-cost of what is "+
			"measured with them", m.Name())
	}
	if k, ok := m.(Checker); ok {
		return k.Check(c)
	}
	return nil
}
