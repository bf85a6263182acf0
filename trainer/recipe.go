package trainer

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Recipe is how a network is trained. Its YAML keys are the flags of `ctnas train`; what a file leaves out is 0, off or empty, but for
// what RecipeDefaults sets.
type Recipe struct {
	Epochs     int `yaml:"epochs" json:"epochs"`
	Batch      int `yaml:"batch" json:"batch"`           // images a step
	Accumulate int `yaml:"accumulate" json:"accumulate"` // steps an update: the gradient is their mean

	Optimizer   string  `yaml:"optimizer" json:"optimizer"` // sgd, rmsprop (TensorFlow's), adam, adamw
	Momentum    float64 `yaml:"momentum" json:"momentum"`   // sgd, rmsprop
	Nesterov    bool    `yaml:"nesterov" json:"nesterov"`   // sgd
	Rho         float64 `yaml:"rho" json:"rho"`             // rmsprop: decay of the mean square
	Beta1       float64 `yaml:"beta1" json:"beta1"`         // adam, adamw
	Beta2       float64 `yaml:"beta2" json:"beta2"`
	Eps         float64 `yaml:"eps" json:"eps"` // rmsprop (under the root), adam, adamw
	WeightDecay float64 `yaml:"weight-decay" json:"weight_decay"`
	DecayAll    bool    `yaml:"decay-all" json:"decay_all"` // biases and batch norms decay too
	Decoupled   bool    `yaml:"decoupled" json:"decoupled"` // decay the weights, not through the gradient; adamw always does
	Clip        float64 `yaml:"clip" json:"clip"`           // limit of the gradient's 2-norm; 0: none
	EMA         float64 `yaml:"ema" json:"ema"`             // decay of the average of weights that is evaluated and saved; 0: none

	LR         float64 `yaml:"lr" json:"lr"`
	Schedule   string  `yaml:"schedule" json:"schedule"`       // constant, cosine, linear, exponential, step
	Warmup     float64 `yaml:"warmup" json:"warmup"`           // epochs in which the rate rises along a line
	FinalLR    float64 `yaml:"final-lr" json:"final_lr"`       // where cosine and linear end
	Decay      float64 `yaml:"decay" json:"decay"`             // exponential, step: factor ...
	DecayEvery float64 `yaml:"decay-every" json:"decay_every"` // ... every so many epochs

	LabelSmoothing float64 `yaml:"label-smoothing" json:"label_smoothing"`
	Init           string  `yaml:"init" json:"init"`               // nasbench, he-fan-out, torch
	Recalibrate    int     `yaml:"recalibrate" json:"recalibrate"` // batches over which batch norms' statistics are computed before an evaluation; 0: the running ones

	AuxWeight        float64 `yaml:"aux-weight" json:"aux_weight"`                 // of an auxiliary head's loss; 0: the network's own
	DropPath         float64 `yaml:"drop-path" json:"drop_path"`                   // largest probability of the network's drop paths; 0: its own
	DropPathSchedule string  `yaml:"drop-path-schedule" json:"drop_path_schedule"` // constant, or linear: from 0 up, epoch by epoch (DARTS)
	Distill          float64 `yaml:"distill" json:"distill"`                       // weight of a teacher's loss beside that of the labels
	Temperature      float64 `yaml:"temperature" json:"temperature"`               // of distillation

	Channels   int     `yaml:"channels" json:"channels"`     // of a cell network's stem, or of DARTS's first nodes; 0: the published number, as for the next two
	Stacks     int     `yaml:"stacks" json:"stacks"`         // of a network of cells: each but the first halves the image and doubles the channels
	Modules    int     `yaml:"modules" json:"modules"`       // cells a stack
	Resolution int     `yaml:"resolution" json:"resolution"` // of images; 0: the set's own, or where its images differ the network's
	ValSplit   float64 `yaml:"val-split" json:"val_split"`   // share of the training images held out
	AreaMin    float64 `yaml:"area-min" json:"area_min"`     // least area of a random resized crop; 0: 0.08
	Jitter     float64 `yaml:"jitter" json:"jitter"`         // of brightness, contrast and saturation
	Cutout     int     `yaml:"cutout" json:"cutout"`         // side of the blanked square
	Mixup      float64 `yaml:"mixup" json:"mixup"`           // alpha of the Beta distribution that weights are drawn from; 0: images are not mixed
}

