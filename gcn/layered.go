package gcn

import (
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/graph"
)

// layered records H_k = relu( (I+A')·H_{k-1} W_k + b_k + H_{k-1} ) round by round over different rows only, then a
// linear head and the mean over each graph's nodes (ctnas/core/model of the released code; paper section 3.2). The head
// comes before the mean because it is linear. w is the width; a round k has n_k rows.
func (s *pass) layered() {
	f, w, heads := s.e.Forests[0], s.Width, s.heads()
	fc := s.weight("fc.weight")
	last := s.Layers
	lb, le := f.Level(last)
	headRows := s.ar.F32((le - lb) * heads) // [n_last, heads]
	h := s.weight("embedding.weight")       // H_{k-1} [n_{k-1}, w]
	ptr := s.ar.Ints(withSelf(f))
	idx := s.ar.Ints(selfIdx(f))
	matrix := func(k int) *exec.Buffer { return s.weight(layerName(k-1) + ".weight") }
	_, n := f.Level(0)
	sums := s.ar.F32(n * w) // H_{k-1} W_k [n_{k-1}, w]
	gemm.Record(s.p, gemm.Op{C: sums, A: h, B: matrix(1), M: exec.Fixed(n), N: w, K: w})
	begin := 0 // the first row of the level below
	for k := 1; k <= last; k++ {
		nb, ne := f.Level(k)
		relu := k < last || !s.LinearLast
		var bias *exec.Buffer
		if s.Bias {
			bias = s.weight(layerName(k-1) + ".bias")
		}
		prev := h
		self := s.ar.Ints(shift(f.Self[nb:ne], begin))
		// Only the head needs the last round's rows: when scoring they live a chunk at a time.
		kept := ne - nb
		if k == last && !s.train() && s.chunk > 0 {
			kept = min(kept, s.chunk)
		}
		out := s.ar.F32(kept * w) // H_k [n_k, w], or a chunk of it
		var next *exec.Buffer     // the products of the round above, H_k W_{k+1} [n_k, w]
		var packed *gemm.Packed
		if k < last {
			next = s.ar.F32((ne - nb) * w)
			packed = gemm.Pack(s.p, matrix(k+1), w, w, false)
		}
		s.chunks(nb, ne, func(b, e int) {
			piece := out
			if kept == ne-nb {
				piece = rows(out, b-nb, e-nb, w)
			}
			g := graph.Gather{Out: piece, In: sums, Rows: exec.Fixed(e - b), Width: w, Ptr: ptr.Slice(b, e-b+1),
				Idx: idx, Bias: bias, Relu: relu}
			if s.Residual {
				g.Add, g.AddIdx = prev, self.Slice(b-nb, e-b)
			}
			g.Record(s.p)
			if k == last {
				dense.RowDot{Out: rows(headRows, b-lb, e-lb, heads), In: piece, Weight: fc, Rows: exec.Fixed(e - b),
					Width: w, Heads: heads}.Record(s.p)
			} else { // The product is made while the chunk is in the caches.
				gemm.Record(s.p, gemm.Op{C: rows(next, b-nb, e-nb, w), A: piece, Packed: packed, M: exec.Fixed(e - b),
					N: w, K: w})
			}
		})
		if s.train() {
			s.layeredBackward(k, f, prev, out, sums, nb, ne, begin, relu, headRows)
		}
		h, sums, begin = out, next, nb
	}
	s.mean(headRows)
	s.deferBackward(func() {
		read := shift(f.ReadIdx, lb)
		tptr, tidx := transpose(f.ReadPtr, read, le-lb)
		mean := make([]float32, len(tidx))
		for i, g := range tidx {
			mean[i] = 1 / float32(f.ReadPtr[g+1]-f.ReadPtr[g])
		}
		graph.Gather{Out: headRows, In: s.dscore, Rows: exec.Fixed(le - lb), Width: heads, Ptr: s.ar.Ints(tptr),
			Idx:    s.ar.Ints(tidx),
			Weight: s.ar.Floats(mean)}.Record(s.p) // headRows now holds the gradient in it.
	})
}

// mean records each graph's mean over its rows of the last round: [n_last, heads] to [N, heads].
func (s *pass) mean(headRows *exec.Buffer) {
	f := s.e.Forests[0]
	lb, _ := f.Level(s.Layers)
	graph.Gather{Out: s.score, In: headRows, Rows: exec.Fixed(s.e.N), Width: s.heads(), Ptr: s.ar.Ints(f.ReadPtr),
		Idx: s.ar.Ints(shift(f.ReadIdx, lb)), Weight: s.ar.Floats(meanWeights(f))}.Record(s.p)
}

