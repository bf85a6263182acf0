package supernet

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/trainer/data"
)

// Prefix marks these labels among the sources of labels.
const Prefix = "supernet:"

// Which images judge.
const (
	SplitHeldOut = "heldout" // training images that the supernet has not seen
	SplitVal     = "val"     // the validation images of the set
	SplitNone    = "none"    // none do: sub-networks are cut out
)

// Spec says what an evaluation is: everything but the architecture and the device that it depends on.
type Spec struct {
	Path string // the folder of a supernet's training, or a file of weights
	Data string // as data.Open takes it; empty: those that the supernet was trained on
	// Split is SplitHeldOut or SplitVal, Images how many of these are looked at, the first in their order; 0: as many
	// as the supernet has not seen, where nobody says that 10,000, or of smaller sets a tenth; of SplitVal all.
	Split  string
	Images int
	// Calibrate is how many training images batch norms get their statistics from.
	Calibrate int
	Seed      uint64 // 0: the images of calibration are once-for-all's; another one draws others
	// Statistics is StatisticsCalibrated or StatisticsBatch, with which Calibrate and Seed say nothing.
	Statistics string
}

// What batch norms normalise by.
const (
	StatisticsCalibrated = "calibrated" // statistics of the sub-network's own, of training images
	StatisticsBatch      = "batch"      // those of each batch of the images that judge
)

// batchImages is how many images such a batch has: that of kcyu2014/eval-nas.
const batchImages = 64

// CalibrateImages are once-for-all's.
const CalibrateImages = data.CalibrationImages

// NewSpec is that of a supernet before anything is set.
func NewSpec(path string) Spec {
	return Spec{Path: path, Split: SplitHeldOut, Calibrate: CalibrateImages, Statistics: StatisticsCalibrated}
}

// Settings are the keys of a query, which are the flags of commands.
func (s *Spec) Settings() *setting.List {
	l := setting.New()
	l.Group("Evaluation")
	l.Text(&s.Data, "data", "`images`: shapes (generated), cifar10:DIR, cifar100:DIR, imagenet:DIR or shards:GLOB "+
		"(empty = those that the supernet was trained on)").Path(data.Absolute).
		Check(func() error {
			if s.Data == "" {
				return nil
			}
			return data.CheckSpec(s.Data)
		})
	l.Text(&s.Split, "split", "which images judge: training images that the supernet has not seen, or the "+
		"validation images").OneOf(SplitHeldOut, SplitVal)
	l.Int(&s.Images, "images", "images", "how many of them (0 = all that the supernet has not seen, where it does "+
		"not say that 10,000, or of smaller sets a tenth; of val all)", 0, 1<<24)
	l.Int(&s.Calibrate, "calibrate", "images", "training images that batch norms get their statistics from, in equal "+
		"batches of 50 to 200", 1, 1<<20).Check(func() error {
		_, err := calibrationBatch(s.Calibrate)
		return err
	})
	l.Text(&s.Statistics, "statistics", "what batch norms normalise by: statistics of the network's own, of training "+
		"images, or those of each batch of 64 images that judge").OneOf(StatisticsCalibrated, StatisticsBatch)
	l.Uint64(&s.Seed, "seed", "", "draws other images of calibration (0 = once-for-all's)")
	return l
}

// A batch of calibration has as many images as divide their number, at most as once-for-all's.
const (
	mostCalibrated  = 200
	leastCalibrated = 50 // fewer say little about a variance
)

// calibrationBatch is the largest number of images that can be a batch of calibration.
func calibrationBatch(images int) (int, error) {
	for n := min(images, mostCalibrated); n >= min(images, leastCalibrated); n-- {
		if images%n == 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("calibrate %d: want a number of images that equal batches of %d to %d make up, such as %d",
		images, leastCalibrated, mostCalibrated, images/100*100)
}

// Parse reads supernet:RUN|FILE?data=D&split=heldout|val&images=N&calibrate=N&seed=N&statistics=S. The query begins at
// the first question mark. Values may be escaped as in a URL.
func Parse(text string) (Spec, error) {
	s, err := parse(text)
	if err != nil {
		return s, fmt.Errorf("labels %q: %w", text, err)
	}
	return s, nil
}

func parse(text string) (s Spec, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return s, fmt.Errorf("want %sRUN|FILE?data=D", Prefix)
	}
	path, query, _ := strings.Cut(rest, "?")
	s = NewSpec(path)
	if path == "" {
		return s, errors.New("no supernet is named: want the folder of `ctnas supernet train`, or a file of weights")
	}
	l := s.Settings()
	values, err := labels.ReadQuery(query, l)
	if err == nil {
		err = labels.SetAll(l, values)
	}
	if err != nil {
		return s, err
	}
	return s, l.Check()
}

// String is the text that Parse reads, with paths that are valid in any working directory.
func (s Spec) String() string {
	where := s.Path
	if path, err := files.Absolute(s.Path); err == nil {
		where = path
	}
	var keys []string
	add := func(key, value string) { keys = append(keys, key+"="+labels.Escaped(value)) }
	if s.Data != "" {
		images, err := data.Absolute(s.Data)
		if err != nil {
			images = s.Data
		}
		add("data", images)
	}
	plain := NewSpec("")
	if s.Split != plain.Split {
		add("split", s.Split)
	}
	if s.Statistics != plain.Statistics {
		add("statistics", s.Statistics)
	}
	for _, part := range []struct {
		key        string
		value, own uint64
	}{{"images", uint64(s.Images), 0}, {"calibrate", uint64(s.Calibrate), uint64(plain.Calibrate)},
		{"seed", s.Seed, 0}} {
		if part.value != part.own {
			add(part.key, fmt.Sprint(part.value))
		}
	}
	if len(keys) == 0 {
		return Prefix + where
	}
	return Prefix + where + "?" + strings.Join(keys, "&")
}
