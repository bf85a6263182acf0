package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Config holds all settings of a search. Settings says what each is; its names are the flags of `ctnas search` and the
// keys of config.yaml. What has no name in JSON is no part of what results depend on.
type Config struct {
	Target
	Bounds
	Rounds
	Ensemble
	Control
	Exploration
	Watch
	Making
	SharedWeights
}

// Target is what is searched, how, and with how many labels.
type Target struct {
	Method string `json:"method"` // the search method that these settings are of
	Space  string `json:"space"`
	Labels string `json:"-"` // what they are is part of the checkpoint
	// What labels measure; the zero one is accuracy.
	Metric ledger.Metric `json:"metric,omitzero"`
	Budget int           `json:"budget"`
	// Before are the budgets that the run had before it was given more, in their order; Budget is the last one. A
	// search spends each as if it were all, then goes on.
	Before  []int  `json:"-"`
	Seed    uint64 `json:"seed"`
	Preset  string `json:"preset"`
	Propose string `json:"propose"`
}

// Bounds are what architectures may cost, and whether the best are looked for at every cost.
type Bounds struct {
	MaxMAdds   int64   `json:"max_madds"`
	MaxParams  int64   `json:"max_params"`
	Latency    string  `json:"-"` // file of a table; what it holds is part of the checkpoint
	MaxLatency float64 `json:"max_latency,omitempty"`
	// Of metrics that are measured with labels, each as ledger.ParseBound reads it.
	Max        []string `json:"max,omitempty"`
	Pareto     bool     `json:"pareto,omitempty"`
	ParetoCost string   `json:"pareto_cost"`
}

// Rounds is how labels are spent.
type Rounds struct {
	Init            int     `json:"init"`
	Preselect       int     `json:"preselect,omitempty"`
	PerRound        int     `json:"per_round"`
	Lag             int     `json:"lag,omitempty"`
	Thompson        float64 `json:"thompson"`
	Spread          float64 `json:"spread,omitempty"`
	ControllerShare float64 `json:"controller_share"`
	Pool            int     `json:"pool"`
	Mutations       int     `json:"mutations"`
	Generations     int     `json:"generations,omitempty"`
}

// Ensemble is the comparator; its network is the preset's.
type Ensemble struct {
	Members int `json:"members"`
	Steps   int `json:"steps"`
}

// Control is the controller, which is rewarded for beating a baseline.
type Control struct {
	Iterations      int     `json:"iterations"`
	Batch           int     `json:"batch"`
	ControllerLR    float64 `json:"controller_lr"`
	Reward          string  `json:"reward"`
	Baseline        string  `json:"baseline"`
	BaselineEvery   int     `json:"baseline_every"`
	BaselineSamples int     `json:"baseline_samples"`
}

// Exploration is data exploration (paper, section 3.4): the controller's samples are compared in pairs, and the most
// confident comparisons join the comparator's training data.
type Exploration struct {
	Explore       bool    `json:"explore"`
	ExploreEvery  int     `json:"explore_every"`
	ExplorePairs  int     `json:"explore_pairs"` // of twice as many, half of each class
	ExplorePool   int     `json:"explore_pool"`
	ExploreAge    int     `json:"explore_age"`
	ExploreWeight float64 `json:"explore_weight"`
}

// Watch is how a search is measured and saved.
type Watch struct {
	Validation      int `json:"validation"`
	CheckpointEvery int `json:"-"`
}

// Making is how labels are made that are trained for. They do not depend on it.
type Making struct {
	LabelWorkers int    `json:"-"`
	LabelRetries int    `json:"-"`
	LabelCache   string `json:"-"`
}

// most is more than any of the numbers of a search needs to be.
const most = 1 << 24

