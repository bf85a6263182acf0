package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// SupernetRecipe is how a supernet is trained. Settings says what each field is; its names are the keys of a recipe's
// file and the flags of `ctnas supernet train`.
type SupernetRecipe struct {
	Recipe
	Sampling
}

// Sampling is which paths of a supernet an update trains, and how.
type Sampling struct {
	Method    string   `json:"method"`
	Paths     int      `json:"paths"`
	SideStep  int      `json:"side_step"`
	Dropout   float64  `json:"dropout"`
	ZeroGamma bool     `json:"zero_gamma"`
	HeldOut   int      `json:"held_out"`
	Judged    int      `json:"judged_paths"`
	Untouched string   `json:"untouched"`
	Sample    string   `json:"sample"`
	Stages    []string `json:"stages,omitempty"`
	BinsLow   int64    `json:"bins_low,omitempty"` // multiply-adds, as the other two; all 0: no bins
	BinsHigh  int64    `json:"bins_high,omitempty"`
	BinsWidth int64    `json:"bins_width,omitempty"`
	// ControllerFrom is the share of the epochs that MethodENAS trains before its controller learns.
	ControllerFrom float64 `json:"controller_from,omitempty"`
	Mixing
}

// Mixing is how the weights of a mixture's choices learn. All of it is 0 with methods that mix nothing.
type Mixing struct {
	AlphaLR      float64 `json:"alpha_lr,omitempty"`
	AlphaBeta1   float64 `json:"alpha_beta1,omitempty"`
	AlphaBeta2   float64 `json:"alpha_beta2,omitempty"`
	AlphaDecay   float64 `json:"alpha_decay,omitempty"`
	AlphaStart   float64 `json:"alpha_start,omitempty"`
	AlphaFrom    int     `json:"alpha_from,omitempty"`
	SecondOrder  bool    `json:"second_order,omitempty"`
	GumbelStart  float64 `json:"gumbel_start,omitempty"`
	GumbelDecay  float64 `json:"gumbel_decay,omitempty"`
	GumbelLeast  float64 `json:"gumbel_least,omitempty"`
	CostScale    float64 `json:"cost_scale,omitempty"`
	CostExponent float64 `json:"cost_exponent,omitempty"`
}

// What becomes of the variables that no path of an update has. A path has all of a variable of which it takes a part.
const (
	// UntouchedMove says that momentum and weight decay move them: their gradient is zero.
	UntouchedMove = "move"
	// UntouchedStay says that they stay as they are, with their momentum.
	UntouchedStay = "stay"
)

// What the paths of MethodSPOS are uniform over.
const (
	// SampleArchitectures draws each distinct architecture as often as any other.
	SampleArchitectures = "architectures"
	// SampleDecisions draws each decision of the space's grammar uniformly by itself.
	SampleDecisions = "decisions"
)

// Binned tells whether random paths come from bins of multiply-adds.
func (s *Sampling) Binned() bool { return s.BinsLow > 0 || s.BinsHigh > 0 || s.BinsWidth > 0 }

// Methods of training a supernet.
const (
	// MethodSandwich trains in every update the largest path with the labels and the smallest and some random ones with
	// what the largest predicts (Yu et al. 2020, BigNAS).
	MethodSandwich = "sandwich"
	// MethodOFA trains the largest path, then with it as the teacher ever smaller ones (Cai et al. 2020, progressive
	// shrinking).
	MethodOFA = "ofa"
	// MethodSPOS trains one path an update, uniform over the space (Guo et al. 2020, "Single Path One-Shot").
	MethodSPOS = "spos"
	// MethodFairNAS trains as many paths an update as a decision has choices, each choice once (Chu et al. 2021).
	MethodFairNAS = "fairnas"
	// MethodENAS trains paths that a controller draws, which learns from their accuracies (Pham et al. 2018).
	MethodENAS = "enas"
	// MethodDARTS trains a network that mixes all choices by the softmax of numbers that learn on held-out images (Liu
	// et al. 2019).
	MethodDARTS = "darts"
	// MethodFBNet does so by the Gumbel softmax, which is one choice the more the colder it gets, and may count what
	// choices cost (Wu et al. 2019).
	MethodFBNet = "fbnet"
)

// Mixed tells whether a method trains the network that mixes all choices.
func (s *Sampling) Mixed() bool { return s.Method == MethodDARTS || s.Method == MethodFBNet }

