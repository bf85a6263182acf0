// Package run is the one run that every search method has: its folder with settings, ledger, log, checkpoint, result
// and page, its budgets, and how it goes on where it was stopped. A method (interface Method) decides which
// architectures are labelled, and nothing else.
package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// ErrInterrupted is returned when the context ended the search: in a run folder stands what Do goes on from.
var ErrInterrupted = fmt.Errorf("the search was interrupted: %w", context.Canceled)

// Deps are what a search works with.
type Deps struct {
	Space  space.Space
	Source ledger.Source // labels are bought from it, through the run's ledger
	// Checksum identifies the data that labels come from: a resume with other data is refused. May be empty.
	Checksum string
	// Images is the checksum of the images that labels are trained on, part of what Checksum covers: a refusal says so.
	// Empty: there are none.
	Images string
	// All is what may be labelled, listed; nil where nobody lists it. Methods that may not rank it (Run.Listed) draw
	// from it all the same.
	All    *catalogue.Catalogue
	Device exec.Config
	// Latency is what Config.Latency names; nil where it names nothing.
	Latency *latency.Model
	// Dir is the run's folder; empty: nothing is written and nothing can be resumed. A folder of the same search that
	// was stopped is gone on with.
	Dir     string
	Program Program
	// Stale is told of a process that held the lock and was killed; may be nil.
	Stale func(*files.Holder)
	// Moved are inputs that a run which goes on finds elsewhere than it began with, for its log; may be nil.
	Moved map[string]string
	// Progress is called as the search goes on; may be nil.
	Progress func(Progress)
	// Differing is told, once the log is open, who is to be told of results that differ. What it returns tells of those
	// that nobody has told of yet, before the page is written. May be nil.
	Differing func(tell func(Difference)) (last func())
	// Supernets are how a method that picks by shared weights comes to them.
	Supernets Supernets
}

// Supernets trains and measures supernets for a search.
type Supernets struct {
	// Train trains one as `ctnas supernet train` does, in a folder of its own; nil: no method of this run trains any.
	Train func(context.Context, SupernetOrder) (*trainer.SupernetResult, error)
	// Images are how images are opened, until finish; nil: as data.Open does by itself.
	Images func() (o data.Options, finish func())
}

// SupernetOrder is a supernet that a search wants to have trained.
type SupernetOrder struct {
	Dir        string // its folder: a training that was stopped there goes on
	Space      string
	Data       string // as data.Open takes it
	RecipeName string
	Recipe     trainer.SupernetRecipe
	Seed       uint64
	Sampler    trainer.Sampler // nil: that of the recipe's method
	Progress   func(trainer.Progress)
}

// Program is which one searches.
type Program struct {
	Version string // a checkpoint of another one is refused
	Command string // the line that started it: who finds the folder's lock reads it
	// Settings are those of the program that config.yaml has too, so that it repeats the run; nil: none.
	Settings *setting.List
	// Facts are for its block run: version, commit, device and so on, a struct or map that YAML can hold; may be nil.
	Facts any
}

// Progress says how far a search is.
type Progress struct {
	Stage           string // label, train, controller, supernet, measure, judge
	Round           int
	Labels, Budget  int
	Recalled        int     // of Labels, those that an earlier process had bought
	Best            float64 // best label so far
	Fits            bool    // it is within the bounds of what is measured with labels
	Done, Total     int     // of the stage, where it is long
	Reward, Entropy float64 // of the controller
}

// Run is a search in work, as its method sees it.
type Run struct {
	search.Config // Budget is the one that is being spent, see More
	Deps
	Network gcn.Config     // network and training of what a method predicts with; the loss is the method's own
	Limits  space.Limits   // what architectures may cost
	Ledger  *ledger.Ledger // all that is known of accuracies
	Dev     *exec.Device
	Round   int   // the round in work, for whoever watches
	Found   Found // what the method says at the end beside its labels

	recalled int // labels that an earlier process had bought

	sampler sampler
	plan    plan
	folder  folder
	journal journal
}

// sampler draws from the space, within the limits where it can.
type sampler struct {
	draw func(*philox.Stream) space.Arch
	none error // why it does not draw within the limits; nil where it does
}

