package trained

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/search/job"
)

// Executor trains candidates somewhere: on this machine's devices (Local), or on those of others. Records are put into
// the cache that it was made with.
type Executor = job.Executor[Job, *Record]

// Job is a training to be done, as data: at most 64 KB of JSON.
type Job struct {
	Key   Key    `json:"key"`   // all that the outcome depends on
	Space string `json:"space"` // its name, as space.Open takes it
	Data  string `json:"data"`  // what kind of images: the word before the colon of the text that opens them
	// Ends are the accuracies on validation images below which the training ends: Ends[e-1] after epoch e.
	// made.NeverEnds and AlwaysEnds are out of their range. The last epoch's has no meaning. Empty: it never ends
	// early.
	Ends []float64 `json:"ends,omitempty"`
	// Work is how long the training takes beside others of the same search, without a unit: multiply-adds of all its
	// images. 0: not known.
	Work float64 `json:"work,omitempty"`
	// Memory is how many bytes of a GPU's memory the training takes (trainer.Memory). 0: not known.
	Memory int64  `json:"memory,omitempty"`
	Of     string `json:"of,omitempty"` // the search, for logs
}

// Name tells jobs apart: a hash of all that their records depend on, which is the key and where they end.
func (j Job) Name() string {
	text, _ := json.Marshal([]any{j.Key, j.Ends}) // numbers and text
	return digest.Of(text)
}

// KindName is what these jobs are called.
const KindName = "training"

// Terms are what whoever trains it must have. What it begins with is not sent: job.Terms says nothing of it.
func (j Job) Terms() job.Terms {
	return job.Terms{Kind: KindName, Version: j.Key.Version, Level: j.Key.Level, Data: j.Data, Images: j.Key.Images}
}

// Needs is its Memory.
func (j Job) Needs() int64 { return j.Memory }

// Size is its Work.
func (j Job) Size() float64 { return j.Work }

// Archs is the candidate.
func (j Job) Archs() []string { return []string{j.Key.Arch} }

// String names the job for people.
func (j Job) String() string { return fmt.Sprintf("candidate %s with seed %d", j.Key.Arch, j.Key.Seed) }

// ends tells whether the training ends early after an epoch (from 1) with this accuracy.
func (j Job) ends(epoch int, accuracy float64) bool {
	return epoch < j.Key.Recipe.Epochs && epoch <= len(j.Ends) && accuracy < j.Ends[epoch-1]
}

// Check tells whether a record is one of this job: of its key, with accuracies that are some, as long as the job says.
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
		return fmt.Errorf("it ended after %d of %d epochs", len(r.Validation), r.Key.Recipe.Epochs)
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

// settles tells whether a record goes as far as the job does.
func (j Job) settles(r *Record) bool {
	_, ok := j.Settle(r)
	return ok
}
