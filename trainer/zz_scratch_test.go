package trainer

import (
	"fmt"
	"sort"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

type nothing struct{ at uintptr }

func (n *nothing) Level() string { return "none" }
func (n *nothing) Alloc(bytes int) (unsafe.Pointer, error) {
	at := n.at
	n.at += uintptr(bytes+255) / 256 * 256
	return unsafe.Pointer(at), nil
}
func (n *nothing) Free(unsafe.Pointer)                           {}
func (n *nothing) Write(dst, src unsafe.Pointer, bytes int) error { return nil }
func (n *nothing) Read(dst, src unsafe.Pointer, bytes int) error  { return nil }
func (n *nothing) Sequence(l []cuda.Launch) (exec.Sequence, error) {
	return nil, nil
}
func (n *nothing) Loop(l []cuda.Launch) (exec.Sequence, error) { return nil, nil }
func (n *nothing) Sync() error                                 { return nil }
func (n *nothing) Close() error                                { return nil }

func init() {
	exec.Register("nothing", func(string, exec.Precision) (exec.Accelerator, error) { return &nothing{at: 1 << 40}, nil })
}

func TestScratchCount(t *testing.T) {
	d := openOn(t, "nothing", exec.BF16)
	mb, err := zoo.Build("mobilenetv3_large_1.0", 224, 1000)
	require.NoError(t, err)
	show := func(m *Model) {
		count := map[string]int{}
		for _, l := range m.training[0].Launches() {
			count[l.Entry]++
		}
		var names []string
		for n := range count {
			names = append(names, n)
		}
		sort.Slice(names, func(i, k int) bool { return count[names[i]] > count[names[k]] })
		fmt.Println("total", len(m.training[0].Launches()))
		for _, n := range names {
			fmt.Println("  ", count[n], n)
		}
	}
	m, err := NewModel(d, mb, Options{Batch: 256})
	require.NoError(t, err)
	show(m)
	arch, err := space.NASBench101{}.Parse("nasbench101:best")
	require.NoError(t, err)
	nb, err := zoo.NASBench101(arch.(space.Cell), 128, 10)
	require.NoError(t, err)
	m2, err := NewModel(d, nb, Options{Batch: 256})
	require.NoError(t, err)
	show(m2)
}
