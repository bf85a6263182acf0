// Package kerneltest holds what the tests of all kernel families share: devices of every kind, random inputs,
// comparisons.
package kerneltest

import (
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
)

// EachDevice runs f on every instruction set this processor has, on the simulator and on the first GPU if there is one:
// all in float32. With testdata.All these are one thread and three and every order of the simulator; otherwise three
// threads and one order, which differs from test to test. -short leaves the lowest and the highest instruction set.
// sim.OnlyVariable in the environment names one of them, to run nothing else; a GPU that it names must be there.
func EachDevice(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	EachCPU(t, f)
	EachAccelerator(t, f)
}

// EachCPU is EachDevice without accelerators: for operations that have no kernels for them, and for what compares the
// CPU with itself.
func EachCPU(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	counts := []int{3}
	if testdata.All() {
		counts = []int{1, 3}
	}
	eachCPU(t, counts, f)
}

func eachCPU(t *testing.T, counts []int, f func(t *testing.T, d *exec.Device)) {
	levels := exec.Levels()
	if testing.Short() {
		levels = slices.Compact([]string{levels[0], levels[len(levels)-1]})
	}
	for _, level := range levels {
		for _, threads := range counts {
			on(t, fmt.Sprintf("%s/%d", level, threads), exec.Config{Level: level, Threads: threads}, f)
		}
	}
}

// OnCPU skips a test that opens the CPU by itself where sim.OnlyVariable names an accelerator.
func OnCPU(t testing.TB) {
	if only := os.Getenv(sim.OnlyVariable); strings.Contains(only, ":") {
		t.Skip("nothing but " + only + " is asked for")
	}
}

// Simulated skips a test that opens the simulator by itself where that is left out: under the race detector, and where
// sim.OnlyVariable asks for something else.
func Simulated(t testing.TB) {
	if only := os.Getenv(sim.OnlyVariable); sim.UnderRace || only != "" && !strings.HasPrefix(only, "sim") {
		t.Skip("the simulator is left out")
	}
}

// EachAccelerator is EachDevice without the CPU.
func EachAccelerator(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	eachAccelerator(t, orders(t), exec.FP32, f)
}

// EachTensorCore runs f where matrices are multiplied in bfloat16: on the simulator, in the orders of EachDevice, and
// on the first GPU if there is one.
func EachTensorCore(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	eachAccelerator(t, orders(t), exec.BF16, f)
}

// EachHopper is EachTensorCore where the kernels of compute capability 9.0 run: on a device of the simulator, and on
// the first GPU if it is of that kind. It skips a test of which nothing ran because sim.OnlyVariable names another GPU.
func EachHopper(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	if sim.UnderRace {
		t.Log("the simulator is left out under the race detector, which sees Go code alone")
		return
	}
	for _, order := range orders(t) {
		name := "sim90:" + order.String()
		on(t, name, exec.Config{Device: name, Precision: exec.BF16}, f)
	}
	name := gpu()
	switch sm := capability(name); {
	case name != "" && (sm == 90 || sm == unknown):
		on(t, name, exec.Config{Device: name, Precision: exec.BF16}, f)
	case isGPU(os.Getenv(sim.OnlyVariable)):
		t.Skipf("%s has compute capability %d.%d: these kernels are for 9.0", name, sm/10, sm%10)
	}
}

// EachStorage is EachDevice, and on accelerators once more with what Store stores in bfloat16.
func EachStorage(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	EachDevice(t, f)
	EachTensorCore(t, f)
}

// Accelerators names one order of the simulator and the first GPU where there is one: for what is made of operations
// whose own tests go through the others.
func Accelerators() []string {
	if only := os.Getenv(sim.OnlyVariable); strings.Contains(only, ":") {
		if isGPU(only) {
			onGPU.Add(1)
		}
		return []string{only}
	} else if only != "" || sim.UnderRace { // an instruction set and a number of threads
		return nil
	}
	all := []string{"sim:descending"}
	if name := gpu(); name != "" {
		all = append(all, name)
	}
	return all
}

