// An outside package: the simulator, on which the tests run too, imports the families.
package rnn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
	. "github.com/ctnas/ctnas/kernels/rnn"
	"github.com/ctnas/ctnas/kernels/sim"
)

// released is the grammar of NAS-Bench-101 as the released controller has it: 18 decisions.
func released() Grammar {
	g := Grammar{Heads: []Head{{"nodes", Linear, 5}, {"op", Linear, 3}, {"node", Attention, 7}}, First: Step{0, 5}}
	for n := 1; n <= 5; n++ {
		var v []Step
		for i := 1; i <= n; i++ {
			v = append(v, Step{2, i}, Step{1, 3})
		}
		v = append(v, Step{2, n + 1})
		for range 2 * (8 - n) {
			v = append(v, Step{2, n + 2})
		}
		g.Variants = append(g.Variants, v)
	}
	return g
}

// short has 24 sequences of 3 and 4 decisions.
func short() Grammar {
	return Grammar{Heads: []Head{{"a", Linear, 3}, {"b", Attention, 4}}, First: Step{0, 2},
		Variants: [][]Step{{{1, 4}, {0, 3}}, {{0, 2}, {1, 3}, {1, 2}}}}
}

type netCase struct {
	name    string
	grammar Grammar
	hidden  int
	batches []int
}

func netCases() []netCase {
	all := manyCases()
	for i := range all {
		if !testdata.All() {
			all[i].batches = all[i].batches[:min(2, len(all[i].batches))]
		}
	}
	return all
}

func manyCases() []netCase {
	uneven := Grammar{Heads: []Head{{"a", Attention, 3}, {"b", Linear, 17}, {"c", Attention, 9}}, First: Step{0, 3},
		Variants: [][]Step{{}, {{1, 17}, {2, 9}, {1, 1}}, {{2, 4}, {0, 2}, {2, 9}, {2, 1}, {1, 16}}}}
	linear := Grammar{Heads: []Head{{"only", Linear, 2}}, First: Step{0, 1}, Variants: [][]Step{{{0, 2}, {0, 2}}}}
	wide := Grammar{Heads: []Head{{"a", Linear, 40}}, First: Step{0, 2}, Variants: [][]Step{{{0, 40}}, {}}}
	return []netCase{
		{"released", released(), 64, []int{1, 17, 64}},
		{"released", released(), 5, []int{1, 3, 64}},
		{"uneven", uneven, 16, []int{1, 3, 17, 64}},
		{"uneven", uneven, 33, []int{3, 17}},
		{"uneven", uneven, 83, []int{1, 5}},
		{"linear", linear, 5, []int{1, 3, 17, 2100}},
		{"many choices", wide, 17, []int{5}},
		{"short", short(), 40, []int{131}},
	}
}

