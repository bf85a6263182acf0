package search

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// ErrInterrupted is returned when the context ended the search: in a run folder a checkpoint stands and Run goes on from it.
var ErrInterrupted = fmt.Errorf("the search was interrupted: %w", context.Canceled)

// Deps are what a search works with.
type Deps struct {
	Space  space.Space
	Source ledger.Source
	// Checksum identifies the data that labels come from: a resume with other data is refused. May be empty.
	Checksum string
	// Images is the checksum of the images that labels are trained on, part of what Checksum covers: a refusal says so. Empty: there are none.
	Images string
	// List is the enumerated space, needed for ProposeSpace; with ProposeAuto it is used where it is given. Not used with ProposeController.
	List   *Catalogue
	Device exec.Config
	// Latency is what Config.Latency names; nil where it names nothing.
	Latency *latency.Model
	// Dir is the run's folder; empty: nothing is written and nothing can be resumed. A folder that holds a checkpoint is resumed.
	Dir string
	// Run are the facts for the block run: of config.yaml; may be nil.
	Run any
	// Version of the program: a checkpoint of another one is refused.
	Version string
	// Moved are inputs that a run which goes on finds elsewhere than it began with, for its log; may be nil.
	Moved map[string]string
	// Progress is called as the search goes on; may be nil.
	Progress func(Progress)
}

// Progress says how far a search is.
type Progress struct {
	Stage           string // label, train, controller, judge
	Round           int
	Labels, Budget  int
	Best            float64 // best label so far
	Done, Total     int     // of the stage, where it is long
	Reward, Entropy float64 // of the controller
}

// ConfigName is the file of a run folder that holds its settings.
const ConfigName = report.ConfigName

// LoadConfig returns the settings of a run folder, to resume it.
func LoadConfig(dir string) (c Config, err error) {
	return c, loadConfig(dir, func(text []byte) error {
		c, err = ParseConfig(text)
		return err
	})
}

// MethodOf returns the search method of a run folder.
func MethodOf(dir string) (string, error) {
	top := struct {
		Method string `yaml:"method"`
	}{MethodName} // folders of older versions do not say it
	err := loadConfig(dir, func(text []byte) error { return yaml.Unmarshal(text, &top) })
	return top.Method, err
}

