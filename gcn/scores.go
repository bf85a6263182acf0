package gcn

import (
	"context"
	"math"
	"slices"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Scores are what the comparator says of a set of graphs.
type Scores struct {
	Rank []float64 // the mean over members of their standardised scores: higher is better

	members [][]float64 // [network][graph]: as trained, a logit's unit
	second  [][]float64 // the released head's score of the second place, otherwise nil
	bias    []float64
	spread  []Spread  // of the networks, and behind them of the process
	process []float64 // [graph] of the Gaussian process, a logit's unit; nil: there is none
	weight  float64   // of the process
	slope   float64   // of the networks' logits; 0: as they are
}

// Score gives every graph of an encoding its score.
func (c *Comparator) Score(device exec.Config, e *Encoding) (*Scores, error) {
	s, err := c.Scorer(device, e)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Score(), nil
}

// score is Score; ctx ends it between two members.
func (c *Comparator) score(ctx context.Context, device exec.Config, e *Encoding) (*Scores, error) {
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	scores := c.newScores(e.N)
	if err := scores.fill(ctx, c, dev, e, 0); err != nil {
		return nil, err
	}
	scores.rank()
	return scores, nil
}

// blank are scores of n graphs without those of any member.
func (c *Comparator) blank(n int) *Scores {
	s := &Scores{Rank: make([]float64, n), spread: c.Spread, slope: c.Slope}
	if c.Process != nil {
		s.spread, s.weight = append(slices.Clip(c.Spread), c.Process.Spread), c.Config.Process
	}
	return s
}

// newScores makes room for the scores of n graphs.
func (c *Comparator) newScores(n int) *Scores {
	s := c.blank(n)
	if c.Process != nil {
		s.process = make([]float64, n)
	}
	for _, w := range c.Weights {
		s.members = append(s.members, make([]float64, n))
		if c.Config.Pair {
			s.second = append(s.second, make([]float64, n))
			s.bias = append(s.bias, float64(w[c.layout().get("fc.bias").off]))
		}
	}
	return s
}

// fill scores an encoding's graphs, the first of which is number begin.
func (s *Scores) fill(ctx context.Context, c *Comparator, dev *exec.Device, e *Encoding, begin int) error {
	pass := c.Config.scorer(dev, c.layout(), e, chunk(dev))
	defer pass.ar.Free()
	for m, w := range c.Weights {
		if err := ctx.Err(); err != nil {
			return err
		}
		first, second := pass.run(w)
		copy(s.members[m][begin:], first)
		if c.Config.Pair {
			copy(s.second[m][begin:], second)
		}
	}
	if c.Process != nil {
		copy(s.process[begin:], c.Process.score(dev, e))
	}
	return nil
}

// some are the scores of some graphs, by index.
func (s *Scores) some(idx []int) *Scores {
	pick := func(values []float64) []float64 {
		out := make([]float64, len(idx))
		for k, i := range idx {
			out[k] = values[i]
		}
		return out
	}
	out := *s
	out.Rank, out.members, out.second = pick(s.Rank), nil, nil
	if s.process != nil {
		out.process = pick(s.process)
	}
	for m := range s.members {
		out.members = append(out.members, pick(s.members[m]))
		if s.second != nil {
			out.second = append(out.second, pick(s.second[m]))
		}
	}
	return &out
}

// rank takes the mean of the networks' standardised scores, and of that and the process's the weighted mean.
func (s *Scores) rank() {
	for i := range s.Rank {
		for m := range s.members {
			s.Rank[i] += s.standard(m, i) / float64(len(s.members))
		}
		if s.process != nil {
			s.Rank[i] = (1-s.weight)*s.Rank[i] + s.weight*s.standard(len(s.members), i)
		}
	}
}

// Scorer scores one encoding again and again. It holds the encoding's buffers: for the whole of NAS-Bench-101 a few
// hundred megabytes.
type Scorer struct {
	cmp  *Comparator
	dev  *exec.Device
	lay  *layout
	pass *scorer
	e    *Encoding
}

// Scorer prepares an encoding that was made for this comparator.
func (c *Comparator) Scorer(device exec.Config, e *Encoding) (*Scorer, error) {
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	lay := c.layout()
	return &Scorer{c, dev, lay, c.Config.scorer(dev, lay, e, chunk(dev)), e}, nil
}

// Close frees the memory and stops the threads.
func (s *Scorer) Close() {
	s.pass.ar.Free()
	s.dev.Close()
}

// Top is a comparator's best graphs, found where the scores are: of a whole space only those few are copied.
type Top struct {
	s            *Scorer
	program      *exec.Program
	value, index *exec.Buffer
}

// Top prepares finding the k best graphs, at most dense.MaxTopK.
func (s *Scorer) Top(k int) *Top {
	ar := s.pass.ar
	t := &Top{s: s, program: ar.NewProgram("best"), value: ar.F32(k), index: ar.I32(k)}
	standing := s.pass.out
	if s.pass.net.Pair { // as raw says: (u - v)/2
		standing = ar.F32(s.pass.n)
		dense.RowDot{Out: standing, In: s.pass.out, Weight: ar.Floats([]float32{0.5, -0.5}), Rows: exec.Fixed(s.pass.n),
			Width: 2, Heads: 1}.Record(t.program)
	}
	dense.TopK{In: standing, Value: t.value, Index: t.index}.Record(t.program)
	return t
}

// Of returns a member's best graphs, the best first, and their standing by that member alone.
func (t *Top) Of(member int) (index []int32, standing []float32) {
	t.s.pass.w.WriteF32(0, t.s.cmp.Weights[member])
	t.s.pass.program.Run(1)
	t.program.Run(1)
	index = make([]int32, t.index.Len())
	t.index.ReadI32(0, index)
	return index, t.value.Values()
}

// Program is what finds the best among the scores that there are, for measuring.
func (t *Top) Program() *exec.Program { return t.program }

// Program is the recorded network, for measuring; the weights are those of the last member.
func (s *Scorer) Program() *exec.Program { return s.pass.program }

// Score gives every graph its score by the comparator's weights as they are now.
func (s *Scorer) Score() *Scores {
	c := s.cmp
	out := c.blank(s.pass.n)
	if c.Process != nil {
		out.process = c.Process.score(s.dev, s.e)
	}
	for m := range c.Weights {
		first, second := s.pass.run(c.Weights[m])
		out.members = append(out.members, first)
		if c.Config.Pair {
			out.second = append(out.second, second)
			out.bias = append(out.bias, float64(c.Weights[m][s.lay.get("fc.bias").off]))
		}
	}
	out.rank()
	return out
}

// raw is a member's own order of graphs. With the released head the logit of (a, b) is u_a + v_b + c; averaged over
// both orders and all opponents a graph's standing is (u - v)/2 up to a constant.
func (s *Scores) raw(m, i int) float64 {
	switch {
	case m == len(s.members):
		return s.process[i]
	case s.second != nil:
		return 0.5 * (s.members[m][i] - s.second[m][i])
	}
	return s.members[m][i]
}

func (s *Scores) standard(m, i int) float64 { return (s.raw(m, i) - s.spread[m].Mean) / s.spread[m].SD }

// Raw returns the scores of graph i as the networks give them, members x heads, and the members' biases, with two heads
// only.
func (s *Scores) Raw(i int) (scores, bias []float32) {
	for m := range s.members {
		scores = append(scores, float32(s.members[m][i]))
		if s.second != nil {
			scores, bias = append(scores, float32(s.second[m][i])), append(bias, float32(s.bias[m]))
		}
	}
	return scores, bias
}

// Members is the number of networks, and one more where there is a process.
func (s *Scores) Members() int { return len(s.spread) }

// Member returns one member's standardised scores; the process is the last.
func (s *Scores) Member(m int) []float64 {
	out := make([]float64, len(s.Rank))
	for i := range out {
		out[i] = s.standard(m, i)
	}
	return out
}

// SD is how far the members disagree on graph i; not a number of a single one, which has nobody to disagree with.
func (s *Scores) SD(i int) float64 {
	v := make([]float64, s.Members())
	for m := range v {
		v[m] = s.standard(m, i)
	}
	return stat.SD(v)
}

// Prob is Pr[R(i) >= R(j)]: the mean over networks, whose logit is averaged with the process's.
func (s *Scores) Prob(i, j int) float64 { return s.Against(s, i, j) }

// Against is Pr[R(i) >= R(j)] where j is a graph of another set scored by the same comparator.
func (s *Scores) Against(other *Scores, i, j int) float64 {
	p := 0.0
	for m := range s.members {
		z := s.members[m][i]
		if s.second != nil {
			z += other.second[m][j] + s.bias[m]
		} else {
			z -= other.members[m][j]
		}
		p += 1 / (1 + math.Exp(-z))
	}
	p /= float64(len(s.members))
	if s.process == nil && s.slope == 0 {
		return p
	}
	const certain = 1e-9 // of the networks: a logit must stay finite
	p = min(max(p, certain), 1-certain)
	logit := math.Log(p / (1 - p))
	if s.slope > 0 {
		logit *= s.slope
	}
	if s.process == nil {
		return sigmoid(logit)
	}
	w := s.weight
	return sigmoid((1 + agreement*w*(1-w)) * ((1-w)*logit + w*(s.process[i]-other.process[j])))
}

// agreement is how much more two opinions that err in different ways are to be believed than the mean of their logits
// says; chosen by the calibration error (docs/comparator.md).
const agreement = 0.8

// Report says how good scores are against true labels. What there is nothing to say of is not a number: of fewer than
// three labels only tau-b, and transitivity where no triple is one.
type Report struct {
	TauB float64 // Kendall's tau-b with the labels
	// PAt1 is the share of the true best 1 % that is among the predicted best 1 %: its expectation over the orders of
	// equal ones.
	PAt1         float64
	PAtTenth     float64 // the same of 0.1 %
	TauTop       float64 // tau-b within the predicted best 1 %, all equal to the last of them included
	TopRank      int     // 1 + how many labels are better than that of the graph scored best; of equal ones the worst
	Transitivity float64 // of triples with p(a,b) > ½ and p(b,c) > ½, the share with p(a,c) > ½
	Triples      int     // how many of the random triples that are
	Calibration  float64 // expected calibration error of Prob over random pairs, ten bins; ties count half
	Antisymmetry float64 // mean |p(a,b) + p(b,a) - 1|
}

// evaluationPairs is how many random pairs and triples Evaluate draws.
const evaluationPairs = 50000

// Evaluate compares scores with labels; seed draws the pairs and triples.
func Evaluate(s *Scores, labels []float64, seed uint64) Report {
	n := len(labels)
	r := Report{TauB: stat.KendallB(s.Rank, labels)}
	if n < 3 {
		for _, v := range []*float64{&r.PAt1, &r.PAtTenth, &r.TauTop, &r.Transitivity, &r.Calibration,
			&r.Antisymmetry} {
			*v = math.NaN()
		}
		return r
	}
	r.PAt1, r.PAtTenth = precision(s.Rank, labels, max(1, n/100)), precision(s.Rank, labels, max(1, n/1000))
	var topScores, topLabels []float64
	for i, p := range best(s.Rank, max(1, n/100)) {
		if p > 0 {
			topScores, topLabels = append(topScores, s.Rank[i]), append(topLabels, labels[i])
		}
	}
	r.TauTop = stat.KendallB(topScores, topLabels)
	first := Highest(s.Rank, labels)
	r.TopRank = 1
	for _, v := range labels {
		if v > labels[first] {
			r.TopRank++
		}
	}
	stream := philox.New(seed, philox.PurposeEvaluate, 0)
	kept := 0
	var weight, predictedSum, trueSum [10]float64
	for range evaluationPairs {
		a, b, c := stream.Intn(n), stream.Intn(n), stream.Intn(n)
		if a == b || b == c || a == c {
			continue
		}
		ab, ba := s.Prob(a, b), s.Prob(b, a)
		r.Antisymmetry += math.Abs(ab + ba - 1)
		bin := min(int(ab*10), 9)
		weight[bin]++
		predictedSum[bin] += ab
		switch {
		case labels[a] > labels[b]:
			trueSum[bin]++
		case labels[a] == labels[b]:
			trueSum[bin] += 0.5
		}
		if ab > 0.5 && s.Prob(b, c) > 0.5 {
			r.Triples++
			if s.Prob(a, c) > 0.5 {
				kept++
			}
		}
	}
	total := 0.0
	for _, w := range weight {
		total += w
	}
	for bin := range weight {
		r.Calibration += math.Abs(predictedSum[bin]-trueSum[bin]) / total
	}
	r.Antisymmetry /= total
	r.Transitivity = float64(kept) / float64(r.Triples)
	return r
}

// precision is the share of the k highest labels among the k highest scores.
func precision(scores, labels []float64, k int) (share float64) {
	truth := best(labels, k)
	for i, p := range best(scores, k) {
		share += p * truth[i] / float64(k)
	}
	return share
}

// best returns the probability of each value to be among the k largest: 1 above the k-th, 0 below it, and for those
// equal to it their share of the places that are left. Any fixed order of them would be one that a table may have been
// sorted by.
func best(v []float64, k int) []float64 {
	cut := slices.Sorted(slices.Values(v))[len(v)-k]
	above, equal := 0, 0
	for _, x := range v {
		if x > cut {
			above++
		} else if x == cut {
			equal++
		}
	}
	p := make([]float64, len(v))
	for i, x := range v {
		if x > cut {
			p[i] = 1
		} else if x == cut {
			p[i] = float64(k-above) / float64(equal)
		}
	}
	return p
}

// Highest returns the index of the highest score, of equal ones that with the lowest label: scores that prefer nothing
// are not to be lucky.
func Highest(scores, labels []float64) int {
	top := 0
	for i, v := range scores {
		if v > scores[top] || v == scores[top] && labels[i] < labels[top] {
			top = i
		}
	}
	return top
}
