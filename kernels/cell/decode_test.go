// An outside package: the simulator, on which the tests run too, imports the families.
package cell_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/cell"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

var rules = []Rules{
	{Inner: 5, Edges: 9, Ops: []uint8{2, 1, 3}, Input: 0, Output: 4},
	{Inner: 6, Edges: 12, Ops: []uint8{7, 0, 1, 2, 3, 4, 5, 6}, Input: 5, Output: 7},
	{Inner: 1, Edges: 2, Ops: []uint8{3}, Input: 1, Output: 2},
}

// random draws sequences uniformly.
func random(r Rules, batch int, stream uint32) []int32 {
	s := philox.New(7, philox.PurposeTest, stream)
	var out []int32
	draw := func(n int) int {
		a := s.Intn(n)
		out = append(out, int32(a))
		return a
	}
	for range batch {
		inner := 1 + draw(r.Inner)
		for v := 1; v <= inner; v++ {
			draw(v)
			draw(len(r.Ops))
		}
		draw(inner + 1)
		for range 2 * (r.Edges - inner - 1) {
			draw(inner + 2)
		}
	}
	return out
}

func TestDecode(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, r := range rules {
			for _, batch := range []int{1, 63, 300} {
				ar := d.NewArena()
				actions := random(r, batch, uint32(10*i+batch))
				require.Len(t, actions, batch*r.Steps())
				graphs := ar.I32(2*batch + 2)
				p := ar.NewProgram("decode")
				Decode{Rules: r, Batch: batch, Actions: ar.Ints(actions), Graphs: graphs}.Record(p)
				p.Run(1)
				got := make([]int32, graphs.Len())
				graphs.ReadI32(0, got)
				ar.Free()
				for b := range batch {
					ops, edges := DecodeReference(r, actions[b*r.Steps():])
					want, ok := graph.Pack(ops, edges)
					require.True(t, ok)
					require.Equal(t, want, uint64(uint32(got[2*b]))|uint64(uint32(got[2*b+1]))<<32, "%v",
						actions[b*r.Steps():][:r.Steps()])
				}
				require.Equal(t, []int32{-1, -1}, got[2*batch:], "nothing is written past the last graph")
			}
		}
	})
}

// Decisions that the rules do not allow must not read or write out of bounds (the sanitizers watch), and still make a
// graph.
func TestDecodeOutsideTheRules(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, r := range rules {
			ar := d.NewArena()
			defer ar.Free()
			actions := make([]int32, 4*r.Steps())
			for i := range actions {
				actions[i] = []int32{-1, 1 << 30, -1 << 31, 7}[i/r.Steps()]
			}
			graphs := ar.I32(8)
			p := ar.NewProgram("decode")
			Decode{Rules: r, Batch: 4, Actions: ar.Ints(actions), Graphs: graphs}.Record(p)
			p.Run(1)
			got := make([]int32, 8)
			graphs.ReadI32(0, got)
			for b := range 4 {
				ops, edges := graph.Unpack(uint64(uint32(got[2*b])) | uint64(uint32(got[2*b+1]))<<32)
				require.GreaterOrEqual(t, len(ops), 2)
				require.NotEmpty(t, edges)
			}
		}
	})
}

func TestBadRulesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	good := Decode{Rules: rules[0], Batch: 1, Actions: ar.I32(18), Graphs: ar.I32(2)}
	for _, change := range []func(d *Decode){
		func(d *Decode) {
			d.Rules.Inner = 7
		}, func(d *Decode) { d.Rules.Edges = 5 }, func(d *Decode) { d.Rules.Ops = nil },
		func(d *Decode) {
			d.Rules.Ops = []uint8{8}
		}, func(d *Decode) { d.Rules.Input = 8 }, func(d *Decode) { d.Batch = 2 },
	} {
		bad := good
		change(&bad)
		require.Panics(t, func() { bad.Record(p) })
	}
	require.NotPanics(t, func() { good.Record(p) })
}