func loadConfig(dir string, parse func(text []byte) error) error {
	path := filepath.Join(dir, ConfigName)
	text, err := files.ReadText(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not the folder of a search: it has no %s", dir, ConfigName)
	} else if err != nil {
		return err
	}
	if err := parse(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// search is a run in work.
type search struct {
	Config
	Deps
	gcn    gcn.Config
	ident  string
	source string // what labels and times are, for the checkpoint
	limits space.Limits
	sample func(*philox.Stream) space.Arch
	none   error // why the space does not draw within the limits; nil where it does
	dev    *exec.Device
	ledger *ledger.Ledger
	policy *controller.Controller
	log    *report.Log // nil without a folder
	phase  time.Time   // when the current phase began

	round, iteration  int
	trained           bool
	explored, updates int
	cmp               *gcn.Comparator
	referee           *referee
	baseline          space.Arch
	history           []space.Arch
	pseudo            []pseudo
	curve             []curvePoint
	first, last       []space.Arch
	seconds           map[string]float64

	released *releasedRun
	ended    *Result          // what stands in the folder of a search that has ended
	loop     *controller.Loop // nil: the host goes through every iteration
}

// Run searches until the budget is spent and returns what it found. In a folder with a checkpoint it goes on from there and ends in the
// same bytes of result.json and ledger.jsonl as if it had never stopped.
func Run(ctx context.Context, c Config, d Deps) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Method != MethodName {
		return nil, fmt.Errorf("the settings are those of a search with %s, not with %s", c.Method, MethodName)
	}
	s := &search{Config: c, Deps: d, seconds: map[string]float64{}}
	defer s.close()
	err := s.open(ctx) // labels may be recalled, which may take a while
	if err == nil && s.ended != nil {
		return s.ended, nil
	}
	if err == nil {
		err = s.run(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, ErrInterrupted
	} else if err != nil {
		return nil, err
	}
	return s.finish()
}

func (s *search) close() {
	if s.released != nil {
		s.released.close()
	}
	if s.policy != nil {
		s.policy.Close()
	}
	if s.dev != nil {
		s.dev.Close()
	}
	if s.ledger != nil {
		_ = s.ledger.Close() // every label was written and, with a checkpoint, flushed
	}
	if s.log != nil {
		_ = s.log.Close()
	}
}

// open prepares everything: a new run or the rest of one.
func (s *search) open(ctx context.Context) (err error) {
	if s.gcn, err = s.Comparator(s.Deps.Space); err != nil {
		return err
	}
	if s.ident, err = s.identity(s.Deps.Space); err != nil {
		return err
	}
	s.source = s.Source.Describe() + " " + s.Checksum
	if s.Images != "" {
		s.source += sourceImages + s.Images
	}
	switch {
	case s.Propose == ProposeController:
		s.List = nil
	case s.Propose == ProposeSpace && s.List == nil:
		return fmt.Errorf("--propose %s: %s cannot be listed here", ProposeSpace, s.Deps.Space.Name())
	}
	if s.Deps.Latency == nil && (s.MaxLatency > 0 || s.ParetoCost == space.CostLatency) {
		return errors.New("a limit or a front of latencies, and no table of them")
	}
	s.limits = ledger.Counted(s.Limits(s.Deps.Latency.Known()), s.Source)
	if s.sample, err = space.Sampler(s.Deps.Space, s.limits); err != nil {
		if s.list() == nil {
			return err
		}
		s.none, s.sample = err, s.Deps.Space.Sample // what is listed may be within them all the same: see random
	}
	if s.Deps.Latency != nil {
		s.source += sourceLatency + s.Deps.Latency.Checksum()
	}
	if f := space.FileOf(s.Deps.Space); f != nil {
		sum := sha256.Sum256(f.Text())
		s.source += sourceSpace + hex.EncodeToString(sum[:])
	}
	var old *snapshot
	if s.Dir != "" {
		if old, err = s.openFolder(); err != nil {
			return err
		}
	}
	if old != nil {
		if s.ended, err = Finished(s.Dir); err != nil || s.ended != nil {
			return err
		}
	}
	if s.dev, err = exec.Open(s.Device); err != nil {
		return err
	}
	s.Device.Level = s.dev.Level()
	if s.policy, err = controller.New(s.dev, s.Deps.Space, s.Config.policy()); err != nil {
		return err
	}
	if s.Dir != "" {
		keep := int64(0)
		if old != nil {
			keep = old.Log
		}
		if s.log, err = report.OpenLog(s.Dir, keep); err != nil {
			return err
		}
	}
	if m, ok := s.Source.(ledger.Maker); ok {
		m.Observe(func(e report.Event) { _ = s.event(e) }, // the log is not the result
			func(done, total int) { s.progress(Progress{Stage: "label", Done: done, Total: total}) })
	}
	path := filepath.Join(s.Dir, report.LedgerName)
	switch {
	case s.Dir == "":
		s.ledger = ledger.New(s.Source, s.Budget)
	case old == nil:
		s.ledger, err = ledger.Create(path, s.Source, s.Budget)
	default:
		s.ledger, err = ledger.Resume(ctx, path, s.Source, s.Budget, s.Deps.Space, old.Ledger)
	}
	if err == nil && old != nil {
		err = s.restore(ctx, old)
	}
	if err == nil && len(s.Moved) > 0 {
		err = s.event(report.Event{Name: report.EventMoved, Step: s.round, Text: s.Moved})
	}
	s.phase = time.Now()
	return err
}

// openFolder writes config.yaml into a new folder, or reads the checkpoint of an old one.
func (s *search) openFolder() (*snapshot, error) {
	if err := files.MkdirAll(s.Dir); err != nil {
		return nil, err
	}
	old, err := readSnapshot(s.Dir)
	if errors.Is(err, ErrNoCheckpoint) {
		return nil, s.claim()
	} else if err != nil {
		return nil, err
	}
	refuse := func(format string, args ...any) (*snapshot, error) {
		return nil, fmt.Errorf("%s cannot be resumed: %s", s.Dir, fmt.Sprintf(format, args...))
	}
	switch {
	case old.Version != s.Version:
		return refuse("it was begun by version %s, this is %s", old.Version, s.Version)
	case old.Config != s.ident:
		return refuse("its settings are other ones than those given now")
	case old.Source != s.source:
		return refuse("%s", otherSource(old.Source, s.source))
	case s.Device.Level != "" && s.Device.Level != old.Level:
		return refuse("it was begun on %s, and %s was asked for: the results would differ", old.Level, s.Device.Level)
	}
	s.Device.Level = old.Level
	dev, err := exec.Open(s.Device)
	if err != nil {
		return refuse("it was begun on %s, elsewhere the results would differ: %v", old.Level, err)
	}
	dev.Close()
	return old, nil
}

// What a search stands on is one line in its checkpoint: where labels come from, then what else was read.
const (
	sourceImages  = "; images "
	sourceLatency = "; latencies "
	sourceSpace   = "; space "
)

// otherSource says in which part two such lines differ.
func otherSource(old, now string) string {
	parts := func(line string) [4]string {
		line, sp, _ := strings.Cut(line, sourceSpace)
		line, latency, _ := strings.Cut(line, sourceLatency)
		labels, images, _ := strings.Cut(line, sourceImages)
		return [4]string{images, labels, latency, sp}
	}
	a, b := parts(old), parts(now)
	for i, what := range []string{
		"the images that its labels were trained on have changed", "its labels came from other data", "its latencies came from another table",
		"its space came from another file",
	} {
		if a[i] != b[i] {
			return fmt.Sprintf("%s: %s; now: %s", what, cmp.Or(a[i], "none"), cmp.Or(b[i], "none"))
		}
	}
	return "it was begun on other data"
}

// claim writes config.yaml. A folder that holds one already is the same run, killed before its first checkpoint.
func (s *search) claim() error {
	path := filepath.Join(s.Dir, ConfigName)
	if _, err := os.Stat(path); err == nil {
		old, err := LoadConfig(s.Dir)
		if err != nil {
			return err
		}
		ident, err := old.identity(s.Deps.Space)
		if err != nil {
			return err
		}
		if ident != s.ident {
			return fmt.Errorf("%s cannot be resumed: its settings are other ones than those given now", s.Dir)
		}
		if m := s.Deps.Latency; m != nil {
			kept, err := files.Read(filepath.Join(s.Dir, report.LatencyName), latency.MaxBytes)
			switch {
			case errors.Is(err, fs.ErrNotExist): // killed before it was written
			case err != nil:
				return err
			case !bytes.Equal(kept, m.Table.Text()):
				return fmt.Errorf("%s cannot be resumed: its latencies are from another table than %s", s.Dir, m.Table.Path)
			}
		}
		return KeepInputs(s.Dir, s.Deps.Space, s.Deps.Latency)
	}
	text, err := s.YAML(s.Run)
	if err != nil {
		return err
	}
	// The settings come first: a folder that has them is a run's, whatever else a kill keeps from being written.
	if err := files.Write(path, text); err != nil {
		return err
	}
	return KeepInputs(s.Dir, s.Deps.Space, s.Deps.Latency)
}

// KeepInputs puts copies of the file that describes a space and of a latency table into a run's folder, where there are any, so that the
// folder can be read without them.
func KeepInputs(dir string, sp space.Space, m *latency.Model) error {
	if f := space.FileOf(sp); f != nil {
		if err := files.Write(filepath.Join(dir, report.SpaceName), f.Text()); err != nil {
			return err
		}
	}
	if m == nil {
		return nil
	}
	return files.Write(filepath.Join(dir, report.LatencyName), m.Table.Text())
}

// restore takes over the state of a checkpoint.
func (s *search) restore(ctx context.Context, old *snapshot) (err error) {
	parse := func(text string) space.Arch {
		a, e := s.Deps.Space.Parse(text)
		if e != nil && err == nil {
			err = fmt.Errorf("checkpoint: %w", e)
		}
		return a
	}
	list := func(texts []string) (out []space.Arch) {
		for _, t := range texts {
			out = append(out, parse(t))
		}
		return out
	}
	s.round, s.trained, s.iteration, s.explored, s.updates = old.Round, old.Trained, old.Iteration, old.Explored, old.Updates
	if old.Baseline != "" {
		s.baseline = parse(old.Baseline)
	}
	s.history, s.first, s.last = list(old.History), list(old.First), list(old.Last)
	for _, p := range old.Pseudo {
		s.pseudo = append(s.pseudo, pseudo{parse(p.A), parse(p.B), p.Target, p.Round})
	}
	s.curve = old.Curve
	if old.Seconds != nil {
		s.seconds = old.Seconds
	}
	if err != nil {
		return err
	}
	if err := s.policy.Restore(old.Controller); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if s.Preset == PresetReleased {
		return s.restoreReleased(old)
	}
	if len(old.Comparator) == 0 {
		return nil
	}
	s.cmp = &gcn.Comparator{}
	if err := s.cmp.UnmarshalBinary(old.Comparator); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !s.trained {
		return nil
	}
	if s.referee, err = newReferee(ctx, s.Deps.Space, s.Device, s.cmp, s.List); err != nil {
		return err
	}
	for _, group := range old.Asked {
		archs := list(group)
		if err != nil {
			return err
		}
		if err := s.referee.learn(archs); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint writes the state where there is a folder for it.
func (s *search) checkpoint() error {
	if s.Dir == "" {
		return nil
	}
	at, err := s.ledger.Position()
	if err != nil {
		return err
	}
	texts := func(archs []space.Arch) []string {
		out := make([]string, len(archs))
		for i, a := range archs {
			out[i] = a.String()
		}
		return out
	}
	snap := &snapshot{
		Version: s.Version, Config: s.ident, Level: s.dev.Level(), Source: s.source,
		Round: s.round, Trained: s.trained, Iteration: s.iteration, Explored: s.explored, Updates: s.updates, Ledger: at,
		Log:        s.log.Position(),
		Controller: s.policy.State(), History: texts(s.history), Curve: s.curve, First: texts(s.first), Last: texts(s.last), Seconds: s.seconds,
	}
	if s.baseline != nil {
		snap.Baseline = s.baseline.String()
	}
	for _, p := range s.pseudo {
		snap.Pseudo = append(snap.Pseudo, pseudoText{p.A.String(), p.B.String(), p.Target, p.Round})
	}
	if s.cmp != nil {
		if snap.Comparator, err = s.cmp.MarshalBinary(); err != nil {
			return err
		}
	}
	if s.trained && s.referee != nil {
		for _, group := range s.referee.asked {
			snap.Asked = append(snap.Asked, texts(group))
		}
	}
	if s.released != nil {
		s.released.save(snap)
	}
	if err := writeSnapshot(s.Dir, snap); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// spent charges the time since the last call to a phase of the log.
func (s *search) spent(phase string) {
	now := time.Now()
	s.seconds[phase] += now.Sub(s.phase).Seconds()
	s.phase = now
}

func (s *search) event(e report.Event) error {
	if s.log == nil {
		return nil
	}
	if err := s.log.Write(e); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

func (s *search) progress(p Progress) {
	if s.Progress == nil {
		return
	}
	p.Round, p.Budget = s.round, s.Budget
	if s.ledger == nil { // a source recalls the labels of a ledger that is being opened
		s.Progress(p)
		return
	}
	p.Labels = len(s.ledger.Labels())
	if best, ok := s.ledger.Best(); ok {
		p.Best = best.Value
	}
	s.Progress(p)
}

// allowed tells whether an architecture meets the constraints.
func (s *search) allowed(a space.Arch) bool { return s.limits.Allow(a) }

// guided tells whether the controller is led to architectures within the limits: in a space that can only be searched, few of what it draws at first may be.
func (s *search) guided() bool {
	return s.List == nil && space.IsPositional(s.Deps.Space) && !s.limits.None()
}

// consolation is the reward of an architecture above the limits: the further above the less, and less than that of any within that is not hopeless.
func (s *search) consolation(a space.Arch) float64 {
	if !s.guided() {
		return 0
	}
	return 0.02 * math.Pow(s.limits.Excess(a), -8)
}

// may tells whether an architecture can be labelled next.
func (s *search) may(a space.Arch) bool { return s.ledger.May(a) && s.allowed(a) }

// run goes through the rounds: random labels, then train, let the controller learn, and label what is proposed, until the budget is spent
// and a comparator has learned from all of it.
func (s *search) run(ctx context.Context) error {
	if s.round == 0 {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	if s.Preset == PresetReleased {
		return s.runReleased(ctx)
	}
	for {
		if !s.trained {
			if err := s.train(ctx); err != nil {
				return err
			}
		}
		if s.ledger.Left() == 0 && s.round > 1 { // the last comparator only ranks what was found
			return nil
		}
		if err := s.learn(ctx); err != nil {
			return err
		}
		if s.ledger.Left() == 0 {
			return nil
		}
		got, err := s.label(ctx)
		if err != nil {
			return err
		}
		if got == 0 { // nothing is left to label
			return nil
		}
		s.round++
		s.trained, s.iteration = false, 0
		if err := s.checkpoint(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// sampleTries is how many random architectures are drawn for one that may be labelled before none is taken to exist.
const sampleTries = 200000

// random draws n distinct architectures that may be labelled, fewer where there are no more: from the space, and
// where draws come to nothing, for few of it have labels, from the list of those.
func (s *search) random(n int, stream *philox.Stream) []space.Arch {
	var out []space.Arch
	drawn := make(map[space.Arch]bool, n)
	for len(out) < n {
		found := false
		for range sampleTries {
			if a := s.sample(stream); !drawn[a] && s.may(a) {
				drawn[a], found = true, true
				out = append(out, a)
				break
			}
		}
		if !found {
			return append(out, ledger.Draw(s.list(), n-len(out), stream,
				func(a space.Arch) bool { return !drawn[a] && s.may(a) })...)
		}
	}
	return out
}

// list is what may be labelled at all, where that is known; nil otherwise.
func (s *search) list() ledger.List {
	if s.List != nil {
		return ledger.ListOf(s.Source, s.List)
	}
	return ledger.ListOf(s.Source, nil)
}

// begin buys the random labels of round 0.
func (s *search) begin(ctx context.Context) error {
	archs := s.random(s.initial()+s.Validation, philox.New(s.Seed, philox.PurposeSample, 0))
	if len(archs) < minimumInitialLabel+s.Validation {
		if len(archs) == 0 && s.none != nil {
			return s.none
		}
		if s.limits.None() {
			return fmt.Errorf("only %d architectures of %s can be labelled; a search needs %d", len(archs),
				s.Deps.Space.Name(), minimumInitialLabel+s.Validation)
		}
		return fmt.Errorf("only %d architectures of %s can be labelled%s: loosen %s", len(archs), s.Deps.Space.Name(),
			s.limits.Counted(), s.limits.Flags())
	}
	train := archs[:len(archs)-s.Validation]
	if _, err := s.ledger.Query(ctx, train, proposerRandom, 0); err != nil {
		return err
	}
	if _, err := s.ledger.Query(ctx, archs[len(train):], proposerValidation, 0); err != nil {
		return err
	}
	s.spent("label")
	if err := s.roundEvent(0, math.NaN(), 0, len(archs)); err != nil {
		return err
	}
	s.progress(Progress{Stage: "label"})
	s.round = 1
	return s.checkpoint()
}

// roundEvent logs a round; tau rests on so many of its labels, those that something was predicted of.
func (s *search) roundEvent(round int, tau float64, labels, candidates int) error {
	e := report.Event{Name: report.EventRound, Step: round, Values: map[string]float64{
		"labels": float64(len(s.ledger.Labels())), "tau_labels": float64(labels), "candidates": float64(candidates),
	}}
	if !math.IsNaN(tau) {
		e.Values["tau"] = tau
	}
	if best, ok := s.ledger.Best(); ok {
		key := report.BestAccuracy
		if s.Source.Facts().Predicted() {
			key = report.BestScore
		}
		e.Values[key] = best.Value
	}
	return s.event(e)
}

// train trains this round's comparator on all labels and the pseudo-labelled pairs.
func (s *search) train(ctx context.Context) error {
	labels := s.ledger.Labels()
	archs, values := make([]space.Arch, len(labels)), make([]float64, len(labels))
	for i, l := range labels {
		archs[i], values[i] = l.Arch, l.Value
	}
	s.pseudo = age(s.pseudo, s.round, s.ExploreAge, s.ExplorePool)
	s.referee = nil // the last comparator's opinions go before the next ones come
	data := join(describe(s.Deps.Space, s.gcn.Network, archs, values), s.Deps.Space, s.gcn.Network, archs, s.pseudo,
		s.ExploreWeight)
	var mu sync.Mutex
	losses := make([][]float64, s.gcn.Members) // a member's losses by block, in order
	steps := []int{}
	done := 0
	seed := philox.New(s.Seed, philox.PurposeTrain, uint32(s.round)).Uint64()
	cmp, err := gcn.Train(ctx, s.Device, s.gcn, data, seed, func(member, step int, loss float64) {
		mu.Lock()
		defer mu.Unlock()
		if losses[member] = append(losses[member], loss); len(losses[member]) > len(steps) {
			steps = append(steps, step)
		}
		done++
		s.progress(Progress{Stage: "train", Done: step, Total: s.gcn.Steps})
	})
	if err != nil {
		return err
	}
	for k, step := range steps {
		mean := 0.0
		for _, l := range losses {
			mean += l[k] / float64(len(losses))
		}
		err := s.event(report.Event{Name: report.EventComparator, Step: s.updates + step, Values: map[string]float64{
			"loss": mean, "labels": float64(len(labels)), "pseudo": float64(len(s.pseudo)),
		}})
		if err != nil {
			return err
		}
	}
	s.updates += s.gcn.Steps
	s.spent("train")
	s.cmp, s.trained = cmp, true
	if s.referee, err = newReferee(ctx, s.Deps.Space, s.Device, cmp, s.List); err != nil {
		return err
	}
	s.spent("rank")
	if err := s.firstBaseline(); err != nil {
		return err
	}
	return s.checkpoint()
}

// firstBaseline draws the first baseline from the controller; later comparators choose the best of the past ones again.
func (s *search) firstBaseline() error {
	if s.Iterations == 0 || s.Propose == ProposeSpace {
		return nil
	}
	switch {
	case s.baseline == nil:
		b, err := s.policy.Propose(1)
		if err != nil {
			return err
		}
		s.baseline, s.history = b.Archs[0], b.Archs[:1]
		if s.guided() && !s.allowed(s.baseline) { // what is within the limits hardly ever beats it
			if within := s.random(1, philox.New(s.Seed, philox.PurposePropose, 0)); len(within) > 0 {
				s.baseline = within[0]
			} else if best, ok := s.ledger.Best(); ok { // everything within the limits has been labelled
				s.baseline = best.Arch
			}
			s.history = []space.Arch{s.baseline}
		}
	case s.Baseline == BaselineCurriculum:
		o, err := s.referee.ask(s.history)
		if err != nil {
			return err
		}
		best, _ := strongest(o)
		s.baseline = s.history[best]
	}
	return nil
}

// curveEvery is how many updates of the controller lie between two lines of the log, and curveSamples how many of a batch are kept for it.
const (
	curveEvery   = 10
	curveSamples = 16
	// endSamples is how many of the controller's first and last samples are kept, to be judged after the end.
	endSamples = 500
)

// learn lets the controller learn from this round's comparator.
func (s *search) learn(ctx context.Context) error {
	if s.Propose == ProposeSpace {
		return nil
	}
	for s.iteration < s.Iterations {
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if err := s.update(); err != nil {
			return err
		}
		s.iteration++
		if s.Baseline == BaselineCurriculum && s.iteration%s.BaselineEvery == 0 {
			if err := s.newBaseline(); err != nil {
				return err
			}
		}
		if s.Explore && s.iteration%s.ExploreEvery == 0 {
			if err := s.explore(); err != nil {
				return err
			}
		}
		if s.iteration%s.CheckpointEvery == 0 && s.iteration < s.Iterations {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
	}
	s.spent("controller")
	return nil
}

// update is one batch of REINFORCE.
func (s *search) update() error {
	batch, err := s.policy.Sample()
	if err != nil {
		return err
	}
	opinions, err := s.referee.ask(append(slices.Clip(batch.Archs), s.baseline))
	if err != nil {
		return err
	}
	rewards := make([]float64, len(batch.Archs))
	beta := opinions[len(batch.Archs)]
	for i, a := range batch.Archs {
		switch {
		case !s.allowed(a): // the worst there is
			rewards[i] = s.consolation(a)
		case s.Reward == RewardAbsolute:
			rewards[i] = 1 / (1 + math.Exp(-opinions[i].rank()))
		default:
			rewards[i] = opinions[i].beats(beta)
		}
	}
	stats, err := s.policy.Update(rewards)
	if err != nil {
		return err
	}
	s.keep(batch.Archs)
	if s.policy.Updates()%curveEvery != 0 {
		return nil
	}
	loss := 0.0
	for i := range batch.Actions {
		loss -= (rewards[i] - stats.Baseline) * float64(batch.LogP[i]) / float64(len(rewards))
	}
	return s.curveEvent(s.policy.Updates(), batch.Archs, batch.Actions, loss, stats)
}

// keep remembers the controller's first and last samples.
func (s *search) keep(archs []space.Arch) {
	if n := endSamples - len(s.first); n > 0 {
		s.first = append(s.first, archs[:min(n, len(archs))]...)
	}
	s.last = append(s.last, archs...)
	if extra := len(s.last) - endSamples; extra > 0 {
		s.last = slices.Delete(s.last, 0, extra)
	}
}

// curveEvent logs an update and keeps a few samples, whose true percentile joins the log after the end.
func (s *search) curveEvent(step int, archs []space.Arch, actions [][]int, loss float64, stats controller.Stats) error {
	p := curvePoint{Step: step, Reward: stats.MeanReward, GradNorm: stats.GradNorm, Loss: loss}
	decisions := 0
	for _, sequence := range actions {
		decisions += len(sequence)
	}
	p.Entropy = stats.Entropy * float64(len(actions)) / float64(decisions)
	for _, a := range archs[:min(curveSamples, len(archs))] {
		p.Samples = append(p.Samples, a.String())
	}
	s.curve = append(s.curve, p)
	s.progress(Progress{Stage: "controller", Done: s.iteration + 1, Total: s.Iterations, Reward: p.Reward, Entropy: p.Entropy})
	return s.event(p.event())
}

func (p curvePoint) event() report.Event {
	return report.Event{Name: report.EventController, Step: p.Step, Values: map[string]float64{
		"reward": p.Reward, "entropy": p.Entropy, "loss": p.Loss, "grad_norm": p.GradNorm,
	}}
}

// newBaseline replaces the baseline by the best of fresh samples and past baselines, the one with the highest mean probability of
// beating the others (paper section 3.3, algorithm 2).
func (s *search) newBaseline() error {
	fresh, err := s.policy.Propose(s.BaselineSamples)
	if err != nil {
		return err
	}
	rivals := slices.Clone(s.history)
	for _, a := range fresh.Archs {
		if s.allowed(a) && !slices.Contains(rivals, a) {
			rivals = append(rivals, a)
		}
	}
	opinions, err := s.referee.ask(rivals)
	if err != nil {
		return err
	}
	best, win := strongest(opinions)
	if s.baseline = rivals[best]; !slices.Contains(s.history, s.baseline) {
		s.history = append(s.history, s.baseline)
	}
	return s.event(report.Event{Name: report.EventBaseline, Step: s.policy.Updates(), Values: map[string]float64{"win": win},
		Text: map[string]string{"arch": s.baseline.String()}})
}

// explore compares the controller's samples in random pairs and keeps the most confident comparisons.
func (s *search) explore() error {
	n := 2 * s.ExplorePairs
	b, err := s.policy.Propose(n)
	if err != nil {
		return err
	}
	opinions, err := s.referee.ask(b.Archs)
	if err != nil {
		return err
	}
	order := philox.New(s.Seed, philox.PurposeExplore, uint32(s.explored)).Perm(n)
	s.explored++
	other, p := make([]space.Arch, n), make([]float64, n)
	for i, j := range order {
		other[i], p[i] = b.Archs[j], opinions[i].beats(opinions[j])
	}
	s.pseudo = age(append(s.pseudo, confident(b.Archs, other, p, s.ExplorePairs, s.round)...), s.round, s.ExploreAge, s.ExplorePool)
	return nil
}

// label buys this round's candidates and returns how many there were.
func (s *search) label(ctx context.Context) (int, error) {
	candidates, err := s.candidates(min(s.PerRound, s.ledger.Left()))
	if err != nil {
		return 0, err
	}
	s.spent("propose")
	answers, err := s.ledger.Ask(ctx, s.round, candidates)
	if err != nil {
		return 0, err
	}
	var predicted, measured []float64
	for _, a := range answers {
		if !math.IsNaN(a.Predicted) {
			predicted, measured = append(predicted, a.Predicted), append(measured, a.Value)
		}
	}
	tau := math.NaN()
	if len(predicted) > 1 {
		tau = stat.KendallB(predicted, measured)
	}
	s.spent("label")
	s.progress(Progress{Stage: "label"})
	return len(answers), s.roundEvent(s.round, tau, len(predicted), len(candidates))
}
