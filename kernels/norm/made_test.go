package norm_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/depthwise"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// leaver is an operation that leaves sums of a tensor of this shape, forward or in a sink.
type leaver struct {
	name    string
	shape   tensor.Shape
	forward func(p *exec.Program, z *exec.Buffer) tensor.Stats
	back    func(p *exec.Program, sink tensor.Sink) tensor.Stats
}

// leavers are all kernels that leave sums, with few parts and with so many that groups of them are added up first.
func leavers(ar *exec.Arena) (all []leaver) {
	input := func(s tensor.Shape, stream uint32) tensor.Input {
		return kerneltest.NewTensor(ar, s, kerneltest.Case{}, stream).Input
	}
	weight := func(n int) *exec.Buffer {
		w, _ := kerneltest.Random(n, 7)
		return ar.Floats(w)
	}
	gradient := func(s tensor.Shape) tensor.Gradient {
		g, _ := kerneltest.NewGradient(ar, s, false, 0, 8)
		return g
	}
	for _, c := range []conv.Conv{
		{In: tensor.Shape{N: 1, H: 5, W: 3, C: 17}, Out: 35, KH: 1, KW: 1},
		{In: tensor.Shape{N: 3, H: 31, W: 33, C: 9}, Out: 6, KH: 1, KW: 1, Groups: 3},
		{In: tensor.Shape{N: 2, H: 9, W: 8, C: 64}, Out: 72, KH: 3, KW: 3, PadH: 1, PadW: 1}, // bf16: conv_plain.cu
	} {
		all = append(all, leaver{name: "conv", shape: c.Shape(), forward: func(p *exec.Program,
			z *exec.Buffer) tensor.Stats {
			return conv.Forward{Conv: c, In: input(c.In, 1), Weight: weight(c.WeightLen()), Z: z, Sums: true}.Record(p)
		}}, leaver{name: "conv_input", shape: c.In, back: func(p *exec.Program, s tensor.Sink) tensor.Stats {
			return conv.InputGradient{Conv: c, Grad: gradient(c.Shape()), Weight: weight(c.WeightLen()),
				Sink: s}.Record(p)
		}})
	}
	for _, c := range []depthwise.Conv{
		{In: tensor.Shape{N: 3, H: 30, W: 17, C: 37}, K: 3, PadH: 1, PadW: 1},
		{In: tensor.Shape{N: 2, H: 9, W: 12, C: 20}, K: 3, PadH: 2, PadW: 2, Dilation: 2},
	} {
		all = append(all, leaver{name: "depthwise", shape: c.Shape(), forward: func(p *exec.Program,
			z *exec.Buffer) tensor.Stats {
			return depthwise.Forward{Conv: c, In: input(c.In, 2), Weight: weight(c.WeightLen()), Z: z,
				Sums: true}.Record(p)
		}}, leaver{name: "depthwise_backward", shape: c.In, back: func(p *exec.Program, s tensor.Sink) tensor.Stats {
			return depthwise.Backward{Conv: c, In: input(c.In, 3), Grad: gradient(c.Shape()),
				Weight: weight(c.WeightLen()), Sink: s, DWeight: ar.F32(c.WeightLen())}.Record(p)
		}})
	}
	for _, s := range []tensor.Shape{{N: 1, H: 1, W: 2, C: 3}, {N: 2, H: 40, W: 30, C: 33},
		{N: 2, H: 4, W: 4, C: 300}} {
		all = append(all, leaver{name: "sum", shape: s, forward: func(p *exec.Program, z *exec.Buffer) tensor.Stats {
			return elementwise.Sum{Terms: []elementwise.Term{{In: input(s, 4)}}, Out: z, Sums: true}.Record(p)
		}}, leaver{name: "sum_backward", shape: s, back: func(p *exec.Program, sink tensor.Sink) tensor.Stats {
			other := sink
			other.D = kerneltest.Room(ar, s.Len())
			out := elementwise.SumGradient{Shape: s, G: gradient(s).G,
				Terms: []elementwise.TermGradient{{Sink: other}, {Sink: sink}}}.Record(p)
			return out[1]
		}}, leaver{name: "pool_global_backward", shape: s, back: func(p *exec.Program, sink tensor.Sink) tensor.Stats {
			grad := gradient(tensor.Shape{N: s.N, H: 1, W: 1, C: s.C}).G
			return pool.Global{In: input(s, 5)}.RecordBackward(p, grad, sink)
		}})
	}
	return all
}

