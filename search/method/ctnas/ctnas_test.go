package ctnas_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/method/guided"
	_ "github.com/ctnas/ctnas/search/method/released"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

var cells = runtest.Space

// tiny are settings of a search of a second.
func tiny(t require.TestingT, propose string) search.Config {
	preset := search.PresetDefault
	if propose == search.PresetReleased {
		preset = propose
	}
	c, err := search.Preset(preset)
	require.NoError(t, err)
	if preset == search.PresetReleased {
		c.Budget, c.Init, c.Steps, c.Validation = 31, 20, 30, 10
		c.Iterations, c.ExploreEvery, c.ExplorePairs, c.BaselineEvery, c.CheckpointEvery, c.Pool =
			60, 10, 10, 20, 20, 20
		return c
	}
	c.Propose, c.Budget, c.Init, c.PerRound, c.Members, c.Steps, c.Iterations, c.Batch =
		propose, 40, 16, 8, 2, 12, 12, 16
	c.Pool, c.Mutations, c.BaselineEvery, c.ExploreEvery, c.ExplorePairs, c.CheckpointEvery = 64, 32, 4, 4, 8, 5
	return c
}

var modes = []string{search.ProposeController, search.ProposeSpace, search.ProposeAuto, search.PresetReleased}

func deps(_ require.TestingT, dir string) run.Deps {
	return run.Deps{Space: cells, Source: runtest.NewSource(), All: runtest.Catalogue(), Dir: dir,
		Program: run.Program{Version: "test"}, Checksum: "abc"}
}

func TestASearchSpendsItsBudgetOnTheBestItFinds(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			if mode == search.ProposeSpace {
				testdata.SkipUnlessAll(t, "auto and controller say nearly as much")
			}
			c, d := tiny(t, mode), deps(t, t.TempDir())
			r, err := run.Do(context.Background(), c, d)
			require.NoError(t, err)
			source := d.Source.(*runtest.Source)
			require.LessOrEqual(t, len(source.Asked), c.Budget)
			require.Equal(t, len(source.Asked), r.LabelsUsed)
			if mode != search.PresetReleased { // the last baseline may have a label already, or none to be bought
				require.Equal(t, c.Budget, r.LabelsUsed)
			}
			best := 0.0
			for _, l := range r.Ledger {
				best = math.Max(best, l.Value)
			}
			pick, err := cells.Parse(r.Pick)
			require.NoError(t, err)
			require.Equal(t, best, runtest.Accuracy(pick))
			want, rank, err := source.Judge(pick)
			require.NoError(t, err)
			require.Equal(t, rank, r.PickRank)
			require.Equal(t, want, *r.PickJudged)
			require.Equal(t, r.LabelsUsed+guided.UnlabelledShown, len(r.Architectures))
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
			require.Equal(t, mode != search.ProposeSpace, kinds[report.EventBaseline] && kinds[report.EventController])
			require.True(t, kinds[report.EventRound] && kinds[report.EventComparator] && kinds[report.EventCost])
			proposers := map[string]bool{}
			for _, l := range page.Ledger {
				proposers[l.Proposer] = true
			}
			require.Equal(t, mode == search.ProposeSpace || mode == search.ProposeAuto, proposers[guided.ProposerSpace])
			require.FileExists(t, filepath.Join(d.Dir, report.PageName))

			// Nothing in result.json or ledger.jsonl tells a folder or a number of threads.
			again := deps(t, filepath.Join(t.TempDir(), "elsewhere"))
			again.Device = exec.Config{Threads: 3}
			_, err = run.Do(context.Background(), c, again)
			require.NoError(t, err)
			runtest.SameFiles(t, d.Dir, again.Dir)
		})
	}
}

// everyCell can judge cells that it has no label of.
type everyCell struct{ *runtest.Source }

func (f everyCell) Judge(a space.Arch) (float64, int, error) {
	return runtest.Accuracy(a), runtest.Rank(a), nil
}

func (f everyCell) Percentile(a space.Arch) (float64, error) {
	_, rank, err := f.Judge(a)
	return 100 * float64(rank) / float64(f.Total()), err
}

