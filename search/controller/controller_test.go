package controller

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/stretchr/testify/require"
)

// toy is a space of words: a length of 2 or 3, then as many letters of four.
type toy struct{ space.Space }
type word string

func (w word) String() string     { return "toy:" + string(w) }
func (w word) Hash() string       { return string(w) }
func (w word) Graph() space.Graph { return space.Graph{} }
func (w word) Cost() space.Cost   { return space.Cost{} }

func (toy) Name() string { return "toy" }
func (toy) Grammar() *space.Grammar {
	letter := space.Step{Head: 1, Choices: 4}
	return &space.Grammar{Heads: []space.Head{{Name: "length", Choices: 2}, {Name: "node", Choices: 4}},
		First: space.Step{Choices: 2}, Variants: [][]space.Step{{letter, letter}, {letter, letter, letter}}}
}
func (t toy) Decode(actions []int) (space.Arch, error) {
	if err := t.Grammar().Check(actions); err != nil {
		return nil, err
	}
	w := ""
	for _, a := range actions[1:] {
		w += string(rune('a' + a))
	}
	return word(w), nil
}

func device(t testing.TB, threads int) *exec.Device {
	d, err := exec.Open(exec.Config{Threads: threads})
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

func open(t testing.TB, sp space.Space, c Config) *Controller {
	ct, err := New(device(t, 2), sp, c)
	require.NoError(t, err)
	t.Cleanup(ct.Close)
	return ct
}

// letters rewards the number of b's among three letters.
func letters(b Batch) []float64 {
	r := make([]float64, len(b.Archs))
	for i, a := range b.Archs {
		r[i] = float64(strings.Count(a.Hash(), "b")) / 3
	}
	return r
}

func TestSampleFollowsTheGrammar(t *testing.T) {
	c := Default()
	c.Seed, c.Batch = 5, 33
	ct := open(t, space.NASBench101{}, c)
	seen := map[space.Arch]bool{}
	b, err := ct.Sample()
	require.NoError(t, err)
	require.Len(t, b.Archs, 33)
	for i, a := range b.Archs {
		require.NoError(t, space.NASBench101{}.Grammar().Check(b.Actions[i]))
		again, err := space.NASBench101{}.Decode(b.Actions[i])
		require.NoError(t, err)
		require.Equal(t, again, a)
		require.Less(t, b.LogP[i], float32(-5))
		require.Greater(t, b.Entropy[i], float32(5), "a fresh policy is nearly uniform")
		seen[a] = true
	}
	require.Greater(t, len(seen), 15)
	more, err := ct.Propose(100)
	require.NoError(t, err)
	require.Len(t, more.Archs, 100)
	require.Len(t, more.LogP, 100)
	require.NotEqual(t, more.Actions[:33], b.Actions)
	require.NotEqual(t, more.Actions[:33], more.Actions[33:66])
}

func TestLearnsToy(t *testing.T) {
	for _, c := range []Config{Default(), func() Config { c := Released(); c.LR = 5e-3; return c }()} {
		c.Seed, c.Repeat, c.RepeatEnd = 1001, 0, 0
		ct := open(t, toy{}, c)
		var first, last Stats
		n := 4000 / c.Batch
		for i := range min(n, 1200) {
			b, err := ct.Sample()
			require.NoError(t, err)
			last, err = ct.Update(letters(b))
			require.NoError(t, err)
			if i == 0 {
				first = last
			}
		}
		b, err := ct.Propose(200)
		require.NoError(t, err)
		mean := 0.0
		for _, r := range letters(b) {
			mean += r / 200
		}
		require.Greater(t, mean, 0.8, "batch %d", c.Batch)
		require.Less(t, last.Entropy, first.Entropy)
	}
}

// A weight of repeats keeps a policy broad that would otherwise settle on one word.
func TestRepeatsKeepDiversity(t *testing.T) {
	count := map[float64]int{}
	for _, repeat := range []float64{0, 1} {
		c := Default()
		c.Seed, c.Entropy, c.EntropyEnd, c.Repeat, c.RepeatEnd = 1002, 0, 0, repeat, repeat
		ct := open(t, toy{}, c)
		for range 100 {
			b, err := ct.Sample()
			require.NoError(t, err)
			_, err = ct.Update(letters(b))
			require.NoError(t, err)
		}
		b, err := ct.Propose(500)
		require.NoError(t, err)
		seen := map[space.Arch]bool{}
		for _, a := range b.Archs {
			seen[a] = true
		}
		count[repeat] = len(seen)
	}
	require.Greater(t, count[1], 2*count[0], "%v", count)
}

func TestAdvantages(t *testing.T) {
	c := Config{Hidden: 8, Batch: 4, LR: 1e-3, Seed: 3, Attention: []string{"node"}}
	norm := func(c Config, rewards ...float64) Stats {
		ct := open(t, toy{}, c)
		_, err := ct.Sample()
		require.NoError(t, err)
		s, err := ct.Update(rewards)
		require.NoError(t, err)
		return s
	}
	require.Zero(t, norm(c, 0, 0, 0, 0).GradNorm)
	one := norm(c, 1, 0, 0.5, 0)
	require.Equal(t, 0.375, one.MeanReward)
	require.Zero(t, one.Baseline)
	require.InEpsilon(t, 2*one.GradNorm, norm(c, 2, 0, 1, 0).GradNorm, 1e-5)
	entropy := c
	entropy.Entropy = 1
	require.NotZero(t, norm(entropy, 0, 0, 0, 0).GradNorm)
	c.Baseline = 0.9
	require.Less(t, norm(c, 1, 1, 1, 1).GradNorm, 1e-12, "equal rewards teach nothing")
	require.Equal(t, 1.0, norm(c, 1, 1, 1, 1).Baseline)
	c.Normalize = true
	require.InEpsilon(t, norm(c, 3, 0, 1, 0).GradNorm, norm(c, 0.3, 0, 0.1, 0).GradNorm, 1e-4,
		"the scale of rewards does not matter")
}

func TestValues(t *testing.T) {
	rewards := []float64{0.9, 0.1, 0.5, 0.5}
	for _, c := range []struct {
		Config
		want []float64
	}{
		{Config{}, rewards},
		{Config{Power: 0.5}, []float64{math.Sqrt(0.9), math.Sqrt(0.1), math.Sqrt(0.5), math.Sqrt(0.5)}},
		{Config{Ranks: true}, []float64{0.875, 0.125, 0.5, 0.5}},
		{Config{Ranks: true, Power: 2}, []float64{0.765625, 0.015625, 0.25, 0.25}},
	} {
		ct := Controller{cfg: c.Config}
		require.InDeltaSlice(t, c.want, ct.values(rewards), 1e-12)
	}
	require.Equal(t, []float64{0.9, 0.1, 0.5, 0.5}, rewards)
}

// A controller restored from another's state goes on with the same bits, with another number of threads too.
func TestStateIsExact(t *testing.T) {
	for _, c := range []Config{Default(), Released()} {
		c.Seed = 9
		step := func(ct *Controller, n int) {
			for range n {
				b, err := ct.Sample()
				require.NoError(t, err)
				_, err = ct.Update(letters(b))
				require.NoError(t, err)
			}
		}
		whole := open(t, toy{}, c)
		step(whole, 7)
		middle := whole.State()
		step(whole, 6)
		again, err := New(device(t, 1), toy{}, c)
		require.NoError(t, err)
		defer again.Close()
		require.NoError(t, again.Restore(middle))
		require.Equal(t, middle, again.State())
		require.Equal(t, 7, again.Updates())
		step(again, 6)
		require.Equal(t, whole.State(), again.State())
	}
}

func TestRestoreRefuses(t *testing.T) {
	c := Default()
	ct := open(t, toy{}, c)
	state := ct.State()
	c.Hidden = 65
	other := open(t, toy{}, c).State()
	magic := append([]byte("ctnas controller 9\n"), state[len(stateMagic):]...)
	size := append([]byte(nil), state...)
	size[len(stateMagic)]++
	for _, bad := range [][]byte{nil, state[:len(state)-1], append(append([]byte(nil), state...), 0),
		other, magic, size} {
		require.ErrorContains(t, ct.Restore(bad), "controller state")
		require.Equal(t, state, ct.State())
	}
}

func FuzzRestore(f *testing.F) {
	c := Default()
	c.Hidden, c.Batch = 4, 2
	ct := open(f, toy{}, c)
	f.Add(ct.State())
	f.Add(ct.State()[:100])
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, state []byte) {
		if ct.Restore(state) == nil {
			require.Equal(t, state, ct.State())
			_, err := ct.Sample() // whatever the numbers are
			require.NoError(t, err)
		}
	})
}

