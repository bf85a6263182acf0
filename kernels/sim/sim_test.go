// An outside package: kerneltest imports the simulator.
package sim_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) {
	if Sanitized() || !CatchesFaults() { // some of the broken kernels would end the process
		os.Exit(m.Run())
	}
	Main(m, Sources)
}

// args is selftest.h's ctn_selftest_args; the integers' struct is ints.
type args struct {
	out, x, y unsafe.Pointer
	m, n, k   int32
}

type ints struct {
	out unsafe.Pointer
	n   int32
}

// each runs f on a device of every order, with one thread and with two.
func each(t *testing.T, f func(t *testing.T, d *Device)) {
	for _, order := range Orders {
		for _, threads := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", order, threads), func(t *testing.T) {
				d := Open(Config{Order: order, Seed: 7, Threads: threads})
				f(t, d)
				require.NoError(t, d.Close())
			})
		}
	}
}

// upload returns a buffer that holds v until the test ends.
func upload[T any](t *testing.T, d *Device, v []T) unsafe.Pointer {
	var zero T
	size := int(unsafe.Sizeof(zero)) * len(v)
	p, err := d.Alloc(size)
	require.NoError(t, err)
	if size > 0 {
		require.NoError(t, d.Write(p, unsafe.Pointer(&v[0]), size))
	}
	return p
}

func download[T any](t *testing.T, d *Device, p unsafe.Pointer, n int) []T {
	v := make([]T, n)
	require.NoError(t, d.Read(unsafe.Pointer(&v[0]), p, n*int(unsafe.Sizeof(v[0]))))
	return v
}

func poisoned(t *testing.T, d *Device, floats int) unsafe.Pointer {
	p, err := d.Alloc(4 * floats)
	require.NoError(t, err)
	return p
}

func run[A any](t *testing.T, d *Device, entry string, grid [3]int, block, shared int, a A) error {
	s, err := d.Sequence([]Launch{{Entry: entry, Grid: grid, Block: block, Shared: shared, Args: unsafe.Pointer(&a),
		Size: int(unsafe.Sizeof(a))}})
	require.NoError(t, err)
	defer s.Free()
	return s.Run(1)
}

func TestProduct(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		for i, tile := range []int{8, 16} {
			m, n, k := 37, 21, 45
			x, x64 := kerneltest.Random(m*k, uint32(i))
			y, y64 := kerneltest.Random(k*n, uint32(i+10))
			a := args{poisoned(t, d, m*n), upload(t, d, x), upload(t, d, y), int32(m), int32(n), int32(k)}
			grid := [3]int{(n + tile - 1) / tile, (m + tile - 1) / tile, 1}
			require.NoError(t, run(t, d, fmt.Sprintf("ctn_selftest_product%d", tile), grid, tile*tile, 0, a))
			kerneltest.Close(t, product(x64, y64, m, n, k), download[float32](t, d, a.out, m*n), 1e-5, "product")
			d.Free(a.out)
			d.Free(a.x)
			d.Free(a.y)
		}
	})
}

func product(x, y []float64, m, n, k int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				out[i*n+j] += x[i*k+l] * y[l*n+j]
			}
		}
	}
	return out
}

func TestSum(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		x, x64 := kerneltest.Random(10007, 1)
		var want float64
		for _, v := range x64 {
			want += v
		}
		a := args{out: upload(t, d, []float32{0}), x: upload(t, d, x), n: int32(len(x))}
		require.NoError(t, run(t, d, "ctn_selftest_sum", [3]int{5, 1, 1}, 96, 0, a))
		kerneltest.Close(t, []float64{want}, download[float32](t, d, a.out, 1), 1e-4, "sum")
		d.Free(a.out)
		d.Free(a.x)
	})
}