func TestTheSearchIsBetterThanRandom(t *testing.T) {
	for _, mode := range []string{search.ProposeController, search.ProposeAuto} {
		if mode == search.ProposeController && !testdata.All() {
			continue // auto has a controller, too
		}
		c := tiny(t, mode)
		c.Budget, c.Init, c.Steps, c.Iterations = 80, 30, 60, 30
		d := deps(t, "")
		d.Source = everyCell{runtest.NewSource()}
		r, err := run.Do(context.Background(), c, d)
		require.NoError(t, err)
		if mode == search.ProposeAuto { // of 80 random ones the best has a mean rank of 37
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
			if mode == search.ProposeController {
				testdata.SkipUnlessAll(t, "auto is both")
			}
			c := tiny(t, mode)
			whole := deps(t, t.TempDir())
			_, err := run.Do(context.Background(), c, whole)
			require.NoError(t, err)
			stopped, stops, step := t.TempDir(), 0, 2
			if !testdata.All() && mode != search.ProposeSpace { // which says less
				step = 10
			}
			for signs := 1; ; signs += step {
				ctx, cancel := context.WithCancel(context.Background())
				d, left := deps(t, stopped), signs
				var mu sync.Mutex
				d.Progress = func(p run.Progress) {
					mu.Lock()
					defer mu.Unlock()
					if left--; left == 0 {
						cancel()
					}
				}
				loaded := c
				if stops > 0 {
					loaded, err = search.LoadConfig(stopped)
					require.NoError(t, err)
				}
				_, err := run.Do(ctx, loaded, d)
				cancel()
				if err == nil {
					break
				}
				require.ErrorIs(t, err, run.ErrInterrupted)
				require.ErrorIs(t, err, context.Canceled)
				stops++
				require.Less(t, stops, 100)
			}
			require.Greater(t, stops, 1)
			runtest.SameFiles(t, whole.Dir, stopped)
			runtest.SameEvents(t, whole.Dir, stopped)
			// A finished search says again what it found, and nothing in its folder changes.
			before := runtest.Files(t, stopped)
			source := deps(t, stopped)
			again, err := run.Do(context.Background(), c, source)
			require.NoError(t, err)
			require.True(t, again.Finished)
			require.Empty(t, source.Source.(*runtest.Source).Asked)
			require.Positive(t, again.Seconds)
			require.Equal(t, before, runtest.Files(t, stopped))
			// Killed before the page was written: that is all there is to do.
			require.NoError(t, os.Remove(filepath.Join(stopped, report.PageName)))
			_, err = run.Do(context.Background(), c, deps(t, stopped))
			require.NoError(t, err)
			require.Equal(t, before, runtest.Files(t, stopped))
		})
	}
}

const childDir, childMode, childKill = "CTNAS_TEST_CHILD_DIR", "CTNAS_TEST_CHILD_MODE", "CTNAS_TEST_CHILD_KILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		t := &child{}
		c := tiny(t, os.Getenv(childMode))
		if _, err := os.Stat(filepath.Join(dir, search.ConfigName)); err == nil {
			c, err = search.LoadConfig(dir)
			require.NoError(t, err)
		}
		d := deps(t, dir)
		calls, killAt := 0, -1
		if text := os.Getenv(childKill); text != "" {
			var err error
			killAt, err = strconv.Atoi(text)
			require.NoError(t, err)
			d.Progress = func(run.Progress) {
				if calls++; calls == killAt { // from another thread, at whatever the search is doing by then
					go func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }()
				}
			}
		} else {
			d.Progress = func(run.Progress) { calls++ }
		}
		_, err := run.Do(context.Background(), c, d)
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
			if mode != search.ProposeAuto {
				testdata.SkipUnlessAll(t, "auto is the controller and the space")
			}
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
			runtest.SameFiles(t, whole, killed)
			runtest.SameEvents(t, whole, killed)
		})
	}
}

func TestResumeRefusesWhatWouldDiffer(t *testing.T) {
	c, d := tiny(t, search.ProposeAuto), deps(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	d.Progress = func(p run.Progress) {
		if p.Round == 2 {
			cancel()
		}
	}
	_, err := run.Do(ctx, c, d)
	require.ErrorIs(t, err, run.ErrInterrupted)
	d.Progress = nil
	try := func(change func(c *search.Config, d *run.Deps)) error {
		c, d := c, d
		change(&c, &d)
		_, err := run.Do(context.Background(), c, d)
		return err
	}
	require.ErrorContains(t, try(func(c *search.Config, _ *run.Deps) { c.Seed++ }),
		"its settings are other ones than those given now: --seed ")
	require.ErrorContains(t, try(func(_ *search.Config, d *run.Deps) {
		d.Program.Version = "2"
	}), "begun by version test, this is 2")
	require.ErrorContains(t, try(func(_ *search.Config, d *run.Deps) { d.Checksum = "def" }), "other data")
	other := ""
	for _, level := range exec.Levels() {
		dev, err := exec.Open(exec.Config{})
		require.NoError(t, err)
		if dev.Level() != level {
			other = level
		}
		dev.Close()
	}
	require.ErrorContains(t, try(func(_ *search.Config, d *run.Deps) {
		d.Device.Level = other
	}), "the results would differ")
	// The search goes on from the checkpoint before a damaged one.
	latest := filepath.Join(d.Dir, checkpoint.Dir, checkpoint.Latest)
	data, err := os.ReadFile(latest)
	require.NoError(t, err)
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(latest, data, 0o644))
	require.NoError(t, try(func(*search.Config, *run.Deps) {}))
	whole := deps(t, t.TempDir())
	_, err = run.Do(context.Background(), c, whole)
	require.NoError(t, err)
	runtest.SameFiles(t, whole.Dir, d.Dir)
	require.NoError(t, os.WriteFile(latest, data[:20], 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(d.Dir, checkpoint.Dir, checkpoint.Previous), data, 0o644))
	require.ErrorContains(t, try(func(*search.Config, *run.Deps) {}), "damaged checkpoint")
}

