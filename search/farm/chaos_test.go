//go:build !nofarm && unix

package farm

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/testdata"
	kernels "github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/trained"
)

// How long TestChaos goes on with new runs, of which there are at most ten; 0: one small run. `make test-farm` says it.
var chaosTime = flag.Duration("chaos", 0, "how long TestChaos begins runs")

// stage is what all processes of a chaos run share; it lies in their folder.
type stage struct {
	Dir     string
	Images  string
	At      string // of the coordinator
	Join    string // of the workers
	Keys    string // folder of MakeKeys, of a server of its own; empty: the coordinator's server
	Port    int    // of that server
	Rounds  int
	Round   int // labels
	Lag     int // how many rounds may be in work beside the one that is asked for
	Millis  int // of an epoch
	AckWait time.Duration
	Crashes int
	Poison  bool // an architecture kills its workers
	Silent  bool // workers tell little of a training
}

const (
	stageName   = "stage.json"
	releaseName = "release" // the last round waits for this file
	childMode   = "CTNAS_TEST_CHILD_MODE"
	childDir    = "CTNAS_TEST_CHILD_DIR"
)

func TestMain(m *testing.M) {
	mode := os.Getenv(childMode)
	if mode == "" {
		os.Exit(m.Run())
	}
	text, err := os.ReadFile(filepath.Join(os.Getenv(childDir), stageName))
	var s stage
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = s.play(ctx, mode)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", mode, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// play is a process of a run.
func (s stage) play(ctx context.Context, mode string) error {
	switch mode {
	case "server":
		server, err := bus.Serve(bus.ServerConfig{Host: "127.0.0.1", Port: s.Port, Keys: s.Keys,
			Store: filepath.Join(s.Dir, "store"), Publish: []string{">"}, Subscribe: []string{">"}})
		if err != nil {
			return err
		}
		<-ctx.Done()
		server.Close()
		return nil
	case "worker":
		keys := s.Keys
		if keys == "" {
			keys = filepath.Join(s.Dir, "farm")
		}
		return Work(ctx, Worker{Join: s.Join, Keys: filepath.Join(keys, bus.KeysFolder), Version: "this",
			Work: filepath.Join(s.Dir, "work"), Tell: func(text string) { fmt.Println(text) },
			Executor: func(context.Context, Charter) (Fitted, error) {
				return Fit(actor{stage: s, dies: true}, "level", 1, nil), nil
			}})
	}
	var q *Queue
	err := s.search(ctx, filepath.Join(s.Dir, "run"), func(cache trained.Cache) trained.Executor {
		q = NewQueue(Config{Dir: filepath.Join(s.Dir, "farm"), Keys: s.Keys, At: s.At, AckWait: s.AckWait,
			Crashes: s.Crashes, Tell: func(text string) { fmt.Println(text) }})
		return job.On[trained.Job](q, cache.Put)
	})
	if err != nil {
		return err
	}
	if list := q.Different(ctx); len(list) > 0 {
		return fmt.Errorf("records that differ: %v", list)
	}
	return errors.Join(q.End(ctx), q.Close())
}

// search is the search of a run, in a folder, whose trainings an executor does.
func (s stage) search(ctx context.Context, dir string, elsewhere func(trained.Cache) trained.Executor) error {
	spec, err := trained.Parse("train:imagenet:" + s.Images + "?recipe=shapes&epochs=6&batch=10&channels=8" +
		"&resolution=8&val-split=0.3&recalibrate=1&warmup=0&lr=0.05&stop=median&stop-after=2&failed=chance")
	if err != nil {
		return err
	}
	source, err := trained.Open(ctx, trained.Config{Spec: spec, Space: space.NASBench101{Vertices: 5},
		Cache: dir + ".cache", Version: "this", Level: "level", Elsewhere: elsewhere})
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	c, err := search.Preset(search.PresetDefault)
	if err != nil {
		return err
	}
	c.Space, c.Budget = "nasbench101-v5", s.Rounds*s.Round
	_, err = run.With(ctx, rounds{s}, c, run.Deps{Space: source.Space, Source: source, Checksum: source.Checksum(),
		Device: kernels.Config{Device: "cpu", Threads: 1}, Dir: dir, Program: run.Program{Version: "this"}})
	return err
}

// rounds is a method that labels random architectures, round by round, with a lag.
type rounds struct{ stage }

func (rounds) Name() string { return "rounds" }

func (r rounds) Run(ctx context.Context, s *run.Run) error {
	last := -1
	if _, err := s.Restore(&last); err != nil {
		return err
	}
	for round := last + 1; round < r.Rounds; round++ {
		stream := philox.New(s.Seed, philox.PurposeSample, uint32(round))
		for last := round == r.Rounds-1; last && missing(filepath.Join(r.Dir, releaseName)); {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
		var requests []ledger.Request
		for _, a := range s.Draw(r.Round, stream, s.Sample, 1e6) {
			requests = append(requests, ledger.Request{Arch: a, Proposer: "random"})
		}
		if err := s.Submit(ctx, round, requests); err != nil {
			return err
		}
		for len(s.Ledger.Pending()) > r.Lag || round == r.Rounds-1 && len(s.Ledger.Pending()) > 0 {
			if _, err := s.Collect(ctx); err != nil {
				return err
			}
		}
		if err := s.Save(round); err != nil {
			return err
		}
	}
	return nil
}

// actor trains as a function of its job alone, slowly.
type actor struct {
	stage
	dies  bool          // of poison; otherwise it gives the job up as a farm does
	cache trained.Cache // where its records go; empty: the coordinator's business
}

func (actor) Capacity(jobs int) int { return min(jobs, 64) }

func (a actor) Do(ctx context.Context, j trained.Job, tell func(job.Notice)) (*trained.Record, error) {
	sum := digest.Of([]byte(j.Key.Arch))
	kind := int(sum[0])*16 + int(sum[1]) // two hexadecimal digits
	switch {
	case a.Silent:
	case kind%41 == 3 && !a.dies, kind%41 == 4 && a.Poison && !a.dies:
		return nil, &job.Failed{Err: errors.New("given up")}
	case kind%41 == 3:
		return nil, errors.New("it never works")
	case kind%41 == 4 && a.Poison:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	r := &trained.Record{Key: j.Key, Params: int64(kind), Seconds: rand.Float64()}
	for e := 1; e <= j.Key.Recipe.Epochs; e++ {
		if a.dies {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(a.Millis) * time.Millisecond):
			}
		}
		v := (0.1 + float64(kind%97)/140) * float64(e+3) / 9
		r.Validation = append(r.Validation, v)
		for n := range 20 { // more than is read
			if a.Silent && n+e > 1 {
				break
			}
			tell(job.Notice{Device: "cpu", Epoch: e, Accuracy: v})
		}
	}
	r.Test = &r.Validation[len(r.Validation)-1]
	if a.cache != "" {
		return r, a.cache.Put(r)
	}
	return r, nil
}

// child is a process that is started again whenever it ends, until its run is over.
type child struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	over  bool
	ended chan struct{} // the process that is there now
}

