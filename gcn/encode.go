package gcn

import (
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Encoding is what a network needs of a set of graphs: the shared unfolding trees of each direction, and the graphs' features.
type Encoding struct {
	N        int
	Forests  []*Forest
	Features []float32 // N x features; empty where the network uses none
	Scale    *Standard // standardises the features; nil: they are standardised
}

// Encode prepares graphs for the network. features holds one row a graph (or nil) and must be standardised already. plain keeps equal
// parts of layered networks apart, for measuring what sharing saves.
func (n Network) Encode(graphs GraphSet, alphabet int, features []float32, plain bool) (*Encoding, error) {
	e := &Encoding{N: graphs.N, Features: features}
	var err error
	add := func(f *Forest, e2 error) {
		e.Forests = append(e.Forests, f)
		if err == nil {
			err = e2
		}
	}
	switch n.Kind {
	case LayeredGCN:
		if n.Pad > 0 {
			add(Layered(graphs, alphabet+1, n.Layers, n.Pad, alphabet, FromInputs, !plain))
		} else {
			add(Layered(graphs, alphabet, n.Layers, 0, 0, FromInputs, !plain))
		}
	case Gated:
		add(Topological(graphs, alphabet, FromInputs, true))
		add(Topological(graphs, alphabet, FromOutputs, true))
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// upload returns a multiple of the standardised features in an arena's memory, without another copy of a whole space's beside it.
func (e *Encoding) upload(ar *exec.Arena, by float32) *exec.Buffer {
	if e.Scale == nil {
		return ar.Floats(scaled(e.Features, by))
	}
	b := ar.F32(len(e.Features))
	width := len(e.Scale.Mean)
	piece := 4096 * width
	for at := 0; at < len(e.Features); at += piece {
		b.WriteF32(at, scaled(e.Scale.apply(e.Features[at:min(at+piece, len(e.Features))]), by))
	}
	return b
}

func scaled(v []float32, by float32) []float32 {
	if by == 1 {
		return v
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = by * x
	}
	return out
}

// alphabetSize is the number of rows of the operations' table: with padding there is one operation more.
func (n Network) alphabetSize(alphabet int) int {
	if n.Kind == LayeredGCN && n.Pad > 0 {
		return alphabet + 1
	}
	return alphabet
}

// pass records a network's operations over one encoding.
type pass struct {
	Network
	ar     *exec.Arena
	p      *exec.Program
	lay    *layout
	w, g   *exec.Buffer // parameters; their gradient, nil when only scoring
	e      *Encoding
	n      exec.Dim     // graphs; e.N at most
	packed *exec.Buffer // the graphs for graph.Encode; nil: e's forests are used
	chunk  int          // rows whose temporaries live at once when only scoring; 0: all
	seed   uint64       // dropout
	step   *exec.Buffer // dropout

	score, dscore *exec.Buffer // N x heads
	dnext         *exec.Buffer // layered backward: the gradient of the round below
	undo          []func()     // the backward operations, recorded in reverse
}

func (s *pass) train() bool { return s.g != nil }

func (s *pass) weight(name string) *exec.Buffer { return s.lay.part(s.w, name) }

func (s *pass) gradient(name string) *exec.Buffer { return s.lay.part(s.g, name) }

// backward records the gradient of everything that forward recorded, given dscore.
func (s *pass) backward() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

// deferBackward queues backward operations; the last queued run first.
func (s *pass) deferBackward(f func()) {
	if s.train() {
		s.undo = append(s.undo, f)
	}
}

// chunks splits rows [begin, end) into pieces whose temporaries fit the chunk.
func (s *pass) chunks(begin, end int, f func(b, e int)) {
	size := end - begin
	if s.chunk > 0 && !s.train() {
		size = s.chunk
	}
	for b := begin; b < end; b += size {
		f(b, min(b+size, end))
	}
}

func (s *pass) forward() {
	s.score = s.ar.F32(s.e.N * s.heads())
	if s.train() {
		s.dscore = s.ar.F32(s.e.N * s.heads())
	}
	switch {
	case s.Kind == Gated:
		s.gated()
	case s.packed != nil:
		s.packedGraphs()
	case !s.train() && s.fused(s.ar.Device()):
		s.sharedRows()
	default:
		s.layered()
	}
}

// rows is the slice of rows [b, e) of a buffer with the given width.
func rows(buf *exec.Buffer, b, e, width int) *exec.Buffer { return buf.Slice(b*width, (e-b)*width) }

// layered records H_k = relu( (I+A')·H_{k-1} W_k + b_k + H_{k-1} ) round by round over different rows only, then a linear head and the mean
// over each graph's nodes (ctnas/core/model of the released code; paper section 3.2). The head comes before the mean: it is linear.
func (s *pass) layered() {
	f, w, heads := s.e.Forests[0], s.Width, s.heads()
	fc := s.weight("fc.weight")
	last := s.Layers
	lb, le := f.Level(last)
	headRows := s.ar.F32((le - lb) * heads)
	h := s.weight("embedding.weight")
	ptr := s.ar.Ints(withSelf(f))
	idx := s.ar.Ints(selfIdx(f))
	matrix := func(k int) *exec.Buffer { return s.weight(layerName(k-1) + ".weight") }
	_, n := f.Level(0)
	sums := s.ar.F32(n * w) // H_{k-1} W_k
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
		// The last round's rows are only needed for the head: when scoring they live a chunk at a time.
		kept := ne - nb
		if k == last && !s.train() && s.chunk > 0 {
			kept = min(kept, s.chunk)
		}
		out := s.ar.F32(kept * w)
		var next *exec.Buffer // the products of the round above
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
			g := graph.Gather{Out: piece, In: sums, Rows: exec.Fixed(e - b), Width: w, Ptr: ptr.Slice(b, e-b+1), Idx: idx, Bias: bias, Relu: relu}
			if s.Residual {
				g.Add, g.AddIdx = prev, self.Slice(b-nb, e-b)
			}
			g.Record(s.p)
			if k == last {
				graph.RowDot{Out: rows(headRows, b-lb, e-lb, heads), In: piece, Weight: fc, Rows: exec.Fixed(e - b), Width: w, Heads: heads}.Record(s.p)
			} else { // while the chunk is in the caches
				gemm.Record(s.p, gemm.Op{C: rows(next, b-nb, e-nb, w), A: piece, Packed: packed, M: exec.Fixed(e - b), N: w, K: w})
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
		graph.Gather{Out: headRows, In: s.dscore, Rows: exec.Fixed(le - lb), Width: heads, Ptr: s.ar.Ints(tptr), Idx: s.ar.Ints(tidx),
			Weight: s.ar.Floats(mean)}.Record(s.p) // headRows now holds its gradient
	})
}

// mean records each graph's mean over its rows of the last round.
func (s *pass) mean(headRows *exec.Buffer) {
	f := s.e.Forests[0]
	lb, _ := f.Level(s.Layers)
	graph.Gather{Out: s.score, In: headRows, Rows: exec.Fixed(s.e.N), Width: s.heads(), Ptr: s.ar.Ints(f.ReadPtr), Idx: s.ar.Ints(shift(f.ReadIdx, lb)),
		Weight: s.ar.Floats(meanWeights(f))}.Record(s.p)
}

// layeredBackward queues the gradient of round k. Buffers are reused: once a round's output has been used it holds its own gradient.
func (s *pass) layeredBackward(k int, f *Forest, prev, out, sums *exec.Buffer, nb, ne, begin int, relu bool, headRows *exec.Buffer) {
	w, heads, below, n := s.Width, s.heads(), nb-begin, ne-nb
	name := layerName(k - 1)
	s.deferBackward(func() {
		fc, last := s.weight("fc.weight"), k == s.Layers
		dout := s.dnext // the gradient of out, not yet through the ReLU
		if last {
			dout = s.ar.F32(n * w)
			gemm.Record(s.p, gemm.Op{C: s.gradient("fc.weight"), A: headRows, B: out, M: exec.Fixed(n), N: w, K: heads, TransA: true})
			var mask *exec.Buffer
			if relu {
				mask = out
			}
			graph.RowDotBackward{DInput: dout, Grad: headRows, Weight: fc, Mask: mask, Rows: exec.Fixed(n), Width: w, Heads: heads}.Record(s.p)
		}
		if s.Bias {
			graph.ColumnSum{Out: s.gradient(name + ".bias"), In: dout, Rows: exec.Fixed(n), Width: w}.Record(s.p)
		}
		// To the products: each row of sums is used by the rows that hear it, itself included.
		tptr, tidx := transpose(withSelf(f)[nb:ne+1], selfIdx(f), below)
		graph.Gather{Out: sums, In: dout, Rows: exec.Fixed(below), Width: w, Ptr: s.ar.Ints(tptr), Idx: s.ar.Ints(tidx)}.Record(s.p)
		gemm.Record(s.p, gemm.Op{C: s.gradient(name + ".weight"), A: prev, B: sums, M: exec.Fixed(below), N: w, K: w, TransA: true})
		// To the round below, through the products and the residual, and through its ReLU.
		dprev := s.ar.F32(below * w)
		gemm.Record(s.p, gemm.Op{C: dprev, A: sums, B: s.weight(name + ".weight"), M: exec.Fixed(below), N: w, K: w, TransB: true})
		selfPtr := make([]int32, n+1)
		for i := range selfPtr {
			selfPtr[i] = int32(i)
		}
		rptr, ridx := transpose(selfPtr, shift(f.Self[nb:ne], begin), below)
		g := graph.Gather{Out: dprev, In: dout, Rows: exec.Fixed(below), Width: w, Ptr: s.ar.Ints(rptr), Idx: s.ar.Ints(ridx), Add: dprev}
		if !s.Residual {
			g.Ptr = s.ar.Ints(make([]int32, below+1))
		}
		if k > 1 {
			g.Mask = prev
		}
		g.Record(s.p)
		if k == 1 {
			grad := s.gradient("embedding.weight")
			graph.Dense{Rows: exec.Fixed(1), Width: below * w, Out: grad, In: dprev}.Record(s.p)
		}
		s.dnext = dprev
	})
}

// withSelf is the forest's edges with every row of a round hearing its own row below first, and counted from the level below.
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

// gated records both sweeps and the head: hidden = relu( z_f·U_f + z_b·U_b + relu(x V + c)·U_x + b ), score = hidden·u, where z_f is the output
// node's row of the sweep from the input, z_b the input node's row of the sweep from the output, x the features.
func (s *pass) gated() {
	n, hw := s.e.N, s.HeadWidth
	keep := float32(1 - s.Dropout)
	if !s.train() {
		keep = 1
	}
	size := n
	if s.chunk > 0 && !s.train() {
		size = min(n, s.chunk)
	}
	type part struct {
		name  string
		width int
		rows  func(b, e int, out *exec.Buffer) // records the part's rows [b, e)
		grad  func(d *exec.Buffer)
	}
	var parts []part
	for i, name := range []string{"forward", "backward"} {
		f := s.e.Forests[i]
		if !s.train() {
			parts = append(parts, part{name, s.Width, s.rootsOnTheFly(f, name, size), nil})
			continue
		}
		sw := s.sweep(f, name)
		ptr := make([]int32, n+1)
		for g := range ptr {
			ptr[g] = int32(g)
		}
		ptrBuf, idx := s.ar.Ints(ptr), s.ar.Ints(f.ReadIdx)
		parts = append(parts, part{name, s.Width, func(b, e int, out *exec.Buffer) {
			graph.Gather{Out: out, In: sw.h, Rows: exec.Fixed(e - b), Width: s.Width, Ptr: ptrBuf.Slice(b, e-b+1), Idx: idx}.Record(s.p)
		}, func(d *exec.Buffer) {
			tptr, tidx := transpose(f.ReadPtr, f.ReadIdx, f.Rows())
			graph.Gather{Out: sw.dh, In: d, Rows: exec.Fixed(f.Rows()), Width: s.Width, Ptr: s.ar.Ints(tptr), Idx: s.ar.Ints(tidx)}.Record(s.p)
		}})
	}
	if s.Features {
		fw, nf := s.FeatureWidth, len(s.e.Features)/max(n, 1)
		x := s.e.upload(s.ar, 1)
		parts = append(parts, part{"features", fw, func(b, e int, out *exec.Buffer) {
			gemm.Record(s.p, gemm.Op{C: out, A: rows(x, b, e, nf), B: s.weight("features.weight"), M: exec.Fixed(e - b), N: fw, K: nf})
			graph.Dense{Rows: exec.Fixed(e - b), Width: fw, Out: out, In: out, Bias: s.weight("features.bias"), Relu: true}.Record(s.p)
		}, nil})
		parts[len(parts)-1].grad = func(d *exec.Buffer) {
			graph.ColumnSum{Out: s.gradient("features.bias"), In: d, Rows: exec.Fixed(n), Width: fw}.Record(s.p)
			gemm.Record(s.p, gemm.Op{C: s.gradient("features.weight"), A: x, B: d, M: exec.Fixed(n), N: fw, K: nf, TransA: true})
		}
	}
	var linear *exec.Buffer // the features as the linear term sees them
	width := 0
	if s.Features && s.Linear > 0 {
		linear, width = s.e.upload(s.ar, float32(s.Linear)), len(s.e.Features)/max(n, 1)
	}
	hidden := s.ar.F32(size * hw)
	out := make([]*exec.Buffer, len(parts))     // a part's rows
	dropped := make([]*exec.Buffer, len(parts)) // after dropout
	for i, q := range parts {
		out[i] = s.ar.F32(size * q.width)
		dropped[i] = out[i]
		if keep < 1 {
			dropped[i] = s.ar.F32(size * q.width)
		}
	}
	dense := graph.Dense{Rows: exec.Fixed(n), Width: hw, Out: hidden, In: hidden, Bias: s.weight("head.bias"), Relu: true}
	dropout := func(layer, width int, in, out *exec.Buffer) graph.Dense {
		return graph.Dense{Rows: exec.Fixed(n), Width: width, Out: out, In: in, Keep: keep, Seed: s.seed, Stream: philox.PurposeTrain | uint32(layer+1)<<16, Step: s.step}
	}
	hiddenOut := hidden
	if keep < 1 {
		hiddenOut = s.ar.F32(size * hw)
	}
	s.chunks(0, n, func(b, e int) {
		m := exec.Fixed(e - b)
		for i, q := range parts {
			q.rows(b, e, out[i])
			if keep < 1 {
				dropout(i, q.width, out[i], dropped[i]).Record(s.p)
			}
			gemm.Record(s.p, gemm.Op{C: hidden, A: dropped[i], B: s.weight("head." + q.name), M: m, N: hw, K: q.width, Accumulate: i > 0})
		}
		d := dense
		d.Rows = m
		d.Record(s.p)
		if keep < 1 {
			dropout(len(parts), hw, hidden, hiddenOut).Record(s.p)
		}
		graph.RowDot{Out: s.score.Slice(b, e-b), In: hiddenOut, Weight: s.weight("score.weight"), Rows: m, Width: hw, Heads: 1}.Record(s.p)
		if linear != nil {
			gemm.Record(s.p, gemm.Op{C: s.score.Slice(b, e-b), A: rows(linear, b, e, width), B: s.weight("score.features"), M: m, N: 1, K: width, Accumulate: true})
		}
	})
	s.deferBackward(func() {
		m := exec.Fixed(n)
		dhidden := s.ar.F32(n * hw)
		if linear != nil {
			gemm.Record(s.p, gemm.Op{C: s.gradient("score.features"), A: linear, B: s.dscore, M: m, N: 1, K: width, TransA: true})
		}
		gemm.Record(s.p, gemm.Op{C: s.gradient("score.weight"), A: s.dscore, B: hiddenOut, M: m, N: hw, K: 1, TransA: true})
		graph.RowDotBackward{DInput: dhidden, Grad: s.dscore, Weight: s.weight("score.weight"), Rows: m, Width: hw, Heads: 1}.Record(s.p)
		if keep < 1 {
			dropout(len(parts), hw, hidden, hiddenOut).RecordBackward(s.p, dhidden, dhidden)
		}
		dense.RecordBackward(s.p, dhidden, dhidden)
		graph.ColumnSum{Out: s.gradient("head.bias"), In: dhidden, Rows: m, Width: hw}.Record(s.p)
		for i, q := range parts {
			gemm.Record(s.p, gemm.Op{C: s.gradient("head." + q.name), A: dropped[i], B: dhidden, M: m, N: hw, K: q.width, TransA: true})
			d := dropped[i]
			if keep == 1 {
				d = s.ar.F32(n * q.width)
			}
			gemm.Record(s.p, gemm.Op{C: d, A: dhidden, B: s.weight("head." + q.name), M: m, N: q.width, K: hw, TransB: true})
			if keep < 1 {
				dropout(i, q.width, out[i], dropped[i]).RecordBackward(s.p, d, d)
			}
			if q.name == "features" {
				graph.Dense{Rows: m, Width: q.width, Out: out[i], In: out[i], Relu: true}.RecordBackward(s.p, d, d)
			}
			q.grad(d)
		}
	})
}

// rootsOnTheFly prepares one direction for scoring. Most rows of a large space are the last of a sweep, heard by nobody and read by one or two
// graphs; only the heard rows are kept (in NAS-Bench-101 85 of 462 thousand), and the returned function records the rows that graphs
// [b, e) read, at most size of them, straight from what they hear.
func (s *pass) rootsOnTheFly(f *Forest, name string, size int) func(b, e int, out *exec.Buffer) {
	inner, roots := f.split()
	h := s.sweep(inner, name).h
	w, tables := s.Width, s.gatedTables(name)
	ptr, idx, label, scale := s.ar.Ints(roots.Ptr), s.ar.Ints(roots.Idx), s.ar.Ints(roots.Label), s.ar.Floats(rootScales(roots))
	heard, product, gates := s.ar.F32(size*w), s.ar.F32(size*2*w), s.ar.F32(size*2*w)
	weight := gemm.Pack(s.p, s.weight(name+".weight"), 2*w, w, false)
	return func(b, e int, out *exec.Buffer) {
		m := exec.Fixed(e - b)
		graph.Gather{Out: heard, In: h, Rows: m, Width: w, Ptr: ptr.Slice(b, e-b+1), Idx: idx, Weight: scale}.Record(s.p)
		gemm.Record(s.p, gemm.Op{C: product, A: heard, Packed: weight, M: m, N: 2 * w, K: w})
		g := tables
		g.Rows, g.Label, g.Heard, g.Product, g.Gates, g.Out = m, label.Slice(b, e-b), heard, product, gates, out
		g.Record(s.p)
	}
}

// gatedTables is a gated unit with one direction's tables.
func (s *pass) gatedTables(name string) graph.Gated {
	return graph.Gated{Width: s.Width, Table: s.weight(name + ".operation"), Scale: s.weight(name + ".scale")}
}

// rootScales is each edge's factor: one over the square root of how many its row hears, so that a sum's variance does not grow with them.
func rootScales(f *Forest) []float32 {
	scale := make([]float32, len(f.Idx))
	for r := range f.Rows() {
		for e := f.Ptr[r]; e < f.Ptr[r+1]; e++ {
			scale[e] = float32(1 / math.Sqrt(float64(f.Ptr[r+1]-f.Ptr[r])))
		}
	}
	return scale
}

// swept is the result of a sweep: its rows and, in training, the buffer where the readers put their gradient.
type swept struct{ h, dh *exec.Buffer }

// sweep records one direction of the gated encoder: level by level, a row sums what it hears, scaled, and passes the gated unit.
func (s *pass) sweep(f *Forest, name string) swept {
	w, n := s.Width, f.Rows()
	h := s.ar.F32(n * w)
	tables := s.gatedTables(name)
	weight := s.weight(name + ".weight")
	ptr, idx, label := s.ar.Ints(f.Ptr), s.ar.Ints(f.Idx), s.ar.Ints(f.Label)
	scale := rootScales(f)
	scaleBuf := s.ar.Floats(scale)
	size := n
	if s.chunk > 0 && !s.train() {
		size = min(n, s.chunk)
	}
	heard, product, gates := s.ar.F32(size*w), s.ar.F32(size*2*w), s.ar.F32(size*2*w)
	unit := func(b, e int) graph.Gated {
		g := tables
		g.Rows, g.Label, g.Out = exec.Fixed(e-b), label.Slice(b, e-b), rows(h, b, e, w)
		at := b
		if size < n {
			at = 0
		}
		g.Gates = rows(gates, at, at+e-b, 2*w)
		if b >= int(f.Start[1]) {
			g.Heard, g.Product = rows(heard, at, at+e-b, w), rows(product, at, at+e-b, 2*w)
		}
		return g
	}
	for l := range f.Levels() {
		begin, end := f.Level(l)
		s.chunks(begin, end, func(b, e int) {
			g := unit(b, e)
			if l > 0 {
				graph.Gather{Out: g.Heard, In: h, Rows: g.Rows, Width: w, Ptr: ptr.Slice(b, e-b+1), Idx: idx, Weight: scaleBuf}.Record(s.p)
				gemm.Record(s.p, gemm.Op{C: g.Product, A: g.Heard, B: weight, M: g.Rows, N: 2 * w, K: w})
			}
			g.Record(s.p)
		})
	}
	if !s.train() {
		return swept{h: h}
	}
	dh := s.ar.F32(n * w)
	s.deferBackward(func() {
		dheard, dproduct := s.ar.F32(n*w), s.ar.F32(n*2*w)
		tptr, tidx, tscale := transposeWeighted(f.Ptr, f.Idx, scale, n)
		tp, ti, ts := s.ar.Ints(tptr), s.ar.Ints(tidx), s.ar.Floats(tscale)
		for l := f.Levels() - 1; l >= 0; l-- {
			b, e := f.Level(l)
			m := exec.Fixed(e - b)
			if l < f.Levels()-1 {
				graph.Gather{Out: rows(dh, b, e, w), In: dheard, Rows: m, Width: w, Ptr: tp.Slice(b, e-b+1), Idx: ti, Weight: ts, Accumulate: true}.Record(s.p)
			}
			g := unit(b, e)
			if l == 0 {
				g.RecordBackward(s.p, rows(dh, b, e, w), nil, nil)
				continue
			}
			g.RecordBackward(s.p, rows(dh, b, e, w), rows(dproduct, b, e, 2*w), rows(dheard, b, e, w))
			gemm.Record(s.p, gemm.Op{C: rows(dheard, b, e, w), A: rows(dproduct, b, e, 2*w), B: weight, M: m, N: w, K: 2 * w, TransB: true, Accumulate: true})
		}
		first := int(f.Start[1])
		gemm.Record(s.p, gemm.Op{C: s.gradient(name + ".weight"), A: rows(heard, first, n, w), B: rows(dproduct, first, n, 2*w), M: exec.Fixed(n - first), N: 2 * w, K: w, TransA: true})
		// An operation's rows of the tables are used by every row with that operation; the scale only by those that hear somebody.
		k := tables.Table.Len() / (2 * w)
		byLabel := func(grad string, from *exec.Buffer, first int) {
			labelPtr := make([]int32, n-first+1)
			for i := range labelPtr {
				labelPtr[i] = int32(i)
			}
			lptr, lidx := transpose(labelPtr, f.Label[first:], k)
			graph.Gather{Out: s.gradient(name + grad), In: rows(from, first, n, 2*w), Rows: exec.Fixed(k), Width: 2 * w, Ptr: s.ar.Ints(lptr), Idx: s.ar.Ints(lidx)}.Record(s.p)
		}
		byLabel(".operation", gates, 0)
		byLabel(".scale", product, first)
	})
	return swept{h, dh}
}

// transposeWeighted is transpose with the edges' factors carried along.
func transposeWeighted(ptr, idx []int32, weight []float32, n int) (tptr, tidx []int32, tweight []float32) {
	tptr, tidx = transpose(ptr, idx, n)
	next := append([]int32(nil), tptr...)
	tweight = make([]float32, len(tidx))
	for e, u := range idx {
		tweight[next[u]] = weight[e]
		next[u]++
	}
	return
}