func TestAFolderOfAnotherSearchIsRefusedBeforeItsFirstCheckpoint(t *testing.T) {
	c, d := tiny(t, search.ProposeSpace), deps(t, t.TempDir())
	text, err := c.Settings().YAML(map[string]string{"version": "x"})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(d.Dir, search.ConfigName), text, 0o644))
	other := c
	other.Budget++
	_, err = run.Do(context.Background(), other, d)
	require.ErrorContains(t, err, "cannot be resumed")
	other = c
	other.Method = "sleep"
	_, err = run.Do(context.Background(), other, d)
	require.ErrorContains(t, err, `unknown method "sleep"; known: ctnas, released`)
	_, err = run.Do(context.Background(), c, d)
	require.NoError(t, err)
}

func TestConstraintsAreKept(t *testing.T) {
	for _, mode := range []string{search.ProposeController, search.ProposeAuto} {
		c := tiny(t, mode)
		c.MaxParams, c.MaxMAdds = 6_000_000, 900_000_000
		r, err := run.Do(context.Background(), c, deps(t, ""))
		require.NoError(t, err)
		require.Len(t, r.Ledger, c.Budget)
		for _, a := range r.Architectures {
			require.LessOrEqual(t, *a.Params, c.MaxParams)
			require.LessOrEqual(t, *a.MAdds, c.MaxMAdds)
		}
	}
	c := tiny(t, search.ProposeController)
	c.MaxParams = 1
	_, err := run.Do(context.Background(), c, deps(t, ""))
	require.ErrorContains(t, err, "loosen --max-params")
}

func TestAblationSwitches(t *testing.T) {
	if testing.Short() {
		t.Skip("four more searches: not with -short")
	}
	dir := t.TempDir()
	c := tiny(t, search.ProposeController)
	find := func(name string, change func(c *search.Config)) (r *run.Result, baselines int, pseudo float64) {
		c, d := c, deps(t, filepath.Join(dir, name))
		change(&c)
		r, err := run.Do(context.Background(), c, d)
		require.NoError(t, err)
		page, err := report.Load(d.Dir)
		require.NoError(t, err)
		for _, e := range page.Events {
			switch e.Name {
			case report.EventBaseline:
				baselines++
			case report.EventComparator:
				pseudo = max(pseudo, e.Values["pseudo"])
			}
		}
		return r, baselines, pseudo
	}
	usual, baselines, pseudo := find("usual", func(*search.Config) {})
	require.Positive(t, pseudo)
	require.Positive(t, baselines)
	_, baselines, _ = find("fixed", func(c *search.Config) { c.Baseline = search.BaselineFixed })
	require.Zero(t, baselines)
	_, _, pseudo = find("blind", func(c *search.Config) { c.Explore = false })
	require.Zero(t, pseudo)
	absolute, _, _ := find("absolute", func(c *search.Config) { c.Reward = search.RewardAbsolute })
	require.NotEqual(t, usual.Ledger, absolute.Ledger)
}

func TestResultHasTheKeysOfTheContract(t *testing.T) {
	d := deps(t, t.TempDir())
	_, err := run.Do(context.Background(), tiny(t, search.ProposeSpace), d)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(d.Dir, report.ResultName))
	require.NoError(t, err)
	var r map[string]any
	require.NoError(t, json.Unmarshal(text, &r))
	for _, key := range []string{"space", "labels_used", "seed", "device", "architectures", "pick", "pareto"} {
		require.Contains(t, r, key)
	}
	for _, key := range []string{"arch", "hash", "predicted_rank", "accuracy", "accuracy_source", "madds",
		"params", "latency_ms"} {
		require.Contains(t, r["architectures"].([]any)[0], key)
	}
}
