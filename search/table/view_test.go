package table

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/space"
)

func TestParseLabels(t *testing.T) {
	for text, want := range map[string]struct {
		path string
		q    Query
	}{
		"table:a.ctt":           {"a.ctt", Query{}},
		"table:dir/b c.csv.gz?": {"dir/b c.csv.gz", Query{}},
		"table:f?run=1&split=validation&missing=drop": {"f", Query{Run: 1, Split: "validation", Missing: MissingDrop}},
		"table:f?run=mean&diverged=drop":              {"f", Query{Run: RunMean, Diverged: DivergedDrop}},
		"table:f?run=0&epochs=108":                    {"f", Query{Run: RunMean, Epochs: 108}},
		"table:f?judge_run=mean&judge_epochs=36&split=test&missing=fail&diverged=keep": {"f",
			Query{JudgeRun: RunMean, JudgeEpochs: 36, Split: "test", Missing: MissingFail, Diverged: DivergedKeep}},
		"table:f?arch=my%20cell&accuracy=a%26b&madds=m": {"f",
			Query{Columns: Columns{Arch: "my cell", Accuracy: "a&b", MAdds: "m"}}},
	} {
		path, q, err := ParseLabels(text)
		require.NoError(t, err, text)
		require.Equal(t, want.path, path)
		require.Equal(t, want.q, q)
	}
	for text, want := range map[string]string{
		"a.ctt":                 "want table:FILE",
		"predictor:x":           "want table:FILE",
		"table:":                "no file",
		"table:?run=1":          "no file",
		"table:f?run=x":         "run=x: want 1, 2, 3 or mean",
		"table:f?run=-1":        "want 1, 2, 3 or mean",
		"table:f?run=10":        "want 1, 2, 3 or mean",
		"table:f?run=":          "run wants one value",
		"table:f?run=1&run=2":   "run wants one value",
		"table:f?split=tset":    "split=tset: want train or validation or test",
		"table:f?epochs=0":      "epochs=0: want a number",
		"table:f?missing=maybe": "want fail or drop",
		"table:f?diverged=yes":  "want keep or drop",
		"table:f?colour=red":    `unknown key "colour"; known: run, split, epochs`,
		"table:f?%zz":           "invalid",
	} {
		_, _, err := ParseLabels(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, text)
	}
}

// column returns the index of a metric.
func columnOf(t testing.TB, table *Table, m Metric) int {
	t.Helper()
	i := slices.Index(table.Metrics(), m)
	require.GreaterOrEqual(t, i, 0, "%v", m)
	return i
}

func TestViewOfAFullTable(t *testing.T) {
	cells := someCells(60)
	table := open(t, "full", tfFile(cells, 4, 108))
	value := func(i int, split string, epochs int, runs ...int) float64 {
		sum := 0.0
		for _, r := range runs {
			sum += fakeAccuracy(cells[i], Metric{Accuracy, split, r, epochs})
		}
		return sum / float64(len(runs))
	}
	for text, want := range map[string]struct {
		seen, judged func(i int) float64
		describe     string
	}{
		"": {
			func(i int) float64 {
				return value(i, "validation", 108, 1, 2, 3)
			}, func(i int) float64 { return value(i, "test", 108, 1, 2, 3) },
			"chosen on validation accuracy, mean of 3 runs, 108 epochs, judged on test accuracy, mean of 3 runs, 108 " +
				"epochs",
		},
		"run=2": {
			func(i int) float64 {
				return value(i, "validation", 108, 2)
			}, func(i int) float64 { return value(i, "test", 108, 2) },
			"chosen on validation accuracy, run 2, 108 epochs, judged on test accuracy, run 2, 108 epochs",
		},
		"run=1&judge_run=mean": {
			func(i int) float64 {
				return value(i, "validation", 108, 1)
			}, func(i int) float64 { return value(i, "test", 108, 1, 2, 3) },
			"chosen on validation accuracy, run 1, 108 epochs, judged on test accuracy, mean of 3 runs, 108 epochs",
		},
		"run=3&epochs=4&judge_epochs=108": {
			func(i int) float64 {
				return value(i, "validation", 4, 3)
			}, func(i int) float64 { return value(i, "test", 108, 3) },
			"chosen on validation accuracy, run 3, 4 epochs, judged on test accuracy, run 3, 108 epochs",
		},
		"split=train&epochs=4": {
			func(i int) float64 {
				return value(i, "train", 4, 1, 2, 3)
			}, func(i int) float64 { return value(i, "test", 4, 1, 2, 3) },
			"chosen on train accuracy, mean of 3 runs, 4 epochs, judged on test accuracy, mean of 3 runs, 4 epochs",
		},
		"split=test&run=1": {
			func(i int) float64 {
				return value(i, "test", 108, 1)
			}, func(i int) float64 { return value(i, "test", 108, 1) },
			"chosen and judged on test accuracy, run 1, 108 epochs, as asked (the table has validation accuracy too)",
		},
	} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		v, err := table.View(q)
		require.NoError(t, err, text)
		require.Equal(t, want.describe, v.Describe())
		require.Len(t, v.Cells(), len(cells))
		sealed := text != "split=test&run=1"
		require.Equal(t, sealed, v.Sealed(), text)
		if sealed {
			_, err = v.Judged(0)
			require.ErrorIs(t, err, ErrSealed)
			_, err = v.Rank(0)
			require.ErrorIs(t, err, ErrSealed)
			_, _, err = v.Best()
			require.ErrorIs(t, err, ErrSealed)
		}
		for i := range cells {
			require.InDelta(t, want.seen(i), v.Seen(i), 1e-15, text)
		}
		v.Unseal()
		require.False(t, v.Sealed())
		for i := range cells {
			judged, err := v.Judged(i)
			require.NoError(t, err)
			require.InDelta(t, want.judged(i), judged, 1e-15, text)
		}
		require.Same(t, table, v.Table())
	}
	for text, want := range map[string]string{
		"epochs=36": "no validation accuracy, 36 epochs; it has: test accuracy, run 1, 4 epochs; test " +
			"accuracy, run 2, 4 epochs",
		"run=4":           "no validation accuracy, run 4, 108 epochs",
		"judge_epochs=12": "no test accuracy, mean of runs, 12 epochs",
		"judge_run=7":     "no test accuracy, run 7, 108 epochs",
	} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		_, err = table.View(q)
		var absent *AbsentError
		require.ErrorAs(t, err, &absent, text)
		require.ErrorContains(t, err, table.Path()+" has "+want)
	}
}

