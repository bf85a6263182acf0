package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

var cells = space.NASBench101{}

// fake labels the cells of a list: more parameters are better, more edges too, and a little of the value is noise.
type fake struct {
	list   *List
	sealed bool
	asked  int
}

// someCells are 3,000 distinct cells, the same in every test and process.
var someCells = sync.OnceValue(func() *List {
	stream := philox.New(7, philox.PurposeTest, 0)
	seen := map[space.Arch]bool{}
	var archs []space.Arch
	for len(archs) < 3000 {
		if a := cells.Sample(stream); !seen[a] {
			seen[a] = true
			archs = append(archs, a)
		}
	}
	return NewList(archs)
})

func newFake() *fake { return &fake{list: someCells(), sealed: true} }

func accuracy(a space.Arch) float64 {
	noise, _ := strconv.ParseUint(a.Hash()[:4], 16, 32)
	return 0.95 - 0.2/(1+float64(a.Cost().Params)/4e6) + 0.003*float64(len(a.Graph().Edges)) - 0.004*float64(noise)/65536
}

func (f *fake) Has(a space.Arch) bool { _, ok := f.list.Index(a); return ok }
func (f *fake) Facts() ledger.Facts {
	return ledger.Facts{Source: "fake", Metric: "validation accuracy", Run: 1}
}
func (f *fake) Describe() string { return "chosen on validation accuracy, judged on test accuracy" }
func (f *fake) Label(_ context.Context, archs []space.Arch) (values []float64, err error) {
	for _, a := range archs {
		f.asked++
		values = append(values, accuracy(a))
	}
	return values, nil
}
func (f *fake) Unseal()    { f.sealed = false }
func (f *fake) Total() int { return f.list.Len() }
func (f *fake) Judge(a space.Arch) (float64, int, error) {
	if f.sealed {
		return 0, 0, errors.New("sealed")
	}
	if !f.Has(a) {
		return 0, 0, ledger.ErrNoLabel
	}
	better, _ := slices.BinarySearch(fakeRanking(), -accuracy(a))
	return accuracy(a) - 0.001, better + 1, nil
}

func (f *fake) Percentile(a space.Arch) (float64, error) {
	_, rank, err := f.Judge(a)
	return 100 * float64(rank) / float64(f.Total()), err
}

// fakeRanking holds the negative accuracies of the list in ascending order.
var fakeRanking = sync.OnceValue(func() (v []float64) {
	for _, a := range someCells().archs {
		v = append(v, -accuracy(a))
	}
	slices.Sort(v)
	return v
})

// tiny are settings of a search of a second.
func tiny(t require.TestingT, propose string) Config {
	preset := PresetDefault
	if propose == PresetReleased {
		preset = propose
	}
	c, err := Preset(preset)
	require.NoError(t, err)
	if preset == PresetReleased {
		c.Budget, c.Init, c.Steps, c.Validation = 31, 20, 30, 10
		c.Iterations, c.ExploreEvery, c.ExplorePairs, c.BaselineEvery, c.CheckpointEvery, c.Pool = 60, 10, 10, 20, 20, 20
		return c
	}
	c.Propose, c.Budget, c.Init, c.PerRound, c.Members, c.Steps, c.Iterations, c.Batch = propose, 40, 16, 8, 2, 12, 12, 16
	c.Pool, c.Mutations, c.BaselineEvery, c.ExploreEvery, c.ExplorePairs, c.CheckpointEvery = 64, 32, 4, 4, 8, 5
	return c
}

var modes = []string{ProposeController, ProposeSpace, ProposeAuto, PresetReleased}

var fakeCatalogue = sync.OnceValue(func() *Catalogue { return NewCatalogue(cells, someCells(), nil) })

func deps(t require.TestingT, dir string) Deps {
	return Deps{Space: cells, Source: newFake(), List: fakeCatalogue(), Dir: dir, Version: "test", Checksum: "abc"}
}

