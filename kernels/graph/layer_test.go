package graph_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// layerValues reads a buffer of LayerRows.
func layerValues(d *exec.Device, b *exec.Buffer) []float32 {
	values := b.Values()
	if d.Precision() != exec.BF16 {
		return values
	}
	var out []float32
	for _, v := range values {
		bits := math.Float32bits(v)
		out = append(out, math.Float32frombits(bits<<16), math.Float32frombits(bits&0xffff0000))
	}
	return out
}

// Two rounds: a table, and rows that aggregate it, with everything or with little.
func checkLayer(t *testing.T, d *exec.Device, rows, below, width, heads int, variant uint32, tol float64,
	round func(float64) float64) {
	const first = 1000 // as the number of the first row below
	ar := d.NewArena()
	defer ar.Free()
	stream := uint32(rows*1000+width*10) + variant
	table, table64 := kerneltest.Random(below*width, stream)
	m0, m064 := kerneltest.Random(width*width, stream+1)
	m1, m164 := kerneltest.Random(width*width, stream+2)
	bias, bias64 := kerneltest.Random(width, stream+3)
	head, head64 := kerneltest.Random(heads*width, stream+4)
	ptr, idx, self := edges(rows, below, stream)
	for i := range idx {
		idx[i] += first
	}
	for i := range self {
		self[i] += first
	}
	n := exec.Fixed(rows)
	if variant&1 != 0 { // rows behind the count stay as they are
		n = exec.Dynamic(ar.Ints([]int32{int32(rows)}), rows+5)
		for range 5 {
			ptr, self = append(ptr, ptr[rows]), append(self, self[0])
		}
	}
	start := Layer{Rows: exec.Fixed(below), Width: width, Table: ar.Floats(table), Matrix: ar.Floats(m0),
		Out: LayerRows(ar, below, width)}
	l := Layer{Rows: n, Width: width, Ptr: ar.Ints(ptr), Idx: ar.Ints(idx), Self: ar.Ints(self),
		First: first, In: start.Out}
	numbers := make([]int32, below)
	alone := make([]int32, below+1)
	for i := range numbers {
		numbers[i] = int32(i)
	}
	var relevantBias, matrix64, relevantHead []float64
	if variant&2 != 0 {
		start.OutOwn = LayerRows(ar, below, width)
		l.Own, l.Bias, l.Relu = start.OutOwn, ar.Floats(bias), true
		relevantBias = bias64
	}
	if variant&4 != 0 {
		l.OutOwn, l.Matrix, l.Out = LayerRows(ar, n.Max, width), ar.Floats(m1), LayerRows(ar, n.Max, width)
		matrix64 = m164
	}
	if variant&4 == 0 || variant&2 == 0 { // both at once, too
		l.Head, l.Score, l.Heads = ar.Floats(head), ar.F32(n.Max*heads), heads
		relevantHead = head64
	}
	p := ar.NewProgram("layers")
	start.Record(p)
	l.Record(p)
	p.Run(2)
	key := fmt.Sprint("layer ", rows, below, width, heads, variant, round != nil)
	want := kerneltest.Once(key, func() [3][]float64 {
		in, own, _ := LayerReference(nil, table64, width, alone, nil, numbers, 0, nil, m064, nil, false, round)
		if l.Own == nil {
			own = in
		}
		out, outOwn, score := LayerReference(in, own, width, ptr[:rows+1], idx, self[:rows], first, relevantBias,
			matrix64, relevantHead, l.Relu, round)
		return [3][]float64{out, outOwn, score}
	})
	out, outOwn, score := want[0], want[1], want[2]
	part := func(name string, want []float64, values []float32) {
		kerneltest.Close(t, want, values[:len(want)], tol, name)
		for _, v := range values[len(want):] {
			require.True(t, math.IsNaN(float64(v)), "%s behind the count", name)
		}
	}
	if l.Out != nil {
		part("out", out, layerValues(d, l.Out))
		part("out own", outOwn, layerValues(d, l.OutOwn))
	}
	if l.Score != nil {
		part("score", score, l.Score.Values())
	}
}

func eachLayer(t *testing.T, d *exec.Device, tol float64, round func(float64) float64) {
	for _, s := range [][3]int{{1, 1, 16}, {300, 40, 16}, {70, 7, 48}, {130, 33, 64}, {97, 20, 96}, {65, 23, 128},
		{35, 9, 176}, {33, 40, 256}} {
		for variant := range uint32(8) {
			t.Run(fmt.Sprint(s, "/", variant), func(t *testing.T) {
				checkLayer(t, d, s[0], s[1], s[2], 1+int(variant/2)%2, variant, tol, round)
			})
		}
	}
}

func TestLayer(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) { eachLayer(t, d, 2e-5, nil) })
}

// The reference repeats the rounding; a sum between two bf16 numbers may become the other one, 2^-8 away, in each of
// the two rounds.
func TestLayerBF16(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) { eachLayer(t, d, 1.0/64, toBF16) })
}

func TestLayerOfNoRows(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		l := Layer{Rows: exec.Dynamic(ar.Ints([]int32{0}), 4), Width: 16, Table: ar.F32(64), Head: ar.F32(16), Heads: 1,
			Score: ar.F32(4)}
		p := ar.NewProgram("nothing")
		l.Record(p)
		p.Run(1)
		require.True(t, math.IsNaN(float64(l.Score.Values()[0])))
	})
}

func TestLayerRefuses(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	for name, l := range map[string]Layer{
		"width":    {Rows: exec.Fixed(1), Width: 20, Table: ar.F32(20)},
		"heads":    {Rows: exec.Fixed(1), Width: 16, Table: ar.F32(16), Heads: 3},
		"rows":     {Rows: exec.Fixed(2), Width: 16, Table: ar.F32(16)},
		"no input": {Rows: exec.Fixed(1), Width: 16},
		"edges":    {Rows: exec.Fixed(1), Width: 16, In: ar.F32(16), Self: ar.I32(1), Idx: ar.I32(1)},
		"matrix":   {Rows: exec.Fixed(1), Width: 16, Table: ar.F32(16), Out: ar.F32(16), Matrix: ar.F32(16)},
		"address":  {Rows: exec.Fixed(1), Width: 16, Table: ar.F32(32).Slice(1, 31)},
		"score":    {Rows: exec.Fixed(1), Width: 16, Table: ar.F32(16), Head: ar.F32(16), Score: ar.F32(0), Heads: 1},
	} {
		require.Panics(t, func() { l.Record(ar.NewProgram("bad")) }, name)
	}
}
