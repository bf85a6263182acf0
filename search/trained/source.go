package trained

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
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
	// Keep is the architecture whose trainings leave their weights in Cache, where Device trains; nil: none does.
	Keep    space.Arch
	Cache   string // folder of trainings, which may be shared with other processes
	Version string // of the program, exact: trainings of another one are not taken
	Done    func(labels.Candidate)
	// Elsewhere trains the candidates in Local's place, at a Level; nil: Device does. Records are in Cache then too.
	Elsewhere func(Cache) Executor
	Level     string // of the devices elsewhere
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

// Source trains candidates. It is used by one goroutine.
type Source struct {
	Config
	sets   []*data.Dataset // by seed; they share their files
	images string          // checksum
	level  string          // of the devices: labels depend on it
	cache  Cache

	*made.Maker[Job, *Record]
	executor Executor
	local    *Local // the executor, unless the trainings are done elsewhere

	leftOut *leftOut // of all that share the images

	hasMu sync.Mutex
	has   map[space.Arch]bool
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
	s := &Source{Config: c, cache: Cache(c.Cache), has: map[space.Arch]bool{}, leftOut: &leftOut{}}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Fresh is the same source before anything was labelled, with the same images: close the first one only.
func (s *Source) Fresh() ledger.Source {
	f := &Source{Config: s.Config, sets: s.sets, images: s.images, level: s.level, cache: s.cache,
		executor: s.executor, has: map[space.Arch]bool{}, leftOut: s.leftOut}
	if s.local != nil {
		local := *s.local // whose places are divided for what one source submits
		f.local, f.executor = &local, &local
	}
	f.make()
	return f
}

// make makes what makes the labels.
func (s *Source) make() {
	s.Maker = made.New(made.Config[Job, *Record]{
		Rules: s.Rules, Epochs: s.Recipe.Epochs, Chance: 1 / float64(len(s.sets[0].Classes)), Executor: s.executor,
		Job: s.job, Load: s.load, Ready: s.ready,
		Taken: func(r *Record) { s.leftOut.add(r.Corrupt) }, Done: s.Done,
	})
}

// load takes a training from the cache. One that has lost the weights that are to be kept is done again.
func (s *Source) load(j Job) (*Record, error) {
	if s.local != nil && !s.local.kept(j.Key) {
		return nil, nil
	}
	return s.cache.Load(j.Key)
}

func (s *Source) open(ctx context.Context) (err error) {
	if s.Cache == "" || s.Retries < 0 || s.Retries > 100 || s.Workers < 0 || s.Workers > 1024 {
		return fmt.Errorf("cache %q, %d retries, %d workers: want a folder, 0 to 100, 0 to 1024", s.Cache,
			s.Retries, s.Workers)
	}
	if s.Elsewhere != nil {
		s.executor, s.level = s.Elsewhere(s.cache), s.Level
	} else {
		devices, level, err := labels.Devices(s.Device)
		if err != nil {
			return err
		}
		s.local = NewLocal(s.cache, devices, s.Workers, s.materials)
		s.local.Retries, s.executor, s.level = s.Retries, s.local, level
		if s.Keep != nil {
			s.local.keep = s.Keep.String()
		}
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
	s.make()
	s.images, err = d.Checksum(ctx)
	return err
}

// buildable checks that the space's architectures are networks, of the size that the images and the recipe say.
func (s *Source) buildable() error {
	if r, ok := s.Space.(space.Resizing); ok && len(r.Resolutions()) > 1 && s.NetworkSize().Side > 0 {
		return fmt.Errorf("%s chooses among %d sizes of images, and the images or the recipe say %d: take a space of "+
			"one resolution", s.Space.Name(), len(r.Resolutions()), s.NetworkSize().Side)
	}
	random := philox.New(s.Seed, philox.PurposeSample, 0)
	switch trainable, err := space.Buildable(s.Space, s.NetworkSize(), random); {
	case !trainable:
		return fmt.Errorf("%w; their labels come from a table, --labels table:FILE.csv", space.ErrNotTrainable(s.Space))
	case err != nil:
		return fmt.Errorf("no network for images of this size and this recipe: %w", err)
	}
	return nil
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
func (s *Source) NetworkSize() space.NetworkSize { return networkSize(s.sets[0], s.Recipe) }

func networkSize(d *data.Dataset, r trainer.Recipe) space.NetworkSize {
	return space.NetworkSize{Side: r.Side(d), Classes: len(d.Classes), Channels: r.Channels, Stacks: r.Stacks,
		Modules: r.Modules}
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
		return s.describe(s.sets[0].Source()) + "; all begun " + s.Start.Text
	}
	return s.describe(s.sets[0].Source())
}

// Checksum is a fingerprint of everything that labels depend on beside the architecture.
func (s *Source) Checksum() string {
	var parts []any
	for k := range s.Seeds {
		parts = append(parts, s.key("", k))
	}
	parts = append(parts, s.Space.Name(), s.Diverged, s.Stop, s.StopAfter)
	if s.Failed == made.Chance {
		parts = append(parts, "failed")
	}
	text, _ := json.Marshal(parts) // numbers and text
	return digest.Of(text)
}

// ImagesChecksum is that of the images alone.
func (s *Source) ImagesChecksum() string { return s.images }

// dataKind is what the images are, without a path.
func (s *Source) dataKind() string {
	kind, _, _ := strings.Cut(s.Data, ":")
	return kind
}

// job is the training of an architecture with seed k.
func (s *Source) job(a space.Arch, k int, ends []float64) Job {
	j := Job{Key: s.key(a.String(), k), Space: s.Space.Name(), Data: s.dataKind(), Ends: ends}
	if net, err := a.(space.Trainable).Network(s.NetworkSize()); err == nil { // Has was true
		j.Work = float64(net.Cost().MAdds) * float64(j.Key.Train) * float64(s.Recipe.Epochs)
	}
	return j
}

// materials are what Local trains a job of this source with.
func (s *Source) materials(ctx context.Context, j Job) (m Materials, err error) {
	a, err := s.Space.Parse(j.Key.Arch)
	if err != nil {
		return m, err
	}
	m.Images = s.sets[j.Key.Seed-s.Seed]
	if m.Net, err = a.(space.Trainable).Network(s.NetworkSize()); err != nil { // Has was true
		return m, err
	}
	if s.Start != nil {
		m.Start, err = s.Start.Of(ctx, a)
	}
	return m, err
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
		if list[k], err = s.cache.Load(s.key(a.String(), k)); err != nil {
			return nil, err
		}
	}
	return slices.Clip(list), nil
}