// plan is which budgets a run spends, one after the other.
type plan struct {
	budgets []int
	stage   int // which one is being spent
}

// journal is the log of a run and its clock.
type journal struct {
	log     *report.Log // nil without a folder
	phase   time.Time   // when the current phase began
	seconds map[string]float64
	last    func() // tells of what is to be logged still; may be nil
}

// Do searches with the method that the settings name until the budget is spent, and returns what was found. A folder in
// which the same search was stopped, at whatever moment, is gone on with and ends in the same bytes of result.json and
// ledger.jsonl as if it had never stopped. Of a search that has ended the result is read, unless the settings give it
// more budget (search.Config.More) than it had: then it goes on.
func Do(ctx context.Context, c search.Config, d Deps) (*Result, error) {
	m, err := For(c)
	if err != nil {
		return nil, err
	}
	return With(ctx, m, c, d)
}

// With is Do with a method that need not be registered.
func With(ctx context.Context, m Method, c search.Config, d Deps) (*Result, error) {
	if err := check(m, c); err != nil {
		return nil, err
	}
	r := &Run{Config: c, Deps: d, plan: plan{budgets: c.Budgets()}}
	r.Budget = r.plan.budgets[0]
	r.journal.seconds = map[string]float64{}
	r.folder.writer = checkpoint.NewWriter(r.Dir)
	defer r.close()
	ended, err := r.open(ctx) // labels may be recalled, which may take a while
	if err == nil && ended != nil {
		return ended, nil
	}
	if err == nil {
		err = m.Run(ctx, r)
	}
	if lost := r.folder.writer.Wait(); lost != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) { // whoever stopped it must not take this for a checkpoint
			err = nil
		}
		return nil, errors.Join(fmt.Errorf("checkpoint: %w", lost), err)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, ErrInterrupted
	} else if err != nil {
		return nil, err
	}
	return r.finish()
}

func (r *Run) close() {
	_ = r.folder.writer.Wait() // it was told already, or there is a worse error
	if r.Dev != nil {
		r.Dev.Close()
	}
	if r.Ledger != nil {
		_ = r.Ledger.Close() // every label was written and, with a checkpoint, flushed
	}
	if r.journal.log != nil {
		_ = r.journal.log.Close()
	}
	if r.folder.lock != nil {
		_ = r.folder.lock.Unlock()
	}
}

// open prepares everything: a new run, the rest of one, or of one that has ended its result.
func (r *Run) open(ctx context.Context) (ended *Result, err error) {
	if r.Network, err = r.Comparator(r.Deps.Space); err != nil {
		return nil, err
	}
	if r.Deps.Latency == nil && (r.MaxLatency > 0 || r.ParetoCost == space.CostLatency) {
		return nil, errors.New("a limit or a front of latencies, and no table of them")
	}
	r.Limits = ledger.Counted(r.Config.Limits(r.Deps.Latency.Known()), r.Source)
	if r.sampler.draw, err = space.Sampler(r.Deps.Space, r.Limits); err != nil {
		if r.List() == nil {
			return nil, err
		}
		r.sampler = sampler{r.Deps.Space.Sample, err} // what is listed may be within them all the same: see Draw
	}
	if err := r.openFolder(); err != nil {
		return nil, err
	}
	if r.folder.old != nil {
		if ended, err = Finished(r.Dir, r.given()); err != nil {
			return nil, err
		} else if ended != nil {
			return ended, CompletePage(r.Dir)
		}
	}
	if r.Dev, err = exec.Open(r.Device); err != nil {
		return nil, err
	}
	r.Device.Level = r.Dev.Level()
	return nil, r.openFiles(ctx)
}

