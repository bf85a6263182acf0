// Package runtest helps the tests of search methods: a source of labels without files, and comparisons of run folders.
package runtest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Space is what Source has labels of.
var Space = space.NASBench101{}

// Archs are 3,000 distinct cells, the same in every test and process.
var Archs = sync.OnceValue(func() []space.Arch { return Cells(3000, 7) })

// Cells draws n distinct cells.
func Cells(n int, seed uint64) []space.Arch { return Distinct(Space, n, seed) }

// Distinct draws n distinct architectures of a space.
func Distinct(sp space.Space, n int, seed uint64) []space.Arch {
	stream := philox.New(seed, philox.PurposeTest, 0)
	seen := map[space.Arch]bool{}
	var archs []space.Arch
	for len(archs) < n {
		if a := sp.Sample(stream); !seen[a] {
			seen[a] = true
			archs = append(archs, a)
		}
	}
	return archs
}

// Catalogue is Archs, prepared once.
var Catalogue = sync.OnceValue(func() *catalogue.Catalogue {
	return catalogue.New(Space, catalogue.NewList(Archs()), nil)
})

// ranking holds the negative accuracies of Archs in ascending order.
var ranking = sync.OnceValue(func() (v []float64) {
	for _, a := range Archs() {
		v = append(v, -Accuracy(a))
	}
	slices.Sort(v)
	return v
})

// Accuracy is a cell's: more parameters are better, more edges too, and a little of the value is noise.
func Accuracy(a space.Arch) float64 {
	noise, _ := strconv.ParseUint(a.Hash()[:4], 16, 32)
	return 0.95 - 0.2/(1+float64(a.Cost().Params)/4e6) + 0.003*float64(len(a.Graph().Edges)) -
		0.004*float64(noise)/65536
}

// Quality is another accuracy, one that can be learned: more convolutions of 3x3 and longer paths are better, with a
// little that cannot.
func Quality(a space.Arch) float64 {
	g := a.Graph()
	depth := make([]int, len(g.Ops))
	for _, e := range g.Edges {
		depth[e[1]] = max(depth[e[1]], depth[e[0]]+1)
	}
	v := 0.6 + 0.02*float64(depth[len(depth)-1])
	for _, op := range g.Ops {
		if op == 2 { // conv3x3-bn-relu
			v += 0.03
		}
	}
	return v + float64(a.Cost().Params%997)/99700
}

// Rank is 1 + the number of better ones in Archs.
func Rank(a space.Arch) int {
	better, _ := slices.BinarySearch(ranking(), -Accuracy(a))
	return better + 1
}

// Source labels the architectures of a list, and judges them once it is unsealed.
type Source struct {
	List   catalogue.Lister
	Asked  []space.Arch // in this order, with repeats
	sealed bool
}

// NewSource labels Archs.
func NewSource() *Source { return &Source{List: Catalogue(), sealed: true} }

// Has tells whether an architecture is listed.
func (s *Source) Has(a space.Arch) bool { _, ok := s.List.Index(a); return ok }

// Facts says that nothing was measured.
func (s *Source) Facts() ledger.Facts {
	return ledger.Facts{Source: "fake", Metric: "validation accuracy", Run: 1}
}

// Describe names two accuracies.
func (s *Source) Describe() string { return "chosen on validation accuracy, judged on test accuracy" }

// Label says Accuracy.
func (s *Source) Label(_ context.Context, archs []space.Arch) (values []float64, err error) {
	for _, a := range archs {
		s.Asked = append(s.Asked, a)
		values = append(values, Accuracy(a))
	}
	return values, nil
}

// Unseal ends the search.
func (s *Source) Unseal() { s.sealed = false }

// Total is the length of the list.
func (s *Source) Total() int { return s.List.Len() }

// Judge says a little less than Label.
func (s *Source) Judge(a space.Arch) (float64, int, error) {
	if s.sealed {
		return 0, 0, errors.New("sealed")
	}
	if !s.Has(a) {
		return 0, 0, ledger.ErrNoLabel
	}
	return Accuracy(a) - 0.001, Rank(a), nil
}

// Percentile is 100 · rank / Total.
func (s *Source) Percentile(a space.Arch) (float64, error) {
	_, rank, err := s.Judge(a)
	return 100 * float64(rank) / float64(s.Total()), err
}

// TB is what of testing.TB these helpers use; the child process of a test is another one.
type TB = require.TestingT

// SameFiles tells that two runs ended in the same bytes.
func SameFiles(t TB, want, got string) {
	for _, name := range []string{report.ResultName, report.LedgerName} {
		a, err := os.ReadFile(filepath.Join(want, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(got, name))
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), name)
	}
}

// SameEvents tells that two runs logged the same, each step once, but for the time that it took.
func SameEvents(t TB, want, got string) {
	require.Equal(t, events(t, want), events(t, got))
}

func events(t TB, dir string) (list []report.Event) {
	text, err := os.ReadFile(filepath.Join(dir, report.LogName))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var e report.Event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		if e.Seconds, e.Time = 0, ""; e.Name != report.EventCost {
			list = append(list, e)
		}
	}
	return list
}

// Files is every file of a folder with its content.
func Files(t TB, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var text []byte
			text, err = os.ReadFile(path)
			all[path] = string(text)
		}
		return err
	}))
	return all
}
