package table

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// NAS-Bench-201's file, as torch.save wrote it before PyTorch 1.6 and since, and NATS-Bench's single file have the
// same numbers as the folder, whatever the set of images; so has a table that was converted.
func TestNATSFiles(t *testing.T) {
	for _, dataset := range []string{"", "cifar100", "ImageNet16-120"} {
		o := Options{Space: space.NASBench201{}, Dataset: dataset}
		folder, err := Open(t.Context(), filepath.Join(natsFixtures, "good"), o)
		require.NoError(t, err)
		for _, name := range []string{"NAS-Bench-201.pth", "NAS-Bench-201-zip.pth", "NATS-tss.pickle.pbz2"} {
			file, err := Open(t.Context(), filepath.Join(natsFixtures, "files", name), o)
			require.NoError(t, err, name)
			requireSameTable(t, folder, file)
			require.Equal(t, name+", "+natsDataset(o), file.Source().File)
			converted := filepath.Join(t.TempDir(), "x.ctt")
			require.NoError(t, WriteCTT(converted, file))
			o := o
			o.Dataset = ""
			back, err := Open(t.Context(), converted, o)
			require.NoError(t, err)
			requireSameTable(t, folder, back)
			require.Equal(t, file.Source(), back.Source())
			require.NoError(t, back.Close())
			require.NoError(t, file.Close())
		}
		require.NoError(t, folder.Close())
	}
	in := Options{Space: space.NASBench201{}}
	for name, want := range map[string]string{
		"NATS-sss.pickle.pbz2": `written like "8:8:8:8:8": the space of NATS-Bench's size part is file:`,
	} {
		_, err := Open(t.Context(), filepath.Join(natsFixtures, "files", name), in)
		require.ErrorContains(t, err, want)
	}
	_, err := Open(t.Context(), filepath.Join(natsFixtures, "files", "NAS-Bench-201.pth"), Options{})
	require.ErrorContains(t, err, "whose spaces are nasbench201 and file:docs/examples/nats-size.yaml, not nasbench101")
}

func requireSameTable(t *testing.T, want, got *Table) {
	require.Equal(t, want.Len(), got.Len())
	require.Equal(t, want.Metrics(), got.Metrics())
	for i := range want.Len() {
		require.Equal(t, want.Arch(i), got.Arch(i))
		for k := range want.Metrics() {
			a, b := want.Value(k, i), got.Value(k, i)
			require.True(t, a == b || math.IsNaN(a) && math.IsNaN(b), "%v of %v: %g and %g", want.Metrics()[k],
				want.Arch(i), a, b)
		}
	}
}

// The size part is one of a space from a file, to which the benchmark says the costs.
func TestNATSSize(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(natsFixtures, "expected_size.json"))
	require.NoError(t, err)
	var expected map[string]map[string]float64
	require.NoError(t, json.Unmarshal(text, &expected))
	for _, path := range []string{"size", "files/NATS-sss.pickle.pbz2"} {
		sp, err := space.Open("file:../../docs/examples/nats-size.yaml")
		require.NoError(t, err)
		table, err := Open(t.Context(), filepath.Join(natsFixtures, filepath.FromSlash(path)), Options{Space: sp})
		require.NoError(t, err)
		require.Equal(t, len(expected), table.Len())
		for number, text := range []string{"8:8:8:8:8", "8:64:16:24:56"} {
			a, err := sp.Parse(strings.ReplaceAll(text, ":", "|"))
			require.NoError(t, err)
			i, found := table.Index(a)
			require.True(t, found)
			require.Equal(t, space.Cost{MAdds: 1500000, Params: int64(100000 + 1000000*number)}, a.Cost())
			for _, epochs := range []int{1, 12, 90} {
				of := map[string]string{"test": "cifar10 ori-test", "validation": "cifar10-valid x-valid"}
				for split, part := range of {
					want, made := expected[text][fmt.Sprintf("%s 777 %d", part, epochs)]
					got := valueOf(table, i, Metric{Accuracy, split, 1, epochs})
					require.Equal(t, made, !math.IsNaN(got))
					if made {
						require.InDelta(t, want/100, got, 1e-7)
					}
				}
			}
		}
		require.NoError(t, table.Close())
	}
	other, err := space.Open("file:../../docs/examples/blocks.yaml")
	require.NoError(t, err)
	_, err = Open(t.Context(), filepath.Join(natsFixtures, "size"), Options{Space: other})
	require.Error(t, err)
	sized, err := space.Open("file:../../docs/examples/nats-size.yaml")
	require.NoError(t, err)
	_, err = Open(t.Context(), filepath.Join(natsFixtures, "good"), Options{Space: sized})
	require.ErrorContains(t, err, "the space of NATS-Bench's topology part and of NAS-Bench-201 is nasbench201")
}

// A file that is cut off anywhere, or of which a byte is another, is refused or read; never is it a table with numbers
// that are none.
func TestNATSFileDamage(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(natsFixtures, "files", "NAS-Bench-201.pth"))
	require.NoError(t, err)
	open := func(text []byte) error {
		table, err := Read(t.Context(), "damaged.pth", text, Options{Space: space.NASBench201{}, Threads: 1})
		if err != nil {
			require.ErrorContains(t, err, "damaged.pth")
			return err
		}
		for i := range table.Len() {
			for k := range table.Metrics() {
				v := table.Value(k, i)
				require.True(t, math.IsNaN(v) || v >= 0 && v <= 1)
			}
		}
		return table.Close()
	}
	require.NoError(t, open(whole))
	for range 60 {
		n := rand.IntN(len(whole) - 64) // the last pickle is a list of no storages
		require.Error(t, open(whole[:n]), "%d bytes of %d", n, len(whole))
		changed := slices.Clone(whole)
		changed[n] ^= byte(1 + rand.IntN(255))
		_ = open(changed)
	}
	require.ErrorContains(t, open([]byte("PK\x03\x04"+strings.Repeat("\x00", 40))), "zip archive that begins with")
	require.ErrorContains(t, open([]byte("\x80\x02}q\x00.")), "it lists no architectures")
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
		"size":    `written like "8:8:8:8:8": the space of NATS-Bench's size part is file:docs/examples/nats-size`,
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
	archs, err := natsFolderArchs(func(string) ([]byte, error) { return meta, nil })
	require.NoError(f, err)
	f.Add(text)
	f.Add(meta)
	f.Fuzz(func(t *testing.T, packed []byte) {
		in := &input{ctx: t.Context(), space: space.NASBench201{}}
		r, err := in.natsRowOf(natsJob{name: "000000.pickle.pbz2", packed: packed}, archs, "cifar10")
		if err != nil {
			return
		}
		for _, v := range r.values {
			require.True(t, math.IsNaN(v) || v >= 0 && v <= 1)
		}
	})
}
