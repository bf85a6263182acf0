package supernet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Config is what an Evaluator works with. What it measures depends on Space, Spec, the device's level and Version
// alone.
type Config struct {
	Spec
	Space   space.Space
	Device  exec.Config  // of several accelerators all are used
	Workers int          // how many architectures are evaluated at once, see labels.Places
	Opening data.Options // of images: where hashes are kept and who is told
	Retries int          // how often an evaluation that failed is tried again
	Cache   string       // folder of what was measured, which may be shared with other processes; empty: none
	Version string       // of the program, exact: what another one measured is not taken
	// Set is Data, opened; nil: it is opened here, and closed.
	Set *data.Dataset
	// Elsewhere measures in Device's place, on devices of a Level, and has keep store what it has measured; nil: Device
	// does.
	Elsewhere func(keep func(*Result) error) Executor
	Level     string
}

// Measured is how good a sub-network is, with statistics of its own.
type Measured struct {
	Images int          `json:"images"`
	Loss   trainer.Real `json:"loss"` // mean cross-entropy; null where it is not finite
	Top1   float64      `json:"top1"` // 0..1
	Top5   float64      `json:"top5"`
}

// Evaluator measures sub-networks of a supernet. It is used by one goroutine.
type Evaluator struct {
	Config
	Weights *Weights

	sharing  space.Sharing // whose paths the supernet has
	largest  nn.Path       // of the paths where they have an order, otherwise one of them
	shared   nn.Shared
	values   [][]float32 // of the shared variables
	data     *data.Dataset
	classes  []string // in the order of the logits
	album    *album
	checksum string // of the images
	batch    int
	devices  []exec.Config
	level    string   // of the devices: what is measured depends on it
	executor Executor // elsewhere; nil: the devices measure
	origin   trainer.Provenance
}

