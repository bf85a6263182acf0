// Package ledger keeps account of labels: every accuracy that a search learns has a price and a pedigree. What a method
// did not ask for here it does not know, and what it asked for counts, so that methods are compared at the same number
// of labels.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// Facts say what a source's labels are.
type Facts struct {
	Source string `json:"source"`           // where they come from: table, predictor, supernet, trained
	Metric string `json:"metric"`           // what they measure: "test accuracy"
	Run    int    `json:"run,omitempty"`    // which of several runs; 0: a mean, or there is only one
	Epochs int    `json:"epochs,omitempty"` // how long the network was trained, where it is known
	// Of labels that are no accuracies: whether less or more is better, and the unit; see Other.
	Direction string `json:"direction,omitempty"`
	Unit      string `json:"unit,omitempty"`
	// Of labels that were trained for: the recipe's name and fingerprint, the first seed, and of how many seeds a label
	// is the mean; 0: of one.
	Recipe string `json:"recipe,omitempty"`
	Seed   uint64 `json:"seed,omitempty"`
	Seeds  int    `json:"seeds,omitempty"`
	// Of labels that are predicted: by what. They are scores, no accuracies that anybody measured, and every report
	// says so.
	Predictor string `json:"predictor,omitempty"`
	// Of labels that a user's own command makes: the command as it was given, the checksum of the files that it is made
	// of, and the variables of the environment that count.
	Command     string            `json:"command,omitempty"`
	CommandSHA  string            `json:"command_sha256,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	// Of labels with shared weights: which supernet's, the begin of its checksum. Nobody trained such a network.
	Supernet string `json:"supernet,omitempty"`
}

// Predicted tells whether labels are what a predictor says, not what was measured.
func (f Facts) Predicted() bool { return f.Predictor != "" }

// String reads like "test accuracy, run 1".
func (f Facts) String() string {
	text := f.Metric
	if f.Predicted() {
		text += " of " + f.Predictor
	}
	if f.Supernet != "" {
		text += " of the supernet " + f.Supernet
	}
	if f.Command != "" {
		text += " that `" + f.Command + "` says"
	}
	if f.Run > 0 {
		text += fmt.Sprintf(", run %d", f.Run)
	}
	if f.Recipe != "" {
		text += fmt.Sprintf(", recipe %s, seed %d", f.Recipe, f.Seed)
	}
	if f.Seeds > 0 {
		text += fmt.Sprintf(", mean of %d seeds", f.Seeds)
	}
	return text
}

// Note is what there is to say of a label beside its value.
type Note struct {
	// Epochs after which its trainings were ended early, one a seed, 0: not; empty: none was.
	Stopped  []int `json:"stopped,omitempty"`
	Diverged bool  `json:"diverged,omitempty"` // a training fell apart
	// Its trainings that were given up because they failed wherever they were tried, by their number from 0.
	Failed []int `json:"failed,omitempty"`
	// What else was measured, by name: means, where there are several measurements. And these, each with the metric
	// that the label is of.
	Metrics      map[string]float64   `json:"metrics,omitempty"`
	Measurements []map[string]float64 `json:"measurements,omitempty"`
}

// String is empty, or for example "stopped after 5 epochs".
func (n Note) String() string {
	var parts []string
	for _, epochs := range n.Stopped {
		if epochs > 0 {
			parts = append(parts, fmt.Sprintf("stopped after %d epochs", epochs))
		}
	}
	if n.Diverged {
		parts = append(parts, "diverged")
	}
	if len(n.Failed) > 0 {
		parts = append(parts, "failed")
	}
	if len(n.Measurements) > 0 {
		parts = append(parts, fmt.Sprintf("mean of %d measurements", len(n.Measurements)))
	}
	return strings.Join(parts, ", ")
}

// Source answers with labels. It is asked through a Ledger only.
type Source interface {
	// Has tells whether the source can label an architecture.
	Has(a space.Arch) bool
	// Label returns one accuracy (0..1) an architecture, in their order. All of them are Has.
	Label(ctx context.Context, archs []space.Arch) ([]float64, error)
	Facts() Facts
	// Describe says which accuracy chooses and which one judges, in a line that every report quotes.
	Describe() string
}

// Submitter is a source that makes labels while it is asked for more of them.
type Submitter interface {
	Source
	// Submit begins to make the labels of architectures and returns at once. Before them others were asked for, asked
	// of them; the first known of those may be gone by, whatever else is known by now or before the labels are taken.
	// wait returns them when they are there; it is called once, in the order of submission. Where ctx ends, it fails.
	Submit(ctx context.Context, known, asked int, archs []space.Arch) (wait func() ([]float64, error))
}

// Judge is a source that can tell, once a search has ended, how good an architecture really is.
type Judge interface {
	// Unseal ends the search: from now on Judge answers.
	Unseal()
	// Judge returns the accuracy that judges an architecture and its rank, 1 + the number of better ones of Total.
	Judge(a space.Arch) (accuracy float64, rank int, err error)
	// Percentile is 100 · rank / Total where equal ones share the mean of their ranks, so that chance gives 50 however
	// many are equal; ErrNoLabel where there is no rank.
	Percentile(a space.Arch) (float64, error)
	Total() int // 0: there are no ranks
}

// Lister is a source that has labels of the architectures of a list and of no others: a table. Where the list is
// small beside the space, architectures are drawn from it.
type Lister interface {
	Source
	List
}

// List is a numbered list of distinct architectures.
type List interface {
	Len() int
	Arch(i int) space.Arch // of 0..Len()-1
}

// ListOf is what a source lists, otherwise another list, which may be nil.
func ListOf(source Source, other List) List {
	if l, ok := source.(Lister); ok {
		return l
	}
	return other
}

// Draw draws up to n distinct architectures of a list that may be taken, uniformly at random; none of no list.
func Draw(list List, n int, stream *philox.Stream, may func(space.Arch) bool) []space.Arch {
	if list == nil || n <= 0 {
		return nil
	}
	var all []space.Arch
	for i := range list.Len() {
		if a := list.Arch(i); may(a) {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil
	}
	out := make([]space.Arch, 0, min(n, len(all)))
	for _, i := range stream.Perm(len(all))[:min(n, len(all))] {
		out = append(out, all[i])
	}
	return out
}

// Sized is a source whose labels are of networks of another size than those that the space's own costs count.
type Sized interface {
	NetworkSize() space.NetworkSize
}

// Counted are limits that look at the networks that a source's labels are of.
func Counted(l space.Limits, s Source) space.Limits {
	if sized, ok := s.(Sized); ok {
		l.Size = sized.NetworkSize()
	}
	if t, ok := s.(Table); ok {
		l.Said = t.view.Table().TrainedCosts()
	}
	return l
}

// Noter is a source that says more of its labels than their value.
type Noter interface {
	// Note says more of an architecture that has been labelled.
	Note(a space.Arch) Note
}

// Maker is a source that makes its labels when it is asked, one by what it knows of those before.
type Maker interface {
	Noter
	// Recall makes known what was labelled before the source was opened, in that order.
	Recall(ctx context.Context, labels []Label) error
	// Observe sets who is told what happens while labels are made, never twice at once: events for a log, and how many
	// are done of those that somebody waits for.
	Observe(event func(events.Event), progress func(done, total int))
}

// Renewable is a source that remembers what it was asked: each of several runs takes a fresh one.
type Renewable interface {
	Source
	// Fresh is the same source before anything was asked; only the first one is closed.
	Fresh() Source
}

// Label is a line of the ledger.
type Label struct {
	N        int // from 1: what has been spent with it
	Round    int
	Arch     space.Arch
	Value    float64 // an accuracy or a predicted score, 0..1, or whatever the metric is
	Score    float64 // what searches maximise: Value, unless less is better or it is outside of bounds
	Proposer string  // who asked for it: random, controller, space, explore, ...
	// Predicted is the score, in the proposer's unit, that made it a candidate; not a number where nothing was
	// predicted.
	Predicted float64
	Note      Note
}

// Request asks for a label.
type Request struct {
	Arch      space.Arch
	Proposer  string
	Predicted float64 // math.NaN() where nothing was predicted
}

// Answer is a label and whether it had been paid for before.
type Answer struct {
	Label
	Cached bool
}

// Errors of a request that is refused as a whole: nothing is charged.
var (
	ErrBudget  = errors.New("the budget of labels is spent")
	ErrNoLabel = errors.New("the source has no label of this architecture")
)

// Ledger buys labels from a source within a budget. It belongs to one goroutine. What has been submitted and not yet
// collected is pending: it counts in the budget and is no candidate any more, and nobody is told what it is worth.
type Ledger struct {
	source  Source
	facts   Facts
	bounds  []Bound
	budget  int
	labels  []Label
	at      map[space.Arch]int
	best    int
	pending []*submission
	asked   map[space.Arch]bool // what is pending
	file    *file               // nil: kept in memory only
}

// submission is a request whose labels have not been taken in.
type submission struct {
	round    int
	known    int // labels that were known when it was asked for
	requests []Request
	fresh    []Label // what is bought; the values are not known
	kept     bool    // the file holds the labels
	wait     func() ([]float64, error)
	stop     context.CancelFunc
}

// New opens a ledger that is kept in memory; see Create for one in a file. What is measured with labels should be
// within bounds.
func New(source Source, budget int, bounds ...Bound) *Ledger {
	return &Ledger{source: source, facts: source.Facts(), bounds: bounds, budget: budget,
		at: make(map[space.Arch]int), best: -1, asked: make(map[space.Arch]bool)}
}

// Source is where labels come from.
func (l *Ledger) Source() Source { return l.source }

// Raise allows more labels, so many in all.
func (l *Ledger) Raise(budget int) { l.budget = max(l.budget, budget) }

// Budget is how many labels may be bought in all; Left is how many still may.
func (l *Ledger) Budget() int { return l.budget }

// Left is how many more labels may be bought.
func (l *Ledger) Left() int { return l.budget - l.spent() }

// spent is how many labels have been asked for.
func (l *Ledger) spent() int { return len(l.labels) + len(l.asked) }

// Labels lists what has been bought, in order. The slice must not be changed.
func (l *Ledger) Labels() []Label { return l.labels }

// Get returns the label of an architecture if it has been bought. It costs nothing.
func (l *Ledger) Get(a space.Arch) (Label, bool) {
	i, ok := l.at[a]
	if !ok {
		return Label{}, false
	}
	return l.labels[i], true
}

// May tells whether an architecture can be a candidate: the source has its label and it has not been asked for.
func (l *Ledger) May(a space.Arch) bool {
	_, bought := l.at[a]
	return !bought && !l.asked[a] && l.source.Has(a)
}

// Best is the label with the highest score, the first of equal ones; false while there is none.
func (l *Ledger) Best() (Label, bool) {
	if l.best < 0 {
		return Label{}, false
	}
	return l.labels[l.best], true
}

// Query buys labels that one proposer asks for without a prediction, and returns their scores in order. See Ask.
func (l *Ledger) Query(ctx context.Context, archs []space.Arch, proposer string, round int) ([]float64, error) {
	requests := make([]Request, len(archs))
	for i, a := range archs {
		requests[i] = Request{a, proposer, math.NaN()}
	}
	answers, err := l.Ask(ctx, round, requests)
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(answers))
	for i, a := range answers {
		values[i] = a.Score
	}
	return values, nil
}

// Ask buys labels and returns them in the order of the requests. Each distinct architecture is charged once, ever; a
// repeated one is answered from the ledger. When the new ones together exceed the budget, or the source lacks one,
// nothing is bought. Nothing may be pending.
func (l *Ledger) Ask(ctx context.Context, round int, requests []Request) ([]Answer, error) {
	if len(l.pending) > 0 {
		return nil, fmt.Errorf("labels asked for while those of round %d are pending", l.pending[0].round)
	}
	if err := l.Submit(ctx, round, requests); err != nil {
		return nil, err
	}
	return l.Collect(ctx)
}

// Submit asks for labels as Ask does and does not wait for them: Collect does. ctx must last until then.
func (l *Ledger) Submit(ctx context.Context, round int, requests []Request) error {
	return l.submit(ctx, &submission{round: round, known: len(l.labels), requests: requests})
}

func (l *Ledger) submit(ctx context.Context, p *submission) error {
	fresh := make(map[space.Arch]bool, len(p.requests))
	for _, r := range p.requests {
		if _, known := l.at[r.Arch]; known || l.asked[r.Arch] || fresh[r.Arch] {
			continue
		}
		if !l.source.Has(r.Arch) {
			return fmt.Errorf("label of %v: %w", r.Arch, ErrNoLabel)
		}
		fresh[r.Arch] = true
		p.fresh = append(p.fresh, Label{N: l.spent() + len(fresh), Round: p.round, Arch: r.Arch, Proposer: r.Proposer,
			Predicted: r.Predicted})
	}
	if len(fresh) > l.Left() {
		return fmt.Errorf("%d labels asked for, %d of %d left: %w", len(fresh), l.Left(), l.budget, ErrBudget)
	}
	if len(fresh) > 0 {
		l.begin(ctx, p)
	}
	for a := range fresh {
		l.asked[a] = true
	}
	l.pending = append(l.pending, p)
	return nil
}

// begin has the labels of a submission made, unless the file holds them. Another source than a Submitter is asked when
// they are collected: what it answers is no other then.
func (l *Ledger) begin(ctx context.Context, p *submission) {
	if p.kept = l.file.holds(len(p.fresh)); p.kept {
		return
	}
	archs := make([]space.Arch, len(p.fresh))
	for i, b := range p.fresh {
		archs[i] = b.Arch
	}
	ctx, p.stop = context.WithCancel(ctx)
	if s, ok := l.source.(Submitter); ok {
		p.wait = s.Submit(ctx, p.known, l.spent(), archs)
		return
	}
	p.wait = func() ([]float64, error) { return l.source.Label(ctx, archs) }
}

// Pending are the rounds that have been submitted and not collected, in this order; one that was submitted in parts is
// there as often.
func (l *Ledger) Pending() []int {
	rounds := make([]int, len(l.pending))
	for i, p := range l.pending {
		rounds[i] = p.round
	}
	return rounds
}

// Collect waits for the labels that were submitted first of those that are pending, of which there must be some, enters
// them, and returns them in the order of the requests. Where that fails everything that is pending is given up, and
// nothing of it is charged.
func (l *Ledger) Collect(ctx context.Context) ([]Answer, error) {
	p := l.pending[0]
	if err := l.obtain(ctx, p); err != nil {
		l.abandon()
		return nil, err
	}
	l.pending = l.pending[1:]
	fresh := make(map[space.Arch]bool, len(p.fresh))
	for _, b := range p.fresh {
		delete(l.asked, b.Arch)
		fresh[b.Arch] = true
		l.enter(b)
	}
	l.tell()
	answers := make([]Answer, len(p.requests))
	for i, r := range p.requests {
		answers[i] = Answer{l.labels[l.at[r.Arch]], !fresh[r.Arch]}
		delete(fresh, r.Arch) // charged once: the second mention is a repeat
	}
	return answers, nil
}

// obtain gets the values of a submission, from the file or from the source.
func (l *Ledger) obtain(ctx context.Context, p *submission) error {
	switch {
	case len(p.fresh) == 0:
		return nil
	case p.kept:
		return l.recall(ctx, p.fresh)
	}
	return l.buy(p)
}

// abandon ends the making of what is pending.
func (l *Ledger) abandon() {
	for _, p := range l.pending {
		if p.stop != nil {
			p.stop()
		}
	}
	for _, p := range l.pending {
		if _, submits := l.source.(Submitter); submits && p.wait != nil {
			_, _ = p.wait() // it has been stopped
		}
	}
	l.pending = nil
	clear(l.asked)
}

// tell tells whoever watches of what is known by now.
func (l *Ledger) tell() {
	metrics.Labels.Set(float64(len(l.labels)))
	if best, any := l.Best(); any && !l.source.Facts().Predicted() && l.facts.Direction == "" {
		metrics.BestAccuracy.Set(best.Value)
	}
}

// buy waits for what the source says and writes it.
func (l *Ledger) buy(p *submission) error {
	values, err := p.wait()
	p.stop()
	p.wait = nil
	if err != nil {
		return err
	}
	if len(values) != len(p.fresh) {
		return fmt.Errorf("the source answered %d of %d requests", len(values), len(p.fresh))
	}
	for i, v := range values {
		b := &p.fresh[i]
		b.Value = v
		if m, ok := l.source.(Noter); ok {
			b.Note = m.Note(b.Arch)
		}
		if b.Score, err = score(l.facts, l.bounds, *b); err != nil {
			return fmt.Errorf("the source's label of %v: %w", b.Arch, err)
		}
	}
	if l.file == nil {
		return nil
	}
	return l.file.append(l.facts, p.fresh)
}

func (l *Ledger) enter(b Label) {
	l.at[b.Arch] = len(l.labels)
	l.labels = append(l.labels, b)
	if l.best < 0 || b.Score > l.labels[l.best].Score {
		l.best = len(l.labels) - 1
	}
}
