package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer/data"
)

// Recipe is how a network is trained. Settings says what each field is; its names are the keys of a recipe's file and
// the flags of `ctnas train`.
type Recipe struct {
	Length
	Optimization
	LearningRate
	Regularization
	Size
	Images
}

// Length is how much is trained.
type Length struct {
	Epochs     int `json:"epochs"`
	Batch      int `json:"batch"`
	Accumulate int `json:"accumulate"`
	// Older recipes keep their Hash without these.
	Shards int  `json:"shards,omitempty"`
	SyncBN bool `json:"sync_bn,omitempty"`
}

// Optimization is how a gradient changes the weights.
type Optimization struct {
	Optimizer   string  `json:"optimizer"`
	Momentum    float64 `json:"momentum"`
	Nesterov    bool    `json:"nesterov"`
	Rho         float64 `json:"rho"`
	Beta1       float64 `json:"beta1"`
	Beta2       float64 `json:"beta2"`
	Eps         float64 `json:"eps"`
	WeightDecay float64 `json:"weight_decay"`
	DecayAll    bool    `json:"decay_all"`
	Decoupled   bool    `json:"decoupled"`
	Clip        float64 `json:"clip"`
	EMA         float64 `json:"ema"`
	ClipValue   float64 `json:"clip_value,omitempty"` // so that older recipes keep their Hash
}

// LearningRate is the learning rate at every update.
type LearningRate struct {
	LR         float64 `json:"lr"`
	Schedule   string  `json:"schedule"`
	Warmup     float64 `json:"warmup"`
	FinalLR    float64 `json:"final_lr"`
	Decay      float64 `json:"decay"`
	DecayEvery float64 `json:"decay_every"`
	WarmupLR   float64 `json:"warmup_lr,omitempty"` // so that older recipes keep their Hash
}

// Regularization is the loss, and what else is done to a network in training.
type Regularization struct {
	LabelSmoothing   float64 `json:"label_smoothing"`
	Init             string  `json:"init"`
	Recalibrate      int     `json:"recalibrate"`
	AuxWeight        float64 `json:"aux_weight"`
	DropPath         float64 `json:"drop_path"`
	DropPathSchedule string  `json:"drop_path_schedule"`
	Distill          float64 `json:"distill"`
	Temperature      float64 `json:"temperature"`
}

// Size is that of a network whose architecture does not say it. 0 is the published number.
type Size struct {
	Channels   int `json:"channels"`
	Stacks     int `json:"stacks"`
	Modules    int `json:"modules"`
	Resolution int `json:"resolution"`
}

// Images is which images are trained on, and what is done to them.
type Images struct {
	ValSplit float64 `json:"val_split"`
	AreaMin  float64 `json:"area_min"`
	Jitter   float64 `json:"jitter"`
	Cutout   int     `json:"cutout"`
	Mixup    float64 `json:"mixup"`
	// Where they are not 0 they take Jitter's place.
	Brightness float64 `json:"brightness,omitempty"`
	Saturation float64 `json:"saturation,omitempty"`
}

// RecipeDefaults are the values of keys that a recipe does not name; all others are 0, off or empty.
func RecipeDefaults() (r Recipe) {
	r.Epochs, r.Batch, r.Accumulate = 1, 64, 1
	r.Optimizer, r.Momentum, r.Rho, r.Beta1, r.Beta2, r.Eps = "sgd", 0.9, 0.9, 0.9, 0.999, 1e-8
	r.LR, r.Schedule, r.Decay, r.DecayEvery = 0.1, "cosine", 1, 1
	r.Init, r.DropPathSchedule, r.Temperature = "torch", "constant", 1
	r.Channels = 16
	return r
}

// below1 is the largest share of what must not be all.
const below1 = 1 - 1e-9

// Settings are the recipe's, as they stand in its file.
func (r *Recipe) Settings() *setting.List {
	l := setting.New()
	r.AddTo(l)
	return l
}

// AddTo adds the recipe's settings to a list.
func (r *Recipe) AddTo(l *setting.List) {
	r.Length.addTo(l)
	r.Optimization.addTo(l)
	r.LearningRate.addTo(l)
	r.Regularization.addTo(l)
	r.Size.AddTo(l)
	r.Images.addTo(l)
}