// RecipeDefaults are the values of keys that a recipe does not name.
func RecipeDefaults() Recipe {
	return Recipe{Epochs: 1, Batch: 64, Accumulate: 1, Optimizer: "sgd", Momentum: 0.9, Rho: 0.9, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, LR: 0.1,
		Schedule: "cosine", Decay: 1, DecayEvery: 1, Init: "torch", DropPathSchedule: "constant", Temperature: 1, Channels: 16}
}

//go:embed recipes/*.yaml
var recipeFiles embed.FS

// RecipeNames lists the recipes that come with the program.
func RecipeNames() []string {
	embedded, _ := recipeFiles.ReadDir("recipes")
	var names []string
	for _, f := range embedded {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

const maxRecipeBytes = 1 << 20

// OpenRecipe reads a recipe that comes with the program, or else the file of that name.
func OpenRecipe(name string) (Recipe, error) {
	text, err := recipeFiles.ReadFile("recipes/" + name + ".yaml")
	if err != nil {
		if text, err = files.ReadText(name, maxRecipeBytes); errors.Is(err, fs.ErrNotExist) {
			return Recipe{}, fmt.Errorf("recipe %q is none of %s, nor a file: %w", name, strings.Join(RecipeNames(), ", "), err)
		} else if err != nil {
			return Recipe{}, fmt.Errorf("recipe: %w", err)
		}
	}
	r, err := parseRecipe(text)
	if err != nil {
		return Recipe{}, fmt.Errorf("recipe %s: %w", name, err)
	}
	return r, nil
}

func parseRecipe(text []byte) (Recipe, error) {
	r := RecipeDefaults()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&r); err != nil && !errors.Is(err, io.EOF) {
		return Recipe{}, err
	}
	var given map[string]any
	_ = yaml.Unmarshal(text, &given) // it was read above
	keys, values := r.list()
	for i, key := range keys {
		if x, ok := given[key].(float64); ok && !math.IsNaN(x) {
			if got, err := strconv.ParseFloat(values[i], 64); err == nil && got != x {
				return Recipe{}, fmt.Errorf("%s %g: want a whole number", key, x) // YAML cuts 2.5 down to an integer
			}
		}
	}
	return r, r.Check()
}

// Idle lists the keys that say something to which a network has no part.
func (r Recipe) Idle(net *nn.Network) []string {
	var keys []string
	if r.DropPath > 0 && !slices.ContainsFunc(net.Nodes, func(n nn.Node) bool { _, ok := n.Op.(nn.DropPath); return ok }) {
		keys = append(keys, "drop-path")
	}
	if r.AuxWeight > 0 && len(net.Outputs) < 2 {
		keys = append(keys, "aux-weight")
	}
	return keys
}

// RecipeKeys lists the keys of a recipe.
func RecipeKeys() []string {
	keys, _ := Recipe{}.list()
	return keys
}

// list are the keys and their values as text.
func (r Recipe) list() (keys, values []string) {
	var doc yaml.Node
	_ = doc.Encode(r) // plain fields
	for i := 0; i < len(doc.Content); i += 2 {
		keys, values = append(keys, doc.Content[i].Value), append(values, doc.Content[i+1].Value)
	}
	return keys, values
}

// Set sets the value of a key from text. Check the recipe afterwards.
func (r *Recipe) Set(key, value string) error {
	i := slices.Index(RecipeKeys(), key)
	if i < 0 {
		return fmt.Errorf("a recipe has no key %q", key)
	}
	changed := *r
	doc := yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: key}, {Kind: yaml.ScalarNode, Value: value}}}
	err := doc.Decode(&changed)
	_, values := changed.list()
	given, number := strconv.ParseFloat(value, 64)
	got, _ := strconv.ParseFloat(values[i], 64)
	if err != nil || doc.Content[1].ShortTag() == "!!null" || number == nil && given != got { // YAML cuts 2.5 down to an integer
		return fmt.Errorf("%s %q: not a value of this key", key, value)
	}
	*r = changed
	return nil
}

