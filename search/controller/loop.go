package controller

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/cell"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/rnn"
	"github.com/ctnas/ctnas/search/space"
)

// Opponents is the comparator that a Loop asks: an ensemble of Members networks with Heads scores a graph, 1 or 2.
type Opponents struct{ Members, Heads int }

// Loop runs whole iterations of a controller as one program, without the host: sequences are drawn, decoded, scored by
// operations that the caller records, rewarded with the probability of beating an opponent, and learned from. It is
// Sample and Update with that reward, up to rounding. What an update needs of the whole batch's architectures, Ranks
// and Repeat, it has not.
type Loop struct {
	c        *Controller
	of       Opponents
	program  *exec.Program
	opponent *exec.Buffer // Members x Heads
	bias     *exec.Buffer // Members, with two heads
	state    *exec.Buffer
	log      *exec.Buffer
	kept     *exec.Buffer // the decisions of the log's iterations
}

// Iteration is one of a Loop's: what was drawn and learned.
type Iteration struct {
	Stats
	Actions [][]int // of each sequence
	Loss    float64 // -mean((reward - baseline) logp)
}

// NewLoop records a loop that remembers its last `kept` iterations. score appends the operations that turn Batch packed
// graphs (2 integers each, package kernels/graph) with nodes numbered by the space's alphabet into Members x Batch x
// Heads scores.
func (c *Controller) NewLoop(of Opponents, kept int, score func(p *exec.Program, graphs, scores *exec.Buffer)) (*Loop,
	error) {
	cells, ok := c.sp.(interface{ CellRules() space.CellRules })
	switch cfg := c.cfg; {
	case !ok:
		return nil, fmt.Errorf("controller of %s: kernels cannot decode its decisions", c.sp.Name())
	case cfg.Ranks || cfg.Repeat != 0 || cfg.Iterations != 0 && cfg.RepeatEnd != 0:
		return nil, fmt.Errorf("controller: a loop without the host has neither ranks nor a weight of repeats")
	case of.Members < 1 || of.Heads < 1 || of.Heads > 2 || kept < 1:
		return nil, fmt.Errorf("controller: a loop with %d members, %d heads and %d iterations of curves", of.Members,
			of.Heads, kept)
	}
	ar, n, cfg := c.ar, c.cfg.Batch, c.cfg
	l := &Loop{c: c, of: of, program: ar.NewProgram("controller loop"), opponent: ar.F32(of.Members * of.Heads),
		bias: ar.F32(of.Members), state: ar.I32(rnn.StateInts), log: ar.F32(rnn.LogFloats * kept),
		kept: ar.I32(kept * n * c.net.Grammar.MaxSteps())}
	p := l.program
	tape := rnn.RecordRollout(p, c.rolloutOp())
	graphs, scores := ar.I32(2*n), ar.F32(of.Members*n*of.Heads)
	cell.Decode{Rules: cell.Rules(cells.CellRules()), Batch: n, Actions: c.actions, Graphs: graphs}.Record(p)
	score(p, graphs, scores)
	rnn.Reinforce{Batch: n, Members: of.Members, Heads: of.Heads, Score: scores, Opponent: l.opponent, Bias: l.bias,
		RolloutEntropy: c.entropy, Power: cfg.Power, Baseline: cfg.Baseline, Normalize: cfg.Normalize,
		LeastDeviation: leastDeviation, Entropy: cfg.Entropy, EntropyEnd: cfg.EntropyEnd, Iterations: cfg.Iterations,
		State: l.state, Log: l.log, Kept: l.kept, LogP: c.logp, Norm: c.norm, Actions: c.actions,
		Steps: c.net.Grammar.MaxSteps(), DLogP: c.dlogp, DEntropy: c.dentropy}.Record(p)
	c.recordUpdate(p, tape)
	return l, nil
}

// SetOpponent writes each member's scores of the opponent, one a head, and with two heads the members' biases.
func (l *Loop) SetOpponent(scores, bias []float32) error {
	if len(scores) != l.opponent.Len() || l.of.Heads == 2 && len(bias) != l.bias.Len() {
		return fmt.Errorf("controller: %d scores and %d biases of an opponent for %d members with %d heads",
			len(scores), len(bias), l.of.Members, l.of.Heads)
	}
	l.opponent.WriteF32(0, scores)
	if l.of.Heads == 2 {
		l.bias.WriteF32(0, bias)
	}
	return nil
}

// Program is the recorded iteration, for measuring.
func (l *Loop) Program() *exec.Program { return l.program }

// Run does n iterations and returns the last ones, at most as many as the loop keeps. The controller's State is then
// that after n updates. Scores that are not numbers end it with an error.
func (l *Loop) Run(n int) ([]Iteration, error) {
	c := l.c
	if n < 0 || c.vars.Updates+int64(n) > math.MaxInt32 {
		return nil, fmt.Errorf("controller: %d iterations after %d", n, c.vars.Updates)
	}
	if n == 0 {
		return nil, nil
	}
	c.fresh = false // the loop overwrites the last sample
	rnn.PutState(l.state, rnn.ReinforceState{Updates: int32(c.vars.Updates), Average: c.vars.Average,
		Variance: c.vars.Variance})
	l.program.Run(n)
	s := rnn.GetState(l.state)
	c.vars = variables{Updates: int64(s.Updates), Average: s.Average, Variance: s.Variance}
	log, batch, steps := l.log.Values(), c.cfg.Batch, c.net.Grammar.MaxSteps()
	kept := len(log) / rnn.LogFloats
	actions := make([]int32, l.kept.Len())
	l.kept.ReadI32(0, actions)
	log[(int(s.Updates)-1)%kept*rnn.LogFloats+3] = c.norm.Values()[0]
	out := make([]Iteration, min(n, kept))
	for i := range out {
		at := (int(s.Updates) - len(out) + i) % kept
		row := log[at*rnn.LogFloats:][:rnn.LogFloats]
		if math.IsNaN(float64(row[0])) {
			return nil, fmt.Errorf("controller: the scores of iteration %d are not numbers", int(s.Updates)-len(out)+i)
		}
		out[i] = Iteration{Stats: Stats{MeanReward: float64(row[0]), Entropy: float64(row[1]),
			GradNorm: float64(row[3])}, Loss: float64(row[2])}
		for b := range batch {
			out[i].Actions = append(out[i].Actions, decisions(actions[(at*batch+b)*steps:][:steps]))
		}
	}
	return out, nil
}