// gpu is the GPU that tests run on: the one that sim.OnlyVariable names, whether it is there or not, or the first; ""
// where there is none.
func gpu() string {
	if only := os.Getenv(sim.OnlyVariable); isGPU(only) {
		return only
	}
	if all, _ := cuda.Devices(); len(all) > 0 {
		return all[0].Name
	}
	return ""
}

func isGPU(name string) bool { return strings.HasPrefix(name, "cuda:") }

// Alike names n devices that compute the same, for what several do together: of a GPU's kind those that there are, in
// turn from that one on; of others the same again and again. The fake driver has several unless the environment says
// what it has.
func Alike(t testing.TB, name string, n int) []string {
	const variable = "CTNAS_FAKE_CUDA"
	kinds := []string{name}
	if isGPU(name) {
		if os.Getenv(variable) == "" {
			t.Setenv(variable, "devices:8")
		}
		all, _ := cuda.Devices()
		for _, d := range all {
			if d.Name != name && d.SM == capability(name) {
				kinds = append(kinds, d.Name)
			}
		}
	}
	names := make([]string, n)
	for i := range names {
		names[i] = kinds[i%len(kinds)]
	}
	return names
}

// capability is the compute capability of a GPU times ten, or unknown, of one that is not there.
func capability(gpu string) int {
	all, _ := cuda.Devices()
	if i := slices.IndexFunc(all, func(d cuda.Info) bool { return d.Name == gpu }); i >= 0 {
		return all[i].SM
	}
	return unknown
}

const unknown = -1

// multiplies tells whether a GPU computes in a precision; one that is not there does, so that opening it fails.
func multiplies(gpu string, p exec.Precision) bool {
	sm := capability(gpu)
	return p == exec.FP32 || sm == unknown || sm >= 80
}

var onGPU atomic.Int64

// GPUCases is how often a test of this process was given a GPU: where none was, nothing was tested.
func GPUCases() int { return int(onGPU.Load()) }

// Shared reports whether device d takes the case with this number, where each accelerator takes one of every n: the
// simulator's orders take different ones, so that together they see more cases than if all took the same.
func Shared(d *exec.Device, number, n int) bool {
	turn := slices.IndexFunc(sim.Orders, func(o sim.Order) bool {
		return strings.HasPrefix(strings.Replace(d.Level(), "sim90/", "sim/", 1), "sim/"+o.String()+"/")
	})
	return (number+max(turn, 0))%n == 0
}

// EachExecutor is EachDevice with one number of threads and one order: for long tests of what others show to depend on
// neither.
func EachExecutor(t *testing.T, f func(t *testing.T, d *exec.Device)) {
	eachCPU(t, []int{3}, f)
	for _, name := range Accelerators() {
		on(t, name, exec.Config{Device: name}, f)
	}
}

// orders are those of the simulator that a test goes through. A barrier that is missing shows in most of them, and
// different tests take different ones.
func orders(t *testing.T) []sim.Order {
	if testdata.All() {
		return sim.Orders
	}
	name := fnv.New32()
	_, _ = name.Write([]byte(t.Name()))
	i := int(name.Sum32() % uint32(len(sim.Orders)))
	return sim.Orders[i : i+1]
}

func eachAccelerator(t *testing.T, orders []sim.Order, p exec.Precision, f func(t *testing.T, d *exec.Device)) {
	if sim.UnderRace {
		t.Log("the simulator is left out under the race detector, which sees Go code alone")
		return
	}
	for _, order := range orders {
		name := "sim:" + order.String()
		on(t, name, exec.Config{Device: name, Precision: p}, f)
	}
	if name := gpu(); name != "" && multiplies(name, p) {
		on(t, name, exec.Config{Device: name, Precision: p}, f)
	}
}

func on(t *testing.T, name string, c exec.Config, f func(t *testing.T, d *exec.Device)) {
	if only := os.Getenv(sim.OnlyVariable); only != "" && only != name {
		return
	}
	t.Run(name, func(t *testing.T) {
		d, err := exec.Open(c)
		require.NoError(t, err)
		defer d.Close()
		if isGPU(name) {
			onGPU.Add(1)
		}
		f(t, d)
	})
}

