package exec_test

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// layer records a convolution of so many channels and what a dense layer has around its product, in the arena; it
// returns the program and what it computes.
func layer(a *exec.Arena, channels int) (*exec.Program, *exec.Buffer) {
	c := conv.Conv{In: tensor.Shape{N: 2, H: 5, W: 6, C: channels}, Out: channels + 3, KH: 3, KW: 3, PadH: 1, PadW: 1}
	x, _ := kerneltest.Random(c.In.Len(), uint32(channels))
	w, _ := kerneltest.Random(c.WeightLen(), uint32(channels+1))
	bias, _ := kerneltest.Random(c.Out, uint32(channels+2))
	shape := c.Shape()
	z, out := a.F32(shape.Len()), a.F32(shape.Len())
	p := a.NewProgram(fmt.Sprintf("layer%d", channels))
	conv.Forward{Conv: c, In: tensor.Input{Z: a.Floats(x), Shape: c.In}, Weight: a.Floats(w), Z: z}.Record(p)
	dense.Dense{Rows: exec.Fixed(shape.Pixels()), Width: c.Out, Out: out, In: z, Bias: a.Floats(bias), Relu: true}.
		Record(p)
	return p, out
}

// What is recorded in an arena that was used before gives the bits of a new arena, with a graph and without one.
func TestResetArenaGivesTheSameResults(t *testing.T) {
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		a := d.NewReusable()
		defer a.Free()
		for i, channels := range []int{8, 3, 17, 17, 5} {
			fresh := d.NewArena()
			p, want := layer(fresh, channels)
			p.Run(1)
			a.Reset() // the runs of the last one may be under way
			q, got := layer(a, channels)
			if i%2 == 1 {
				require.Same(t, q, q.Once())
			}
			q.Run(2)
			require.Equal(t, want.Values(), got.Values())
			q.Run(1)
			fresh.Free()
		}
	})
}

func bytesOf(v ...float32) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v)) }

// A write from the host into memory that was used before comes after the runs that still use it.
func TestResetIsOrderedAfterWhatIsInFlight(t *testing.T) {
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		plain := d.NewArena()
		defer plain.Free()
		const n = 6
		kept := plain.F32(n)
		a := d.NewReusable()
		defer a.Free()
		for round := range 3 {
			v := float32(round + 1)
			in := a.F32(n)
			in.UploadBytes(bytesOf(v, v, v, v, v, v))
			p := a.NewProgram("copy")
			dense.Dense{Rows: exec.Fixed(1), Width: n, Out: kept, In: in}.Record(p)
			p.Once().Run(1)
			a.Reset()
			a.F32(n).UploadBytes(make([]byte, 4*n)) // where in was
			require.Equal(t, []float32{v, v, v, v, v, v}, kept.Values())
			a.Reset()
		}
	})
}

func TestProgramsOfAnArenaThatWasResetAreDead(t *testing.T) {
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		a := d.NewReusable()
		for _, end := range []func(){a.Reset, a.Free, a.Free} {
			p, out := layer(a, 4)
			p.Run(1)
			empty := a.NewProgram("empty")
			require.Panics(t, func() { p.Once() }, "it has run")
			end()
			const dead = "exec: program %s, whose arena was reset or freed"
			require.PanicsWithValue(t, fmt.Sprintf(dead, "layer4"), func() { p.Run(1) })
			require.PanicsWithValue(t, fmt.Sprintf(dead, "layer4"), func() { p.Time(1) })
			require.PanicsWithValue(t, fmt.Sprintf(dead, "empty"), func() {
				dense.Dense{Rows: exec.Fixed(1), Width: 3, Out: out, In: out}.Record(empty)
			})
		}
		require.Zero(t, a.Bytes())
	})
}

// Buffers of a reusable arena lie in a few chunks, on 64 bytes or 256, and do not touch.
func TestReusableMemory(t *testing.T) {
	for _, name := range append(kerneltest.Accelerators(), "cpu") {
		d, err := exec.Open(exec.Config{Device: name, Threads: 1})
		require.NoError(t, err)
		align := 64
		if d.Accelerated() {
			align = 256
		}
		a := d.NewReusable()
		var held []int64
		sizes := []int{1, 0, 65, 10_000, 1, 3, 40_000, 17, 300_000, 5}
		for life := range 1000 {
			if life%50 > 2 && d.Accelerated() {
				continue
			}
			type piece struct{ from, to uintptr }
			var pieces []piece
			for i := range sizes {
				n := sizes[(i*7+life)%len(sizes)] / (1 + life*i%3)
				b := a.F32(n)
				at := uintptr(b.Pointer())
				require.Zero(t, at%uintptr(align), "%d elements", n)
				for _, p := range pieces {
					require.True(t, at+uintptr(4*n) <= p.from || p.to <= at, "%d elements", n)
				}
				pieces = append(pieces, piece{at, at + uintptr(max(4*n, 1))})
			}
			held = append(held, a.Bytes())
			a.Reset()
		}
		var most int
		for _, n := range sizes {
			most += 4*n + align
		}
		late := held[20:]
		for _, bytes := range late {
			require.LessOrEqual(t, bytes, int64(most)*5/4+(256<<10), name)
			if d.Level() != "sim/descending/fp32" { // which has memory of its own for each buffer
				require.Equal(t, late[0], bytes, name)
			}
		}
		a.Free()
		d.Close()
	}
}

// New memory of a test holds NaN, also where something else was before.
func TestResetPoisons(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	a := d.NewReusable()
	defer a.Free()
	first := a.Floats([]float32{1, 2, 3})
	at, bytes := first.Pointer(), a.Bytes()
	a.Reset()
	again := a.F32(3)
	require.Equal(t, at, again.Pointer(), "the memory is used again")
	require.Equal(t, bytes, a.Bytes())
	for _, v := range again.Values() {
		require.True(t, math.IsNaN(float64(v)))
	}
	i := make([]int32, 2)
	a.I32(2).ReadI32(0, i)
	require.Equal(t, []int32{-1, -1}, i)
	require.Panics(t, func() { d.NewArena().Reset() }, "such an arena gives its memory back by Free alone")
}