// randomParams fills the tensors, not the padding, which stays zero.
func randomParams(n *Network, stream uint32, scale float32) ([]float32, []float64) {
	p := make([]float32, n.Size())
	for i, t := range n.Tensors() {
		v, _ := kerneltest.Random(t.Rows*t.Cols, stream+uint32(i))
		for j := range v {
			v[j] *= scale
		}
		t.Put(p, v)
	}
	return p, widen(p)
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

// randomActions draws sequences uniformly, padded with -1.
func randomActions(g Grammar, batch int, stream uint32) []int32 {
	s := philox.New(3, philox.PurposeTest, stream)
	var out []int32
	for range batch {
		first := s.Intn(g.First.Choices)
		out = append(out, int32(first))
		for t := 1; t < g.MaxSteps(); t++ {
			if t > len(g.Variants[first]) {
				out = append(out, -1)
			} else {
				out = append(out, int32(s.Intn(g.Variants[first][t-1].Choices)))
			}
		}
	}
	return out
}

func sequence(g Grammar, actions []int32) []int {
	var out []int
	for _, a := range actions[:1+len(g.Variants[actions[0]])] {
		out = append(out, int(a))
	}
	return out
}

type run struct {
	roll Rollout
	grad *exec.Buffer
	p    *exec.Program
}

// record makes a program of a rollout (given = nil: sampled) and its gradient.
func record(ar *exec.Arena, n *Network, batch int, params []float32, given []int32, dlogp, dentropy []float32) run {
	r := run{roll: Rollout{Net: n, Params: ar.Floats(params), Batch: batch, Seed: 77, Counter: ar.Ints([]int32{0}),
		Actions: ar.I32(batch * n.Grammar.MaxSteps()), LogP: ar.F32(batch), Entropy: ar.F32(batch)},
		grad: ar.F32(n.Size()), p: ar.NewProgram("rnn")}
	if given != nil {
		r.roll.Given = ar.Ints(given)
	}
	tape := RecordRollout(r.p, r.roll)
	RecordBackward(r.p, tape, Backward{DLogP: ar.Floats(dlogp), DEntropy: ar.Floats(dentropy), Grad: r.grad})
	return r
}

func (r run) actions() []int32 {
	out := make([]int32, r.roll.Actions.Len())
	r.roll.Actions.ReadI32(0, out)
	return out
}

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func TestReferenceGradient(t *testing.T) {
	for i, c := range netCases() {
		if c.hidden > 16 {
			continue
		}
		n, err := NewNetwork(c.grammar, c.hidden)
		require.NoError(t, err)
		_, params := randomParams(n, uint32(100*i), 0.4)
		for b := range 2 {
			actions := sequence(c.grammar, randomActions(c.grammar, 1, uint32(10*i+b+1)))
			grad := make([]float64, n.Size())
			NetworkReference(n, params, actions, 0.7, -1.3, grad)
			var where []int
			for _, tensor := range n.Tensors() {
				for k := range tensor.Rows * tensor.Cols {
					if (k*7+b)%5 == 0 || tensor.Rows*tensor.Cols < 40 {
						where = append(where, tensor.At(k/tensor.Cols, k%tensor.Cols))
					}
				}
			}
			x, analytic := make([]float64, len(where)), make([]float64, len(where))
			for k, at := range where {
				x[k], analytic[k] = params[at], grad[at]
			}
			f := func(x []float64) float64 {
				all := append([]float64(nil), params...)
				for k, at := range where {
					all[at] = x[k]
				}
				logp, entropy, _ := NetworkReference(n, all, actions, 0, 0, nil)
				return 0.7*logp - 1.3*entropy
			}
			kerneltest.Gradient(t, f, x, analytic, 1e-7, c.name)
		}
	}
}

func TestForwardAndGradient(t *testing.T) {
	for i, c := range netCases() {
		n, err := NewNetwork(c.grammar, c.hidden)
		require.NoError(t, err)
		params, params64 := randomParams(n, uint32(100*i), 0.3)
		steps := c.grammar.MaxSteps()
		for _, batch := range c.batches {
			given := randomActions(c.grammar, batch, uint32(1000+i*100+batch))
			dlogp, dlogp64 := kerneltest.Random(batch, uint32(50*i+batch))
			dentropy, dentropy64 := kerneltest.Random(batch, uint32(50*i+batch+10000))
			logp, entropy, grad := make([]float64, batch), make([]float64, batch), make([]float64, n.Size())
			for b := range batch {
				logp[b], entropy[b], _ = NetworkReference(n, params64, sequence(c.grammar, given[b*steps:]), dlogp64[b],
					dentropy64[b], grad)
			}
			t.Run(fmt.Sprintf("%s/%d/%d", c.name, c.hidden, batch), func(t *testing.T) {
				kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
					ar := d.NewArena()
					defer ar.Free()
					r := record(ar, n, batch, params, given, dlogp, dentropy)
					r.p.Run(1)
					require.Equal(t, given, r.actions())
					kerneltest.Close(t, logp, r.roll.LogP.Values(), 1e-5, "log-probability")
					kerneltest.Close(t, entropy, r.roll.Entropy.Values(), 1e-5, "entropy")
					got := r.grad.Values()
					for _, tensor := range n.Tensors() {
						want := make([]float64, tensor.Rows*tensor.Cols)
						for k := range want {
							want[k] = grad[tensor.At(k/tensor.Cols, k%tensor.Cols)]
						}
						kerneltest.Close(t, want, tensor.Get(got), 1e-4, "gradient of "+tensor.Name)
						tensor.Put(got, make([]float32, len(want)))
					}
					require.Equal(t, make([]float32, n.Size()), got, "the padding's gradient is zero")
				})
			})
		}
	}
}