// bf16 rounds to the nearest bfloat16, ties to even.
func bf16(x float64) uint16 {
	u := math.Float32bits(float32(x))
	low := u & 0xffff
	u >>= 16
	if low > 0x8000 || low == 0x8000 && u&1 == 1 {
		u++
	}
	return uint16(u)
}

func fromBF16(b uint16) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }

func TestTensorCores(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		k := 80
		_, x := kerneltest.Random(16*k, 2)
		_, y := kerneltest.Random(k*16, 3)
		xb, yb := make([]uint16, len(x)), make([]uint16, len(y))
		for i := range x {
			xb[i], yb[i] = bf16(x[i]), bf16(y[i])
			x[i], y[i] = fromBF16(xb[i]), fromBF16(yb[i])
		}
		a := args{out: poisoned(t, d, 256), x: upload(t, d, xb), y: upload(t, d, yb), k: int32(k)}
		require.NoError(t, run(t, d, "ctn_selftest_bf16", [3]int{1, 1, 1}, 32, 2048, a))
		kerneltest.Close(t, product(x, y, 16, 16, k), download[float32](t, d, a.out, 256), 1e-6, "bf16")

		// bf16 numbers are tf32 numbers too, so only the sums round. The operands are 16 x 8 floats a step.
		k = 40
		xf, yf := make([]float32, 16*k), make([]float32, k*8)
		x64, y64 := make([]float64, 16*k), make([]float64, k*8)
		for i := range xf {
			xf[i], x64[i] = float32(x[i]), x[i]
		}
		for i := range yf {
			yf[i], y64[i] = float32(y[i]), y[i]
		}
		b := args{out: poisoned(t, d, 128), x: upload(t, d, xf), y: upload(t, d, yf), k: int32(k)}
		require.NoError(t, run(t, d, "ctn_selftest_tf32", [3]int{1, 1, 1}, 32, 0, b))
		kerneltest.Close(t, product(x64, y64, 16, 8, k), download[float32](t, d, b.out, 128), 1e-6, "tf32")
		for _, p := range []unsafe.Pointer{a.out, a.x, a.y, b.out, b.x, b.y} {
			d.Free(p)
		}
	})
}

func TestRound(t *testing.T) {
	x, x64 := kerneltest.Random(1000, 4)
	special := []uint32{0, 0x80000000, 0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff, 0x7f800000,
		0xff800000, 1, 0x00008000, 0x00018000}
	for i, u := range special {
		x[i] = math.Float32frombits(u)
		x64[i] = float64(x[i])
	}
	nan := len(special)
	x[nan] = float32(math.NaN())
	each(t, func(t *testing.T, d *Device) {
		a := args{out: poisoned(t, d, len(x)), x: upload(t, d, x), n: int32(len(x))}
		require.NoError(t, run(t, d, "ctn_selftest_round", [3]int{4, 1, 1}, 128, 0, a))
		for i, got := range download[float32](t, d, a.out, len(x)) {
			if i == nan {
				require.True(t, got != got)
				continue
			}
			require.Equal(t, float32(fromBF16(bf16(x64[i]))), got, "%d: %x", i, math.Float32bits(x[i]))
		}
		d.Free(a.out)
		d.Free(a.x)
	})
}

