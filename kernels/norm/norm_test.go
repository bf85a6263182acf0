// An outside package: the simulator, on which the tests run too, imports the families.
package norm_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

const eps = 1e-3

// A tensor is copied, which leaves sums; normalised; its gradient comes back through a copy's gradient.
func TestBatchNorm(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range []tensor.Shape{{N: 1, H: 2, W: 2, C: 1}, {N: 3, H: 5, W: 7, C: 17},
			{N: 2, H: 30, W: 30, C: 64}, {N: 1, H: 9, W: 3, C: 130}} {
			for k, mean := range []float64{0, 1000} {
				running := Running{Momentum: 0.1, Biased: (i+k)%2 == 1}
				for _, frozen := range []bool{false, true} {
					t.Run(fmt.Sprintf("%+v/%g/%v", s, mean, frozen), func(t *testing.T) {
						batchNorm(t, d, s, mean, frozen, running, uint32(100*i))
					})
				}
			}
		}
	})
}

func batchNorm(t *testing.T, d *exec.Device, s tensor.Shape, offset float64, frozen bool, running Running,
	stream uint32) {
	ar := d.NewArena()
	defer ar.Free()
	z, z64 := kerneltest.Random(s.Len(), stream)
	for i := range z {
		z[i] += float32(offset)
		z64[i] = float64(z[i])
	}
	gamma, gamma64 := kerneltest.Random(s.C, stream+1)
	beta, beta64 := kerneltest.Random(s.C, stream+2)
	grad, grad64 := kerneltest.Random(s.Len(), stream+3)
	runMean, runMean64 := kerneltest.Random(s.C, stream+4)
	runVar, runVar64 := kerneltest.Random(s.C, stream+5)
	for i := range runVar {
		runVar[i] = runVar[i]*runVar[i] + 0.1
		runVar64[i] = float64(runVar[i])
	}
	b := New(ar, s.C, eps)
	b.Gamma, b.Beta, b.RunningMean, b.RunningVar = ar.Floats(gamma), ar.Floats(beta), ar.Floats(runMean),
		ar.Floats(runVar)
	copied, out, g := ar.F32(s.Len()), ar.F32(s.Len()), ar.F32(s.Len())
	p := ar.NewProgram("norm")
	stats := elementwise.Sum{Terms: []elementwise.Term{{In: tensor.Input{Shape: s, Z: ar.Floats(z)}}}, Out: copied,
		Sums: true}.Record(p)
	if frozen {
		b.Fixed(p)
	} else {
		b.Forward(p, stats, running)
	}
	in := b.Input(copied, s, tensor.None)
	elementwise.Sum{Terms: []elementwise.Term{{In: in}}, Out: out}.Record(p)
	back := elementwise.SumGradient{Shape: s, G: ar.Floats(grad),
		Terms: []elementwise.TermGradient{{Sink: tensor.Sink{D: g, Of: &in, Mean: b.Mean, InvStd: b.InvStd}}}}.Record(p)
	dgamma, dbeta := ar.F32(s.C), ar.Floats(beta)
	b.Backward(p, back[0], Backward{DGamma: dgamma, Frozen: frozen})
	b.Backward(p, back[0], Backward{DBeta: dbeta, Frozen: frozen, Accumulate: true})
	p.Run(1)

	u, mean, variance := BatchReference(z64, gamma64, beta64, eps)
	if frozen {
		mean, variance = runMean64, runVar64
		for i := range u {
			c := i % s.C
			u[i] = gamma64[c]*(z64[i]-mean[c])/math.Sqrt(variance[c]+eps) + beta64[c]
		}
	}
	// scale·z + shift with a large mean cancels: its error is that of z times scale.
	tol := 2e-6 * (1 + math.Abs(offset))
	kerneltest.Close(t, u, out.Values(), tol, "u")
	if !frozen {
		for i := range runMean64 {
			runMean64[i], runVar64[i] = running.Follow(runMean64[i], runVar64[i], mean[i], variance[i], s.Pixels())
		}
		for i, v := range b.Mean.Values() {
			require.InDelta(t, mean[i], v, 2e-6*math.Sqrt(variance[i])+1e-7*math.Abs(mean[i]), "mean")
		}
		invstd := make([]float64, s.C)
		for i, v := range variance {
			invstd[i] = 1 / math.Sqrt(v+eps)
		}
		kerneltest.Close(t, invstd, b.InvStd.Values(), 1e-5, "invstd")
		kerneltest.Close(t, runMean64, b.RunningMean.Values(), 1e-5, "running mean")
		kerneltest.Close(t, runVar64, b.RunningVar.Values(), 1e-5, "running variance")
	}
	dz, wantGamma, wantBeta := BatchBackwardReference(z64, gamma64, grad64, mean, variance, eps, frozen)
	if offset != 0 {
		return // zhat itself has the rounding of z then
	}
	kerneltest.Close(t, wantGamma, dgamma.Values(), 1e-4, "dgamma")
	for i := range wantBeta {
		wantBeta[i] += beta64[i]
	}
	kerneltest.Close(t, wantBeta, dbeta.Values(), 1e-5, "dbeta")
	got := make([]float32, s.Len())
	P, Q, R, G := b.P.Values(), b.Q.Values(), b.R.Values(), g.Values()
	for i := range got {
		c := i % s.C
		got[i] = P[c]*G[i] + Q[c]*z[i] + R[c]
	}
	kerneltest.Close(t, dz, got, 1e-4, "dz")
}

