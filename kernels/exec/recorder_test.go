package exec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
)

// A recorder keeps launches with what they have to do, runs nothing, and gives each buffer an address of its own.
func TestRecorder(t *testing.T) {
	d := exec.OpenRecorder(exec.BF16)
	defer d.Close()
	require.True(t, d.Accelerated())
	require.Equal(t, "sm_90/bf16", d.Level())
	ar := d.NewArena()
	defer ar.Free()
	a, b := ar.Floats([]float32{1, 2, 3}), ar.BF16(1<<32)
	require.NotEqual(t, a.Pointer(), b.Pointer())
	require.Equal(t, []float64{12, 6, 0}, []float64{a.Bytes(3), b.Bytes(3), (*exec.Buffer)(nil).Bytes(3)})
	p := ar.NewProgram("two")
	args := struct{ n int64 }{5}
	work := exec.Work{Bytes: 7, FLOPs: 8, Issued: 9}
	exec.Call(p, "op", nil, &args, 0, exec.Launch{File: "f", Entry: "first", Grid: [3]int{3}, Block: 32, Work: work},
		exec.Launch{File: "f", Entry: "second", Block: 64})
	p.Run(2)
	d.Sync()
	require.Len(t, p.Launches(), 2)
	require.Equal(t, [3]int{3, 1, 1}, p.Launches()[0].Grid)
	require.Equal(t, "second", p.Launches()[1].Entry)
	require.Equal(t, []exec.Work{work, {}}, p.Work())
	q := ar.NewProgram("three")
	exec.Call(q, "op", nil, &args, 0, exec.Launch{File: "f", Entry: "last", Block: 32, Work: work})
	q.First(func() { exec.Call(q, "op", nil, &args, 0, exec.Launch{File: "f", Entry: "first", Block: 32}) })
	require.Equal(t, "first", q.Launches()[0].Entry)
	require.Equal(t, []exec.Work{{}, work}, q.Work(), "what comes first takes its work along")
	require.Equal(t, []float32{0, 0, 0}, a.Values())
}
