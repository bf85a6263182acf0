//go:build cuda

package cuda

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// probe gives the test kernels: the real ones where the build compiled them, else four bytes that the fake driver takes
// for a fatbin.
func probe(file string) []byte {
	if file != "probe" {
		return nil
	}
	if image, err := os.ReadFile("testdata/probe.fatbin"); err == nil {
		return image
	}
	return []byte{0x50, 0xed, 0x55, 0xba}
}

// open opens the GPU for one test, which must free what it allocates. Without a GPU, or the fake one, the test is
// skipped.
func open(t testing.TB) *Device {
	t.Helper()
	if _, err := Devices(); err != nil {
		t.Skip(err)
	}
	d, err := Open(0, probe)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

const mark = "CTNAS_TEST_ALONE"

// alone runs the body of a test in a process of its own, with other environment variables ("NAME=value", "NAME" to have
// none).
func alone(t *testing.T, body func(t *testing.T), env ...string) {
	t.Helper()
	if os.Getenv(mark) == t.Name() {
		body(t)
		return
	}
	name := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.Command(os.Args[0], "-test.run", name, "-test.v")
	for _, e := range append(os.Environ(), mark+"="+t.Name()) {
		key, _, _ := strings.Cut(e, "=")
		keep := true
		for _, other := range env {
			name, _, _ := strings.Cut(other, "=")
			keep = keep && key != name
		}
		if keep {
			cmd.Env = append(cmd.Env, e)
		}
	}
	for _, e := range env {
		if strings.Contains(e, "=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("%s", out)
	}
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}

// fake skips a test that only the fake driver can pass.
func fake(t *testing.T) {
	t.Helper()
	if os.Getenv(mark) != "" {
		return // the process that started this one has looked
	}
	all, err := Devices()
	if err != nil {
		t.Skip(err)
	}
	if all[0].Model != "ctnas fake GPU" {
		t.Skip("this is about the fake driver: make test-gpu-fake")
	}
}

type saxpyArgs struct {
	y, x unsafe.Pointer
	a    float32
	n    int32
}

type reverseArgs struct {
	x unsafe.Pointer
	n int32
	_ int32
}

type strayArgs struct{ nowhere uintptr }

func launch[T any](entry string, args *T, grid, block, shared int) Launch {
	return Launch{
		File: "probe", Entry: entry, Grid: [3]int{grid, 1, 1}, Block: block, Shared: shared, Args: unsafe.Pointer(args),
		Size: int(unsafe.Sizeof(*args)),
	}
}

func saxpy(y, x unsafe.Pointer, a float32, n int) Launch {
	return launch("probe_saxpy", &saxpyArgs{y, x, a, int32(n)}, (n+127)/128, 128, 0)
}

func upload(t testing.TB, d *Device, values []float32) unsafe.Pointer {
	t.Helper()
	p, err := d.Alloc(4 * len(values))
	require.NoError(t, err)
	require.NoError(t, d.Write(p, unsafe.Pointer(&values[0]), 4*len(values)))
	return p
}

func download(t testing.TB, d *Device, p unsafe.Pointer, n int) []float32 {
	t.Helper()
	out := make([]float32, n)
	require.NoError(t, d.Read(unsafe.Pointer(&out[0]), p, 4*n))
	return out
}

func ramp(n int, from float32) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = from + float32(i%1000)
	}
	return out
}

func TestInfo(t *testing.T) {
	d := open(t)
	i := d.Info()
	require.Equal(t, "cuda:0", i.Name)
	require.NotEmpty(t, i.Model)
	require.GreaterOrEqual(t, i.SM, 75)
	require.Positive(t, i.SMs)
	require.Greater(t, i.MemoryBytes, int64(1<<28))
	require.GreaterOrEqual(t, i.SharedPerBlock, 64<<10)
	require.Regexp(t, `^\d+\.\d$`, i.Driver)
	_, err := Open(99, probe)
	require.ErrorContains(t, err, "no GPU cuda:99")
	_, err = Open(-1, probe)
	require.ErrorContains(t, err, "no GPU cuda:-1")
}