func TestViewNeverSubstitutes(t *testing.T) {
	const rows = "\nnasbench101:best,0.9\nnasbench101:inception,0.8\n"
	oneRun := open(t, "x.csv", []byte("arch,test_accuracy_run1_epochs108"+rows))
	v, err := oneRun.View(Query{})
	require.NoError(t, err)
	require.Equal(t, "chosen and judged on test accuracy, run 1, 108 epochs (the table has no other)", v.Describe())
	require.False(t, v.Sealed())
	require.Equal(t, Metric{Accuracy, "test", 1, 108}, v.SeenMetric())
	require.Equal(t, v.SeenMetric(), v.judgedBy.Metric)
	for _, text := range []string{"run=2", "run=mean", "split=validation", "split=train", "epochs=4", "judge_run=mean",
		"judge_run=2", "judge_epochs=4"} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		_, err = oneRun.View(q)
		var absent *AbsentError
		require.ErrorAs(t, err, &absent, text)
		require.ErrorContains(t, err, "it has: test accuracy, run 1, 108 epochs", text)
	}
	for _, text := range []string{"run=1", "split=test", "run=1&split=test&epochs=108&judge_run=1", "diverged=drop"} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		_, err = oneRun.View(q)
		require.NoError(t, err, text)
	}

	means := open(t, "x.csv", []byte("arch,validation_accuracy"+rows))
	v, err = means.View(Query{Run: RunMean})
	require.NoError(t, err)
	require.Equal(t, "chosen and judged on validation accuracy, mean of runs (the table has no other)", v.Describe())
	_, err = means.View(Query{Run: 1})
	require.ErrorContains(t, err, "no validation accuracy, run 1; it has: validation accuracy, mean of runs")
	_, err = means.View(Query{Diverged: DivergedDrop})
	require.ErrorContains(t, err, "holds only means")

	unnamed := open(t, "x.csv", []byte("arch,accuracy"+rows))
	v, err = unnamed.View(Query{})
	require.NoError(t, err)
	require.Equal(t, "chosen and judged on accuracy, mean of runs (the table has no other)", v.Describe())

	apart := open(t, "x.csv", []byte("arch,validation_accuracy_run1,test_accuracy_run2\nnasbench101:best,0.5,0.6\n"))
	_, err = apart.View(Query{})
	require.ErrorContains(t, err, "no test accuracy, run 1;", "the other run's test accuracy is not taken instead")
	v, err = apart.View(Query{JudgeRun: 2})
	require.NoError(t, err)
	require.Equal(t, "chosen on validation accuracy, run 1, judged on test accuracy, run 2", v.Describe())

	onlyTime := open(t, "x.csv", []byte("arch,training_time\nnasbench101:best,5\n"))
	_, err = onlyTime.View(Query{})
	require.ErrorContains(t, err, "it has: no accuracy")
}