// Sampled tells whether a job's Sampler says which paths an update trains.
func (s *Sampling) Sampled() bool {
	return s.Method == MethodSPOS || s.Method == MethodFairNAS || s.Method == MethodENAS
}

// Stage is a part of a supernet's training with a learning rate of its own.
type Stage struct {
	Name string
	zoo.Choices
	// Sort are the expansions that were trained before a stage that begins with sorted channels, besides the largest;
	// nil: channels stay.
	Sort     []int
	Epochs   int
	Paths    int // random ones an update
	LR       float64
	Warmup   float64
	WarmupLR float64
}

// stageFull is the stage of the largest path alone.
const stageFull = "full"

// shrinking are the stages of once-for-all, in their order (train_ofa_net.py).
var shrinking = []Stage{
	{Name: stageFull, Choices: choices([]int{7}, []int{4}, []int{6})},
	{Name: "kernel", Choices: choices([]int{3, 5, 7}, []int{4}, []int{6})},
	{Name: "depth1", Choices: choices([]int{3, 5, 7}, []int{3, 4}, []int{6})},
	{Name: "depth2", Choices: choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{6})},
	{Name: "expand1", Choices: choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{4, 6}), Sort: []int{}},
	{Name: "expand2", Choices: choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{3, 4, 6}), Sort: []int{4}},
}

func choices(kernels, depths, expansions []int) zoo.Choices {
	return zoo.Choices{Kernels: kernels, Depths: depths, Expansions: expansions}
}

// mostPaths is how many random paths an update may have: all of its paths stay recorded until it has ended.
const mostPaths = KeptPaths - 2

// SupernetRecipeDefaults are the values of keys that a supernet's recipe does not name.
func SupernetRecipeDefaults() SupernetRecipe {
	r := SupernetRecipe{Recipe: RecipeDefaults()}
	r.Channels, r.Recalibrate = 0, 16
	r.Method, r.Paths, r.SideStep, r.Judged = MethodSandwich, 2, 4, 2
	r.Untouched, r.Sample = UntouchedMove, SampleArchitectures
	return r
}

// Settings are the recipe's, as they stand in its file.
func (r *SupernetRecipe) Settings() *setting.List {
	l := setting.New()
	r.AddTo(l)
	return l
}

// AddTo adds the recipe's settings to a list.
func (r *SupernetRecipe) AddTo(l *setting.List) {
	s := &r.Sampling
	l.Group("Recipe: paths")
	l.Text(&s.Method, "method", "which paths an update trains: the largest, the smallest and random ones; random "+
		"ones of ever more choices; a random one; one of each choice; one that a controller draws; all at once, "+
		"mixed by a softmax, or by a Gumbel softmax").
		OneOf(MethodSandwich, MethodOFA, MethodSPOS, MethodFairNAS, MethodENAS, MethodDARTS, MethodFBNet).
		From("Yu et al. 2020; Cai et al. 2020; Guo et al. 2020; Chu et al. 2021; Pham et al. 2018; Liu et al. 2019; " +
			"Wu et al. 2019")
	l.Int(&s.Paths, "paths", "paths", "random paths an update of sandwich, beside the largest and the smallest", 0,
		mostPaths)
	l.Int(&s.SideStep, "side-step", "pixels", "distance of the sides of images that updates draw from", 4, 512).
		From("once-for-all: MyRandomResizedCrop")
	l.Float(&s.Dropout, "dropout", "", "dropout before the classifier: of sandwich's largest path, or of all of ofa's",
		0, below1)
	l.Bool(&s.ZeroGamma, "zero-gamma", "the last batch norm of a residual block starts with scale 0").
		From("Goyal et al. 2017")
	l.Int(&s.HeldOut, "held-out", "images", "training images that no path is trained on, once-for-all's choice "+
		"(0 = the set's own validation images)", 0, 1<<24)
	l.Int(&s.Judged, "judged-paths", "paths", "random paths whose accuracy is measured after each epoch, beside the "+
		"largest and the smallest", 0, mostPaths)
	l.Float(&s.ControllerFrom, "controller-from", "", "share of the epochs in which a controller that has learned "+
		"nothing draws the paths, before that of enas learns: weights of few updates prefer what learns fast", 0,
		below1).OmitZero()
	l.Text(&s.Untouched, "untouched", "whether momentum and weight decay move the tensors that no path of an update "+
		"has (sgd and rmsprop)").OneOf(UntouchedMove, UntouchedStay).From("megvii-model/SinglePathOneShot (stay)")
	l.Text(&s.Sample, "sample", "what of a space spos draws uniformly: its distinct architectures, or each decision "+
		"by itself, which draws an architecture that more sequences stand for more often").
		OneOf(SampleArchitectures, SampleDecisions)
	l.Texts(&s.Stages, "stages", "a stage of ofa: `NAME` epochs=N lr=X paths=N warmup=X warmup-lr=X; names, in order: "+
		strings.Join(stageNames(), ", ")).Check(func() error {
		_, err := r.stages()
		if err != nil {
			return fmt.Errorf("stages %w", err)
		}
		return nil
	})
	for _, b := range []struct {
		p             *int64
		name, meaning string
	}{
		{&s.BinsLow, "bins-low", "where the bins begin of which spos draws each as often as any other, and a path " +
			"uniformly within (in chains of blocks; 0 = no bins)"},
		{&s.BinsHigh, "bins-high", "where they end"},
		{&s.BinsWidth, "bins-width", "how wide they are"},
	} {
		l.Size(b.p, b.name, "multiply-adds", b.meaning).From("megvii-model/SinglePathOneShot").OmitZero()
	}
	s.Mixing.addTo(l)
	r.Length.addTo(l)
	r.Optimization.addTo(l)
	r.LearningRate.addTo(l)
	r.Regularization.addTo(l)
	r.Size.AddTo(l)
	r.Images.addTo(l)
}