func TestWarp(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		a := ints{out: poisoned(t, d, 64*17)}
		require.NoError(t, run(t, d, "ctn_selftest_warp", [3]int{1, 1, 1}, 64, 0, a))
		got := download[int32](t, d, a.out, 64*17)
		b := func(v bool) int32 {
			if v {
				return 1
			}
			return 0
		}
		const thirds = 0x49249249 // bits 0, 3, 6 ...
		for i := range int32(64) {
			lane, base := i%32, i/32*32
			down := i
			if lane%16 < 13 {
				down = i + 3
			}
			up := i
			if lane >= 3 {
				up = i - 3
			}
			group := int32(0xaa)
			if lane >= 8 {
				group = -0x33333400 // 0xcccccc00: the lanes of 8..31 with bit 1 set
			}
			var ones, zeros, first, reversed int32
			for bit := range 32 {
				ones += int32(uint32(i) * 0x01010101 >> bit & 1)
				if reversed |= int32(uint32(i) >> bit & 1 << (31 - bit)); i>>bit == 0 {
					zeros++
				}
				if first == 0 && i>>bit&1 == 1 {
					first = int32(bit) + 1
				}
			}
			want := []int32{
				base + 5, i/8*8 + 1, up, down, i ^ 16, i ^ 1, thirds, b(base == 32), b(base == 0), group,
				13, 1, 0, ones + 100*zeros + 10000*first, reversed,
				int32(uint64(uint32(i)*0x10001000) * 0x12345678 >> 32), 1,
			}
			for row, w := range want {
				require.Equal(t, w, got[row*64+int(i)], "row %d, thread %d", row, i)
			}
		}
		d.Free(a.out)
	})
}

func TestAtomic(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		a := ints{out: upload(t, d, []int32{0, 500, 500, 0, 0, 0, 0, 0})}
		require.NoError(t, run(t, d, "ctn_selftest_atomic", [3]int{16, 1, 1}, 125, 0, a))
		got := download[int32](t, d, a.out, 8)
		half := math.Float32bits(1000)
		require.Equal(t, []int32{2 * 499500, 0, 999, 2000, 2000 << 20 & 0x7fffffff, 0, 12, int32(half)}, got)
		d.Free(a.out)
	})
}

// rotated is what n steps of a rotation leave in each of size places.
func rotated(size, n int) []int32 {
	out := make([]int32, size)
	for i := range out {
		out[i] = int32((i + n) % size)
	}
	return out
}

func TestRotate(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		a := ints{poisoned(t, d, 1024), 100}
		require.NoError(t, run(t, d, "ctn_selftest_rotate", [3]int{1, 1, 1}, 1024, 0, a))
		require.Equal(t, rotated(1024, 100), download[int32](t, d, a.out, 1024))
		require.NoError(t, run(t, d, "ctn_selftest_rotate_warp", [3]int{1, 1, 1}, 32, 0, a))
		require.Equal(t, rotated(32, 100), download[int32](t, d, a.out, 32))
		d.Free(a.out)
	})
}

// A barrier of 256 threads; and 8 warps with a shuffle each.
func BenchmarkBarrier(b *testing.B)  { rotate(b, "ctn_selftest_rotate", 2) }
func BenchmarkShuffles(b *testing.B) { rotate(b, "ctn_selftest_rotate_warp", 1) }

func rotate(b *testing.B, entry string, each int) {
	d := Open(Config{Threads: 1})
	out, err := d.Alloc(1024)
	require.NoError(b, err)
	a := ints{out, int32(b.N / each)}
	s, err := d.Sequence([]Launch{{Entry: entry, Grid: [3]int{1, 1, 1}, Block: 256, Args: unsafe.Pointer(&a),
		Size: int(unsafe.Sizeof(a))}})
	require.NoError(b, err)
	b.ResetTimer()
	require.NoError(b, s.Run(1))
	s.Free()
	d.Free(out)
}

