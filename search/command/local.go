package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// LocalConfig is what a Local works with.
type LocalConfig struct {
	Cache   Cache
	Workers int // at once; 0: one a GPU, otherwise one
	Retries int // how often what failed is tried again: the first time with what it left in its folder, later afresh
	// Find returns the command that a job is of, and what space.Open is not asked for; an error where it is not here.
	Find func(Job) (Spec, *Program, space.Space, error)
}

// Local runs commands on this machine. Records, and the candidates' folders, are kept in a folder that processes may
// share: none is trained by two of them at once. Close it after use.
type Local struct {
	LocalConfig
	gpus   []string
	places chan place // the free ones
	guard  *guard
	grace  time.Duration // for what is told to end
}

var _ Executor = (*Local)(nil)

// place is where a candidate at a time is worked on.
type place struct {
	name string // "cpu", "gpu 3"
	gpu  string // of CUDA_VISIBLE_DEVICES; empty: nothing is said
}

// NewLocal runs nothing before the first job. gpus are those of a Spec.
func NewLocal(c LocalConfig, gpus []string) *Local {
	if len(gpus) == 0 {
		for _, gpu := range strings.Split(os.Getenv(envVisible), ",") {
			if gpu = strings.TrimSpace(gpu); gpu != "" {
				gpus = append(gpus, gpu)
			}
		}
	}
	return &Local{LocalConfig: c, gpus: gpus, guard: &guard{}, grace: grace}
}

// again is one that shares the guard, for another source's jobs: close the first one only.
func (l *Local) again() *Local {
	return &Local{LocalConfig: l.LocalConfig, gpus: l.gpus, guard: l.guard, grace: l.grace}
}

// Close ends what ends commands that are left behind. Nothing is at work.
func (l *Local) Close() error { return l.guard.Close() }

// Capacity makes places for as many candidates.
func (l *Local) Capacity(jobs int) int {
	n := min(jobs, max(1, l.Workers))
	if l.Workers == 0 {
		n = min(jobs, max(1, len(l.gpus)))
	}
	l.places = make(chan place, n)
	for i := range n {
		at := place{name: "cpu"}
		if len(l.gpus) > 0 {
			at.gpu = l.gpus[i%len(l.gpus)]
			at.name = "gpu " + at.gpu
		}
		l.places <- at
	}
	return n
}