func TestErrors(t *testing.T) {
	ct := open(t, toy{}, Config{Hidden: 8, Batch: 2, LR: 1e-3})
	_, err := ct.Update([]float64{1, 1})
	require.ErrorContains(t, err, "without a batch")
	_, err = ct.Sample()
	require.NoError(t, err)
	_, err = ct.Update([]float64{1})
	require.ErrorContains(t, err, "1 rewards for a batch of 2")
	_, err = ct.Update([]float64{1, math.NaN()})
	require.ErrorContains(t, err, "reward 1 is NaN")
	roots := open(t, toy{}, Config{Hidden: 8, Batch: 2, LR: 1e-3, Power: 0.5})
	_, err = roots.Sample()
	require.NoError(t, err)
	_, err = roots.Update([]float64{-1, 0})
	require.ErrorContains(t, err, "reward 0 is -1")
	_, err = ct.Update([]float64{-1, 0})
	require.NoError(t, err)
	_, err = ct.Sample()
	require.NoError(t, err)
	_, err = ct.Propose(3)
	require.NoError(t, err)
	_, err = ct.Update([]float64{1, 0})
	require.ErrorContains(t, err, "without a batch", "Propose overwrites what the gradient needs")
	good := Config{Hidden: 8, Batch: 2, LR: 1e-3}
	for _, change := range []func(c *Config){
		func(c *Config) {
			c.Batch = 0
		}, func(c *Config) { c.LR = 0 }, func(c *Config) { c.LR = math.NaN() }, func(c *Config) { c.Hidden = 0 },
		func(c *Config) {
			c.Baseline = 1
		}, func(c *Config) { c.Betas[1] = 1 }, func(c *Config) { c.Entropy = -1 }, func(c *Config) { c.Clip = -1 },
		func(c *Config) { c.Iterations = -1 }, func(c *Config) { c.Repeat = -1 },
		func(c *Config) { c.Power = -1 },
	} {
		c := good
		change(&c)
		_, err := New(device(t, 1), toy{}, c)
		require.ErrorContains(t, err, "controller")
	}
}

