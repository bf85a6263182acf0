package search

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/gob"
	"math"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
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
		if got := highest(n, v, ok); !slices.Equal(got, want) {
			t.Fatalf("highest %d of %v: %v, want %v", n, v, got, want)
		}
	})
}

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
		c := &selection{s: &search{Deps: Deps{Space: sp}, ledger: ledger.New(&byHash{}, 1000)}, taken: map[space.Arch]bool{}, apart: apart}
		c.best(n, values, func(i int) space.Arch { return archs[i] }, func(int) string { return proposerMutation }, values)
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
	c := someCells().archs
	a := []space.Arch{c[0], c[1], c[2], c[3], c[4], c[5], c[6]}
	b := []space.Arch{c[7], c[8], c[9], c[3], c[1], c[2], c[0]}
	p := []float64{0.9, 0.1, 0.55, 0.5, 0.99, 0.02, 0.45}
	got := confident(a, b, p, 4, 3)
	require.ElementsMatch(t, []pseudo{{c[4], c[1], 1, 3}, {c[0], c[7], 1, 3}, {c[5], c[2], 0, 3}, {c[1], c[8], 0, 3}}, got)
	// Nothing of a class is made up where it does not occur; a cell beside itself says nothing.
	require.Empty(t, confident(a[:1], b[:1], []float64{0.9}, 4, 0), "one pair has no other half")
	require.Empty(t, confident(a[3:4], b[3:4], []float64{0.5}, 4, 0))
	for _, q := range confident(a[:2], b[:2], []float64{0.9, 0.8}, 4, 0) {
		require.Equal(t, float32(1), q.Target)
	}
}

func TestThePoolIsBoundedAndAges(t *testing.T) {
	var pool []pseudo
	for round := range 5 {
		for range 3 {
			pool = append(pool, pseudo{Round: round})
		}
		pool = age(pool, round, 1, 5)
		require.LessOrEqual(t, len(pool), 5)
		for _, p := range pool {
			require.GreaterOrEqual(t, p.Round, round-1)
		}
		require.Equal(t, round, pool[len(pool)-1].Round)
	}
}

func TestJoinNumbersUnlabelledArchitecturesOnce(t *testing.T) {
	c := someCells().archs
	net := gcn.Network{Features: true}
	d := join(describe(cells, net, c[:2], []float64{0.1, 0.2}), cells, net, c[:2], []pseudo{{A: c[1], B: c[5], Target: 1}, {A: c[5], B: c[6]}}, 0.5)
	require.Len(t, d.Graphs, 4)
	require.Len(t, d.Features, 4)
	require.Equal(t, []gcn.Pair{{A: 1, B: 2, Target: 1}, {A: 2, B: 3}}, d.Pairs)
	require.Equal(t, gcn.Graph(c[6].Graph()), d.Graphs[3])
	require.Len(t, d.Labels, 2)
}

func TestPareto(t *testing.T) {
	archs := slices.Clone(someCells().archs[:6])
	slices.SortFunc(archs, func(a, b space.Arch) int { return int(a.Cost().MAdds - b.Cost().MAdds) })
	var labels []ledger.Label
	for i, v := range []float64{0.5, 0.4, 0.6, 0.6, 0.55, 0.9} {
		labels = append(labels, ledger.Label{Arch: archs[i], Value: v})
	}
	slices.Reverse(labels)
	var r Result
	r.Front("", labels, space.Limits{})
	require.Equal(t, []string{archs[0].String(), archs[2].String(), archs[5].String()}, r.Pareto)
	require.Equal(t, space.CostMAdds, r.ParetoCost)
}

func TestConfigSurvivesItsFile(t *testing.T) {
	for _, preset := range []string{PresetDefault, PresetPaper, PresetReleased} {
		c, err := Preset(preset)
		require.NoError(t, err)
		c.Labels, c.MaxMAdds, c.Seed, c.Budget = "table:x?run=1", 482_000_000, math.MaxUint64, 500
		text, err := c.YAML(map[string]string{"version": "1"})
		require.NoError(t, err)
		require.Contains(t, string(text), "\nrun:\n")
		back, err := ParseConfig(text)
		require.NoError(t, err)
		require.Equal(t, c, back)
		// Another value of any setting that matters is another identity.
		a, err := c.identity(space.NASBench101{})
		require.NoError(t, err)
		c.Labels = "table:moved"
		b, err := c.identity(space.NASBench101{})
		require.NoError(t, err)
		require.Equal(t, a, b, "where the file lies does not matter")
		c.Thompson = 0.123
		b, err = c.identity(space.NASBench101{})
		require.NoError(t, err)
		require.NotEqual(t, a, b)
	}
	_, err := Preset("nope")
	require.ErrorContains(t, err, "default, paper or released")
}