// Do runs the command at the first place that is free.
func (l *Local) Do(ctx context.Context, j Job, tell func(job.Notice)) (*Record, error) {
	s, program, sp, err := l.Find(j)
	if err != nil {
		return nil, err
	}
	a, err := sp.Parse(j.Key.Arch)
	if err != nil {
		return nil, err
	}
	var at place
	select {
	case at = <-l.places:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { l.places <- at }()
	dir, lock, err := made.Cache(l.Cache).Claim(ctx, j.Key.hash())
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	// Another process may have done it meanwhile.
	if r, err := l.Cache.Load(j); err != nil || j.settles(r) {
		return r, err
	}
	tell(job.Notice{Device: at.name})
	if err := program.unchanged(); err != nil {
		return nil, err
	}
	c := &candidate{job: j, spec: s, at: at, dir: dir, tell: tell, retries: l.Retries, guard: l.guard, grace: l.grace}
	r, err := c.persist(ctx, sp, a)
	if err == nil {
		err = program.unchanged() // in the midst of it, nobody knows which file it was
	}
	if err == nil {
		err = l.Cache.Put(r)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// candidate is one at work.
type candidate struct {
	job     Job
	spec    Spec
	at      place
	dir     string
	tell    func(job.Notice)
	retries int
	guard   *guard
	grace   time.Duration

	epochs []float64 // told of so far, by earlier attempts too
	end    int       // the epoch that the training ends early after; 0: it does not
}

// errGap is a gap in the epochs, or behind them: a command that goes on by a checkpoint of its own had told of epochs
// that were not remembered.
var errGap = errors.New("epochs are missing")

// persist trains a candidate in its folder; what fails is tried again.
func (c *candidate) persist(ctx context.Context, sp space.Space, a space.Arch) (*Record, error) {
	given, env, err := give(sp, a, c.job.Key, c.spec.words, c.dir)
	if err != nil {
		return nil, err
	}
	if c.at.gpu != "" {
		env = append(env, envVisible+"="+c.at.gpu)
	}
	afresh := false
	for attempt := 0; ; attempt++ {
		r, err := c.attempt(ctx, attempt, given, env)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, errGap) && !afresh { // whoever was killed in the midst of it is to blame
			if err := c.empty(); err != nil {
				return nil, err
			}
			afresh = true
			attempt--
			continue
		}
		if attempt == c.retries {
			err = fmt.Errorf("%v on %s, in %s: `%s`: %w%s", c.job, c.at.name, c.dir, c.spec.Command, err, c.tail())
			if !job.Unfit(err) {
				err = &job.Failed{Err: err}
			}
			return nil, err
		}
		c.tell(job.Notice{Device: c.at.name, Attempt: attempt + 1, Err: err.Error()})
		if attempt > 0 { // what it left there may be what makes it fail
			if err := c.empty(); err != nil {
				return nil, err
			}
		}
	}
}

// empty removes what the command and its epochs have left, but for the log.
func (c *candidate) empty() error {
	return made.Empty(c.dir, logName, descriptionName, networkName, moduleName)
}

// attempt runs the command once, in a folder that may hold what an earlier attempt left.
func (c *candidate) attempt(ctx context.Context, n int, given map[string]string, env []string) (*Record, error) {
	log, err := os.OpenFile(filepath.Join(c.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	worked, err := log.Stat()
	if err != nil {
		return nil, err
	}
	goesOn := worked.Size() > 0 // in a folder that was worked in before
	begin := time.Now()
	fmt.Fprintf(log, "--- attempt %d on %s, %s: %s\n", n+1, c.at.name, begin.UTC().Format(time.RFC3339),
		c.spec.Command)
	told, err := c.recall()
	if err != nil {
		return nil, err
	}
	defer told.Close()
	for i, v := range c.epochs {
		if c.job.ends(i+1, v) { // it was killed where it ends
			return &Record{Key: c.job.Key, Epochs: c.epochs[:i+1]}, nil
		}
	}
	p := &process{words: filled(c.spec.words, given), dir: c.spec.Dir, log: log, timeout: c.spec.Timeout,
		grace: c.grace,
		env:   append(env, envAttempt+"="+strconv.Itoa(n+1)),
		epoch: func(e epochLine) (bool, error) { return c.reach(e, told) }}
	said, stopped, err := p.run(ctx, c.guard)
	if err != nil {
		fmt.Fprintf(log, "--- failed: %v\n", err)
		return nil, err
	}
	r := &Record{Key: c.job.Key, Epochs: c.epochs, Seconds: time.Since(begin).Seconds()}
	if stopped { // whatever it told of behind that
		r.Epochs = c.epochs[:c.end]
		return r, nil
	}
	if said.seconds != nil {
		r.Seconds = *said.seconds
	}
	if r.Diverged = said.diverged; r.Diverged {
		return r, nil
	}
	if want := c.job.Key.Epochs; want > 0 && len(c.epochs) != want {
		err := fmt.Errorf("it told of %d epochs, and epochs=%d says how many there are", len(c.epochs), want)
		if goesOn { // what it told of last was lost when this process was killed, and it does not say that again
			err = fmt.Errorf("%w: %w", err, errGap)
		}
		return nil, err
	}
	r.Accuracy, r.Test, r.Metrics = &said.accuracy, said.test, said.metrics
	return r, nil
}

// reach takes an epoch, and says whether the training ends with it.
func (c *candidate) reach(e epochLine, told io.Writer) (ends bool, err error) {
	if e.epoch > len(c.epochs)+1 {
		return false, fmt.Errorf("epoch %d comes after epoch %d: %w", e.epoch, len(c.epochs), errGap)
	}
	if most := c.job.Key.Epochs; most > 0 && e.epoch > most {
		return false, fmt.Errorf("epoch %d of epochs=%d", e.epoch, most)
	}
	c.epochs = append(c.epochs[:e.epoch-1], e.accuracy) // a checkpoint of its own may lie before the last one
	line, err := json.Marshal(toldEpoch{e.epoch, e.accuracy})
	if err != nil {
		return false, err
	}
	if _, err := told.Write(append(line, '\n')); err != nil {
		return false, err
	}
	c.tell(job.Notice{Device: c.at.name, Epoch: e.epoch, Accuracy: e.accuracy, Loss: e.loss})
	if c.end == 0 && c.job.ends(e.epoch, e.accuracy) {
		c.end = e.epoch
		return true, nil
	}
	return false, nil
}

// toldEpoch is a line of epochs.jsonl.
type toldEpoch struct {
	Epoch    int     `json:"epoch"`
	Accuracy float64 `json:"accuracy"`
}

const mostTold = 64 << 20 // bytes that are read of epochs.jsonl

// recall reads which epochs earlier attempts told of, for a command that goes on behind them by a checkpoint of its
// own, and opens the file for more.
func (c *candidate) recall() (*os.File, error) {
	path := filepath.Join(c.dir, epochsName)
	f, err := files.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	c.epochs, c.end = nil, 0
	whole := int64(0) // bytes of whole lines: the last one may be torn
	text, err := io.ReadAll(io.LimitReader(f, mostTold))
	for len(text) > 0 && err == nil {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		var e toldEpoch
		if !ended || json.Unmarshal(line, &e) != nil || e.Epoch < 1 || e.Epoch > len(c.epochs)+1 {
			break
		}
		c.epochs = append(c.epochs[:e.Epoch-1], e.Accuracy)
		whole += int64(len(line) + 1)
		text = rest
	}
	if err == nil {
		err = f.Truncate(whole)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

const mostTail = 600 // bytes of a log that an error ends in

// tail is the end of the log, for an error.
func (c *candidate) tail() string {
	f, err := os.Open(filepath.Join(c.dir, logName))
	if err != nil {
		return ""
	}
	defer f.Close()
	text := make([]byte, mostTail)
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(0, end-mostTail)
	n, _ := f.ReadAt(text, from)
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(text[:n]), "")), "\n")
	if from > 0 {
		lines[0] = "…" + lines[0]
	}
	var kept []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "--- ") {
			kept = append(kept, "\n  | "+visible.String(line))
		}
	}
	if len(kept) == 0 {
		return ""
	}
	if from > 0 && len(kept) > 1 {
		kept = kept[1:] // there are whole ones
	}
	return "\n" + logName + " ends in:" + strings.Join(kept, "")
}
