package guided

import (
	"math"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

func TestHighestIsASortCutOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Float64Range(-3, 3).AsAny()).Draw(t, "values")
		v := make([]float64, len(values))
		for i := range v {
			v[i] = math.Round(values[i].(float64))
		}
		n, step := rapid.IntRange(0, 9).Draw(t, "n"), rapid.IntRange(1, 3).Draw(t, "step")
		ok := func(i int) bool { return i%step == 0 }
		var want []int
		for i := range v {
			if ok(i) {
				want = append(want, i)
			}
		}
		sort.SliceStable(want, func(a, b int) bool { return v[want[a]] > v[want[b]] })
		want = want[:min(n, len(want))]
		if got := Highest(n, v, ok); !slices.Equal(got, want) {
			t.Fatalf("highest %d of %v: %v, want %v", n, v, got, want)
		}
	})
}

// anything has a label of whatever it is asked for.
type anything struct{ *runtest.Source }

func (anything) Has(space.Arch) bool { return true }
func (anything) Facts() ledger.Facts { return ledger.Facts{} }

// Candidates of a round are apart as long as there are such; then as many as were asked for come all the same.
func TestCandidatesAreApart(t *testing.T) {
	sp, err := space.Open("mobilenetv3")
	require.NoError(t, err)
	stream := philox.New(3, philox.PurposeTest, 9)
	archs := []space.Arch{sp.Sample(stream)}
	for len(archs) < 400 { // a walk by mutation, whose steps are close together
		archs = append(archs, sp.Mutate(archs[len(archs)-1], stream))
	}
	values := make([]float64, len(archs))
	for i := range values {
		values[i] = -float64(i)
	}
	decisions := func(a space.Arch) []int {
		d, err := sp.Encode(a)
		require.NoError(t, err)
		return d
	}
	pick := func(apart, n int) []ledger.Request {
		c := &selection{s: &Search{Run: &run.Run{Deps: run.Deps{Space: sp}, Ledger: ledger.New(anything{}, 1000)}},
			taken: map[space.Arch]bool{}, apart: apart}
		c.best(n, values, func(i int) space.Arch {
			return archs[i]
		}, func(int) string { return ProposerMutation }, values)
		return c.list
	}
	require.Equal(t, archs[1], pick(0, 5)[1].Arch)
	for _, apart := range []int{2, 5} {
		list := pick(apart, 8)
		require.Len(t, list, 8)
		require.Equal(t, archs[0], list[0].Arch, "the best comes first")
		for i, a := range list {
			for _, b := range list[:i] {
				require.GreaterOrEqual(t, differences(decisions(a.Arch), decisions(b.Arch)), apart)
			}
		}
	}
	require.Len(t, pick(40, 8), 8, "nothing is so far apart")
	require.Equal(t, 3, differences([]int{1, 2, 3}, []int{1, 9, 3, 0, 0}))
}

func TestConfidentKeepsBothClasses(t *testing.T) {
	c := runtest.Archs()
	a := []space.Arch{c[0], c[1], c[2], c[3], c[4], c[5], c[6]}
	b := []space.Arch{c[7], c[8], c[9], c[3], c[1], c[2], c[0]}
	p := []float64{0.9, 0.1, 0.55, 0.5, 0.99, 0.02, 0.45}
	got := Confident(a, b, p, 4, 3)
	require.ElementsMatch(t, []Pseudo{{c[4], c[1], 1, 3}, {c[0], c[7], 1, 3}, {c[5], c[2], 0, 3}, {c[1], c[8], 0, 3}},
		got)
	// Nothing of a class is made up where it does not occur; a cell beside itself says nothing.
	require.Empty(t, Confident(a[:1], b[:1], []float64{0.9}, 4, 0), "one pair has no other half")
	require.Empty(t, Confident(a[3:4], b[3:4], []float64{0.5}, 4, 0))
	for _, q := range Confident(a[:2], b[:2], []float64{0.9, 0.8}, 4, 0) {
		require.Equal(t, float32(1), q.Target)
	}
}

func TestThePoolIsBoundedAndAges(t *testing.T) {
	var pool []Pseudo
	for round := range 5 {
		for range 3 {
			pool = append(pool, Pseudo{Round: round})
		}
		pool = Age(pool, round, 1, 5)
		require.LessOrEqual(t, len(pool), 5)
		for _, p := range pool {
			require.GreaterOrEqual(t, p.Round, round-1)
		}
		require.Equal(t, round, pool[len(pool)-1].Round)
	}
}

func TestJoinNumbersUnlabelledArchitecturesOnce(t *testing.T) {
	c := runtest.Archs()
	net := gcn.Network{Features: true}
	d := Join(catalogue.Describe(runtest.Space, net, c[:2], []float64{0.1, 0.2}), runtest.Space, net, c[:2],
		[]Pseudo{{A: c[1], B: c[5], Target: 1}, {A: c[5], B: c[6]}}, 0.5)
	require.Len(t, d.Graphs, 4)
	require.Len(t, d.Features, 4)
	require.Equal(t, []gcn.Pair{{A: 1, B: 2, Target: 1}, {A: 2, B: 3}}, d.Pairs)
	require.Equal(t, gcn.Graph(c[6].Graph()), d.Graphs[3])
	require.Len(t, d.Labels, 2)
}

func TestInitialLabelsLeaveRoomForWhatIsFound(t *testing.T) {
	for _, x := range []struct {
		preset             string
		budget, init, want int
	}{{search.PresetDefault, 423, 0, 60}, {search.PresetDefault, 50, 0, 20}, {search.PresetDefault, 3, 0, 2},
		{search.PresetDefault, 1000, 0, 60}, {search.PresetDefault, 60, 58, 30}, {search.PresetDefault, 60, 40, 40},
		{search.PresetPaper, 424, 423, 423}, {search.PresetPaper, 100, 423, 99},
		{search.PresetReleased, 423, 423, 422}} {
		c, err := search.Preset(x.preset)
		require.NoError(t, err)
		c.Budget, c.Init = x.budget, x.init
		require.Equal(t, x.want, initial(c, runtest.Space), "%+v", x)
	}
}

// What is drawn is the most promising of several that may be labelled, and the first of them where none may.
func TestPromising(t *testing.T) {
	sp := runtest.Space
	var drawn []space.Arch
	stream := philox.New(5, philox.PurposeTest, 3)
	draw := func() space.Arch {
		drawn = append(drawn, sp.Sample(stream))
		return drawn[len(drawn)-1]
	}
	large := func(a space.Arch) bool { return len(a.Graph().Ops) == 7 }
	for range 10 {
		drawn = nil
		got := mostPromising(sp, 20, draw, large)
		require.Len(t, drawn, 20)
		require.Contains(t, drawn, got)
		require.True(t, large(got))
		for _, a := range drawn {
			require.True(t, !large(a) || space.Promise(sp, a) <= space.Promise(sp, got))
		}
		drawn = nil
		require.Equal(t, mostPromising(sp, 5, draw, func(space.Arch) bool { return false }), drawn[0])
	}
}
