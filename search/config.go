package search

import (
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
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Values of Config.
const (
	MethodName = "ctnas" // the search method that is meant where none is named

	ProposeController  = "controller" // candidates are what the controller samples and neighbours of what is labelled
	ProposeSpace       = "space"      // candidates are what the comparator ranks best in the enumerated space; no controller
	ProposeAuto        = "auto"       // both; the controller alone where the space cannot be listed
	RewardComparison   = "comparison" // the probability of beating the baseline
	RewardAbsolute     = "absolute"   // the predicted performance itself (ablation)
	BaselineCurriculum = "curriculum" // the baseline is replaced by better ones
	BaselineFixed      = "fixed"      // it stays the first one (ablation)
	PresetDefault      = "default"
	PresetPaper        = "paper"    // the paper's comparator; all labels but the final candidate's at random, at once
	PresetReleased     = "released" // the released code's schedule and networks, see released.go
	ReleasedName       = "released" // the method of PresetReleased
	MinimumInitial     = 2          // labels that a search begins with at least
)

// Config holds all settings of a search. Its YAML names are the flags of `ctnas search`.
type Config struct {
	// Method is the search method that these settings are of.
	Method string `yaml:"method" json:"method"`
	Space  string `yaml:"space" json:"space"`
	Labels string `yaml:"labels" json:"-"` // where labels come from, in words; what they are is part of the checkpoint
	Budget int    `yaml:"budget" json:"budget"`
	// Before are the budgets that the run had before it was given more, in their order; Budget is the last one. A
	// search spends each as if it were all, then goes on.
	Before    []int  `yaml:"budgets-before,flow,omitempty" json:"-"`
	Seed      uint64 `yaml:"seed" json:"seed"`
	Preset    string `yaml:"preset" json:"preset"`
	Propose   string `yaml:"propose" json:"propose"`
	MaxMAdds  int64  `yaml:"max-madds" json:"max_madds"`   // 0: no limit
	MaxParams int64  `yaml:"max-params" json:"max_params"` // 0: no limit
	// Latency is the file of a table of latencies, in which --max-latency and --pareto-cost latency look; empty: none. What it holds is part of the checkpoint.
	Latency    string  `yaml:"latency" json:"-"`
	MaxLatency float64 `yaml:"max-latency" json:"max_latency,omitempty"` // milliseconds; 0: no limit
	Pareto     bool    `yaml:"pareto" json:"pareto,omitempty"`           // candidates are the best at any cost, not the best of all
	ParetoCost string  `yaml:"pareto-cost" json:"pareto_cost"`           // madds, params or latency: what fronts are of beside accuracy

	// How labels are spent.
	Init            int     `yaml:"init" json:"init"`                         // random architectures labelled first; at most the budget
	PerRound        int     `yaml:"per-round" json:"per_round"`               // labels a round after that
	Thompson        float64 `yaml:"thompson" json:"thompson"`                 // share of a round that single members of the ensemble choose, for exploration
	Spread          float64 `yaml:"spread" json:"spread,omitempty"`           // share of an architecture's decisions in which a round's candidates differ at first; at the end of the budget 0
	ControllerShare float64 `yaml:"controller-share" json:"controller_share"` // with auto: share of a round that comes from the controller
	Pool            int     `yaml:"pool" json:"pool"`                         // architectures sampled from the controller as candidates
	Mutations       int     `yaml:"mutations" json:"mutations"`               // neighbours of the best labelled ones among the controller's candidates
	// Generations of an evolution that starts from the candidates and costs no labels: the comparator judges; 0: none.
	Generations int `yaml:"generations" json:"generations,omitempty"`

	// The comparator; its network is the preset's.
	Members int `yaml:"members" json:"members"` // networks of the ensemble
	Steps   int `yaml:"steps" json:"steps"`     // updates of each, every round

	// The controller.
	Iterations      int     `yaml:"iterations" json:"iterations"` // updates a round
	Batch           int     `yaml:"batch" json:"batch"`           // architectures an update
	ControllerLR    float64 `yaml:"controller-lr" json:"controller_lr"`
	Reward          string  `yaml:"reward" json:"reward"`
	Baseline        string  `yaml:"baseline" json:"baseline"`
	BaselineEvery   int     `yaml:"baseline-every" json:"baseline_every"`     // updates between new baselines
	BaselineSamples int     `yaml:"baseline-samples" json:"baseline_samples"` // fresh samples that compete with the past baselines

	// Data exploration (paper section 3.4): the controller's samples, compared in pairs, whose most confident comparisons join the
	// comparator's training data.
	Explore       bool    `yaml:"explore" json:"explore"`
	ExploreEvery  int     `yaml:"explore-every" json:"explore_every"`   // updates of the controller between explorations
	ExplorePairs  int     `yaml:"explore-pairs" json:"explore_pairs"`   // pairs kept of twice as many, half of each class
	ExplorePool   int     `yaml:"explore-pool" json:"explore_pool"`     // pairs kept in all, the newest
	ExploreAge    int     `yaml:"explore-age" json:"explore_age"`       // rounds after which a pair is dropped
	ExploreWeight float64 `yaml:"explore-weight" json:"explore_weight"` // of a pseudo-labelled pair's loss beside the labelled pairs' mean

	Validation      int `yaml:"validation" json:"validation"` // with preset released: labels that only measure tau
	CheckpointEvery int `yaml:"checkpoint-every" json:"-"`    // updates of the controller between checkpoints

	// How labels are made that are trained for; nothing depends on it.
	LabelWorkers int    `yaml:"label-workers" json:"-"` // candidates trained at once; 0: as the source sees fit
	LabelRetries int    `yaml:"label-retries" json:"-"` // how often a failed training is tried again
	LabelCache   string `yaml:"label-cache" json:"-"`   // folder of trainings that have been done; empty: the user's
}

// Preset returns a named configuration for NAS-Bench-101 without labels; For turns it to another space.
func Preset(name string) (Config, error) {
	c := Config{
		Method: MethodName, Space: "nasbench101", Budget: 423, Seed: 1, Preset: name, Propose: ProposeAuto,
		Init: 60, PerRound: 40, Thompson: 0.3, ControllerShare: 0.2, Pool: 2000, Mutations: 500,
		Members: 4, Steps: 150,
		Iterations: 150, Batch: 64, ControllerLR: controller.Default().LR,
		Reward: RewardComparison, Baseline: BaselineCurriculum, BaselineEvery: 50, BaselineSamples: 10,
		Explore: true, ExploreEvery: 50, ExplorePairs: 64, ExplorePool: 256, ExploreAge: 2, ExploreWeight: 0.1,
		CheckpointEvery: 100, LabelRetries: 2, ParetoCost: space.CostMAdds,
	}
	switch name {
	case PresetDefault:
	case PresetPaper:
		c.Budget, c.Propose, c.Init, c.PerRound, c.Thompson, c.Mutations, c.Members, c.Steps = 424, ProposeController, 423, 1, 0, 0, 1, 1000
		c.Iterations, c.BaselineEvery = 1000, 100
	case PresetReleased:
		c.releasedSchedule()
	default:
		return Config{}, fmt.Errorf("unknown preset %q: %s, %s or %s", name, PresetDefault, PresetPaper, PresetReleased)
	}
	return c, nil
}

// releasedSchedule is the schedule of the code released with the paper: 423 random labels; 1,000 epochs of its comparator on pairs of
// shuffled batches; then 10,000 iterations of the controller with one sample each and the bare probability as reward. Every 100
// iterations the most probable half of 200 pairs (the first time of 512) join a pool that only grows, and the comparator trains for an
// epoch with as many of them as of labelled pairs. Every 500 the baseline becomes the best of 10 samples and the best so far. One label
// more is for the result: the last baseline.
func (c *Config) releasedSchedule() {
	c.Budget, c.Propose, c.Init, c.PerRound, c.Thompson, c.ControllerShare, c.Pool, c.Mutations = 424, ProposeController, 423, 1, 0, 0, 1000, 0
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
	c.Steps, c.Members, c.Generations, c.Spread = gcn.Positional().Steps, 2, 80, 0.3
	c.Init, c.PerRound = 40, 20 // what a comparator is wrong about in a large space shows when it is asked for its favourites
}

// Comparator is a preset's comparator for a space.
func Comparator(preset string, sp space.Space) (gcn.Config, error) {
	c, err := gcn.Preset(preset)
	if err == nil && preset == PresetDefault && space.IsPositional(sp) {
		c = gcn.Positional()
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

// Limits are what --max-madds, --max-params and --max-latency allow; times may be nil where there is no limit on the latency.
func (c Config) Limits(times *space.Times) space.Limits {
	return space.Limits{MAdds: c.MaxMAdds, Params: c.MaxParams, Latency: space.Nanoseconds(c.MaxLatency), Times: times}
}

// Check tells what is wrong with the settings, by the names of their flags.
func (c Config) Check() error {
	least := func(flag string, value, least int) error {
		if value < least || value > 1<<24 {
			return fmt.Errorf("--%s %d: want %d..%d", flag, value, least, 1<<24)
		}
		return nil
	}
	share := func(flag string, value float64) error {
		if !(value >= 0 && value <= 1) {
			return fmt.Errorf("--%s %g: want 0..1", flag, value)
		}
		return nil
	}
	oneOf := func(flag, value string, allowed ...string) error {
		for _, a := range allowed {
			if a == value {
				return nil
			}
		}
		return fmt.Errorf("--%s %q: want one of %v", flag, value, allowed)
	}
	for _, err := range []error{
		oneOf("preset", c.Preset, PresetDefault, PresetPaper, PresetReleased),
		oneOf("propose", c.Propose, ProposeController, ProposeSpace, ProposeAuto),
		oneOf("reward", c.Reward, RewardComparison, RewardAbsolute),
		oneOf("baseline", c.Baseline, BaselineCurriculum, BaselineFixed), oneOf("pareto-cost", c.ParetoCost, space.Costs...),
		least("budget", c.Budget, MinimumInitial), least("init", c.Init, MinimumInitial), least("per-round", c.PerRound, 1),
		share("thompson", c.Thompson), share("spread", c.Spread), share("controller-share", c.ControllerShare), least("pool", c.Pool, 1), least("mutations", c.Mutations, 0), least("generations", c.Generations, 0),
		least("members", c.Members, 1), least("steps", c.Steps, 1), least("iterations", c.Iterations, 0), least("batch", c.Batch, 1),
		least("baseline-every", c.BaselineEvery, 1), least("baseline-samples", c.BaselineSamples, 1),
		least("explore-every", c.ExploreEvery, 1), least("explore-pairs", c.ExplorePairs, 2), least("explore-pool", c.ExplorePool, 1),
		least("explore-age", c.ExploreAge, 0), least("validation", c.Validation, 0), least("checkpoint-every", c.CheckpointEvery, 1),
	} {
		if err != nil {
			return err
		}
	}
	for i, b := range c.Budgets()[:len(c.Before)] {
		if b < MinimumInitial || b >= c.Budgets()[i+1] {
			return fmt.Errorf("--budgets-before %v --budget %d: want ever larger ones, from %d on", c.Before, c.Budget, MinimumInitial)
		}
	}
	switch {
	case c.MaxMAdds < 0 || c.MaxParams < 0:
		return fmt.Errorf("--max-madds %d, --max-params %d: want 0 (no limit) or more", c.MaxMAdds, c.MaxParams)
	case !(c.MaxLatency >= 0 && c.MaxLatency <= space.MaxMilliseconds):
		return fmt.Errorf("--max-latency %g: want milliseconds, 0 (no limit) to %g", c.MaxLatency, space.MaxMilliseconds)
	case c.Latency == "" && c.MaxLatency > 0:
		return errors.New("--max-latency: say with --latency FILE in which table (ctnas latency measure makes one)")
	case c.Latency == "" && c.ParetoCost == space.CostLatency:
		return errors.New("--pareto-cost latency: say with --latency FILE in which table (ctnas latency measure makes one)")
	case !(c.ControllerLR > 0):
		return fmt.Errorf("--controller-lr %g: want more than 0", c.ControllerLR)
	case c.Validation > 0 && (c.Preset != PresetReleased || c.Validation > c.Budget-MinimumInitial):
		return fmt.Errorf("--validation %d: only with --preset %s, and within the budget", c.Validation, PresetReleased)
	case !(c.ExploreWeight >= 0):
		return fmt.Errorf("--explore-weight %g: want 0 or more", c.ExploreWeight)
	case c.Method == ReleasedName && c.Preset != PresetReleased:
		return fmt.Errorf("--method %s --preset %s: its settings are those of --preset %s", c.Method, c.Preset, PresetReleased)
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
	g.Members, g.Steps = c.Members, c.Steps
	if c.Preset == PresetDefault && !space.IsPositional(sp) {
		g.Width, g.HeadWidth = 64, 64 // trained anew every round: the rank command's width costs twice as much and finds the same
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

// runKey is the block of config.yaml that --config ignores.
const runKey = "run"

// YAML is the config.yaml of a run: every setting, and facts about this run (version, commit, device, ISA, data set checksum, output
// folder), a struct or map that YAML can hold.
func (c Config) YAML(run any) ([]byte, error) {
	var doc yaml.Node
	if err := doc.Encode(c); err != nil {
		return nil, err
	}
	if run != nil {
		var key, block yaml.Node
		if err := key.Encode(runKey); err != nil {
			return nil, err
		}
		if err := block.Encode(run); err != nil {
			return nil, err
		}
		doc.Content = append(doc.Content, &key, &block)
	}
	return yaml.Marshal(&doc)
}

// MaxConfigBytes bounds what is read of a config.yaml.
const MaxConfigBytes = 1 << 20

// ParseConfig reads what YAML wrote. Keys that are no setting of a search are left to whoever wrote them.
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
	if err := yaml.Unmarshal(text, &c); err != nil {
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
	if c, err = ParseConfig(text); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}