// Sampled sequences follow the grammar, differ from run to run and sequence to sequence, and their log-probabilities
// and gradients are those of the same sequences given.
func TestSampledIsConsistent(t *testing.T) {
	for i, c := range netCases() {
		n, err := NewNetwork(c.grammar, c.hidden)
		require.NoError(t, err)
		params, _ := randomParams(n, uint32(100*i), 0.3)
		const batch = 17
		weight, _ := kerneltest.Random(batch, 5)
		kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
			ar := d.NewArena()
			defer ar.Free()
			r := record(ar, n, batch, params, nil, weight, weight)
			r.p.Run(1)
			first := r.actions()
			r.p.Run(1)
			second := r.actions()
			require.NotEqual(t, first, second)
			steps := c.grammar.MaxSteps()
			for b := range batch {
				row := second[b*steps : (b+1)*steps]
				require.True(t, row[0] >= 0 && int(row[0]) < c.grammar.First.Choices)
				for k, s := range c.grammar.Variants[row[0]] {
					require.True(t, row[k+1] >= 0 && int(row[k+1]) < s.Choices, "%v", row)
				}
				for _, a := range row[1+len(c.grammar.Variants[row[0]]):] {
					require.EqualValues(t, -1, a)
				}
			}
			same := record(ar, n, batch, params, second, weight, weight)
			same.p.Run(1)
			require.Equal(t, second, same.actions())
			require.Equal(t, r.roll.LogP.Values(), same.roll.LogP.Values())
			require.Equal(t, r.roll.Entropy.Values(), same.roll.Entropy.Values())
			require.Equal(t, r.grad.Values(), same.grad.Values())
			count := make([]int32, 1)
			r.roll.Counter.ReadI32(0, count)
			require.EqualValues(t, 2, count[0])
			same.roll.Counter.ReadI32(0, count)
			require.EqualValues(t, 0, count[0])
		})
	}
}

// The same program gives the same bits with any number of threads.
func TestThreadsDoNotMatter(t *testing.T) {
	n, err := NewNetwork(released(), 64)
	require.NoError(t, err)
	params, _ := randomParams(n, 1, 0.3)
	weight, _ := kerneltest.Random(70, 5)
	for _, level := range exec.Levels() {
		var actions []int32
		var grad []float32
		for _, threads := range []int{1, 2, 5} {
			d, err := exec.Open(exec.Config{Level: level, Threads: threads})
			require.NoError(t, err)
			ar := d.NewArena()
			r := record(ar, n, 70, params, nil, weight, weight)
			r.p.Run(3)
			if threads == 1 {
				actions, grad = r.actions(), r.grad.Values()
			}
			require.Equal(t, actions, r.actions())
			require.Equal(t, grad, r.grad.Values())
			ar.Free()
			d.Close()
		}
	}
}

// The order in which an accelerator's threads and blocks run does not matter either: neither for a few sequences, nor
// for many, nor for a network that does not fit a block's registers.
func TestOrderDoesNotMatter(t *testing.T) {
	for _, c := range []struct{ hidden, batch int }{{64, 3}, {20, 200}, {70, 9}} {
		n, err := NewNetwork(short(), c.hidden)
		require.NoError(t, err)
		params, _ := randomParams(n, 1, 0.3)
		weight, _ := kerneltest.Random(c.batch, 5)
		var actions []int32
		var grad []float32
		for _, order := range sim.Orders {
			d, err := exec.Open(exec.Config{Device: "sim:" + order.String()})
			require.NoError(t, err)
			ar := d.NewArena()
			r := record(ar, n, c.batch, params, nil, weight, weight)
			r.p.Run(2)
			if order == sim.Ascending {
				actions, grad = r.actions(), r.grad.Values()
			}
			require.Equal(t, actions, r.actions())
			require.Equal(t, grad, r.grad.Values())
			ar.Free()
			d.Close()
		}
	}
}

