//go:build !nofarm

package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ctnas/ctnas/internal/bus"
)

const (
	joinSubject = "nodes.join"
	askEvery    = 100 * time.Millisecond
	// forgetAfter is after how long a node that no longer asks is another process's to be.
	forgetAfter = 3 * time.Second
	// refuseFor is how long node 0 tells the others why there is no group.
	refuseFor = 2 * time.Second
	// handshakeWait is how long who calls may take to show a certificate.
	handshakeWait = 10 * time.Second
)

// member is a node that joins.
type member struct {
	Node, Nodes int
	Version     string
	Host        string
	Address     string // where it listens
	Print       string // of its certificate, in hex
	Knows       bool   // it has been told of all
}

// answer is what node 0 says to one that asks.
type answer struct {
	Refused string   // why there will be no group
	Taken   string   // the host of another process that is the same node
	Members []member // all of them, when all are there
}

// Join meets the other nodes at node 0, which listens there with the keys of a farm (ctnas farm keys), and connects
// them. Nodes that are not there yet are waited for, for Config.Patience.
func Join(ctx context.Context, c Config) (n *Nodes, err error) {
	if c.Nodes == 1 {
		return New(0, []string{hostName()}, nil, c.Patience), nil
	}
	wait, cancel := context.WithTimeoutCause(ctx, c.Patience, fmt.Errorf("not all nodes have come within %v",
		c.Patience))
	defer cancel()
	defer func() {
		if err != nil && wait.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w: %w", ErrLost, context.Cause(wait), err)
		}
	}()
	l, own, print, err := c.listen()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	me := member{Node: c.Node, Nodes: c.Nodes, Version: c.Version, Host: hostName(), Address: l.Addr().String(),
		Print: print}
	meet := c.ask
	if c.Node == 0 {
		meet = c.serve
	}
	members, leave, err := meet(wait, me)
	if err != nil {
		return nil, err
	}
	defer leave()
	conns, err := connect(wait, members, c.Node, l, own)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range members {
		names = append(names, m.Host)
	}
	return New(c.Node, names, conns, c.Patience), nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// listen opens a port at the address by which this machine reaches node 0, with a certificate that is made for this
// group.
func (c Config) listen() (l net.Listener, own tls.Certificate, print string, err error) {
	way, err := net.Dial("udp", c.At) // nothing is sent
	if err != nil {
		return nil, own, "", err
	}
	host := way.LocalAddr().(*net.UDPAddr).IP.String()
	if err := way.Close(); err != nil {
		return nil, own, "", err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, own, "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(c.Node) + 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, own, "", err
	}
	own = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
	l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	return l, own, printOf(der), err
}

func printOf(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	return hex.EncodeToString(sum[:])
}

// table is what node 0 knows of the others.
type table struct {
	mu      sync.Mutex
	members []member // by node; of those that are not there Nodes is 0
	heard   []time.Time
	knowing map[int]bool // who has said that it knows of all
	refused string
	change  chan struct{} // has an element when something has changed
}

// join answers one that asks.
func (t *table) join(m member) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		select {
		case t.change <- struct{}{}:
		default:
		}
	}()
	first := t.members[0]
	name := func(m member) string { return fmt.Sprintf("node %d (%s)", m.Node, m.Host) }
	switch {
	case t.refused != "":
	case m.Version != first.Version:
		t.refused = fmt.Sprintf("%s is ctnas %s and %s is ctnas %s: want the same program on all nodes", name(first),
			first.Version, name(m), m.Version)
	case m.Nodes != first.Nodes:
		t.refused = fmt.Sprintf("%s was started with --nodes %d and %s with --nodes %d", name(first), first.Nodes,
			name(m), m.Nodes)
	case m.Node < 1 || m.Node >= first.Nodes:
		t.refused = fmt.Sprintf("%s is none of %d nodes", name(m), first.Nodes)
	}
	if t.refused != "" {
		return answer{Refused: t.refused}
	}
	is := &t.members[m.Node]
	if is.Nodes > 0 && is.Print != m.Print && time.Since(t.heard[m.Node]) < forgetAfter {
		return answer{Taken: is.Host}
	}
	*is, t.heard[m.Node] = m, time.Now()
	for i := range t.members[1:] {
		if t.members[i+1].Nodes == 0 || time.Since(t.heard[i+1]) >= forgetAfter {
			t.members[i+1] = member{}
			return answer{}
		}
	}
	if m.Knows { // what is only sent may not come: node 0 is gone as soon as all know
		t.knowing[m.Node] = true
	}
	return answer{Members: t.members}
}

// serve is the part of node 0. Nothing is left to be done when it returns.
func (c Config) serve(ctx context.Context, me member) (members []member, leave func(), err error) {
	if err := bus.MakeKeys(c.Keys); err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(c.At)
	if err != nil {
		return nil, nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, nil, fmt.Errorf("port %q: %w", port, err)
	}
	s, err := bus.Serve(bus.ServerConfig{Host: host, Port: number, Keys: c.Keys, Publish: []string{joinSubject},
		Subscribe: []string{"_INBOX.>"}, Log: c.Tell})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	owner, err := bus.Owner(c.Keys)
	if err != nil {
		return nil, nil, err
	}
	conn, err := bus.Dial(ctx, "tls://"+c.At, "node 0", owner, nil) // as the others do: it may listen there alone
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	t := &table{members: make([]member, c.Nodes), heard: make([]time.Time, c.Nodes), knowing: map[int]bool{},
		change: make(chan struct{}, 1)}
	t.members[0] = me
	stop, _, err := conn.Hear(joinSubject, func(_ string, data []byte) []byte {
		var m member
		if err := json.Unmarshal(data, &m); err != nil {
			return nil
		}
		text, err := json.Marshal(t.join(m))
		if err != nil {
			return nil
		}
		return text
	})
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	for {
		select {
		case <-t.change:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("node 0 waits for %v (%w)", t.missing(), ctx.Err())
		}
		t.mu.Lock()
		refused, all := t.refused, len(t.knowing) == c.Nodes-1
		t.mu.Unlock()
		switch {
		case refused != "":
			select {
			case <-time.After(refuseFor): // for the others
			case <-ctx.Done():
			}
			return nil, nil, errors.New(refused)
		case all:
			return t.members, func() {}, nil
		}
	}
}