// failures are launches of broken kernels and what is said about them.
var failures = []struct {
	entry               string
	grid, block, shared int
	m, n                int32
	want                []string
	asan                bool // AddressSanitizer stops the process
	faults              bool // it ends the process unless CatchesFaults
}{
	{entry: "ctn_broken_divergent", block: 64, want: []string{
		"ctn_broken_divergent: block (0,0,0): divergent barrier, 40 of 64 threads wait at __syncthreads (broken.cu:",
		"), thread (40,0,0) waits in __syncwarp with mask ffffffff for lanes 000000ff, the first of which waits at " +
			"__syncthreads"}},
	{entry: "ctn_broken_two_barriers", block: 64, want: []string{
		"divergent barrier, ", " of 64 threads wait at __syncthreads (broken.cu:", "this one at another (broken.cu:"}},
	{entry: "ctn_broken_leaves", block: 64, n: 40, want: []string{
		"divergent barrier, 40 of 64 threads wait at __syncthreads", "24 have left the kernel"}},
	{entry: "ctn_broken_lane_leaves", block: 64, n: 40, want: []string{
		"bad sync mask, thread (32,0,0) waits in __shfl_xor_sync with mask ffffffff for lanes ffffff00, the first of " +
			"which has left the kernel"}},
	{entry: "ctn_broken_lane_leaves", block: 48, n: 48,
		want: []string{"for lanes ffff0000, the first of which does not exist"}},
	{entry: "ctn_broken_mask", block: 32, want: []string{"bad sync mask 0000ffff in __shfl_xor_sync: lane ",
		"is not in it"}},
	{entry: "ctn_broken_source", block: 32,
		want: []string{"__shfl_down_sync reads lane 16, which is not in mask 0000ffff"}},
	{entry: "ctn_broken_functions", block: 32, want: []string{
		"lanes of mask ffffffff meet in different functions", "__ballot_sync", "__syncwarp"}},
	{entry: "ctn_broken_past_end", block: 32, n: 64, asan: true, want: []string{
		"ctn_broken_past_end: wrote 4 bytes past the end of a buffer of 256 bytes"}},
	{entry: "ctn_broken_before_start", block: 32, asan: true,
		want: []string{"wrote 8 bytes before the start of a buffer of 256 bytes"}},
	{entry: "ctn_broken_static_overrun", block: 34, asan: true, want: []string{
		"wrote 8 bytes past the end of a static shared variable of 128 bytes, block (0,0,0)"}},
	{entry: "ctn_broken_dynamic_overrun", block: 64, shared: 252, asan: true, want: []string{
		"wrote 4 bytes past the end of its 252 bytes of dynamic shared memory"}},
	{entry: "ctn_broken_copy", block: 16, shared: 256, n: 1,
		want: []string{"cp_async16 with an address that is not a multiple of 16"}},
	{entry: "ctn_broken_copy", block: 16, shared: 256, m: 1,
		want: []string{"cp_async16 with an address that is not a multiple of 16"}},
	{entry: "ctn_broken_copy", block: 16, shared: 256, n: 4,
		want: []string{"cp_async16 to an address that is not in shared memory"}},
	{entry: "ctn_broken_matrix", block: 32, want: []string{"ldmatrix_x4 from an address that is not in shared memory"}},
	{entry: "ctn_broken_large_static", block: 32,
		want: []string{"49156 bytes of static shared memory, more than 49152"}},
	{entry: "ctn_broken_trap", grid: 2, block: 32,
		want: []string{"ctn_broken_trap: block (1,0,0), thread (3,0,0): trap"}},
	{entry: "ctn_broken_address", block: 32, faults: true, want: []string{
		"ctn_broken_address: block (0,0,0), thread (", "no memory at address 0x"}},
	{entry: "ctn_broken_vector", block: 32, faults: true, want: []string{"a misaligned vector"}},
	{entry: "ctn_broken_divide", block: 32, faults: true, want: []string{"integer division by zero"}},
	{entry: "ctn_broken_stack", grid: 64, block: 64, n: 100, faults: true,
		want: []string{"a thread needs more than 65536 bytes of stack"}},
}

