package table

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

const natsFixtures = "testdata/nats" // scripts/peers/nats_fixtures.py wrote them

// Every accuracy of the folder is the one that was written, under its run, split and epochs, whatever the set of
// images, and the mean is that of the runs that there are; threads change nothing.
func TestNATS(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(natsFixtures, "expected.json"))
	require.NoError(t, err)
	var expected map[string]map[string]float64 // by cell, and by "set part seed epochs"
	require.NoError(t, json.Unmarshal(text, &expected))
	for _, dataset := range []string{"", "cifar10", "cifar100", "ImageNet16-120"} {
		var sum string
		for _, threads := range []int{1, 3} {
			read := int64(0)
			table, err := Open(t.Context(), filepath.Join(natsFixtures, "good"), Options{Space: space.NASBench201{},
				Dataset: dataset, Threads: threads, Progress: func(done, total int64) {
					require.LessOrEqual(t, done, total)
					read = done
				}})
			require.NoError(t, err)
			require.Positive(t, read)
			require.Equal(t, 3, table.Len())
			require.Equal(t, FormatNATS, table.Format())
			if sum == "" {
				sum = table.Checksum()
			}
			require.Equal(t, sum, table.Checksum())
			set := natsSets["cifar10"]
			if dataset != "" {
				set = natsSets[dataset]
				require.Equal(t, "good, "+dataset, table.Source().File)
			}
			seen := 0
			for i := range table.Len() {
				values := expected[table.Arch(i).String()[len("nasbench201:"):]]
				for _, epochs := range natsEpochs {
					for split, part := range map[string]natsPart{"validation": set.validation, "test": set.test} {
						mean, n := 0.0, 0
						for k, seed := range natsSeeds {
							want, there := values[fmt.Sprintf("%s %s %d %d", part.trained, part.part, seed, epochs)]
							got := valueOf(table, i, Metric{Accuracy, split, k + 1, epochs})
							if !there {
								require.True(t, math.IsNaN(got))
								continue
							}
							require.InDelta(t, want/100, got, 1e-7)
							mean, n, seen = mean+want/100, n+1, seen+1
						}
						require.InDelta(t, mean/float64(n), valueOf(table, i, Metric{Accuracy, split, 0, epochs}), 1e-7)
					}
				}
			}
			require.Greater(t, seen, 20)
			require.NoError(t, table.Close())
		}
	}
}

// valueOf is what a table has of an architecture; not a number where it has nothing.
func valueOf(t *Table, i int, m Metric) float64 {
	k := slices.Index(t.Metrics(), m)
	if k < 0 {
		return math.NaN()
	}
	return t.Value(k, i)
}

// What is not a folder of the benchmark's topology part, or damaged, is said to be so, by the file's name.
func TestNATSDamage(t *testing.T) {
	empty, cut, gone := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{natsMeta, "000000.pickle.pbz2"} {
		text, err := os.ReadFile(filepath.Join(natsFixtures, "good", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(cut, name), text[:len(text)*2/3], 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(gone, name), text, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(gone, "000007.pickle.pbz2"), nil, 0o600))
	for name, want := range map[string]string{
		"percent": "record 0 at offset 0: 000000.pickle.pbz2: 200 epochs: cifar10 with seed 777: ori-test of 101 %",
		"other":   "the results are of",
		"params":  "500000 parameters, the architecture has 129306",
		"seed":    "cifar10 with seed 5: want one of [777 888 999 111]",
		"none":    "no accuracy on cifar10",
		"key":     "results without a set of images and a seed",
		"size":    `written like "8:8:8:8:8": this is NATS-Bench's size part`,
		"large":   "meta.pickle.pbz2: pickle: byte",
	} {
		_, err := Open(t.Context(), filepath.Join(natsFixtures, name), Options{Space: space.NASBench201{}})
		require.ErrorContains(t, err, want)
	}
	for dir, want := range map[string]string{empty: "a folder without meta.pickle.pbz2",
		cut: "meta.pickle.pbz2: pickle", gone: "000007.pickle.pbz2: architecture 7 of 3"} {
		_, err := Open(t.Context(), dir, Options{Space: space.NASBench201{}})
		require.ErrorContains(t, err, want)
	}
	_, err := Open(t.Context(), filepath.Join(natsFixtures, "good"), Options{})
	require.ErrorContains(t, err, "it is a folder, and a table is a file")
	_, err = Open(t.Context(), filepath.Join(natsFixtures, "good"), Options{Space: space.NASBench201{},
		Columns: Columns{Arch: "x"}})
	require.ErrorContains(t, err, "column names are set")
	_, err = Open(t.Context(), filepath.Join(natsFixtures, "expected.json"), Options{Dataset: "cifar100"})
	require.ErrorContains(t, err, "dataset=cifar100: this table has the accuracies of one set of images")
	_, err = Open(t.Context(), Embedded()[0], Options{Dataset: "cifar10"})
	require.ErrorContains(t, err, "dataset=cifar10: this table has the accuracies of one set of images")
	_, err = ParseQuery("dataset=mnist")
	require.ErrorContains(t, err, "want ImageNet16-120 or cifar10 or cifar100")
}

// Whatever an architecture's pickle holds, it is read or refused.
func FuzzNATS(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(natsFixtures, "good", "000000.pickle.pbz2"))
	require.NoError(f, err)
	meta, err := os.ReadFile(filepath.Join(natsFixtures, "good", natsMeta))
	require.NoError(f, err)
	archs, err := natsArchs(func(string) ([]byte, error) { return meta, nil })
	require.NoError(f, err)
	f.Add(text)
	f.Add(meta)
	f.Fuzz(func(t *testing.T, packed []byte) {
		r, err := natsRow(space.NASBench201{}, natsJob{name: "000000.pickle.pbz2", packed: packed}, archs, "cifar10")
		if err != nil {
			return
		}
		for _, v := range r.values {
			require.True(t, math.IsNaN(v) || v >= 0 && v <= 1)
		}
	})
}
