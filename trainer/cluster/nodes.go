package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"time"
	"unsafe"
)

// ErrLost marks the end of a training because a node is gone or hangs, which another attempt may not meet.
var ErrLost = errors.New("the other nodes are lost")

// errEnded is what a node that has ended its work is to itself.
var errEnded = errors.New("this node has ended its work")

// Nodes are the machines that train one network together, as one of them sees it. Its collective calls, Sum, Gather
// and Broadcast, are made by every node in the same order, each time by one goroutine. Node i is connected to those
// whose number differs from i in one bit, a hypercube: whatever is told reaches all in as many steps as there are bits.
//
// A node whose word a collective call waits for without any progress for a while, or whose connection ends, is lost:
// the call fails everywhere, with the same reason, and every later one. A node that waits itself says so, so that it is
// the one that hangs which is named.
type Nodes struct {
	me       int
	names    []string
	links    []*link // by bit
	patience time.Duration
	calls    uint32
	spare    []float32 // half of what is added up

	mu     sync.Mutex
	err    error         // why there is no more work together
	failed chan struct{} // closed when err is set
	told   bool          // a node is to end

	interrupted chan struct{}
}

// New makes a group of connections: conns[b] is that of node me to the node whose number differs in bit b, and has as
// many elements as the number of names has bits. A node that is silent for longer than patience where its word is
// waited for is lost.
func New(me int, names []string, conns []net.Conn, patience time.Duration) *Nodes {
	if len(names) != 1<<len(conns) {
		panic(fmt.Sprintf("cluster: %d connections of %d nodes", len(conns), len(names)))
	}
	n := &Nodes{me: me, names: names, patience: patience, failed: make(chan struct{}),
		interrupted: make(chan struct{})}
	for b, c := range conns {
		n.links = append(n.links, newLink(n, me^1<<b, c))
	}
	for _, l := range n.links {
		go l.listen()
	}
	return n
}

// Node is which of how many nodes this one is.
func (n *Nodes) Node() (me, all int) { return n.me, len(n.names) }

// Name is a node, for people.
func (n *Nodes) Name(node int) string { return fmt.Sprintf("node %d (%s)", node, n.names[node]) }

// Interrupt tells all nodes that one of them is to end.
func (n *Nodes) Interrupt() { n.interrupt(nil) }

// Interrupted is closed when any node was told to end.
func (n *Nodes) Interrupted() <-chan struct{} { return n.interrupted }

// interrupt passes that on to all that it has not come from.
func (n *Nodes) interrupt(from *link) {
	n.mu.Lock()
	known := n.told
	n.told = true
	n.mu.Unlock()
	if known {
		return
	}
	close(n.interrupted)
	for _, l := range n.links {
		if l != from {
			go func() { _ = l.tell(kindStop, nil) }()
		}
	}
}

// fail ends all work together, and tells the others why. Only the first reason counts; it is returned.
func (n *Nodes) fail(why error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	n.err = why
	close(n.failed)
	text := noticeOf(why)
	for _, l := range n.links {
		go l.farewell(kindFailed, text)
	}
	return why
}

// reason is why there is no more work together; nil while there is.
func (n *Nodes) reason() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// noticeOf is a reason for the other nodes: whether they are lost, and words.
func noticeOf(why error) []byte {
	lost := byte(0)
	if errors.Is(why, ErrLost) {
		lost = 1
	}
	text := why.Error()
	return append([]byte{lost}, text[:min(len(text), mostNotice-1)]...)
}

// hears is the reason that another node has sent.
func hears(notice []byte) error {
	if len(notice) == 0 {
		return ErrLost
	}
	return &noticeError{string(notice[1:]), notice[0] == 1}
}

// noticeError is a reason that another node has told.
type noticeError struct {
	text string
	lost bool
}

func (e *noticeError) Error() string { return e.text }

func (e *noticeError) Is(target error) bool { return e.lost && target == ErrLost }

// lost is the error of a node that is gone, or hangs.
func (n *Nodes) lost(node int, format string, a ...any) error {
	return &noticeError{n.Name(node) + " " + fmt.Sprintf(format, a...), true}
}

// Close ends the group. With an error that is this node's own the others are told, and end with it too.
func (n *Nodes) Close(why error) {
	if why != nil {
		text := why.Error()
		if !errors.As(why, new(*noticeError)) {
			text = fmt.Sprintf("%s has ended with an error: %s", n.Name(n.me), text)
		}
		_ = n.fail(&noticeError{text, errors.Is(why, ErrLost)})
	} else {
		n.mu.Lock()
		if n.err == nil {
			n.err = errEnded
			close(n.failed)
			for _, l := range n.links {
				go l.farewell(kindBye, nil)
			}
		}
		n.mu.Unlock()
	}
	for _, l := range n.links {
		<-l.gone
	}
}