// How often sequences come up agrees with their probabilities: Pearson's chi-square over all sequences of a small
// grammar.
func TestDistribution(t *testing.T) {
	g := short()
	n, err := NewNetwork(g, 16)
	require.NoError(t, err)
	params, params64 := randomParams(n, 9, 0.7)
	const batch, runs = 320, 20
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		r := record(ar, n, batch, params, nil, make([]float32, batch), make([]float32, batch))
		r.p = ar.NewProgram("rollout")
		RecordRollout(r.p, r.roll)
		counts := map[string]int{}
		examples := map[string][]int{}
		for range runs {
			r.p.Run(1)
			actions := r.actions()
			for b := range batch {
				s := sequence(g, actions[b*g.MaxSteps():])
				counts[fmt.Sprint(s)]++
				examples[fmt.Sprint(s)] = s
			}
		}
		chi, total := 0.0, 0.0
		for name, s := range examples {
			logp, _, _ := NetworkReference(n, params64, s, 0, 0, nil)
			expected := math.Exp(logp) * batch * runs
			total += math.Exp(logp)
			chi += (float64(counts[name]) - expected) * (float64(counts[name]) - expected) / expected
		}
		require.Len(t, examples, 24)
		require.InDelta(t, 1, total, 1e-6, "the probabilities of all sequences")
		// Seed fixed: it does not flicker.
		require.Less(t, chi, 49.7, "chi-square with 23 degrees of freedom exceeds this once in 1,000")
		require.Greater(t, chi, 4.0, "and falls below this as rarely")
	})
}

// With the decisions given, a network on an accelerator and one on the CPU stay together over many updates:
// probabilities, entropies, gradients, and the weights that Adam makes of them.
func TestTrainsAsOnTheCPU(t *testing.T) {
	for i, c := range []struct {
		grammar       Grammar
		hidden, batch int
		updates       int
	}{{short(), 64, 1, 100}, {short(), 20, 3, 100}, {released(), 64, 1, 4}, {released(), 72, 2, 2}} {
		if !testdata.All() {
			c.updates = min(c.updates, 20)
		}
		n, err := NewNetwork(c.grammar, c.hidden)
		require.NoError(t, err)
		params, _ := randomParams(n, uint32(100*i), 0.1)
		steps := c.grammar.MaxSteps()
		open := func(ar *exec.Arena) (r run, dlogp, dentropy *exec.Buffer) {
			r = run{roll: Rollout{Net: n, Params: ar.Floats(params), Batch: c.batch, Counter: ar.Ints([]int32{0}),
				Given: ar.I32(c.batch * steps), Actions: ar.I32(c.batch * steps), LogP: ar.F32(c.batch),
				Entropy: ar.F32(c.batch)}, grad: ar.F32(n.Size()), p: ar.NewProgram("train")}
			dlogp, dentropy = ar.F32(c.batch), ar.F32(c.batch)
			RecordBackward(r.p, RecordRollout(r.p, r.roll), Backward{DLogP: dlogp, DEntropy: dentropy, Grad: r.grad})
			optim.RecordAdam(r.p, optim.Adam{W: r.roll.Params, G: r.grad, M: ar.Zeros(n.Size()), V: ar.Zeros(n.Size()),
				LR: ar.Floats([]float32{2e-4}), Step: ar.Ints([]int32{0}), Beta1: 0.5, Beta2: 0.999, Eps: 1e-8,
				WeightDecay: 5e-4})
			return r, dlogp, dentropy
		}
		t.Run(fmt.Sprintf("%d/%d/%d", steps, c.hidden, c.batch), func(t *testing.T) {
			kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
				if !d.Accelerated() {
					t.Skip("the CPU is what the others are compared with")
				}
				host, err := exec.Open(exec.Config{Threads: 1})
				require.NoError(t, err)
				defer host.Close()
				ar1, ar2 := host.NewArena(), d.NewArena()
				defer ar1.Free()
				defer ar2.Free()
				want, dlogp1, dentropy1 := open(ar1)
				got, dlogp2, dentropy2 := open(ar2)
				for update := range c.updates {
					given := randomActions(c.grammar, c.batch, uint32(1000*i+update))
					dlogp, _ := kerneltest.Random(c.batch, uint32(2000*i+2*update))
					dentropy, _ := kerneltest.Random(c.batch, uint32(2000*i+2*update+1))
					for b := range dentropy {
						// Near the uniform distribution most of the entropy's gradient cancels, and rounding is what is
						// left.
						dentropy[b] *= 0.01
					}
					for _, one := range []struct {
						run
						dlogp, dentropy *exec.Buffer
					}{{want, dlogp1, dentropy1}, {got, dlogp2, dentropy2}} {
						one.roll.Given.WriteI32(0, given)
						one.dlogp.WriteF32(0, dlogp)
						one.dentropy.WriteF32(0, dentropy)
						one.p.Run(1)
					}
					kerneltest.Close(t, widen(want.roll.LogP.Values()), got.roll.LogP.Values(), 1e-5, "log-probability")
					kerneltest.Close(t, widen(want.roll.Entropy.Values()), got.roll.Entropy.Values(), 1e-5, "entropy")
					// Where a sum cancels, what is left is relative to what was summed; and Adam makes a step of it
					// whatever its size.
					within(t, want.grad.Values(), got.grad.Values(), 1e-5, "gradient")
					within(t, want.roll.Params.Values(), got.roll.Params.Values(), 1e-4, "weights")
				}
			})
		})
	}
}

