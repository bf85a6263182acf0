package cluster

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// each does something on every node at the same time.
func each(all []*Nodes, do func(n *Nodes) error) error {
	var group errgroup.Group
	for _, n := range all {
		group.Go(func() error { return do(n) })
	}
	return group.Wait()
}

func closeAll(t *testing.T, all []*Nodes) {
	require.NoError(t, each(all, func(n *Nodes) error {
		n.Close(nil)
		return nil
	}))
}

// A sum has the bits of a balanced tree on every node, of zeros with their sign too, whatever its length; that of
// halves is that of all.
func TestSum(t *testing.T) {
	for _, count := range []int{1, 2, 4, 8} {
		all, err := Local(count, time.Minute)
		require.NoError(t, err)
		for _, length := range []int{0, 1, small, small + 1, small + 7, 600_001} {
			values := make([][]float32, count)
			for i := range values {
				values[i] = make([]float32, length)
				for k := range values[i] {
					values[i][k] = float32(math.Ldexp(rand.Float64()-0.5, rand.IntN(40)-20))
				}
				if length > 0 {
					values[i][length-1] = float32(math.Copysign(0, -1))
				}
			}
			got := make([][]float32, count)
			require.NoError(t, each(all, func(n *Nodes) error {
				got[n.me] = append([]float32{}, values[n.me]...)
				return n.Sum(got[n.me])
			}))
			for k := range length {
				want := math.Float32bits(kerneltest.Tree(values, k))
				for i := range got {
					if math.Float32bits(got[i][k]) != want {
						t.Fatalf("%d nodes, number %d of %d, node %d: %x, want %x", count, k, length, i,
							math.Float32bits(got[i][k]), want)
					}
				}
			}
		}
		closeAll(t, all)
	}
}

// What nodes say arrives at all, in their order; what node 0 has too, whatever its size.
func TestGatherAndBroadcast(t *testing.T) {
	for _, count := range []int{1, 2, 8} {
		all, err := Local(count, time.Minute)
		require.NoError(t, err)
		for _, size := range []int{0, 1, 70_000, 3*pieceBytes + 1} {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			require.NoError(t, each(all, func(n *Nodes) error {
				var mine []byte
				if n.me == 0 {
					mine = data
				}
				got, err := n.Broadcast(mine)
				if err == nil && string(got) != string(data) {
					err = fmt.Errorf("node %d has got something else of %d bytes", n.me, size)
				}
				if err != nil {
					return err
				}
				words, err := n.Gather([]byte(fmt.Sprint("word", n.me, string(data[:min(n.me*1000, size)]))))
				for i, word := range words {
					if string(word) != fmt.Sprint("word", i, string(data[:min(i*1000, size)])) {
						return fmt.Errorf("node %d has heard something else of node %d", n.me, i)
					}
				}
				return err
			}))
		}
		closeAll(t, all)
	}
}

// faulty is a connection that ends, or says nothing more, after so many bytes were written.
type faulty struct {
	net.Conn
	left int
	hang bool
	all  *[]net.Conn   // which end at the same time
	dead *atomic.Bool  // they have
	done chan struct{} // closed with it
	once sync.Once
}

func (f *faulty) Close() error {
	f.once.Do(func() { close(f.done) })
	return f.Conn.Close()
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left >= 0 && !f.dead.Load() {
		return f.Conn.Write(p)
	}
	if f.hang {
		<-f.done
		return len(p), nil
	}
	f.dead.Store(true)
	for _, c := range *f.all {
		_ = c.Close()
	}
	return 0, net.ErrClosed
}

// Where a node dies, hangs, fails by itself or does something else, every other one's call fails, soon, with a reason
// that names it; a later call too.
func TestFaults(t *testing.T) {
	own := errors.New("the disk is full")
	for name, c := range map[string]struct {
		spoiled bool
		hang    bool
		do      func(n *Nodes) error // of node 5
		want    string               // of the others
		lost    bool
	}{
		"dies": {spoiled: true, want: "node 5 (local 5) ", lost: true},
		"hangs": {spoiled: true, hang: true, want: "node 5 (local 5) hangs: nothing has come from it for 300ms",
			lost: true},
		"comes too late": {do: func(n *Nodes) error {
			time.Sleep(700 * time.Millisecond)
			return n.Sum(make([]float32, 10_000))
		}, want: "node 5 (local 5) hangs", lost: true},
		"fails": {do: func(n *Nodes) error {
			n.Close(own)
			return own
		}, want: "node 5 (local 5) has ended with an error: the disk is full"},
		"ends": {do: func(n *Nodes) error {
			n.Close(nil)
			return own
		}, want: "node 5 (local 5) has ended", lost: true},
		"does something else": {do: func(n *Nodes) error { return n.Sum(make([]float32, 7)) },
			want: "do different things"},
	} {
		t.Run(name, func(t *testing.T) {
			var conns []net.Conn
			dead := new(atomic.Bool)
			all, err := local(8, 300*time.Millisecond, func(i int, conn net.Conn) net.Conn {
				if i == 5 && c.spoiled {
					conn = &faulty{Conn: conn, left: 5000, hang: c.hang, all: &conns, dead: dead,
						done: make(chan struct{})}
					conns = append(conns, conn)
				}
				return conn
			})
			require.NoError(t, err)
			errs := make([]error, len(all))
			_ = each(all, func(n *Nodes) error {
				if n.me == 5 && c.do != nil {
					errs[5] = c.do(n)
					return nil
				}
				for range 3 {
					errs[n.me] = n.Sum(make([]float32, 10_000))
				}
				return nil
			})
			for i, err := range errs {
				require.Error(t, err, "node %d", i)
				if i != 5 {
					require.ErrorContains(t, err, c.want, "node %d", i)
					require.Equal(t, c.lost, errors.Is(err, ErrLost), "node %d: %v", i, err)
				}
			}
			_ = each(all, func(n *Nodes) error {
				n.Close(errs[n.me])
				return nil
			})
		})
	}
}

// Whoever is told to end, all know it; work goes on until they say otherwise.
func TestInterrupt(t *testing.T) {
	all, err := Local(8, time.Minute)
	require.NoError(t, err)
	all[6].Interrupt()
	all[6].Interrupt()
	for _, n := range all {
		<-n.Interrupted()
	}
	require.NoError(t, each(all, func(n *Nodes) error {
		values := []float32{1}
		if err := n.Sum(values); err != nil || values[0] != 8 {
			return fmt.Errorf("%v, %w", values, err)
		}
		return nil
	}))
	closeAll(t, all)
}
