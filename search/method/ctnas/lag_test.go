package ctnas_test

import (
	"context"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// turned answers as its source does, but for the labels after the first ones, which are turned upside down.
type turned struct {
	*runtest.Source
	after int // labels
}

func (s *turned) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	before := len(s.Asked)
	values, err := s.Source.Label(ctx, archs)
	for i := range values {
		if before+i >= s.after {
			values[i] = 1 - values[i]
		}
	}
	return values, err
}

// What a round asks for depends on the labels of the rounds that its lag lets it see, and on no later ones.
func TestARoundIsDecidedByWhatItsLagLetsItSee(t *testing.T) {
	for _, lag := range []int{0, 1, 2} {
		if lag == 1 && !testdata.All() {
			continue
		}
		c := tiny(t, search.ProposeAuto)
		c.Lag, c.Budget = lag, 48 // rounds of 16, then four of 8
		labels := func(after int) []ledger.Label {
			d := deps(t, "")
			d.Source = &turned{runtest.NewSource(), after}
			r, err := run.Do(t.Context(), c, d)
			require.NoError(t, err)
			require.Len(t, r.Ledger, 48)
			return r.Ledger
		}
		want := labels(math.MaxInt)
		seen := map[space.Arch]bool{}
		for _, l := range want {
			require.False(t, seen[l.Arch], "nothing is proposed twice")
			seen[l.Arch] = true
		}
		const round = 1 // whose labels are others, and all after it
		got := labels(16)
		differ := math.MaxInt
		for i := range want {
			require.Equal(t, want[i].Round, got[i].Round)
			if want[i].Arch != got[i].Arch {
				differ = min(differ, want[i].Round)
			}
		}
		require.Equal(t, round+1+lag, differ)
	}
}

// pending answers when the labels of as many later rounds have been asked for as the lag is, or all there are: whoever
// waits for one round before it asks for the next waits for ever.
type pending struct {
	*runtest.Source
	lag, last int

	mu    sync.Mutex
	asked []chan struct{} // a submission; closed when it is asked for
	n     int
}

func (p *pending) Submit(ctx context.Context, _, _ int, archs []space.Arch) func() ([]float64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := p.n
	close(p.asked[mine])
	p.n++
	return func() ([]float64, error) {
		if mine > 0 { // the random labels, on which everything rests, are waited for
			select {
			case <-p.asked[min(mine+p.lag, p.last)]:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return p.Source.Label(ctx, archs)
	}
}

// The labels of a round are in the making while the next one is decided, and what comes of it is what a source gives
// that answers at once.
func TestRoundsAreInTheMakingAtOnce(t *testing.T) {
	for _, lag := range []int{1, 2} {
		c := tiny(t, search.ProposeAuto)
		c.Lag = lag // rounds of 16, 8, 8, 8
		at := deps(t, t.TempDir())
		_, err := run.Do(t.Context(), c, at)
		require.NoError(t, err)

		late := deps(t, t.TempDir())
		source := &pending{Source: runtest.NewSource(), lag: lag, last: 3}
		for range 4 {
			source.asked = append(source.asked, make(chan struct{}))
		}
		late.Source = source
		_, err = run.Do(t.Context(), c, late)
		require.NoError(t, err)
		require.Equal(t, 4, source.n)
		runtest.SameFiles(t, at.Dir, late.Dir)
		runtest.SameEvents(t, at.Dir, late.Dir)
	}
}

// scarce has few labels.
type scarce struct {
	*runtest.Source
	may map[space.Arch]bool
}

func (s *scarce) Has(a space.Arch) bool { return s.may[a] }

// Where less can be labelled than the budget allows, the last labels are waited for and learned from all the same.
func TestALaggingSearchThatRunsOutOfCandidates(t *testing.T) {
	c, d := tiny(t, search.ProposeAuto), deps(t, t.TempDir())
	c.Lag, c.Budget = 2, 64
	source := &scarce{runtest.NewSource(), map[space.Arch]bool{}}
	for _, a := range runtest.Archs()[:37] {
		source.may[a] = true
	}
	d.Source = source
	r, err := run.Do(t.Context(), c, d)
	require.NoError(t, err)
	require.Equal(t, 37, r.LabelsUsed)
	logged, _, err := events.Read(d.Dir)
	require.NoError(t, err)
	learned := 0.
	for _, e := range logged {
		if e.Name == report.EventComparator {
			learned = max(learned, e.Values["labels"])
		}
	}
	require.Equal(t, 37., learned)
}