// chaos are the processes of a run.
type chaos struct {
	t        *testing.T
	stage    stage
	out      *os.File
	children []*child
	all      sync.WaitGroup
	wipe     string // folder that is deleted now and then before its process begins
	wiped    int
	finished chan struct{} // the coordinator has ended well
	through  []string      // words before a worker's command line
}

// keep starts a process, and again whenever it has ended. A coordinator that has ended well ends the run.
func (c *chaos) keep(mode string, before func()) *child {
	k := &child{}
	c.children = append(c.children, k)
	ready := make(chan struct{})
	first := sync.OnceFunc(func() { close(ready) })
	c.all.Go(func() {
		for {
			words := []string{os.Args[0]}
			if mode == "worker" {
				words = append(slices.Clone(c.through), words...)
			}
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Env = append(os.Environ(), childMode+"="+mode, childDir+"="+c.stage.Dir)
			cmd.Stdout, cmd.Stderr = c.out, c.out
			k.mu.Lock()
			if k.over {
				k.mu.Unlock()
				return
			}
			if before != nil && k.cmd != nil {
				before()
			}
			err := cmd.Start()
			if err != nil {
				k.mu.Unlock()
				c.t.Error(err)
				return
			}
			k.cmd, k.ended = cmd, make(chan struct{})
			ended := k.ended
			k.mu.Unlock()
			first()
			err = cmd.Wait()
			close(ended)
			if mode == "coordinator" && err == nil {
				close(c.finished)
				return
			}
		}
	})
	<-ready
	return k
}

// signal sends one to the process that is there now.
func (k *child) signal(s syscall.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.ended:
	default:
		_ = k.cmd.Process.Signal(s)
	}
}

// stop ends all processes for good.
func (c *chaos) stop() {
	for _, k := range c.children {
		k.mu.Lock()
		k.over = true
		k.mu.Unlock()
		k.signal(syscall.SIGCONT)
		k.signal(syscall.SIGKILL)
	}
	c.all.Wait()
}