func (s *Length) addTo(l *setting.List) {
	l.Group("Recipe: length")
	l.Int(&s.Epochs, "epochs", "epochs", "passes over the training images", 1, 1e6)
	l.Int(&s.Batch, "batch", "images", "images a step", 1, 1<<16)
	l.Int(&s.Accumulate, "accumulate", "steps", "steps an update, of which the gradients' mean is taken", 1, 1<<16)
	l.Int(&s.Shards, "shards", "parts", "parts of a batch with batch norms of their own, a power of two, which "+
		"devices divide among them (0 = the batch is one)", 0, mostShards).
		From("Hoffer et al. 2017 (ghost batches)").OmitZero().Check(s.checkShards)
	l.Bool(&s.SyncBN, "sync-bn", "batch norms over all shards of a batch, which all have to be in memory at once").
		From("Peng et al. 2018 (MegDet); PyTorch's SyncBatchNorm").OmitZero()
}

// mostShards is the largest number of parts of a batch.
const mostShards = 64

func (s *Length) checkShards() error {
	if n := s.parts(); n&(n-1) != 0 || s.Batch%n != 0 {
		return fmt.Errorf("shards %d: want a power of two that divides the batch of %d", s.Shards, s.Batch)
	}
	return nil
}

func (s *Optimization) addTo(l *setting.List) {
	l.Group("Recipe: optimizer")
	l.Text(&s.Optimizer, "optimizer", "rule of updates (rmsprop as TensorFlow has it)").
		OneOf("sgd", "rmsprop", "adam", "adamw").From("Kingma and Ba 2015; Loshchilov and Hutter 2019")
	l.Float(&s.Momentum, "momentum", "", "momentum of sgd and rmsprop", 0, below1)
	l.Bool(&s.Nesterov, "nesterov", "Nesterov's momentum in sgd").From("Sutskever et al. 2013")
	l.Float(&s.Rho, "rho", "", "decay of rmsprop's mean square", 0, below1)
	l.Float(&s.Beta1, "beta1", "", "decay of adam's and adamw's mean", 0, below1).From("Kingma and Ba 2015")
	l.Float(&s.Beta2, "beta2", "", "decay of adam's and adamw's mean square", 0, below1).From("Kingma and Ba 2015")
	l.Float(&s.Eps, "eps", "", "what rmsprop adds under the root, adam and adamw beside it", 0, 10)
	l.Float(&s.WeightDecay, "weight-decay", "", "decay of the weights of convolutions and linear layers", 0, 10)
	l.Bool(&s.DecayAll, "decay-all", "biases and batch norms decay too")
	l.Bool(&s.Decoupled, "decoupled", "decay the weights themselves, not through the gradient; adamw always does").
		From("Loshchilov and Hutter 2019")
	l.Float(&s.Clip, "clip", "", "limit of the gradient's 2-norm (0 = none)", 0, 1e9).From("Pascanu et al. 2013")
	l.Float(&s.EMA, "ema", "", "decay of the average of weights that is evaluated and saved (0 = none)", 0, below1)
	l.Float(&s.ClipValue, "clip-value", "", "limit of each element of the gradient (0 = none)", 0, 1e9).
		From("Yu et al. 2020 (BigNAS)").OmitZero()
}

func (s *LearningRate) addTo(l *setting.List) {
	l.Group("Recipe: learning rate")
	l.Float(&s.LR, "lr", "", "learning rate at its highest", 0, 1e3)
	l.Text(&s.Schedule, "schedule", "how the learning rate falls").
		OneOf("constant", "cosine", "linear", "exponential", "step").From("Loshchilov and Hutter 2017 (cosine)")
	l.Float(&s.Warmup, "warmup", "epochs", "time in which the learning rate rises along a line", 0, 1e6).
		From("Goyal et al. 2017")
	l.Float(&s.FinalLR, "final-lr", "", "learning rate at the end of cosine and linear", 0, 1e3)
	l.Float(&s.Decay, "decay", "", "factor of exponential and step", 0, 1)
	l.Float(&s.DecayEvery, "decay-every", "epochs", "time of one such factor", 1e-6, 1e6)
	l.Float(&s.WarmupLR, "warmup-lr", "", "learning rate at which the warm-up begins", 0, 1e3).OmitZero()
}