// Hash is a fingerprint of all values, 8 hexadecimal digits.
func (r Recipe) Hash() string {
	text, _ := json.Marshal(r) // numbers and text; not-a-numbers do not pass Check
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

var initializers = map[string]nn.Initializer{"nasbench": nn.NASBench, "he-fan-out": nn.HeFanOut, "torch": nn.TorchDefault}

// Check tells what is wrong with a recipe, by its keys.
func (r Recipe) Check() error {
	within := func(key string, v, least, most float64) error {
		if !(v >= least && v <= most) {
			return fmt.Errorf("%s %g: want %g to %g", key, v, least, most)
		}
		return nil
	}
	oneOf := func(key, v string, allowed ...string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%s %q: want %s", key, v, strings.Join(allowed, ", "))
		}
		return nil
	}
	const below1 = 1 - 1e-9
	err := errors.Join(
		within("epochs", float64(r.Epochs), 1, 1e6), within("batch", float64(r.Batch), 1, 1<<16), within("accumulate", float64(r.Accumulate), 1, 1<<16),
		oneOf("optimizer", r.Optimizer, "sgd", "rmsprop", "adam", "adamw"), within("momentum", r.Momentum, 0, below1), within("rho", r.Rho, 0, below1),
		within("beta1", r.Beta1, 0, below1), within("beta2", r.Beta2, 0, below1), within("eps", r.Eps, 0, 10), within("weight-decay", r.WeightDecay, 0, 10),
		within("clip", r.Clip, 0, 1e9), within("ema", r.EMA, 0, below1), within("lr", r.LR, 0, 1e3), within("warmup", r.Warmup, 0, float64(r.Epochs)),
		oneOf("schedule", r.Schedule, "constant", "cosine", "linear", "exponential", "step"), within("final-lr", r.FinalLR, 0, 1e3),
		within("decay", r.Decay, 0, 1), within("decay-every", r.DecayEvery, 1e-6, 1e6), within("label-smoothing", r.LabelSmoothing, 0, below1),
		oneOf("init", r.Init, "nasbench", "he-fan-out", "torch"), within("recalibrate", float64(r.Recalibrate), 0, 1<<20),
		within("channels", float64(r.Channels), 0, 4096), within("stacks", float64(r.Stacks), 0, 8), within("modules", float64(r.Modules), 0, 64),
		within("resolution", float64(r.Resolution), 0, 4096), within("val-split", r.ValSplit, 0, below1),
		within("area-min", r.AreaMin, 0, 1), within("jitter", r.Jitter, 0, 10), within("cutout", float64(r.Cutout), 0, 4096),
		within("mixup", r.Mixup, 0, 100), within("aux-weight", r.AuxWeight, 0, 100), within("drop-path", r.DropPath, 0, below1),
		oneOf("drop-path-schedule", r.DropPathSchedule, "constant", "linear"), within("distill", r.Distill, 0, 1e3),
		within("temperature", r.Temperature, 1e-3, 1e3),
	)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return errors.New(first)
	}
	return nil
}

// Side is that of the images: the recipe's, or the set's own, or 0 where neither says it and the network does.
func (r Recipe) Side(d *data.Dataset) int {
	switch {
	case r.Resolution > 0:
		return r.Resolution
	case d.Width > 0 && d.Width == d.Height:
		return d.Width
	}
	return 0
}

// PathRate is what the probabilities of drop paths are multiplied by in an epoch from 0. Under the linear schedule it is that of DARTS (quark0/darts,
// cnn/train.py: drop_path_prob * epoch / epochs).
func (r Recipe) PathRate(epoch int) float64 {
	if r.DropPathSchedule == "linear" {
		return math.Min(1, float64(epoch)/float64(r.Epochs))
	}
	return 1
}

// Rate is the learning rate of the update that follows `updates` updates, with so many an epoch: it rises to LR over the warm-up and then follows the schedule
// (Loshchilov and Hutter 2017 for the cosine).
func (r Recipe) Rate(updates, perEpoch int) float64 {
	epoch := float64(updates) / float64(perEpoch)
	if epoch < r.Warmup {
		return r.LR * math.Min(1, float64(updates+1)/(r.Warmup*float64(perEpoch)))
	}
	done := 1.0
	if left := float64(r.Epochs) - r.Warmup; left > 0 {
		done = math.Min(1, (epoch-r.Warmup)/left)
	}
	switch r.Schedule {
	case "cosine":
		return r.FinalLR + (r.LR-r.FinalLR)*(1+math.Cos(math.Pi*done))/2
	case "linear":
		return r.LR + (r.FinalLR-r.LR)*done
	case "exponential":
		return r.LR * math.Pow(r.Decay, (epoch-r.Warmup)/r.DecayEvery)
	case "step":
		return r.LR * math.Pow(r.Decay, math.Floor((epoch-r.Warmup)/r.DecayEvery+1e-9))
	}
	return r.LR
}
