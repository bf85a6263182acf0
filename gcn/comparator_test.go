package gcn

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

// problem draws graphs whose accuracy grows with the number of operation 2 and falls with the number of edges.
func problem(n int, stream uint32) Data {
	graphs := randomGraphs(n, stream)
	s := philox.New(1, philox.PurposeTest, stream+1000)
	d := Data{Alphabet: 5, Graphs: graphs}
	for _, g := range graphs {
		y := 0.9 - 0.002*float64(len(g.Edges)) + 0.001*s.NormFloat64()
		for _, op := range g.Ops {
			if op == 2 {
				y += 0.01
			}
		}
		d.Labels = append(d.Labels, y)
		d.Features = append(d.Features, Features(g, 5))
	}
	return d
}

func quick(t *testing.T, preset string) Config {
	c, err := Preset(preset)
	require.NoError(t, err)
	c.Members = min(c.Members, 2)
	c.Steps = 120
	c.LR = max(c.LR, 2e-3)
	c.Width = 32
	return c
}

func TestTrainLearnsAndRepeats(t *testing.T) {
	train, test := problem(100, 20), problem(300, 21)
	for _, name := range []string{"default", "paper"} {
		for _, l := range []Loss{Comparison, Ranking, Regression} {
			c := quick(t, name)
			c.Loss, c.Margin = l, 0.1
			if name == "paper" && l != Comparison {
				c.Pair = false
			}
			var first []float64
			for _, threads := range []int{1, 3} {
				device := exec.Config{Threads: threads}
				cmp, err := Train(context.Background(), device, c, train, 5, nil)
				require.NoError(t, err)
				e, err := cmp.Prepare(test)
				require.NoError(t, err)
				scores, err := cmp.Score(device, e)
				require.NoError(t, err)
				if first == nil {
					first = scores.Rank
					require.Greater(t, stat.KendallB(scores.Rank, test.Labels), 0.6, "%s %s", name, l)
				}
				require.Equal(t, first, scores.Rank, "%s %s: the number of threads changed the result", name, l)
			}
		}
	}
}

func TestPseudoLabelledPairsTeach(t *testing.T) {
	// Two labels say nothing; the pairs say everything.
	data := problem(150, 30)
	truth := data.Labels
	data.Labels = []float64{0.9, 0.9}
	s := philox.New(4, philox.PurposeTest, 1)
	for range 3000 {
		a, b := s.Intn(150), s.Intn(150)
		data.Pairs = append(data.Pairs, Pair{a, b, boolFloat(truth[a] > truth[b])})
	}
	data.PairWeight = 1
	c := quick(t, "default")
	cmp, err := Train(context.Background(), exec.Config{}, c, data, 1, nil)
	require.NoError(t, err)
	test := problem(200, 31)
	e, err := cmp.Prepare(test)
	require.NoError(t, err)
	scores, err := cmp.Score(exec.Config{}, e)
	require.NoError(t, err)
	require.Greater(t, stat.KendallB(scores.Rank, test.Labels), 0.6)
}