// What the operation that leaves the sums makes of them is what a kernel of its own makes, in every run.
func TestMade(t *testing.T) {
	made := func(t *testing.T, d *exec.Device) {
		if !d.Accelerated() {
			t.Skip("on the CPU the norm is an operation of its own")
		}
		ar := d.NewArena()
		defer ar.Free()
		most := 0
		for i, l := range leavers(ar) {
			name, c := fmt.Sprintf("%s of %+v", l.name, l.shape), l.shape.C
			gamma, _ := kerneltest.Random(c, uint32(20+i))
			beta, _ := kerneltest.Random(c, uint32(40+i))
			start, _ := kerneltest.Random(c, uint32(60+i))
			var norms [2]*Batch
			var more [2][2]*exec.Buffer
			for k := range norms {
				b := New(ar, c, eps)
				b.Gamma, b.Beta = ar.Floats(gamma), ar.Floats(beta)
				b.RunningMean, b.RunningVar = ar.Floats(start), ar.Floats(start)
				norms[k], more[k] = b, [2]*exec.Buffer{ar.Floats(start), ar.Floats(beta)} // gradients
			}
			p := ar.NewProgram(name)
			var stats tensor.Stats
			record := func(b *Batch, s tensor.Stats, dgamma, dbeta *exec.Buffer) {
				if l.forward != nil {
					b.Forward(p, s, Running{Momentum: 0.1})
				} else {
					b.Backward(p, s, Backward{DGamma: dgamma, DBeta: dbeta, Accumulate: true})
				}
			}
			if l.forward != nil {
				stats = l.forward(p, kerneltest.Room(ar, l.shape.Len()))
			} else {
				x := kerneltest.NewTensor(ar, l.shape, kerneltest.Case{Norm: true, Act: tensor.ReLU}, uint32(80+i))
				for _, b := range norms { // what forward left
					b.Scale, b.Mean, b.InvStd = x.Input.Scale, x.Mean, x.InvStd
				}
				stats = l.back(p, tensor.Sink{D: kerneltest.Room(ar, l.shape.Len()), Of: &x.Input, Mean: x.Mean,
					InvStd: x.InvStd})
			}
			most = max(most, stats.Parts)
			launches := len(p.Launches())
			record(norms[0], stats, more[0][0], more[0][1])
			require.Len(t, p.Launches(), launches, name)
			record(norms[1], stats, more[1][0], more[1][1])
			require.Len(t, p.Launches(), launches+1, name)
			p.Run(2)
			outputs := func(k int) []*exec.Buffer {
				b := norms[k]
				if l.forward != nil {
					return []*exec.Buffer{b.Mean, b.InvStd, b.Scale, b.Shift, b.RunningMean, b.RunningVar}
				}
				return []*exec.Buffer{b.P, b.Q, b.R, more[k][0], more[k][1]}
			}
			got, want := outputs(0), outputs(1)
			for k := range got {
				values := got[k].Values()
				for j, v := range want[k].Values() {
					require.InDelta(t, v, values[j], 1e-6*(1+math.Abs(float64(v))), "%s: buffer %d, channel %d",
						name, k, j)
				}
			}
		}
		require.Greater(t, most, 20, "no case adds up groups of parts")
	}
	kerneltest.EachStorage(t, made)
	kerneltest.EachHopper(t, made)
}