// Without Gamma and Beta a norm gives the bits that ones and zeros give.
func TestWithoutAffine(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		s := tensor.Shape{N: 2, H: 5, W: 3, C: 19}
		z, _ := kerneltest.Random(s.Len(), 1)
		ones := make([]float32, s.C)
		for i := range ones {
			ones[i] = 1
		}
		in := tensor.Input{Shape: s, Z: ar.Floats(z)}
		bits := func(gamma, beta *exec.Buffer, dgamma, dbeta *exec.Buffer) (all [][]float32) {
			b := New(ar, s.C, eps)
			b.Gamma, b.Beta = gamma, beta
			p := ar.NewProgram("affine")
			copied, g := ar.F32(s.Len()), ar.F32(s.Len())
			stats := elementwise.Sum{Terms: []elementwise.Term{{In: in}}, Out: copied, Sums: true}.Record(p)
			b.Forward(p, stats, Running{})
			of := b.Input(copied, s, tensor.None)
			sink := tensor.Sink{D: g, Of: &of, Mean: b.Mean, InvStd: b.InvStd}
			back := elementwise.SumGradient{Shape: s, G: in.Z,
				Terms: []elementwise.TermGradient{{Sink: sink}}}.Record(p)
			b.Backward(p, back[0], Backward{DGamma: dgamma, DBeta: dbeta})
			p.Run(1)
			for _, buffer := range []*exec.Buffer{b.Scale, b.Shift, b.P, b.Q, b.R} {
				all = append(all, buffer.Values())
			}
			return all
		}
		require.Equal(t, bits(ar.Floats(ones), ar.Zeros(s.C), ar.F32(s.C), ar.F32(s.C)), bits(nil, nil, nil, nil))
	})
}

func TestReferenceGradients(t *testing.T) {
	const c, n = 3, 7
	_, z := kerneltest.Random(c*n, 1)
	_, gamma := kerneltest.Random(c, 2)
	_, beta := kerneltest.Random(c, 3)
	_, g := kerneltest.Random(c*n, 4)
	loss := func([]float64) float64 {
		u, _, _ := BatchReference(z, gamma, beta, eps)
		sum := 0.0
		for i := range u {
			sum += u[i] * g[i]
		}
		return sum
	}
	_, mean, variance := BatchReference(z, gamma, beta, eps)
	dz, dgamma, dbeta := BatchBackwardReference(z, gamma, g, mean, variance, eps, false)
	kerneltest.Gradient(t, loss, z, dz, 1e-6, "z")
	kerneltest.Gradient(t, loss, gamma, dgamma, 1e-6, "gamma")
	kerneltest.Gradient(t, loss, beta, dbeta, 1e-6, "beta")
}

// With its own count of batches the running values are the means over them.
func TestRecalibration(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		recalibration(t, d, false)
		recalibration(t, d, true)
	})
}

func recalibration(t *testing.T, d *exec.Device, biased bool) {
	ar := d.NewArena()
	defer ar.Free()
	s := tensor.Shape{N: 4, H: 3, W: 3, C: 5}
	b := New(ar, s.C, eps)
	b.RunningMean, b.RunningVar = ar.Zeros(s.C), ar.Zeros(s.C)
	z := ar.F32(s.Len())
	p := ar.NewProgram("recalibrate")
	stats := elementwise.Sum{Terms: []elementwise.Term{{In: tensor.Input{Shape: s, Z: z}}}, Out: ar.F32(s.Len()),
		Sums: true}.Record(p)
	b.Forward(p, stats, Running{Batches: ar.Ints([]int32{0}), Biased: biased})
	wantMean, wantVar, factor := make([]float64, s.C), make([]float64, s.C), 36.0/35
	if biased {
		factor = 1
	}
	for i := range 3 {
		v, v64 := kerneltest.Random(s.Len(), uint32(i))
		z.WriteF32(0, v)
		p.Run(1)
		mean, variance := kerneltest.Moments(v64, s.C)
		for j := range mean {
			wantMean[j] += mean[j] / 3
			wantVar[j] += variance[j] * factor / 3
		}
	}
	kerneltest.Close(t, wantMean, b.RunningMean.Values(), 1e-5, "mean")
	kerneltest.Close(t, wantVar, b.RunningVar.Values(), 1e-6, "variance")
}
