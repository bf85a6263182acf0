package ask

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

const spaceText = "space: tiny\nblocks:\n- {name: a, operations: [x, y, z], repeat: [1, 3]}\n" +
	"- {name: b, operations: [x, y, z], repeat: [1, 3]}\n"

// begun is a new folder of a space of 1,521 architectures.
func begun(t *testing.T, change func(*Settings)) *Folder {
	dir := t.TempDir()
	path := filepath.Join(dir, "tiny.yaml")
	require.NoError(t, os.WriteFile(path, []byte(spaceText), 0o644))
	s := Default()
	s.Space = "file:" + path
	if change != nil {
		change(&s)
	}
	f, err := Open(context.Background(), filepath.Join(dir, "run"), "test", &s, nil)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path), "the folder has a copy")
	return f
}

// again closes a folder and opens it as the next process does.
func again(t *testing.T, f *Folder) *Folder {
	require.NoError(t, f.Close())
	f, err := Open(context.Background(), f.Dir, "test", nil, nil)
	require.NoError(t, err)
	return f
}

var cpu = How{Device: exec.Config{Device: "cpu", Threads: 1}}

func arch(t *testing.T, f *Folder, text string) space.Arch {
	a, err := f.Sp.Parse(text)
	require.NoError(t, err)
	return a
}

func TestRepeatsCountWithTheirMean(t *testing.T) {
	f := begun(t, nil)
	a, b := arch(t, f, "x|y"), arch(t, f, "x+y|z")
	said := func(x space.Arch, accuracy, latency float64) table.Measurement {
		m := table.Measurement{Arch: x, Values: map[string]float64{table.Accuracy: accuracy}}
		if latency > 0 {
			m.Values["latency_ms"] = latency
		}
		return m
	}
	tell := func(want Told, all ...table.Measurement) {
		got, err := f.Tell(all)
		require.NoError(t, err)
		require.Equal(t, want, got)
		f = again(t, f)
	}
	tell(Told{New: 2, Repeated: 1}, said(a, 0.5, 3), said(b, 0.7, 0), said(a, 0.5, 5))
	tell(Told{Known: 3}, said(a, 0.5, 3), said(b, 0.7, 0), said(a, 0.5, 5))
	tell(Told{Known: 1}, said(a, 0.5, 5))
	tell(Told{Known: 1, Repeated: 1}, said(b, 0.7, 0), said(b, 0.7, 0)) // twice in one call are two
	tell(Told{Repeated: 1, Known: 2}, said(a, 0.8, 0), said(b, 0.7, 0), said(b, 0.7, 0))
	require.Len(t, f.Labels(), 2)
	require.InDelta(t, 0.6, f.Labels()[0].Value, 1e-12)
	require.Equal(t, map[string]float64{"latency_ms": 4}, f.Labels()[0].Note.Metrics, "the mean of those that say it")
	require.Len(t, f.Labels()[0].Note.Measurements, 3)
	require.InDelta(t, 0.7, f.Labels()[1].Value, 1e-12)
	require.NoError(t, f.Close())
}

func TestATellIsTakenWholeOrNotAtAll(t *testing.T) {
	f := begun(t, nil)
	good := table.Measurement{Arch: arch(t, f, "x|y"), Values: map[string]float64{table.Accuracy: 0.5}}
	for text, values := range map[string]map[string]float64{
		"accuracy 1.5, want 0..1":  {table.Accuracy: 1.5},
		"its accuracy is not said": {"acc": 0.5},
		"latency_ms is +Inf, want": {table.Accuracy: 0.5, "latency_ms": 1 / zero},
		"accuracy NaN, want 0..1":  {table.Accuracy: zero / zero},
	} {
		_, err := f.Tell([]table.Measurement{good, {Arch: arch(t, f, "z|z"), Values: values}})
		require.ErrorContains(t, err, text)
	}
	f = again(t, f)
	require.Empty(t, f.Labels())
	require.NoError(t, f.Close())
}

var zero = 0.0

