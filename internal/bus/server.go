//go:build !nofarm

package bus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig is how a server within this program runs.
type ServerConfig struct {
	Host string // to listen at; empty: at every address
	Port int    // 0: a free one
	Keys string // the folder of MakeKeys
	// Store is the folder of the streams, which may be deleted while no server runs; empty: there are none.
	Store string
	// Members are allowed to publish to these subjects, and to subscribe to those; the owner may do everything.
	Publish, Subscribe []string
	Quick              bool // streams are not flushed to the disk after every message: for measurements
	Log                func(text string)
}

// Server is one that runs within this program. It listens with TLS and answers to keys alone.
type Server struct {
	server *server.Server
	hosts  []string
	log    *serverLog
}

const (
	startWait    = 30 * time.Second
	mostPayload  = 1 << 20
	mostStore    = 16 << 30
	mostMemory   = 256 << 20
	serverPrefix = "the farm's server: "
)

// Serve starts a server. Of a store that cannot be opened a new one is made: what was queued there is submitted again
// by whoever waits for it.
func Serve(c ServerConfig) (*Server, error) {
	if c.Log == nil {
		c.Log = func(string) {}
	}
	s, err := serve(c)
	if err == nil || !errors.Is(err, errStore) {
		return s, err
	}
	c.Log(fmt.Sprintf("%v: its store %s is begun anew", err, c.Store))
	if err := os.RemoveAll(c.Store); err != nil {
		return nil, err
	}
	return serve(c)
}

// errStore marks a server that did not start because of what it has stored.
var errStore = errors.New("the store cannot be opened")

func serve(c ServerConfig) (*Server, error) {
	s := &Server{hosts: hosts(c.Host), log: &serverLog{tell: c.Log}}
	certificate, err := serverCertificate(c.Keys, s.hosts)
	if err != nil {
		return nil, err
	}
	owner, err := Owner(c.Keys)
	if err != nil {
		return nil, err
	}
	member, err := Member(filepath.Join(c.Keys, KeysFolder))
	if err != nil {
		return nil, err
	}
	// The server itself says what keeps it from listening in its log alone, after a while.
	l, err := net.Listen("tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	o := &server.Options{ServerName: "ctnas", Host: c.Host, Port: port, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: c.Store != "", StoreDir: c.Store, SyncAlways: !c.Quick, JetStreamMaxMemory: mostMemory,
		JetStreamMaxStore: mostStore, MaxPayload: mostPayload, TLSConfig: certificate, TLS: true, TLSTimeout: 20,
		AuthTimeout: 30,
		Nkeys: []*server.NkeyUser{{Nkey: owner.public}, {Nkey: member.public, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: c.Publish},
			Subscribe: &server.SubjectPermission{Allow: c.Subscribe},
			Response:  &server.ResponsePermission{MaxMsgs: 1, Expires: startWait}, // they may answer who asks
		}}},
	}
	if c.Host == "" {
		o.Host = "0.0.0.0"
	}
	if s.server, err = server.NewServer(o); err != nil {
		return nil, err
	}
	s.server.SetLoggerV2(s.log, false, false, false)
	s.server.Start()
	if !s.server.ReadyForConnections(startWait) || c.Store != "" && !s.server.JetStreamEnabled() {
		s.Close()
		if last := s.log.last(); last != "" {
			return nil, fmt.Errorf("%w: %s", errStore, last)
		}
		return nil, fmt.Errorf("%w: it did not start within %v", errStore, startWait)
	}
	return s, nil
}

// hosts are the names under which a server that listens at an address is reached.
func hosts(listen string) []string {
	list := []string{"localhost", "127.0.0.1", "::1"}
	if listen != "" {
		list = append(list, listen)
	}
	if ip := net.ParseIP(listen); listen != "" && (ip == nil || !ip.IsUnspecified()) {
		return list
	}
	if name, err := os.Hostname(); err == nil {
		list = append(list, name)
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if network, ok := a.(*net.IPNet); ok {
				list = append(list, network.IP.String())
			}
		}
	}
	return list
}

// Port is where the server listens.
func (s *Server) Port() int { return s.server.Addr().(*net.TCPAddr).Port }

// Close ends the server; who is connected connects again when there is another.
func (s *Server) Close() {
	s.log.close()
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// serverLog passes on what a server complains about until it is closed.
type serverLog struct {
	mu    sync.Mutex
	tell  func(string)
	fatal string
	done  bool
}

func (l *serverLog) say(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		l.tell(serverPrefix + fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *serverLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
}

func (l *serverLog) Noticef(string, ...any)         {}
func (l *serverLog) Debugf(string, ...any)          {}
func (l *serverLog) Tracef(string, ...any)          {}
func (l *serverLog) Warnf(format string, v ...any)  { l.say(format, v...) }
func (l *serverLog) Errorf(format string, v ...any) { l.say(format, v...) }
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.fatal = fmt.Sprintf(format, v...)
	l.mu.Unlock()
}