func TestViewMissing(t *testing.T) {
	cells := someCells(4)
	text := "arch,validation_accuracy_run1,test_accuracy_run1\n"
	for i, row := range []string{"0.5,0.6", ",0.7", "0.7,", "0.9,0.8"} {
		text += fmt.Sprintf("%v,%s\n", cells[i], row)
	}
	table := open(t, "x.csv", []byte(text))
	for _, q := range []Query{{}, {Missing: MissingFail}} {
		_, err := table.View(q)
		require.ErrorContains(t, err, "2 of 4 architectures lack validation accuracy, run 1 or test accuracy, run 1, "+
			"the first is "+cells[1].String())
		require.ErrorContains(t, err, table.Path())
	}
	v, err := table.View(Query{Missing: MissingDrop})
	require.NoError(t, err)
	require.Equal(t, []int{0, 3}, v.Cells())
	require.Contains(t, v.Describe(), "; 2 architectures without these numbers left out")
	require.True(t, math.IsNaN(v.Seen(1)))
	require.True(t, math.IsNaN(v.Seen(2)), "what is not kept is not seen at all")
	v.Unseal()
	judged, err := v.Judged(1)
	require.NoError(t, err)
	require.True(t, math.IsNaN(judged))
	_, err = v.Rank(1)
	require.ErrorContains(t, err, "is not in this view")
	best, accuracy, err := v.Best()
	require.NoError(t, err)
	require.Equal(t, 3, best)
	require.Equal(t, 0.8, accuracy)

	_, err = table.View(Query{Split: "test"})
	require.ErrorContains(t, err, "1 of 4 architectures lack test accuracy, run 1 or test accuracy, run 1")
	gone := open(t, "x.csv",
		[]byte("arch,validation_accuracy,test_accuracy\nnasbench101:best,0.5,\nnasbench101:inception,,0.5\n"))
	_, err = gone.View(Query{Missing: MissingDrop})
	require.ErrorContains(t, err, "no architecture of nasbench101 is left: 2 lack a number")
}

func TestViewDiverged(t *testing.T) {
	cells := someCells(4)
	rows := [][3][2]float64{ // run, then validation and test
		{{0.9, 0.8}, {0.7, 0.6}, {0.5, 0.4}},
		{{0.1, 0.1}, {0.7, 0.6}, {0.5, 0.4}},    // one run fell apart
		{{0.1, 0.1}, {0.19, 0.9}, {0.1, 0.1}},   // all did, by what the search sees
		{{0.9, 0.15}, {0.25, 0.05}, {0.8, 0.7}}, // only the test accuracy is low, which must not tell
	}
	text := "arch"
	for run := 1; run <= 3; run++ {
		text += fmt.Sprintf(",validation_accuracy_run%d,test_accuracy_run%d", run, run)
	}
	for i, r := range rows {
		text += "\n" + cells[i].String()
		for _, run := range r {
			text += fmt.Sprintf(",%v,%v", run[0], run[1])
		}
	}
	table := open(t, "x.csv", []byte(text+"\n"))
	judged := func(v *View, i int) float64 {
		x, err := v.Judged(i)
		require.NoError(t, err)
		return x
	}

	keep, err := table.View(Query{})
	require.NoError(t, err)
	keep.Unseal()
	require.Len(t, keep.Cells(), 4)
	require.InDelta(t, 1.3/3, keep.Seen(1), 1e-12)
	require.NotContains(t, keep.Describe(), "diverged")

	drop, err := table.View(Query{Diverged: DivergedDrop})
	require.NoError(t, err)
	drop.Unseal()
	require.Equal(t, []int{0, 1, 3}, drop.Cells())
	require.InDelta(t, 0.7, drop.Seen(0), 1e-12)
	require.InDelta(t, 0.6, drop.Seen(1), 1e-12)
	require.InDelta(t, 0.5, judged(drop, 1), 1e-12, "the same runs judge")
	require.InDelta(t, 1.95/3, drop.Seen(3), 1e-12)
	require.InDelta(t, 0.9/3, judged(drop, 3), 1e-12)
	require.Contains(t, drop.Describe(), "; runs below 20 % accuracy left out as diverged, with them 1 architectures")

	first, err := table.View(Query{Run: 1, Diverged: DivergedDrop})
	require.NoError(t, err)
	require.Equal(t, []int{0, 3}, first.Cells())

	apart := open(t, "x.csv",
		[]byte("arch,validation_accuracy_run1,test_accuracy_run1,test_accuracy_run2\nnasbench101:best,0.5,0.5,0.5\n"))
	_, err = apart.View(Query{JudgeRun: 2, Diverged: DivergedDrop})
	require.ErrorContains(t, err, "to tell diverged runs: "+apart.Path()+" has no validation accuracy, run 2")
}

