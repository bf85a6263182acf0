package cluster

import (
	"fmt"
	"net"
	"time"
)

// Local are all nodes of a group in one process, connected through this machine's network without TLS: for tests and
// measurements.
func Local(nodes int, patience time.Duration) ([]*Nodes, error) {
	return local(nodes, patience, func(_ int, c net.Conn) net.Conn { return c })
}

// local is Local, whose connections of each node are what wrap makes of them.
func local(nodes int, patience time.Duration, wrap func(node int, c net.Conn) net.Conn) ([]*Nodes, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var names []string
	conns := make([][]net.Conn, nodes)
	for i := range nodes {
		names = append(names, fmt.Sprintf("local %d", i))
	}
	for b := 0; 1<<b < nodes; b++ {
		for i := range nodes {
			peer := i ^ 1<<b
			if peer < i {
				continue
			}
			one, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			other, err := l.Accept()
			if err != nil {
				return nil, err
			}
			conns[i], conns[peer] = append(conns[i], wrap(i, one)), append(conns[peer], wrap(peer, other))
		}
	}
	all := make([]*Nodes, nodes)
	for i := range all {
		all[i] = New(i, names, conns[i], patience)
	}
	return all, nil
}
