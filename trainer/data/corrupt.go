package data

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// OnCorrupt says what becomes of images that cannot be read: the first one ends the work with an error that names it,
// or they are left out. In training a left out image is replaced by the next one of the epoch's order that can be
// read; elsewhere it does not count.
type OnCorrupt struct {
	Skip bool
	Most int // with Skip: more of them than so many end the work as well; 0: any number is left out
}

// Words of OnCorrupt.
const (
	corruptStop = "stop"
	corruptSkip = "skip"
)

// String is what Set reads: stop, skip or skip=N.
func (o OnCorrupt) String() string {
	switch {
	case !o.Skip:
		return corruptStop
	case o.Most == 0:
		return corruptSkip
	}
	return fmt.Sprintf("%s=%d", corruptSkip, o.Most)
}

// Set reads what String writes.
func (o *OnCorrupt) Set(text string) error {
	word, number, limited := strings.Cut(text, "=")
	most, err := strconv.Atoi(number)
	switch {
	case text == corruptStop:
		*o = OnCorrupt{}
	case text == corruptSkip:
		*o = OnCorrupt{Skip: true}
	case word == corruptSkip && limited && err == nil && most > 0:
		*o = OnCorrupt{Skip: true, Most: most}
	default:
		return fmt.Errorf("%q: want %s, %s, or %s=N for at most N images", text, corruptStop, corruptSkip, corruptSkip)
	}
	return nil
}

// Type is what the help of a command calls the value.
func (o *OnCorrupt) Type() string { return "string" }

// MarshalText is String, for configurations.
func (o OnCorrupt) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is Set, for configurations.
func (o *OnCorrupt) UnmarshalText(text []byte) error { return o.Set(string(text)) }

// UnreadableError is why an image cannot be read: it is missing or damaged, and will be so again. Errors of the
// system that may pass (a disk that does not answer, too many open files) are none: leaving an image out for such a
// reason would make a run that cannot be repeated.
type UnreadableError struct {
	Name string // of the image, in its set
	Err  error
}

func (e *UnreadableError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap is the reason alone.
func (e *UnreadableError) Unwrap() error { return e.Err }

// tooMany is the error of a work that found more images that cannot be read than it may leave out.
type tooMany struct{ error }

// IsCorrupt tells whether work ended because images cannot be read.
func IsCorrupt(err error) bool {
	var one *UnreadableError
	var many tooMany
	return errors.As(err, &one) || errors.As(err, &many)
}

// damage marks the errors that an image itself is the reason of.
type damage struct{ error }

func (d damage) Unwrap() error { return d.error }

// unreadable turns an error of image `name` into one that names it, an UnreadableError where the image is the reason.
func unreadable(name string, err error) error {
	var d damage
	if errors.As(err, &d) || errors.Is(err, fs.ErrNotExist) {
		return &UnreadableError{name, err}
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Corrupt is an image of a set that cannot be read.
type Corrupt struct {
	Split string // train, validation or test
	Image int    // its number in the set
	Why   string // its name and the reason
}

func (c Corrupt) String() string {
	if c.Split == "" {
		return c.Why
	}
	return c.Split + ": " + c.Why
}

// CorruptImages is what a result says of the images that were left out.
type CorruptImages struct {
	Count int      `json:"count"`
	First []string `json:"first"` // the first of them, in the order of the sets, each with the reason
}

// mostNamed is how many of a long list are named.
const mostNamed = 20

// String names them and says how many more there are.
func (c *CorruptImages) String() string {
	text := strings.Join(c.First, "; ")
	if more := c.Count - len(c.First); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Tally collects the images of a run that were left out, each once, and ends it where there are more than allowed; nil
// allows none. Several goroutines may use it.
type Tally struct {
	on   OnCorrupt
	mu   sync.Mutex // of seen
	seen map[tallyKey]Corrupt
}

type tallyKey struct {
	split string
	image int
}

// NewTally begins with none.
func NewTally(on OnCorrupt) *Tally { return &Tally{on: on, seen: map[tallyKey]Corrupt{}} }

// OnCorrupt is what was asked for.
func (t *Tally) OnCorrupt() OnCorrupt {
	if t == nil {
		return OnCorrupt{}
	}
	return t.on
}

// Add counts images that were left out; those that have been counted do not count again.
func (t *Tally) Add(list []Corrupt) error {
	if len(list) == 0 {
		return nil
	}
	if t == nil || !t.on.Skip {
		return tooMany{fmt.Errorf("on-corrupt %s does not allow to go on without %d images that cannot be read: %v",
			corruptStop, len(list), summary(list))}
	}
	t.mu.Lock()
	for _, c := range list {
		t.seen[tallyKey{c.Split, c.Image}] = c
	}
	t.mu.Unlock()
	return t.on.allows(t.All())
}

// allows is an error where a list is longer than images may be left out.
func (o OnCorrupt) allows(list []Corrupt) error {
	if o.Most > 0 && len(list) > o.Most {
		return tooMany{fmt.Errorf("%d images cannot be read, on-corrupt %v allows %d: %v", len(list), o, o.Most,
			summary(list))}
	}
	return nil
}

// All lists what was counted, by split and number.
func (t *Tally) All() []Corrupt {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.seen), compareCorrupt)
}

func compareCorrupt(a, b Corrupt) int {
	return cmp.Or(slices.Index(splits, a.Split)-slices.Index(splits, b.Split), a.Image-b.Image)
}

// Summary is the list for a result; nil where nothing was left out.
func (t *Tally) Summary() *CorruptImages {
	all := t.All()
	if len(all) == 0 {
		return nil
	}
	return summary(all)
}

func summary(list []Corrupt) *CorruptImages {
	list = slices.SortedFunc(slices.Values(list), compareCorrupt)
	s := &CorruptImages{Count: len(list)}
	for _, c := range list[:min(len(list), mostNamed)] {
		s.First = append(s.First, c.String())
	}
	return s
}

// The names of a data set's parts, in their order.
var splits = []string{SplitTrain, SplitValidation, SplitTest}

// Names of a data set's parts.
const (
	SplitTrain      = "train"
	SplitValidation = "validation"
	SplitTest       = "test"
)

// Part is a part of a data set by its name; nil where the name is none.
func (d *Dataset) Part(name string) *Set {
	return map[string]*Set{SplitTrain: d.Train, SplitValidation: d.Validation, SplitTest: d.Test}[name]
}

// nameOf is the name of a part of a data set.
func (d *Dataset) nameOf(set *Set) string {
	for _, name := range splits {
		if d.Part(name) == set {
			return name
		}
	}
	return "some"
}

// Corrupt adds to a list of numbers in a set which part of the data set that is.
func (d *Dataset) Corrupt(set *Set, list []Corrupt) []Corrupt {
	for i := range list {
		list[i].Split = d.nameOf(set)
	}
	return list
}
