package supernet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/space"
)

// Job is the evaluation of some sub-networks, as data: at most 64 KB of JSON.
type Job struct {
	Key   Key      `json:"key"`   // of each of them, without the architecture
	Paths []string `json:"paths"` // the architectures, 1 to 64
	Space string   `json:"space"` // its name, as space.Open takes it
	Data  string   `json:"data"`  // what kind of images: the word before the colon of the text that opens them
}

// Result is what a job comes to.
type Result struct {
	Records []Record `json:"records"` // in the order of the job's architectures
	Seconds float64  `json:"seconds"` // that it took
}

// Executor evaluates sub-networks somewhere: on this machine's devices (Local), or on those of others.
type Executor = job.Executor[Job, *Result]

// KindName is what these jobs are called.
const KindName = "evaluation"

// mostPaths is how many architectures a job has at most.
const mostPaths = 64

// Name tells jobs apart: a hash of all that their results depend on.
func (j Job) Name() string {
	text, _ := json.Marshal([]any{KindName, j.Key, j.Space, j.Paths}) // numbers and text
	return digest.Of(text)
}

// String names the job for people.
func (j Job) String() string {
	switch len(j.Paths) {
	case 0:
		return "no sub-network"
	case 1:
		return "sub-network " + j.Paths[0]
	}
	return fmt.Sprintf("sub-network %s and %d more", j.Paths[0], len(j.Paths)-1)
}

// Terms are what whoever evaluates must have.
func (j Job) Terms() job.Terms {
	return job.Terms{Kind: KindName, Version: j.Key.Version, Level: j.Key.Level, Data: j.Data, Images: j.Key.Images,
		Weights: j.Key.Weights}
}

// Needs is not known: the supernet, and the tensors of the sub-network that has most of them.
func (j Job) Needs() int64 { return 0 }

// Archs are the sub-networks.
func (j Job) Archs() []string { return j.Paths }

// key is that of one of the job's architectures.
func (j Job) key(arch string) Key {
	k := j.Key
	k.Arch = arch
	return k
}

// Check tells whether a result is one of this job: a record of each architecture, with accuracies that are some.
func (j Job) Check(r *Result) error {
	if r == nil || len(r.Records) != len(j.Paths) {
		return fmt.Errorf("it does not hold %d records", len(j.Paths))
	}
	for i, arch := range j.Paths {
		if err := r.Records[i].check(j.key(arch)); err != nil {
			return err
		}
	}
	return nil
}

// Same tells whether two results say the same: all but how long that took.
func (j Job) Same(a, b *Result) bool {
	if a == nil || b == nil {
		return a == b
	}
	one, errOne := json.Marshal(a.Records) // of which a loss may be no number
	two, errTwo := json.Marshal(b.Records)
	return errOne == nil && errTwo == nil && bytes.Equal(one, two)
}

// How large a job is: an evaluation may take milliseconds, and sending a job some, too.
const (
	acceleratorWork = 2e13 // multiply-adds of images forward that take a few seconds
	processorWork   = 5e11
	leastJobs       = 16 // that a submission is divided into, if it has as many: nobody knows how many workers come
)

// jobs divides the evaluation of some architectures.
func (e *Evaluator) jobs(archs []space.Arch, todo []int) (list []Job, of [][]int) {
	work := processorWork
	if strings.Contains(e.level, "/") { // with a precision
		work = acceleratorWork
	}
	each := float64(e.largest.Network.Cost().MAdds) * float64(e.Forward())
	size := max(1, min(mostPaths, int(work/max(each, 1)), (len(todo)+leastJobs-1)/leastJobs))
	kind, _, _ := strings.Cut(e.Data, ":")
	for from := 0; from < len(todo); from += size {
		part := todo[from:min(from+size, len(todo))]
		j := Job{Key: e.keyOf(""), Space: e.Space.Name(), Data: kind}
		for _, i := range part {
			j.Paths = append(j.Paths, archs[i].String())
		}
		list, of = append(list, j), append(of, part)
	}
	return list, of
}

// farmOut is measure, elsewhere.
func (e *Evaluator) farmOut(ctx context.Context, archs []space.Arch, todo []int, measured []Measured,
	told func(i int, seconds float64, place string)) error {
	jobs, of := e.jobs(archs, todo)
	var next atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	for range min(len(jobs), e.executor.Capacity(len(jobs))) {
		group.Go(func() error {
			for inner.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(jobs) {
					return nil
				}
				place := ""
				r, err := e.executor.Do(inner, jobs[n], func(n job.Notice) { place = n.Device })
				if err != nil {
					return err
				}
				for k, i := range of[n] {
					measured[i] = r.Records[k].Measured
					told(i, r.Seconds/float64(len(of[n])), place)
				}
			}
			return inner.Err()
		})
	}
	return group.Wait()
}

// keepAll stores what was measured elsewhere.
func (e *Evaluator) keepAll(r *Result) error {
	for i := range r.Records {
		if err := cache(e.Cache).store(&r.Records[i]); err != nil {
			return err
		}
	}
	return nil
}
