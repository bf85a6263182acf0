package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Executor runs commands somewhere: on this machine (Local), or on others. Records are put into the cache that it was
// made with.
type Executor = job.Executor[Job, *Record]

// Key is everything that a training's outcome depends on.
type Key struct {
	Format  int               `json:"format"`  // of Record, and of what the command is given
	Command string            `json:"command"` // Program.Checksum
	Space   string            `json:"space"`   // its name, or of a file its checksum
	Arch    string            `json:"arch"`
	Seed    uint64            `json:"seed"`
	Epochs  int               `json:"epochs"` // that it tells of; 0: not known
	Size    space.NetworkSize `json:"size"`   // of the network that it is given
}

// recordFormat counts the forms that records have had, and what commands were given.
const recordFormat = 1

func (k Key) hash() string {
	text, _ := json.Marshal(k) // numbers and text
	return digest.Of(text)
}

// keyOf is what a space is in a Key.
func keyOf(sp space.Space) string {
	if f := space.FileOf(sp); f != nil {
		return digest.Of(f.Text())
	}
	return sp.Name()
}

// Job is a training to be done, as data: at most 64 KB of JSON.
type Job struct {
	Key     Key    `json:"key"`   // all that the outcome depends on
	Space   string `json:"space"` // its name, as space.Open takes it
	Version string `json:"version"`
	// Ends are the accuracies below which the training ends: Ends[e-1] after epoch e. made.NeverEnds and AlwaysEnds are
	// out of their range. The last epoch's has no meaning. Empty: it never ends early.
	Ends []float64 `json:"ends,omitempty"`
	Work float64   `json:"work,omitempty"` // how long it takes beside others; 0: not known
}

// Record is a training in the cache.
type Record struct {
	Key Key `json:"key"` // of which the file's name is a hash
	// Epochs are the accuracies after each epoch that the command told of: fewer than the key's where it was stopped or
	// diverged.
	Epochs   []float64          `json:"epoch_accuracy,omitempty"`
	Accuracy *float64           `json:"accuracy"` // at the end; null where it was stopped or diverged
	Test     *float64           `json:"test_accuracy,omitempty"`
	Metrics  map[string]float64 `json:"metrics,omitempty"` // what else it measured
	Diverged bool               `json:"diverged,omitempty"`
	Seconds  float64            `json:"seconds"` // as the command says, or as it took
}

// KindName is what these jobs are called.
const KindName = "command"

// Name tells jobs apart: a hash of all that their records depend on, which is the key and where they end.
func (j Job) Name() string {
	text, _ := json.Marshal([]any{KindName, j.Key, j.Ends}) // numbers and text
	return digest.Of(text)
}

// String names the job for people.
func (j Job) String() string { return fmt.Sprintf("candidate %s with seed %d", j.Key.Arch, j.Key.Seed) }

// Terms are what whoever does it must have: the command.
func (j Job) Terms() job.Terms {
	return job.Terms{Kind: KindName, Version: j.Version, Command: j.Key.Command}
}

// Archs is the candidate.
func (j Job) Archs() []string { return []string{j.Key.Arch} }

// Needs is not known.
func (j Job) Needs() int64 { return 0 }

// Size is its Work.
func (j Job) Size() float64 { return j.Work }

// ends tells whether the training ends early after an epoch (from 1) with this accuracy.
func (j Job) ends(epoch int, accuracy float64) bool {
	return epoch < j.Key.Epochs && epoch <= len(j.Ends) && accuracy < j.Ends[epoch-1]
}

// Settle turns a record into the outcome that the job has, whose end may lie before the record's. It is false where the
// training has to go on beyond the record, and without one.
func (j Job) Settle(r *Record) (made.Outcome, bool) {
	if r == nil {
		return made.Outcome{}, false
	}
	for i, v := range r.Epochs {
		if epoch := i + 1; j.ends(epoch, v) {
			return made.Outcome{Curve: r.Epochs[:epoch], Stopped: true, Seconds: r.Seconds}, true
		}
	}
	o := made.Outcome{Curve: r.Epochs, Diverged: r.Diverged, Test: r.Test, Metrics: r.Metrics, Seconds: r.Seconds}
	if r.Accuracy != nil {
		o.Value = *r.Accuracy
	}
	return o, o.Diverged || r.Accuracy != nil
}

// settles tells whether a record goes as far as the job does.
func (j Job) settles(r *Record) bool {
	_, ok := j.Settle(r)
	return ok
}

// Check tells whether a record is one of this job.
func (j Job) Check(r *Record) error {
	if r == nil {
		return errors.New("it is none")
	}
	if err := r.check(); err != nil {
		return err
	}
	if r.Key != j.Key {
		return fmt.Errorf("it is the record of %s with seed %d", r.Key.Arch, r.Key.Seed)
	}
	if !j.settles(r) {
		return fmt.Errorf("it ended after %d epochs", len(r.Epochs))
	}
	return nil
}

// Same tells whether two records say the same: all but how long that took.
func (j Job) Same(a, b *Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Seconds, y.Seconds = 0, 0
	return reflect.DeepEqual(x, y)
}

// check finds what no command leaves.
func (r *Record) check() error {
	accuracies := append([]float64(nil), r.Epochs...)
	for _, v := range []*float64{r.Accuracy, r.Test} {
		if v != nil {
			accuracies = append(accuracies, *v)
		}
	}
	for _, v := range accuracies {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("an accuracy of %g", v)
		}
	}
	switch {
	case r.Key.Epochs > 0 && len(r.Epochs) > r.Key.Epochs:
		return fmt.Errorf("%d epochs of %d", len(r.Epochs), r.Key.Epochs)
	case r.Diverged && r.Accuracy != nil:
		return errors.New("it diverged, and has an accuracy")
	case r.Accuracy != nil && r.Key.Epochs > 0 && len(r.Epochs) != r.Key.Epochs:
		return fmt.Errorf("it ended well after %d of %d epochs", len(r.Epochs), r.Key.Epochs)
	}
	return nil
}

// Cache is a folder of trainings that several processes share. A candidate's folder there stays, with the command's
// output and whatever else it keeps.
type Cache string

// Load returns the record of a job's key, nil where there is none. A file that is no record, was changed or is another
// training's is an error.
func (c Cache) Load(j Job) (*Record, error) {
	r := &Record{}
	found, err := made.Cache(c).Load(j.Key.hash(), fmt.Sprintf("%s with seed %d", j.Key.Arch, j.Key.Seed), r,
		func() error {
			if r.Key != j.Key {
				return fmt.Errorf("it is the record of %s with seed %d in another file's place", r.Key.Arch, r.Key.Seed)
			}
			return r.check()
		})
	if !found {
		return nil, err
	}
	return r, err
}

// Put stores a record.
func (c Cache) Put(r *Record) error { return made.Cache(c).Put(r.Key.hash(), r) }
