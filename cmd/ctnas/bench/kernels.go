package bench

import (
	"context"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
)

func kernels() []Case {
	var out []Case
	for _, s := range [][3]int{{1792, 128, 128}, {20000, 128, 128}, {1500, 64, 128}} {
		m, n, k := s[0], s[1], s[2]
		shape := fmt.Sprintf("%dx%d by %dx%d", m, k, k, n)
		out = append(out, gemmCase("gemm", shape, m, n, k, false, false),
			gemmCase("gemm_nt", shape+", the second stored transposed", m, n, k, false, true),
			gemmCase("gemm_tn", fmt.Sprintf("%dx%d transposed by %dx%d", m, k, m, n), m, n, k, true, false))
	}
	const rows, width, n = 20000, 96, 100_000
	const elements = rows * width * 4.0 // bytes
	return append(append(out, network()...),
		Case{Name: "gather_128", Shape: "last round of a GCN over 6,000 cells, width 128", Setup: gather},
		encodeCase(512, 128, 4), encodeCase(512, 64, 2), encodeCase(65536, 64, 2), encodeCase(65536, 256, 2),
		Case{Name: "gated_96", Shape: "20,000 rows, width 96", Bytes: 6 * elements,
			Setup: recorded(gated(rows, width))}, Case{Name: "dense_dropout_96",
			Shape: "20,000 rows, width 96: bias, ReLU, dropout", Bytes: 2 * elements,
			Setup: recorded(denseLayer(rows, width))}, Case{Name: "allpairs_423",
			Shape: "89,253 pairs of 423 noisy labels, loss and gradient", Setup: recorded(allPairs(423))},
		Case{Name: "allpairs_4236", Shape: "8,969,730 pairs of 4,236 noisy labels, loss and gradient",
			Setup: recorded(allPairs(4236))}, Case{Name: "pairlist_512",
			Shape: "512 pairs of 423 scores, loss and gradient", Setup: recorded(pairList)},
		Case{Name: "adam_100000", Shape: "100,000 weights", Bytes: 7 * 4 * n, Setup: recorded(adam(n))},
	)
}

// random is n numbers in [-1, 1).
func random(n int, step uint32) []float32 {
	s := philox.New(1, philox.PurposeTest, step)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(2*s.Float64() - 1)
	}
	return v
}

// recorded is the setup of a program that f records.
func recorded(f func(ar *exec.Arena, p *exec.Program)) func(context.Context, *Env) (func() error, error) {
	return func(_ context.Context, e *Env) (func() error, error) {
		d, err := e.device()
		if err != nil {
			return nil, err
		}
		ar := d.NewArena()
		e.close = append(e.close, ar.Free)
		p := ar.NewProgram("bench")
		f(ar, p)
		e.last = p
		return func() error { p.Run(1); return nil }, nil
	}
}

func gemmCase(name, shape string, m, n, k int, transA, transB bool) Case {
	sizeB, sizeC := n*k, m*n
	if transA {
		sizeB, sizeC = m*n, k*n
	}
	return Case{
		Name: fmt.Sprintf("%s_%d_%d_%d", name, m, n, k), Shape: shape, FLOPs: 2 * float64(m) * float64(n) * float64(k),
		Setup: recorded(func(ar *exec.Arena, p *exec.Program) {
			gemm.Record(p, gemm.Op{
				C: ar.F32(sizeC), A: ar.Floats(random(m*k, 1)), B: ar.Floats(random(sizeB, 2)), M: exec.Fixed(m), N: n,
				K: k, TransA: transA, TransB: transB,
			})
		}),
	}
}

// gather sums rows along the edges that real cells' shared trees have.
func gather(ctx context.Context, e *Env) (func() error, error) {
	data := labelled(6000)
	const rounds, width = 4, 128
	f, err := gcn.Layered(gcn.Slice(data.Graphs), data.Alphabet, rounds, 0, 0, gcn.FromInputs, true)
	if err != nil {
		return nil, err
	}
	begin, end := f.Level(rounds)
	below, _ := f.Level(rounds - 1)
	ptr, idx := []int32{0}, []int32{}
	for r := begin; r < end; r++ {
		idx = append(idx, f.Self[r]-int32(below))
		for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
			idx = append(idx, u-int32(below))
		}
		ptr = append(ptr, int32(len(idx)))
	}
	return recorded(func(ar *exec.Arena, p *exec.Program) {
		graph.Gather{
			Out: ar.F32((end - begin) * width), In: ar.Floats(random((begin-below)*width, 1)),
			Rows: exec.Fixed(end - begin), Width: width,
			Ptr: ar.Ints(ptr), Idx: ar.Ints(idx), Bias: ar.Floats(random(width, 2)), Relu: true,
		}.Record(p)
	})(ctx, e)
}

