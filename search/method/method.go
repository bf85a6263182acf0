// Package method compares ways to find a good architecture with a number of labels: random search, regression, pairwise ranking with
// evolution (ReNAS), regularized evolution, and CTNAS. All of them buy their labels from one ledger, so each knows what it paid for
// and nothing else, and each picks the best label in its ledger.
package method

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Method is a way to search.
type Method interface {
	Name() string
	Run(ctx context.Context, p Problem) (Outcome, error)
}

// Problem is what a method is given. The same problem gives the same outcome, whatever the number of threads.
type Problem struct {
	Space  space.Space
	Source ledger.Source // labels are bought from it, through a ledger of the method's own
	Budget int           // how many
	Seed   uint64
	Device exec.Config
	Config gcn.Config // network and training of what the method predicts with; the loss is the method's own
	// All lists the space. A method may rank it and choose from the whole ranking unless Listed is false, as in a space too
	// large to list; then All is used to draw and to judge only.
	All    *Pool
	Listed bool

	MaxMAdds, MaxParams int64   // architectures above are no candidates; 0: no limit
	MaxLatency          float64 // milliseconds, by Latency; 0: no limit
	Latency             *latency.Model
	ParetoCost          string // what Result's front is of beside accuracy, one of space.Costs; empty: multiply-adds

	Ledger string // file of the ledger, see ledger.Create; empty: it is kept in memory. CTNAS keeps its own

	Progress func(labels int, best float64) // labels bought so far and the best of them; may be nil
}

// Outcome is what a method found.
type Outcome struct {
	Pick       ledger.Label    // the best label
	Labels     []ledger.Label  // all that were bought, in order
	Predictor  *gcn.Comparator // what the method predicted with in the end; nil where it predicts nothing
	Curriculum *Curriculum     // of a controller; nil without one
}

// Curriculum says how good the architectures are that a controller samples: the mean over samples of their true
// percentile, 0 is the best of the table and 100 the worst. The search never sees it. Samples that the table does not
// have are left out; of none the mean is null.
type Curriculum struct {
	Start        *float64 `json:"start"`
	End          *float64 `json:"end"`
	StartSamples int      `json:"start_samples"` // that the mean rests on
	EndSamples   int      `json:"end_samples"`
}

// Names lists the methods in the order of the paper's table, without ofa, which not every space allows.
func Names() []string { return []string{"random", "regression", "renas", "evolution", "ctnas"} }

// Open returns the method of a name; ctnas is the one that it has with its settings.
func Open(name string, ctnas Method) (Method, error) {
	switch name {
	case "random":
		return Random{}, nil
	case "regression":
		return Regression{}, nil
	case "renas":
		return ReNAS{}, nil
	case "evolution":
		return Evolution{}, nil
	case ofaName:
		return OFA{}, nil
	case "ctnas":
		return ctnas, nil
	}
	return nil, fmt.Errorf("unknown method %q; known: %s, %s", name, strings.Join(Names(), ", "), ofaName)
}

// buyer is a problem being solved: its ledger and the rules of what may be bought.
type buyer struct {
	Problem
	within space.Limits
	ledger *ledger.Ledger
	random func(*philox.Stream) space.Arch // draws from the space, within the limits where it can
	none   error                           // why it does not draw within the limits; nil where it does
}

func (p Problem) limits() space.Limits {
	return ledger.Counted(space.Limits{MAdds: p.MaxMAdds, Params: p.MaxParams,
		Latency: space.Nanoseconds(p.MaxLatency), Times: p.Latency.Known()}, p.Source)
}

// list is what may be labelled at all, where that is known; nil otherwise.
func (p Problem) list() ledger.List {
	if p.All != nil {
		return p.All
	}
	return ledger.ListOf(p.Source, nil)
}