// percentiles reads the shared table: the fraction of cells at least as good as each.
func percentiles(t *testing.T) map[string]float64 {
	f, err := os.Open(testdata.Path(t, "nasbench101/nb101_run0.csv.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	type row struct {
		cell  string
		value int
	}
	var rows []row
	lines := bufio.NewScanner(z)
	lines.Scan()
	for lines.Scan() {
		field := strings.Split(lines.Text(), ",")
		value, err := strconv.Atoi(field[5])
		require.NoError(t, err)
		rows = append(rows, row{"nasbench101:" + field[2] + ":" + field[3] + ":" + field[4], value})
	}
	require.NoError(t, lines.Err())
	sort.Slice(rows, func(i, j int) bool { return rows[i].value > rows[j].value })
	out := make(map[string]float64, len(rows))
	for i, r := range rows {
		out[r.cell] = float64(i+1) / float64(len(rows))
	}
	return out
}

// With the true order as reward, within 300 batches the samples are among the best few in a hundred, and not all the
// same.
func TestLearnsNASBench101(t *testing.T) {
	testdata.SkipUnlessAll(t, "reads the whole table; TestLearnsToy shows that it learns")
	table := percentiles(t)
	c := Default()
	c.Seed = 1003
	ct := open(t, space.NASBench101{}, c)
	for i := range 300 {
		b, err := ct.Sample()
		require.NoError(t, err)
		rewards := make([]float64, len(b.Archs))
		for j, a := range b.Archs {
			p, ok := table[a.String()]
			require.True(t, ok, a.String())
			rewards[j] = 1 - p
		}
		s, err := ct.Update(rewards)
		require.NoError(t, err)
		if i%50 == 0 {
			t.Logf("%d: mean percentile %.2f %%, entropy %.1f", i, 100-100*s.MeanReward, s.Entropy)
		}
	}
	b, err := ct.Propose(500)
	require.NoError(t, err)
	mean, seen := 0.0, map[space.Arch]bool{}
	for _, a := range b.Archs {
		mean += table[a.String()] / 500
		seen[a] = true
	}
	t.Logf("500 samples: mean percentile %.2f %%, %d different", 100*mean, len(seen))
	require.Less(t, mean, 0.05)
	require.Greater(t, len(seen), 10)
}

func BenchmarkIteration(b *testing.B) {
	for _, c := range []Config{Released(), Default()} {
		b.Run(fmt.Sprint(c.Batch), func(b *testing.B) {
			d, _ := exec.Open(exec.Config{Threads: 1})
			defer d.Close()
			ct, err := New(d, space.NASBench101{}, c)
			require.NoError(b, err)
			defer ct.Close()
			rewards := make([]float64, c.Batch)
			for b.Loop() {
				_, _ = ct.Sample()
				rewards[0] = 1 - rewards[0]
				_, _ = ct.Update(rewards)
			}
			b.ReportMetric(float64(c.Batch)*float64(b.N)/b.Elapsed().Seconds(), "rollouts/s")
		})
	}
}