func TestScoresAndEvaluate(t *testing.T) {
	data := problem(80, 40)
	c := quick(t, "default")
	cmp, err := Train(context.Background(), exec.Config{}, c, data, 2, nil)
	require.NoError(t, err)
	blob, err := cmp.MarshalBinary()
	require.NoError(t, err)
	var back Comparator
	require.NoError(t, back.UnmarshalBinary(blob))
	require.Equal(t, *cmp, back)
	for _, cut := range []int{0, 10, len(blob) / 2, len(blob) - 1} {
		require.Error(t, new(Comparator).UnmarshalBinary(blob[:cut]))
	}
	e, err := cmp.Prepare(data)
	require.NoError(t, err)
	s, err := cmp.Score(exec.Config{}, e)
	require.NoError(t, err)
	require.InDelta(t, 1, s.Prob(3, 7)+s.Prob(7, 3), 1e-12)
	require.InDelta(t, 0.5, s.Prob(3, 3), 1e-12)
	require.Equal(t, s.Prob(3, 7), s.Against(s, 3, 7))
	require.InDelta(t, s.Rank[9], (s.Member(0)[9]+s.Member(1)[9])/4+s.Member(2)[9]/2, 1e-9)
	r := Evaluate(s, data.Labels, 1)
	require.Greater(t, r.TauB, 0.5)
	require.InDelta(t, 0, r.Antisymmetry, 1e-9)
	require.Greater(t, r.Transitivity, 0.95)
	require.Less(t, r.Calibration, 0.25)
	perfect := &Scores{Rank: data.Labels, members: [][]float64{data.Labels}, spread: []Spread{{0, 1}}}
	pr := Evaluate(perfect, data.Labels, 1)
	require.InDelta(t, 1, pr.TauB, 1e-12)
	require.Equal(t, 1, pr.TopRank)
	require.InDelta(t, 1, pr.PAt1, 1e-12)
	require.InDelta(t, 1, pr.Transitivity, 1e-12)
}

func TestReleasedResumesExactly(t *testing.T) {
	data := problem(300, 50)
	data.Features = nil
	c, err := Preset("released")
	require.NoError(t, err)
	c.Width = 16
	pool := problem(40, 51).Graphs
	var pairs []Pair
	for i := range 300 {
		pairs = append(pairs, Pair{i % 40, (i*7 + 3) % 40, float32(i % 2)})
	}
	run := func(threads, cut int) (ReleasedState, float64) {
		dev, err := exec.Open(exec.Config{Threads: threads})
		require.NoError(t, err)
		defer dev.Close()
		r, err := NewReleased(dev, c, data, 3)
		require.NoError(t, err)
		defer func() { r.Close() }()
		var last float64
		for epoch := range 6 {
			if epoch == cut {
				state := r.State()
				r.Close()
				r, err = NewReleased(dev, c, data, 3)
				require.NoError(t, err)
				require.NoError(t, r.Restore(state))
			}
			var p []Pair
			if epoch%2 == 1 {
				p = pairs
			}
			last, err = r.Epoch(pool, p)
			require.NoError(t, err)
		}
		cmp, err := r.Comparator()
		require.NoError(t, err)
		require.Greater(t, cmp.Spread[0].SD, 0.0)
		return r.State(), last
	}
	want, loss := run(1, -1)
	require.Equal(t, int32(12), want.Updates)
	got, loss2 := run(3, 3)
	require.Equal(t, want, got)
	require.Equal(t, loss, loss2)
	require.Error(t, (&Released{w: make([]float32, 3)}).Restore(want))
}

func TestSpaceAndTrees(t *testing.T) {
	data := problem(200, 60)
	space := func() *Space {
		return NewSpace(5, Slice(data.Graphs), func(i int) []float32 { return data.Features[i] })
	}
	for _, name := range []string{"default", "paper"} {
		c := quick(t, name)
		c.Steps = 5
		cmp, err := Train(context.Background(), exec.Config{}, c, data, 2, nil)
		require.NoError(t, err)
		e, err := cmp.Prepare(data)
		require.NoError(t, err)
		want, err := cmp.Score(exec.Config{}, e)
		require.NoError(t, err)
		a := space()
		key, blob, err := a.Trees(t.Context(), c.Network)
		require.NoError(t, err)
		b := space()
		b.UseTrees(func(name string) ([]byte, bool, error) { return blob, name == key, nil })
		whole, err := b.Encoding(t.Context(), cmp)
		require.NoError(t, err)
		got, err := cmp.Score(exec.Config{}, whole)
		require.NoError(t, err)
		require.Equal(t, want.Rank, got.Rank)
		for cut := range len(blob) {
			if cut%97 == 0 {
				_, err := b.parseTrees(key, blob[:cut])
				require.Error(t, err)
			}
		}
		// Flipped bytes are refused or leave every index in bounds.
		for i := 0; i < len(blob); i += 31 {
			bad := append([]byte(nil), blob...)
			bad[i] ^= 0x81
			_, _ = b.parseTrees(key, bad)
		}
		b = space()
		b.UseTrees(func(string) ([]byte, bool, error) { return blob[:9], true, nil })
		_, err = b.Encoding(t.Context(), cmp)
		require.ErrorContains(t, err, key)
	}
}

