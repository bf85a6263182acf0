package supernet

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// Weights are a supernet's, with what is known of its training.
type Weights struct {
	*trainer.Weights
	Checksum string // of the file
	Space    string // the space that it was trained for; empty: the file does not say
	HeldOut  int    // training images that it has not seen; 0: the file does not say
	Data     string // the images that it was trained on, as data.Open takes them; empty: unknown

	size        trainer.Size   // of its networks; zero: the space's own
	images      trainer.Images // what was done to these
	trained     space.Space    // of the name that Space is; nil: unknown
	least, most int            // sides of images that it was trained for; 0: unknown
}

const (
	configName     = "config.yaml"
	maxWeightBytes = 1 << 31
	maxConfigBytes = 1 << 20
)

// OpenWeights reads the weights of a supernet's training, by its folder or that of the search which trained it, or a
// file of safetensors or PyTorch.
func OpenWeights(path string) (*Weights, error) {
	w := &Weights{}
	file := path
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		dir := path
		if info, err := os.Stat(filepath.Join(path, report.SupernetName)); err == nil && info.IsDir() {
			dir = filepath.Join(path, report.SupernetName)
		}
		file = filepath.Join(dir, trainer.WeightsName)
		if w.Data, err = trainedOn(dir); err != nil {
			return nil, err
		}
	}
	text, err := files.Read(file, maxWeightBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is a folder, want a regular file or the folder of a supernet whose training has "+
			"ended: it has no %s", path, trainer.WeightsName)
	} else if err != nil {
		return nil, err
	}
	w.Checksum = digest.Of(text)
	if w.Weights, err = trainer.OpenWeights(file); err != nil {
		return nil, err
	}
	if !w.Supernet() {
		return nil, fmt.Errorf("%s holds the weights of one network, no supernet's: it says no space, and has no "+
			"matrices that make kernels smaller", file)
	}
	if w.size, err = w.Weights.Size(); err != nil {
		return nil, err
	}
	if w.images, err = w.Weights.TrainingImages(); err != nil {
		return nil, err
	}
	w.Space = w.Metadata[trainer.SpaceKey]
	if text, said := w.Metadata[trainer.HeldOutKey]; said {
		if w.HeldOut, err = strconv.Atoi(text); err != nil || w.HeldOut < 0 {
			return nil, fmt.Errorf("%s: metadata %q is %.200q, want a number of images", file, trainer.HeldOutKey, text)
		}
	}
	return w, w.trainedFor()
}

// trainedOn is what the folder of a training says of its images; empty where it has no settings.
func trainedOn(dir string) (string, error) {
	path := filepath.Join(dir, configName)
	text, err := files.ReadText(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	var c struct {
		Data string `yaml:"data"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return c.Data, nil
}

// trainedFor sets what the space of the training says of the images.
func (w *Weights) trainedFor() error {
	if w.Space == "" {
		return nil
	}
	sp, err := space.Open(w.Space)
	if err != nil {
		return fmt.Errorf("%s: metadata %q: %w", w.Path, trainer.SpaceKey, err)
	}
	w.trained = sp
	if r, ok := sp.(space.Resizing); ok {
		all := r.Resolutions()
		w.least, w.most = slices.Min(all), slices.Max(all)
	}
	return nil
}

// sharing is the space whose networks are the supernet's paths: the one that it was trained for, or where nobody knows
// that the one whose architectures are wanted.
func (w *Weights) sharing(wanted space.Space) (space.Sharing, error) {
	sharing, ok := wanted.(space.Sharing)
	if !ok {
		return nil, ErrNotSharing(wanted)
	}
	if trained, ok := w.trained.(space.Sharing); ok {
		return trained, nil
	}
	return sharing, nil
}

// holds tells why the architectures of a space are none of those that the supernet was trained for; nil where they are,
// or nobody knows.
func (w *Weights) holds(wanted space.Space) error {
	trained, ok := w.trained.(space.Sharing)
	if !ok || trained.Name() == wanted.Name() {
		return nil
	}
	for _, a := range probes(wanted) {
		if _, err := trained.Path(a, space.NetworkSize{}); err != nil {
			return fmt.Errorf("%s: %w", w.Path, err)
		}
	}
	return nil
}

// probes are architectures of a space: the largest and the smallest of an elastic one, of others some.
func probes(sp space.Space) []space.Arch {
	if e, ok := sp.(space.Elastic); ok {
		return []space.Arch{e.Smallest(0), e.Largest(0)}
	}
	const some = 32
	s := philox.New(0, philox.PurposeSample, 0)
	list := make([]space.Arch, some)
	for i := range list {
		list[i] = sp.Sample(s)
	}
	return list
}

// networks are the sizes of the supernet's networks for so many classes.
func (w *Weights) networks(sp space.Sharing, classes int) space.NetworkSize {
	if _, elastic := sp.(space.Elastic); elastic { // its architectures say all of it
		return space.NetworkSize{Classes: classes}
	}
	return space.NetworkSize{Side: cmp.Or(w.size.Resolution, w.ImageSide()), Classes: classes,
		Channels: w.size.Channels, Stacks: w.size.Stacks, Modules: w.size.Modules}
}

// covers tells why a supernet has no weights that were trained for an architecture's images; nil where it has, or
// nobody knows.
func (w *Weights) covers(a space.Arch) error {
	sized, ok := a.(interface{ Resolution() int })
	if !ok || w.most == 0 {
		return nil
	}
	if side := sized.Resolution(); side < w.least || side > w.most {
		return fmt.Errorf("%v is not of the supernet %s: its images have %d pixels, and the supernet was trained for "+
			"%d to %d (%s)", a, w.Path, side, w.least, w.most, w.Space)
	}
	return nil
}