// SameBits requires f to return the same bits whatever the number of threads on an instruction set, and in every order
// of the simulator.
func SameBits(t *testing.T, f func(d *exec.Device) []float32) {
	first := map[string][]uint32{}
	same := func(t *testing.T, d *exec.Device) {
		kind := d.Level()
		if strings.HasPrefix(kind, "sim/") {
			kind = "sim"
		}
		var bits []uint32
		for _, v := range f(d) {
			bits = append(bits, math.Float32bits(v))
		}
		if first[kind] == nil {
			first[kind] = bits
		}
		require.Equal(t, first[kind], bits)
	}
	eachCPU(t, []int{1, 3}, same)
	eachAccelerator(t, sim.Orders, exec.FP32, same)
}

// Random returns n standard normal numbers as float32 and the same numbers as float64. The stream is named, so that
// every input of a test is different and a failure repeats.
func Random(n int, stream uint32) ([]float32, []float64) {
	kept := Once(fmt.Sprint("random ", n, stream), func() []float32 {
		s := philox.New(0x7e57, philox.PurposeTest, stream)
		a := make([]float32, n)
		for i := range a {
			a[i] = float32(s.NormFloat64())
		}
		return a
	})
	a, b := slices.Clone(kept), make([]float64, n)
	for i := range a {
		b[i] = float64(a[i])
	}
	return a, b
}

var once sync.Map // by key

// Once returns what f returned when it was first asked for this key in the process: a test asks a dozen devices for the
// same case, whose inputs and references, in float64, take longer than what is tested. The key names all that f depends
// on; nobody changes the result.
func Once[T any](key string, f func() T) T {
	if v, ok := once.Load(key); ok {
		return v.(T)
	}
	v, _ := once.LoadOrStore(key, f())
	return v.(T)
}

// Close requires every element of got to be within tol of want, relative to the larger of |want| and the root mean
// square of want. NaN never passes, so an element that was not written fails.
func Close(t testing.TB, want []float64, got []float32, tol float64, what string) {
	t.Helper()
	require.Equal(t, len(want), len(got), what)
	var square float64
	for _, v := range want {
		square += v * v
	}
	rms := math.Sqrt(square / math.Max(1, float64(len(want))))
	for i, w := range want {
		diff := math.Abs(float64(got[i]) - w)
		if !(diff <= tol*math.Max(math.Max(math.Abs(w), rms), 1e-30)) {
			t.Fatalf("%s[%d] = %v, want %v (difference %.3g, tolerance %.3g)", what, i, got[i], w, diff,
				tol*math.Max(math.Abs(w), rms))
		}
	}
}

// Written requires that an operation wrote the first n floats of a buffer that was new, up to the last of them, and
// nothing behind them.
func Written(t testing.TB, b *exec.Buffer, n int, what string) {
	t.Helper()
	v := b.Values()
	require.False(t, math.IsNaN(float64(v[n-1])), what)
	for _, x := range v[n:] {
		require.True(t, math.IsNaN(float64(x)), what)
	}
}

// Gradient compares an analytic gradient with central differences of f at x. f is evaluated in float64.
func Gradient(t testing.TB, f func(x []float64) float64, x, analytic []float64, tol float64, what string) {
	t.Helper()
	require.Equal(t, len(x), len(analytic), what)
	var largest float64
	for _, v := range analytic {
		largest = math.Max(largest, math.Abs(v))
	}
	for i := range x {
		const h = 1e-5
		keep := x[i]
		x[i] = keep + h
		up := f(x)
		x[i] = keep - h
		down := f(x)
		x[i] = keep
		numeric := (up - down) / (2 * h)
		if !(math.Abs(numeric-analytic[i]) <= tol*math.Max(largest, 1e-8)) {
			t.Fatalf("%s: derivative %d is %v, central difference %v", what, i, analytic[i], numeric)
		}
	}
}