// Open opens weights and images and checks what can be checked before anything is evaluated.
func Open(ctx context.Context, c Config) (*Evaluator, error) {
	e := &Evaluator{Config: c}
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// ErrNoImages says that weights say nothing of the images that belong to them.
var ErrNoImages = errors.New("does not say what images it was trained on, and none are named")

// ErrNotSharing says that nothing makes a space's networks share weights.
func ErrNotSharing(sp space.Space) error {
	return fmt.Errorf("there is no supernet of %s: the spaces with one are %s", sp.Name(),
		strings.Join(space.NamesOf[space.Sharing](), ", "))
}

// ErrNotElastic says that a space's architectures are no sub-networks of one network.
func ErrNotElastic(sp space.Space) error {
	return fmt.Errorf("there is no supernet of %s: the spaces with one are %s", sp.Name(),
		strings.Join(space.NamesOf[space.Elastic](), ", "))
}

func (e *Evaluator) open(ctx context.Context) (err error) {
	if _, ok := e.Space.(space.Sharing); !ok {
		return ErrNotSharing(e.Space)
	}
	if e.batched() {
		e.Calibrate = 0
	} else if e.batch, err = calibrationBatch(e.Calibrate); err != nil {
		return err
	}
	if e.Weights, err = OpenWeights(e.Path); err != nil {
		return err
	}
	if e.sharing, err = e.Weights.sharing(e.Space); err != nil {
		return err
	}
	if err := e.Weights.holds(e.Space); err != nil {
		return err
	}
	if e.Data = cmp.Or(e.Data, e.Weights.Data); e.Data == "" {
		return fmt.Errorf("%s %w", e.Path, ErrNoImages)
	}
	if e.Elsewhere != nil {
		e.executor, e.level = e.Elsewhere(e.keepAll), e.Level
	} else if e.devices, e.level, err = labels.Devices(e.Device); err != nil {
		return err
	}
	if e.data = e.Set; e.data == nil {
		if e.data, err = data.Open(e.Data, e.Opening); err != nil {
			return err
		}
	}
	if err := e.choose(); err != nil {
		return err
	}
	if e.shared, err = e.sharing.Supernet(e.NetworkSize()); err != nil {
		return err
	}
	e.shared.Name = e.sharing.Name()
	if e.values, err = e.Weights.FillShared(e.shared); err != nil {
		return err
	}
	e.checksum, err = e.data.Checksum(ctx)
	return err
}

// choose sets which images there are, and matches their classes with the network's.
func (e *Evaluator) choose() error {
	judging, calibration, err := e.sets()
	if err != nil {
		return err
	}
	probe := probes(e.sharing)
	build := func(classes int) (err error) {
		e.largest, err = e.sharing.Path(probe[len(probe)-1], e.Weights.networks(e.sharing, classes))
		return err
	}
	if err := build(len(e.data.Classes)); err != nil {
		return err
	}
	names, err := e.Weights.Classes()
	if err != nil {
		return err
	}
	outputs := 0
	if names == nil {
		outputs = e.Weights.Outputs(e.largest.Network)
	}
	match, err := trainer.MatchClasses(names, outputs, e.data, cmp.Or(judging, calibration))
	if err != nil {
		return fmt.Errorf("%s and %s: %w", e.Path, e.Data, err)
	}
	if match.Note != "" && e.Opening.Warn != nil {
		e.Opening.Warn("classes: " + match.Note)
	}
	e.classes = match.Network
	if err := build(len(e.classes)); err != nil {
		return err
	}
	if e.origin, err = e.Weights.Identify(e.largest.Network, ""); err != nil {
		return err
	}
	images := e.origin.Images
	if images == nil {
		images = trainer.ImagesOf(e.data, 0)
		images.Rounding = "ceil" // as once-for-all
	}
	augmented := e.Weights.images.Transform
	if _, elastic := e.sharing.(space.Elastic); elastic {
		augmented = onceForAll
	}
	if judging != nil {
		judging = match.Apply(judging)
	}
	if calibration != nil {
		calibration = match.Apply(calibration)
	}
	e.album = newAlbum(e.data, judging, calibration, *images, augmented, e.Seed)
	if e.batched() {
		e.batch = min(batchImages, e.Judging())
	}
	return nil
}

// batched tells whether sub-networks are normalised by the statistics of each batch.
func (e *Evaluator) batched() bool { return e.Statistics == StatisticsBatch }

// Supernet is the space whose networks are the supernet's paths.
func (e *Evaluator) Supernet() space.Sharing { return e.sharing }

// Close closes the images.
func (e *Evaluator) Close() error {
	if e.data == nil || e.data == e.Set {
		return nil
	}
	return e.data.Close()
}

// NetworkSize is what networks are built for: as the supernet was trained, of an elastic space for each architecture's
// own images.
func (e *Evaluator) NetworkSize() space.NetworkSize {
	return e.Weights.networks(e.sharing, len(e.classes))
}

// Classes are the names of the logits, in their order.
func (e *Evaluator) Classes() []string { return e.classes }

// Forward is how many images a sub-network sees until it is measured.
func (e *Evaluator) Forward() int { return e.Calibrate + e.Judging() }

// Judging is how many images judge.
func (e *Evaluator) Judging() int { return e.album.count }

// ImagesChecksum is that of the whole image set.
func (e *Evaluator) ImagesChecksum() string { return e.checksum }

// Has tells why the supernet has no such sub-network; nil where it has.
func (e *Evaluator) Has(a space.Arch) error {
	if _, err := e.sharing.Encode(a); err != nil { // which takes no time, and says less of what is wrong
		if _, err := space.PathOf(e.sharing, a, e.NetworkSize()); err != nil {
			return err
		}
	}
	return e.Weights.covers(a)
}

// Told is what Evaluate says of each architecture that is done.
type Told struct {
	I        int // of the architectures asked for
	Measured Measured
	Seconds  float64
	Cached   bool
	Place    string // where it was measured
	Done     int    // how many are done
}

// Candidate is what Evaluate says of one of so many architectures, for people.
func (e *Evaluator) Candidate(a space.Arch, t Told, total int) labels.Candidate {
	c := labels.Candidate{Arch: a, N: t.Done, Of: total, Accuracy: t.Measured.Top1, Cached: t.Cached,
		Seconds: t.Seconds, Device: t.Place, Images: e.Forward()}
	if t.Cached {
		c.Images = 0
	}
	return c
}

// Evaluate measures architectures, all of which Has is nil of, on all devices, or elsewhere, or takes them from the
// cache. tell is told of each; several goroutines may call it.
func (e *Evaluator) Evaluate(ctx context.Context, archs []space.Arch, tell func(Told)) ([]Measured, error) {
	measured := make([]Measured, len(archs))
	var todo []int
	var done atomic.Int64
	for i, a := range archs {
		r, err := e.cached(a)
		if err != nil {
			return nil, err
		}
		if r == nil {
			todo = append(todo, i)
			continue
		}
		measured[i] = r.Measured
		tell(Told{I: i, Measured: r.Measured, Cached: true, Place: "cache", Done: int(done.Add(1))})
	}
	told := func(i int, seconds float64, place string) {
		tell(Told{I: i, Measured: measured[i], Seconds: seconds, Place: place, Done: int(done.Add(1))})
	}
	obtain := e.measure
	if e.executor != nil {
		obtain = e.farmOut
	}
	if err := obtain(ctx, archs, todo, measured, told); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return measured, nil
}

// measure measures on the devices those of some architectures that are to do.
func (e *Evaluator) measure(ctx context.Context, archs []space.Arch, todo []int, measured []Measured,
	told func(i int, seconds float64, place string)) error {
	var next atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	for _, at := range labels.Places(e.devices, e.Workers, len(todo)) {
		group.Go(func() (err error) {
			w := &worker{e: e, at: at}
			defer func() { err = errors.Join(err, w.close()) }()
			for inner.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(todo) {
					return nil
				}
				i := todo[n]
				begin := time.Now()
				if measured[i], err = w.measure(inner, archs[i]); err != nil {
					return err
				}
				if err := e.keep(archs[i], measured[i]); err != nil {
					return err
				}
				told(i, time.Since(begin).Seconds(), at.Name)
			}
			return inner.Err()
		})
	}
	return group.Wait()
}

