package sim_test

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/sim"
)

// hopperArgs is selftest_hopper.h's ctn_selftest_hopper_args.
type hopperArgs struct {
	image           [cuda.ImageMapBytes]byte
	out, x, y       unsafe.Pointer
	m, n, k, c, pix int32
	_               [20]byte
}

// halves is n random bfloat16 and their values.
func halves(n int, stream uint32) ([]uint16, []float64) {
	_, x := kerneltest.Random(n, stream)
	b := make([]uint16, n)
	for i := range x {
		b[i] = bf16(x[i])
		x[i] = fromBF16(b[i])
	}
	return b, x
}

func transposed[T any](x []T, rows int) []T {
	out, columns := make([]T, len(x)), len(x)/rows
	for i := range x {
		out[i%columns*rows+i/columns] = x[i]
	}
	return out
}

// eachHopper is each where the instructions of compute capability 9.0 are.
func eachHopper(t *testing.T, f func(t *testing.T, d *Device)) {
	if !HasHopper() {
		t.Skip("these are instructions of compute capability 9.0")
	}
	each(t, f)
}

func TestWarpgroupProducts(t *testing.T) {
	eachHopper(t, func(t *testing.T, d *Device) {
		const m, n, k = 64, 128, 128
		x, x64 := halves(m*k, 20)
		y, y64 := halves(k*n, 21)
		want := product(x64, y64, m, n, k)
		for i, name := range []string{"", "_x", "_y", "_xy"} {
			left, right := x, transposed(y, k)
			if i&1 != 0 {
				left = transposed(x, m)
			}
			if i&2 != 0 {
				right = y
			}
			a := hopperArgs{out: poisoned(t, d, m*n), x: upload(t, d, left), y: upload(t, d, right), k: k}
			require.NoError(t, run(t, d, "ctn_selftest_wgmma"+name, [3]int{1, 1, 1}, 128, 25<<10+1024, a))
			kerneltest.Close(t, want, download[float32](t, d, a.out, m*n), 1e-6, "product"+name)
			for _, p := range []unsafe.Pointer{a.out, a.x, a.y} {
				d.Free(p)
			}
		}
	})
}

func TestImageCopies(t *testing.T) {
	const n, h, w, c, ld, pixels, copies, c0 = 2, 3, 5, 70, 80, 24, 5, 16
	eachHopper(t, func(t *testing.T, d *Device) {
		z, z64 := halves(n*h*w*ld, 22)
		for i := range z64 {
			if i%ld >= c {
				z[i], z64[i] = 0xffff, math.NaN()
			}
		}
		y, y64 := halves(8, 23)
		a := hopperArgs{out: poisoned(t, d, copies*pixels*64+8), x: upload(t, d, z), y: upload(t, d, y), m: h, n: w,
			k: copies, c: c0, pix: pixels}
		require.NoError(t, ImageMap(unsafe.Pointer(&a.image), cuda.ImageMap{Z: a.x, N: n, H: h, W: w, C: c, LD: ld,
			Lower: [2]int{-1, -1}, Upper: [2]int{-1, -1}, Pixels: pixels}))
		require.NoError(t, run(t, d, "ctn_selftest_copies", [3]int{1, 1, 1}, 64, 2*pixels*128+1024, a))
		want := make([]float64, copies*pixels*64)
		for i := range want {
			copied, p, j := i/64/pixels, i/64, i%64
			image, row, column := p/(h*w), p/w%h-1+copied/3%3, p%w-1+copied%3
			if image < n && row >= 0 && row < h && column >= 0 && column < w && c0+j < c {
				want[i] = z64[((image*h+row)*w+column)*ld+c0+j]
			}
		}
		got := download[float32](t, d, a.out, copies*pixels*64+8)
		kerneltest.Close(t, append(want, y64...), got, 1e-9, "copies")
		for _, p := range []unsafe.Pointer{a.out, a.x, a.y} {
			d.Free(p)
		}
	})
}

func TestBadImageMaps(t *testing.T) {
	var room [cuda.ImageMapBytes]byte
	d := Open(Config{})
	z := poisoned(t, d, 32)
	defer d.Free(z)
	good := cuda.ImageMap{Z: z, N: 1, H: 2, W: 2, C: 3, LD: 8, Pixels: 4}
	require.NoError(t, ImageMap(unsafe.Pointer(&room), good))
	for want, change := range map[string]func(m *cuda.ImageMap){
		"not on a multiple of 16 bytes":    func(m *cuda.ImageMap) { m.Z = unsafe.Add(z, 8) },
		"not a multiple of 16 bytes apart": func(m *cuda.ImageMap) { m.LD = 12 },
		"without elements":                 func(m *cuda.ImageMap) { m.N = 0 },
		"whose pixels overlap":             func(m *cuda.ImageMap) { m.C = 9 },
		"more than 1,024 pixels":           func(m *cuda.ImageMap) { m.Pixels = 1025 },
		"more than 128 pixels beside":      func(m *cuda.ImageMap) { m.Lower[1] = -129 },
		"an empty box":                     func(m *cuda.ImageMap) { m.Upper[0] = -2 },
	} {
		bad := good
		change(&bad)
		require.ErrorContains(t, ImageMap(unsafe.Pointer(&room), bad), want)
	}
}