func TestASearchSpendsItsBudgetOnTheBestItFinds(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c, d := tiny(t, mode), deps(t, t.TempDir())
			r, err := Run(context.Background(), c, d)
			require.NoError(t, err)
			source := d.Source.(*fake)
			require.LessOrEqual(t, source.asked, c.Budget)
			require.Equal(t, source.asked, r.LabelsUsed)
			if mode != PresetReleased { // the last baseline may have a label already, or none to be bought
				require.Equal(t, c.Budget, r.LabelsUsed)
			}
			best := 0.0
			for _, l := range r.Ledger {
				best = math.Max(best, l.Value)
			}
			pick, err := cells.Parse(r.Pick)
			require.NoError(t, err)
			require.Equal(t, best, accuracy(pick))
			want, rank, err := source.Judge(pick)
			require.NoError(t, err)
			require.Equal(t, rank, r.PickRank)
			require.Equal(t, want, *r.PickJudged)
			require.Equal(t, r.LabelsUsed+unlabelledShown, len(r.Architectures))
			require.Equal(t, r.Pick, r.Architectures[0].Arch)
			require.Nil(t, r.Architectures[len(r.Architectures)-1].Accuracy)

			page, err := report.Load(d.Dir)
			require.NoError(t, err)
			require.Len(t, page.Ledger, r.LabelsUsed)
			kinds := map[string]bool{}
			for _, e := range page.Events {
				kinds[e.Name] = true
				if e.Name == report.EventJudged {
					require.Contains(t, e.Values, "percentile_samples")
					require.Equal(t, e.Values["percentile_samples"] > 0, e.Values["percentile"] > 0,
						"of no sample nothing is said")
				}
			}
			require.Equal(t, kinds[report.EventController], kinds[report.EventJudged])
			require.Equal(t, mode != ProposeSpace, kinds[report.EventBaseline] && kinds[report.EventController])
			require.True(t, kinds[report.EventRound] && kinds[report.EventComparator] && kinds[report.EventCost])
			proposers := map[string]bool{}
			for _, l := range page.Ledger {
				proposers[l.Proposer] = true
			}
			require.Equal(t, mode == ProposeSpace || mode == ProposeAuto, proposers[proposerSpace])
			require.FileExists(t, filepath.Join(d.Dir, report.PageName))

			// Nothing in result.json or ledger.jsonl tells a folder or a number of threads.
			again := deps(t, filepath.Join(t.TempDir(), "elsewhere"))
			again.Device = exec.Config{Threads: 3}
			_, err = Run(context.Background(), c, again)
			require.NoError(t, err)
			sameFiles(t, d.Dir, again.Dir)
		})
	}
}

func sameFiles(t *testing.T, want, got string) {
	t.Helper()
	for _, name := range []string{report.ResultName, report.LedgerName} {
		a, err := os.ReadFile(filepath.Join(want, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(got, name))
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), name)
	}
}

// everyCell can judge cells that it has no label of.
type everyCell struct{ *fake }

func (f everyCell) Judge(a space.Arch) (float64, int, error) {
	better, _ := slices.BinarySearch(fakeRanking(), -accuracy(a))
	return accuracy(a), better + 1, nil
}

func (f everyCell) Percentile(a space.Arch) (float64, error) {
	_, rank, err := f.Judge(a)
	return 100 * float64(rank) / float64(f.Total()), err
}

func TestTheSearchIsBetterThanRandom(t *testing.T) {
	for _, mode := range []string{ProposeController, ProposeAuto} {
		c := tiny(t, mode)
		c.Budget, c.Init, c.Steps, c.Iterations = 80, 30, 60, 30
		d := deps(t, "")
		d.Source = everyCell{newFake()}
		r, err := Run(context.Background(), c, d)
		require.NoError(t, err)
		if mode == ProposeAuto { // of 80 random ones the best has a mean rank of 37
			require.LessOrEqual(t, r.PickRank, 5)
		}
		require.Equal(t, []int{500, 500}, []int{r.Controller.FirstKnown, r.Controller.LastKnown})
		require.Less(t, *r.Controller.Last, *r.Controller.First-20, "the controller learns")
	}
}