// Checksum is a fingerprint of everything that is measured, or cut out, depends on beside the architecture.
func (e *Evaluator) Checksum() string {
	text, _ := json.Marshal(e.keyOf("")) // numbers and text
	return digest.Of(append(text, e.Space.Name()...))
}

// CutOut is a sub-network by itself.
type CutOut struct {
	*nn.Network
	Values   [][]float32 // of its variables, in the layout of memory; statistics are its own
	Classes  []string    // in the order of the logits
	Origin   trainer.Provenance
	Checksum string // of everything that the values depend on
	Note     string // how the statistics came about
}

// CutOut cuts a sub-network out: its weights, with statistics of its own.
func (e *Evaluator) CutOut(ctx context.Context, a space.Arch) (c *CutOut, err error) {
	if e.batched() {
		return nil, fmt.Errorf("%v of %s: with the statistics of each batch it has none of its own", a, e.Path)
	}
	if err := e.Has(a); err != nil {
		return nil, err
	}
	w := &worker{e: e, at: labels.Places(e.devices, 1, 1)[0]}
	defer func() { err = errors.Join(err, w.close()) }()
	if _, err := w.measure(ctx, a); err != nil {
		return nil, err
	}
	values, err := w.values()
	if err != nil {
		return nil, err
	}
	c = &CutOut{Network: w.m.Net, Values: values, Classes: e.classes, Origin: e.origin,
		Checksum: e.keyOf(a.String()).hash(), Note: fmt.Sprintf("batch norms have the network's own, of %d training "+
			"images of %s", e.Calibrate, e.DataSource())}
	c.Origin.Images = e.album.shown(w.m.Net.Input().H)
	return c, nil
}

// DataSource is what the images are, without a path.
func (e *Evaluator) DataSource() string { return e.data.Source() }