// Settings are all of them, in the order of config.yaml.
func (c *Config) Settings() *setting.List {
	l := setting.New()
	c.Target.addTo(l)
	c.Bounds.AddTo(l)
	c.Rounds.addTo(l)
	c.Ensemble.addTo(l)
	c.Control.addTo(l)
	c.Exploration.addTo(l)
	c.Watch.addTo(l)
	c.Making.AddTo(l)
	c.SharedWeights.AddTo(l)
	return l
}

func (s *Target) addTo(l *setting.List) {
	l.Group("Search")
	l.Text(&s.Method, "method", "how to search; what the settings say of rounds and controller is ctnas's").MayRepeat()
	SpaceSetting(l, &s.Space)
	LabelsSetting(l, &s.Labels)
	MetricSetting(l, &s.Metric)
	l.Int(&s.Budget, "budget", "labels", "labels to spend", MinimumInitial, most).MayChange().From("paper, table 1")
	l.Ints(&s.Before, "budgets-before", "labels",
		"budgets that the run had before it was given more, to repeat it: each is spent as if it were all",
		MinimumInitial, most)
	l.Uint64(&s.Seed, "seed", "", "seed of all random numbers").Shared()
	PresetSetting(l, &s.Preset, "settings to start from, which other flags change")
	l.Text(&s.Propose, "propose", "who proposes candidates: the controller, the space (ranks all of it, where it can "+
		"be listed) or both").
		OneOf(ProposeController, ProposeSpace, ProposeAuto).From("paper, algorithm 1 (controller)")
}

// SpaceSetting adds the space that is searched.
func SpaceSetting(l *setting.List, p *string) *setting.Setting {
	return l.Text(p, "space", "search `space`").Path(space.Absolute)
}

// LabelsSetting adds where labels come from.
func LabelsSetting(l *setting.List, p *string) *setting.Setting {
	return l.Text(p, "labels", "where accuracies come from: "+labels.Usage()).Path(labels.Absolute).MayChange()
}

// MetricSetting adds what labels measure.
func MetricSetting(l *setting.List, p *ledger.Metric) *setting.Setting {
	return l.Value(p, p, "metric", "", "what labels measure where that is no accuracy: its `name`, which a table has "+
		"as a column, and what is better, as perplexity:minimize or throughput:maximize:images/s with its unit; in a "+
		"file {name: perplexity, direction: minimize}").Check(func() error {
		if err := p.Check(); err != nil {
			return fmt.Errorf("metric %w", err)
		}
		return nil
	}).OmitZero()
}

// JudgeSetting adds the table that judges what is picked by labels which are no table's.
func JudgeSetting(l *setting.List, p *string) *setting.Setting {
	return l.Text(p, "judge", "the `table`, table:FILE, that judges picks of labels which are made; no search sees it "+
		"(empty = labels judge)").Path(labels.Absolute).MayChange()
}

// PresetSetting adds the name of a preset.
func PresetSetting(l *setting.List, p *string, meaning string) *setting.Setting {
	return l.Text(p, "preset", meaning).OneOf(PresetDefault, PresetPaper, PresetReleased)
}

// AddTo adds limits and fronts.
func (s *Bounds) AddTo(l *setting.List) {
	l.Group("Limits and fronts")
	s.AddLimits(l)
	l.Bool(&s.Pareto, "pareto", "look for the best at every cost instead of the best of all")
	l.Texts(&s.Max, "max", "the most, a `bound`, that a metric may be which is measured with labels, as "+
		"'latency_ms<=15'; several may be given").Check(func() error {
		_, err := s.Measured()
		return err
	}).OmitZero()
	l.Text(&s.ParetoCost, "pareto-cost", "the cost that fronts are of beside what labels measure: madds, params, "+
		"latency of the table, or a metric that is measured with labels, of which less is better")
}