// Stops in work: the context ends at the k-th sign of progress, and the search is resumed until it is through.
func TestAnInterruptedSearchEndsInTheSameBytes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := tiny(t, mode)
			whole := deps(t, t.TempDir())
			_, err := Run(context.Background(), c, whole)
			require.NoError(t, err)
			stopped, stops, step := t.TempDir(), 0, 2
			if testing.Short() && mode != ProposeSpace { // which says less
				step = 10
			}
			for signs := 1; ; signs += step {
				ctx, cancel := context.WithCancel(context.Background())
				d, left := deps(t, stopped), signs
				var mu sync.Mutex
				d.Progress = func(p Progress) {
					mu.Lock()
					defer mu.Unlock()
					if left--; left == 0 {
						cancel()
					}
				}
				loaded := c
				if stops > 0 {
					loaded, err = LoadConfig(stopped)
					require.NoError(t, err)
				}
				_, err := Run(ctx, loaded, d)
				cancel()
				if err == nil {
					break
				}
				require.ErrorIs(t, err, ErrInterrupted)
				require.ErrorIs(t, err, context.Canceled)
				stops++
				require.Less(t, stops, 100)
			}
			require.Greater(t, stops, 1)
			sameFiles(t, whole.Dir, stopped)
			sameEvents(t, whole.Dir, stopped)
			// A finished search says again what it found, and nothing in its folder changes.
			before := snapshotOf(t, stopped)
			source := deps(t, stopped)
			again, err := Run(context.Background(), c, source)
			require.NoError(t, err)
			require.True(t, again.Finished)
			require.Zero(t, source.Source.(*fake).asked)
			require.Positive(t, again.Seconds)
			require.Equal(t, before, snapshotOf(t, stopped))
			// Killed before the page was written: that is all there is to do.
			require.NoError(t, os.Remove(filepath.Join(stopped, report.PageName)))
			_, err = Run(context.Background(), c, deps(t, stopped))
			require.NoError(t, err)
			require.Equal(t, before, snapshotOf(t, stopped))
		})
	}
}

// snapshotOf is every file of a folder with its content.
func snapshotOf(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var text []byte
			text, err = os.ReadFile(path)
			all[path] = string(text)
		}
		return err
	}))
	return all
}

// sameEvents tells that two runs logged the same, each step once, but for the time that it took.
func sameEvents(t *testing.T, want, got string) {
	t.Helper()
	of := func(dir string) (list []report.Event) {
		text, err := os.ReadFile(filepath.Join(dir, report.LogName))
		require.NoError(t, err)
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var e report.Event
			require.NoError(t, json.Unmarshal([]byte(line), &e))
			if e.Seconds, e.Time = 0, ""; e.Name != report.EventCost {
				list = append(list, e)
			}
		}
		return list
	}
	require.Equal(t, of(want), of(got))
}

const childDir, childMode, childKill = "CTNAS_TEST_CHILD_DIR", "CTNAS_TEST_CHILD_MODE", "CTNAS_TEST_CHILD_KILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		t := &child{}
		c := tiny(t, os.Getenv(childMode))
		if _, err := os.Stat(filepath.Join(dir, ConfigName)); err == nil {
			c, err = LoadConfig(dir)
			require.NoError(t, err)
		}
		d := deps(t, dir)
		calls, killAt := 0, -1
		if text := os.Getenv(childKill); text != "" {
			var err error
			killAt, err = strconv.Atoi(text)
			require.NoError(t, err)
			d.Progress = func(Progress) {
				if calls++; calls == killAt { // from another thread, at whatever the search is doing by then
					go func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }()
				}
			}
		} else {
			d.Progress = func(Progress) { calls++ }
		}
		_, err := Run(context.Background(), c, d)
		require.NoError(t, err)
		if killAt > 0 && calls >= killAt {
			select {} // the signal is on its way
		}
		fmt.Println(calls)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child reports a failure of a test's child process.
type child struct{}

func (*child) Errorf(format string, args ...any) { fmt.Printf(format, args...) }
func (*child) FailNow()                          { os.Exit(1) }