// freePort is one that nobody listens at.
func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newChaos prepares a run, with a server of its own or the coordinator's.
func newChaos(t *testing.T, s stage, own bool) *chaos {
	s.Dir, s.Images = t.TempDir(), testdata.Images(t)
	port := freePort(t)
	s.At, s.Join = fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("tls://127.0.0.1:%d", port)
	c := &chaos{t: t, finished: make(chan struct{}), wipe: filepath.Join(s.Dir, "farm", "store")}
	farm := filepath.Join(s.Dir, "farm")
	require.NoError(t, os.MkdirAll(farm, 0o755))
	if own {
		s.Keys, s.Port = filepath.Join(s.Dir, "keys"), port
		require.NoError(t, bus.MakeKeys(s.Keys))
		id, err := identity(filepath.Join(farm, "id"))
		require.NoError(t, err)
		s.At, s.Join = s.Join, s.Join+"/"+id
		c.wipe = filepath.Join(s.Dir, "store")
	} else { // workers may come before the coordinator
		require.NoError(t, bus.MakeKeys(farm))
	}
	c.stage = s
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, stageName), encode(s), 0o644))
	var err error
	c.out, err = os.Create(filepath.Join(s.Dir, "output"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.out.Close() })
	return c
}

// judge compares what the farm has found with what one process finds.
func (c *chaos) judge() {
	require.NoError(c.t, c.stage.search(c.t.Context(), filepath.Join(c.stage.Dir, "local"),
		func(cache trained.Cache) trained.Executor { return actor{stage: c.stage, cache: cache} }))
	for _, name := range []string{"ledger.jsonl", "result.json"} {
		want, err := os.ReadFile(filepath.Join(c.stage.Dir, "local", name))
		require.NoError(c.t, err)
		got, err := os.ReadFile(filepath.Join(c.stage.Dir, "run", name))
		require.NoError(c.t, err)
		require.Equal(c.t, string(want), string(got), name)
		if name == "ledger.jsonl" {
			require.Equal(c.t, c.stage.Rounds*c.stage.Round, strings.Count(string(got), "\n"))
			require.Contains(c.t, string(got), `"failed":[0]`, "one candidate fails")
			require.Contains(c.t, string(got), `"stopped":[`, "others are stopped")
		}
	}
}

// release lets the last round begin.
func (c *chaos) release() {
	require.NoError(c.t, os.WriteFile(filepath.Join(c.stage.Dir, releaseName), nil, 0o644))
}

// limit bounds a run.
const limit = 100 * time.Second

// torment kills and stops processes until at least so many kills were made and the search has ended well.
func (c *chaos) torment(r *rand.Rand, coordinator, server *child, workers []*child, kills int) (
	made map[string]int) {
	made = map[string]int{}
	total, released := 0, false
	var stopped sync.WaitGroup
	defer stopped.Wait()
	end := time.After(limit)
	for {
		select {
		case <-c.finished:
			return made
		case <-end:
			text, _ := os.ReadFile(filepath.Join(c.stage.Dir, "output"))
			c.t.Fatalf("the search has not ended after %v and %v:\n%s", limit, made, tail(string(text)))
		case <-time.After(time.Duration(40+r.IntN(120)) * time.Millisecond):
		}
		w := workers[r.IntN(len(workers))]
		what := ""
		switch k := r.IntN(20); {
		case total >= kills && !released:
			released = true
			c.release()
			continue
		case released && k > 1: // the end is to come
			continue
		case k < 11:
			what = "worker killed"
			w.signal(syscall.SIGKILL)
		case k < 14:
			what = "worker told to end"
			w.signal(syscall.SIGTERM)
		case k < 16:
			what = "worker stopped"
			w.signal(syscall.SIGSTOP)
			stopped.Go(func() {
				time.Sleep(c.stage.AckWait * 3 / 2)
				w.signal(syscall.SIGCONT)
			})
		case k < 18 || server == nil:
			what = "coordinator killed"
			coordinator.signal(syscall.SIGKILL)
		default:
			what = "server killed"
			server.signal(syscall.SIGKILL)
		}
		made[what]++
		if strings.HasSuffix(what, "killed") {
			total++
		}
	}
}

