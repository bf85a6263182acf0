package search

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Values of Config.
const (
	MethodName = "ctnas" // the search method that is meant where none is named

	ProposeController = "controller" // candidates are what the controller samples and neighbours of what is labelled
	// Candidates are what the comparator ranks best in the enumerated space; no controller.
	ProposeSpace       = "space"
	ProposeAuto        = "auto"       // both; the controller alone where the space cannot be listed
	RewardComparison   = "comparison" // the probability of beating the baseline
	RewardAbsolute     = "absolute"   // the predicted performance itself (ablation)
	BaselineCurriculum = "curriculum" // the baseline is replaced by better ones
	BaselineFixed      = "fixed"      // it stays the first one (ablation)
	PresetDefault      = "default"
	PresetPaper        = "paper"    // the paper's comparator; all labels but the final candidate's at random, at once
	PresetReleased     = "released" // the released code's schedule and networks, see releasedSchedule
	ReleasedName       = "released" // the method of PresetReleased
	MinimumInitial     = 2          // labels that a search begins with at least
)

// Preset returns a named configuration for NAS-Bench-101 without labels; For turns it to another space.
func Preset(name string) (Config, error) {
	c := Config{
		Target: Target{Method: MethodName, Space: "nasbench101", Budget: 423, Seed: 1, Preset: name,
			Propose: ProposeAuto},
		Bounds:   Bounds{ParetoCost: space.CostMAdds},
		Rounds:   Rounds{Preselect: 1000, Thompson: 0.3, ControllerShare: 0.2, Pool: 2000, Mutations: 500},
		Ensemble: Ensemble{Members: 4, Steps: 150},
		Control: Control{Iterations: 150, Batch: 64, ControllerLR: controller.Default().LR, Reward: RewardComparison,
			Baseline: BaselineCurriculum, BaselineEvery: 50, BaselineSamples: 10},
		Exploration: Exploration{Explore: true, ExploreEvery: 50, ExplorePairs: 64, ExplorePool: 256, ExploreAge: 2,
			ExploreWeight: 0.1},
		Watch: Watch{CheckpointEvery: 100}, Making: DefaultMaking(), SharedWeights: DefaultSharedWeights(),
	}
	switch name {
	case PresetDefault:
	case PresetPaper:
		c.Budget, c.Propose, c.Init, c.PerRound, c.Preselect, c.Thompson, c.Mutations, c.Members, c.Steps =
			424, ProposeController, 423, 1, 0, 0, 0, 1, 1000
		c.Iterations, c.BaselineEvery = 1000, 100
	case PresetReleased:
		c.releasedSchedule()
	default:
		return Config{}, names.Unknown("preset", name, []string{PresetDefault, PresetPaper, PresetReleased})
	}
	return c, nil
}

// releasedSchedule is the schedule of the code released with the paper: 423 random labels; 1,000 epochs of its
// comparator on pairs of shuffled batches; then 10,000 iterations of the controller with one sample each and the bare
// probability as reward. Every 100 iterations the most probable half of 200 pairs (the first time of 512) join a pool
// that only grows, and the comparator trains for an epoch with as many of them as of labelled pairs. Every 500 the
// baseline becomes the best of 10 samples and the best so far. One label more is for the result: the last baseline.
func (c *Config) releasedSchedule() {
	c.Budget, c.Propose, c.Init, c.PerRound, c.Preselect, c.Thompson, c.ControllerShare, c.Pool, c.Mutations =
		424, ProposeController, 423, 1, 0, 0, 0, 1000, 0
	c.Members, c.Steps = 1, 2000
	c.Iterations, c.Batch, c.ControllerLR, c.BaselineEvery = 10000, 1, controller.Released().LR, 500
	c.ExploreEvery, c.ExplorePairs, c.ExplorePool, c.ExploreAge, c.ExploreWeight = 100, 100, 1<<20, 1<<20, 1
	c.CheckpointEvery = 500
}

// For sets the space, by the name that opens it, and with the default preset the settings that suit it. Those of Preset
// suit spaces that are not space.Positional.
func (c *Config) For(name string, sp space.Space) {
	c.Space = name
	if !space.IsPositional(sp) || c.Preset != PresetDefault {
		return
	}
	c.Members, c.Generations, c.Spread = 2, 80, 0.3
	if !space.EncoderOf(sp).Walks {
		c.Steps = gcn.Positional().Steps
	}
}

// Spending is how many labels are bought first, and in each round after that, where the settings leave it to the
// budget. What a comparator is wrong about in a large space shows when it is asked for its favourites: rounds are
// smaller there.
func (c Config) Spending(sp space.Space) (first, round int) {
	first, round = min(60, 2*c.Budget/5), min(40, c.Budget/10)
	if space.IsPositional(sp) {
		first, round = min(40, c.Budget/5), min(20, c.Budget/10)
	}
	return cmp.Or(c.Init, max(first, MinimumInitial)), cmp.Or(c.PerRound, max(round, 1))
}

// Comparator is a preset's comparator for a space.
func Comparator(preset string, sp space.Space) (gcn.Config, error) {
	c, err := gcn.Preset(preset)
	if err == nil && preset == PresetDefault && !space.EncoderOf(sp).Walks {
		c = gcn.Positional()
	}
	if _, initialised := sp.(space.Initialised); err == nil && c.Process > 0 && !initialised {
		c.Process, c.Folds = 0, gcn.Positional().Folds // a process lives on the mean field
	}
	return c, err
}

