package graph_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
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
		{1, Encode{Alphabet: 2, Width: 256, Layers: 1, Heads: 1}, true, false},
		{70, Encode{Alphabet: 8, Width: 32, Layers: 1, Heads: 1, Pad: 8}, true, true},
		{23, Encode{Alphabet: 8, Width: 48, Layers: 3, Heads: 1, Residual: true, LinearLast: true}, true, false},
		{11, Encode{Alphabet: 3, Width: 256, Layers: 2, Heads: 1, Residual: true, Pad: 3}, false, true},
		{40, Encode{Alphabet: 5, Width: 16, Layers: 8, Heads: 2, Residual: true}, true, true},
	}
}

// checkEncode compares scores and all gradients with the reference.
func checkEncode(t *testing.T, d *exec.Device, c encodeCase, stream uint32, tol float64, round func(float64) float64) {
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
	want := kerneltest.Once(fmt.Sprint("encode ", stream, round != nil), func() [2][]float64 {
		score, grad := EncodeReference(e, graphs[:c.n], w64, dscore64, round)
		return [2][]float64{score, grad}
	})
	score, grad := want[0], want[1]
	kerneltest.Close(t, score, e.Score.Values()[:c.n*e.Heads], tol, "score")
	got := e.G.Values()
	part := func(name string, off, n int) {
		kerneltest.Close(t, grad[off:off+n], got[off:off+n], tol, name)
		var square, wrong float64
		for i, v := range grad[off : off+n] {
			square += v * v
			wrong += (v - float64(got[off+i])) * (v - float64(got[off+i]))
		}
		require.LessOrEqual(t, wrong, square*tol*tol/16, name)
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
			t.Run(fmt.Sprintf("%d/%+v", c.n, c.e), func(t *testing.T) {
				checkEncode(t, d, c, uint32(100*i), 2e-5, nil)
			})
		}
	})
}

// toBF16 rounds to eight bits of mantissa, ties to even.
func toBF16(x float64) float64 {
	bits := math.Float32bits(float32(x))
	return float64(math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff))
}

// The reference repeats the kernels' rounding, but sums exactly: where a sum lies between two bf16 numbers the kernels
// may take the other one, 2^-8 away, which is more for the few terms of a small gradient. As a whole a gradient is four
// times closer.
func TestEncodeBF16(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, c := range encodeCases() {
			t.Run(fmt.Sprintf("%d/%+v", c.n, c.e), func(t *testing.T) {
				checkEncode(t, d, c, uint32(100*i), 1.0/64, toBF16)
			})
		}
	})
}

// Every weight's derivative against central differences.
func TestEncodeReferenceGradient(t *testing.T) {
	for i, c := range []encodeCase{
		{4, Encode{Alphabet: 3, Width: 4, Layers: 3, Heads: 2, Pad: 5, Residual: true}, true, false},
		{3, Encode{Alphabet: 2, Width: 5, Layers: 2, Heads: 1, LinearLast: true}, false, false},
	} {
		_, w := c.weights(uint32(i))
		graphs, _ := randomPacked(c.n, c.e.Alphabet, uint32(i))
		_, dscore := kerneltest.Random(c.n*c.e.Heads, uint32(i+10))
		_, grad := EncodeReference(c.e, graphs, w, dscore, nil)
		kerneltest.Gradient(t, func(x []float64) float64 {
			score, _ := EncodeReference(c.e, graphs, x, nil, nil)
			sum := 0.0
			for i, v := range score {
				sum += v * dscore[i]
			}
			return sum
		}, w, grad, 1e-6, "encode")
	}
}

// No graphs: no scores are written, and the gradient is zero.
func TestEncodeNothing(t *testing.T) {
	check := func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		c := encodeCase{e: Encode{Alphabet: 5, Width: 32, Layers: 2, Heads: 2}, bias: true}
		w, _ := c.weights(1)
		e := c.e
		_, words := randomPacked(3, 5, 1)
		e.N, e.Graphs = exec.Dynamic(ar.Ints([]int32{0}), 3), ar.Ints(words)
		e.W, e.G, e.Score, e.DScore = ar.Floats(w), ar.Zeros(len(w)), ar.Floats([]float32{1, 2, 3, 4, 5, 6}), ar.F32(6)
		p := ar.NewProgram("nothing")
		e.Record(p).RecordBackward(p)
		p.Run(1)
		require.Equal(t, []float32{1, 2, 3, 4, 5, 6}, e.Score.Values())
		require.Equal(t, make([]float32, len(w)), e.G.Values())
	}
	kerneltest.EachDevice(t, check)
	kerneltest.EachTensorCore(t, check)
}

// A graph of one node that is padding through and through, and words that Pack does not make, stay within the buffers.
func TestEncodeForeignWords(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		c := encodeCase{e: Encode{Alphabet: 3, Width: 16, Layers: 2, Heads: 1}}
		w, _ := c.weights(1)
		e := c.e
		e.N, e.Graphs = exec.Fixed(2), ar.Ints([]int32{-1, -1, 0, 0})
		e.W, e.Score = ar.Floats(w), ar.F32(2)
		p := ar.NewProgram("foreign")
		e.Record(p)
		p.Run(1)
		require.False(t, math.IsNaN(float64(e.Score.Values()[0])))
		require.Zero(t, e.Score.Values()[1], "a graph without nodes")
	})
}

func TestEncodeRefuses(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	good := encodeCase{e: Encode{Alphabet: 3, Width: 16, Layers: 2, Heads: 1}}
	size := good.layout()
	for name, spoil := range map[string]func(e *Encode){
		"width":    func(e *Encode) { e.Width = 20 },
		"layers":   func(e *Encode) { e.Layers = 9 },
		"heads":    func(e *Encode) { e.Heads = 3 },
		"alphabet": func(e *Encode) { e.Alphabet = 9 },
		"padding":  func(e *Encode) { e.Pad = 9 },
		"matrices": func(e *Encode) { e.Matrices = e.Matrices[:1] },
		"biases":   func(e *Encode) { e.Biases = []int{0} },
		"offset":   func(e *Encode) { e.Head = 2 },
		"end":      func(e *Encode) { e.Head = size },
		"graphs":   func(e *Encode) { e.N = exec.Fixed(3) },
	} {
		e := good.e
		e.N, e.Graphs, e.W, e.Score = exec.Fixed(2), ar.I32(4), ar.F32(size), ar.F32(2)
		require.NotPanics(t, func() { e.Record(ar.NewProgram("good")) })
		spoil(&e)
		require.Panics(t, func() { e.Record(ar.NewProgram("bad")) }, name)
	}
}

// The gradient is summed in one order whoever comes first. There are enough graphs for several parts of the rows.
func TestEncodeSameBits(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		ar := d.NewArena()
		defer ar.Free()
		c := encodeCase{e: Encode{Alphabet: 6, Width: 16, Layers: 3, Heads: 2, Pad: 7, Residual: true}, bias: true}
		const n = 90
		w, _ := c.weights(1)
		_, words := randomPacked(n, 5, 1)
		dscore, _ := kerneltest.Random(n*2, 2)
		e := c.e
		e.N, e.Graphs = exec.Fixed(n), ar.Ints(words)
		e.W, e.G, e.Score, e.DScore = ar.Floats(w), ar.Zeros(len(w)), ar.F32(n*2), ar.Floats(dscore)
		p := ar.NewProgram("encode")
		e.Record(p).RecordBackward(p)
		p.Run(1)
		return append(e.Score.Values(), e.G.Values()...)
	})
}
