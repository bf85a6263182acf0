package trainer

import (
	"math"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/mixture"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Mixture is what a network mixes by, on a device: of each row numbers α that are learned, and the weights that they
// come to. All buffers hold the choices of one row behind those of the one before, A in all.
//
// A step of a path that mixes is Soften, the path's Step and, where α learns, ZeroGradient before it and FinishGradient
// behind it.
type Mixture struct {
	Rows        []nn.Row
	Alpha       *exec.Buffer // [A]
	AlphaGrad   *exec.Buffer // the gradient in them, which FinishGradient leaves [A]
	Weights     *exec.Buffer // [A]
	WeightGrad  *exec.Buffer // the gradient in the weights, which steps add to [A]
	Temperature *exec.Buffer // what α is divided by [1]

	begin        []int        // of each row in the buffers, and their end
	step         *exec.Buffer // integer: the number of the pass, on which noise depends [1]
	loss         *exec.Buffer // the cross-entropy that what is mixed costs is multiplied with [1]
	plain, noisy *exec.Program
	zero, finish *exec.Program
}

// MixtureOptions say what a mixture does beside its softmax.
type MixtureOptions struct {
	// CostScale and CostExponent are a and b of the objective CE · a · log(C)^b, where C is the sum of the rows' costs
	// by their weights (Wu et al. 2019, FBNet, equation 2). An exponent of 0: the objective is CE.
	CostScale, CostExponent float64
}

// newMixture puts rows on a device. Alpha is zero, Temperature 1; the seed is that of Gumbel noise.
func newMixture(a *exec.Arena, rows []nn.Row, seed uint64, o MixtureOptions) *Mixture {
	m := &Mixture{Rows: rows, begin: []int{0}}
	var cost []float32
	for _, r := range rows {
		m.begin = append(m.begin, m.begin[len(m.begin)-1]+len(r.Choices))
		for _, c := range r.Cost {
			cost = append(cost, float32(c))
		}
	}
	n := len(cost)
	m.Alpha, m.AlphaGrad, m.Weights, m.WeightGrad = a.Zeros(n), a.Zeros(n), a.Zeros(n), a.Zeros(n)
	m.Temperature, m.loss, m.step = a.Floats([]float32{1}), a.Zeros(1), a.Ints([]int32{0})
	m.plain, m.noisy = a.NewProgram("soften"), a.NewProgram("soften by chance")
	all := mixture.Rows{Begin: m.begin}
	soften := mixture.Soften{Rows: all, Alpha: m.Alpha, Weights: m.Weights, Temperature: m.Temperature, Seed: seed,
		Step: m.step}
	soften.Record(m.plain)
	soften.Gumbel = true
	soften.Record(m.noisy)
	m.zero, m.finish = a.NewProgram("zero"), a.NewProgram("mixture")
	elementwise.RecordZero(m.zero, m.WeightGrad)
	backward := mixture.Backward{Rows: all, Weights: m.Weights, WeightGrad: m.WeightGrad, AlphaGrad: m.AlphaGrad,
		Temperature: m.Temperature}
	if o.CostExponent != 0 {
		backward.Cost, backward.Loss = a.Floats(cost), m.loss
		backward.Scale, backward.Exponent = float32(o.CostScale), float32(o.CostExponent)
	}
	backward.Record(m.finish)
	return m
}

// Soften sets the weights: the softmax of α by the temperature.
func (m *Mixture) Soften() { m.plain.Run(1) }

// SoftenGumbel sets the weights to the softmax of α with Gumbel noise, by the temperature (Jang et al. 2017; Maddison
// et al. 2017). The noise is a function of the seed and of the number of the pass.
func (m *Mixture) SoftenGumbel(pass uint32) {
	m.step.WriteI32(0, []int32{int32(pass)})
	m.noisy.Run(1)
}

// SetTemperature sets what α is divided by from now on.
func (m *Mixture) SetTemperature(t float64) { m.Temperature.WriteF32(0, []float32{float32(t)}) }

// ZeroGradient makes the gradient in the weights zero.
func (m *Mixture) ZeroGradient() { m.zero.Run(1) }

// FinishGradient leaves the gradient of α in AlphaGrad. loss is the cross-entropy of the step, which the cost of the
// weights is multiplied with where the mixture has one.
func (m *Mixture) FinishGradient(loss float64) {
	m.loss.WriteF32(0, []float32{float32(loss)})
	m.finish.Run(1)
}

// Split are the values of one of the buffers, by the rows.
func (m *Mixture) Split(b *exec.Buffer) [][]float32 {
	all := b.Values()
	rows := make([][]float32, len(m.Rows))
	for r := range rows {
		rows[r] = all[m.begin[r]:m.begin[r+1]]
	}
	return rows
}

// alphaStream is the stream of random numbers of α at the start: variables have those from 0 on.
const alphaStream = math.MaxUint32

// Initialize draws α: normal numbers of a standard deviation, those of the seed, around the rows' starts.
func (m *Mixture) Initialize(deviation float64, seed uint64) {
	s := philox.New(seed, philox.PurposeInit, alphaStream)
	var alpha []float32
	for _, r := range m.Rows {
		for k := range r.Choices {
			a := deviation * s.NormFloat64()
			if r.Start != nil {
				a += r.Start[k]
			}
			alpha = append(alpha, float32(a))
		}
	}
	m.Alpha.WriteF32(0, alpha)
}

// alphaOptimizer updates α by Adam. What it remembers is in moments.
type alphaOptimizer struct {
	program *exec.Program
	updates *exec.Buffer   // integer: updates so far [1]
	moments []*exec.Buffer // [A] each
}

func newAlphaOptimizer(s *Supernet, r Mixing) *alphaOptimizer {
	a, m := s.arena, s.Mixture
	o := &alphaOptimizer{program: a.NewProgram("alpha"), updates: a.Ints([]int32{0}),
		moments: []*exec.Buffer{a.Zeros(m.Alpha.Len()), a.Zeros(m.Alpha.Len())}}
	optim.RecordAdam(o.program, optim.Adam{W: m.Alpha, G: m.AlphaGrad, M: o.moments[0], V: o.moments[1],
		LR: a.Floats([]float32{float32(r.AlphaLR)}), Step: o.updates, Beta1: r.AlphaBeta1, Beta2: r.AlphaBeta2,
		Eps: 1e-8, WeightDecay: r.AlphaDecay})
	return o
}

// choice is the place in the buffers of a choice.
func (m *Mixture) choice(c nn.Choice) int { return m.begin[c.Row] + c.Choice }
