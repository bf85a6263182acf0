package trained

import (
	"strings"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// Settle turns a record into the outcome that the job has, whose end may lie before the record's. It is false where the
// training has to go on beyond the record, and without one.
func (j Job) Settle(r *Record) (made.Outcome, bool) {
	if r == nil {
		return made.Outcome{}, false
	}
	for i, v := range r.Validation {
		if epoch := i + 1; j.ends(epoch, v) {
			return made.Outcome{Curve: r.Validation[:epoch], Stopped: true, Seconds: r.Seconds}, true
		}
	}
	o := made.Outcome{Curve: r.Validation, Diverged: r.Diverged != "", Test: r.Test, Seconds: r.Seconds}
	if o.Diverged {
		return o, true
	}
	whole := len(o.Curve) == j.Key.Recipe.Epochs
	if whole {
		o.Value = o.Curve[len(o.Curve)-1]
	}
	return o, whole
}

// ready says of a training what it takes of a GPU's memory, where it is done elsewhere.
func (s *Source) ready(a space.Arch, j Job) Job {
	_, precision, accelerated := strings.Cut(s.level, "/")
	if s.local != nil || !accelerated {
		return j
	}
	net, err := a.(space.Trainable).Network(s.NetworkSize()) // Has was true
	if err != nil {
		return j
	}
	if bytes, err := trainer.Memory(net, s.Recipe, exec.Precision(precision)); err == nil {
		j.Memory = bytes // otherwise the training will say it
	}
	return j
}