// Measured are the bounds of what is measured with labels.
func (s *Bounds) Measured() ([]ledger.Bound, error) {
	var list []ledger.Bound
	for _, text := range s.Max {
		if name, _, _ := strings.Cut(text, "<="); slices.Contains(space.Costs, strings.TrimSpace(name)) {
			return nil, fmt.Errorf("max %q: what is known without a label has a flag of its own: --max-%s", text,
				strings.TrimSpace(name))
		}
		b, err := ledger.ParseBound(text)
		if err != nil {
			return nil, fmt.Errorf("max %w", err)
		}
		list = append(list, b)
	}
	return list, nil
}

// Measures are the metrics that labels must say beside their own: those of bounds and of the front. s must have been
// checked.
func (s *Bounds) Measures(own ledger.Metric) []string {
	var names []string
	bounds, _ := s.Measured() // it was checked
	for _, b := range bounds {
		names = append(names, b.Name)
	}
	if !slices.Contains(space.Costs, s.ParetoCost) {
		names = append(names, s.ParetoCost)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return name == cmp.Or(own.Name, "accuracy")
	})
}

// CheckFront tells what is wrong with what fronts are of.
func (s *Bounds) CheckFront() error {
	switch {
	case slices.Contains(space.Costs, s.ParetoCost):
		return nil
	case ledger.CheckName(s.ParetoCost) != nil:
		return fmt.Errorf("--pareto-cost %q: want %s or the name of a metric", s.ParetoCost,
			strings.Join(space.Costs, ", "))
	case s.Pareto:
		return fmt.Errorf("--pareto --pareto-cost %s: labels are spent along the front of a cost that is known "+
			"without them, %s; without --pareto the result has the front", s.ParetoCost,
			strings.Join(space.Costs, ", "))
	}
	return nil
}

// AddLimits adds what architectures may cost.
func (s *Bounds) AddLimits(l *setting.List) {
	l.Size(&s.MaxMAdds, "max-madds", "multiply-adds", "no architecture with more multiply-adds than this, as 482M "+
		"(0 = no limit)")
	l.Size(&s.MaxParams, "max-params", "parameters", "no architecture with more parameters than this, as 9M "+
		"(0 = no limit)")
	l.Text(&s.Latency, "latency",
		"`file` of a table of latencies, which ctnas latency measure makes: results have them, and "+
			"--max-latency looks there").
		Path(files.Absolute)
	l.Milliseconds(&s.MaxLatency, "max-latency",
		"no architecture with a higher latency in the table than this `time`, as 12ms or 12 (0 = no limit)",
		space.MaxMilliseconds)
}

func (s *Rounds) addTo(l *setting.List) {
	l.Group("Rounds of labels")
	l.Int(&s.Init, "init", "labels", "labels bought first (0 = two fifths of the budget, at most 60; where operations "+
		"say where they stand a fifth, at most 40)", 0, most).Check(func() error {
		if s.Init > 0 && s.Init < MinimumInitial {
			return fmt.Errorf("init %d: want 0, or %d or more", s.Init, MinimumInitial)
		}
		return nil
	})
	l.Int(&s.Preselect, "preselect", "architectures", "every other of the first labels is that of the most promising "+
		"of so many random architectures, by what the space says of networks at initialisation, at most a "+
		"hundredth of what may be labelled (0 or 1: of a random one)", 0, most)
	l.Int(&s.PerRound, "per-round", "labels", "labels a round after that (0 = a tenth of the budget, at most 40; "+
		"where operations say where they stand at most 20)", 0, most)
	l.Int(&s.Lag, "lag", "rounds", "rounds whose labels may be in the making while the next one is decided: what "+
		"makes labels idles less, and decisions rest on fewer", 0, most)
	l.Float(&s.Thompson, "thompson", "", "share of a round that single members of the ensemble choose, for exploration",
		0, 1).
		From("Thompson 1933")
	l.Float(&s.Spread, "spread", "", "share of an architecture's decisions in which a round's candidates "+
		"differ at first, "+
		"in spaces that cannot be listed; it falls to 0", 0, 1)
	l.Float(&s.ControllerShare, "controller-share", "", "with --propose auto: share of a round that comes from the "+
		"controller", 0, 1)
	l.Int(&s.Pool, "pool", "architectures", "architectures sampled from the controller as candidates", 1, most)
	l.Int(&s.Mutations, "mutations", "architectures", "neighbours of the best labelled ones among the candidates", 0,
		most)
	l.Int(&s.Generations, "generations", "generations", "generations of an evolution among the candidates "+
		"that the comparator judges, without labels", 0, most)
}

