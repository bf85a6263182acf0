package gcn

import (
	"math"

	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
)

// gated records both sweeps and the head:
//
//	hidden = relu( z_f·U_f + z_b·U_b + relu(x V + c)·U_x + b ), score = hidden·u
//
// where z_f is the output node's row of the sweep from the input, z_b the input node's row of the sweep from the
// output, and x the features. Each of the three terms in hidden is a part; dropout is applied to each part and to
// hidden.
func (s *pass) gated() {
	n, size := s.e.N, s.e.N
	if s.chunk > 0 && !s.train() {
		size = min(n, s.chunk)
	}
	var parts []gatedPart
	for i, name := range []string{"forward", "backward"} {
		parts = append(parts, s.sweepPart(s.e.Forests[i], name, size))
	}
	if s.Features {
		parts = append(parts, s.featuresPart())
	}
	h := s.newGatedHead(parts, size)
	s.chunks(0, n, h.forward)
	s.deferBackward(h.backward)
}

// gatedPart is a part of what the head reads.
type gatedPart struct {
	name     string
	width    int
	forward  func(b, e int, out *exec.Buffer) // records the rows [b, e) of the part: out is [e-b, width]
	backward func(dout *exec.Buffer)          // records what follows from the gradient in all rows [N, width]
}

// sweepPart is the row of each graph that one sweep ends in; at most size rows are asked for at a time.
func (s *pass) sweepPart(f *Forest, name string, size int) gatedPart {
	if !s.train() {
		return gatedPart{name, s.Width, s.rootsOnTheFly(f, name, size), nil}
	}
	sw := s.sweep(f, name)
	ptr := make([]int32, s.e.N+1)
	for g := range ptr {
		ptr[g] = int32(g)
	}
	ptrBuf, idx := s.ar.Ints(ptr), s.ar.Ints(f.ReadIdx)
	return gatedPart{name, s.Width, func(b, e int, out *exec.Buffer) {
		graph.Gather{Out: out, In: sw.h, Rows: exec.Fixed(e - b), Width: s.Width, Ptr: ptrBuf.Slice(b, e-b+1),
			Idx: idx}.Record(s.p)
	}, func(dout *exec.Buffer) {
		tptr, tidx := transpose(f.ReadPtr, f.ReadIdx, f.Rows())
		graph.Gather{Out: sw.dh, In: dout, Rows: exec.Fixed(f.Rows()), Width: s.Width, Ptr: s.ar.Ints(tptr),
			Idx: s.ar.Ints(tidx)}.Record(s.p)
	}}
}

// featuresPart is the features through a layer of their own.
func (s *pass) featuresPart() gatedPart {
	n, fw, nf := s.e.N, s.FeatureWidth, len(s.e.Features)/max(s.e.N, 1)
	x := upload(s.ar, s.e.Features, s.e.Scale, 1) // [N, nf]
	return gatedPart{"features", fw, func(b, e int, out *exec.Buffer) {
		gemm.Record(s.p, gemm.Op{C: out, A: rows(x, b, e, nf), B: s.weight("features.weight"),
			M: exec.Fixed(e - b), N: fw, K: nf})
		dense.Dense{Rows: exec.Fixed(e - b), Width: fw, Out: out, In: out, Bias: s.weight("features.bias"),
			Relu: true}.Record(s.p)
	}, func(dout *exec.Buffer) {
		dense.ColumnSum{Out: s.gradient("features.bias"), In: dout, Rows: exec.Fixed(n), Width: fw}.Record(s.p)
		gemm.Record(s.p, gemm.Op{C: s.gradient("features.weight"), A: x, B: dout, M: exec.Fixed(n), N: fw, K: nf,
			TransA: true})
	}}
}

// gatedHead turns the parts into scores. Buffers have size rows: all N in training, otherwise a chunk.
type gatedHead struct {
	*pass
	parts         []gatedPart
	keep          float32
	in, dropped   []*exec.Buffer // of each part, before and after dropout [size, its width]
	hidden        *exec.Buffer   // [size, HeadWidth]
	hiddenDropped *exec.Buffer   // hidden after dropout [size, HeadWidth]
	counts        *exec.Buffer   // of operations as the linear term reads them [N, operations]; nil: no such term
	operations    int
}

