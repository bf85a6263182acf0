package trained

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// Config is what a Source works with. Labels depend on Space, Spec, the device's level and Version alone.
type Config struct {
	Spec
	Space   space.Space
	Device  exec.Config  // of several accelerators all are used
	Workers int          // how many candidates are trained at once, see labels.Places
	Images  data.Options // how they are opened: where hashes are kept and who is told; the rest is the Spec's
	// How often a training that failed is tried again: the first time from its checkpoint, later afresh.
	Retries int
	Start   *Start // what networks begin with; nil: random values
	Cache   string // folder of trainings, which may be shared with other processes
	Version string // of the program, exact: trainings of another one are not taken
	Done    func(labels.Candidate)
}

// Start are weights that networks begin with.
type Start struct {
	Checksum string // of all that they depend on beside the architecture
	Text     string // what they are, for "networks trained …"
	Of       func(ctx context.Context, a space.Arch) (*trainer.Start, error)
}

func (s *Start) checksum() string {
	if s == nil {
		return ""
	}
	return s.Checksum
}

// mostTries is after how many random architectures that cannot be built a size is taken for one that leaves no room for
// any.
const mostTries = 20

// Source trains candidates. It is used by one goroutine.
type Source struct {
	Config
	sets    []*data.Dataset // by seed; they share their files
	images  string          // checksum
	devices []exec.Config
	level   string // of the devices: labels depend on it
	cache   cache
	train   func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) // trainer.Train but in tests

	made     map[space.Arch][]outcome // by seed
	order    []space.Arch             // the keys of made, in the order of their submission
	unsealed bool

	leftOut *leftOut // of all that share the images

	hasMu sync.Mutex
	has   map[space.Arch]bool

	mu       sync.Mutex // guards the calls of Done and of the observers
	event    func(events.Event)
	progress func(done, total int)
}

var (
	_ ledger.Source = (*Source)(nil)
	_ ledger.Judge  = (*Source)(nil)
	_ ledger.Maker  = (*Source)(nil)
	_ ledger.Sized  = (*Source)(nil)

	_ ledger.Renewable = (*Source)(nil)
	_ labels.Tabled    = (*Source)(nil)
)

