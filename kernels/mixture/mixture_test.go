// An outside package: the simulator, on which the tests run too, imports the families.
package mixture_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/mixture"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

// begins turns numbers of choices into the places where rows begin.
func begins(choices ...int) []int {
	out := []int{0}
	for _, n := range choices {
		out = append(out, out[len(out)-1]+n)
	}
	return out
}

// rows are decisions with these numbers of choices; the last ones need more than a block.
var rows = [][]int{begins(1), begins(2), begins(17), begins(8, 8, 8, 8, 8), begins(1, 17, 2, 8, 1), begins(9, 3, 7),
	begins(slices.Repeat([]int{3, 1, 8}, 23)...)}

const scale, exponent = 0.2, 0.6 // FBNet's

// data is a case and its references.
type data struct {
	begin             []int
	temperature, loss float32
	step              int32
	gumbel            bool
	alpha, grad, cost []float32
	weights           []float64 // with the noise, where there is one
	dalpha, dcost     []float64 // the gradient in alpha, without a cost and with one
}

func makeData(begin []int, stream uint32, gumbel bool) data {
	n := begin[len(begin)-1]
	d := data{begin: begin, temperature: 0.75 + float32(stream%3), loss: 1.5, step: int32(stream + 4), gumbel: gumbel}
	var alpha64, grad64, cost64 []float64
	d.alpha, alpha64 = kerneltest.Random(n, stream)
	d.grad, grad64 = kerneltest.Random(n, stream+100)
	d.cost, cost64 = kerneltest.Random(n, stream+200)
	for i := range d.cost {
		d.cost[i] = d.cost[i]*d.cost[i] + 2
		cost64[i] = float64(d.cost[i])
	}
	if gumbel {
		for i, v := range NoiseReference(9, uint32(d.step), n) {
			alpha64[i] += v
		}
	}
	temperature := float64(d.temperature)
	d.weights = SoftenReference(begin, alpha64, temperature)
	d.dalpha = BackwardReference(begin, d.weights, grad64, temperature)
	_, dw := CostReference(d.weights, grad64, cost64, float64(d.loss), scale, exponent)
	d.dcost = BackwardReference(begin, d.weights, dw, temperature)
	return d
}

// record appends both directions, the second without a cost and with one, and returns what they write: n numbers with
// one that is not written on both sides.
func (d data) record(p *exec.Program) (out [3]*exec.Buffer) {
	ar, n := p.Arena(), len(d.alpha)
	var inner [3]*exec.Buffer
	for i := range out {
		out[i] = ar.F32(n + 2)
		inner[i] = out[i].Slice(1, n)
	}
	temperature := ar.Floats([]float32{d.temperature})
	s := Soften{Rows: Rows{d.begin}, Alpha: ar.Floats(d.alpha), Weights: inner[0], Temperature: temperature, Seed: 9}
	if d.gumbel {
		s.Gumbel, s.Step = true, ar.Ints([]int32{d.step})
	}
	s.Record(p)
	b := Backward{Rows: s.Rows, Weights: s.Weights, WeightGrad: ar.Floats(d.grad), AlphaGrad: inner[1],
		Temperature: temperature}
	b.Record(p)
	b.AlphaGrad, b.Cost, b.Loss = inner[2], ar.Floats(d.cost), ar.Floats([]float32{d.loss})
	b.Scale, b.Exponent = scale, exponent
	b.Record(p)
	return out
}

func TestMixture(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, begin := range rows {
			for _, gumbel := range []bool{false, true} {
				c := makeData(begin, uint32(i), gumbel)
				ar := d.NewArena()
				p := ar.NewProgram("mixture")
				out := c.record(p)
				p.Run(1)
				for k, want := range [][]float64{c.weights, c.dalpha, c.dcost} {
					got := out[k].Values()
					n := len(want)
					require.True(t, got[0] != got[0] && got[n+1] != got[n+1], "beside the result was written")
					if begin[len(begin)-1] == 1 && k > 0 { // a row of one choice has no gradient
						require.InDelta(t, 0, got[1], 1e-7)
						continue
					}
					kerneltest.Close(t, want, got[1:n+1], 3e-6, fmt.Sprintf("rows %v, gumbel %v, result %d", begin,
						gumbel, k))
				}
				ar.Free()
			}
		}
	})
}

// Without a temperature it is 1, and large parameters do no harm.
func TestSoftmax(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		alpha := []float32{200, 200 + float32(math.Ln2), -500, 500, -500, -300}
		s := Soften{Rows: Rows{begins(2, 3, 1)}, Alpha: ar.Floats(alpha), Weights: ar.F32(6)}
		p := ar.NewProgram("softmax")
		s.Record(p)
		p.Run(1)
		require.InDeltaSlice(t, []float32{1. / 3, 2. / 3, 0, 1, 0, 1}, s.Weights.Values(), 1e-5)
	})
}

// The largest noisy parameter of a row is that of a choice as often as softmax says (Gumbel, 1954), and every step has
// other noise.
func TestGumbelChoosesBySoftmax(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		const count = 4000
		alpha := slices.Repeat([]float32{0, 1, -0.5}, count)
		step := ar.Ints([]int32{1})
		s := Soften{Rows: Rows{begins(slices.Repeat([]int{3}, count)...)}, Alpha: ar.Floats(alpha),
			Weights: ar.F32(3 * count), Gumbel: true, Seed: 5, Step: step}
		p := ar.NewProgram("gumbel")
		s.Record(p)
		want := SoftenReference([]int{0, 3}, []float64{0, 1, -0.5}, 1)
		var last []float32
		for i := range int32(2) {
			step.WriteI32(0, []int32{i})
			p.Run(1)
			got := s.Weights.Values()
			require.NotEqual(t, last, got)
			last = got
			var chosen [3]float64
			for r := range count {
				row := got[3*r : 3*r+3]
				chosen[slices.Index(row, slices.Max(row))] += 1. / count
			}
			for k, share := range want {
				deviation := math.Sqrt(share * (1 - share) / count)
				require.InDelta(t, share, chosen[k], 4*deviation)
			}
		}
	})
}