func (s *pass) newGatedHead(parts []gatedPart, size int) *gatedHead {
	h := &gatedHead{pass: s, parts: parts, keep: 1}
	if s.train() {
		h.keep = float32(1 - s.Dropout)
	}
	if s.Linear > 0 {
		h.counts = upload(s.ar, s.e.Counts, s.e.CountScale, float32(s.Linear))
		h.operations = len(s.e.Counts) / max(s.e.N, 1)
	}
	h.hidden = s.ar.F32(size * s.HeadWidth)
	for _, q := range parts {
		in := s.ar.F32(size * q.width)
		h.in, h.dropped = append(h.in, in), append(h.dropped, in)
	}
	h.hiddenDropped = h.hidden
	if h.keep < 1 {
		for i, q := range parts {
			h.dropped[i] = s.ar.F32(size * q.width)
		}
		h.hiddenDropped = s.ar.F32(size * s.HeadWidth)
	}
	return h
}

// dense is the bias and the ReLU of hidden.
func (h *gatedHead) dense(m exec.Dim) dense.Dense {
	return dense.Dense{Rows: m, Width: h.HeadWidth, Out: h.hidden, In: h.hidden,
		Bias: h.weight("head.bias"), Relu: true}
}

// dropout is that of a part, or of hidden as the layer behind them all, over all rows.
func (h *gatedHead) dropout(layer int) dense.Dense {
	d := dense.Dense{Rows: exec.Fixed(h.e.N), Width: h.HeadWidth, Out: h.hiddenDropped, In: h.hidden, Keep: h.keep,
		Seed: h.seed, Stream: philox.PurposeTrain | uint32(layer+1)<<16, Step: h.step}
	if layer < len(h.parts) {
		d.Width, d.Out, d.In = h.parts[layer].width, h.dropped[layer], h.in[layer]
	}
	return d
}

// forward records the scores of graphs [b, e).
func (h *gatedHead) forward(b, e int) {
	m := exec.Fixed(e - b)
	for i, q := range h.parts {
		q.forward(b, e, h.in[i])
		if h.keep < 1 {
			h.dropout(i).Record(h.p)
		}
		gemm.Record(h.p, gemm.Op{C: h.hidden, A: h.dropped[i], B: h.weight("head." + q.name), M: m, N: h.HeadWidth,
			K: q.width, Accumulate: i > 0})
	}
	h.dense(m).Record(h.p)
	if h.keep < 1 {
		h.dropout(len(h.parts)).Record(h.p)
	}
	score := h.score.Slice(b, e-b) // [e-b, 1]
	dense.RowDot{Out: score, In: h.hiddenDropped, Weight: h.weight("score.weight"), Rows: m, Width: h.HeadWidth,
		Heads: 1}.Record(h.p)
	if h.counts != nil {
		gemm.Record(h.p, gemm.Op{C: score, A: rows(h.counts, b, e, h.operations),
			B: h.weight("score.counts"), M: m, N: 1, K: h.operations, Accumulate: true})
	}
}

// backward records the gradients of the head, and then those of its parts.
func (h *gatedHead) backward() {
	n, width := h.e.N, h.HeadWidth
	m := exec.Fixed(n)
	dhidden := h.ar.F32(n * width) // [N, HeadWidth]
	if h.counts != nil {
		gemm.Record(h.p, gemm.Op{C: h.gradient("score.counts"), A: h.counts, B: h.dscore, M: m, N: 1, K: h.operations,
			TransA: true})
	}
	gemm.Record(h.p, gemm.Op{C: h.gradient("score.weight"), A: h.dscore, B: h.hiddenDropped, M: m, N: width, K: 1,
		TransA: true})
	dense.RowDotBackward{DInput: dhidden, Grad: h.dscore, Weight: h.weight("score.weight"), Rows: m, Width: width,
		Heads: 1}.Record(h.p)
	if h.keep < 1 {
		h.dropout(len(h.parts)).RecordBackward(h.p, dhidden, dhidden)
	}
	h.dense(m).RecordBackward(h.p, dhidden, dhidden)
	dense.ColumnSum{Out: h.gradient("head.bias"), In: dhidden, Rows: m, Width: width}.Record(h.p)
	for i, q := range h.parts {
		gemm.Record(h.p, gemm.Op{C: h.gradient("head." + q.name), A: h.dropped[i], B: dhidden, M: m,
			N: width, K: q.width, TransA: true})
		dpart := h.dropped[i] // [N, its width]
		if h.keep == 1 {
			dpart = h.ar.F32(n * q.width)
		}
		gemm.Record(h.p, gemm.Op{C: dpart, A: dhidden, B: h.weight("head." + q.name), M: m, N: q.width, K: width,
			TransB: true})
		if h.keep < 1 {
			h.dropout(i).RecordBackward(h.p, dpart, dpart)
		}
		if q.name == "features" {
			dense.Dense{Rows: m, Width: q.width, Out: h.in[i], In: h.in[i], Relu: true}.RecordBackward(h.p,
				dpart, dpart)
		}
		q.backward(dpart)
	}
}

