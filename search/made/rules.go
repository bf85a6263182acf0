package made

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/setting"
)

// What becomes of a candidate whose training falls apart, or fails, for good.
const (
	Chance = "chance" // its label is the accuracy of guessing
	Fail   = "fail"   // the search ends with an error
)

// Rules say what a label is made of, and what becomes of trainings that do not go well.
type Rules struct {
	Seed      uint64
	Seeds     int     // a label is the mean of trainings with Seed, Seed+1, ...
	Diverged  string  // Chance or Fail
	Failed    string  // the same of a candidate whose training fails wherever it is tried
	Stop      float64 // a training below this quantile of the earlier ones ends early; 0: none does
	StopAfter int     // the first epoch after which one may end; 0: Complete says it
}

// DefaultRules are those of a text that says nothing.
func DefaultRules() Rules { return Rules{Seed: 1, Seeds: 1, Diverged: Chance, Failed: Fail} }

// AddTo adds the keys that say them.
func (r *Rules) AddTo(l *setting.List) {
	l.Uint64(&r.Seed, "seed", "", "first seed of the trainings")
	l.Int(&r.Seeds, "seeds", "trainings", "trainings of each candidate, whose mean is its label", 1, 1000)
	l.Text(&r.Diverged, "diverged", "what becomes of a candidate whose training falls apart for good: its label is "+
		"the accuracy of guessing, or the search ends").OneOf(Chance, Fail)
	l.Text(&r.Failed, "failed", "what becomes of a candidate whose training fails however often and wherever it is "+
		"tried: the search ends, or its label is the accuracy of guessing").OneOf(Fail, Chance)
	l.Value((*quantile)(&r.Stop), (*quantile)(&r.Stop), "stop", "",
		"trainings below this quantile of the earlier ones end early, "+
			"median or a number (0 = none does)").Between(0, 0.9)
	l.Int(&r.StopAfter, "stop-after", "epochs", "the first epoch after which one may end (a third of all if it is "+
		"left out)", 1, 1e6)
}

// Complete fills in what follows from how many epochs a training has.
func (r *Rules) Complete(epochs int) {
	if r.StopAfter == 0 {
		r.StopAfter = max(1, (epochs+2)/3)
	}
}

// Describe says in words what labels are a mean of, and of which trainings end early, which may be nothing.
func (r Rules) Describe() (seeds, early string) {
	seeds = fmt.Sprintf("seed %d", r.Seed)
	if r.Seeds > 1 {
		seeds += fmt.Sprintf(", mean of %d seeds", r.Seeds)
	}
	if r.Stop > 0 {
		early = fmt.Sprintf("; trainings below quantile %g of the earlier ones end early, from epoch %d on", r.Stop,
			r.StopAfter)
	}
	return seeds, early
}

// quantile is 0 to 1, or the word median.
type quantile float64

var _ pflag.Value = (*quantile)(nil)

func (q *quantile) Set(text string) (err error) {
	if text == "median" {
		text = "0.5"
	}
	v, err := strconv.ParseFloat(text, 64)
	*q = quantile(v)
	return err
}

func (q *quantile) String() string { return strconv.FormatFloat(float64(*q), 'g', -1, 64) }

func (q *quantile) Type() string { return "quantile" }

// UnmarshalText is Set, for a query.
func (q *quantile) UnmarshalText(text []byte) error { return q.Set(string(text)) }
