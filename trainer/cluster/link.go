package cluster

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What is sent between nodes: a head and so many bytes.
const (
	kindData   = 'd' // a piece of what a collective call sends
	kindStop   = 's' // a node is to end
	kindAlive  = 'a' // the node waits for another one
	kindFailed = 'f' // there is no more work together, and why
	kindBye    = 'b' // the node has ended its work
)

const (
	headBytes  = 24      // kind, 3 bytes of zeros, call (4), bytes of this piece (8), and of all pieces (8)
	pieceBytes = 1 << 20 // at most, so that a word that is urgent comes between
	mostNotice = 64 << 10
	mostBytes  = 64 << 30 // of what one call sends
)

// farewellWait is how long it is tried to tell a neighbour that this node ends, and waited for its own end.
const farewellWait = 5 * time.Second

// link is the connection to a neighbour.
type link struct {
	n     *Nodes
	peer  int
	conn  net.Conn
	heard atomic.Int64 // when a piece came last, in nanoseconds of Unix time
	wants chan want
	gone  chan struct{} // closed when nothing more is heard

	mu  sync.Mutex // of writing
	out []byte
}

// want is where the next message goes.
type want struct {
	call uint32
	into []byte // nil: of any length
	got  chan<- []byte
}

func newLink(n *Nodes, peer int, c net.Conn) *link {
	return &link{n: n, peer: peer, conn: c, wants: make(chan want), gone: make(chan struct{})}
}

// send sends what the neighbour receives in the same call.
func (l *link) send(call uint32, data []byte) error {
	for from := 0; from == 0 || from < len(data); from += pieceBytes {
		if err := l.write(kindData, call, data[from:min(len(data), from+pieceBytes)], len(data)); err != nil {
			return l.n.fail(l.n.lost(l.peer, "does not take what is sent: %v", err))
		}
	}
	return nil
}

// tell sends a word that belongs to no call.
func (l *link) tell(kind byte, text []byte) error { return l.write(kind, 0, text, len(text)) }

// murmur says that this node is alive, unless it is saying something anyway.
func (l *link) murmur() {
	if l.mu.TryLock() {
		l.mu.Unlock()
		_ = l.tell(kindAlive, nil)
	}
}

func (l *link) write(kind byte, call uint32, piece []byte, all int) error {
	var head [headBytes]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[4:], call)
	binary.LittleEndian.PutUint64(head[8:], uint64(len(piece)))
	binary.LittleEndian.PutUint64(head[16:], uint64(all))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.n.patience)); err != nil {
		return err
	}
	l.out = append(append(l.out[:0], head[:]...), piece...)
	_, err := l.conn.Write(l.out)
	return err
}

// farewell says the last word, and hangs up when the neighbour has, too, or a while has passed.
func (l *link) farewell(kind byte, text []byte) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = l.tell(kind, text)
	}()
	enough := time.After(min(farewellWait, l.n.patience))
	for _, done := range []chan struct{}{said, l.gone} {
		select {
		case <-done:
		case <-enough: // it hangs, or is at other things
			_ = l.conn.Close()
			return
		}
	}
	_ = l.conn.Close()
}

// receive waits for what the neighbour sends in the same call.
func (l *link) receive(call uint32, into []byte) ([]byte, error) {
	got := make(chan []byte, 1)
	timer := time.NewTimer(l.n.patience)
	defer timer.Stop()
	since := time.Now()
	expired := func() bool { // or the timer is set again
		if at := time.Unix(0, l.heard.Load()); at.After(since) {
			since = at
		}
		left := l.n.patience - time.Since(since)
		if left > 0 {
			timer.Reset(left)
		}
		return left <= 0
	}
	asked, wants := want{call, into, got}, l.wants
	alive := time.NewTicker(l.n.patience / 4)
	defer alive.Stop()
	for {
		select {
		case <-alive.C: // so that it is not this node that others take for the one that hangs
			for _, other := range l.n.links {
				go other.murmur()
			}
		case wants <- asked:
			wants = nil
		case data := <-got:
			return data, nil
		case <-l.n.failed:
			return nil, l.n.reason()
		case <-l.gone:
			select {
			case data := <-got: // the last thing that it said
				return data, nil
			default:
			}
			return nil, l.n.fail(l.n.lost(l.peer, "has ended"))
		case <-timer.C:
			if expired() {
				return nil, l.n.fail(l.n.lost(l.peer, "hangs: nothing has come from it for %v", l.n.patience))
			}
		}
	}
}

// listen hears what the neighbour says until the connection ends.
func (l *link) listen() {
	defer close(l.gone)
	r := bufio.NewReaderSize(l.conn, 64<<10)
	var w want // that is being filled
	filled := 0
	for {
		var head [headBytes]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			l.broken(err)
			return
		}
		call, size := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint64(head[8:])
		all := binary.LittleEndian.Uint64(head[16:])
		if size > pieceBytes || size > all || all > mostBytes {
			l.broken(fmt.Errorf("it sent %d of %d bytes at once", size, all))
			return
		}
		if kind := head[0]; kind != kindData {
			text := make([]byte, size)
			if _, err := io.ReadFull(r, text); err != nil {
				l.broken(err)
				return
			}
			switch kind {
			case kindAlive:
				l.heard.Store(time.Now().UnixNano())
			case kindStop:
				l.n.interrupt(l)
			case kindFailed:
				_ = l.n.fail(hears(text))
				return
			case kindBye:
				return
			default:
				l.broken(fmt.Errorf("it said %q", kind))
				return
			}
			continue
		}
		if w.got == nil {
			select {
			case w = <-l.wants:
			case <-l.n.failed: // hanging up with words unread would take back what was said last
				_, _ = io.Copy(io.Discard, r)
				return
			}
			if w.into == nil {
				w.into = make([]byte, all)
			}
			filled = 0
		}
		if call != w.call || all != uint64(len(w.into)) || size > uint64(len(w.into)-filled) {
			_ = l.n.fail(fmt.Errorf("%s and %s do different things: a defect of ctnas (call %d with %d bytes, call %d "+
				"with %d)", l.n.Name(l.n.me), l.n.Name(l.peer), w.call, len(w.into), call, all))
			return
		}
		if _, err := io.ReadFull(r, w.into[filled:filled+int(size)]); err != nil {
			l.broken(err)
			return
		}
		l.heard.Store(time.Now().UnixNano())
		if filled += int(size); filled == len(w.into) {
			w.got <- w.into
			w = want{}
		}
	}
}

// broken is what becomes of a connection that ends without a word.
func (l *link) broken(err error) {
	_ = l.n.fail(l.n.lost(l.peer, "is gone: %v", err))
}