// begin numbers a collective call.
func (n *Nodes) begin() (call uint32, err error) {
	n.calls++
	return n.calls, n.reason()
}

// exchange sends to a neighbour what in is received for from it, at the same time. A nil in takes any length; it is
// returned as it was received.
func (n *Nodes) exchange(l *link, call uint32, out, in []byte) ([]byte, error) {
	sent := make(chan error, 1)
	go func() { sent <- l.send(call, out) }()
	in, err := l.receive(call, in)
	if e := <-sent; err == nil {
		err = e
	}
	return in, err
}

// small is how many floats are exchanged whole: that takes half as many steps as by halves.
const small = 2048

// Sum adds up what the nodes have, all equally many numbers, in place, in float32: in the order of a balanced tree over
// the nodes, ((0+1)+(2+3))+…, so that the sum of aligned parts of a tree is that of the whole tree. Each node sends
// and receives 2 (N-1)/N of the numbers: halves of what it has are exchanged with ever farther neighbours and added up,
// and then the sums the other way (recursive halving and doubling; Thakur, Rabenseifner and Gropp 2005).
func (n *Nodes) Sum(values []float32) error {
	call, err := n.begin()
	if err != nil {
		return err
	}
	if len(n.spare) < max(len(values)/2+1, small) {
		n.spare = make([]float32, max(len(values)/2+1, small))
	}
	if len(values) <= small {
		for b, l := range n.links {
			if err := n.join(l, call, values, values, n.me>>b&1 == 1); err != nil {
				return err
			}
		}
		return nil
	}
	type halves struct{ mine, theirs []float32 }
	var cut []halves
	mine := values
	for b, l := range n.links {
		h := halves{mine[:len(mine)/2], mine[len(mine)/2:]}
		upper := n.me>>b&1 == 1
		if upper {
			h.mine, h.theirs = h.theirs, h.mine
		}
		if err := n.join(l, call, h.theirs, h.mine, upper); err != nil {
			return err
		}
		cut, mine = append(cut, h), h.mine
	}
	for b := len(cut) - 1; b >= 0; b-- {
		if _, err := n.exchange(n.links[b], call, bytesOf(cut[b].mine), bytesOf(cut[b].theirs)); err != nil {
			return err
		}
	}
	return nil
}

// join sends out to a neighbour and adds what it sends to mine, which stands behind where upper is true.
func (n *Nodes) join(l *link, call uint32, out, mine []float32, upper bool) error {
	theirs := n.spare[:len(mine)]
	if _, err := n.exchange(l, call, bytesOf(out), bytesOf(theirs)); err != nil {
		return err
	}
	if upper {
		for i, v := range theirs {
			mine[i] = v + mine[i]
		}
		return nil
	}
	for i, v := range theirs {
		mine[i] += v
	}
	return nil
}

// bytesOf are the bytes of floats, as they lie in memory: all machines that this runs on are little-endian.
func bytesOf(values []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
}

// Gather gives every node what each of them says, by node; it is meant for little.
func (n *Nodes) Gather(mine []byte) ([][]byte, error) {
	call, err := n.begin()
	if err != nil {
		return nil, err
	}
	all := make([][]byte, len(n.names))
	all[n.me] = append([]byte{}, mine...)
	for b, l := range n.links {
		var out []byte
		from := n.me >> b << b
		for _, one := range all[from : from+1<<b] {
			out = append(binary.LittleEndian.AppendUint32(out, uint32(len(one))), one...)
		}
		in, err := n.exchange(l, call, out, nil)
		if err != nil {
			return nil, err
		}
		from = l.peer >> b << b
		for i := range 1 << b {
			if len(in) < 4 || uint64(len(in)-4) < uint64(binary.LittleEndian.Uint32(in)) {
				return nil, n.fail(fmt.Errorf("%s has sent what is no list", n.Name(l.peer)))
			}
			end := 4 + binary.LittleEndian.Uint32(in)
			all[from+i], in = in[4:end], in[end:]
		}
	}
	return all, nil
}

// Broadcast gives every node what node 0 has.
func (n *Nodes) Broadcast(data []byte) ([]byte, error) {
	call, err := n.begin()
	if err != nil {
		return nil, err
	}
	for b := len(n.links) - 1; b >= 0 && err == nil; b-- {
		switch l := n.links[b]; {
		case n.me&(2<<b-1) == 0:
			err = l.send(call, data)
		case bits.TrailingZeros(uint(n.me)) == b:
			data, err = l.receive(call, nil)
		}
	}
	return data, err
}