// layeredBackward queues the gradient of round k. Buffers are reused: once a round's output has been used it holds the
// gradient in it.
func (s *pass) layeredBackward(k int, f *Forest, prev, out, sums *exec.Buffer, nb, ne, begin int, relu bool,
	headRows *exec.Buffer) {
	w, heads, below, n := s.Width, s.heads(), nb-begin, ne-nb
	name := layerName(k - 1)
	s.deferBackward(func() {
		fc, last := s.weight("fc.weight"), k == s.Layers
		dout := s.dnext // the gradient in H_k [n_k, w]
		if last {
			dout = s.ar.F32(n * w)
			gemm.Record(s.p, gemm.Op{C: s.gradient("fc.weight"), A: headRows, B: out, M: exec.Fixed(n), N: w, K: heads,
				TransA: true})
			var mask *exec.Buffer
			if relu {
				mask = out
			}
			dense.RowDotBackward{DInput: dout, Grad: headRows, Weight: fc, Mask: mask, Rows: exec.Fixed(n), Width: w,
				Heads: heads}.Record(s.p)
		}
		if s.Bias {
			dense.ColumnSum{Out: s.gradient(name + ".bias"), In: dout, Rows: exec.Fixed(n), Width: w}.Record(s.p)
		}
		// To the products, through the transposed aggregation: each row of sums is used by the rows that aggregate it,
		// itself included.
		tptr, tidx := transpose(withSelf(f)[nb:ne+1], selfIdx(f), below)
		graph.Gather{Out: sums, In: dout, Rows: exec.Fixed(below), Width: w, Ptr: s.ar.Ints(tptr),
			Idx: s.ar.Ints(tidx)}.Record(s.p)
		gemm.Record(s.p, gemm.Op{C: s.gradient(name + ".weight"), A: prev, B: sums, M: exec.Fixed(below), N: w, K: w,
			TransA: true})
		// To the round below, through the products and the residual, and through its ReLU.
		dprev := s.ar.F32(below * w) // the gradient in H_{k-1} [n_{k-1}, w]
		gemm.Record(s.p, gemm.Op{C: dprev, A: sums, B: s.weight(name + ".weight"), M: exec.Fixed(below), N: w, K: w,
			TransB: true})
		selfPtr := make([]int32, n+1)
		for i := range selfPtr {
			selfPtr[i] = int32(i)
		}
		rptr, ridx := transpose(selfPtr, shift(f.Self[nb:ne], begin), below)
		g := graph.Gather{Out: dprev, In: dout, Rows: exec.Fixed(below), Width: w, Ptr: s.ar.Ints(rptr),
			Idx: s.ar.Ints(ridx), Add: dprev}
		if !s.Residual {
			g.Ptr = s.ar.Ints(make([]int32, below+1))
		}
		if k > 1 {
			g.Mask = prev
		}
		g.Record(s.p)
		if k == 1 {
			grad := s.gradient("embedding.weight")
			dense.Dense{Rows: exec.Fixed(1), Width: below * w, Out: grad, In: dprev}.Record(s.p)
		}
		s.dnext = dprev
	})
}

// withSelf is the pointers of the forest's edges when every row of a round aggregates its own row below before the
// others; selfIdx is the edges, counted from the level below.
func withSelf(f *Forest) []int32 {
	out := make([]int32, len(f.Ptr))
	extra := int32(0)
	for r := range f.Rows() {
		out[r] = f.Ptr[r] + extra
		if r >= int(f.Start[1]) {
			extra++
		}
	}
	out[f.Rows()] = f.Ptr[f.Rows()] + extra
	return out
}

func selfIdx(f *Forest) []int32 {
	var out []int32
	for l := 1; l < f.Levels(); l++ {
		b, e := f.Level(l)
		below, _ := f.Level(l - 1)
		for r := b; r < e; r++ {
			out = append(out, f.Self[r]-int32(below))
			for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
				out = append(out, u-int32(below))
			}
		}
	}
	return out
}

func shift(idx []int32, by int) []int32 {
	out := make([]int32, len(idx))
	for i, v := range idx {
		out[i] = v - int32(by)
	}
	return out
}

func meanWeights(f *Forest) []float32 {
	out := make([]float32, len(f.ReadIdx))
	for g := range f.Graphs() {
		n := f.ReadPtr[g+1] - f.ReadPtr[g]
		for i := f.ReadPtr[g]; i < f.ReadPtr[g+1]; i++ {
			out[i] = 1 / float32(n)
		}
	}
	return out
}
