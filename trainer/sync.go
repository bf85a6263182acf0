package trainer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Batch norms over all shards of a batch (PyTorch's SyncBatchNorm; Peng et al. 2018, MegDet). The sums that a norm
// needs, forward and backward, are a few numbers a channel for each part of a shard's tensor. The step's program is cut
// before each norm, and there every rank gets the sums of all shards, one behind the other in the order of the shards.
// Then it computes what a norm over the whole batch computes, from the same numbers in the same order on every rank, in
// float64: nothing depends on how many devices there are.
//
// Of all shards the tensors between the cuts have to be there at the same time. So each shard is a rank of its own, and
// a device that has several shards is several ranks (apart).

// apart are ranks for one shard each: every place as often as it has shards, with its part of the processor's threads.
func apart(places []exec.Config, shards int) (all []exec.Config) {
	for _, place := range places {
		place.Threads = max(1, threadsOf(place)/shards)
		all = append(all, slices.Repeat([]exec.Config{place}, shards)...)
	}
	return all
}

// exchange is where a rank's program waits for the sums of a batch norm.
type exchange struct {
	mine, whole *exec.Buffer // those of its shard, and of all shards, which it gets; known when the program is recorded
}

// overShards is what a batch norm computes from: the sums over all shards, where the model wants that, of which stats
// says this one's once they are recorded. The program is cut here.
func (l *lowering) overShards(rows int, stats func() tensor.Stats) func() tensor.Stats {
	if !l.together() {
		return stats
	}
	x := &exchange{}
	l.rest = append(l.rest, segment{step: len(l.steps), exchange: x})
	return func() tensor.Stats {
		mine := stats()
		whole := mine.Repeated(l.m.arena, rows, l.m.shards())
		x.mine, x.whole = mine.Rows.Slice(0, whole.Rows.Len()/l.m.shards()), whole.Rows
		return whole
	}
}

// together tells whether the program's batch norms are over all shards.
func (l *lowering) together() bool { return l.mode == train && l.m.meeting != nil }

// meeting is where the ranks of a training exchange sums. All come to it with the same exchanges in the same order.
type meeting struct {
	nodes Nodes // nil: this one alone

	mu     sync.Mutex
	turn   *sync.Cond
	at     []*exchange // of each rank: what it waits for
	here   int         // ranks that wait
	round  int         // exchanges made
	failed error       // why there are no more
}

func newMeeting(ranks int, nodes Nodes) *meeting {
	m := &meeting{nodes: nodes, at: make([]*exchange, ranks)}
	m.turn = sync.NewCond(&m.mu)
	return m
}

// place is a rank's at a meeting.
type place struct {
	*meeting
	rank int
}

// wait gives a rank the sums of all shards when all ranks are here. Where one of them has failed it fails too.
func (p *place) wait(x *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[p.rank] = x
	p.here++
	for round := p.round; p.here < len(p.at) && p.round == round && p.failed == nil; {
		p.turn.Wait()
	}
	if p.here == len(p.at) && p.failed == nil {
		p.failed = p.share()
		p.here = 0
		p.round++
		p.turn.Broadcast()
	}
	exec.Fail(p.failed)
}

var errRankGone = errors.New("another rank has ended in the midst of a batch")

// watch does something with a rank, and lets no other one wait for it when that has failed.
func (m *meeting) watch(do func() error) (err error) {
	if m == nil {
		return do()
	}
	done := false
	defer func() {
		if done && err == nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.failed == nil {
			if m.failed = err; !done {
				m.failed = errRankGone // it goes on with a panic
			}
		}
		m.turn.Broadcast()
	}()
	caught := func() (err error) {
		defer exec.Catch(&err)
		return do()
	}
	err = caught()
	done = true
	return err
}

// share gives every rank what all have, by one goroutine while no other enqueues anything.
func (m *meeting) share() (err error) {
	defer exec.Catch(&err)
	var devices []*exec.Device
	for _, x := range m.at {
		devices = append(devices, x.mine.Device())
	}
	if m.nodes != nil || !exec.Peers(devices) {
		return m.shareByHost()
	}
	for _, d := range devices {
		for _, other := range devices {
			if d != other {
				d.Follow(other)
			}
		}
	}
	// Who writes its sums again, in the next batch, has followed all others once more: they have copied by then.
	for _, x := range m.at {
		for k, other := range m.at {
			part(x.whole, k, other.mine.Len()).CopyFrom(other.mine)
		}
	}
	return nil
}

// shareByHost does that through the host's memory, and with other nodes.
func (m *meeting) shareByHost() error {
	var mine []float32
	for _, x := range m.at {
		mine = append(mine, x.mine.Values()...)
	}
	all := mine
	if m.nodes != nil {
		texts, err := m.nodes.Gather(littleEndian(mine))
		if err != nil {
			return err
		}
		all = make([]float32, m.at[0].whole.Len())
		if err := binary.Read(bytes.NewReader(bytes.Join(texts, nil)), binary.LittleEndian, all); err != nil {
			return err
		}
	}
	return exec.Each(len(m.at), func(i int) error {
		m.at[i].whole.WriteF32(0, all)
		return nil
	})
}

// part is number k of a buffer's parts of n elements.
func part(b *exec.Buffer, k, n int) *exec.Buffer { return b.Slice(k*n, n) }
