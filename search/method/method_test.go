package method

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

var sp = space.NASBench101{}

// quality is an accuracy that can be learned: more convolutions of 3x3 and longer paths are better, with a little that cannot.
func quality(a space.Arch) float64 {
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

// fake labels what it lists, or everything.
type fake struct{ listed map[space.Arch]bool }

func (f fake) Has(a space.Arch) bool { return f.listed == nil || f.listed[a] }
func (f fake) Facts() ledger.Facts   { return ledger.Facts{Source: "fake", Metric: "accuracy"} }
func (f fake) Describe() string      { return "made up" }
func (f fake) Label(_ context.Context, archs []space.Arch) ([]float64, error) {
	values := make([]float64, len(archs))
	for i, a := range archs {
		values[i] = quality(a)
	}
	return values, nil
}

// cells draws n distinct cells.
func cells(n int, seed uint64) []space.Arch {
	stream := philox.New(seed, philox.PurposeTest, 0)
	seen := map[space.Arch]bool{}
	var out []space.Arch
	for len(out) < n {
		if a := sp.Sample(stream); !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// small is a network that trains in no time.
func small(t *testing.T) gcn.Config {
	c, err := gcn.Preset("default")
	require.NoError(t, err)
	c.Width, c.HeadWidth, c.FeatureWidth, c.Members, c.Steps, c.Warmup = 16, 16, 16, 1, 60, 5
	return c
}

func problem(t *testing.T, budget int, archs []space.Arch) Problem {
	p := Problem{Space: sp, Source: fake{}, Budget: budget, Seed: 3, Device: exec.Config{Threads: 1}, Config: small(t)}
	if archs != nil {
		listed := map[space.Arch]bool{}
		for _, a := range archs {
			listed[a] = true
		}
		pool := NewPool(sp, search.NewList(archs), nil)
		p.Source, p.All, p.Listed = fake{listed}, pool, true
	}
	return p
}

// quick is a search that takes no time.
func quick(t *testing.T) search.Config {
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.Init, c.PerRound, c.Members, c.Steps, c.Iterations, c.Batch, c.Pool, c.Mutations = 20, 20, 1, 20, 6, 8, 100, 50
	return c
}

func methods(t *testing.T) []Method {
	return []Method{Random{}, Regression{}, ReNAS{}, Evolution{}, CTNAS{quick(t)}}
}

func TestEveryMethodSpendsItsBudgetAndPicksItsBestLabel(t *testing.T) {
	list := cells(800, 1)
	for i, m := range methods(t) {
		both := [][]space.Arch{nil, list}
		if testing.Short() {
			both = both[i%2 : i%2+1]
		}
		for _, archs := range both {
			p := problem(t, 60, archs)
			bought := 0
			p.Progress = func(labels int, best float64) {
				require.Greater(t, labels, bought)
				bought = labels
			}
			out, err := m.Run(t.Context(), p)
			require.NoError(t, err, m.Name())
			require.Len(t, out.Labels, 60, m.Name())
			require.Equal(t, 60, bought)
			seen := map[space.Arch]bool{}
			for i, l := range out.Labels {
				require.False(t, seen[l.Arch], "%s bought %v twice", m.Name(), l.Arch)
				seen[l.Arch] = true
				require.True(t, p.Source.Has(l.Arch))
				require.Equal(t, i+1, l.N)
				require.LessOrEqual(t, l.Value, out.Pick.Value)
			}
			require.Equal(t, quality(out.Pick.Arch), out.Pick.Value)
			require.Equal(t, m.Name() == "random" || m.Name() == "evolution", out.Predictor == nil)

			p.Progress, p.Device.Threads = nil, 3
			again, err := m.Run(t.Context(), p)
			require.NoError(t, err)
			require.Equal(t, len(out.Labels), len(again.Labels))
			for i := range out.Labels { // predictions may be NaN, which is not equal to itself
				require.Equal(t, out.Labels[i].Arch, again.Labels[i].Arch, "%s depends on the number of threads", m.Name())
			}
			p.Seed = 4
			other, err := m.Run(t.Context(), p)
			require.NoError(t, err)
			require.NotEqual(t, out.Labels[0].Arch, other.Labels[0].Arch, m.Name())
		}
	}
}

func TestLearningMethodsBeatChance(t *testing.T) {
	if testing.Short() {
		t.Skip("several searches of each method")
	}
	list := cells(3000, 2)
	picks := func(m Method, budget int, archs []space.Arch) (mean float64) {
		for seed := range uint64(3) {
			p := problem(t, budget, archs)
			p.Seed = seed
			out, err := m.Run(t.Context(), p)
			require.NoError(t, err)
			mean += out.Pick.Value / 3
		}
		return mean
	}
	for _, archs := range [][]space.Arch{nil, list} {
		chance := picks(Random{}, 80, archs)
		require.Greater(t, picks(Regression{}, 80, archs), chance+0.005)
		require.Greater(t, picks(ReNAS{}, 80, archs), chance+0.005)
	}
}

// spy is the space, and watches what evolution does with it.
type spy struct {
	space.NASBench101
	fake
	t      *testing.T
	bought *[]space.Arch
	births *int
}

func (s spy) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	*s.bought = append(*s.bought, archs...)
	return s.fake.Label(ctx, archs)
}

func (s spy) Mutate(a space.Arch, stream *philox.Stream) space.Arch {
	living := (*s.bought)[len(*s.bought)-evolutionPopulation:]
	require.Contains(s.t, living, a, "a parent that has died of age")
	beaten := 0
	for _, other := range living {
		if quality(other) <= quality(a) {
			beaten++
		}
	}
	require.GreaterOrEqual(s.t, beaten, evolutionTournament, "a parent that lost its tournament")
	*s.births++
	return s.NASBench101.Mutate(a, stream)
}

func TestEvolutionBreedsWinnersAndTheOldestDies(t *testing.T) {
	p := problem(t, 200, nil)
	s := spy{t: t, bought: new([]space.Arch), births: new(int)}
	p.Space, p.Source = s, s
	_, err := Evolution{}.Run(t.Context(), p)
	require.NoError(t, err)
	require.GreaterOrEqual(t, *s.births, 200-evolutionPopulation)
}

func TestLimitsHold(t *testing.T) {
	if testing.Short() {
		t.Skip("every method once more: not with -short")
	}
	list := cells(600, 5)
	for _, m := range methods(t) {
		p := problem(t, 40, list)
		p.MaxParams, p.MaxMAdds = 8_000_000, 1_500_000_000
		out, err := m.Run(t.Context(), p)
		require.NoError(t, err, m.Name())
		for _, l := range out.Labels {
			require.LessOrEqual(t, l.Arch.Cost().Params, p.MaxParams, m.Name())
			require.LessOrEqual(t, l.Arch.Cost().MAdds, p.MaxMAdds, m.Name())
		}
		p.MaxParams = 1
		_, err = m.Run(t.Context(), p)
		require.Error(t, err, m.Name())
	}
}

func TestAListThatRunsDryEndsTheSearch(t *testing.T) {
	if testing.Short() {
		t.Skip("every method once more: not with -short")
	}
	list := cells(30, 6)
	for _, m := range methods(t) {
		out, err := m.Run(t.Context(), problem(t, 40, list))
		require.NoError(t, err, m.Name())
		require.LessOrEqual(t, len(out.Labels), 30)
		require.GreaterOrEqual(t, len(out.Labels), 25, m.Name())
		_, err = m.Run(t.Context(), problem(t, 0, list))
		require.ErrorContains(t, err, "budget")
	}
}

func TestAnEndedContextStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, m := range methods(t) {
		_, err := m.Run(ctx, problem(t, 20, nil))
		require.ErrorIs(t, err, context.Canceled, m.Name())
	}
}

func TestOpenKnowsEveryName(t *testing.T) {
	for _, name := range Names() {
		m, err := Open(name, fixed{name: "ctnas"})
		require.NoError(t, err)
		require.Equal(t, name, m.Name())
	}
	_, err := Open("darts", nil)
	require.ErrorContains(t, err, "random, regression, renas, evolution, ctnas")
}

func TestAPartScoresAsInTheWhole(t *testing.T) {
	list := cells(300, 7)
	for _, preset := range []string{"default", "released", "paper"} {
		c, err := gcn.Preset(preset)
		require.NoError(t, err)
		c.Steps = 4
		var labels []ledger.Label
		for _, a := range list[:20] {
			labels = append(labels, ledger.Label{Arch: a, Value: quality(a)})
		}
		device := exec.Config{Threads: 1}
		cmp, err := train(t.Context(), device, c, sp, labels, 1)
		require.NoError(t, err)
		pool := NewPool(sp, search.NewList(list), nil)
		whole, err := pool.Score(context.Background(), cmp, device)
		require.NoError(t, err)
		idx := []int{299, 3, 3, 150}
		part, err := pool.scoreSome(context.Background(), cmp, device, idx)
		require.NoError(t, err)
		for k, i := range idx {
			require.InDelta(t, whole.Rank[i], part.Rank[k], 1e-4*(1+math.Abs(whole.Rank[i])), preset)
		}
	}
}

func TestOddDigits(t *testing.T) {
	for i, digit := range "0123456789abcdef" {
		require.Equal(t, i%2 == 1, isOdd(byte(digit)), string(digit))
	}
	for i, digit := range "ABCDEF" {
		require.Equal(t, i%2 == 1, isOdd(byte(digit)), string(digit))
	}
}

// smallTable writes cells with their quality as test accuracy and, with noise, as validation accuracy, and opens the file.
func smallTable(t *testing.T, n int, validation bool) *table.Table {
	var text strings.Builder
	text.WriteString("arch,test_accuracy" + map[bool]string{true: ",validation_accuracy"}[validation] + "\n")
	for i, a := range cells(n, 8) {
		fmt.Fprintf(&text, "%v,%.6f", a, quality(a))
		if validation {
			fmt.Fprintf(&text, ",%.6f", quality(a)-0.01*float64(i%3))
		}
		text.WriteString("\n")
	}
	path := filepath.Join(t.TempDir(), "small.csv")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	opened, err := table.Open(t.Context(), path, table.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, opened.Close()) })
	return opened
}

