//go:build !nofarm

package farm

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/search/trained"
)

// seen are the numbers of a farm, by name and labels.
func seen(t *testing.T) map[string]float64 {
	families, err := metrics.Registry.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() // it is one of them
		}
	}
	return all
}

// Whoever watches sees jobs and workers as the server has them, and nothing before there is a server.
func TestWatched(t *testing.T) {
	f := newFarm(t)
	f.queue.Watched(t.Context())
	require.NotContains(t, seen(t), "ctnas_jobs queued")
	may := make(chan bool)
	e := &fake{hook: func(ctx context.Context, _ trained.Job) error {
		select {
		case <-may:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	f.work(e, nil) // two at once
	misfit := f.work(e, func(w *Worker) { w.Version = "another" })
	done := make(chan []error, 1)
	go func() { done <- f.do(t.Context(), some(0, 5)) }()
	until := func(want map[string]float64) {
		t.Helper()
		require.Eventually(t, func() bool {
			f.queue.Watched(t.Context())
			got := seen(t)
			for name, v := range want {
				if n, there := got[name]; n != v || there != (v != 0 || name == "ctnas_jobs queued" ||
					name == "ctnas_jobs taken") {
					return false
				}
			}
			return true
		}, 20*time.Second, 5*time.Millisecond, "%v: %v", want, seen(t))
	}
	until(map[string]float64{"ctnas_jobs queued": 3, "ctnas_jobs taken": 2, "ctnas_workers level working": 1,
		"ctnas_workers  waiting": 1})
	for _, name := range []string{"different", "redelivered", "failed"} { // of other tests, too
		require.Contains(t, seen(t), "ctnas_"+name+"_total")
	}
	require.NoError(t, misfit())
	until(map[string]float64{"ctnas_workers  waiting": 0, "ctnas_workers  stopped": 1})
	close(may)
	f.fine(<-done)
	until(map[string]float64{"ctnas_jobs queued": 0, "ctnas_jobs taken": 0})
}

func TestWhatWorkersDoIsAFewWords(t *testing.T) {
	for state, want := range map[string]string{"working": "working", "draining": "draining", "stopped": "stopped",
		"no jobs: another version": "waiting"} {
		w := WorkerState{State: state, Heard: time.Now()}
		require.Equal(t, want, w.seen(time.Minute))
		if w.Heard = time.Now().Add(-time.Hour); state == "working" || want == "waiting" {
			want = "silent"
		}
		require.Equal(t, want, w.seen(time.Minute))
	}
}