// rootsOnTheFly prepares one direction for scoring. Most rows of a large space are the last of a sweep: no other row
// aggregates them, and one or two graphs read them. Only the others are kept (in NAS-Bench-101 85 of 462 thousand), and
// the returned function records the rows that graphs [b, e) read, at most size of them, straight from what they
// aggregate.
func (s *pass) rootsOnTheFly(f *Forest, name string, size int) func(b, e int, out *exec.Buffer) {
	inner, roots := f.split()
	h := s.sweep(inner, name).h
	w, tables := s.Width, s.gatedTables(name)
	ptr, idx, label, scale := s.ar.Ints(roots.Ptr), s.ar.Ints(roots.Idx), s.ar.Ints(roots.Label),
		s.ar.Floats(rootScales(roots))
	aggregated := s.ar.F32(size * w)                         // [size, w]
	product, gates := s.ar.F32(size*2*w), s.ar.F32(size*2*w) // [size, 2w]
	weight := gemm.Pack(s.p, s.weight(name+".weight"), 2*w, w, false)
	return func(b, e int, out *exec.Buffer) {
		m := exec.Fixed(e - b)
		graph.Gather{Out: aggregated, In: h, Rows: m, Width: w, Ptr: ptr.Slice(b, e-b+1), Idx: idx,
			Weight: scale}.Record(s.p)
		gemm.Record(s.p, gemm.Op{C: product, A: aggregated, Packed: weight, M: m, N: 2 * w, K: w})
		g := tables
		g.Rows, g.Label, g.Aggregated, g.Product, g.Gates, g.Out = m, label.Slice(b, e-b), aggregated,
			product, gates, out
		g.Record(s.p)
	}
}

// gatedTables is a gated unit with the tables of one direction.
func (s *pass) gatedTables(name string) graph.Gated {
	table := s.weight
	if s.lay.places != nil {
		table = s.summed
	}
	return graph.Gated{Width: s.Width, Table: table(name + ".operation"), Scale: table(name + ".scale")}
}

// rootScales is the factor of each edge: one over the square root of the number of rows that its row aggregates, so
// that the variance of a sum does not grow with their number.
func rootScales(f *Forest) []float32 {
	scale := make([]float32, len(f.Idx))
	for r := range f.Rows() {
		for e := f.Ptr[r]; e < f.Ptr[r+1]; e++ {
			scale[e] = float32(1 / math.Sqrt(float64(f.Ptr[r+1]-f.Ptr[r])))
		}
	}
	return scale
}

// swept is the result of a sweep: its rows and, in training, the gradient in them, to which readers add [rows, Width].
type swept struct{ h, dh *exec.Buffer }