func TestTrainRefuses(t *testing.T) {
	data := problem(10, 70)
	c := quick(t, "default")
	bad := data
	bad.Labels = append([]float64(nil), data.Labels...)
	bad.Labels[3] = math.NaN()
	_, err := Train(context.Background(), exec.Config{}, c, bad, 1, nil)
	require.ErrorContains(t, err, "label 3")
	bad = data
	bad.Labels = data.Labels[:1]
	_, err = Train(context.Background(), exec.Config{}, c, bad, 1, nil)
	require.ErrorContains(t, err, "two labelled")
	bad = data
	bad.Features = nil
	_, err = Train(context.Background(), exec.Config{}, c, bad, 1, nil)
	require.ErrorContains(t, err, "features")
	bad = data
	bad.Features = slices.Clone(data.Features)
	bad.Features[4] = slices.Clone(bad.Features[4])
	bad.Features[4][2] = float32(math.Inf(-1))
	_, err = Train(context.Background(), exec.Config{}, c, bad, 1, nil)
	require.ErrorContains(t, err, "feature 2 of graph 4 is -Inf")
	bad = data
	bad.Pairs = []Pair{{0, 99, 1}}
	_, err = Train(context.Background(), exec.Config{}, c, bad, 1, nil)
	require.ErrorContains(t, err, "pair 0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Train(ctx, exec.Config{}, c, data, 1, nil)
	require.ErrorIs(t, err, context.Canceled)
	c.LR = 1e30
	c.WeightDecay = 0
	_, err = Train(context.Background(), exec.Config{}, c, data, 1, nil)
	require.ErrorContains(t, err, "learning rate")
}

// A large space, scored in pieces, gets the scores of one that is encoded as a whole, to the last digits of a sum in
// another order.
func TestLargeSpaceInPieces(t *testing.T) {
	data := problem(200, 60)
	for _, name := range []string{"default", "paper"} {
		c := quick(t, name)
		c.Steps = 5
		cmp, err := Train(t.Context(), exec.Config{}, c, data, 2, nil)
		require.NoError(t, err)
		space := NewSpace(5, Slice(data.Graphs), func(i int) []float32 { return data.Features[i] })
		want, err := space.Score(t.Context(), cmp, exec.Config{})
		require.NoError(t, err)
		large := NewSpace(5, Slice(data.Graphs), func(i int) []float32 { return data.Features[i] })
		large.whole, large.piece = 100, 64
		require.True(t, large.Large())
		for range 2 { // the second time with the trees that were kept
			got, err := large.Score(t.Context(), cmp, exec.Config{})
			require.NoError(t, err)
			require.InDeltaSlice(t, want.Rank, got.Rank, 1e-4)
			for m := range want.Members() {
				require.InDeltaSlice(t, want.Member(m), got.Member(m), 1e-4)
			}
			require.InDelta(t, want.Prob(3, 150), got.Prob(3, 150), 1e-4)
		}
		require.Positive(t, large.kept)
		idx := []int{7, 3, 150}
		for _, sp := range []*Space{space, large} {
			some, err := sp.ScoreSome(t.Context(), cmp, exec.Config{}, idx)
			require.NoError(t, err)
			for k, i := range idx {
				require.InDelta(t, want.Rank[i], some.Rank[k], 1e-4)
				require.InDelta(t, want.SD(i), some.SD(k), 1e-4)
			}
			require.InDelta(t, want.Prob(7, 150), some.Prob(0, 2), 1e-4)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, sp := range []*Space{space, large} {
			_, err = sp.Score(ended, cmp, exec.Config{})
			require.ErrorIs(t, err, context.Canceled)
		}
	}
}