// openFiles opens log and ledger, where the checkpoint left them or, without a method's state, at their beginning.
func (r *Run) openFiles(ctx context.Context) (err error) {
	from := &snapshot{}
	if old := r.folder.old; old != nil && old.State != nil {
		from = old
		r.plan.stage = min(old.Stage, len(r.plan.budgets)-1)
		r.Budget = r.plan.budgets[r.plan.stage]
	}
	if r.Dir != "" {
		if r.journal.log, err = report.OpenLog(r.Dir, from.Log); err != nil {
			return err
		}
		if r.Differing != nil {
			if err := r.watchDifferences(); err != nil {
				return err
			}
		}
	}
	if m, ok := r.Source.(ledger.Maker); ok {
		m.Observe(func(e report.Event) { _ = r.Event(e) }, // the log is not the result
			func(done, total int) { r.Report(Progress{Stage: "label", Done: done, Total: total}) })
	}
	if r.Dir == "" {
		r.Ledger = ledger.New(r.Source, r.Budget, r.bounds()...)
	} else { // what was bought is kept, even where a checkpoint was lost
		path := filepath.Join(r.Dir, report.LedgerName)
		if r.Ledger, err = ledger.Resume(ctx, path, r.Source, r.Budget, r.Deps.Space, from.Ledger,
			from.Pending, r.bounds()...); err != nil {
			return err
		}
	}
	r.recalled = len(r.Ledger.Labels())
	if from.Seconds != nil {
		r.journal.seconds = from.Seconds
	}
	if r.folder.old == nil {
		err = r.checkpoint(nil)
	}
	if err == nil && len(r.Moved) > 0 {
		err = r.Event(report.Event{Name: report.EventMoved, Step: from.Round, Text: r.Moved})
	}
	r.journal.phase = time.Now()
	return err
}

// Listed is that list where the settings let a method rank all of it, nil elsewhere.
func (r *Run) Listed() *catalogue.Catalogue {
	if r.Propose == search.ProposeController {
		return nil
	}
	return r.All
}

// List is what may be labelled at all, where that is known; nil otherwise.
func (r *Run) List() ledger.List {
	if r.All != nil {
		return r.All
	}
	return ledger.ListOf(r.Source, nil)
}

// Unsampled is why the space does not draw within the limits; nil where it does.
func (r *Run) Unsampled() error { return r.sampler.none }

// Sample draws from the space, within the limits where it can.
func (r *Run) Sample(s *philox.Stream) space.Arch { return r.sampler.draw(s) }

// Allowed tells whether an architecture meets the constraints.
func (r *Run) Allowed(a space.Arch) bool { return r.Limits.Allow(a) }

// May tells whether an architecture can be labelled next: the constraints allow it, it has a label, and none has been
// paid for it yet.
func (r *Run) May(a space.Arch) bool { return r.Ledger.May(a) && r.Allowed(a) }

// Loosen says for messages which limits to loosen, and what they must allow at least.
func (r *Run) Loosen() string {
	list := r.List()
	if list == nil {
		return r.Limits.Loosen(r.Deps.Space, nil)
	}
	return r.Limits.Loosen(r.Deps.Space, func(yield func(space.Arch) bool) {
		for i := range list.Len() {
			if !yield(list.Arch(i)) {
				return
			}
		}
	})
}

// Best is the label with the highest score of those that the constraints allow, the first of equal ones; false while
// there is none. Only labels that others have chosen are of architectures that are not allowed; and what is measured
// with a label may not be.
func (r *Run) Best() (best ledger.Label, any bool) {
	for _, l := range r.Ledger.Labels() {
		if l.Fits() && r.Allowed(l.Arch) && (!any || l.Score > best.Score) {
			best, any = l, true
		}
	}
	return best, any
}

// bounds are those of what is measured with labels.
func (r *Run) bounds() []ledger.Bound {
	list, _ := r.Measured() // as check found out
	return list
}

// Draw returns n distinct architectures that may be labelled, fewer where there are no more: what sample gives, and
// where so many tries in a row come to nothing, for few of what it gives have labels, from the list of those.
func (r *Run) Draw(n int, stream *philox.Stream, sample func(*philox.Stream) space.Arch, tries int) []space.Arch {
	var out []space.Arch
	drawn := make(map[space.Arch]bool, n)
	may := func(a space.Arch) bool { return !drawn[a] && r.May(a) }
	for failed := 0; len(out) < n && failed < tries; failed++ {
		if a := sample(stream); may(a) {
			drawn[a] = true
			out = append(out, a)
			failed = -1
		}
	}
	return append(out, ledger.Draw(r.List(), n-len(out), stream, may)...)
}