// What the hardware does not forgive is reported by name, in every order.
func TestHopperFailures(t *testing.T) {
	for _, c := range []struct {
		m, block int
		want     string
	}{
		{0, 64, "a copy to a barrier that no fence_async has followed"},
		{1, 64, "16 bytes more than were announced came in phase 0 of the barrier at"},
		{2, 64, "waits for phase 0, of which 0 arrivals and 16 bytes are missing, of the barrier at"},
		{3, 64, "bulk_copy of 32 bytes, not all of it multiples of 16"},
		{4, 64, "bulk_copy of 32 bytes, not all of it multiples of 16"},
		{5, 64, "two copies to one place are under way"},
		{6, 64, "mbarrier_arrive more often than 1 times in phase 0"},
		{7, 64, "of a barrier that was overwritten"},
		{8, 64, "mbarrier_init of a barrier that is one already"},
		{9, 64, "1 bulk copies are under way at the end"},
		{11, 64, "mbarrier_wait for parity 0 where phase 1 is next"},
		{12, 64, "shared_address of what is not dynamic shared memory"},
		{13, 64, "mbarrier_wait has missed the end of phase 0"},
		{14, 64, "at part_barrier 1 for 32 threads"},
		{15, 64, "mbarrier_wait of a barrier that was not made"},
		{20, 32, "bulk_image to an address that is not a multiple of 1,024"},
		{21, 32, "bulk_image with what is no map"},
		{22, 32, "bulk_image from (-1, -2), outside of the map's box"},
		{23, 32, "bulk_image moved by (0, -1)"},
		{30, 128, "wgmma: matrix B does not begin in the first row of a block of 1,024 bytes"},
		{31, 128, "wgmma of what no copy and no fence_async has left in shared memory"},
		{32, 128, "wgmma without a wgmma_fence after its sums were free to be touched"},
		{33, 128, "wgmma of one thread is not that of the others of its warpgroup"},
		{34, 128, "wgmma: matrix A with a stride of 128 bytes"},
		{35, 128, "wgmma: matrix B is not a matrix_at"},
		{38, 128, "1 products are under way at the end"},
		{39, 128, "wgmma without a wgmma_fence after its sums were free to be touched"},
		{40, 128, "in wgmma_wait for 96 threads of its warpgroup"},
		{32, 96, "wgmma by a warpgroup of less than 128 threads"},
	} {
		t.Run(fmt.Sprintf("%d/%d", c.m, c.block), func(t *testing.T) {
			each(t, func(t *testing.T, d *Device) {
				a := broken(t, d, c.m)
				require.ErrorContains(t, run(t, d, "ctn_broken_hopper", [3]int{1, 1, 1}, c.block, 17<<10, a), c.want)
				d.Free(a.out)
				d.Free(a.x)
			})
		})
	}
}

func broken(t *testing.T, d *Device, m int) hopperArgs {
	a := hopperArgs{out: poisoned(t, d, 128), x: upload(t, d, make([]uint16, 1024)), m: int32(m)}
	require.NoError(t, ImageMap(unsafe.Pointer(&a.image), cuda.ImageMap{Z: a.x, N: 1, H: 2, W: 2, C: 64, LD: 64,
		Lower: [2]int{-1, -1}, Upper: [2]int{-1, -1}, Pixels: 8}))
	return a
}

// A copy that is not waited for, and products of a group that is not closed or not waited for, leave NaN.
func TestHopperPoison(t *testing.T) {
	each(t, func(t *testing.T, d *Device) {
		for m, want := range map[int]string{10: "", 36: "1 products are under way at the end",
			37: "1 products are under way at the end"} {
			d := Open(Config{})
			block := 128
			if m == 10 {
				block = 64
			}
			a := broken(t, d, m)
			err := run(t, d, "ctn_broken_hopper", [3]int{1, 1, 1}, block, 17<<10, a)
			if want == "" {
				require.NoError(t, err)
				for _, v := range download[float32](t, d, a.out, block) {
					require.True(t, v != v)
				}
			} else {
				require.ErrorContains(t, err, want)
			}
			d.Free(a.out)
			d.Free(a.x)
		}
	})
}