func TestNewMemoryIsPoisoned(t *testing.T) {
	d := open(t)
	for _, size := range []int{0, 1, 255, 256, 257, 4096, 5 << 20} {
		p, err := d.Alloc(size)
		require.NoError(t, err)
		require.Zero(t, uintptr(p)%256)
		if size > 0 {
			require.NoError(t, d.Write(p, unsafe.Pointer(&make([]byte, size)[0]), size))
		}
		d.Free(p)
		q, err := d.Alloc(size)
		require.NoError(t, err)
		require.Equal(t, p, q, "the freed buffer is used again")
		out := make([]byte, size)
		if size > 0 {
			require.NoError(t, d.Read(unsafe.Pointer(&out[0]), q, size))
		}
		require.True(t, bytes.Equal(bytes.Repeat([]byte{0xff}, size), out), size)
		d.Free(q)
	}
	p, err := d.Alloc(4)
	require.NoError(t, err)
	require.True(t, math.IsNaN(float64(download(t, d, p, 1)[0])))
	d.Free(p)
	_, err = d.Alloc(-1)
	require.ErrorContains(t, err, "-1 bytes")
}

func TestSizeClasses(t *testing.T) {
	for bytes := 1; bytes < 1<<40; bytes = bytes*9/8 + 1 {
		c := class(bytes)
		require.GreaterOrEqual(t, c, bytes)
		require.Zero(t, c%256)
		require.Equal(t, c, class(c))
		require.LessOrEqual(t, c, bytes+max(255, bytes/8))
	}
}

// Copies of more than the whole ring of staging memory, with the source overwritten at once.
func TestCopies(t *testing.T) {
	d := open(t)
	for _, n := range []int{1, 3, 1 << 20, 1<<20 + 1, 5<<20 + 7} {
		src := ramp(n, float32(n))
		want := append([]float32(nil), src...)
		p := upload(t, d, src)
		clear(src)
		got := download(t, d, p, n)
		require.True(t, equal(want, got), n)
		// A part in the middle.
		if n > 10 {
			require.NoError(t, d.Write(unsafe.Add(p, 4*5), unsafe.Pointer(&[]float32{-1}[0]), 4))
			want[5] = -1
			require.Equal(t, want[3:8], download(t, d, unsafe.Add(p, 4*3), 5))
		}
		d.Free(p)
	}
	p, err := d.Alloc(8)
	require.NoError(t, err)
	host := make([]byte, 16)
	require.ErrorContains(t, d.Read(unsafe.Pointer(&host[0]), p, 9), "not inside a buffer")
	require.ErrorContains(t, d.Write(unsafe.Add(p, 8), unsafe.Pointer(&host[0]), 1), "not inside a buffer")
	require.ErrorContains(t, d.Write(unsafe.Add(p, -4), unsafe.Pointer(&host[0]), 4), "not inside a buffer")
	require.ErrorContains(t, d.Write(p, unsafe.Pointer(&host[0]), -1), "-1 bytes")
	require.NoError(t, d.Write(p, nil, 0))
	require.NoError(t, d.Read(nil, p, 0))
	d.Free(p)
	require.ErrorContains(t, d.Write(p, unsafe.Pointer(&host[0]), 4), "not inside a buffer")
}

// Numbers may stand in what holds pointers, too.
func TestCopiesOfAPartOfAStruct(t *testing.T) {
	d := open(t)
	type holder struct {
		numbers [4]float32
		other   *holder
	}
	from, to := &holder{numbers: [4]float32{1, 2, 3, 4}, other: new(holder)}, &holder{other: new(holder)}
	p, err := d.Alloc(16)
	require.NoError(t, err)
	defer d.Free(p)
	require.NoError(t, d.Write(p, unsafe.Pointer(&from.numbers[0]), 16))
	require.NoError(t, d.Read(unsafe.Pointer(&to.numbers[0]), p, 16))
	require.Equal(t, from.numbers, to.numbers)
	from.numbers[2] = 7
	require.NoError(t, d.Upload(p, unsafe.Pointer(&from.numbers[0]), 16))
	require.NoError(t, d.Read(unsafe.Pointer(&to.numbers[0]), p, 16))
	require.Equal(t, from.numbers, to.numbers)
}

// An upload does not wait for what is enqueued, nor that for it.
func TestUpload(t *testing.T) {
	d := open(t)
	const n = 5<<20 + 3
	src := ramp(n, 1)
	want := append([]float32(nil), src...)
	p := upload(t, d, make([]float32, n))
	require.NoError(t, d.Sync())
	other := upload(t, d, []float32{1, 2})
	for range 2 {
		require.NoError(t, d.Upload(p, unsafe.Pointer(&src[0]), 4*n))
	}
	clear(src)
	require.True(t, equal(want, download(t, d, p, n)))
	require.Equal(t, []float32{1, 2}, download(t, d, other, 2))
	require.NoError(t, d.Upload(p, nil, 0))
	require.ErrorContains(t, d.Upload(unsafe.Add(p, 4*n-4), unsafe.Pointer(&src[0]), 8), "not inside a buffer")
	d.Free(p)
	d.Free(other)
}

