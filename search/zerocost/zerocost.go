// Package zerocost gives labels that cost nothing: proxy scores that an architecture has before anything is trained.
// How many parameters or multiply-adds a network takes is the baseline that every other zero-cost proxy is measured
// against, and on many benchmarks as good as most of them (Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS",
// ICLR 2021; White et al., "A Deeper Look at Zero-Cost Proxies for Lightweight NAS", ICLR Blog Track 2022). Who
// searches by one finds about the largest network within the limits: it is what a learned search has to beat, and it
// tries a space out before there are labels.
package zerocost

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

const prefix = "zero-cost:"

const help = `Labels zero-cost:params and zero-cost:madds are scores that cost nothing and predict no accuracy: how
large a network is. Who searches by one finds about the largest within the limits, which is what other searches have to
beat.`

func init() {
	labels.Register(labels.Kind{
		Prefix: prefix, Usage: prefix + strings.Join(proxies(), "|") + " (a proxy score, no accuracy)", Open: open,
		Help: help,
	})
}

// known are the proxies: scores by name.
var known = []struct {
	name, words string
	of          func(space.Cost) int64
}{
	{space.CostParams, "how many parameters a network has", func(c space.Cost) int64 { return c.Params }},
	{space.CostMAdds, "how many multiply-adds a network takes", func(c space.Cost) int64 { return c.MAdds }},
}

func proxies() []string {
	var list []string
	for _, p := range known {
		list = append(list, p.name)
	}
	return list
}

// Source scores architectures by what their space says that they cost. It may be asked by several goroutines.
type Source struct{ proxy int }

var _ ledger.Source = Source{}

// tries is how many random architectures are looked at for one that a proxy knows.
const tries = 20

func open(_ context.Context, text string, sp space.Space, _ labels.Options) (*labels.Labels, error) {
	name := strings.TrimPrefix(text, prefix)
	s := Source{slices.Index(proxies(), name)}
	if s.proxy < 0 {
		return nil, labels.Errorf(text, "%w", names.Unknown("proxy", name, proxies()))
	}
	stream := philox.New(0, philox.PurposeSample, 0)
	for range tries {
		if s.Has(sp.Sample(stream)) {
			return labels.New(sp, s, digest.Of([]byte(text)), nil), nil
		}
	}
	return nil, labels.Errorf(text, "nothing says what architectures of %s cost", sp.Name())
}

// size is what a proxy counts; below 0 where it is unknown.
func (s Source) size(a space.Arch) int64 { return known[s.proxy].of(a.Cost()) }

// Has tells whether the cost of an architecture is known.
func (s Source) Has(a space.Arch) bool { return s.size(a) >= 0 }

// digits are those of the largest count: its score is 1.
const digits = 19

// Label returns scores: the decimal logarithm of the count and one, as a share of the largest there is, so that they
// are in 0..1 and in the order of the counts.
func (s Source) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	scores := make([]float64, len(archs))
	for i, a := range archs {
		n := s.size(a)
		if n < 0 {
			return nil, fmt.Errorf("%s of %v: %w", known[s.proxy].name, a, ledger.ErrNoLabel)
		}
		scores[i] = min(1, math.Log10(1+float64(n))/digits)
	}
	return scores, ctx.Err()
}

// Facts say that labels are scores: every report that knows them calls them so.
func (s Source) Facts() ledger.Facts {
	return ledger.Facts{Source: "zero-cost", Metric: "zero-cost proxy score", Predictor: prefix + known[s.proxy].name}
}

// Describe says what is counted.
func (s Source) Describe() string {
	return fmt.Sprintf("chosen and judged on the zero-cost proxy %s%s, %s; no network is trained, no accuracy "+
		"measured or predicted", prefix, known[s.proxy].name, known[s.proxy].words)
}
