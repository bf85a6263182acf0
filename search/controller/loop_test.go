package controller

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/rnn"
	"github.com/ctnas/ctnas/search/space"
)

// byDecision scores a sequence with the sum of a table's numbers at its decisions, for one member: a comparator that
// needs no graph.
type byDecision struct {
	table []float32 // 7 x heads
	heads int
	kept  *exec.Buffer // graphs of the last iteration
}

func (s *byDecision) record(c *Controller, members int) func(p *exec.Program, graphs, scores *exec.Buffer) {
	return func(p *exec.Program, graphs, scores *exec.Buffer) {
		s.kept = graphs
		ends := make([]int32, c.cfg.Batch+1)
		for i := range ends {
			ends[i] = int32(18 * i)
		}
		size := c.cfg.Batch * s.heads
		for m := range members {
			graph.Gather{Out: scores.Slice(m*size, size), In: c.ar.Floats(s.member(m)), Rows: exec.Fixed(c.cfg.Batch),
				Width: s.heads, Ptr: c.ar.Ints(ends), Idx: c.actions}.Record(p)
		}
	}
}

func (s *byDecision) member(m int) []float32 {
	out := make([]float32, len(s.table))
	for i, v := range s.table {
		out[i] = v * float32(m+1)
	}
	return out
}

// reward is the probability of beating the opponent, as the search computes it.
func (s *byDecision) reward(actions []int, members int, opponent, bias []float32) float64 {
	p := 0.0
	for m := range members {
		sum := make([]float32, s.heads)
		for _, a := range actions {
			for h := range sum {
				sum[h] += s.member(m)[a*s.heads+h]
			}
		}
		z := float64(sum[0]) - float64(opponent[m*s.heads])
		if s.heads == 2 {
			z = float64(sum[0]) + float64(opponent[m*2+1]) + float64(bias[m])
		}
		p += 1 / (1 + math.Exp(-z))
	}
	return p / float64(members)
}