func (m *Mixing) addTo(l *setting.List) {
	l.Group("Recipe: mixtures")
	l.Float(&m.AlphaLR, "alpha-lr", "", "learning rate of Adam for the numbers α that choices' weights come from "+
		"(darts, fbnet)", 0, 1e3).From("quark0/darts: 3e-4").OmitZero()
	l.Float(&m.AlphaBeta1, "alpha-beta1", "", "first decay rate of that Adam", 0, below1).OmitZero()
	l.Float(&m.AlphaBeta2, "alpha-beta2", "", "second decay rate of that Adam", 0, below1).OmitZero()
	l.Float(&m.AlphaDecay, "alpha-decay", "", "weight decay of α", 0, 1e3).OmitZero()
	l.Float(&m.AlphaStart, "alpha-start", "", "standard deviation of α at the start", 0, 1e3).OmitZero()
	l.Int(&m.AlphaFrom, "alpha-from", "epochs", "how long weights are trained before α learn", 0, 1e6).OmitZero()
	l.Bool(&m.SecondOrder, "second-order", "α learn for the weights that a step on the training images leads to "+
		"(darts)").From("Liu et al. 2019, equation 7").OmitZero()
	l.Float(&m.GumbelStart, "gumbel-start", "", "temperature of fbnet's Gumbel softmax in the first epoch", 0, 1e6).
		From("Wu et al. 2019: 5").OmitZero()
	l.Float(&m.GumbelDecay, "gumbel-decay", "1/epoch", "rate at which the temperature falls: exp(-rate epoch)", 0, 1e3).
		From("Wu et al. 2019: 0.045").OmitZero()
	l.Float(&m.GumbelLeast, "gumbel-least", "", "where the temperature stops falling", 0, 1e6).OmitZero()
	l.Float(&m.CostScale, "cost-scale", "", "a of the objective CE a log(C)^b of α, where C are the multiply-adds of "+
		"the mixture", 0, 1e6).From("Wu et al. 2019: 0.2").OmitZero()
	l.Float(&m.CostExponent, "cost-exponent", "", "b of it; 0: costs are not counted", 0, 1e3).
		From("Wu et al. 2019: 0.6").OmitZero()
}