// Open opens the images and checks what can be checked before anything is trained.
func Open(ctx context.Context, c Config) (*Source, error) {
	s := &Source{Config: c, cache: cache(c.Cache), train: trainer.Train, made: map[space.Arch][]outcome{},
		has: map[space.Arch]bool{}, leftOut: &leftOut{}}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Fresh is the same source before anything was labelled, with the same images: close the first one only.
func (s *Source) Fresh() ledger.Source {
	return &Source{Config: s.Config, sets: s.sets, images: s.images, devices: s.devices, level: s.level, cache: s.cache,
		train: s.train, made: map[space.Arch][]outcome{}, has: map[space.Arch]bool{}, leftOut: s.leftOut}
}

func (s *Source) open(ctx context.Context) (err error) {
	if s.Cache == "" || s.Retries < 0 || s.Retries > 100 || s.Workers < 0 || s.Workers > 1024 {
		return fmt.Errorf("cache %q, %d retries, %d workers: want a folder, 0 to 100, 0 to 1024", s.Cache,
			s.Retries, s.Workers)
	}
	if s.devices, s.level, err = labels.Devices(s.Device); err != nil {
		return err
	}
	o := s.Images
	o.Seed, o.ValSplit = s.Seed, s.Recipe.ValSplit
	d, err := data.Open(s.Data, o)
	if err != nil {
		return err
	}
	s.sets = []*data.Dataset{d}
	for k := 1; k < s.Seeds; k++ {
		s.sets = append(s.sets, d.Split(s.Seed+uint64(k), s.Recipe.ValSplit))
	}
	switch {
	case d.Validation.Len() == 0:
		return fmt.Errorf("%s has no validation images to label by: hold some of the training images out, with "+
			"val-split=0.1", s.Data)
	case d.Train.Len() < s.Recipe.Batch:
		return fmt.Errorf("batch=%d: %s has %d images to train on", s.Recipe.Batch, s.Data, d.Train.Len())
	}
	if err := s.buildable(); err != nil {
		return err
	}
	s.images, err = d.Checksum(ctx)
	return err
}

// buildable checks that the space's architectures are networks, of the size that the images and the recipe say.
func (s *Source) buildable() (err error) {
	if r, ok := s.Space.(space.Resizing); ok && len(r.Resolutions()) > 1 && s.NetworkSize().Side > 0 {
		return fmt.Errorf("%s chooses among %d sizes of images, and the images or the recipe say %d: take a space of "+
			"one resolution", s.Space.Name(), len(r.Resolutions()), s.NetworkSize().Side)
	}
	random := philox.New(s.Seed, philox.PurposeSample, 0)
	for range mostTries {
		t, ok := s.Space.Sample(random).(space.Trainable)
		if !ok {
			return fmt.Errorf("%w; their labels come from a table, --labels table:FILE.csv",
				space.ErrNotTrainable(s.Space))
		}
		if _, err = t.Network(s.NetworkSize()); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no network for images of this size and this recipe: %w", err)
}

// Close closes the images and says which ones were left out.
func (s *Source) Close() error {
	if c := s.Corrupt(); c != nil && s.Images.Warn != nil {
		s.Images.Warn(fmt.Sprintf("%d images that cannot be read were left out: %v", c.Count, c))
	}
	if len(s.sets) == 0 {
		return nil
	}
	return s.sets[0].Close()
}

// NetworkSize is what networks are built for.
func (s *Source) NetworkSize() space.NetworkSize {
	d := s.sets[0]
	return space.NetworkSize{Side: s.Recipe.Side(d), Classes: len(d.Classes), Channels: s.Recipe.Channels,
		Stacks: s.Recipe.Stacks, Modules: s.Recipe.Modules}
}

// Classes are the names of the images' classes, in the order of the logits.
func (s *Source) Classes() []string { return s.sets[0].Classes }

// Has tells whether an architecture is of the space and its network can be built.
func (s *Source) Has(a space.Arch) bool {
	s.hasMu.Lock()
	defer s.hasMu.Unlock()
	has, known := s.has[a]
	if !known {
		if t, ok := a.(space.Trainable); ok {
			_, err := s.Space.Parse(a.String())
			if _, alike := a.(space.Alike); err == nil && !alike { // one of those was built by Open
				_, err = t.Network(s.NetworkSize())
			}
			has = err == nil
		}
		s.has[a] = has
	}
	return has
}

// Label trains candidates and returns their validation accuracies.
func (s *Source) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	r := s.rule()
	made, err := s.obtain(ctx, archs, func(_, k, epoch int, accuracy float64) bool {
		return r.ends(k, epoch, accuracy)
	})
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(archs))
	for i, runs := range made {
		for k, o := range runs {
			if o.diverged && s.Diverged == DivergedFail {
				return nil,
					fmt.Errorf("the training of %v with seed %d diverged; diverged=%s gives it the accuracy of "+
						"guessing", archs[i], s.Seed+uint64(k), DivergedChance)
			}
			values[i] += s.value(r, k, o) / float64(s.Seeds)
		}
		values[i] = math.Min(1, values[i]) // a sum of shares of 1 may be rounded up
	}
	s.keep(archs, made)
	return values, nil
}

// value is what a training with seed k adds to a label.
func (s *Source) value(r rule, k int, o outcome) float64 {
	last := len(o.curve) - 1
	switch {
	case o.diverged:
		return s.chance()
	case o.stopped:
		return r.equivalent(k, last+1, o.curve[last])
	}
	return o.curve[last]
}

// chance is the accuracy of guessing.
func (s *Source) chance() float64 { return 1 / float64(len(s.sets[0].Classes)) }

// rule is that of the next submission.
func (s *Source) rule() rule {
	r := rule{quantile: s.Stop, after: s.StopAfter, epochs: s.Recipe.Epochs, earlier: make([][]outcome, s.Seeds)}
	for _, a := range s.order {
		for k, o := range s.made[a] {
			r.earlier[k] = append(r.earlier[k], o)
		}
	}
	return r
}

func (s *Source) keep(archs []space.Arch, made [][]outcome) {
	for i, a := range archs {
		if _, twice := s.made[a]; !twice {
			s.order = append(s.order, a)
		}
		s.made[a] = made[i]
	}
}

// Recall takes over what was labelled before: from the cache, and what is no longer there is trained again.
func (s *Source) Recall(ctx context.Context, labels []ledger.Label) error {
	archs := make([]space.Arch, len(labels))
	for i, l := range labels {
		if n := len(l.Note.Stopped); n != 0 && n != s.Seeds {
			return fmt.Errorf("the label of %v says where %d trainings stopped: it was one of %d", l.Arch, n, s.Seeds)
		}
		archs[i] = l.Arch
	}
	made, err := s.obtain(ctx, archs, func(i, k, epoch int, _ float64) bool {
		stopped := labels[i].Note.Stopped
		return len(stopped) > 0 && stopped[k] == epoch
	})
	if err != nil {
		return err
	}
	s.keep(archs, made)
	return nil
}

