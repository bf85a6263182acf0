package gcn

import (
	"math/bits"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
)

// fused tells whether a device has this network's layers as one operation each. An accelerator has: graph.Encode in
// training, where the graphs fit, and graph.Layer in scoring. The CPU shares equal parts in training, too, which saves
// it more.
func (n Network) fused(dev *exec.Device) bool {
	return dev.Accelerated() && n.Kind == LayeredGCN && n.Width%16 == 0 && n.Width <= 256 && n.Layers >= 1 &&
		n.Layers <= 8 && n.Pad <= 8
}

// pack returns graphs packed for training. It returns nil where they are trained by their shared parts: on the CPU, and
// where one has more than eight nodes or operations.
func (n Network) pack(dev *exec.Device, graphs []Graph, alphabet int) []uint64 {
	if !n.fused(dev) || n.alphabetSize(alphabet) > 8 {
		return nil
	}
	out := make([]uint64, 0, len(graphs))
	for _, g := range graphs {
		packed, ok := g.pack(alphabet)
		if !ok {
			return nil
		}
		out = append(out, packed)
	}
	return out
}

// pack is graph.Pack, for a graph that Check accepts and that names no edge twice: a neighbour that is
// named twice is aggregated twice.
func (g Graph) pack(alphabet int) (uint64, bool) {
	packed, ok := graph.Pack(g.Ops, g.Edges)
	return packed, ok && g.Check(alphabet) == nil && bits.OnesCount64(packed&(1<<28-1)) == len(g.Edges)
}

// packedGraphs records the network over packed graphs.
func (s *pass) packedGraphs() {
	off := func(name string) int { return s.lay.get(name).off }
	e := graph.Encode{N: s.n, Graphs: s.packed, Alphabet: s.lay.get("embedding.weight").shape[0], Width: s.Width,
		Layers: s.Layers, Heads: s.heads(), Pad: s.Pad, Residual: s.Residual, LinearLast: s.LinearLast, W: s.w, G: s.g,
		Embedding: off("embedding.weight"), Head: off("fc.weight"), Score: s.score, DScore: s.dscore}
	for k := range s.Layers {
		e.Matrices = append(e.Matrices, off(layerName(k)+".weight"))
		if s.Bias {
			e.Biases = append(e.Biases, off(layerName(k)+".bias"))
		}
	}
	encoded := e.Record(s.p)
	s.deferBackward(func() { encoded.RecordBackward(s.p) })
}

// sharedRows records the scoring of shared rows, round by round: a round leaves the products that the next one sums.
func (s *pass) sharedRows() {
	f, w := s.e.Forests[0], s.Width
	ptr, idx, self := s.ar.Ints(f.Ptr), s.ar.Ints(f.Idx), s.ar.Ints(f.Self)
	begin, end := f.Level(0)
	l := graph.Layer{Rows: exec.Fixed(end), Width: w, Table: s.weight("embedding.weight")}
	for k := range s.Layers {
		l.Matrix, l.Out = s.weight(layerName(k)+".weight"), graph.LayerRows(s.ar, end-begin, w)
		if s.Residual {
			l.OutOwn = graph.LayerRows(s.ar, end-begin, w)
		}
		l.Record(s.p)
		below := l
		first := begin
		begin, end = f.Level(k + 1)
		l = graph.Layer{Rows: exec.Fixed(end - begin), Width: w, Ptr: ptr.Slice(begin, end-begin+1), Idx: idx,
			Self: self.Slice(begin, end-begin), First: first, In: below.Out, Own: below.OutOwn,
			Relu: k < s.Layers-1 || !s.LinearLast}
		if s.Bias {
			l.Bias = s.weight(layerName(k) + ".bias")
		}
	}
	l.Head, l.Heads, l.Score = s.weight("fc.weight"), s.heads(), s.ar.F32((end-begin)*s.heads())
	l.Record(s.p)
	s.mean(l.Score)
}