// The loop is Sample and Update with the same rewards, and goes on from either's state.
func TestLoopIsSampleAndUpdate(t *testing.T) {
	fading := Default()
	fading.Batch, fading.Repeat, fading.RepeatEnd, fading.Iterations = 4, 0, 0, 5
	long := Released()
	long.LR, long.Entropy = 1e-3, 1e-2
	for i, c := range []struct {
		Config
		Opponents
		n int
	}{{long, Opponents{1, 2}, 9}, {fading, Opponents{3, 1}, 7}} {
		c.Seed = uint64(40 + i)
		table, _ := kerneltest.Random(7*c.Heads, uint32(i))
		score := &byDecision{table: table, heads: c.Heads}
		opponent, _ := kerneltest.Random(c.Members*c.Heads, uint32(10+i))
		bias, _ := kerneltest.Random(c.Members, uint32(20+i))
		t.Run(fmt.Sprint(c.Batch), func(t *testing.T) {
			kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
				host, err := New(d, space.NASBench101{}, c.Config)
				require.NoError(t, err)
				defer host.Close()
				device, err := New(d, space.NASBench101{}, c.Config)
				require.NoError(t, err)
				defer device.Close()
				loop, err := device.NewLoop(c.Opponents, c.n, score.record(device, c.Members))
				require.NoError(t, err)
				require.NoError(t, loop.SetOpponent(opponent, bias))
				var drawn [][][]int // by the host
				step := func(ct *Controller) Stats {
					b, err := ct.Sample()
					require.NoError(t, err)
					rewards := make([]float64, c.Batch)
					for i, a := range b.Actions {
						rewards[i] = score.reward(a, c.Members, opponent, bias)
					}
					if ct == host {
						drawn = append(drawn, b.Actions)
					}
					s, err := ct.Update(rewards)
					require.NoError(t, err)
					return s
				}
				var want []Stats
				for range c.n {
					want = append(want, step(host))
				}
				step(device) // the first by hand, and one between two runs of the loop
				got, err := loop.Run(c.n - 4)
				require.NoError(t, err)
				step(device)
				last, err := loop.Run(2)
				require.NoError(t, err)
				require.Len(t, got, c.n-4)
				for i, s := range got {
					require.InDelta(t, want[i+1].MeanReward, s.MeanReward, 1e-5)
					require.InDelta(t, want[i+1].Entropy, s.Entropy, 1e-4)
					require.InEpsilon(t, want[i+1].GradNorm, s.GradNorm, 1e-3)
					require.Equal(t, drawn[i+1], s.Actions)
				}
				require.InEpsilon(t, want[c.n-1].GradNorm, last[1].GradNorm, 1e-4)
				require.Equal(t, c.n, device.Updates())
				require.InDelta(t, host.vars.Average, device.vars.Average, 1e-6)
				require.InDelta(t, host.vars.Variance, device.vars.Variance, 1e-6)
				w := device.params.Values()
				for i, v := range host.params.Values() {
					require.InDelta(t, v, w[i], 1e-5)
				}

				// The graphs of the last iteration are those of its decisions.
				graphs := make([]int32, 2*c.Batch)
				score.kept.ReadI32(0, graphs)
				actions := make([]int32, 18*c.Batch)
				device.actions.ReadI32(0, actions)
				for b := range c.Batch {
					sequence := make([]int, 18)
					for i := range sequence {
						sequence[i] = int(actions[18*b+i])
					}
					arch, err := space.NASBench101{}.Decode(sequence)
					require.NoError(t, err)
					ops, edges := graph.Unpack(uint64(uint32(graphs[2*b])) | uint64(uint32(graphs[2*b+1]))<<32)
					require.Len(t, ops, len(arch.Graph().Ops))
					require.Len(t, edges, len(arch.Graph().Edges))
				}
				_, err = device.Update(make([]float64, c.Batch))
				require.ErrorContains(t, err, "without a batch")
			})
		})
	}
}

// A log shorter than a run keeps the last iterations.
func TestLoopKeepsTheLastCurves(t *testing.T) {
	c := Released()
	score := &byDecision{table: []float32{1, -1, 1, -1, 1, -1, 1}, heads: 1}
	run := func(kept int) []Iteration {
		ct := open(t, space.NASBench101{}, c)
		loop, err := ct.NewLoop(Opponents{1, 1}, kept, score.record(ct, 1))
		require.NoError(t, err)
		require.NoError(t, loop.SetOpponent([]float32{0}, nil))
		stats, err := loop.Run(11)
		require.NoError(t, err)
		return stats
	}
	require.Equal(t, run(20)[7:], run(4))
}

func TestLoopErrors(t *testing.T) {
	score := &byDecision{table: make([]float32, 7), heads: 1}
	ct := open(t, space.NASBench101{}, Released())
	_, err := open(t, toy{}, Released()).NewLoop(Opponents{1, 1}, 1, nil)
	require.ErrorContains(t, err, "toy")
	_, err = open(t, space.NASBench101{}, Default()).NewLoop(Opponents{1, 1}, 1, nil)
	require.ErrorContains(t, err, "repeats")
	for _, bad := range []Opponents{{0, 1}, {1, 3}} {
		_, err = ct.NewLoop(bad, 1, nil)
		require.ErrorContains(t, err, "heads")
	}
	loop, err := ct.NewLoop(Opponents{1, 1}, 1, score.record(ct, 1))
	require.NoError(t, err)
	require.ErrorContains(t, loop.SetOpponent(make([]float32, 2), nil), "2 scores")
	_, err = loop.Run(-1)
	require.ErrorContains(t, err, "-1 iterations")
	_, err = loop.Run(1) // no opponent has been set
	require.ErrorContains(t, err, "not numbers")
	require.Equal(t, rnn.ReinforceState{Updates: 1}, rnn.GetState(loop.state))
}
