package serve

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Page is what people are shown: HTML whose middle is another one from time to time.
type Page struct {
	Policy     string // its content security policy
	Head, Tail []byte
	// Body is the middle, whole elements. Whoever asks waits for it until the context is done. What it costs is paid
	// only while somebody looks.
	Body func(context.Context) []byte
}

const (
	lookEvery = 2 * time.Second
	// sparing is how many times longer than making a page takes nothing is made anew, so that who looks does not slow
	// down what he looks at.
	sparing     = 20
	mostFollow  = 16 // at once
	mostPageAge = time.Minute
)

// shown is a page that is made for all who look at once.
type shown struct {
	*Page
	followers slots

	mu    sync.Mutex
	body  []byte
	until time.Time // it is not made anew before
}

// slots are how many are taken.
type slots struct {
	mu    sync.Mutex
	taken int
}

func (s *slots) take(by, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken+by > most {
		return false
	}
	s.taken += by
	return true
}

// now is the middle as of now, or of a little while ago.
func (s *shown) now(ctx context.Context) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := time.Now()
	if s.body == nil || begin.After(s.until) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookEvery) // others wait for it, too
		defer cancel()
		s.body = s.Body(ctx)
		s.until = time.Now().Add(min(max(lookEvery/2, sparing*time.Since(begin)), mostPageAge))
	}
	return s.body
}

// head says what may be done with an answer.
func (s *shown) head(w http.ResponseWriter, kind string) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", s.Policy+"; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

func (s *shown) whole(w http.ResponseWriter, r *http.Request) {
	s.head(w, "text/html; charset=utf-8")
	for _, part := range [][]byte{s.Head, s.now(r.Context()), s.Tail} {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// follow sends the middle whenever it is another one, as server-sent events.
func (s *shown) follow(w http.ResponseWriter, r *http.Request, ending <-chan struct{}) {
	if !s.followers.take(1, mostFollow) {
		http.Error(w, fmt.Sprintf("%d follow this page already", mostFollow), http.StatusServiceUnavailable)
		return
	}
	defer s.followers.take(-1, mostFollow)
	s.head(w, "text/event-stream")
	out := http.NewResponseController(w)
	var last []byte
	for {
		if body := s.now(r.Context()); !bytes.Equal(body, last) {
			last = body
			var event bytes.Buffer
			for line := range bytes.SplitSeq(body, []byte("\n")) {
				fmt.Fprintf(&event, "data: %s\n", line)
			}
			event.WriteByte('\n')
			_ = out.SetWriteDeadline(time.Now().Add(time.Minute)) // who reads no more is let go
			if _, err := w.Write(event.Bytes()); err != nil || out.Flush() != nil {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-ending:
			return
		case <-time.After(lookEvery):
		}
	}
}
