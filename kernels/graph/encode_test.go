package graph_test

import (
	"fmt"
	"testing"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

// randomPacked draws graphs of one to eight nodes, as words of a buffer too.
func randomPacked(n, alphabet int, stream uint32) (graphs []uint64, words []int32) {
	s := philox.New(3, philox.PurposeTest, stream)
	for i := range n {
		ops := make([]uint8, 1+(i+s.Intn(3))%8)
		var edges [][2]uint8
		for v := range ops {
			ops[v] = uint8(s.Intn(alphabet))
			for u := range v {
				if s.Intn(5) < 2 {
					edges = append(edges, [2]uint8{uint8(u), uint8(v)})
				}
			}
		}
		g, ok := Pack(ops, edges)
		if !ok {
			panic("a graph that does not fit")
		}
		graphs = append(graphs, g)
	}
	return graphs, Words(graphs)
}

// encodeCase is an Encode without its buffers; layout gives it offsets with gaps between the tensors.
type encodeCase struct {
	n       int
	e       Encode
	bias    bool
	dynamic bool
}

func (c *encodeCase) layout() (size int) {
	place := func(n int) int {
		off := size
		size += n + 4
		return off
	}
	w := c.e.Width
	c.e.Embedding, c.e.Matrices, c.e.Biases = place(c.e.Alphabet*w), nil, nil
	for range c.e.Layers {
		c.e.Matrices = append(c.e.Matrices, place(w*w))
		if c.bias {
			c.e.Biases = append(c.e.Biases, place(w))
		}
	}
	c.e.Head = place(c.e.Heads * w)
	return size
}

func (c *encodeCase) weights(stream uint32) ([]float32, []float64) {
	w, w64 := kerneltest.Random(c.layout(), stream)
	// A layer sums some three rows of Width products: keep the rows' size about the same.
	for _, m := range c.e.Matrices {
		for i := range c.e.Width * c.e.Width {
			w[m+i] *= 0.1
			w64[m+i] = float64(w[m+i])
		}
	}
	return w, w64
}

func encodeCases() []encodeCase {
	released := func(n, w int) encodeCase {
		return encodeCase{n, Encode{Alphabet: 6, Width: w, Layers: 4, Heads: 2, Pad: 7, Residual: true}, true, false}
	}
	paper := func(n, w int) encodeCase {
		return encodeCase{n, Encode{Alphabet: 5, Width: w, Layers: 2, Heads: 2, LinearLast: true}, false, true}
	}
	return []encodeCase{
		released(5, 16), released(37, 48), released(21, 64), released(9, 128),
		paper(3, 16), paper(33, 64), paper(19, 80), paper(17, 128),
		{1, Encode{Alphabet: 1, Width: 16, Layers: 1, Heads: 1}, false, false},
		{70, Encode{Alphabet: 8, Width: 32, Layers: 1, Heads: 1, Pad: 8}, true, true},
		{23, Encode{Alphabet: 8, Width: 48, Layers: 3, Heads: 1, Residual: true, LinearLast: true}, true, false},
		{11, Encode{Alphabet: 3, Width: 256, Layers: 2, Heads: 1, Residual: true, Pad: 3}, false, true},
		{40, Encode{Alphabet: 5, Width: 16, Layers: 8, Heads: 2, Residual: true}, true, true},
	}
}

// checkEncode compares scores and all gradients with the reference.
func checkEncode(t *testing.T, d *exec.Device, c encodeCase, stream uint32, tol float64) {
	ar := d.NewArena()
	defer ar.Free()
	w, w64 := c.weights(stream)
	more := c.n + 3 // graphs beyond the count must not matter
	graphs, words := randomPacked(more, c.e.Alphabet-min(c.e.Pad, 1)*min(1, c.e.Alphabet-1), stream)
	dscore, dscore64 := kerneltest.Random(more*c.e.Heads, stream+1)
	e := c.e
	e.N, e.Graphs = exec.Fixed(c.n), ar.Ints(words)
	if c.dynamic {
		e.N = exec.Dynamic(ar.Ints([]int32{int32(c.n)}), more)
	}
	e.W, e.G, e.Score, e.DScore = ar.Floats(w), ar.Floats(w), ar.F32(len(dscore)), ar.Floats(dscore)
	p := ar.NewProgram("encode")
	e.Record(p).RecordBackward(p)
	p.Run(2) // the second run finds what the first left
	score, grad := EncodeReference(e, graphs[:c.n], w64, dscore64)
	kerneltest.Close(t, score, e.Score.Values()[:c.n*e.Heads], tol, "score")
	got := e.G.Values()
	part := func(name string, off, n int) {
		kerneltest.Close(t, grad[off:off+n], got[off:off+n], tol, name)
		for i := off + n; i < off+n+4; i++ {
			require.Equal(t, w[i], got[i], "%s: element %d behind it", name, i-off-n)
		}
	}
	part("embedding", e.Embedding, e.Alphabet*e.Width)
	part("head", e.Head, e.Heads*e.Width)
	for k := range e.Layers {
		part(fmt.Sprint("matrix ", k), e.Matrices[k], e.Width*e.Width)
		if c.bias {
			part(fmt.Sprint("bias ", k), e.Biases[k], e.Width)
		}
	}
	// Only scoring, from the same weights.
	only := e
	only.G, only.DScore, only.Score = nil, nil, ar.F32(len(dscore))
	q := ar.NewProgram("score")
	only.Record(q)
	q.Run(1)
	require.Equal(t, e.Score.Values()[:c.n*e.Heads], only.Score.Values()[:c.n*e.Heads])
}

func TestEncode(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, c := range encodeCases() {
			t.Run(fmt.Sprintf("%d/%+v", c.n, c.e), func(t *testing.T) { checkEncode(t, d, c, uint32(100*i), 2e-5) })
		}
	})
}