// within requires got to differ from want by at most tol times the largest of want.
func within(t *testing.T, want, got []float32, tol float64, what string) {
	t.Helper()
	largest, worst := 0.0, 0.0
	for i, w := range want {
		largest = math.Max(largest, math.Abs(float64(w)))
		worst = math.Max(worst, math.Abs(float64(w)-float64(got[i]))) // NaN stays
	}
	require.LessOrEqual(t, worst, tol*largest, what)
}

// Wrong given actions must not write out of bounds (the sanitizers watch).
func TestGivenOutsideTheGrammar(t *testing.T) {
	n, err := NewNetwork(released(), 5)
	require.NoError(t, err)
	params, _ := randomParams(n, 1, 0.3)
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		given := make([]int32, 2*18)
		for i := range given {
			given[i] = []int32{-5, 1 << 30}[i%2]
		}
		r := record(ar, n, 2, params, given, make([]float32, 2), make([]float32, 2))
		r.p.Run(1)
		require.Equal(t, make([]int32, 36), r.actions())
		require.False(t, math.IsNaN(float64(r.roll.LogP.Values()[1])))
	})
}

func TestNetworkChecks(t *testing.T) {
	for _, bad := range []Grammar{
		{},
		{Heads: []Head{{"a", Linear, 2}}, First: Step{0, 2}, Variants: [][]Step{{}}},
		{Heads: []Head{{"a", Linear, 2}}, First: Step{0, 3}, Variants: [][]Step{{}, {}, {}}},
		{Heads: []Head{{"a", 7, 2}}, First: Step{0, 1}, Variants: [][]Step{{}}},
		{Heads: []Head{{"a", Linear, 2}}, First: Step{0, 1}, Variants: [][]Step{{{1, 1}}}},
		{Heads: []Head{{"a", Linear, 2}}, First: Step{0, 1}, Variants: [][]Step{{{0, 0}}}},
		{Heads: []Head{{"a", Linear, 2}}, First: Step{0, 1}, Variants: [][]Step{make([]Step, 64)}},
	} {
		_, err := NewNetwork(bad, 8)
		require.ErrorContains(t, err, "controller network")
	}
	_, err := NewNetwork(released(), 0)
	require.ErrorContains(t, err, "hidden size 0")
	n, err := NewNetwork(released(), 64)
	require.NoError(t, err)
	total := 0
	for _, tensor := range n.Tensors() {
		total += tensor.Rows * tensor.Cols
	}
	require.Equal(t, 2*4*64*64+2*4*64+15*64+8*64+8+2*64*64+64, total)
	seen := map[int]bool{}
	for _, tensor := range n.Tensors() {
		for k := range tensor.Rows * tensor.Cols {
			at := tensor.At(k/tensor.Cols, k%tensor.Cols)
			require.False(t, seen[at])
			require.Less(t, at, n.Size())
			seen[at] = true
		}
	}
}

func BenchmarkIteration(b *testing.B) {
	n, _ := NewNetwork(released(), 64)
	params, _ := randomParams(n, 1, 0.1)
	for _, level := range exec.Levels() {
		for _, batch := range []int{1, 64} {
			for _, what := range []string{"rollout", "both"} {
				b.Run(fmt.Sprintf("%s/%d/%s", level, batch, what), func(b *testing.B) {
					d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
					defer d.Close()
					ar := d.NewArena()
					defer ar.Free()
					weight, _ := kerneltest.Random(batch, 5)
					r := record(ar, n, batch, params, nil, weight, weight)
					if what == "rollout" {
						r.p = ar.NewProgram("rollout")
						RecordRollout(r.p, r.roll)
					}
					for b.Loop() {
						r.p.Run(1)
					}
					b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "rollouts/s")
				})
			}
		}
	}
}