// A search whose coordinator, server and workers are killed, stopped and started again at any moment, and whose server
// forgets what it has stored, ends in the bytes of one that nothing happens to: nothing is lost, labelled twice or out
// of order. So it does beside workers that have another key, another version or other images.
func TestChaos(t *testing.T) {
	if testing.Short() && *chaosTime == 0 {
		t.Skip("it takes processes of its own")
	}
	runs, s, kills := 1, stage{Rounds: 3, Round: 17, Millis: 4, AckWait: 400 * time.Millisecond, Crashes: 8}, 4
	if *chaosTime > 0 {
		runs, s.Round, s.Millis, kills = 10, 40, 12, 30
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	begun := time.Now()
	for n := range runs {
		if n > 0 && time.Since(begun) > *chaosTime {
			t.Logf("%d of %d runs in %v", n, runs, *chaosTime)
			break
		}
		own, wipe := n%4 >= 2, n%2 == 1
		s.Poison, s.Lag = *chaosTime > 0 && (n+1)%4 < 2, 1-n%2
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newChaos(t, s, own)
			defer c.stop()
			before := func() {
				if wipe && c.wiped < 3 {
					c.wiped++
					require.NoError(t, os.RemoveAll(c.wipe))
				}
			}
			var server *child
			if own {
				server = c.keep("server", before)
				before = nil
			}
			coordinator := c.keep("coordinator", before)
			var workers []*child
			for range []int{3, 8, 1}[n%3] {
				workers = append(workers, c.keep("worker", nil))
			}
			misfits := c.misfits()
			made := c.torment(r, coordinator, server, workers, kills)
			c.stop()
			misfits()
			c.judge()
			t.Logf("seed %d: %v, lag %d, own server %v, store deleted %d times, %v", seed, made, s.Lag, own, c.wiped,
				time.Since(begun).Round(time.Millisecond))
		})
	}
}

// misfits joins workers that may do nothing, until the function that it returns, which checks that they did nothing.
func (c *chaos) misfits() (end func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	stranger := c.t.TempDir()
	require.NoError(c.t, bus.MakeKeys(stranger))
	keys := c.stage.Keys
	if keys == "" {
		keys = filepath.Join(c.stage.Dir, "farm")
	}
	idle := &fake{}
	base := Worker{Join: c.stage.Join, Keys: filepath.Join(keys, bus.KeysFolder), Version: "this",
		Executor: func(context.Context, Charter) (Fitted, error) { return Fit(idle, "level", 1, nil), nil }}
	other, poor, wrong := base, base, base
	other.Version = "that"
	poor.Executor = func(context.Context, Charter) (Fitted, error) { return Fitted{}, errors.New("other images") }
	wrong.Keys = filepath.Join(stranger, bus.KeysFolder)
	var all sync.WaitGroup
	var refused error
	all.Go(func() { _ = Work(ctx, other) })
	all.Go(func() { _ = Work(ctx, poor) })
	all.Go(func() { refused = Work(ctx, wrong) })
	return func() {
		cancel()
		all.Wait()
		require.ErrorIs(c.t, refused, bus.ErrRefused)
		require.Zero(c.t, idle.total())
	}
}

// A worker whose network is cut and healed loses its job to another, and nothing else happens. It needs a network
// namespace, which root alone can make.
func TestPartition(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("only with -chaos (make test-farm)")
	}
	ip := func(words ...string) error {
		out, err := exec.Command("ip", words...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %v: %w: %s", words, err, out)
		}
		return nil
	}
	name := fmt.Sprintf("ctnas%d", os.Getpid())
	if err := ip("netns", "add", name); err != nil {
		t.Skipf("no network can be cut here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, ip("netns", "del", name)) })
	here, there := fmt.Sprintf("v%d", os.Getpid()), fmt.Sprintf("w%d", os.Getpid())
	if err := ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name); err != nil {
		t.Skipf("no network can be cut here: %v", err)
	}
	net3 := os.Getpid() % 250
	for _, words := range [][]string{
		{"addr", "add", fmt.Sprintf("10.213.%d.1/24", net3), "dev", here}, {"link", "set", here, "up"},
		{"-n", name, "addr", "add", fmt.Sprintf("10.213.%d.2/24", net3), "dev", there},
		{"-n", name, "link", "set", there, "up"}, {"-n", name, "link", "set", "lo", "up"},
	} {
		require.NoError(t, ip(words...))
	}
	s := stage{Rounds: 2, Round: 25, Millis: 25, AckWait: 600 * time.Millisecond, Crashes: 8}
	c := newChaos(t, s, false)
	c.stage.At = fmt.Sprintf("10.213.%d.1:%d", net3, freePort(t))
	c.stage.Join = "tls://" + c.stage.At
	require.NoError(t, os.WriteFile(filepath.Join(c.stage.Dir, stageName), encode(c.stage), 0o644))
	defer c.stop()
	c.keep("coordinator", nil)
	c.keep("worker", nil)
	c.through = []string{"ip", "netns", "exec", name}
	c.keep("worker", nil)
	cuts := 0
	for end := time.After(limit); ; {
		select {
		case <-c.finished:
			c.stop()
			c.judge()
			require.Positive(t, cuts)
			t.Logf("%d cuts", cuts)
			return
		case <-end:
			t.Fatal("the search has not ended")
		case <-time.After(500 * time.Millisecond):
		}
		cuts++
		require.NoError(t, ip("link", "set", here, "down"))
		time.Sleep(time.Second)
		require.NoError(t, ip("link", "set", here, "up"))
		if cuts == 2 {
			c.release()
		}
	}
}