// Budgets are all that the run was given, one after the other.
func (c Config) Budgets() []int { return append(slices.Clone(c.Before), c.Budget) }

// More is the same search with a larger budget.
func (c Config) More(budget int) Config {
	c.Before, c.Budget = c.Budgets(), budget
	return c
}

// Algorithm is the name of the registered method that these settings are run by: the released schedule is a method of
// its own, whoever names it.
func (c Config) Algorithm() string {
	if c.Method == MethodName && c.Preset == PresetReleased {
		return ReleasedName
	}
	return c.Method
}

// Limits are what --max-madds, --max-params and --max-latency allow; times may be nil where there is no limit on the
// latency.
func (c Config) Limits(times *space.Times) space.Limits {
	return space.Limits{MAdds: c.MaxMAdds, Params: c.MaxParams, Latency: space.Nanoseconds(c.MaxLatency), Times: times}
}

// Check tells what is wrong with the settings, by the names of their flags.
func (c Config) Check() error {
	if err := c.Settings().Check(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	for i, b := range c.Budgets()[:len(c.Before)] {
		if b >= c.Budgets()[i+1] {
			return fmt.Errorf("--budgets-before %v --budget %d: want ever larger ones, from %d on", c.Before, c.Budget,
				MinimumInitial)
		}
	}
	if err := c.CheckFront(); err != nil {
		return err
	}
	switch {
	case c.Latency == "" && c.MaxLatency > 0:
		return errors.New("--max-latency: say with --latency FILE in which table (ctnas latency measure makes one)")
	case c.Latency == "" && c.ParetoCost == space.CostLatency:
		return errors.New("--pareto-cost latency: say with --latency FILE in which table (ctnas latency measure " +
			"makes one)")
	case c.Validation > 0 && (c.Preset != PresetReleased || c.Validation > c.Budget-MinimumInitial):
		return fmt.Errorf("--validation %d: only with --preset %s, and within the budget", c.Validation, PresetReleased)
	case c.Method == ReleasedName && c.Preset != PresetReleased:
		return fmt.Errorf("--method %s --preset %s: its settings are those of --preset %s", c.Method, c.Preset,
			PresetReleased)
	}
	return nil
}

// Comparator is the network and its training in every round, for the space that c.Space names. The methods that ctnas
// is compared with use it too.
func (c Config) Comparator(sp space.Space) (gcn.Config, error) {
	g, err := Comparator(c.Preset, sp)
	if err != nil {
		return gcn.Config{}, err
	}
	g.Members, g.Steps, g.Folds = c.Members, c.Steps, 0 // how sure to be would cost a search as much again, every round
	if c.Preset == PresetDefault && space.EncoderOf(sp).Walks {
		// Trained anew every round: the rank command's width costs twice as much and finds the same.
		g.Width, g.HeadWidth = 64, 64
	}
	g.Warmup = min(g.Warmup, c.Steps/10)
	if c.Preset == PresetPaper {
		g.Pair = false // pseudo-labelled pairs need an antisymmetric head
	}
	return g, nil
}

// Policy is the controller's settings.
func (c Config) Policy() controller.Config {
	p := controller.Default()
	if c.Preset == PresetReleased {
		p = controller.Released()
	}
	p.Batch, p.LR, p.Seed = c.Batch, c.ControllerLR, c.Seed
	return p
}

// Identity is a fingerprint of everything in the settings that the result depends on, but for the budgets.
func (c Config) Identity(sp space.Space) (string, error) {
	g, err := c.Comparator(sp)
	if err != nil {
		return "", err
	}
	c.Budget, c.Before = 0, nil
	text, err := json.Marshal(struct {
		Config     Config
		Comparator gcn.Config
		Controller controller.Config
	}{c, g, c.Policy()})
	if err != nil {
		return "", err
	}
	return digest.Of(text), nil
}

// MaxConfigBytes bounds what is read of a config.yaml.
const MaxConfigBytes = 1 << 20

// ParseConfig reads a config.yaml. Keys that are no setting of a search are left to whoever wrote them.
func ParseConfig(text []byte) (Config, error) {
	if len(text) > MaxConfigBytes {
		return Config{}, fmt.Errorf("larger than %d bytes", MaxConfigBytes)
	}
	var top struct {
		Preset string `yaml:"preset"`
	}
	if err := yaml.Unmarshal(text, &top); err != nil {
		return Config{}, err
	}
	if top.Preset == "" {
		top.Preset = PresetDefault
	}
	c, err := Preset(top.Preset)
	if err != nil {
		return Config{}, err
	}
	if err := c.Settings().ReadConfig(text); err != nil {
		return Config{}, err
	}
	return c, c.Check()
}

// ConfigName is the file of a run folder that holds its settings.
const ConfigName = report.ConfigName

// LoadConfig returns the settings of a run folder.
func LoadConfig(dir string) (c Config, err error) {
	path := filepath.Join(dir, ConfigName)
	text, err := files.ReadText(path, MaxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%s is not the folder of a search: it has no %s", dir, ConfigName)
	} else if err != nil {
		return c, err
	}
	var kept struct {
		Budget *yaml.Node `yaml:"budget"`
	}
	if yaml.Unmarshal(text, &kept) == nil && kept.Budget == nil { // a training's
		return c, fmt.Errorf("%s is not the folder of a search: its %s names no budget of labels", dir, ConfigName)
	}
	if c, err = ParseConfig(text); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}
