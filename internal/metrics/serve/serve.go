// Package serve answers whoever watches a run: its numbers for Prometheus, whether it is well, and profiles. Nothing is
// opened unless it is asked for, and nothing here can change a run.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ctnas/ctnas/internal/metrics"
)

// Server answers at one address until it is closed.
type Server struct {
	http   *http.Server
	at     net.Listener
	closed chan struct{}
	ending chan struct{} // closed when whoever follows the page is to end
	gpus   io.Closer
	busy   atomic.Pointer[string] // why the process is not ready; nil: it is
}

// Address is where to listen for an address without a host, or without a port: on loopback, at a port that is free.
// Whoever wants others to reach it names a host, such as 0.0.0.0.
func Address(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil && !strings.Contains(text, ":") {
		host, port, err = text, "0", nil
		if strings.Trim(text, "0123456789") == "" {
			host, port = "", text
		}
	}
	if err != nil {
		return "", err
	}
	if !isPort(port) {
		return "", fmt.Errorf("%q is no port: want 0 (any that is free) to 65535", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func isPort(text string) bool {
	port, err := net.LookupPort("tcp", text)
	return err == nil && fmt.Sprint(port) == text
}

// New listens at an address, see Address, and answers there:
//
//	/              the page for people, if there is one, and at /live how it changes
//	/metrics       the numbers, as Prometheus reads them
//	/healthz       200 for as long as the process lives
//	/readyz        200 while it takes work, 503 and the reason while it does not
//	/debug/pprof/  profiles of Go's runtime
//
// It answers those who name it as it may be named, see named.
func New(address string, page *Page) (*Server, error) {
	address, err := Address(address)
	if err != nil {
		return nil, err
	}
	s := &Server{closed: make(chan struct{}), ending: make(chan struct{})}
	if s.at, err = net.Listen("tcp", address); err != nil {
		return nil, err
	}
	s.gpus = watchGPUs()
	mux := http.NewServeMux()
	numbers := promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4,
		Timeout: 10 * time.Second})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		metrics.Ask(ctx)
		cancel()
		numbers.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	for path, handle := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline,
		"profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		mux.HandleFunc("GET /debug/pprof/"+path, bounded(handle))
	}
	if page != nil {
		shown := &shown{Page: page}
		mux.HandleFunc("GET /{$}", shown.whole)
		mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { shown.follow(w, r, s.ending) })
	}
	bound, _, _ := net.SplitHostPort(address)
	// A profile takes as long as was asked for: there is no limit for writing.
	s.http = &http.Server{Handler: named(bound, mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 1 << 14}
	go func() {
		defer close(s.closed)
		_ = s.http.Serve(s.at) // ends by Close
	}()
	return s, nil
}

// mostProfile is how many seconds a profile may take: while it is taken nobody else gets one.
const mostProfile = 300

// bounded answers what asks for no more seconds than that.
func bounded(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			if n, err := strconv.ParseFloat(text, 64); err != nil || !(n >= 0 && n <= mostProfile) {
				http.Error(w, fmt.Sprintf("seconds=%.20q: want 0 to %d", text, mostProfile), http.StatusBadRequest)
				return
			}
		}
		handle(w, r)
	}
}

// named answers those alone who name the server by an address, as localhost, as this machine, or as --metrics does: a
// page of the web may have a name of its own lead here (DNS rebinding), and would read what is only for those who may
// reach this address.
func named(bound string, handle http.Handler) http.Handler {
	machine, _ := os.Hostname() // unknown is no name
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
		address, _, _ := strings.Cut(host, "%") // a zone
		if host == "" || net.ParseIP(address) == nil && !strings.EqualFold(host, "localhost") &&
			!strings.EqualFold(host, bound) && (machine == "" || !strings.EqualFold(host, machine)) {
			http.Error(w, fmt.Sprintf("nothing here is called %.100q: name this machine (%s), its address or "+
				"localhost; --metrics NAME:PORT gives another name", host, machine), http.StatusMisdirectedRequest)
			return
		}
		handle.ServeHTTP(w, r)
	})
}

// URL is where the server is reached from this machine.
func (s *Server) URL() string { return "http://" + s.at.Addr().String() }

// Busy makes the process not ready, for a reason; with an empty one it is ready again.
func (s *Server) Busy(why string) {
	if why == "" {
		s.busy.Store(nil)
		return
	}
	s.busy.Store(&why)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if why := s.busy.Load(); why != nil {
		http.Error(w, *why, http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// Close gives answers that have begun a second to end, and the address back.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	close(s.ending)
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.closed
	return errors.Join(err, s.gpus.Close())
}