func (p Problem) open() (*buyer, error) {
	if p.Budget < 1 {
		return nil, fmt.Errorf("a budget of %d labels: want at least 1", p.Budget)
	}
	var none error
	limits := p.limits()
	random, err := space.Sampler(p.Space, limits)
	if err != nil {
		if p.list() == nil {
			return nil, err
		}
		none, random = err, p.Space.Sample // what is listed may be within the limits all the same: see draw
	}
	if p.Ledger == "" {
		return &buyer{p, limits, ledger.New(p.Source, p.Budget), random, none}, nil
	}
	l, err := ledger.Create(p.Ledger, p.Source, p.Budget)
	return &buyer{p, limits, l, random, none}, err
}

// may tells whether an architecture can be bought: the constraints allow it, it has a label, and none has been paid for it yet.
func (b *buyer) may(a space.Arch) bool {
	return b.within.Allow(a) && b.ledger.May(a)
}

// tries is how many draws may fail in a row before it is taken for certain that nothing is left to draw.
const tries = 100000

// draw returns n distinct architectures that may be bought, uniformly at random, fewer where no more are left: where
// draws come to nothing, for few may be bought of what is drawn from, the list of what has labels is gone through.
func (b *buyer) draw(n int, s *philox.Stream) []space.Arch {
	var out []space.Arch
	taken := make(map[space.Arch]bool, n)
	if b.All != nil && b.All.Len() <= tries { // a small list: every one of it is found
		for _, i := range s.Perm(b.All.Len()) {
			if len(out) == n {
				break
			}
			if a := b.All.Arch(i); b.may(a) {
				out = append(out, a)
			}
		}
		return out
	}
	for failed := 0; len(out) < n && failed < tries; failed++ {
		a := b.sample(s)
		if !taken[a] && b.may(a) {
			taken[a] = true
			out = append(out, a)
			failed = 0
		}
	}
	return append(out, ledger.Draw(b.list(), n-len(out), s, func(a space.Arch) bool {
		return !taken[a] &&
			b.may(a)
	})...)
}

// Draw returns n distinct architectures of a space that a source can label, uniformly at random, fewer where there are no more.
func Draw(sp space.Space, source ledger.Source, n int, seed uint64) []space.Arch {
	b := &buyer{Problem{Space: sp, Source: source}, space.Limits{}, ledger.New(source, n), sp.Sample, nil}
	return b.draw(n, philox.New(seed, philox.PurposeSample, 0))
}

// sample draws from the list where there is one: it holds what has a label.
func (b *buyer) sample(s *philox.Stream) space.Arch {
	if b.All != nil {
		return b.All.Arch(s.Intn(b.All.Len()))
	}
	return b.random(s)
}

// mutate returns a neighbour of an architecture that may be bought, a random architecture where none is found, nil where nothing is left.
func (b *buyer) mutate(a space.Arch, s *philox.Stream) space.Arch {
	for range 100 {
		if child := b.Space.Mutate(a, s); b.may(child) {
			return child
		}
	}
	if found := b.draw(1, s); len(found) == 1 {
		return found[0]
	}
	return nil
}

// buy pays for architectures. predicted is nil or one number an architecture.
func (b *buyer) buy(ctx context.Context, round int, archs []space.Arch, proposer string, predicted []float64) ([]float64, error) {
	requests := make([]ledger.Request, len(archs))
	for i, a := range archs {
		requests[i] = ledger.Request{Arch: a, Proposer: proposer, Predicted: math.NaN()}
		if predicted != nil {
			requests[i].Predicted = predicted[i]
		}
	}
	answers, err := b.ledger.Ask(ctx, round, requests)
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(answers))
	for i, a := range answers {
		values[i] = a.Value
	}
	if b.Progress != nil {
		best, _ := b.ledger.Best()
		b.Progress(len(b.ledger.Labels()), best.Value)
	}
	return values, ctx.Err()
}

// outcome closes the account.
func (b *buyer) outcome(predictor *gcn.Comparator) (Outcome, error) {
	if err := b.ledger.Close(); err != nil {
		return Outcome{}, err
	}
	best, ok := b.ledger.Best()
	if !ok && b.none != nil {
		return Outcome{}, b.none
	} else if !ok {
		return Outcome{}, fmt.Errorf("no architecture of %s may be labelled: none is within the limits", b.Space.Name())
	}
	return Outcome{Pick: best, Labels: b.ledger.Labels(), Predictor: predictor}, nil
}
