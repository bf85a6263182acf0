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
	return Field{t.Space(), catalogue.Of(all), source, t.Checksum() + " " + all.Describe(), all}, nil
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

// Comparison runs methods side by side, each with the same number of labels, once a seed.
type Comparison struct {
	Field   Field
	Methods []Variant
	Seed    uint64
	Seeds   int // Seed, Seed+1, ...
	Device  exec.Config
	Latency *latency.Model // what the settings name; nil: nothing
	Version string         // of the program: another one's runs are not taken from the cache
	// Cache is a folder where every finished run is kept, so that a comparison that was stopped goes on where it was;
	// empty for none.
	Cache string

	Progress func(name string, seed uint64, labels int, best float64) // may be nil
	// Called after every run, kept ones included; may be nil.
	Done func(Run)
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
	Seconds   float64     `json:"seconds"` // of the search, its judging left out
	Arch      string      `json:"arch"`
	Hash      string      `json:"hash"`
	Seen      float64     `json:"seen"`     // accuracy that the method saw, 0..1
	Accuracy  stat.Number `json:"accuracy"` // that judges, 0..1; null where nobody knows it
	LatencyMS *float64    `json:"latency_ms,omitempty"`
	// Rank is 1 + the number of better architectures in the table; null: not known.
	Rank     *int `json:"rank"`
	TauBOver int  `json:"tau_b_over,omitempty"` // how many architectures TauB rests on
	// TauB is of the method's last predictor, over all architectures without a label; null without one, or where they
	// cannot be judged.
	TauB       *float64    `json:"tau_b"`
	Curriculum *Curriculum `json:"percentile,omitempty"`
	Kept       bool        `json:"-"` // read from the cache
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
	}
	return nil
}

// Compare runs all methods with the first seed, then with the second, and so on. What is finished when the context ends
// is in the cache.
func Compare(ctx context.Context, c Comparison) ([]Run, error) {
	if err := c.Check(); err != nil {
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
	var runs []Run
	for k := range c.Seeds {
		for _, v := range c.Methods {
			seed := c.Seed + uint64(k)
			path, key, err := c.cell(v, seed)
			if err != nil {
				return runs, err
			}
			one, found, err := load(path, key)
			if err == nil && !found {
				if one, err = c.one(ctx, v, seed); err == nil {
					err = keep(path, key, one)
				}
			}
			if err != nil {
				return runs, fmt.Errorf("%s, seed %d: %w", v.Name, seed, err)
			}
			runs = append(runs, one)
			if c.Done != nil {
				c.Done(one)
			}
		}
	}
	return runs, nil
}

func (c Comparison) one(ctx context.Context, v Variant, seed uint64) (Run, error) {
	source, err := c.Field.Source()
	if err != nil {
		return Run{}, err
	}
	method := v.Method
	if method == nil {
		if method, err = run.For(v.Config); err != nil {
			return Run{}, err
		}
	}
	config := v.Config
	config.Seed = seed
	if c.Field.Pool == nil && config.Propose == search.ProposeSpace { // which nobody can list
		config.Propose = search.ProposeController
	}
	d := run.Deps{Space: c.Field.Space, Source: source, All: c.Field.Pool, Device: c.Device, Latency: c.Latency,
		Program: run.Program{Version: c.Version}}
	if c.Progress != nil {
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
	i := slices.IndexFunc(found.Ledger, func(l ledger.Label) bool { return l.Arch.String() == found.Pick })
	pick := found.Ledger[i] // the best label
	result := Run{
		Method: v.Name, Seed: seed, Labels: len(found.Ledger), Seconds: found.Seconds - found.Phases[run.PhaseJudge],
		Arch: found.Pick, Hash: pick.Arch.Hash(), Seen: pick.Value,
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
	if found.Comparator != nil && c.Field.all != nil {
		if result.TauB, result.TauBOver, err = c.tau(ctx, found); err != nil {
			return result, err
		}
	}
	return result, nil
}

// tau judges a predictor by all architectures that it has no label of.
func (c Comparison) tau(ctx context.Context, found *run.Result) (tau *float64, over int, err error) {
	judge, pool := c.Field.all, c.Field.Pool
	scores, err := pool.Score(ctx, found.Comparator, c.Device)
	if err != nil {
		return nil, 0, err
	}
	known := make(map[space.Arch]bool, len(found.Ledger))
	for _, l := range found.Ledger {
		known[l.Arch] = true
	}
	var predicted, truth []float64
	for k, row := range judge.Cells() {
		if known[pool.Arch(k)] {
			continue
		}
		value, err := judge.Judged(row)
		if err != nil {
			return nil, 0, err
		}
		predicted, truth = append(predicted, scores.Rank[k]), append(truth, value)
	}
	value := stat.KendallB(predicted, truth)
	if math.IsNaN(value) {
		return nil, 0, nil
	}
	return &value, len(truth), nil
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
	text, err := json.Marshal([]any{
		c.Version, c.Field.Space.Name(), described, c.Field.Identity, seed, device.Level(), c.Latency.Checksum(),
		v.Name, v.Config, v.Method,
	})
	if err != nil {
		return "", "", err
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, v.Name)
	return filepath.Join(c.Cache, fmt.Sprintf("%s-seed%d.json", name, seed)), digest.Of(text), nil
}

// entry is a file of the cache, sealed.
type entry struct {
	Key string `json:"key"`
	Run Run    `json:"run"`
}

// maxKeptBytes bounds a file of the cache; one has some 500 bytes.
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
	return files.Write(path, text)
}
