//go:build !nofarm && unix

package farm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/trained"
)

// The benchmarks of this package say what a farm costs beside the trainings:
//
//	go test -run '^$' -bench . -benchtime 1x ./search/farm

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// coordinate is a coordinator with workers: processes where they die or count, otherwise of this one.
func coordinate(b *testing.B, quick bool, ackWait time.Duration, jobs []trained.Job) (*Queue, string) {
	dir, joined := b.TempDir(), ""
	q := NewQueue(Config{Dir: filepath.Join(dir, "farm"), At: "127.0.0.1:0", AckWait: ackWait, Quick: quick,
		Joined: func(join, _ string) { joined = join }})
	b.Cleanup(func() { require.NoError(b, q.Close()) })
	require.NoError(b, q.open(b.Context(), jobs[0]))
	return q, joined
}

// trainings has them done by a coordinator.
func trainings(q *Queue) trained.Executor {
	return job.On[trained.Job](q, trained.Cache(filepath.Join(filepath.Dir(q.Dir), "cache")).Put)
}

// processes starts workers that train in no time, or a while.
func processes(b *testing.B, q *Queue, join string, n, millis int) []*child {
	dir := filepath.Dir(q.Dir)
	s := stage{Dir: dir, Join: join, Millis: millis, Silent: true}
	require.NoError(b, os.WriteFile(filepath.Join(dir, stageName), encode(s), 0o644))
	out, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(b, err)
	c := &chaos{stage: s, out: out}
	b.Cleanup(func() { c.stop(); _ = out.Close() })
	for range n {
		c.keep("worker", nil)
	}
	require.Eventually(b, func() bool {
		list, err := workers(b.Context(), q.conn, q.names)
		return err == nil && len(list) == n
	}, time.Minute, 10*time.Millisecond)
	return c.children
}

func doAll(b *testing.B, q *Queue, jobs []trained.Job) {
	var all sync.WaitGroup
	for _, j := range jobs {
		all.Go(func() {
			if _, err := trainings(q).Do(b.Context(), j, func(job.Notice) {}); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
}

// Empty jobs a second through four workers, each a process, with and without a flush of the disk after each message;
// processor time of the coordinator with its server a job.
func BenchmarkJobs(b *testing.B) {
	for _, quick := range []bool{false, true} {
		name := "flushed"
		if quick {
			name = "quick"
		}
		b.Run(name, func(b *testing.B) {
			const n = 1000
			jobs := some(0, n*b.N)
			q, join := coordinate(b, quick, DefaultAckWait, jobs)
			processes(b, q, join, 4, 0)
			before := cpuTime(b)
			b.ResetTimer()
			for i := range b.N {
				doAll(b, q, jobs[i*n:(i+1)*n])
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric((cpuTime(b)-before).Seconds()*1e3/float64(n*b.N), "cpu-ms/job")
		})
	}
}

// The share of the workers' time that jobs of two seconds take.
func BenchmarkEfficiency(b *testing.B) {
	for _, n := range []int{8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const each, long = 4, 2 * time.Second
			jobs := some(0, each*n)
			q, join := coordinate(b, false, DefaultAckWait, jobs)
			e := &fake{hook: func(ctx context.Context, _ trained.Job) error {
				select {
				case <-ctx.Done():
				case <-time.After(long):
				}
				return nil
			}}
			w := Worker{Join: join, Keys: filepath.Join(q.Dir, bus.KeysFolder), Version: "this",
				Executor: func(context.Context, Charter) (Fitted, error) { return Fit(e, "level", 1, nil), nil }}
			for range n {
				go func() { _ = Work(b.Context(), w) }()
			}
			require.Eventually(b, func() bool {
				list, err := workers(b.Context(), q.conn, q.names)
				return err == nil && len(list) == n
			}, time.Minute, 10*time.Millisecond)
			b.ResetTimer()
			doAll(b, q, jobs)
			b.ReportMetric((each*long).Seconds()/b.Elapsed().Seconds(), "of-ideal")
		})
	}
}

// How long it takes from a job's submission until an idle worker trains it, and beyond the time that a worker may be
// silent until the job of a dead one is another's.
func BenchmarkLatency(b *testing.B) {
	const ackWait = 2 * time.Second
	jobs := some(0, 21)
	q, join := coordinate(b, false, ackWait, jobs)
	const millis = 1000 // of an epoch, after which the first news comes
	pool := processes(b, q, join, 2, millis)
	b.ResetTimer()
	start := func(j trained.Job) (begun chan string) {
		begun = make(chan string, 100)
		go func() {
			_, _ = trainings(q).Do(b.Context(), j, func(n job.Notice) { begun <- n.Device })
		}()
		return begun
	}
	var first time.Duration
	for _, j := range jobs[:5] {
		begin := time.Now()
		<-start(j)
		first += time.Since(begin)
		time.Sleep(6100 * time.Millisecond) // it ends
	}
	b.ReportMetric(first.Seconds()*1e3/5-millis, "begin-ms")
	begun := start(jobs[20])
	<-begun
	// One of the two has it: both are killed, and started again.
	begin := time.Now()
	for _, k := range pool {
		k.signal(syscall.SIGKILL)
	}
	<-begun
	b.ReportMetric((time.Since(begin)-ackWait).Seconds()-millis/1e3, "redelivery-s-beyond-patience")
}

// The memory of a coordinator with its server after 10^5 finished jobs.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	q, _ := coordinate(b, true, DefaultAckWait, some(0, 1))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for k := range 16 {
		all.Go(func() {
			for i := k; i < n; i += 16 {
				j := some(i, 1)[0]
				name := j.Name()
				ctx := b.Context()
				err := q.conn.Put(ctx, q.names.attempts(), q.names.attempt(name, "1"),
					encode(attempt{Worker: "host-1234", Host: "host", State: attemptBegun}))
				if err == nil {
					err = q.conn.Put(ctx, q.names.results(), q.names.result(name),
						encode(outcome{Result: encode(recordOf(j)), Worker: "host-1234", Device: "cpu"}))
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "heap-MB")
	text, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			var kib int
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
				b.ReportMetric(float64(kib)/1024, "rss-MB")
			}
		}
	}
}
