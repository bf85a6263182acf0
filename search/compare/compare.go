// Package compare runs search methods side by side with the same number of labels, summarises what they found, and asks
// how well a comparator ranks what it has no label of; with the numbers of the paper's own table.
package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Field is where methods are compared.
type Field struct {
	Space space.Space
	Pool  *catalogue.Catalogue // what may be labelled; nil where it is not listed
	// One for each run; of a ledger.Judge what judges stays sealed while the method runs.
	Source   func() (ledger.Source, error)
	Identity string // what labels are, with a checksum

	all *table.View // knows what judges every architecture; nil: nobody does
	// Runs may ask side by side.
	parallel bool
}

// OnTable compares methods on a table; the query says which accuracy chooses and which one judges.
func OnTable(t *table.Table, q table.Query) (Field, error) {
	all, err := t.View(q)
	if err != nil {
		return Field{}, err
	}
	all.Unseal()
	source := func() (ledger.Source, error) {
		view, err := t.View(q)
		return ledger.FromTable(view), err
	}
	return Field{t.Space(), catalogue.Of(all), source, t.Checksum() + " " + all.Describe(), all, true}, nil
}

// judge returns the accuracy that judges what a method picked, not a number where nobody knows it, and its rank; nil
// where there are none.
func (f Field) judge(source ledger.Source, pick ledger.Label) (accuracy stat.Number, rank *int, err error) {
	judge, ok := source.(ledger.Judge)
	switch {
	case f.all != nil:
		judge = ledger.FromTable(f.all) // its ranking is shared
	case !ok:
		return stat.Number(pick.Value), nil, nil // what is seen is all there is
	default:
		judge.Unseal()
	}
	value, place, err := judge.Judge(pick.Arch)
	if errors.Is(err, ledger.ErrNoLabel) { // a training that was stopped or diverged has no test accuracy
		return stat.Number(math.NaN()), nil, nil
	} else if err != nil {
		return 0, nil, err
	}
	if place > 0 {
		rank = &place
	}
	return stat.Number(value), rank, nil
}