func TestRankIsOnePlusTheBetter(t *testing.T) {
	cells := someCells(40)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, len(cells)).Draw(t, "n")
		values := rapid.SliceOfN(rapid.IntRange(0, 12), n, n).Draw(t, "values") // with ties
		b := newBuilder(cellsInput("x"), []Metric{{Accuracy, "test", 1, 108}})
		for i, k := range values {
			b.find(cells[i])
			b.set(0, b.add(hashOf(cells[i]), place{}), float64(k)/12)
		}
		table, err := b.finish(&input{})
		require.NoError(t, err)
		v, err := table.View(Query{})
		require.NoError(t, err)
		for i, k := range values {
			better := 0
			for _, other := range values {
				if other > k {
					better++
				}
			}
			rank, err := v.Rank(i)
			require.NoError(t, err)
			require.Equal(t, better+1, rank)
		}
		negative, sum := make([]float64, n), 0.0
		for i, k := range values {
			negative[i] = -float64(k)
		}
		for i, want := range stat.Ranks(negative) {
			got, err := v.Percentile(i)
			require.NoError(t, err)
			require.InDelta(t, 100*want/float64(n), got, 1e-9)
			sum += got / float64(n)
		}
		require.InDelta(t, 50+50/float64(n), sum, 1e-9, "what chance gives, ties or none")
		best, accuracy, err := v.Best()
		require.NoError(t, err)
		require.Equal(t, slices.Index(values, slices.Max(values)), best, "the first of equal ones")
		require.Equal(t, float64(slices.Max(values))/12, accuracy)
	})
}

func TestMetricOrder(t *testing.T) {
	table := open(t, "x.csv", []byte("arch,test_accuracy_run2,test_accuracy_run1,validation_accuracy_run1,"+
		"test_accuracy_epochs4\nnasbench101:best,0.5,0.5,0.5,0.5\n"))
	require.Equal(t, 0, columnOf(t, table, Metric{Accuracy, "test", 1, 0}))
	require.Equal(t, 1, columnOf(t, table, Metric{Accuracy, "test", 2, 0}))
	require.Equal(t, 2, columnOf(t, table, Metric{Accuracy, "validation", 1, 0}))
	require.Equal(t, 3, columnOf(t, table, Metric{Accuracy, "test", 0, 4}))
}

// A space of small cells sees only those of a table; in the file and in its other forms the table stays whole.
func TestViewOfASpaceOfSmallCells(t *testing.T) {
	text := "arch,accuracy\nnasbench101:best,0.95\nnasbench101:resnet,0.93\nnasbench101:3:101:0,0.91\n"
	csv := file(t, "t.csv", []byte(text))
	ctt := filepath.Join(t.TempDir(), "t.ctt")
	small := space.NASBench101{Vertices: 4}
	for _, path := range []string{csv, ctt} {
		table, err := Open(t.Context(), path, Options{Space: small})
		require.NoError(t, err)
		require.Equal(t, space.Space(small), table.Space())
		require.Equal(t, 3, table.Len())
		v, err := table.View(Query{})
		require.NoError(t, err)
		require.Len(t, v.Cells(), 2)
		for i := range table.Len() {
			require.Equal(t, small.Contains(table.Arch(i)), !math.IsNaN(v.Seen(i)), table.Arch(i))
		}
		_, accuracy, err := v.Best()
		require.NoError(t, err)
		require.Equal(t, 0.93, accuracy)
		if path == csv {
			require.NoError(t, WriteCTT(ctt, table))
			whole, err := Open(t.Context(), ctt, Options{})
			if err == nil {
				v, err = whole.View(Query{})
			}
			require.NoError(t, err)
			require.Len(t, v.Cells(), 3)
			require.NoError(t, whole.Close())
		}
		require.NoError(t, table.Close())
	}
	big := file(t, "big.csv", []byte("arch,accuracy\nnasbench101:best,0.95\n"))
	table, err := Open(t.Context(), big, Options{Space: small})
	require.NoError(t, err)
	defer func() { require.NoError(t, table.Close()) }()
	_, err = table.View(Query{})
	require.ErrorContains(t, err, "no architecture of nasbench101-v4 is left")
}