// Draw returns n distinct architectures of a space that a source can label, uniformly at random, fewer where there are
// no more.
func Draw(sp space.Space, source ledger.Source, n int, seed uint64) []space.Arch {
	r := &Run{Deps: Deps{Space: sp, Source: source}, Ledger: ledger.New(source, n)}
	return r.Draw(n, philox.New(seed, philox.PurposeSample, 0), sp.Sample, 100000)
}

// More goes on to the next budget that the run was given, where this one has been spent or nothing is left to spend it
// on; false where there is none.
func (r *Run) More() bool {
	if r.plan.stage+1 == len(r.plan.budgets) {
		return false
	}
	r.plan.stage++
	r.Budget = r.plan.budgets[r.plan.stage]
	r.Ledger.Raise(r.Budget)
	return true
}

// Left is how many more labels may be bought, of the next budget where one has been spent.
func (r *Run) Left() int {
	for r.Ledger.Left() == 0 && r.More() {
	}
	return r.Ledger.Left()
}

// Buy pays for the candidates of a round, logs it, and returns their labels.
func (r *Run) Buy(ctx context.Context, round int, candidates []ledger.Request) ([]ledger.Answer, error) {
	if err := r.Submit(ctx, round, candidates); err != nil {
		return nil, err
	}
	return r.Collect(ctx)
}

// Submit pays for the candidates of a round and does not wait for their labels: Collect does.
func (r *Run) Submit(ctx context.Context, round int, candidates []ledger.Request) error {
	r.Spent("propose")
	r.Round = round
	return r.Ledger.Submit(ctx, round, candidates)
}

// Collect waits for the labels of the round that was submitted first of those that are pending, logs it, and returns
// its labels.
func (r *Run) Collect(ctx context.Context) ([]ledger.Answer, error) {
	round := r.Ledger.Pending()[0]
	answers, err := r.Ledger.Collect(ctx)
	if err != nil {
		return nil, err
	}
	var predicted, measured []float64
	for _, a := range answers {
		if !math.IsNaN(a.Predicted) {
			predicted, measured = append(predicted, a.Predicted), append(measured, a.Score)
		}
	}
	tau := math.NaN()
	if len(predicted) > 1 {
		tau = stat.KendallB(predicted, measured)
	}
	r.Spent("label")
	r.Report(Progress{Stage: "label"})
	return answers, r.RoundEvent(round, tau, len(predicted), len(answers))
}

// RoundEvent logs a round; tau rests on so many of its labels, those that something was predicted of.
func (r *Run) RoundEvent(round int, tau float64, labels, candidates int) error {
	e := report.Event{Name: report.EventRound, Step: round, Values: map[string]float64{
		"labels": float64(len(r.Ledger.Labels())), "tau_labels": float64(labels), "candidates": float64(candidates),
	}}
	if !math.IsNaN(tau) {
		e.Values["tau"] = tau
	}
	if best, ok := r.Ledger.Best(); ok && best.Fits() {
		key := report.BestAccuracy
		if f := r.Source.Facts(); f.Predicted() || f.Direction != "" {
			key = report.BestScore
		}
		e.Values[key] = best.Value
	}
	return r.Event(e)
}

// Spent charges the time since the last call to a phase of the log.
func (r *Run) Spent(phase string) {
	now := time.Now()
	r.journal.seconds[phase] += now.Sub(r.journal.phase).Seconds()
	r.journal.phase = now
}

// Event writes to the log, where there is one.
func (r *Run) Event(e report.Event) error {
	if r.journal.log == nil {
		return nil
	}
	if err := r.journal.log.Write(e); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

// Report tells who watches how far the search is.
func (r *Run) Report(p Progress) {
	if r.Progress == nil {
		return
	}
	p.Round, p.Budget = r.Round, r.Budget
	if r.Ledger == nil { // a source recalls the labels of a ledger that is being opened
		r.Progress(p)
		return
	}
	p.Labels, p.Recalled = len(r.Ledger.Labels()), r.recalled
	if best, ok := r.Ledger.Best(); ok {
		p.Best, p.Fits = best.Value, best.Fits()
	}
	r.Progress(p)
}