// steps judges the labels that were the best so far, once the search has ended.
func (f Field) steps(source ledger.Source, labels []ledger.Label) (list []Step, err error) {
	best := math.Inf(-1)
	for i, l := range labels {
		if !(l.Value > best) {
			continue
		}
		best = l.Value
		s := Step{Labels: i + 1, Arch: l.Arch.String(), Seen: l.Value}
		if s.Accuracy, s.Rank, err = f.judge(source, l); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// Optimum is the greatest accuracy that judges anything of the field, 0..1; nil where nobody judges all.
func (f Field) Optimum() (*float64, error) {
	if f.all == nil {
		return nil, nil
	}
	_, best, err := f.all.Best()
	if err != nil || math.IsNaN(best) {
		return nil, err
	}
	return &best, nil
}

// Comparison runs methods side by side, each with the same number of labels, once a seed.
type Comparison struct {
	Field   Field
	Methods []Variant
	Seed    uint64
	Seeds   int // Seed, Seed+1, ...
	Device  exec.Config
	Latency *latency.Model // what the settings name; nil: nothing
	Version string         // of the program: another one's runs are not taken from the cache
	// Jobs is how many runs go on at a time, each with its part of the threads; 0: one. More than one needs labels of a
	// table, and methods that ask for labels.
	Jobs int
	// Cache is a folder where every finished run is kept, so that a comparison that was stopped goes on where it was;
	// empty for none.
	Cache string

	// Called by several runs where several go on; may be nil.
	Progress func(name string, seed uint64, labels int, best float64)
	// Called after every run, kept ones included, one at a time; may be nil.
	Done func(Run)
	// Supernets are how methods that ask for no labels come to them. Such a run has a folder of its own in the cache,
	// in which a training that was stopped goes on.
	Supernets run.Supernets
	Program   run.Program // of those folders' config.yaml; Version is the comparison's
	Stale     func(dir string, from *files.Holder)
	// Stage is told how far a run without labels is; may be nil.
	Stage func(name string, seed uint64, p run.Progress)
}

// Variant is a method with settings under a name: the name tells two settings of one method apart.
type Variant struct {
	Name   string
	Config search.Config // its seed is the comparison's
	Method run.Method    // nil: the registered one that the settings name
}

// Curriculum says how good the architectures are that a controller samples: the mean over samples of their true
// percentile, 0 is the best of the table and 100 the worst. The search never sees it. Samples that the table does not
// have are left out; of none the mean is null.
type Curriculum struct {
	Start        *float64 `json:"start"`
	End          *float64 `json:"end"`
	StartSamples int      `json:"start_samples"` // that the mean rests on
	EndSamples   int      `json:"end_samples"`
}

// Run is what one method did with one seed.
type Run struct {
	Method    string      `json:"method"`
	Seed      uint64      `json:"seed"`
	Labels    int         `json:"labels"`
	Queries   *int        `json:"queries"` // the same; null of a method that asks for none
	Seconds   float64     `json:"seconds"` // of the search, its judging left out
	Arch      string      `json:"arch"`
	Hash      string      `json:"hash"`
	Seen      float64     `json:"seen"`     // accuracy that the method saw, 0..1
	Accuracy  stat.Number `json:"accuracy"` // that judges, 0..1; null where nobody knows it
	LatencyMS *float64    `json:"latency_ms,omitempty"`
	// Rank is 1 + the number of better architectures in the table; null: not known.
	Rank     *int `json:"rank"`
	TauBOver int  `json:"tau_b_over,omitempty"` // how many architectures TauB rests on
	// TauB is of the method's last predictor, over all architectures without a label, or of shared weights, over an
	// unselected sample; null without one, or where they cannot be judged. TauBParams is that of the parameter count
	// over the same architectures, PoolTauB that of the architectures which a supernet itself selected.
	TauB       *float64    `json:"tau_b"`
	TauBParams *float64    `json:"tau_b_params"`
	PoolTauB   *float64    `json:"pool_tau_b,omitempty"`
	PoolOver   int         `json:"pool_tau_b_over,omitempty"`
	Curriculum *Curriculum `json:"percentile,omitempty"`
	// Best are the labels that were the best when they came, the first one first; absent of a method that asks for
	// none.
	Best []Step `json:"best_so_far,omitempty"`
	Kept bool   `json:"-"` // read from the cache

	ledger []byte // its lines; nil of a run that was kept
}

// Step is a label that was the best so far when it came.
type Step struct {
	Labels   int         `json:"labels"` // bought by then, this one too
	Arch     string      `json:"arch"`
	Seen     float64     `json:"seen"`     // accuracy that the method saw, 0..1
	Accuracy stat.Number `json:"accuracy"` // that judges, 0..1; null where nobody knows it
	Rank     *int        `json:"rank"`     // 1 + the number of better architectures in the table; null: not known
}

// Check tells what is wrong with a comparison before anything runs.
func (c Comparison) Check() error {
	names := map[string]bool{}
	for _, v := range c.Methods {
		if names[v.Name] {
			return fmt.Errorf("the method %s is listed twice", v.Name)
		}
		names[v.Name] = true
		if v.Config.Budget < 10 {
			return fmt.Errorf("a budget of %d labels: a comparison needs at least 10", v.Config.Budget)
		}
	}
	switch {
	case len(c.Methods) == 0:
		return errors.New("no methods to compare")
	case c.Seeds < 1:
		return fmt.Errorf("%d seeds: want at least 1", c.Seeds)
	case c.Jobs < 0:
		return fmt.Errorf("%d jobs: want at least 1", c.Jobs)
	}
	return nil
}

// CheckJobs tells why runs cannot go on at the same time; Field is set by then.
func (c Comparison) CheckJobs() error {
	if c.Jobs <= 1 {
		return nil
	}
	if !c.Field.parallel {
		return fmt.Errorf("%d jobs: runs go on side by side with labels of a table alone", c.Jobs)
	}
	for _, v := range c.Methods {
		method, err := v.method()
		if err != nil {
			return err
		}
		if run.IsUnlabelled(method) {
			return fmt.Errorf("%d jobs: %s trains a supernet, which takes the whole device", c.Jobs, v.Name)
		}
	}
	return nil
}

func (v Variant) method() (run.Method, error) {
	if v.Method != nil {
		return v.Method, nil
	}
	return run.For(v.Config)
}

// Compare runs all methods with the first seed, then with the second, and so on; several side by side where Jobs says
// so. Each run has the same result whatever runs beside it. When the context ends or a run fails, the runs that have
// finished are returned with the error; they are in the cache.
func Compare(ctx context.Context, c Comparison) ([]Run, error) {
	if err := errors.Join(c.Check(), c.CheckJobs()); err != nil {
		return nil, err
	}
	if c.Field.Pool != nil {
		network, err := c.Methods[0].Config.Comparator(c.Field.Space)
		if err != nil {
			return nil, err
		}
		if err := c.Field.Pool.Prepare(ctx, network); err != nil {
			return nil, err
		}
	}
	jobs := max(1, c.Jobs)
	if jobs > 1 {
		c.Device.Threads = max(1, c.Device.Threads/jobs)
	}
	runs := make([]Run, c.Seeds*len(c.Methods))
	ended := make([]bool, len(runs))
	var told sync.Mutex
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i := range runs {
		v, seed := c.Methods[i%len(c.Methods)], c.Seed+uint64(i/len(c.Methods))
		group.Go(func() error {
			if err := within.Err(); err != nil {
				return err
			}
			one, err := c.cached(within, v, seed)
			if err != nil {
				return fmt.Errorf("%s, seed %d: %w", v.Name, seed, err)
			}
			told.Lock()
			defer told.Unlock()
			runs[i], ended[i] = one, true
			if c.Done != nil {
				c.Done(one)
			}
			return nil
		})
	}
	err := group.Wait()
	var finished []Run
	for i, one := range runs {
		if ended[i] {
			finished = append(finished, one)
		}
	}
	return finished, err
}

// cached takes a run from the cache, or runs it and puts it there.
func (c Comparison) cached(ctx context.Context, v Variant, seed uint64) (Run, error) {
	path, key, err := c.cell(v, seed)
	if err != nil {
		return Run{}, err
	}
	one, found, err := load(path, key)
	if err != nil || found {
		return one, err
	}
	if one, err = c.one(ctx, v, seed); err != nil {
		return Run{}, err
	}
	return one, keep(path, key, one)
}

func (c Comparison) one(ctx context.Context, v Variant, seed uint64) (Run, error) {
	source, err := c.Field.Source()
	if err != nil {
		return Run{}, err
	}
	method, err := v.method()
	if err != nil {
		return Run{}, err
	}
	config := v.Config
	config.Seed = seed
	if c.Field.Pool == nil && config.Propose == search.ProposeSpace { // which nobody can list
		config.Propose = search.ProposeController
	}
	d := run.Deps{Space: c.Field.Space, Source: source, All: c.Field.Pool, Device: c.Device, Latency: c.Latency,
		Program: run.Program{Version: c.Version}}
	if run.IsUnlabelled(method) {
		c.unlabelled(&d, v, seed)
	} else if c.Progress != nil {
		labels := 0
		d.Progress = func(p run.Progress) {
			if p.Labels > labels {
				labels = p.Labels
				c.Progress(v.Name, seed, labels, p.Best)
			}
		}
	}
	found, err := run.With(ctx, method, config, d)
	if err != nil {
		return Run{}, err
	}
	pick, err := c.picked(found)
	if err != nil {
		return Run{}, err
	}
	result := Run{
		Method: v.Name, Seed: seed, Labels: len(found.Ledger), Queries: found.Queries,
		Seconds: found.Seconds - found.Phases[run.PhaseJudge],
		Arch:    found.Pick, Hash: pick.Arch.Hash(), Seen: pick.Value,
		LatencyMS: c.Latency.Known().Milliseconds(pick.Arch),
	}
	if p := found.Controller; p != nil {
		result.Curriculum = &Curriculum{Start: p.First, End: p.Last, StartSamples: p.FirstKnown,
			EndSamples: p.LastKnown}
	}
	if len(found.Ledger) > config.Budget {
		return result, fmt.Errorf("%d labels were bought with a budget of %d", len(found.Ledger), config.Budget)
	}
	if result.Accuracy, result.Rank, err = c.Field.judge(source, pick); err != nil {
		return result, err
	}
	if result.Best, err = c.Field.steps(source, found.Ledger); err != nil {
		return result, err
	}
	if result.ledger, err = ledger.Text(source.Facts(), found.Ledger); err != nil {
		return result, err
	}
	if s := found.Shared; s != nil {
		result.TauB, result.TauBParams, result.TauBOver = s.TauB, s.TauBParams, s.Over
		result.PoolTauB, result.PoolOver = s.PoolTauB, s.PoolOver
	}
	if found.Comparator != nil && c.Field.all != nil {
		if err = c.tau(ctx, found, &result); err != nil {
			return result, err
		}
	}
	return result, nil
}

// unlabelled sets what a run without labels has beside the others: supernets, and a folder where there is one for all.
func (c Comparison) unlabelled(d *run.Deps, v Variant, seed uint64) {
	d.Supernets, d.Program = c.Supernets, c.Program
	d.Program.Version = c.Version
	if c.Cache != "" {
		d.Dir = filepath.Join(c.Cache, cellName(v.Name, seed))
		if c.Stale != nil {
			d.Stale = func(from *files.Holder) { c.Stale(d.Dir, from) }
		}
	}
	d.All = nil // which judges
	if c.Stage != nil {
		d.Progress = func(p run.Progress) { c.Stage(v.Name, seed, p) }
	}
}

// picked is what a search ended in, with what it saw of it.
func (c Comparison) picked(found *run.Result) (ledger.Label, error) {
	if found.Shared == nil {
		i := slices.IndexFunc(found.Ledger, func(l ledger.Label) bool { return l.Arch.String() == found.Pick })
		return found.Ledger[i], nil // the best label
	}
	a, err := c.Field.Space.Parse(found.Pick)
	return ledger.Label{Arch: a, Value: *found.PickAccuracy}, err
}

// tau judges a predictor by all architectures that it has no label of, and the order by parameters beside it.
func (c Comparison) tau(ctx context.Context, found *run.Result, result *Run) error {
	judge, pool := c.Field.all, c.Field.Pool
	scores, err := pool.Score(ctx, found.Comparator, c.Device)
	if err != nil {
		return err
	}
	limits := ledger.Counted(space.Limits{}, ledger.FromTable(judge))
	known := make(map[space.Arch]bool, len(found.Ledger))
	for _, l := range found.Ledger {
		known[l.Arch] = true
	}
	var predicted, params, truth []float64
	for k := range pool.Len() {
		row, found := judge.Table().Index(pool.Arch(k))
		if !found || known[pool.Arch(k)] {
			continue
		}
		value, err := judge.Judged(row)
		if err != nil {
			return err
		}
		if math.IsNaN(value) { // of a table that lacks some numbers
			continue
		}
		predicted, truth = append(predicted, scores.Rank[k]), append(truth, value)
		count := math.NaN()
		if n := limits.Cost(pool.Arch(k)).Params; n != space.Unknown {
			count = float64(n)
		}
		params = append(params, count)
	}
	if value := stat.KendallB(predicted, truth); !math.IsNaN(value) {
		result.TauB, result.TauBOver = &value, len(truth)
	}
	if value := stat.KendallB(params, truth); !math.IsNaN(value) {
		result.TauBParams = &value
	}
	return nil
}

// cell names the file of a run in the cache, and the key that tells whether a file there is of the same run: everything
// it depends on.
func (c Comparison) cell(v Variant, seed uint64) (path, key string, err error) {
	if c.Cache == "" {
		return "", "", nil
	}
	device, err := exec.Open(c.Device)
	if err != nil {
		return "", "", err
	}
	defer device.Close()
	described := "" // a space from a file is what the file says, not its name
	if f := space.FileOf(c.Field.Space); f != nil {
		described = string(f.Text())
	}
	parts := []any{
		c.Version, c.Field.Space.Name(), described, c.Field.Identity, seed, device.Level(), c.Latency.Checksum(),
		v.Name, v.Config, v.Method,
	}
	if m, err := run.Open(v.Config.Algorithm()); v.Method == nil && err == nil && run.IsUnlabelled(m) {
		_, recipe, err := v.Config.SharedWeights.Recipe(m.Name())
		if err != nil {
			return "", "", err
		}
		parts = append(parts, v.Config.SupernetData, recipe)
	}
	text, err := json.Marshal(parts)
	if err != nil {
		return "", "", err
	}
	return filepath.Join(c.Cache, cellName(v.Name, seed)+".json"), digest.Of(text), nil
}

// cellName names the file, and of a method without labels the folder, of a run in the cache.
func cellName(variant string, seed uint64) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, variant)
	return fmt.Sprintf("%s-seed%d", name, seed)
}