// The process is killed with SIGKILL again and again, and started anew each time.
func TestAKilledSearchEndsInTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills several processes; left out with -short")
	}
	for i, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			start := func(dir string, kill int) *osexec.Cmd {
				cmd := osexec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), childDir+"="+dir, childMode+"="+mode)
				if kill > 0 {
					cmd.Env = append(cmd.Env, fmt.Sprint(childKill, "=", kill))
				}
				return cmd
			}
			whole, killed := t.TempDir(), t.TempDir()
			output, err := start(whole, 0).CombinedOutput()
			require.NoError(t, err, string(output))
			calls, err := strconv.Atoi(strings.TrimSpace(string(output)))
			require.NoError(t, err, string(output))
			places, kills := philox.New(4, philox.PurposeTest, uint32(i)), 0
			for range 4 {
				at := 1 + places.Intn(calls/2)
				output, err := start(killed, at).CombinedOutput()
				if err == nil { // it had less to do than that since the last one was killed
					break
				}
				require.ErrorContains(t, err, "killed", string(output))
				kills++
				t.Logf("killed at call %d of %d", at, calls)
			}
			output, err = start(killed, 0).CombinedOutput()
			require.NoError(t, err, string(output))
			require.Positive(t, kills)
			sameFiles(t, whole, killed)
			sameEvents(t, whole, killed)
		})
	}
}

func TestResumeRefusesWhatWouldDiffer(t *testing.T) {
	c, d := tiny(t, ProposeAuto), deps(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	d.Progress = func(p Progress) {
		if p.Round == 2 {
			cancel()
		}
	}
	_, err := Run(ctx, c, d)
	require.ErrorIs(t, err, ErrInterrupted)
	d.Progress = nil
	try := func(change func(c *Config, d *Deps)) error {
		c, d := c, d
		change(&c, &d)
		_, err := Run(context.Background(), c, d)
		return err
	}
	require.ErrorContains(t, try(func(c *Config, _ *Deps) { c.Seed++ }), "other ones than those given now")
	require.ErrorContains(t, try(func(_ *Config, d *Deps) { d.Version = "2" }), "begun by version test, this is 2")
	require.ErrorContains(t, try(func(_ *Config, d *Deps) { d.Checksum = "def" }), "other data")
	other := ""
	for _, level := range exec.Levels() {
		dev, err := exec.Open(exec.Config{})
		require.NoError(t, err)
		if dev.Level() != level {
			other = level
		}
		dev.Close()
	}
	require.ErrorContains(t, try(func(_ *Config, d *Deps) { d.Device.Level = other }), "the results would differ")
	snap, err := readSnapshot(d.Dir)
	require.NoError(t, err)
	snap.Level = "avx4096"
	require.NoError(t, writeSnapshot(d.Dir, snap))
	require.ErrorContains(t, try(func(*Config, *Deps) {}), "it was begun on avx4096, elsewhere the results would differ")
	// The checkpoint before it is the true one: with a damaged latest one it is taken.
	latest := filepath.Join(d.Dir, checkpoint.Dir, checkpoint.Latest)
	data, err := os.ReadFile(latest)
	require.NoError(t, err)
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(latest, data, 0o644))
	require.NoError(t, try(func(*Config, *Deps) {}))
	whole := deps(t, t.TempDir())
	_, err = Run(context.Background(), c, whole)
	require.NoError(t, err)
	sameFiles(t, whole.Dir, d.Dir)
	require.NoError(t, os.WriteFile(latest, data[:20], 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(d.Dir, checkpoint.Dir, checkpoint.Previous), data, 0o644))
	require.ErrorContains(t, try(func(*Config, *Deps) {}), "damaged checkpoint")
}