// check tells what is wrong with the settings of mixtures in a recipe.
func (r *SupernetRecipe) checkMixing() error {
	m := &r.Mixing
	switch {
	case !r.Mixed():
		if *m != (Mixing{}) {
			return fmt.Errorf("alpha-lr %g and the other settings of mixtures: want none, for %s mixes nothing",
				m.AlphaLR, r.Method)
		}
	case m.AlphaLR == 0:
		return fmt.Errorf("alpha-lr 0: want more, for %s learns nothing without", r.Method)
	case r.Accumulate != 1:
		return fmt.Errorf("accumulate %d: want 1, for an update of %s has one batch of each kind", r.Accumulate,
			r.Method)
	case (m.GumbelStart > 0) != (r.Method == MethodFBNet) || m.GumbelStart == 0 && m.GumbelLeast+m.GumbelDecay > 0:
		return fmt.Errorf("gumbel-start %g: want more than 0 with %s, and none of gumbel-start, gumbel-decay and "+
			"gumbel-least with others", m.GumbelStart, MethodFBNet)
	case (m.CostExponent > 0) != (m.CostScale > 0):
		return fmt.Errorf("cost-scale %g and cost-exponent %g: want both or none", m.CostScale, m.CostExponent)
	case m.AlphaFrom >= r.Epochs:
		return fmt.Errorf("alpha-from %d: want less than the %d epochs", m.AlphaFrom, r.Epochs)
	case !m.SecondOrder:
	case r.Method != MethodDARTS:
		return fmt.Errorf("second-order: %s has none", r.Method)
	case r.Optimizer != "sgd" || r.Nesterov || r.Decoupled || r.WeightDecay > 0 && !r.DecayAll:
		return errors.New("second-order: the step ahead is that of optimizer sgd, without nesterov and decoupled, " +
			"and with decay-all or weight-decay 0")
	}
	return nil
}

func stageNames() []string {
	names := make([]string, len(shrinking))
	for i, s := range shrinking {
		names[i] = s.Name
	}
	return names
}

// stages are those of the method, in order.
func (r *SupernetRecipe) stages() ([]Stage, error) {
	if r.Method != MethodOFA {
		return []Stage{{Name: r.Method, Epochs: r.Epochs, Paths: r.Paths, LR: r.LR, Warmup: r.Warmup,
			WarmupLR: r.WarmupLR}}, nil
	}
	var stages []Stage
	next := 0
	for _, text := range r.Stages {
		s, at, err := parseStage(text, next)
		if err != nil {
			return nil, fmt.Errorf("%.100q: %w", text, err)
		}
		stages, next = append(stages, s), at+1
	}
	if len(stages) == 0 {
		return nil, errors.New("are none: method ofa wants some of " + strings.Join(stageNames(), ", "))
	}
	return stages, nil
}

// parseStage reads a stage that is none of the first ones, and says which one it is.
func parseStage(text string, from int) (s Stage, at int, err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	for at = from; at < len(shrinking) && shrinking[at].Name != name; {
		at++
	}
	if at == len(shrinking) {
		var left []string
		for _, s := range shrinking[from:] {
			left = append(left, s.Name)
		}
		return s, at, fmt.Errorf("%.20q is no stage that may stand here: want one of %s", name,
			strings.Join(left, ", "))
	}
	s = shrinking[at]
	s.Epochs, s.Paths = 1, 1
	l := setting.New()
	l.Int(&s.Epochs, "epochs", "epochs", "", 1, 1e6)
	l.Int(&s.Paths, "paths", "paths", "", 1, mostPaths)
	l.Float(&s.LR, "lr", "", "", 0, 1e3)
	l.Float(&s.Warmup, "warmup", "epochs", "", 0, 1e6)
	l.Float(&s.WarmupLR, "warmup-lr", "", "", 0, 1e3)
	said := map[string]bool{}
	for _, word := range strings.Fields(rest) {
		key, value, found := strings.Cut(word, "=")
		if !found || l.Lookup(key) == nil || said[key] {
			return s, at, fmt.Errorf("%.40q: want each once of %s=NUMBER", word, strings.Join(l.Names(), ", "))
		}
		said[key] = true
		if err := l.Set(key, value); err != nil {
			return s, at, err
		}
	}
	if err := l.Check(); err != nil {
		return s, at, err
	}
	if !said["lr"] {
		return s, at, errors.New("want lr=NUMBER")
	}
	if s.Warmup > float64(s.Epochs) {
		return s, at, fmt.Errorf("warmup %g: want 0 to %d, as many as there are epochs", s.Warmup, s.Epochs)
	}
	return s, at, nil
}