// entry is a file of the cache, sealed.
type entry struct {
	Key string `json:"key"`
	Run Run    `json:"run"`
}

// maxKeptBytes bounds a file of the cache; one has some thousand bytes.
const maxKeptBytes = 1 << 20

func load(path, key string) (Run, bool, error) {
	if path == "" {
		return Run{}, false, nil
	}
	text, err := files.Read(path, maxKeptBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Run{}, false, nil
	} else if err != nil {
		return Run{}, false, err
	}
	var k entry
	if err := checkpoint.OpenJSON(text, &k); err != nil {
		return Run{}, false, fmt.Errorf("%s: %w; delete it to have it run again", path, err)
	}
	if k.Key != key {
		return Run{}, false,
			fmt.Errorf("%s is a run with other settings, of another table or of another version: use another folder",
				path)
	}
	k.Run.Kept = true
	return k.Run, true, nil
}

func keep(path, key string, one Run) error {
	if path == "" {
		return nil
	}
	text, err := checkpoint.SealJSON(entry{key, one})
	if err != nil {
		return err
	}
	if err := files.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if len(one.ledger) > 0 { // first: what the run's own file says is there
		if err := files.Write(strings.TrimSuffix(path, ".json")+".ledger.jsonl", one.ledger); err != nil {
			return err
		}
	}
	return files.Write(path, text)
}