// Each mistake is reported by name, in every order.
func TestFailures(t *testing.T) {
	for _, c := range failures {
		if c.asan && Sanitized() || c.faults && !CatchesFaults() {
			continue
		}
		t.Run(c.entry, func(t *testing.T) {
			each(t, func(t *testing.T, d *Device) {
				a := args{out: poisoned(t, d, 64), x: upload(t, d, make([]float32, 64)), m: c.m, n: c.n}
				err := run(t, d, c.entry, [3]int{max(1, c.grid), 1, 1}, c.block, c.shared, a)
				require.Error(t, err)
				for _, w := range c.want {
					require.Contains(t, err.Error(), w)
				}
				require.Equal(t, err, d.Sync())
				// The device stays failed.
				require.Equal(t, err, run(t, d, "ctn_broken_trap", [3]int{1, 1, 1}, 32, 0, a))
				require.Equal(t, err, d.Write(a.out, a.x, 4))
				d.Free(a.out)
				d.Free(a.x)

				// The next launch starts afresh.
				other := Open(Config{})
				b := args{out: poisoned(t, other, 32)}
				require.NoError(t, run(t, other, "ctn_broken_trap", [3]int{1, 1, 1}, 32, 0, b))
				other.Free(b.out)
			})
		})
	}
}

// A fault of Go code stays Go's.
func TestFaultInGo(t *testing.T) {
	d := Open(Config{})
	a := args{out: poisoned(t, d, 32)}
	require.NoError(t, run(t, d, "ctn_broken_trap", [3]int{1, 1, 1}, 32, 0, a))
	d.Free(a.out)
	var none *Device
	require.PanicsWithError(t, "runtime error: invalid memory address or nil pointer dereference", func() {
		_ = none.Sync()
	})
}

// AddressSanitizer names the line. It ends the process, so each case runs in another one.
func TestAddressSanitizer(t *testing.T) {
	if !Sanitized() {
		t.Skip("the simulator is built without AddressSanitizer")
	}
	const variable = "CTNAS_SIM_BROKEN"
	for _, c := range failures {
		if !c.asan {
			continue
		}
		if os.Getenv(variable) == c.entry {
			d := Open(Config{Threads: 1})
			a := args{out: poisoned(t, d, 64), x: upload(t, d, make([]float32, 64)), m: c.m, n: c.n}
			t.Fatalf("it went on: %v", run(t, d, c.entry, [3]int{1, 1, 1}, c.block, c.shared, a))
		}
		if os.Getenv(variable) == "" {
			command := exec.Command(os.Args[0], "-test.run", "^TestAddressSanitizer$")
			command.Env = append(os.Environ(), variable+"="+c.entry)
			out, err := command.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "AddressSanitizer: heap-buffer-overflow")
			require.Regexp(t, `#0 0x\w+ in `+c.entry+` .*broken\.cu:\d+`, string(out))
		}
	}
}

// Some mistakes show in the results alone: as NaN where nothing was written before it was read.
func TestPoison(t *testing.T) {
	nans := func(t *testing.T, entry string, order Order, grid int) int {
		d := Open(Config{Order: order, Seed: 1, Threads: 1})
		a := args{out: poisoned(t, d, 64), x: upload(t, d, make([]float32, 256))}
		require.NoError(t, run(t, d, entry, [3]int{grid, 1, 1}, 64/grid, 1024, a))
		count := 0
		for _, v := range download[float32](t, d, a.out, 64) {
			if v != v {
				count++
			}
		}
		d.Free(a.out)
		d.Free(a.x)
		require.NoError(t, d.Close())
		return count
	}
	require.Equal(t, []int{0, 63}, []int{nans(t, "ctn_broken_left", Ascending, 1),
		nans(t, "ctn_broken_left", Descending, 1)})
	require.Equal(t, []int{63, 0}, []int{nans(t, "ctn_broken_right", Ascending, 1),
		nans(t, "ctn_broken_right", Descending, 1)})
	require.NotZero(t, nans(t, "ctn_broken_left", Random, 1))
	require.NotZero(t, nans(t, "ctn_broken_right", Random, 1))
	for _, order := range Orders {
		require.Equal(t, 64, nans(t, "ctn_broken_unwritten", order, 1))
		require.Equal(t, 64, nans(t, "ctn_broken_left_over", order, 2))
		require.Equal(t, 64, nans(t, "ctn_broken_no_wait", order, 1))
	}
}