func TestRankJudgesByWhatItDidNotTrainOn(t *testing.T) {
	tab := smallTable(t, 400, false)
	view, err := tab.View(table.Query{})
	require.NoError(t, err)
	r := Ranking{View: view, Config: small(t), Train: 50, Seed: 5, Seeds: 2, Judge: All, Device: exec.Config{Threads: 1}}
	var streamed []RankSeed
	r.Done = func(s RankSeed) { streamed = append(streamed, s) }
	results, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, streamed, results)
	require.Equal(t, []uint64{5, 6}, []uint64{results[0].Seed, results[1].Seed})
	require.NotEqual(t, results[0].TauB, results[1].TauB)

	// The same by hand: labels of the first seed, scores of the whole table, tau over the rest.
	order := philox.New(5, philox.PurposeSample, 0).Perm(400)
	var labels []ledger.Label
	for _, i := range order[:50] {
		labels = append(labels, ledger.Label{Arch: tab.Arch(i), Value: view.Seen(i)})
	}
	cmp, err := train(t.Context(), r.Device, r.Config, sp, labels, 5)
	require.NoError(t, err)
	pool := PoolOf(view)
	scores, err := pool.Score(context.Background(), cmp, r.Device)
	require.NoError(t, err)
	var x, y, oddX, oddY []float64
	top := order[50]
	for _, i := range order[50:] {
		x, y = append(x, scores.Rank[i]), append(y, view.Seen(i))
		if hash := tab.Arch(i).Hash(); strings.ContainsRune("13579bdf", rune(hash[len(hash)-1])) {
			oddX, oddY = append(oddX, scores.Rank[i]), append(oddY, view.Seen(i))
		}
		if scores.Rank[i] > scores.Rank[top] {
			top = i
		}
	}
	require.InDelta(t, stat.KendallB(x, y), results[0].TauB, 1e-3)
	require.InDelta(t, stat.KendallB(oddX, oddY), results[0].TauBOdd, 1e-3)
	require.Greater(t, results[0].TauB, 0.3)
	rank, err := view.Rank(top)
	require.NoError(t, err)
	require.Equal(t, rank, results[0].TopRank)

	r.Judge, r.Seeds, r.Done = Odd, 1, nil
	odd, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.InDelta(t, results[0].TauBOdd, odd[0].TauB, 1e-3)
	r.Judge = Even
	even, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.True(t, math.IsNaN(even[0].TauBOdd))
	require.NotEqual(t, odd[0].TauB, even[0].TauB)

	for _, train := range []int{1, 398} {
		r.Train = train
		_, err = Rank(t.Context(), r)
		require.Error(t, err)
	}
}