func (s *Regularization) addTo(l *setting.List) {
	l.Group("Recipe: loss and regularization")
	l.Float(&s.LabelSmoothing, "label-smoothing", "", "share of the target that is spread over all classes", 0, below1).
		From("Szegedy et al. 2016")
	l.Text(&s.Init, "init", "initial weights").OneOf(initializerNames()...).From("He et al. 2015 (he-fan-out)")
	l.Int(&s.Recalibrate, "recalibrate", "batches",
		"batches that batch norms' statistics are computed from before an evaluation (0 = running ones)", 0, 1<<20)
	l.Float(&s.AuxWeight, "aux-weight", "", "weight of an auxiliary head's loss (0 = the network's own)", 0, 100).
		From("Szegedy et al. 2015; DARTS")
	l.Float(&s.DropPath, "drop-path", "", "largest probability of the network's drop paths (0 = its own)", 0, below1).
		From("Larsson et al. 2017")
	l.Text(&s.DropPathSchedule, "drop-path-schedule", "course of that probability over the epochs (linear "+
		"rises from 0)").
		OneOf("constant", "linear").From("DARTS: cnn/train.py")
	l.Float(&s.Distill, "distill", "", "weight of the loss against a --teacher's predictions (0 = none)", 0, 1e3).
		From("Hinton et al. 2015")
	l.Float(&s.Temperature, "temperature", "", "temperature of distillation", 1e-3, 1e3).From("Hinton et al. 2015")
}

// Settings are those of the size alone.
func (s *Size) Settings() *setting.List {
	l := setting.New()
	s.AddTo(l)
	return l
}

// AddTo adds the settings of a network's size to a list.
func (s *Size) AddTo(l *setting.List) {
	l.Group("Recipe: network")
	l.Int(&s.Channels, "channels", "channels",
		"channels of a cell network's stem, or of the first nodes of DARTS (0 = as published)", 0, 4096)
	l.Int(&s.Stacks, "stacks", "stacks", "stacks of a network of cells; "+
		"each but the first halves the image and doubles the channels (0 = as published)", 0, 8)
	l.Int(&s.Modules, "modules", "cells", "cells a stack of a network of cells (0 = as published)", 0, 64)
	l.Int(&s.Resolution, "resolution", "pixels",
		"side of the images (0 = the set's own, or where its images differ the network's)", 0, 4096)
}

func (s *Images) addTo(l *setting.List) {
	l.Group("Recipe: images")
	l.Float(&s.ValSplit, "val-split", "", "share of the training images held out for validation", 0, below1)
	l.Float(&s.AreaMin, "area-min", "", "least share of the area that a random resized crop shows (0 = 0.08)", 0, 1).
		From("Szegedy et al. 2015")
	l.Float(&s.Jitter, "jitter", "", "change of brightness, contrast and saturation", 0, 10)
	l.Int(&s.Cutout, "cutout", "pixels", "side of a square blanked in each image (0 = none)", 0, 4096).
		From("DeVries and Taylor 2017")
	l.Float(&s.Mixup, "mixup", "",
		"alpha of the Beta distribution of the weights that images are mixed with (0 = not)", 0, 100).
		From("Zhang et al. 2018")
	l.Float(&s.Brightness, "brightness", "", "change of brightness (0 = as --jitter)", 0, 10).OmitZero()
	l.Float(&s.Saturation, "saturation", "", "change of saturation (0 = as --jitter)", 0, 10).OmitZero()
}

// AddFaults adds what becomes of a training at a loss that is not finite, as Job.OnNaN, and at images that cannot be
// read.
func AddFaults(l *setting.List, onNaN *string, onCorrupt *data.OnCorrupt) {
	l.Group("Faults")
	l.Text(onNaN, "on-nan", "the `action` after a loss or gradient that is not finite (skip leaves the update out and "+
		"halves the rate)").
		OneOf(OnNaNStop, OnNaNSkip)
	AddOnCorrupt(l, onCorrupt)
}

// AddOnCorrupt adds what becomes of images that cannot be read. Nothing of a run depends on it before the first such
// image.
func AddOnCorrupt(l *setting.List, onCorrupt *data.OnCorrupt) {
	l.Value(onCorrupt, onCorrupt, "on-corrupt", "", "the `action` when an image cannot be read: stop, or skip it "+
		"(skip=N: at most N in all), which is counted and listed").MayChange()
}