// Note says where the trainings of a label were stopped and whether one diverged.
func (s *Source) Note(a space.Arch) ledger.Note {
	var n ledger.Note
	for k, o := range s.made[a] {
		if o.stopped {
			if n.Stopped == nil {
				n.Stopped = make([]int, s.Seeds)
			}
			n.Stopped[k] = len(o.curve)
		}
		n.Diverged = n.Diverged || o.diverged
	}
	return n
}

// Observe sets who is told what happens.
func (s *Source) Observe(event func(events.Event), progress func(done, total int)) {
	s.event, s.progress = event, progress
}

// leftOut keeps the images that one training left out, of the training that left out most.
type leftOut struct {
	mu     sync.Mutex
	images *data.CorruptImages
}

func (l *leftOut) add(c *data.CorruptImages) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c == nil:
	case l.images == nil, c.Count > l.images.Count, c.Count == l.images.Count && c.String() < l.images.String():
		l.images = c
	}
}

// Corrupt are the images that could not be read and that a training left out, of the training that left out most; nil
// without any.
func (s *Source) Corrupt() *data.CorruptImages {
	s.leftOut.mu.Lock()
	defer s.leftOut.mu.Unlock()
	return s.leftOut.images
}

// Facts says what the labels are.
func (s *Source) Facts() ledger.Facts {
	f := ledger.Facts{Source: "trained", Metric: "validation accuracy", Epochs: s.Recipe.Epochs,
		Recipe: s.Spec.recipe(), Seed: s.Seed}
	if s.Seeds > 1 {
		f.Seeds = s.Seeds
	}
	return f
}

// Describe says the same in words.
func (s *Source) Describe() string {
	if s.Start != nil {
		return s.describe() + "; all begun " + s.Start.Text
	}
	return s.describe()
}

// Checksum is a fingerprint of everything that labels depend on beside the architecture.
func (s *Source) Checksum() string {
	var parts []any
	for k := range s.Seeds {
		parts = append(parts, s.key("", k))
	}
	text, _ := json.Marshal(append(parts, s.Space.Name(), s.Diverged, s.Stop, s.StopAfter)) // numbers and text
	return digest.Of(text)
}

// ImagesChecksum is that of the images alone.
func (s *Source) ImagesChecksum() string { return s.images }

// Unseal ends the search: from now on Judge answers.
func (s *Source) Unseal() { s.unsealed = true }

// Judge returns the mean test accuracy at the end of a labelled architecture's own trainings; ledger.ErrNoLabel for
// others and where one was stopped or diverged. There are no ranks.
func (s *Source) Judge(a space.Arch) (accuracy float64, rank int, err error) {
	if !s.unsealed {
		return 0, 0, table.ErrSealed
	}
	var tests []float64
	for _, o := range s.made[a] {
		if o.test != nil {
			tests = append(tests, *o.test)
		}
	}
	if len(tests) < s.Seeds {
		return 0, 0, fmt.Errorf("test accuracy of %v: %w", a, ledger.ErrNoLabel)
	}
	return stat.Mean(tests), 0, nil
}

// Percentile is not known of any architecture.
func (s *Source) Percentile(a space.Arch) (float64, error) {
	return 0, fmt.Errorf("rank of %v: %w", a, ledger.ErrNoLabel)
}

// Total is 0: nobody knows the ranks.
func (s *Source) Total() int { return 0 }

// dataKind is what the images are, without a path.
func (s *Source) dataKind() string {
	kind, _, _ := strings.Cut(s.Data, ":")
	return kind
}

func (s *Source) key(arch string, k int) Key {
	return Key{Format: recordFormat, Arch: arch, Images: s.images, Train: s.sets[k].Train.Len(), Recipe: s.Recipe,
		Seed: s.Seed + uint64(k), OnNaN: s.OnNaN, OnCorrupt: s.OnCorrupt, Level: s.level, Decoder: data.Decoder,
		Version: s.Version, Start: s.Start.checksum()}
}

// Records returns what the cache holds of an architecture's trainings, by seed; nil where it has none.
func (s *Source) Records(a space.Arch) ([]*Record, error) {
	list := make([]*Record, s.Seeds)
	for k := range list {
		var err error
		if list[k], err = s.cache.load(s.key(a.String(), k)); err != nil {
			return nil, err
		}
	}
	return slices.Clip(list), nil
}