func TestReleasedScheduleRanks(t *testing.T) {
	tab := smallTable(t, 300, false)
	view, err := tab.View(table.Query{})
	require.NoError(t, err)
	c, err := gcn.Preset("released")
	require.NoError(t, err)
	c.Steps, c.LR = 120, 2e-3
	results, err := Rank(t.Context(), Ranking{View: view, Config: c, Train: 60, Seeds: 1, Judge: All, Device: exec.Config{Threads: 2}})
	require.NoError(t, err)
	require.Greater(t, results[0].TauB, 0.2)
}

// The real table, which takes the longest to be read: every method finds in it about what it is known to find.
func TestRealTable(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a large table")
	}
	path := testdata.Path(t, "nasbench101/nb101_run0.csv.gz")
	tab, err := table.Open(t.Context(), path, table.Options{})
	require.NoError(t, err)
	defer tab.Close()
	view, err := tab.View(table.Query{})
	require.NoError(t, err)
	pool := PoolOf(view)
	p := Problem{Space: sp, Source: ledger.FromTable(view), Budget: 60, Seed: 1, Config: small(t), All: pool, Listed: true}
	out, err := Regression{}.Run(t.Context(), p)
	require.NoError(t, err)
	_, rank, err := ledger.FromTable(view).Judge(out.Pick.Arch)
	require.NoError(t, err)
	require.Less(t, rank, 20000, "60 random labels have a mean best rank of 7,000")

	// Over 20 seeds the mean ranks with 423 labels are 41 and 781.
	p.Budget = 423
	ranks := map[string]int{}
	for _, m := range []Method{Random{}, Evolution{}} {
		for p.Seed = range uint64(3) {
			out, err := m.Run(t.Context(), p)
			require.NoError(t, err)
			_, rank, err := ledger.FromTable(view).Judge(out.Pick.Arch)
			require.NoError(t, err)
			ranks[m.Name()] += rank
		}
	}
	require.Less(t, 3*ranks["evolution"], ranks["random"])

	// A short search of the controller, which does not see the list, beats what random sampling finds with as many labels
	// (a mean rank of 5,200).
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.Init, c.PerRound, c.Members, c.Steps, c.Iterations = 40, 20, 2, 100, 120
	p.Budget, p.Seed, p.Listed = 60, 1001, false
	require.Equal(t, "chosen and judged on test accuracy, run 1, 108 epochs (the table has no other)",
		p.Source.Describe())
	out, err = CTNAS{c}.Run(t.Context(), p)
	require.NoError(t, err)
	_, rank, err = ledger.FromTable(view).Judge(out.Pick.Arch)
	require.NoError(t, err)
	t.Logf("rank %d, curriculum %v to %v", rank, *out.Curriculum.Start, *out.Curriculum.End)
	require.Less(t, rank, 2000)
	require.InDelta(t, 50, *out.Curriculum.Start, 10)
	require.Less(t, *out.Curriculum.End, 20.0)
}