// Check tells what is wrong with a recipe. The error begins with the key, so that two dashes before it make a flag of
// it.
func (r SupernetRecipe) Check() error {
	if err := cmp.Or(r.Settings().Check(), r.Recipe.Check(), r.checkMixing()); err != nil {
		return err
	}
	switch {
	case r.Mixup > 0:
		return fmt.Errorf("mixup %g: want 0, for paths learn from each other's predictions of one image", r.Mixup)
	case r.ValSplit > 0:
		return fmt.Errorf("val-split %g: want 0, for held-out says which images a supernet does not see", r.ValSplit)
	case r.AuxWeight > 0:
		return fmt.Errorf("aux-weight %g: want 0, for paths have no auxiliary heads", r.AuxWeight)
	case r.Size != (Size{}) && !r.Sampled() && !r.Mixed():
		return fmt.Errorf("channels %d, stacks %d, modules %d, resolution %d: want 0, for the space of %s says them",
			r.Channels, r.Stacks, r.Modules, r.Resolution, r.Method)
	case r.ControllerFrom > 0 && r.Method != MethodENAS:
		return fmt.Errorf("controller-from %g: want 0, for %s has no controller", r.ControllerFrom, r.Method)
	case r.Binned() && r.Method != MethodSPOS:
		return fmt.Errorf("bins-low %d, bins-high %d, bins-width %d: want 0, for paths of %s come from no bins",
			r.BinsLow, r.BinsHigh, r.BinsWidth, r.Method)
	case r.Sample == SampleDecisions && (r.Method != MethodSPOS || r.Binned()):
		return fmt.Errorf("sample %s: want %s, for only paths of %s without bins are drawn so", r.Sample,
			SampleArchitectures, MethodSPOS)
	case r.Recalibrate == 0 && !r.Sampled() && !r.Mixed(): // whose paths are measured with each batch's own
		return errors.New("recalibrate 0: want 1 or more, for statistics that paths share are of none of them")
	case r.Method == MethodOFA && r.Distill == 0:
		return errors.New("distill 0: want more, for the stages of ofa have a teacher")
	case r.Method == MethodOFA && r.DropPath > 0:
		return fmt.Errorf("drop-path %g: want 0, for no path of ofa's is the largest", r.DropPath)
	case r.Untouched == UntouchedStay && strings.HasPrefix(r.Optimizer, "adam"):
		return fmt.Errorf("untouched %s: want %s, for %s counts the updates of all tensors together", r.Untouched,
			UntouchedMove, r.Optimizer)
	case r.Method != MethodOFA && len(r.Stages) > 0:
		return fmt.Errorf("stages %q: want none, for %s has one", r.Stages[0], r.Method)
	case r.Method != MethodOFA && r.Distill > 0:
		return fmt.Errorf("distill %g: want 0, for sandwich's largest path is the teacher", r.Distill)
	}
	return nil
}

// ControllerEpochs is how many epochs MethodENAS trains before its controller learns.
func (r SupernetRecipe) ControllerEpochs() int { return int(r.ControllerFrom * float64(r.Epochs)) }

// in is the recipe of a stage's schedule.
func (r SupernetRecipe) in(s Stage) Recipe {
	out := r.Recipe
	out.Epochs, out.LR, out.Warmup, out.WarmupLR = s.Epochs, s.LR, s.Warmup, s.WarmupLR
	return out
}

// sides are those that images of updates may have, ascending: from the least in steps, and the greatest.
func (r SupernetRecipe) sides(least, most int) []int {
	var sides []int
	for side := least; side < most; side += r.SideStep {
		sides = append(sides, side)
	}
	return append(sides, most)
}

// supernetRecipes is the folder of those that come with the program.
const supernetRecipes = "recipes/supernet"

// SupernetRecipeNames lists the recipes for supernets that come with the program.
func SupernetRecipeNames() []string { return recipeNames(supernetRecipes) }

// AbsoluteSupernetRecipe is the name of a recipe that is valid in any working directory.
func AbsoluteSupernetRecipe(name string) (string, error) {
	return absoluteRecipe(supernetRecipes, name)
}

// OpenSupernetRecipe reads a recipe for supernets that comes with the program, or else the file of that name.
func OpenSupernetRecipe(name string) (SupernetRecipe, error) {
	return openRecipe(supernetRecipes, name, func(text []byte) (SupernetRecipe, error) {
		r := SupernetRecipeDefaults()
		if err := r.Settings().Read(text); err != nil {
			return SupernetRecipe{}, err
		}
		return r, r.Check()
	})
}

// Draws of a training: each is a function of the seed, what it is for, and the number of the step or update.

// judgedUpdate stands for the paths that are judged after each epoch.
const judgedUpdate = math.MaxUint32

// pathDraw is the stream that the index-th path of an update is drawn with.
func pathDraw(seed uint64, update uint32, index int) *philox.Stream {
	s := philox.Key{Seed: seed, Purpose: philox.PurposePath}.From(update, uint64(index)<<32)
	return &s
}
