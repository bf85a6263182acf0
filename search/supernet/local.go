package supernet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// Stock is what a machine has of supernets to evaluate jobs with that come from elsewhere: paths by the checksums of
// their weights.
type Stock map[string]string

// OpenStock reads the weights of supernets, each named as OpenWeights takes it.
func OpenStock(paths []string) (Stock, error) {
	s := Stock{}
	for _, path := range paths {
		w, err := OpenWeights(path)
		if err != nil {
			return nil, err
		}
		s[w.Checksum] = path
	}
	return s, nil
}

// Lacks says why jobs with weights of a checksum cannot be done; nil where they can.
func (s Stock) Lacks(checksum string) error {
	if s[checksum] != "" {
		return nil
	}
	have := "no supernet is here"
	if len(s) > 0 {
		var list []string
		for sum, path := range s {
			list = append(list, fmt.Sprintf("%.12s (%s)", sum, path))
		}
		slices.Sort(list)
		have = "here are only " + strings.Join(list, ", ")
	}
	return fmt.Errorf("the search evaluates a supernet of checksum %.12s, and %s", checksum, have)
}

// LocalConfig is what a Local works with.
type LocalConfig struct {
	Version string // of the program, exact: it does jobs of its own alone
	Stock   Stock
	Images  func(kind string) *data.Dataset // opened; nil of one that is not here
	Devices []exec.Config                   // labels.Devices
	Workers int                             // at once; see labels.Places
	Retries int                             // how often an evaluation that failed is tried again
	Cache   string                          // folder of what was measured; empty: none
	Warn    func(text string)               // may be nil
}

// Local evaluates jobs of one search on this machine's devices. Close it after use.
type Local struct {
	LocalConfig
	free chan *worker // those without a job; of a place each

	mu        sync.Mutex
	evaluator *Evaluator // of the latest job
	key       Key
	space     string
	data      string
}

var _ Executor = (*Local)(nil)

// NewLocal opens nothing before the first job.
func NewLocal(c LocalConfig) *Local { return &Local{LocalConfig: c} }

// Capacity divides the devices among as many jobs.
func (l *Local) Capacity(jobs int) int {
	l.Close()
	places := labels.Places(l.Devices, l.Workers, jobs)
	l.free = make(chan *worker, len(places))
	for _, at := range places {
		l.free <- &worker{at: at}
	}
	return len(places)
}

// Close frees what the devices hold. Nothing is at work.
func (l *Local) Close() {
	for len(l.free) > 0 {
		exec.Fail((<-l.free).close())
	}
	l.evaluator = nil // its images are others'
}

// Do evaluates at the first place that is free. What the cache has is not evaluated again: of a job that was stopped
// that is what it had done.
func (l *Local) Do(ctx context.Context, j Job, tell func(job.Notice)) (*Result, error) {
	e, archs, err := l.prepare(ctx, j)
	if err != nil {
		return nil, err
	}
	var w *worker
	select {
	case w = <-l.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { l.free <- w }()
	if w.e != e {
		if err := w.close(); err != nil {
			return nil, err
		}
		w.e = e
	}
	tell(job.Notice{Device: w.at.Name})
	begin := time.Now()
	result := &Result{Records: make([]Record, len(archs))}
	for i, a := range archs {
		r, err := e.cached(a)
		if err != nil {
			return nil, err
		}
		if r == nil {
			r = &Record{Key: e.keyOf(a.String())}
			if r.Measured, err = w.measure(ctx, a); err != nil {
				return nil, err
			}
			if err := e.keep(a, r.Measured); err != nil {
				return nil, err
			}
		}
		result.Records[i] = *r
	}
	result.Seconds = time.Since(begin).Seconds()
	return result, nil
}

// prepare checks a job against what is here. What does not fit is an error.
func (l *Local) prepare(ctx context.Context, j Job) (e *Evaluator, archs []space.Arch, err error) {
	if len(j.Paths) == 0 || len(j.Paths) > mostPaths {
		return nil, nil, fmt.Errorf("a job of %d sub-networks, want 1 to %d", len(j.Paths), mostPaths)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.evaluator == nil || l.key != j.Key || l.space != j.Space || l.data != j.Data {
		if l.evaluator, err = l.open(ctx, j); err != nil {
			return nil, nil, err
		}
		l.key, l.space, l.data = j.Key, j.Space, j.Data
	}
	for _, text := range j.Paths {
		a, err := l.evaluator.Space.Parse(text)
		if err == nil {
			err = l.evaluator.Has(a)
		}
		if err != nil {
			return nil, nil, err
		}
		if a.String() != text {
			return nil, nil, fmt.Errorf("sub-network %s is %v here", text, a)
		}
		archs = append(archs, a)
	}
	return l.evaluator, archs, nil
}

// open opens an evaluator that measures what a job asks for.
func (l *Local) open(ctx context.Context, j Job) (*Evaluator, error) {
	k := j.Key
	if err := l.Stock.Lacks(k.Weights); err != nil {
		return nil, err
	}
	if strings.Contains(j.Space, ":") {
		return nil, fmt.Errorf("search space %q: it is a file of another machine's", j.Space)
	}
	sp, err := space.Open(j.Space)
	if err != nil {
		return nil, err
	}
	c := Config{Spec: NewSpec(l.Stock[k.Weights]), Space: sp, Device: l.Devices[0], Retries: l.Retries, Cache: l.Cache,
		Version: l.Version, Opening: data.Options{Warn: l.Warn}, Set: l.Images(j.Data)}
	if c.Set == nil {
		return nil, fmt.Errorf("no %s is here", j.Data)
	}
	c.Split, c.Images = k.Split, k.Judging
	if k.Statistics != "" {
		c.Statistics = k.Statistics
	} else {
		c.Calibrate, c.Seed = k.Calibrate, k.Seed
	}
	if err := c.Settings().Check(); err != nil {
		return nil, err
	}
	c.Data = j.Data // by which nothing is opened
	e, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	if have := e.keyOf(""); have != k {
		return nil, fmt.Errorf("the job asks for %+v, and this machine measures %+v", k, have)
	}
	return e, nil
}
