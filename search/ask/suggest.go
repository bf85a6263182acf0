package ask

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/jsontext"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method/guided"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// How is how suggestions are computed; on it they do not depend, but for the device's arithmetic.
type How struct {
	Device exec.Config
	// Progress shows how far something is that takes time, until finish; nil: nobody looks.
	Progress func(what string) (update func(done, total int), finish func())
}

// Suggest chooses up to n architectures that are worth a measurement, none that is measured, pending or failed, fewer
// where there are no more, and remembers them as pending. The same folder gives the same ones.
func (f *Folder) Suggest(ctx context.Context, n int, h How) ([]Suggestion, error) {
	m := &method{f: f, n: n}
	x, err := f.run(ctx, m, h)
	if err != nil {
		return nil, err
	}
	round := 1
	for _, s := range f.suggested.All {
		round = max(round, s.Round+1)
	}
	made := make([]Suggestion, len(m.made))
	for i, s := range m.made {
		made[i] = Suggestion{s, round}
	}
	before := f.suggested.All
	f.suggested.All = append(before[:len(before):len(before)], made...)
	if err := f.writeSuggestions(); err != nil {
		f.suggested.All = before
		return nil, err
	}
	return made, f.write(x)
}

// Report writes result.json and report.html of what is known; nothing where nothing was told, or nothing within the
// limits.
func (f *Folder) Report(ctx context.Context, h How) error {
	x, err := f.run(ctx, &method{f: f}, h)
	if err != nil {
		return err
	}
	return f.write(x)
}

func (f *Folder) write(x *run.Result) error {
	if x == nil {
		return nil
	}
	x.Suggestions = nil
	for _, s := range f.Pending() {
		x.Suggestions = append(x.Suggestions, s.Suggestion)
	}
	text, err := jsontext.Document(x)
	if err != nil {
		return err
	}
	if err := files.Write(f.path(report.ResultName), text); err != nil {
		return err
	}
	page, err := report.Load(f.Dir)
	if err != nil {
		return err
	}
	return page.Write(f.Dir)
}

// run has a method's search done in memory, whose labels are those that were told. The result is nil where there is no
// pick.
func (f *Folder) run(ctx context.Context, m *method, h How) (*run.Result, error) {
	c, err := search.Preset(search.PresetDefault)
	if err != nil {
		return nil, err
	}
	c.For(f.Space, f.Sp)
	// Half of the spread: what is asked for here is neither the first round of a search nor its last.
	c.Method, c.Seed, c.Init, c.Metric, c.Bounds = m.Name(), f.Seed, f.Init, f.Metric, f.Bounds
	c.Budget = max(len(f.labels)+m.n, search.MinimumInitial)
	c.Iterations, c.Propose = 0, search.ProposeController
	d := run.Deps{Space: f.Sp, Source: f.source(), Device: h.Device, Latency: f.Times}
	if all, listable := f.Sp.(space.Enumerable); listable && m.learns() {
		update, finish := func(_, _ int) {}, func() {}
		if h.Progress != nil {
			update, finish = h.Progress("list " + f.Sp.Name())
		}
		archs, err := all.All(ctx, update)
		finish()
		if err != nil {
			return nil, err
		}
		c.Propose, d.All = search.ProposeSpace, catalogue.New(f.Sp, catalogue.NewList(archs), nil)
	}
	x, err := run.With(ctx, m, c, d)
	if errors.Is(err, run.ErrNoneWithin) && m.done {
		return nil, nil
	}
	return x, err
}

// method asks for what was told and, where it is to suggest something, learns from that.
type method struct {
	f    *Folder
	n    int // suggestions wanted
	made []report.Suggestion
	done bool
}

// Name is "ask".
func (*method) Name() string { return "ask" }

// learns tells whether there is enough to learn from.
func (m *method) learns() bool { return m.n > 0 && len(m.f.labels) >= m.f.Init }

// Run suggests.
func (m *method) Run(ctx context.Context, r *run.Run) error {
	for _, l := range m.f.labels {
		if _, err := r.Ledger.Ask(ctx, l.Round, []ledger.Request{{Arch: l.Arch, Proposer: l.Proposer,
			Predicted: l.Predicted}}); err != nil {
			return err
		}
	}
	m.done = true
	if m.n == 0 {
		return nil
	}
	// Each state of the folder draws other random numbers.
	r.Round = 1 + len(m.f.labels) + len(m.f.suggested.All) + len(m.f.suggested.Failed)
	m.done = false
	if err := m.suggest(ctx, r); err != nil {
		return err
	}
	m.done = true
	return nil
}

func (m *method) suggest(ctx context.Context, r *run.Run) error {
	why := fmt.Sprintf("drawn at random: %d of the first %d are measured", len(m.f.labels), m.f.Init)
	if m.learns() {
		g, err := guided.New(r)
		if err != nil {
			return err
		}
		defer g.Close()
		if err := g.Learn(ctx); err != nil {
			return err
		}
		if m.made, err = g.Suggest(m.n, r.May, true, g.Apart(0.5)); err != nil {
			return err
		}
		if err := g.Conclude(); err != nil {
			return err
		}
		why = "drawn at random: nothing else was found"
	}
	missing := m.n - len(m.made)
	if missing == 0 {
		return nil
	}
	taken := map[string]bool{}
	for _, x := range m.made {
		taken[x.Arch] = true
	}
	stream := philox.New(r.Seed, philox.PurposeSample, uint32(r.Round))
	for _, a := range r.Draw(missing+len(taken), stream, r.Sample, guided.SampleTries) {
		if len(m.made) < m.n && !taken[a.String()] {
			m.made = append(m.made, report.Suggestion{Arch: a.String(), Hash: a.Hash(), Reason: why,
				Proposer: guided.ProposerRandom})
		}
	}
	return nil
}

// source answers with what was told. It has a label of everything that may be suggested, too: nobody asks for it.
type source struct {
	facts  ledger.Facts
	values map[space.Arch]ledger.Label
	taken  map[string]bool // pending or failed
}

func (f *Folder) source() source {
	s := source{f.facts(), map[space.Arch]ledger.Label{}, map[string]bool{}}
	for _, text := range append(f.suggested.archs(), f.suggested.Failed...) {
		s.taken[text] = true
	}
	for _, l := range f.labels {
		s.values[l.Arch] = l
	}
	return s
}

func (s source) Has(a space.Arch) bool {
	_, measured := s.values[a]
	return measured || !s.taken[a.String()]
}

func (s source) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	out := make([]float64, len(archs))
	for i, a := range archs {
		l, measured := s.values[a]
		if !measured {
			return nil, fmt.Errorf("label of %v: %w", a, ledger.ErrNoLabel)
		}
		out[i] = l.Value
	}
	return out, ctx.Err()
}

func (s source) Facts() ledger.Facts { return s.facts }
func (s source) Describe() string    { return s.facts.Metric + ", as it was told" }

// Note is what else was told.
func (s source) Note(a space.Arch) ledger.Note { return s.values[a].Note }
