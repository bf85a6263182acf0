package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// fake labels every architecture but one with a number made of its parameters, and counts what it is asked.
type fake struct {
	asked  int
	absent space.Arch
	value  func(space.Arch) float64
}

func (f *fake) Has(a space.Arch) bool { return a != f.absent }
func (f *fake) Facts() Facts          { return Facts{Source: "fake", Metric: "test accuracy", Run: 1} }
func (f *fake) Describe() string      { return "made up" }
func (f *fake) Label(_ context.Context, archs []space.Arch) ([]float64, error) {
	values := make([]float64, len(archs))
	for i, a := range archs {
		f.asked++
		if f.value != nil {
			values[i] = f.value(a)
		} else {
			values[i] = float64(a.Cost().Params%1000) / 1000
		}
	}
	return values, nil
}

var sp = space.NASBench101{}

// some returns n distinct cells.
func some(n int) []space.Arch {
	stream := philox.New(1, philox.PurposeTest, 0)
	seen := map[space.Arch]bool{}
	var out []space.Arch
	for len(out) < n {
		if a := sp.Sample(stream); !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

func TestRepeatsAreFreeAndOrderIsKept(t *testing.T) {
	cells, source := some(4), &fake{}
	l := New(source, 3)
	answers, err := l.Ask(context.Background(), 0, []Request{
		{cells[2], "random", math.NaN()}, {cells[0], "random", math.NaN()}, {cells[2], "space", 0.5},
	})
	require.NoError(t, err)
	require.Equal(t, []bool{false, false, true}, []bool{answers[0].Cached, answers[1].Cached, answers[2].Cached})
	require.Equal(t, []space.Arch{cells[2], cells[0], cells[2]},
		[]space.Arch{answers[0].Arch, answers[1].Arch, answers[2].Arch})
	require.Equal(t, "random", answers[2].Proposer, "a repeat does not change who paid")
	require.Equal(t, 1, l.Left())
	values, err := l.Query(context.Background(), []space.Arch{cells[0], cells[1], cells[0]}, "controller", 1)
	require.NoError(t, err)
	for i, a := range []space.Arch{cells[0], cells[1], cells[0]} {
		require.Equal(t, float64(a.Cost().Params%1000)/1000, values[i])
	}
	require.Equal(t, 3, source.asked)
	require.Equal(t, []int{1, 2, 3}, []int{l.Labels()[0].N, l.Labels()[1].N, l.Labels()[2].N})
	require.Equal(t, 1, l.Labels()[2].Round)
	require.False(t, l.May(cells[0]))
	require.True(t, l.May(cells[3]))
}

func TestRefusalsChargeNothing(t *testing.T) {
	cells := some(4)
	source := &fake{absent: cells[3]}
	l := New(source, 2)
	_, err := l.Query(context.Background(), cells[:3], "random", 0)
	require.ErrorIs(t, err, ErrBudget)
	_, err = l.Query(context.Background(), []space.Arch{cells[0], cells[3]}, "random", 0)
	require.ErrorIs(t, err, ErrNoLabel)
	require.False(t, l.May(cells[3]))
	for _, bad := range []float64{math.NaN(), -0.1, 1.1, math.Inf(1)} {
		source.value = func(space.Arch) float64 { return bad }
		_, err = l.Query(context.Background(), cells[:1], "random", 0)
		require.ErrorContains(t, err, "want 0..1")
	}
	require.Equal(t, 2, l.Left())
	_, ok := l.Best()
	require.False(t, ok)
	source.value = nil
	_, err = l.Query(context.Background(), cells[:2], "random", 0)
	require.NoError(t, err)
	_, err = l.Query(context.Background(), cells[:2], "random", 0)
	require.NoError(t, err, "repeats are free when the budget is spent")
}

func TestBestIsTheFirstOfEquals(t *testing.T) {
	cells := some(4)
	value := map[space.Arch]float64{cells[0]: 0.1, cells[1]: 0.9, cells[2]: 0.9, cells[3]: 0.5}
	l := New(&fake{value: func(a space.Arch) float64 { return value[a] }}, 4)
	_, err := l.Query(context.Background(), cells, "random", 0)
	require.NoError(t, err)
	best, ok := l.Best()
	require.True(t, ok)
	require.Equal(t, cells[1], best.Arch)
}

func TestAResumedFileEndsWithTheSameBytes(t *testing.T) {
	cells := some(6)
	ctx := context.Background()
	spend := func(l *Ledger, from, to int) {
		for i := from; i < to; i++ {
			_, err := l.Ask(ctx, i, []Request{{cells[i], "controller", float64(i) / 3}})
			require.NoError(t, err)
		}
	}
	whole := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := Create(whole, &fake{}, 6)
	require.NoError(t, err)
	spend(l, 0, 6)
	require.NoError(t, l.Close())
	want, err := os.ReadFile(whole)
	require.NoError(t, err)
	var first map[string]any
	require.NoError(t, json.Unmarshal(want[:bytes.IndexByte(want, '\n')], &first))
	require.Equal(t, map[string]any{
		"n": 1.0, "round": 0.0, "arch": cells[0].String(), "hash": cells[0].Hash(), "accuracy": l.Labels()[0].Value,
		"source": "fake",
		"metric": "test accuracy", "run": 1.0, "proposer": "controller", "predicted": 0.0,
	}, first)

	torn := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err = Create(torn, &fake{}, 6)
	require.NoError(t, err)
	spend(l, 0, 3)
	at, err := l.Position()
	require.NoError(t, err)
	spend(l, 3, 5) // lost: after the checkpoint
	require.NoError(t, l.Close())
	source := &fake{}
	l, err = Resume(context.Background(), torn, source, 6, sp, at, nil)
	require.NoError(t, err)
	require.Equal(t, 3, l.Left())
	require.Zero(t, source.asked)
	spend(l, 3, 6)
	require.NoError(t, l.Close())
	got, err := os.ReadFile(torn)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestResumeRefusesAFileThatIsNotTheCheckpoints(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := Create(path, &fake{}, 3)
	require.NoError(t, err)
	_, err = l.Query(ctx, some(3), "random", 0)
	require.NoError(t, err)
	at, err := l.Position()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	resume := func(text []byte, budget int, p Position) error {
		require.NoError(t, os.WriteFile(path, text, 0o644))
		l, err := Resume(context.Background(), path, &fake{}, budget, sp, p, nil)
		if err == nil {
			require.NoError(t, l.Close())
		}
		return err
	}
	require.NoError(t, resume(text, 3, at))
	require.ErrorContains(t, resume(text[:len(text)-1], 3, at), "want the")
	changed := bytes.Replace(text, []byte("random"), []byte("rAndom"), 1)
	require.ErrorContains(t, resume(changed, 3, at), "changed after the checkpoint")
	require.ErrorContains(t, resume(text, 2, at), "budget of 2")
	require.ErrorContains(t, resume(text, 3, Position{Lines: 2, Bytes: at.Bytes, SHA256: at.SHA256}), "want 2")
	_, err = Resume(context.Background(), filepath.Join(t.TempDir(), "none"), &fake{}, 3, sp, at, nil)
	require.True(t, errors.Is(err, os.ErrNotExist))
}

// FuzzParse: any line is a label or an error, and a label that was read is written as it was read.
func FuzzParse(f *testing.F) {
	cell := some(1)[0]
	f.Add([]byte(`{"n":1,"round":0,"arch":"` + cell.String() + `","accuracy":0.9,"proposer":"random","predicted":1.5}`))
	f.Add([]byte(`{"n":1,"arch":"nasbench101:best","accuracy":2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, record []byte) {
		b, err := parse(sp, record)
		if err != nil {
			return
		}
		require.True(t, b.Value >= 0 && b.Value <= 1)
		again, err := sp.Parse(b.Arch.String())
		require.NoError(t, err)
		require.Equal(t, b.Arch, again)
	})
}

// maker notes every second label and remembers what it is told.
type maker struct {
	fake
	labelled []space.Arch
	recalled []Label
}

func (m *maker) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	m.labelled = append(m.labelled, archs...)
	return m.fake.Label(ctx, archs)
}

func (m *maker) Note(a space.Arch) Note {
	if i := slices.Index(m.labelled, a); i%2 == 1 {
		return Note{Stopped: []int{0, i}, Diverged: i == 3}
	}
	return Note{}
}
func (m *maker) Observe(func(events.Event), func(int, int)) {}
func (m *maker) Recall(_ context.Context, labels []Label) error {
	m.recalled = labels
	return nil
}

// What a source says of its labels is in the file, and a source that is asked later is told all of it.
func TestNotesAndRecall(t *testing.T) {
	cells, path := some(5), filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := Create(path, &maker{}, 10)
	require.NoError(t, err)
	_, err = l.Query(context.Background(), cells, "random", 0)
	require.NoError(t, err)
	p, err := l.Position()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 2, bytes.Count(text, []byte("stopped")))
	require.Contains(t, string(text), `"stopped":[0,3],"diverged":true`)
	m := &maker{}
	back, err := Resume(context.Background(), path, m, 10, sp, p, nil)
	require.NoError(t, err)
	require.Equal(t, l.Labels()[3].Note, back.Labels()[3].Note)
	require.Len(t, m.recalled, 5)
	require.Equal(t, Note{Stopped: []int{0, 1}}, m.recalled[1].Note)
	require.Equal(t, "stopped after 3 epochs, diverged", m.recalled[3].Note.String())
	require.NoError(t, back.Close())
}

// late is a maker that labels what is submitted when it is waited for, and says whether somebody ended it.
type late struct {
	maker
	begun [][]space.Arch
	known []int
	after []int
	ended int
}

func (s *late) Submit(ctx context.Context, known, asked int, archs []space.Arch) func() ([]float64, error) {
	s.begun, s.known, s.after = append(s.begun, archs), append(s.known, known), append(s.after, asked)
	return func() ([]float64, error) {
		if err := ctx.Err(); err != nil {
			s.ended++
			return nil, err
		}
		return s.Label(ctx, archs)
	}
}

func requests(archs []space.Arch) (list []Request) {
	for _, a := range archs {
		list = append(list, Request{a, "controller", float64(a.Cost().Params)})
	}
	return list
}

// What is pending is paid for and no candidate, and nobody knows what it is worth until it is collected, in order.
func TestPending(t *testing.T) {
	cells, source, ctx := some(9), &late{}, context.Background()
	l := New(source, 7)
	require.NoError(t, l.Submit(ctx, 0, requests(cells[:3])))
	require.NoError(t, l.Submit(ctx, 1, requests(cells[2:5])), "of which one is pending")
	require.Equal(t, [][]space.Arch{cells[:3], cells[3:5]}, source.begun)
	require.Equal(t, []int{0, 3}, source.after)
	require.Zero(t, source.asked)
	require.Equal(t, []int{0, 1}, l.Pending())
	require.Equal(t, 2, l.Left())
	require.Empty(t, l.Labels())
	require.False(t, l.May(cells[4]))
	require.True(t, l.May(cells[5]))
	_, known := l.Get(cells[0])
	require.False(t, known)
	require.ErrorIs(t, l.Submit(ctx, 2, requests(cells[5:8])), ErrBudget)
	_, err := l.Ask(ctx, 2, requests(cells[5:6]))
	require.ErrorContains(t, err, "while those of round 0 are pending")

	answers, err := l.Collect(ctx)
	require.NoError(t, err)
	require.Len(t, answers, 3)
	require.Len(t, l.Labels(), 3)
	require.Equal(t, []int{1}, l.Pending())
	require.Equal(t, 2, l.Left())
	answers, err = l.Collect(ctx)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, false}, []bool{answers[0].Cached, answers[1].Cached, answers[2].Cached})
	require.Equal(t, 5, l.Labels()[4].N)
	require.Equal(t, 1, l.Labels()[4].Round)

	// One that fails takes the others with it, and nothing is charged; so does the end of the ledger.
	source.value = func(space.Arch) float64 { return 2 }
	for range 2 {
		require.NoError(t, l.Submit(ctx, 2, requests(cells[5:6])))
		require.NoError(t, l.Submit(ctx, 3, requests(cells[6:7])))
		_, err = l.Collect(ctx)
		require.ErrorContains(t, err, "want 0..1")
		require.Equal(t, 2, l.Left())
		require.Empty(t, l.Pending())
	}
	require.Equal(t, 2, source.ended)
	require.NoError(t, l.Submit(ctx, 2, requests(cells[5:7])))
	require.NoError(t, l.Close())
	require.Equal(t, 3, source.ended)
}

// A search that lags a round and was stopped anywhere, its file torn anywhere behind its checkpoint, goes on to the
// same bytes: what was pending is pending again, and what the file holds whole is not asked for twice.
func TestWhatWasPendingIsPendingAgain(t *testing.T) {
	cells, path, ctx := some(12), filepath.Join(t.TempDir(), "ledger.jsonl"), context.Background()
	sizes := []int{0, 3, 5, 9, 12} // where rounds begin
	var at []Position              // at the end of each round
	var orders [][]Order
	search := func(l *Ledger, from int, save bool) {
		for round := from; round < 4; round++ {
			require.NoError(t, l.Submit(ctx, round, requests(cells[sizes[round]:sizes[round+1]])))
			for rounds := l.Pending(); len(rounds) > 0 && (rounds[0] < round || round == 3); rounds = rounds[1:] {
				_, err := l.Collect(ctx)
				require.NoError(t, err)
			}
			if save {
				p, err := l.Position()
				require.NoError(t, err)
				at, orders = append(at, p), append(orders, l.Orders())
			}
		}
		require.Len(t, l.Labels(), 12)
		require.NoError(t, l.Close())
	}
	first := &late{}
	l, err := Create(path, first, 12)
	require.NoError(t, err)
	search(l, 0, true)
	require.Equal(t, []int{0, 0, 3, 5}, first.known)
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(want, []byte("\n"))
	require.Len(t, orders[1], 1)
	require.Empty(t, orders[3])
	for round, p := range at {
		for held := p.Lines; held <= 12; held++ {
			torn := append(bytes.Join(lines[:held], nil), `{"n":`...)
			require.NoError(t, os.WriteFile(path, torn, 0o644))
			source := &late{}
			l, err := Resume(ctx, path, source, 12, sp, p, orders[round])
			require.NoError(t, err)
			search(l, round+1, false)
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			notes := regexp.MustCompile(`"(stopped|diverged)":(\[.*\]|true),`) // which say how often it was asked
			require.Equal(t, notes.ReplaceAllString(string(want), ""), notes.ReplaceAllString(string(got), ""))
			whole := 0 // labels of the rounds that the file held
			for _, end := range sizes {
				if end <= held {
					whole = end
				}
			}
			require.Equal(t, 12-whole, source.asked, "round %d, %d lines", round, held)
			for i, n := range source.after {
				require.Equal(t, cells[n], source.begun[i][0], "it is told how many were asked for before")
				require.Equal(t, first.known[slices.Index(first.after, n)], source.known[i], "and known then")
			}
		}
	}
	bad := orders[1]
	bad[0].Known = 4
	_, err = Resume(ctx, path, &late{}, 12, sp, at[1], bad)
	require.ErrorContains(t, err, "that 4 of 3 labels were known")
	bad[0].Proposers = nil
	_, err = Resume(ctx, path, &late{}, 12, sp, at[1], bad)
	require.ErrorContains(t, err, "the checkpoint says of 2 architectures who proposed 0")
}

// What a file holds after a checkpoint, or of a search that is begun again, is answered from it in the order in which
// it was bought: the source is not asked, is told of it, and the budget counts it once.
func TestWhatWasBoughtIsNotAskedForAgain(t *testing.T) {
	cells, path := some(9), filepath.Join(t.TempDir(), "ledger.jsonl")
	ctx := context.Background()
	ask := func(l *Ledger, from, to int) error {
		_, err := l.Query(ctx, cells[from:to], "random", from)
		return err
	}
	l, err := Resume(ctx, path, &maker{}, 8, sp, Position{}, nil)
	require.NoError(t, err, "nothing was bought yet")
	require.NoError(t, ask(l, 0, 2))
	at, err := l.Position()
	require.NoError(t, err)
	require.NoError(t, ask(l, 2, 5))
	require.NoError(t, ask(l, 5, 8))
	require.NoError(t, l.Close())
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(want, []byte("\n"))
	for _, from := range []Position{{}, at} {
		for held, asked := range map[int]int{8: 0, 7: 3, 5: 3} { // lines in the file; labels that are asked for
			torn := append(bytes.Join(lines[:held], nil), `{"n":`...)
			require.NoError(t, os.WriteFile(path, torn, 0o644))
			source := &maker{}
			l, err := Resume(ctx, path, source, 8, sp, from, nil)
			require.NoError(t, err)
			for _, request := range [][2]int{{0, 2}, {2, 5}, {5, 8}} {
				if request[0] >= from.Lines {
					require.NoError(t, ask(l, request[0], request[1]))
				}
			}
			require.Equal(t, asked, source.asked, "a request of which a part is there is made again")
			require.Zero(t, l.Left())
			require.ErrorIs(t, ask(l, 8, 9), ErrBudget)
			l.Raise(9)
			require.Equal(t, 1, l.Left())
			require.NoError(t, l.Close())
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			if asked == 0 {
				require.Equal(t, string(want), string(got))
			}
		}
	}
	for old, says := range map[string]string{
		`"proposer":"random"`: "lines 1 to 2 are not what the search writes",
		cells[0].String():     "and the search asks for " + cells[0].String(),
	} {
		changed := bytes.Replace(want, []byte(old),
			[]byte(map[bool]string{true: `"proposer":"other"`, false: cells[8].String()}[old[0] == '"']), 1)
		require.NoError(t, os.WriteFile(path, changed, 0o644))
		l, err := Resume(ctx, path, &maker{}, 8, sp, Position{}, nil)
		require.NoError(t, err)
		require.ErrorContains(t, ask(l, 0, 2), says)
		require.NoError(t, l.Close())
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(changed), string(kept), "nothing is lost")
	}
}