// Random suggestions come until so many are measured, each once in the life of a folder, and the same in an equal one.
func TestSuggestionsAreNeverMadeTwice(t *testing.T) {
	one, two := begun(t, nil), begun(t, nil)
	ctx := context.Background()
	seen := map[string]bool{}
	for round := range 3 {
		a, err := one.Suggest(ctx, 5, cpu)
		require.NoError(t, err)
		b, err := two.Suggest(ctx, 5, cpu)
		require.NoError(t, err)
		require.Equal(t, a, b)
		require.Len(t, a, 5)
		for _, x := range a {
			require.False(t, seen[x.Arch])
			seen[x.Arch] = true
			require.Equal(t, round+1, x.Round)
			require.Nil(t, x.Probability, "nothing is known")
			require.Contains(t, x.Reason, "random")
		}
		_, err = one.Fail([]space.Arch{arch(t, one, a[0].Arch)})
		require.NoError(t, err)
		_, err = two.Fail([]space.Arch{arch(t, two, a[0].Arch)})
		require.NoError(t, err)
		one, two = again(t, one), again(t, two)
		require.Len(t, one.Pending(), 4*(round+1))
	}
	// Of a folder with another seed others.
	other := begun(t, func(s *Settings) { s.Seed = 2 })
	a, err := other.Suggest(ctx, 5, cpu)
	require.NoError(t, err)
	require.False(t, seen[a[0].Arch] && seen[a[1].Arch] && seen[a[2].Arch])
	// A suggestion that was told is in the ledger with its round and proposer, and pending no more.
	pending := one.Pending()
	_, err = one.Tell([]table.Measurement{{Arch: arch(t, one, pending[6].Arch),
		Values: map[string]float64{table.Accuracy: 0.5}}})
	require.NoError(t, err)
	require.Len(t, one.Pending(), len(pending)-1)
	require.Equal(t, 2, one.Labels()[0].Round)
	require.Equal(t, "random", one.Labels()[0].Proposer)
	for _, f := range []*Folder{one, two, other} {
		require.NoError(t, f.Close())
	}
}

// What was learned from is never suggested, and what is has a probability and a rank among the whole space.
func TestSuggestionsFromMeasurements(t *testing.T) {
	f := begun(t, nil)
	stream := philox.New(3, philox.PurposeTest, 0)
	var all []table.Measurement
	drawn := map[space.Arch]bool{}
	for len(all) < 20 {
		if a := f.Sp.Sample(stream); !drawn[a] {
			drawn[a] = true
			all = append(all, table.Measurement{Arch: a, Values: map[string]float64{}})
		}
	}
	for i, m := range all { // more blocks are better
		m.Values[table.Accuracy] = 0.3 + float64(len(m.Arch.String()))/100 + float64(i)/1000
	}
	_, err := f.Tell(all)
	require.NoError(t, err)
	list, err := f.Suggest(context.Background(), 12, cpu)
	require.NoError(t, err)
	require.Len(t, list, 12)
	seen := map[string]bool{}
	for _, m := range all {
		seen[m.Arch.String()] = true
	}
	for _, x := range list {
		require.False(t, seen[x.Arch])
		seen[x.Arch] = true
		require.True(t, *x.Probability >= 0 && *x.Probability <= 1)
		require.Regexp(t, `^ranked \d+ of 1521`, x.Reason)
	}
	for _, name := range []string{"result.json", "report.html", "ledger.jsonl"} {
		require.FileExists(t, filepath.Join(f.Dir, name))
	}
	require.NoError(t, f.Close())
}

// Many tell one folder at the same time, and nothing is lost.
func TestSideBySide(t *testing.T) {
	f := begun(t, nil)
	require.NoError(t, f.Close())
	var group sync.WaitGroup
	failures := make([]error, 6)
	for i := range failures {
		group.Go(func() {
			f, err := Open(context.Background(), f.Dir, fmt.Sprint("teller ", i), nil, nil)
			if err == nil {
				var a space.Arch
				if a, err = f.Sp.Parse("x|" + []string{"x", "y", "z", "x+x", "x+y", "x+z"}[i]); err == nil {
					_, err = f.Tell([]table.Measurement{{Arch: a, Values: map[string]float64{table.Accuracy: 0.5}}})
				}
				_ = f.Close()
			}
			failures[i] = err
		})
	}
	group.Wait()
	for _, err := range failures {
		require.NoError(t, err)
	}
	f, err := Open(context.Background(), f.Dir, "test", nil, nil)
	require.NoError(t, err)
	require.Len(t, f.Labels(), 6)
	require.NoError(t, f.Close())
}

// Two that begin one folder at the same time must mean the same, and a spoiled file is named.
func TestFoldersAreRefused(t *testing.T) {
	f := begun(t, nil)
	other := f.Settings
	other.Init = 5
	require.NoError(t, f.Close())
	_, err := Open(context.Background(), f.Dir, "test", &other, nil)
	require.ErrorContains(t, err, "begun by somebody else: --init 10 there, 5 here")
	for name, text := range map[string]string{SuggestionsName: `{"suggestions":[{"arch":"tiny:q|x"}]}`,
		"ledger.jsonl": "{", "config.yaml": "labels: told\ninit: 1\n"} {
		f := begun(t, nil)
		require.NoError(t, f.Close())
		require.NoError(t, os.WriteFile(filepath.Join(f.Dir, name), []byte(text), 0o644))
		_, err := Open(context.Background(), f.Dir, "test", nil, nil)
		require.ErrorContains(t, err, name)
	}
}