func TestAFolderOfAnotherSearchIsRefusedBeforeItsFirstCheckpoint(t *testing.T) {
	c, d := tiny(t, ProposeSpace), deps(t, t.TempDir())
	text, err := c.YAML(map[string]string{"version": "x"})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(d.Dir, ConfigName), text, 0o644))
	other := c
	other.Budget++
	_, err = Run(context.Background(), other, d)
	require.ErrorContains(t, err, "cannot be resumed")
	other = c
	other.Method = "evolution"
	_, err = Run(context.Background(), other, d)
	require.ErrorContains(t, err, "evolution, not with ctnas")
	_, err = Run(context.Background(), c, d)
	require.NoError(t, err)
}

func TestConstraintsAreKept(t *testing.T) {
	for _, mode := range []string{ProposeController, ProposeAuto} {
		c := tiny(t, mode)
		c.MaxParams, c.MaxMAdds = 6_000_000, 900_000_000
		r, err := Run(context.Background(), c, deps(t, ""))
		require.NoError(t, err)
		require.Len(t, r.Ledger, c.Budget)
		for _, a := range r.Architectures {
			require.LessOrEqual(t, *a.Params, c.MaxParams)
			require.LessOrEqual(t, *a.MAdds, c.MaxMAdds)
		}
	}
	c := tiny(t, ProposeController)
	c.MaxParams = 1
	_, err := Run(context.Background(), c, deps(t, ""))
	require.ErrorContains(t, err, "loosen --max-params")
}

func TestOtherSource(t *testing.T) {
	line := "table a" + sourceImages + "i" + sourceLatency + "b" + sourceSpace + "c"
	for other, want := range map[string]string{
		"table d" + sourceImages + "j" + sourceLatency + "b" + sourceSpace + "c": "the images that its labels were trained on have changed: i; now: j",
		"table d" + sourceImages + "i" + sourceLatency + "b" + sourceSpace + "c": "its labels came from other data: table a; now: table d",
		"table a" + sourceImages + "i" + sourceLatency + "d" + sourceSpace + "c": "its latencies came from another table: b; now: d",
		"table a" + sourceImages + "i" + sourceSpace + "c":                       "its latencies came from another table: b; now: none",
		"table a" + sourceImages + "i" + sourceLatency + "b" + sourceSpace + "d": "its space came from another file: c; now: d",
	} {
		require.Equal(t, want, otherSource(line, other))
	}
}

func TestAblationSwitches(t *testing.T) {
	if testing.Short() {
		t.Skip("four more searches: not with -short")
	}
	dir := t.TempDir()
	c := tiny(t, ProposeController)
	run := func(name string, change func(c *Config)) (*Result, *snapshot) {
		c, d := c, deps(t, filepath.Join(dir, name))
		change(&c)
		r, err := Run(context.Background(), c, d)
		require.NoError(t, err)
		s, err := readSnapshot(d.Dir)
		require.NoError(t, err)
		return r, s
	}
	usual, s := run("usual", func(*Config) {})
	require.NotEmpty(t, s.Pseudo)
	require.Greater(t, len(s.History), 1)
	_, s = run("fixed", func(c *Config) { c.Baseline = BaselineFixed })
	require.Len(t, s.History, 1)
	require.Equal(t, s.History[0], s.Baseline)
	_, s = run("blind", func(c *Config) { c.Explore = false })
	require.Empty(t, s.Pseudo)
	absolute, _ := run("absolute", func(c *Config) { c.Reward = RewardAbsolute })
	require.NotEqual(t, usual.Ledger, absolute.Ledger)
}

func TestResultHasTheKeysOfTheContract(t *testing.T) {
	d := deps(t, t.TempDir())
	_, err := Run(context.Background(), tiny(t, ProposeSpace), d)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(d.Dir, report.ResultName))
	require.NoError(t, err)
	var r map[string]any
	require.NoError(t, json.Unmarshal(text, &r))
	for _, key := range []string{"space", "labels_used", "seed", "device", "architectures", "pick", "pareto"} {
		require.Contains(t, r, key)
	}
	for _, key := range []string{"arch", "hash", "predicted_rank", "accuracy", "accuracy_source", "madds", "params", "latency_ms"} {
		require.Contains(t, r["architectures"].([]any)[0], key)
	}
}
