package run

import (
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/report"
)

// Difference is a job for labels of which two machines have sent results that differ: the first one counts.
type Difference struct {
	Job           string   // tells jobs apart
	Archs         []string // what it was done for
	First, Second string   // the machines' names
}

// watchDifferences has results that differ logged, each job once, also where the log of a run that goes on has some.
// They are not in result.json, which says what was found, not on which machines.
func (r *Run) watchDifferences() error {
	logged, _, err := events.Read(r.Dir)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range logged {
		if e.Name == report.EventDifferent {
			known[e.Text["job"]] = true
		}
	}
	var mu sync.Mutex
	r.journal.last = r.Differing(func(d Difference) {
		mu.Lock()
		defer mu.Unlock()
		if known[d.Job] {
			return
		}
		known[d.Job] = true
		_ = r.Event(report.Event{Name: report.EventDifferent, Step: len(known), Text: map[string]string{
			"job": d.Job, "archs": strings.Join(d.Archs, " "), "first": d.First, "second": d.Second,
		}}) // the log is not the result
	})
	return nil
}