// encodeCase is an update of a layered comparator over n pairs of n packed cells, as an accelerator does it: encoding,
// loss, gradient and Adam.
func encodeCase(n, width, layers int) Case {
	const alphabet, nodes = 5, 7
	return Case{
		Name:  fmt.Sprintf("encode_%d_%d_%d", n, width, layers),
		Shape: fmt.Sprintf("an update over %d pairs of %d cells, %d layers of width %d", n, n, layers, width),
		FLOPs: 3 * 2 * float64(n*nodes) * float64(layers-1) * float64(width*width), Long: n > 10_000,
		Setup: recorded(func(ar *exec.Arena, p *exec.Program) {
			var packed []uint64
			for _, g := range labelled(n).Graphs {
				one, _ := graph.Pack(g.Ops, g.Edges)
				packed = append(packed, one)
			}
			e := graph.Encode{N: exec.Fixed(n), Graphs: ar.Ints(graph.Words(packed)), Alphabet: alphabet, Width: width,
				Layers: layers, Heads: 2, LinearLast: true}
			e.Head = alphabet * width
			size := e.Head + 2*width
			for range layers {
				e.Matrices = append(e.Matrices, size)
				size += width * width
			}
			w := random(size, 1)
			for i := range w { // scores of about one: where a pair is certain its gradient is denormal, which is slow
				w[i] /= float32(math.Sqrt(float64(width)))
			}
			e.W, e.G, e.Score, e.DScore = ar.Floats(w), ar.F32(size), ar.F32(2*n), ar.F32(2*n)
			a, b := make([]int32, n), make([]int32, n)
			for i := range a {
				a[i], b[i] = int32(i), int32((i+1)%n)
			}
			encoded := e.Record(p)
			loss.PairList{
				Pairs: e.N, Examples: e.N, Heads: 2, Score: e.Score, Bias: ar.Zeros(1), A: ar.Ints(a), B: ar.Ints(b),
				Target: ar.Zeros(n),
				DScore: e.DScore, DBias: ar.F32(1), Loss: ar.F32(1), Scale: 1,
			}.Record(p)
			encoded.RecordBackward(p)
			optim.RecordAdam(p, optim.Adam{
				W: e.W, G: e.G, M: ar.Zeros(size), V: ar.Zeros(size), LR: ar.Floats([]float32{1e-4}),
				Step: ar.Ints([]int32{0}), Beta1: 0.5, Beta2: 0.999, Eps: 1e-8,
			})
		}),
	}
}

func gated(rows, width int) func(ar *exec.Arena, p *exec.Program) {
	return func(ar *exec.Arena, p *exec.Program) {
		label := make([]int32, rows)
		for i := range label {
			label[i] = int32(i % 5)
		}
		graph.Gated{
			Rows: exec.Fixed(rows), Width: width, Label: ar.Ints(label), Table: ar.Floats(random(10*width, 1)),
			Scale:      ar.Floats(random(10*width, 2)),
			Aggregated: ar.Floats(random(rows*width, 3)), Product: ar.Floats(random(2*rows*width, 4)),
			Gates: ar.F32(2 * rows * width), Out: ar.F32(rows * width),
		}.Record(p)
	}
}

func denseLayer(rows, width int) func(ar *exec.Arena, p *exec.Program) {
	return func(ar *exec.Arena, p *exec.Program) {
		dense.Dense{
			Rows: exec.Fixed(rows), Width: width, Out: ar.F32(rows * width), In: ar.Floats(random(rows*width, 1)),
			Bias: ar.Floats(random(width, 2)),
			Relu: true, Keep: 0.9, Seed: 1, Stream: philox.PurposeTest, Step: ar.Ints([]int32{1}),
		}.Record(p)
	}
}

func allPairs(n int) func(ar *exec.Arena, p *exec.Program) {
	return func(ar *exec.Arena, p *exec.Program) {
		noise := make([]float32, n)
		for i := range noise {
			noise[i] = 0.1
		}
		loss.AllPairs{
			N: exec.Fixed(n), Score: ar.Floats(random(n, 1)), Label: ar.Floats(random(n, 2)), Noise: ar.Floats(noise),
			DScore: ar.F32(n), Loss: ar.F32(1),
		}.Record(p)
	}
}

func pairList(ar *exec.Arena, p *exec.Program) {
	const n, pairs = 423, 512
	s := philox.New(1, philox.PurposeTest, 9)
	a, b := make([]int32, pairs), make([]int32, pairs)
	for i := range a {
		a[i], b[i] = int32(s.Intn(n)), int32(s.Intn(n))
	}
	loss.PairList{
		Pairs: exec.Fixed(pairs), Examples: exec.Fixed(n), Heads: 2, Score: ar.Floats(random(2*n, 1)),
		Bias: ar.Zeros(1), A: ar.Ints(a), B: ar.Ints(b),
		Target: ar.Floats(make([]float32, pairs)), DScore: ar.F32(2 * n), DBias: ar.F32(1), Loss: ar.F32(1), Scale: 1,
	}.Record(p)
}

func adam(n int) func(ar *exec.Arena, p *exec.Program) {
	return func(ar *exec.Arena, p *exec.Program) {
		optim.RecordAdam(p, optim.Adam{
			W: ar.Zeros(n), G: ar.Floats(random(n, 1)), M: ar.Zeros(n), V: ar.Zeros(n), LR: ar.Floats([]float32{1e-3}),
			Step:  ar.Ints([]int32{0}),
			Beta1: 0.9, Beta2: 0.999, Eps: 1e-8,
		})
	}
}