func (s *Ensemble) addTo(l *setting.List) {
	l.Group("Comparator")
	l.Int(&s.Members, "members", "networks", "networks of the comparator's ensemble", 1, most)
	l.Int(&s.Steps, "steps", "updates", "updates of each of them, every round", 1, most)
}

func (s *Control) addTo(l *setting.List) {
	l.Group("Controller")
	l.Int(&s.Iterations, "iterations", "updates", "updates of the controller, every round", 0, most)
	l.Int(&s.Batch, "batch", "architectures", "architectures an update of the controller", 1, most)
	l.Float(&s.ControllerLR, "controller-lr", "", "learning rate of the controller", 1e-30, 1e3)
	l.Text(&s.Reward, "reward", "what the controller is rewarded for: beating the baseline, or the predicted "+
		"performance itself").
		OneOf(RewardComparison, RewardAbsolute).From("paper, section 3.3")
	l.Text(&s.Baseline, "baseline", "ever better ones, or the first one to the end").
		OneOf(BaselineCurriculum, BaselineFixed).From("paper, section 3.3")
	l.Int(&s.BaselineEvery, "baseline-every", "updates", "updates of the controller between new baselines", 1, most).
		From("paper, algorithm 1")
	l.Int(&s.BaselineSamples, "baseline-samples", "architectures", "fresh samples that compete with the past baselines",
		1, most).
		From("paper, section 3.3")
}

func (s *Exploration) addTo(l *setting.List) {
	const section = "paper, section 3.4"
	l.Group("Data exploration")
	l.Bool(&s.Explore, "explore", "learn from confident comparisons of unlabelled architectures").From(section)
	l.Int(&s.ExploreEvery, "explore-every", "updates", "updates of the controller between explorations", 1, most)
	l.Int(&s.ExplorePairs, "explore-pairs", "pairs", "pairs kept of an exploration, of twice as many", 2,
		most).From(section)
	l.Int(&s.ExplorePool, "explore-pool", "pairs", "pairs kept in all, the newest", 1, most)
	l.Int(&s.ExploreAge, "explore-age", "rounds", "rounds after which a pair is dropped", 0, most)
	l.Float(&s.ExploreWeight, "explore-weight", "", "weight of such pairs beside the labelled ones' mean", 0,
		math.MaxFloat32).
		From(section)
}

func (s *Watch) addTo(l *setting.List) {
	l.Group("Measuring and saving")
	l.Int(&s.Validation, "validation", "labels", "with --preset released: labels that only measure tau", 0, most)
	l.Int(&s.CheckpointEvery, "checkpoint-every", "updates", "updates of the controller between checkpoints", 1, most).
		MayChange()
}

// AddTo adds how labels are made.
func (s *Making) AddTo(l *setting.List) {
	l.Group("Making labels by training")
	l.Int(&s.LabelWorkers, "label-workers", "candidates", "candidates trained at once, which share the threads "+
		"(0 = one a thread, at most 8); labels do not depend on it", 0, most).MayChange().AtOnce(4)
	l.Int(&s.LabelRetries, "label-retries", "", "how often a candidate whose training failed is tried again", 0,
		most).MayChange()
	l.Text(&s.LabelCache, "label-cache", "`folder` of trainings that have been done, which several runs may share "+
		"(default: in the user's cache folder)").Path(files.Absolute).MayChange()
}

// DefaultMaking is how a command makes labels that has no other settings of a search.
func DefaultMaking() Making { return Making{LabelRetries: 2} }
