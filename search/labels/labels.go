// Package labels opens what a text such as "table:FILE" names: where a search's labels come from. Each source of labels
// registers the prefix of its texts in its own package; package sources lists those that come with the program.
package labels

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// Kind is a source of labels that texts may name.
type Kind struct {
	Prefix string // of its texts, with the colon: "table:"
	Usage  string // its texts for people: "table:FILE"
	Help   string // sentences that say more, for the help of commands; may be empty
	// Open opens what a text names for a space. What is wrong with the text itself is a *TextError.
	Open func(ctx context.Context, text string, sp space.Space, o Options) (*Labels, error)
	// Absolute is the text that means the same in any working directory; nil where texts name no files.
	Absolute func(text string) (string, error)
	Farmed   bool // such labels can be made by Making.Farm
	Any      bool // such labels may be of Options.Metric, and say Options.Measures
	Says     bool // they are accuracies and say Options.Measures
}

// kinds are those registered, that of tables first.
var kinds = []Kind{tables}

// Register makes a kind known, at the start of the program. A prefix is registered once.
func Register(k Kind) {
	if slices.ContainsFunc(kinds, func(known Kind) bool { return known.Prefix == k.Prefix }) {
		panic("labels: " + k.Prefix + " is registered twice")
	}
	kinds = append(kinds, k)
	slices.SortFunc(kinds[1:], func(a, b Kind) int { return strings.Compare(a.Prefix, b.Prefix) })
}

// Prefixes are what texts begin with, each with its colon.
func Prefixes() (list []string) {
	for _, k := range kinds {
		list = append(list, k.Prefix)
	}
	return list
}

// Usage lists the texts that Open knows, for people.
func Usage() string { return usage(func(Kind) bool { return true }) }

func usage(of func(Kind) bool) string {
	var list []string
	for _, k := range kinds {
		if of(k) {
			list = append(list, k.Usage)
		}
	}
	if len(list) == 1 {
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

// Help is what the kinds say of themselves, a paragraph each.
func Help() string {
	var all []string
	for _, k := range kinds {
		if k.Help != "" {
			all = append(all, k.Help)
		}
	}
	return strings.Join(all, "\n\n")
}

// Options are how labels are opened; what they are does not depend on it.
type Options struct {
	Device  exec.Config // that makes labels
	Threads int         // that read; 0: all processors
	Listed  bool        // list the space, where that takes time
	// What labels are to be of; zero: accuracy. And the metrics that they are to say beside.
	Metric   ledger.Metric
	Measures []string
	// Progress shows how far something is that takes time, until finish; nil: nobody looks.
	Progress func(what string) (update func(done, total int), finish func())
	Making
}

// Making is how labels are made that no file holds.
type Making struct {
	Workers int    // candidates at once; 0: as the source sees fit
	Retries int    // how often a candidate that failed is tried again
	Cache   string // folder of what has been made; empty: one in the user's cache folder
	// Images are how images are opened, until finish; nil: as data.Open does by itself.
	Images  func() (o data.Options, finish func())
	Version func() (string, error) // of the program, exact: labels of another one may differ
	Done    func(Candidate)        // told of each that has ended, never twice at once; may be nil
	// Farm makes them in the device's place, on other machines' devices of a Level; nil: the device does.
	Farm  job.Farm
	Level string
}

// Candidate tells of a training, or of an evaluation, that has ended.
type Candidate struct {
	Arch     space.Arch
	N, Of    int     // those of the submission that have ended, and of how many
	Accuracy float64 // its last one; not a number where it fell apart in its first epoch
	Epochs   int     // done; 0: there were none
	Images   int     // that were evaluated; 0: it was a training, or there were none
	Note     ledger.Note
	Cached   bool
	Seconds  float64
	Device   string
}

// shown is Progress, also where nobody looks.
func (o Options) shown(what string) (update func(done, total int), finish func()) {
	if o.Progress == nil {
		return func(_, _ int) {}, func() {}
	}
	return o.Progress(what)
}

// TextError says what is wrong with a text, or that it asks for what is not there.
type TextError struct{ Err error }

func (e *TextError) Error() string { return e.Err.Error() }
func (e *TextError) Unwrap() error { return e.Err }

// Errorf is a TextError about a text.
func Errorf(text, format string, args ...any) error {
	return &TextError{fmt.Errorf("labels %q: %w", text, fmt.Errorf(format, args...))}
}

// Labels are what a text names, opened for a space.
type Labels struct {
	Space    space.Space
	Source   ledger.Source
	Checksum string       // of the file that labels come from, or of everything that they depend on
	Content  string       // of what labels say, wherever they come from; empty: as Checksum
	Images   string       // checksum of the images that labels are trained on; empty: there are none
	Listed   []space.Arch // the whole space, where Options.Listed asks for it and the source does not list itself
	close    func() error
}

// New are the labels of a source; close may be nil.
func New(sp space.Space, source ledger.Source, checksum string, close func() error) *Labels {
	return &Labels{Space: sp, Source: source, Checksum: checksum, Content: checksum, close: close}
}

// Close closes what was opened.
func (l *Labels) Close() error {
	if l.close == nil {
		return nil
	}
	return l.close()
}

// kindOf finds the kind of a text.
func kindOf(text string) (Kind, error) {
	for _, k := range kinds {
		if strings.HasPrefix(text, k.Prefix) {
			return k, nil
		}
	}
	return Kind{}, Errorf(text, "want %s", Usage())
}

// Open opens the labels that a text names for a space. Close them after use. Errors that the text is to blame for are
// *TextError.
func Open(ctx context.Context, text string, sp space.Space, o Options) (*Labels, error) {
	k, err := kindOf(text)
	if err != nil {
		return nil, err
	}
	if o.Farm != nil && !k.Farmed {
		return nil, Errorf(text, "a farm makes no such labels: want %s", usage(func(k Kind) bool { return k.Farmed }))
	}
	if !k.Any && (!o.Metric.IsZero() || !k.Says && len(o.Measures) > 0) {
		what := append(slices.Clone(o.Measures), o.Metric.Name)
		return nil, Errorf(text, "such labels are accuracies alone and do not say %s: want %s", what[0],
			usage(func(k Kind) bool { return k.Any }))
	}
	l, err := k.Open(ctx, text, sp, o)
	if err != nil {
		return nil, err
	}
	return List(ctx, l, o)
}

// List lists the space of labels that were opened otherwise than by Open, as Open does it. On an error they are closed.
func List(ctx context.Context, l *Labels, o Options) (listed *Labels, err error) {
	all, listable := l.Space.(space.Enumerable)
	if _, lists := l.Source.(ledger.Lister); lists || !listable || !o.Listed {
		return l, nil
	}
	update, finish := o.shown("list " + all.Name())
	l.Listed, err = all.All(ctx, update)
	finish()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Absolute is the text that means the same labels in any working directory.
func Absolute(text string) (string, error) {
	k, err := kindOf(text)
	if err != nil || k.Absolute == nil {
		return text, err
	}
	return k.Absolute(text)
}
