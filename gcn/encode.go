package gcn

import "github.com/ctnas/ctnas/kernels/exec"

// Encoding is what a network needs of a set of graphs: the shared unfolding trees of each direction, and the graphs'
// features.
type Encoding struct {
	N        int       // graphs
	Forests  []*Forest // of each direction: one of a layered network, two of a gated one
	Features []float32 // [N, features]; empty where the network uses none
	Scale    *Standard // standardises the features; nil: they are standardised
	// Counts are how many nodes of each operation there are [N, operations], and CountScale standardises them; empty
	// where the network has no linear term.
	Counts     []float32
	CountScale *Standard
}

// Encode prepares graphs for the network. features is [N, features], standardised already, or nil. plain keeps equal
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

// upload returns a multiple of standardised rows, such as features [N, features], in an arena's memory. It never holds
// a second copy of a whole space's beside it.
func upload(ar *exec.Arena, values []float32, scale *Standard, by float32) *exec.Buffer {
	if scale == nil {
		return ar.Floats(scaled(values, by))
	}
	b := ar.F32(len(values))
	width := len(scale.Mean)
	piece := 4096 * width
	for at := 0; at < len(values); at += piece {
		b.WriteF32(at, scaled(scale.apply(values[at:min(at+piece, len(values))]), by))
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

// alphabetSize is the number of rows of the operations' table. With padding there is one operation more.
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
	w, g   *exec.Buffer // the parameters and their gradient [lay.size]; g is nil when only scoring
	e      *Encoding
	n      exec.Dim     // graphs; e.N at most
	packed *exec.Buffer // the graphs for graph.Encode [N] of two integers each; nil: e's forests are used
	chunk  int          // rows whose temporaries live at once when only scoring; 0: all
	seed   uint64       // of dropout
	step   *exec.Buffer // integer on which dropout depends [1]

	score, dscore *exec.Buffer // [N, heads]
	dnext         *exec.Buffer // layered backward: the gradient in the output of the round below [its rows, Width]
	deferred      []func()     // what records the backward operations, run from the last to the first
}

func (s *pass) train() bool { return s.g != nil }

func (s *pass) weight(name string) *exec.Buffer { return s.lay.part(s.w, name) }

func (s *pass) gradient(name string) *exec.Buffer { return s.lay.part(s.g, name) }

// backward records the gradient of everything that forward recorded, given dscore.
func (s *pass) backward() {
	for i := len(s.deferred) - 1; i >= 0; i-- {
		s.deferred[i]()
	}
}

// deferBackward queues what records backward operations, in training. What was queued last is recorded first.
func (s *pass) deferBackward(f func()) {
	if s.train() {
		s.deferred = append(s.deferred, f)
	}
}

// chunks splits rows [begin, end) into pieces whose temporaries fit the chunk, and calls f for each.
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

// rows is rows [b, e) of a buffer [rows, width].
func rows(buf *exec.Buffer, b, e, width int) *exec.Buffer { return buf.Slice(b*width, (e-b)*width) }