func TestBadSettingsAreNamed(t *testing.T) {
	for flag, change := range map[string]func(c *Config){
		"--budget":         func(c *Config) { c.Budget = 1 },
		"--propose":        func(c *Config) { c.Propose = "x" },
		"--reward":         func(c *Config) { c.Reward = "x" },
		"--baseline":       func(c *Config) { c.Baseline = "x" },
		"--thompson":       func(c *Config) { c.Thompson = math.NaN() },
		"--spread":         func(c *Config) { c.Spread = 1.5 },
		"--max-madds":      func(c *Config) { c.MaxMAdds = -1 },
		"--max-latency 1":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", 1e9 },
		"--max-latency: s": func(c *Config) { c.MaxLatency = 12 },
		"--max-latency -":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", -1 },
		"--max-latency N":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", math.NaN() },
		"--pareto-cost":    func(c *Config) { c.ParetoCost = "watts" },
		"--pareto-cost l":  func(c *Config) { c.ParetoCost = space.CostLatency },
		"--controller-lr":  func(c *Config) { c.ControllerLR = 0 },
		"--explore-weight": func(c *Config) { c.ExploreWeight = -1 },
		"--iterations":     func(c *Config) { c.Iterations = -1 },
		"--validation":     func(c *Config) { c.Validation = 5 },
		"--preset":         func(c *Config) { c.Preset, c.Members = PresetReleased, 2 },
	} {
		c, err := Preset(PresetDefault)
		require.NoError(t, err)
		require.NoError(t, c.Check())
		change(&c)
		_, err = Run(context.Background(), c, Deps{})
		require.ErrorContains(t, err, flag)
	}
	c, err := Preset(PresetDefault)
	require.NoError(t, err)
	c.Propose = ProposeSpace
	_, err = Run(context.Background(), c, Deps{Space: cells, Source: newFake()})
	require.ErrorContains(t, err, "cannot be listed")
}

func TestInitialLabelsLeaveRoomForWhatIsFound(t *testing.T) {
	for _, x := range []struct {
		preset       string
		budget, want int
	}{{PresetDefault, 423, 60}, {PresetDefault, 60, 30}, {PresetDefault, 3, 2}, {PresetPaper, 424, 423}, {PresetPaper, 100, 99}, {PresetReleased, 423, 422}} {
		c, err := Preset(x.preset)
		require.NoError(t, err)
		c.Budget = x.budget
		require.Equal(t, x.want, c.initial(), "%+v", x)
	}
}

// packed is a checkpoint of the given fields.
func packed(t testing.TB, fields []byte) []byte {
	var body bytes.Buffer
	w, err := flate.NewWriter(&body, flate.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(fields)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return checkpoint.Seal(checkpointMagic, body.Bytes())
}

// A small checkpoint that unpacks to much is refused before it does.
func TestCheckpointsUnpackToLittle(t *testing.T) {
	for name, fields := range map[string][]byte{
		"a message of 900 MB":  append([]byte{0xfc, 0x35, 0xa4, 0xe9, 0x00}, make([]byte, 100<<20)...),
		"messages without end": bytes.Repeat([]byte{1, 0}, 50<<20),
	} {
		data := packed(t, fields)
		require.Less(t, len(data), 1<<20, name)
		var err error
		got := testdata.Allocated(func() { _, err = decodeSnapshot(data) })
		require.ErrorContains(t, err, "damaged checkpoint", name)
		require.Less(t, got, uint64(256<<20), name)
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	whole, err := (&snapshot{Version: "1", Round: 2, Asked: [][]string{{"a"}}, Comparator: []byte("x")}).encode()
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(checkpointMagic))
	var plain bytes.Buffer
	require.NoError(f, gob.NewEncoder(&plain).Encode(&snapshot{Version: "1", Asked: [][]string{{"a", "b"}}, Seconds: map[string]float64{"x": 1}}))
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, []byte(checkpointMagic)) { // the fields of a whole one
			data = packed(t, data)
		}
		var s *snapshot
		var err error
		// encoding/gob makes room for 10 MiB of a list before it has seen any of it.
		got := testdata.Allocated(func() { s, err = decodeSnapshot(data) })
		require.LessOrEqual(t, got, uint64(64<<20+4096*len(data)))
		if err != nil {
			return
		}
		again, err := s.encode()
		require.NoError(t, err)
		_, err = decodeSnapshot(again)
		require.NoError(t, err)
	})
}

func FuzzParseConfig(f *testing.F) {
	c, err := Preset(PresetPaper)
	require.NoError(f, err)
	text, err := c.YAML(nil)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte("preset: released\nbudget: 9\n"))
	f.Add([]byte("a: [1, {"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		text, err := c.YAML(nil)
		require.NoError(t, err)
		back, err := ParseConfig(text)
		require.NoError(t, err)
		again, err := back.YAML(nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, again))
	})
}