// missing are the nodes that have not come.
func (t *table) missing() (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := 1; i < len(t.members); i++ {
		if t.members[i].Nodes == 0 || time.Since(t.heard[i]) >= forgetAfter {
			list = append(list, fmt.Sprintf("node %d", i))
		}
	}
	return list
}

// ask is the part of the other nodes. Until leave, node 0 is told again and again that this one knows of all.
func (c Config) ask(ctx context.Context, me member) (members []member, leave func(), err error) {
	who, err := c.credentials(ctx)
	if err != nil {
		return nil, nil, err
	}
	conn, err := bus.Dial(ctx, "tls://"+c.At, fmt.Sprintf("node %d", c.Node), who, func(why error) {
		c.Tell(fmt.Sprintf("node 0 is not there yet: %v", why))
	})
	if err != nil {
		return nil, nil, err
	}
	members, err = c.learn(ctx, conn, me)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	me.Knows = true
	text, err := json.Marshal(me)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	saying, stop := context.WithCancel(ctx)
	said := make(chan struct{})
	go func() {
		defer close(said)
		for saying.Err() == nil {
			_, _ = conn.Ask(saying, joinSubject, text) // nobody answers when node 0 has heard it from all
			select {
			case <-saying.Done():
			case <-time.After(askEvery):
			}
		}
	}()
	return members, func() {
		stop()
		<-said
		conn.Close()
	}, nil
}

// learn asks node 0 until it says who all are.
func (c Config) learn(ctx context.Context, conn *bus.Conn, me member) ([]member, error) {
	text, err := json.Marshal(me)
	if err != nil {
		return nil, err
	}
	var told string
	for {
		var a answer
		got, err := conn.Ask(ctx, joinSubject, text)
		if err == nil {
			err = json.Unmarshal(got, &a)
		}
		switch {
		case err != nil: // node 0 is about to come, or comes again
		case a.Refused != "":
			return nil, errors.New(a.Refused)
		case len(a.Members) == c.Nodes:
			return a.Members, nil
		case a.Taken != "" && a.Taken != told:
			told = a.Taken
			c.Tell(fmt.Sprintf("another process on %s is node %d, too", a.Taken, c.Node))
		}
		select {
		case <-ctx.Done():
			if err == nil && a.Taken != "" {
				err = fmt.Errorf("another process on %s is node %d, too", a.Taken, c.Node)
			}
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(askEvery):
		}
	}
}

// credentials are those of a folder that node 0 makes, if it lies on a disk that all nodes see, or of a copy of its
// folder keys. It is waited for.
func (c Config) credentials(ctx context.Context) (bus.Credentials, error) {
	for {
		who, err := bus.Member(filepath.Join(c.Keys, bus.KeysFolder))
		if err != nil && errors.Is(err, os.ErrNotExist) {
			if copied, e := bus.Member(c.Keys); e == nil {
				who, err = copied, nil
			}
		}
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return who, err
		}
		select {
		case <-ctx.Done():
			return who, fmt.Errorf("the keys of the nodes: %w", err)
		case <-time.After(askEvery):
		}
	}
}

// connect connects a node to its neighbours: of two the one with the higher number calls. Each shows the certificate
// that node 0 has told the other of.
func connect(ctx context.Context, members []member, me int, l net.Listener, own tls.Certificate) ([]net.Conn, error) {
	var conns []net.Conn
	expected := map[string]int{} // bit of who calls, by its certificate
	for b := 0; 1<<b < len(members); b++ {
		conns = append(conns, nil)
		if peer := me ^ 1<<b; peer > me {
			expected[members[peer].Print] = b
		}
	}
	made := false
	defer func() {
		for _, c := range conns {
			if c != nil && !made {
				_ = c.Close()
			}
		}
	}()
	config := func(known func(print string) bool) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
			ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
			InsecureSkipVerify: true, // instead of names and authorities the certificate itself is known
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) != 1 || !known(printOf(s.PeerCertificates[0].Raw)) {
					return errors.New("that is none of the nodes")
				}
				return nil
			}}
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for b := range conns {
		peer := me ^ 1<<b
		if peer > me {
			continue
		}
		d := tls.Dialer{Config: config(func(print string) bool { return print == members[peer].Print })}
		var err error
		if conns[b], err = d.DialContext(ctx, "tcp", members[peer].Address); err != nil {
			return nil, fmt.Errorf("node %d (%s): %w", peer, members[peer].Host, err)
		}
	}
	isExpected := func(print string) bool {
		b, known := expected[print]
		return known && conns[b] == nil
	}
	for len(expected) > 0 {
		raw, err := l.Accept()
		if err != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		c := tls.Server(raw, config(isExpected))
		short, cancel := context.WithTimeout(ctx, handshakeWait)
		err = c.HandshakeContext(short)
		cancel()
		if err != nil { // whoever that was
			_ = raw.Close()
			continue
		}
		print := printOf(c.ConnectionState().PeerCertificates[0].Raw)
		conns[expected[print]] = c
		delete(expected, print)
	}
	made = true
	return conns, nil
}