func TestBadLaunches(t *testing.T) {
	a := args{}
	require.ErrorContains(t, run(t, Open(Config{}), "ctn_selftest_product8", [3]int{1, 1, 1}, 65, 0, a),
		"ctn_selftest_product8: a block of 65x1x1 threads, more than 64 or none", "its __launch_bounds__")
	for _, c := range []struct {
		grid          [3]int
		block, shared int
		want          string
	}{
		{[3]int{1, 1, 1}, 1025, 0, "ctn_selftest_sum: a block of 1025x1x1 threads, more than 1024 or none"},
		{[3]int{1, 1, 1}, 0, 0, "ctn_selftest_sum: a block of 0x1x1 threads, more than 1024 or none"},
		{[3]int{1, 1, 1}, -1, 0, "threads, more than 1024 or none"},
		{[3]int{1, 0, 1}, 32, 0, "ctn_selftest_sum: a grid of 1x0x1 blocks"},
		{[3]int{1, 65536, 1}, 32, 0, "ctn_selftest_sum: a grid of 1x65536x1 blocks"},
		{[3]int{1, 1, 1}, 32, 227<<10 + 1, "ctn_selftest_sum: 232449 bytes of shared memory, more than 232448"},
	} {
		require.ErrorContains(t, run(t, Open(Config{}), "ctn_selftest_sum", c.grid, c.block, c.shared, a), c.want)
	}
	d := Open(Config{})
	_, err := d.Sequence([]Launch{{Entry: "ctn_none"}})
	require.EqualError(t, err, "ctn_none: no such entry")
	_, err = d.Sequence([]Launch{{Entry: "ctn_selftest_sum", Args: unsafe.Pointer(&a), Size: 8}})
	require.EqualError(t, err, "ctn_selftest_sum: arguments of 8 bytes, it takes 40")
}

func TestMemory(t *testing.T) {
	d := Open(Config{Order: Descending})
	require.Equal(t, "sim/descending", d.Level())
	p, err := d.Alloc(10)
	require.NoError(t, err)
	require.Zero(t, uintptr(p)%256)
	got := make([]byte, 10)
	require.NoError(t, d.Read(unsafe.Pointer(&got[0]), unsafe.Add(p, 4), 6))
	require.Equal(t, []byte{255, 255, 255, 255, 255, 255, 0, 0, 0, 0}, got)
	require.ErrorContains(t, d.Read(unsafe.Pointer(&got[0]), unsafe.Add(p, 4), 7),
		"a copy of 7 bytes that are not within a buffer")
	require.ErrorContains(t, d.Write(unsafe.Add(p, -1), unsafe.Pointer(&got[0]), 1), "not within a buffer")
	_, err = d.Alloc(-1)
	require.Error(t, err)
	_, err = d.Alloc(0)
	require.NoError(t, err)
	require.EqualError(t, d.Close(), "2 buffers of 10 bytes were not freed")
	require.NoError(t, d.Close())
}

func TestCoverage(t *testing.T) {
	defined, err := Defined(Sources)
	require.NoError(t, err)
	require.Subset(t, Entries(), defined)
	for text, want := range map[string]string{
		"__global__ void f(int x) {":                     "__global__ or CTN_ENTRY 1 times, but 0 entries",
		"CTN_ENTRY(ctn_none, ctn_x a, 32) {":             "ctn_none: not compiled into the simulator",
		"CTN_ENTRY(f, int *x, int n, 32) {\n":            "__global__ or CTN_ENTRY 1 times, but 0 entries",
		"CTN_ENTRY(ctn_none, const ctn_x g, 32, 2)\n{\n": "__global__ or CTN_ENTRY 1 times, but 0 entries",
	} {
		require.ErrorContains(t, Covered(fstest.MapFS{"a.cu": {Data: []byte(text)}}), want)
	}
}