// Memory of Pin is uploaded from by any device, also while nothing waits, and is gone with the device that made it.
func TestPin(t *testing.T) {
	d, other := open(t), open(t)
	const n = 5<<20 + 3
	at, err := d.Pin(4 * n)
	require.NoError(t, err)
	src := unsafe.Slice((*float32)(at), n)
	copy(src, ramp(n, 1))
	want := append([]float32(nil), src...)
	for _, to := range []*Device{d, other} {
		p := upload(t, to, make([]float32, n))
		require.NoError(t, to.Sync())
		require.True(t, isPinned(unsafe.Pointer(&src[1]), 4*n-4))
		require.False(t, isPinned(unsafe.Pointer(&src[1]), 4*n))
		require.NoError(t, to.Upload(p, unsafe.Pointer(&src[0]), 4*n))
		clear(src) // the copy has ended
		require.True(t, equal(want, download(t, to, p, n)))
		copy(src, want)
		to.Free(p)
	}
	none, err := d.Pin(0)
	require.NoError(t, err)
	require.NotNil(t, none)
	require.NoError(t, d.Close())
	require.False(t, isPinned(at, 4))
	_, err = d.Pin(1)
	require.ErrorContains(t, err, "the device is closed")
}

func equal(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestSequenceRunsInOrder(t *testing.T) {
	d := open(t)
	const n = 1000
	x, y := upload(t, d, ramp(n, 1)), upload(t, d, make([]float32, n))
	// y += x; x += y; so the order shows in the values.
	s, err := d.Sequence([]Launch{saxpy(y, x, 1, n), saxpy(x, y, 1, n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(3))
	require.NoError(t, d.Write(y, unsafe.Pointer(&make([]float32, n)[0]), 4*n)) // after the three runs
	require.NoError(t, s.Run(1))
	ys, xs := make([]float32, n), ramp(n, 1)
	for run := range 4 {
		if run == 3 {
			clear(ys)
		}
		for i := range xs {
			ys[i] += xs[i]
		}
		for i := range xs {
			xs[i] += ys[i]
		}
	}
	require.Equal(t, xs, download(t, d, x, n))
	require.Equal(t, ys, download(t, d, y, n))
	require.NoError(t, s.Run(0))
	require.ErrorContains(t, s.Run(-1), "-1 times")
	ms, err := s.Time(5)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ms, 0.0)
	s.Free()
	s.Free()
	require.ErrorContains(t, s.Run(1), "was freed")
	d.Free(x)
	d.Free(y)
}

// A loop does what a graph does, waits for nothing, and names the launch that the driver refuses.
func TestLoop(t *testing.T) {
	d := open(t)
	const n = 1000
	x, y := upload(t, d, ramp(n, 1)), upload(t, d, make([]float32, n))
	s, err := d.Loop([]Launch{saxpy(y, x, 1, n), saxpy(x, y, 1, n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(2))
	want := ramp(n, 1)
	for i, v := range want {
		want[i] = 5 * v // after y = v, x = 2v, y = 3v
	}
	s.Free() // the runs are under way
	require.Equal(t, want, download(t, d, x, n))
	require.ErrorContains(t, s.Run(1), "was freed")
	empty, err := d.Loop(nil)
	require.NoError(t, err)
	require.NoError(t, empty.Run(3))
	empty.Free()
	timed, err := d.Loop([]Launch{saxpy(y, x, 0, n)})
	require.NoError(t, err)
	ms, err := timed.Time(2)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ms, 0.0)
	timed.Free()
	_, err = d.Loop([]Launch{{File: "probe", Entry: "probe_absent", Grid: [3]int{1, 1, 1}, Block: 1}})
	require.ErrorContains(t, err, "probe has no kernel probe_absent")
	d.Free(x)
	d.Free(y)
}

// A freed sequence and a freed buffer may still be at work: what comes next must not disturb them.
func TestFreeBeforeTheWorkIsDone(t *testing.T) {
	d := open(t)
	const n = 5000
	x, y := upload(t, d, ramp(n, 0)), upload(t, d, ramp(n, 7))
	s, err := d.Sequence([]Launch{saxpy(y, x, 2, n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	s.Free()
	d.Free(x)
	z := upload(t, d, make([]float32, n)) // the memory of x
	require.Equal(t, x, z)
	want := ramp(n, 7)
	for i := range want {
		want[i] += 2 * float32(i%1000)
	}
	require.Equal(t, want, download(t, d, y, n))
	d.Free(y)
	d.Free(z)
}

func TestArgumentsAreReadWhenTheSequenceIsMade(t *testing.T) {
	d := open(t)
	x, y := upload(t, d, []float32{1}), upload(t, d, []float32{1})
	args := &saxpyArgs{y, x, 2, 1}
	for _, slowly := range []bool{false, true} {
		d.slowly = slowly
		args.a = 2
		s, err := d.Sequence([]Launch{launch("probe_saxpy", args, 1, 32, 0)})
		require.NoError(t, err)
		args.a = 100
		require.NoError(t, s.Run(1))
		s.Free()
	}
	require.Equal(t, []float32{5}, download(t, d, y, 1))
	d.Free(x)
	d.Free(y)
}

func TestMoreThan48KiBOfSharedMemory(t *testing.T) {
	d := open(t)
	var launches []Launch
	p := upload(t, d, ramp(16<<10, 0))
	for _, n := range []int{16 << 10, 100, 14 << 10} { // growing and shrinking
		launches = append(launches, launch("probe_reverse", &reverseArgs{x: p, n: int32(n)}, 1, 256, 4*n))
	}
	s, err := d.Sequence(launches)
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	values := ramp(16<<10, 0)
	for _, n := range []int{16 << 10, 100, 14 << 10} {
		for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
			values[i], values[j] = values[j], values[i]
		}
	}
	require.Equal(t, values, download(t, d, p, 16<<10))
	s.Free()
	d.Free(p)
}

// 46 KiB of dynamic and 4 of static shared memory need leave, though neither does.
func TestStaticSharedMemoryCounts(t *testing.T) {
	d := open(t)
	const n = 46 << 10 / 4
	p := upload(t, d, ramp(n, 0))
	s, err := d.Sequence([]Launch{launch("probe_reverse_static", &reverseArgs{x: p, n: n}, 1, 256, 4*n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	want := ramp(n, 0)
	slices.Reverse(want)
	require.Equal(t, want, download(t, d, p, n))
	s.Free()
	d.Free(p)
}

func TestEmptySequencesAndKernelsWithoutArguments(t *testing.T) {
	d := open(t)
	nothing := Launch{File: "probe", Entry: "probe_nothing", Grid: [3]int{2, 3, 4}, Block: 64}
	for _, launches := range [][]Launch{nil, {nothing}, {nothing, nothing, nothing}} {
		s, err := d.Sequence(launches)
		require.NoError(t, err)
		require.NoError(t, s.Run(4))
		_, err = s.Time(2)
		require.NoError(t, err)
		s.Free()
	}
}

func TestBadLaunches(t *testing.T) {
	d := open(t)
	p, err := d.Alloc(64)
	require.NoError(t, err)
	defer d.Free(p)
	good := saxpy(p, p, 1, 16)
	with := func(change func(*Launch)) []Launch {
		l := good
		change(&l)
		return []Launch{good, l}
	}
	for want, launches := range map[string][]Launch{
		"holds no GPU code of elsewhere":                        with(func(l *Launch) { l.File = "elsewhere" }),
		"probe has no kernel probe_absent":                      with(func(l *Launch) { l.Entry = "probe_absent" }),
		"launch 2 of 2, grid 0 x 1 x 1":                         with(func(l *Launch) { l.Grid[0] = 0 }),
		"dimension 1 of the grid must be 1..65535":              with(func(l *Launch) { l.Grid[1] = 1 << 16 }),
		"the block must be 1..1024 threads":                     with(func(l *Launch) { l.Block = 1025 }),
		"bytes of shared memory":                                with(func(l *Launch) { l.Shared = 1 << 20 }),
		"4097 bytes of arguments":                               with(func(l *Launch) { l.Size = 4097 }),
		"0 bytes of arguments":                                  with(func(l *Launch) { l.Size = 0 }),
		"takes 24 bytes of arguments, the launch gives 16":      with(func(l *Launch) { l.Size = 16 }),
		"kernel probe_saxpy of probe (launch 2 of 2, grid 1 x ": with(func(l *Launch) { l.Block = 0 }),
	} {
		s, err := d.Sequence(launches)
		require.ErrorContains(t, err, want)
		require.Nil(t, s)
	}
	// The device is as good as before.
	s, err := d.Sequence([]Launch{good})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	require.NoError(t, d.Sync())
	s.Free()
}

func TestKernelInfo(t *testing.T) {
	d := open(t)
	i, err := d.Kernel("probe", "probe_saxpy", 256, 0)
	require.NoError(t, err)
	require.Positive(t, i.Registers)
	require.Zero(t, i.LocalBytes)
	require.Equal(t, 1024, i.MaxBlock)
	require.GreaterOrEqual(t, i.BlocksPerSM, 4)
	require.InDelta(t, 1, i.Occupancy, 0.01)
	i, err = d.Kernel("probe", "probe_reverse", 64, 60<<10)
	require.NoError(t, err)
	require.LessOrEqual(t, i.BlocksPerSM, 4)
	_, err = d.Kernel("probe", "probe_absent", 64, 0)
	require.ErrorContains(t, err, "no kernel probe_absent")
	_, err = d.Kernel("probe", "probe_saxpy", 0, 0)
	require.ErrorContains(t, err, "the block must be")
}

func TestCloseFindsLeaks(t *testing.T) {
	open(t)
	d, err := Open(0, probe)
	require.NoError(t, err)
	var p unsafe.Pointer
	for _, bytes := range []int{100, 5000, 300} {
		p, err = d.Alloc(bytes)
		require.NoError(t, err)
	}
	d.Free(p)
	d.Free(p)
	d.Free(nil)
	s, err := d.Sequence([]Launch{{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 1}})
	require.NoError(t, err)
	err = d.Close()
	require.ErrorContains(t, err, "2 buffers were not freed, of 5000 and 100 bytes")
	require.ErrorContains(t, err, "1 times something was freed that was not in use")
	require.ErrorContains(t, err, "1 sequences were not freed: probe_nothing")
	require.NoError(t, d.Close())
	s.Free()
	d.Free(p)
	require.ErrorContains(t, s.Run(1), "closed")
	require.ErrorContains(t, d.Sync(), "closed")
	require.ErrorContains(t, d.Read(nil, nil, 0), "closed")
	_, err = d.Alloc(1)
	require.ErrorContains(t, err, "closed")
	_, err = d.Sequence(nil)
	require.ErrorContains(t, err, "closed")
}

// Several devices on one GPU, and several goroutines on one device: calls come from threads that have seen no context.
func TestManyGoroutines(t *testing.T) {
	devices := []*Device{open(t), open(t)}
	const n = 3000
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			d := devices[g%2]
			x, y := upload(t, d, ramp(n, float32(g))), upload(t, d, make([]float32, n))
			s, err := d.Sequence([]Launch{saxpy(y, x, 1, n)})
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if err := s.Run(2); err != nil {
					t.Error(err)
				}
			}
			got := download(t, d, y, n)
			for i, v := range ramp(n, float32(g)) {
				if got[i] != 10*v {
					t.Errorf("y[%d] = %v, want %v", i, got[i], 10*v)
					break
				}
			}
			s.Free()
			d.Free(x)
			d.Free(y)
		})
	}
	wait.Wait()
}

// A kernel that fails kills the context of the process.
func TestFailingKernel(t *testing.T) {
	for _, test := range []string{"0", "1", "0 loop", "1 loop"} {
		mode, loop := test[:1], len(test) > 1
		t.Run(fmt.Sprintf("sync%s/%t", mode, loop), func(t *testing.T) {
			alone(t, func(t *testing.T) {
				if _, err := Devices(); err != nil {
					t.Skip(err)
				}
				d, err := Open(0, probe)
				require.NoError(t, err)
				nothing := Launch{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 1}
				harmless, err := d.Sequence([]Launch{nothing})
				require.NoError(t, err)
				sequence := d.Sequence
				if loop {
					sequence = d.Loop
				}
				s, err := sequence([]Launch{nothing, launch("probe_stray", &strayArgs{8}, 1, 1, 0)})
				require.NoError(t, err)
				require.NoError(t, harmless.Run(1))
				err = s.Run(1)
				if mode == "1" {
					require.ErrorContains(t, err, "kernel probe_stray of probe (launch 2 of 2, ")
					require.ErrorContains(t, err, "CUDA_ERROR_")
					require.Error(t, d.Sync())
					require.Error(t, d.Close())
					return
				}
				require.NoError(t, err)
				err = d.Sync()
				require.ErrorContains(t, err, "CUDA_ERROR_")
				require.ErrorContains(t, err, "in probe_nothing or probe_nothing..probe_stray (2 launches); with "+
					"CTNAS_CUDA_SYNC=1")
				_, err = d.Alloc(100)
				require.Error(t, err)
				require.ErrorContains(t, d.Close(), "2 sequences were not freed")
			}, "CTNAS_CUDA_SYNC="+mode)
		})
	}
}

// Whatever a GPU fails with, the error names what may have been at work.
func TestWaysToFail(t *testing.T) {
	fake(t)
	for _, code := range []string{"214", "721", "999", "46", "220", "987"} { // the last is no code that is known
		t.Run(code, func(t *testing.T) {
			alone(t, func(t *testing.T) {
				d, err := Open(0, probe)
				require.NoError(t, err)
				s, err := d.Sequence([]Launch{{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 1}})
				require.NoError(t, err)
				require.NoError(t, s.Run(1))
				require.ErrorContains(t, d.Sync(), "in probe_nothing; with CTNAS_CUDA_SYNC=1")
			}, "CTNAS_FAKE_CUDA=fail:probe_nothing,code:"+code)
		})
	}
}

func TestWhyThereIsNoGPU(t *testing.T) {
	fake(t)
	for _, c := range []struct{ env, want string }{
		{"LD_LIBRARY_PATH", "no NVIDIA driver on this machine (libcuda.so.1: cannot open"},
		{"CTNAS_FAKE_CUDA=nodevice", "no NVIDIA GPU that the driver can use"},
		{"CTNAS_FAKE_CUDA=devices:0", "the NVIDIA driver sees no GPU"},
		{"CTNAS_FAKE_CUDA=version:11040", "the NVIDIA driver is too old: it supports CUDA 11.4, this program needs 1"},
	} {
		t.Run(c.env, func(t *testing.T) {
			alone(t, func(t *testing.T) {
				all, err := Devices()
				if err == nil && c.env == "LD_LIBRARY_PATH" {
					t.Skip("this machine has a driver")
				}
				require.ErrorContains(t, err, c.want)
				require.Empty(t, all)
				_, err = Open(0, probe)
				require.ErrorContains(t, err, c.want)
			}, c.env)
		})
	}
}

// Every call chooses its device's context: one thread uses two devices in turn.
func TestSeveralGPUs(t *testing.T) {
	fake(t)
	t.Setenv("CTNAS_FAKE_CUDA", "devices:3")
	all, err := Devices()
	require.NoError(t, err)
	require.Len(t, all, 3)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const n = 100
	var devices [2]*Device
	var x, y [2]unsafe.Pointer
	var s [2]*Sequence
	for i := range devices {
		devices[i], err = Open(i+1, probe)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("cuda:%d", i+1), devices[i].Info().Name)
		x[i], y[i] = upload(t, devices[i], ramp(n, 1)), upload(t, devices[i], make([]float32, n))
		s[i], err = devices[i].Sequence([]Launch{saxpy(y[i], x[i], float32(i+1), n)})
		require.NoError(t, err)
	}
	// elsewhere leaves the thread with the context of the other device.
	elsewhere := func(i int) { require.NoError(t, devices[1-i].in(func() error { return nil })) }
	for i, d := range devices {
		for range 2 {
			elsewhere(i)
			require.NoError(t, s[i].Run(1))
		}
		elsewhere(i)
		_, err = s[i].Time(1)
		require.NoError(t, err)
		elsewhere(i)
		require.Equal(t, float32(3*(i+1)*n), download(t, d, y[i], n)[n-1])
		elsewhere(i)
		require.NoError(t, d.Sync())
		d.slowly = true
		elsewhere(i)
		require.NoError(t, s[i].Run(1))
		elsewhere(i)
		s[i].Free()
	}
	for i, d := range devices {
		d.Free(x[i])
		d.Free(y[i])
		require.NoError(t, d.Close())
	}
}

// A GPU that does not answer, or belongs to another process, hides no other one.
func TestBadGPUs(t *testing.T) {
	fake(t)
	t.Setenv("CTNAS_FAKE_CUDA", "devices:3,lost:0,busy:1")
	all, err := Devices()
	require.ErrorContains(t, err, "cuda:0: unknown error (CUDA_ERROR_UNKNOWN)")
	require.Len(t, all, 2)
	require.Equal(t, "cuda:1", all[0].Name)
	_, err = Open(0, probe)
	require.ErrorContains(t, err, "cuda:0: unknown error (CUDA_ERROR_UNKNOWN)")
	_, err = Open(1, probe)
	require.ErrorContains(t, err, "cuda:1: open: CUDA-capable device(s) is/are busy or unavailable")
	name, err := Roomiest()
	require.Equal(t, "cuda:2", name)
	require.ErrorContains(t, err, "cuda:0: ")
	require.ErrorContains(t, err, "cuda:1: ")
	d, err := Open(2, probe)
	require.NoError(t, err)
	require.Equal(t, "cuda:2", d.Info().Name)
	require.NoError(t, d.Close())

	t.Setenv("CTNAS_FAKE_CUDA", "devices:2,lost:0,busy:1")
	name, err = Roomiest()
	require.Empty(t, name)
	require.ErrorContains(t, err, "cuda:1: ")
}

func TestRoomiest(t *testing.T) {
	fake(t)
	name, err := Roomiest()
	require.NoError(t, err)
	require.Equal(t, "cuda:0", name)
	t.Setenv("CTNAS_FAKE_CUDA", "devices:3")
	for i, want := range []string{"cuda:0", "cuda:1", "cuda:2"} {
		name, err := Roomiest()
		require.NoError(t, err)
		require.Equal(t, want, name)
		d, err := Open(i, probe)
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		p, err := d.Alloc(1 << 20)
		require.NoError(t, err)
		defer d.Free(p)
	}
}

// What a freed buffer held is no other Device's until Trim.
func TestTrim(t *testing.T) {
	fake(t)
	d, other := open(t), open(t)
	t.Setenv("CTNAS_FAKE_CUDA", "memory:10485760")
	p, err := d.Alloc(6 << 20)
	require.NoError(t, err)
	d.Free(p)
	_, err = other.Alloc(6 << 20)
	require.ErrorContains(t, err, "out of memory")
	d.Trim()
	q, err := other.Alloc(6 << 20)
	require.NoError(t, err)
	other.Free(q)
	d.Trim()
	p, err = d.Alloc(100)
	require.NoError(t, err)
	d.Free(p)
}

// With CTNAS_CUDA_BLOCKING=1 no wait keeps the processor busy.
func TestBlockingWaits(t *testing.T) {
	fake(t)
	for _, blocking := range []string{"0", "1"} {
		t.Run(blocking, func(t *testing.T) {
			alone(t, func(t *testing.T) {
				d, err := Open(0, probe)
				require.NoError(t, err)
				p, err := d.Alloc(8)
				require.NoError(t, err)
				x := []float32{1, 2}
				write := d.Write(p, unsafe.Pointer(&x[0]), 8)
				up := d.Upload(p, unsafe.Pointer(&x[0]), 8)
				if blocking == "0" {
					require.ErrorContains(t, write, "CUDA_ERROR_NOT_PERMITTED")
					require.ErrorContains(t, up, "CUDA_ERROR_NOT_PERMITTED")
					require.ErrorContains(t, d.Sync(), "CUDA_ERROR_NOT_PERMITTED")
					return
				}
				require.NoError(t, write)
				require.NoError(t, up)
				require.Equal(t, x, download(t, d, p, 2))
				d.Free(p)
				require.NoError(t, d.Close())
			}, "CTNAS_FAKE_CUDA=nospin", "CTNAS_CUDA_BLOCKING="+blocking)
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	fake(t)
	d := open(t)
	t.Setenv("CTNAS_FAKE_CUDA", "memory:10485760")
	p, err := d.Alloc(6 << 20)
	require.NoError(t, err)
	_, err = d.Alloc(6 << 20)
	require.ErrorContains(t, err, "out of memory: 6.0 MiB were asked for, 4.0 MiB of 10.0 MiB are free, 1 buffers of "+
		"this program hold 6.0 MiB")
	d.Free(p)
	q, err := d.Alloc(8 << 20) // the cached 6 MiB must go
	require.NoError(t, err)
	d.Free(q)
}

func TestInjectedFailures(t *testing.T) {
	fake(t)
	d := open(t)
	x := upload(t, d, ramp(64, 0))
	defer d.Free(x)

	t.Setenv("CTNAS_FAKE_CUDA", "badarch")
	_, err := d.Sequence([]Launch{saxpy(x, x, 1, 64)})
	require.ErrorContains(t, err, "probe was not compiled for ctnas fake GPU (sm_90)")

	t.Setenv("CTNAS_FAKE_CUDA", "refuse:probe_saxpy")
	_, err = d.Sequence([]Launch{{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 1},
		saxpy(x, x, 1, 64)})
	require.ErrorContains(t, err, "record kernel probe_saxpy of probe (launch 2 of 2, ")
	require.ErrorContains(t, err, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")

	s, err := d.Loop([]Launch{{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 1},
		saxpy(x, x, 1, 64)})
	require.NoError(t, err)
	err = s.Run(1)
	require.ErrorContains(t, err, "launch kernel probe_saxpy of probe (launch 2 of 2, ")
	require.ErrorContains(t, err, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
	s.Free()

	// An older driver cannot tell the size of the arguments.
	t.Setenv("CTNAS_FAKE_CUDA", "noparams")
	old, err := Open(0, probe)
	require.NoError(t, err)
	defer func() { require.NoError(t, old.Close()) }()
	s, err = old.Sequence([]Launch{saxpy(x, x, 1, 64)})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	s.Free()

	bad, err := Open(0, func(string) []byte { return []byte("no fatbin") })
	require.NoError(t, err)
	_, err = bad.Sequence([]Launch{saxpy(x, x, 1, 64)})
	require.ErrorContains(t, err, "load the GPU code of probe: device kernel image is invalid "+
		"(CUDA_ERROR_INVALID_IMAGE)")
	require.NoError(t, bad.Close())
}

// What one run of a step costs the host.
func BenchmarkRun(b *testing.B) {
	for _, launches := range []int{1, 100} {
		b.Run(fmt.Sprint(launches), func(b *testing.B) {
			d := open(b)
			l := make([]Launch, launches)
			for i := range l {
				l[i] = Launch{File: "probe", Entry: "probe_nothing", Grid: [3]int{1, 1, 1}, Block: 32}
			}
			s, err := d.Sequence(l)
			require.NoError(b, err)
			defer s.Free()
			for i := 0; b.Loop(); i++ {
				if err := s.Run(1); err != nil {
					b.Fatal(err)
				}
				if i%1024 == 1023 { // the fake driver keeps what waits
					b.StopTimer()
					require.NoError(b, d.Sync())
					b.StartTimer()
				}
			}
		})
	}
}

// A map is made on the host, at any address; the driver's refusal names the tensor.
func TestImageMap(t *testing.T) {
	fake(t)
	d := open(t)
	z := upload(t, d, make([]float32, 64))
	defer d.Free(z)
	room := make([]byte, ImageMapBytes+8)
	m := ImageMap{Z: z, N: 1, H: 2, W: 3, C: 5, LD: 8, Lower: [2]int{-1, -2}, Pixels: 4}
	require.NoError(t, d.ImageMap(unsafe.Pointer(&room[8]), m))
	require.Equal(t, int32(5), *(*int32)(unsafe.Pointer(&room[8+20])), "sim.c leaves the image in the map")
	m.LD = 12
	require.ErrorContains(t, d.ImageMap(unsafe.Pointer(&room[8]), m),
		"describe a tensor of 1 x 2 x 3 x 5, 12 elements a pixel, to the kernels: ")
}

// A profile is two runs, of whose second each launch has a time.
func TestProfile(t *testing.T) {
	d := open(t)
	const n = 1000
	for _, record := range []func([]Launch) (*Sequence, error){d.Sequence, d.Loop} {
		x, y := upload(t, d, ramp(n, 1)), upload(t, d, make([]float32, n))
		s, err := record([]Launch{saxpy(y, x, 1, n), saxpy(y, x, 2, n), saxpy(y, x, 3, n)})
		require.NoError(t, err)
		ms, err := s.Profile()
		require.NoError(t, err)
		require.Len(t, ms, 3)
		for _, v := range ms {
			require.GreaterOrEqual(t, v, 0.0)
		}
		want := ramp(n, 1)
		for i := range want {
			want[i] *= 2 * (1 + 2 + 3)
		}
		require.Equal(t, want, download(t, d, y, n))
		s.Free()
		_, err = s.Profile()
		require.ErrorContains(t, err, "was freed")
		d.Free(x)
		d.Free(y)
	}
	empty, err := d.Sequence(nil)
	require.NoError(t, err)
	ms, err := empty.Profile()
	require.NoError(t, err)
	require.Empty(t, ms)
	empty.Free()
}