// sweep records one direction of the gated encoder: level by level, a row sums the rows that it aggregates, scaled, and
// passes the sum through the gated unit.
func (s *pass) sweep(f *Forest, name string) swept {
	w, n := s.Width, f.Rows()
	h := s.ar.F32(n * w) // [n, w]
	tables := s.gatedTables(name)
	weight := s.weight(name + ".weight")
	ptr, idx, label := s.ar.Ints(f.Ptr), s.ar.Ints(f.Idx), s.ar.Ints(f.Label)
	scale := rootScales(f)
	scaleBuf := s.ar.Floats(scale)
	size := n
	if s.chunk > 0 && !s.train() {
		size = min(n, s.chunk)
	}
	aggregated := s.ar.F32(size * w)                         // [size, w]
	product, gates := s.ar.F32(size*2*w), s.ar.F32(size*2*w) // [size, 2w]
	unit := func(b, e int) graph.Gated {
		g := tables
		g.Rows, g.Label, g.Out = exec.Fixed(e-b), label.Slice(b, e-b), rows(h, b, e, w)
		at := b
		if size < n {
			at = 0
		}
		g.Gates = rows(gates, at, at+e-b, 2*w)
		if b >= int(f.Start[1]) {
			g.Aggregated, g.Product = rows(aggregated, at, at+e-b, w), rows(product, at, at+e-b, 2*w)
		}
		return g
	}
	for l := range f.Levels() {
		begin, end := f.Level(l)
		s.chunks(begin, end, func(b, e int) {
			g := unit(b, e)
			if l > 0 {
				graph.Gather{Out: g.Aggregated, In: h, Rows: g.Rows, Width: w, Ptr: ptr.Slice(b, e-b+1), Idx: idx,
					Weight: scaleBuf}.Record(s.p)
				gemm.Record(s.p, gemm.Op{C: g.Product, A: g.Aggregated, B: weight, M: g.Rows, N: 2 * w, K: w})
			}
			g.Record(s.p)
		})
	}
	if !s.train() {
		return swept{h: h}
	}
	dh := s.ar.F32(n * w) // [n, w]
	s.deferBackward(func() {
		daggregated, dproduct := s.ar.F32(n*w), s.ar.F32(n*2*w) // [n, w], [n, 2w]
		tptr, tidx, tscale := transposeWeighted(f.Ptr, f.Idx, scale, n)
		tp, ti, ts := s.ar.Ints(tptr), s.ar.Ints(tidx), s.ar.Floats(tscale)
		for l := f.Levels() - 1; l >= 0; l-- {
			b, e := f.Level(l)
			m := exec.Fixed(e - b)
			if l < f.Levels()-1 {
				graph.Gather{Out: rows(dh, b, e, w), In: daggregated, Rows: m, Width: w, Ptr: tp.Slice(b, e-b+1),
					Idx: ti, Weight: ts, Accumulate: true}.Record(s.p)
			}
			g := unit(b, e)
			if l == 0 {
				g.RecordBackward(s.p, rows(dh, b, e, w), nil, nil)
				continue
			}
			g.RecordBackward(s.p, rows(dh, b, e, w), rows(dproduct, b, e, 2*w), rows(daggregated, b, e, w))
			gemm.Record(s.p, gemm.Op{C: rows(daggregated, b, e, w), A: rows(dproduct, b, e, 2*w), B: weight, M: m, N: w,
				K: 2 * w, TransB: true, Accumulate: true})
		}
		first := int(f.Start[1])
		gemm.Record(s.p, gemm.Op{C: s.gradient(name + ".weight"), A: rows(aggregated, first, n, w),
			B: rows(dproduct, first, n, 2*w), M: exec.Fixed(n - first), N: 2 * w, K: w, TransA: true})
		// An operation's rows of the tables are used by every row with that operation; the scale only
		// by rows that aggregate others.
		k := tables.Table.Len() / (2 * w)
		byLabel := func(grad string, from *exec.Buffer, first int) {
			labelPtr := make([]int32, n-first+1)
			for i := range labelPtr {
				labelPtr[i] = int32(i)
			}
			lptr, lidx := transpose(labelPtr, f.Label[first:], k)
			out := s.gradient(name + grad)
			if s.lay.places != nil {
				out = s.ar.F32(k * 2 * w)
			}
			graph.Gather{Out: out, In: rows(from, first, n, 2*w), Rows: exec.Fixed(k), Width: 2 * w,
				Ptr: s.ar.Ints(lptr), Idx: s.ar.Ints(lidx)}.Record(s.p)
			if s.lay.places != nil {
				s.summedBackward(name+grad, out)
			}
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