// Seed 1 draws the smallest and the largest number of 24 bits at these steps: the noise is finite, and as near to its
// reference as elsewhere.
func TestNoiseAtItsEnds(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		step := ar.Ints([]int32{0})
		s := Soften{Rows: Rows{begins(2)}, Alpha: ar.Zeros(2), Weights: ar.F32(2),
			Temperature: ar.Floats([]float32{10}), Gumbel: true, Seed: 1, Step: step}
		p := ar.NewProgram("ends")
		s.Record(p)
		for at, noise := range map[int32]float64{840471: -math.Log(25 * math.Ln2), 1997302: 25 * math.Ln2} {
			reference := NoiseReference(1, uint32(at), 2)
			require.InDelta(t, noise, reference[0], 1e-7)
			step.WriteI32(0, []int32{at})
			p.Run(1)
			kerneltest.Close(t, SoftenReference([]int{0, 2}, reference, 10), s.Weights.Values(), 1e-6, "weights")
		}
	})
}

func TestReferenceGradients(t *testing.T) {
	begin := begins(1, 2, 8, 17)
	n := begin[len(begin)-1]
	_, alpha := kerneltest.Random(n, 1)
	_, slope := kerneltest.Random(n, 2)
	_, cost := kerneltest.Random(n, 3)
	for i := range cost {
		cost[i] = cost[i]*cost[i] + 2
	}
	noise := NoiseReference(3, 4, n)
	const temperature = 1.75
	weights := func() []float64 {
		noisy := slices.Clone(noise)
		for i, a := range alpha {
			noisy[i] += a
		}
		return SoftenReference(begin, noisy, temperature)
	}
	loss := func(w []float64) (sum float64, grad []float64) { // 10 + Σ slope·w²
		sum = 10
		for i, v := range w {
			sum += slope[i] * v * v
			grad = append(grad, 2*slope[i]*v)
		}
		return sum, grad
	}
	w := weights()
	value, grad := loss(w)
	kerneltest.Gradient(t, func([]float64) float64 {
		sum, _ := loss(weights())
		return sum
	}, alpha, BackwardReference(begin, w, grad, temperature), 1e-8, "alpha")
	_, dw := CostReference(w, grad, cost, value, scale, exponent)
	kerneltest.Gradient(t, func([]float64) float64 {
		w := weights()
		sum, _ := loss(w)
		objective, _ := CostReference(w, make([]float64, n), cost, sum, scale, exponent)
		return objective
	}, alpha, BackwardReference(begin, w, dw, temperature), 1e-8, "alpha with a cost")
}

// The same bits on one thread and on three, and in every order of the simulator.
func TestSameBits(t *testing.T) {
	c := makeData(rows[len(rows)-1], 7, true)
	kerneltest.SameBits(t, func(d *exec.Device) (all []float32) {
		ar := d.NewArena()
		defer ar.Free()
		p := ar.NewProgram("bits")
		out := c.record(p)
		p.Run(2)
		for _, b := range out {
			v := b.Values()
			all = append(all, v[1:len(v)-1]...)
		}
		return all
	})
}

func TestBadMixturesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	five, four, one := ar.Zeros(5), ar.Zeros(4), ar.Zeros(1)
	good := Soften{Rows: Rows{begins(2, 3)}, Alpha: five, Weights: ar.F32(5)}
	good.Record(ar.NewProgram("good"))
	for name, bad := range map[string]func(s *Soften){
		"no row":            func(s *Soften) { s.Begin = []int{0} },
		"a first element":   func(s *Soften) { s.Begin = []int{1, 5} },
		"an empty row":      func(s *Soften) { s.Begin = []int{0, 2, 2, 5} },
		"a short Alpha":     func(s *Soften) { s.Alpha = four },
		"short Weights":     func(s *Soften) { s.Weights = four },
		"noise of no step":  func(s *Soften) { s.Gumbel = true },
		"no temperature":    func(s *Soften) { s.Temperature = one.Slice(0, 0) },
		"rows that go back": func(s *Soften) { s.Begin = []int{0, 3, 2} },
	} {
		wrong := good
		bad(&wrong)
		require.Panics(t, func() { wrong.Record(ar.NewProgram("bad")) }, name)
	}
	back := Backward{Rows: good.Rows, Weights: good.Weights, WeightGrad: five, AlphaGrad: ar.F32(5), Cost: five,
		Loss: one, Scale: scale, Exponent: exponent}
	back.Record(ar.NewProgram("good"))
	for name, bad := range map[string]func(b *Backward){
		"a short WeightGrad":   func(b *Backward) { b.WeightGrad = four },
		"a short AlphaGrad":    func(b *Backward) { b.AlphaGrad = four },
		"a short Cost":         func(b *Backward) { b.Cost = four },
		"a cost and no Loss":   func(b *Backward) { b.Loss = nil },
		"no weights":           func(b *Backward) { b.Weights = nil },
		"a row without an end": func(b *Backward) { b.Begin = nil },
	} {
		wrong := back
		bad(&wrong)
		require.Panics(t, func() { wrong.Record(ar.NewProgram("bad")) }, name)
	}
}
