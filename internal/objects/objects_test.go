package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/files"
)

// server is S3 on loopback whose requests a test may answer in its place; fault returns whether it did.
type server struct {
	*httptest.Server
	backend gofakes3.Backend
	mu      sync.Mutex
	fault   func(w http.ResponseWriter, r *http.Request) bool
	asked   atomic.Int64
}

func (s *server) breaks(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
	s.asked.Store(0)
}

// newServer is one with the bucket "runs", which the environment leads to, until the test ends.
func newServer(t *testing.T) *server {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = time.Millisecond, time.Millisecond // after the last attempt too
	s := &server{backend: s3mem.New()}
	require.NoError(t, s.backend.CreateBucket("runs"))
	real := gofakes3.New(s.backend).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		if fault == nil || !fault(w, r) {
			real.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	return s
}

// puts stores an object as another program does.
func (s *server) puts(t *testing.T, key string, data []byte) {
	r, err := http.NewRequest(http.MethodPut, s.URL+"/runs/"+key, bytes.NewReader(data))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func open(t *testing.T, text string) Store {
	s, err := Open(text)
	require.NoError(t, err)
	if b, ok := s.(*bucket); ok {
		b.delay = time.Millisecond
	}
	return s
}

// some are random bytes with their checksum.
func some(n int) (data []byte, sum string) {
	data = make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	whole := sha256.Sum256(data)
	return data, hex.EncodeToString(whole[:])
}

func put(t *testing.T, s Store, name string, data []byte, sum string) {
	require.NoError(t, s.Put(t.Context(), name, bytes.NewReader(data), int64(len(data)), sum))
}

func get(t *testing.T, s Store, name string) []byte {
	var out bytes.Buffer
	require.NoError(t, s.Get(t.Context(), name, &out))
	return out.Bytes()
}

// Whatever a store lies in, it keeps what it was given.
func TestStores(t *testing.T) {
	newServer(t)
	for _, text := range []string{filepath.Join(t.TempDir(), "not", "there"), "s3://runs", "s3://runs/deep/er"} {
		s := open(t, text)
		require.Equal(t, text, s.String())
		all, err := s.List(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, all)
		require.ErrorIs(t, s.Get(t.Context(), "a", io.Discard), fs.ErrNotExist)
		want := map[string][]byte{}
		for i, n := range []int{0, 1, 1 + rand.IntN(100_000)} {
			name := []string{"b/empty", "a", "b/c d+é/large"}[i]
			data, sum := some(n)
			put(t, s, name, data, sum)
			want[name] = data
			require.Equal(t, data, append([]byte{}, get(t, s, name)...))
		}
		again, sum := some(77)
		put(t, s, "a", again, sum)
		require.Equal(t, again, get(t, s, "a"))
		all, err = s.List(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, all, 3)
		for i, name := range []string{"a", "b/c d+é/large", "b/empty"} {
			require.Equal(t, name, all[i].Name)
			require.False(t, all[i].Modified.IsZero())
		}
		require.EqualValues(t, 77, all[0].Size)
		all, err = s.List(t.Context(), "b/")
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.NoError(t, s.Delete(t.Context(), "a"))
		require.NoError(t, s.Delete(t.Context(), "a"))
		require.ErrorIs(t, s.Get(t.Context(), "a", io.Discard), fs.ErrNotExist)

		for _, name := range []string{"", ".", "..", "/a", "a/../../b", "a//b", "a/", "a\x00", `a\b`} {
			require.Error(t, s.Put(t.Context(), name, bytes.NewReader(nil), 0, sum), "%q", name)
			require.Error(t, s.Get(t.Context(), name, io.Discard), "%q", name)
			require.Error(t, s.Delete(t.Context(), name), "%q", name)
		}
		full := errors.New("no space left on device")
		require.ErrorIs(t, s.Get(t.Context(), "b/c d+é/large", failing{full}), full)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, s.Put(ctx, "x", bytes.NewReader(again), 77, sum), context.Canceled)
		require.ErrorIs(t, s.Get(ctx, "b/c d+é/large", io.Discard), context.Canceled)
	}
	for _, text := range []string{"", "http://x/y", "s3://", "s3:///x", "s3://A B/x", "s3://ok/../x", "s3://ok//x"} {
		_, err := Open(text)
		require.Error(t, err, text)
	}
	err := open(t, "s3://other").Get(t.Context(), "a", io.Discard)
	require.ErrorContains(t, err, "s3://other/a: there is no bucket of this name")
	t.Setenv("AWS_ENDPOINT_URL_S3", "nowhere")
	_, err = Open("s3://runs")
	require.ErrorContains(t, err, "AWS_ENDPOINT_URL")
	for _, endpoint := range []string{"https://me:secret@host", "https://me:secret@host/path",
		"https://me:sec%ret@host"} {
		t.Setenv("AWS_ENDPOINT_URL_S3", endpoint)
		_, err = Open("s3://runs")
		require.ErrorContains(t, err, "AWS_ENDPOINT_URL has an @")
		require.NotContains(t, err.Error(), "sec")
	}
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

// A folder takes only what has the checksum, and leaves nothing of what has not.
func TestAFolderChecksWhatItIsGiven(t *testing.T) {
	dir := t.TempDir()
	data, sum := some(1000)
	require.ErrorContains(t, open(t, dir).Put(t.Context(), "a", bytes.NewReader(data[:999]), 999, sum), "SHA-256")
	require.Error(t, open(t, dir).Put(t.Context(), "a", bytes.NewReader(data[:999]), 1000, sum))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Large objects go in parts.
func TestParts(t *testing.T) {
	srv := newServer(t)
	s := open(t, "s3://runs/x")
	parts := atomic.Int64{}
	srv.breaks(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") && parts.Add(1) == 2 {
			http.Error(w, "", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	data, sum := some(2*partSize + 12345)
	put(t, s, "large", data, sum)
	require.EqualValues(t, 4, parts.Load(), "three and one again")
	require.True(t, bytes.Equal(data, get(t, s, "large")))
}

// torn is an answer that ends after n bytes of its body.
type torn struct {
	http.ResponseWriter
	left int
}

func (w *torn) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// What a server does wrong for a while is got over; what it does wrong for good is an error that names the object.
func TestFaults(t *testing.T) {
	srv := newServer(t)
	s := open(t, "s3://runs/x")
	data, sum := some(300_000)
	put(t, s, "a", data, sum)
	real := gofakes3.New(srv.backend).Server()
	first := func(n int64, answer func(w http.ResponseWriter, r *http.Request)) {
		var met atomic.Int64
		srv.breaks(func(w http.ResponseWriter, r *http.Request) bool {
			if met.Add(1) > n {
				return false
			}
			answer(w, r)
			return true
		})
	}
	code := func(status int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", status) }
	}
	cut := func(w http.ResponseWriter, r *http.Request) { real.ServeHTTP(&torn{w, 100_000}, r) }
	drop := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"500": code(500), "503": code(503), "429": code(429), "dropped": drop,
	} {
		first(3, answer)
		require.Equal(t, data, get(t, s, "a"), name)
		first(3, answer)
		put(t, s, "b", data, sum)
		first(3, answer)
		all, err := s.List(t.Context(), "")
		require.NoError(t, err, name)
		require.Len(t, all, 2)
		first(3, answer)
		require.NoError(t, s.Delete(t.Context(), "b"), name)
		first(1000, answer)
		require.ErrorContains(t, s.Get(t.Context(), "a", io.Discard), "s3://runs/x/a: ", name)
		require.Less(t, srv.asked.Load(), int64(100), "%s: there is an end to it", name)
		first(1000, answer)
		err = s.Put(t.Context(), "b", bytes.NewReader(data), int64(len(data)), sum)
		require.ErrorContains(t, err, "s3://runs/x/b: ", name)
		first(1000, answer)
		_, err = s.List(t.Context(), "")
		require.Error(t, err, name)
	}
	first(2, cut) // goes on where it broke off
	require.Equal(t, data, get(t, s, "a"))
	require.EqualValues(t, 3, srv.asked.Load())
	first(1000, cut)
	var part bytes.Buffer
	require.NoError(t, s.Get(t.Context(), "a", &part), "three times a third")
	first(1000, func(w http.ResponseWriter, r *http.Request) { real.ServeHTTP(&torn{w, 10}, r) })
	require.ErrorContains(t, s.Get(t.Context(), "a", io.Discard), "s3://runs/x/a: ")
	require.Less(t, srv.asked.Load(), int64(20))

	first(1000, code(403)) // which asking again does not change
	require.Error(t, s.Get(t.Context(), "a", io.Discard))
	require.EqualValues(t, 1, srv.asked.Load())

	// Changed between two parts of a download.
	other, sum2 := some(300_000)
	first(1, func(w http.ResponseWriter, r *http.Request) {
		defer put(t, s, "a", other, sum2)
		cut(w, r)
	})
	require.Error(t, s.Get(t.Context(), "a", io.Discard))
	require.Equal(t, other, get(t, s, "a"))

	// Damaged where it lies, or on its way: with the checksum that it was stored with, and with the server's own.
	flip := func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		real.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		rec.Body.Bytes()[1234] ^= 1
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
	first(1, flip)
	require.ErrorContains(t, s.Get(t.Context(), "a", io.Discard), "it is damaged: its SHA-256 is")
	srv.breaks(nil)
	srv.puts(t, "x/plain", data)
	require.Equal(t, data, get(t, s, "plain"))
	first(1, flip)
	require.ErrorContains(t, s.Get(t.Context(), "plain", io.Discard), "it was damaged on its way: its MD5 is")

	// What another program has sent in parts has no checksum: it is taken, but not where it may be a part.
	for _, sized := range []bool{true, false} {
		srv.breaks(func(w http.ResponseWriter, r *http.Request) bool {
			rec := httptest.NewRecorder()
			real.ServeHTTP(rec, r)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef-2"`)
			if !sized {
				w.Header().Del("Content-Length")
			}
			w.WriteHeader(rec.Code)
			w.(http.Flusher).Flush()
			_, _ = w.Write(rec.Body.Bytes())
			return true
		})
		if sized {
			require.Equal(t, data, get(t, s, "plain"))
		}
	}
	require.ErrorContains(t, s.Get(t.Context(), "plain", io.Discard), "does not say how large it is")
}

// pipe notes until when what is read or written next may take.
type pipe struct {
	net.Conn
	until time.Time
}

func (p *pipe) SetDeadline(t time.Time) error {
	p.until = t
	return p.Conn.SetDeadline(t)
}

// A connection on which nothing moves ends, one that is slow does not: whatever moves gives it the whole time again.
func TestStandingStill(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	p := &pipe{Conn: a}
	c := moving{p, time.Hour}
	go func() { _, _ = io.Copy(b, b) }() // says what it hears
	buffer := make([]byte, 1)
	for range 3 {
		for _, move := range []func([]byte) (int, error){c.Write, c.Read} {
			begin := time.Now()
			_, err := move(buffer)
			require.NoError(t, err)
			require.False(t, p.until.Before(begin.Add(time.Hour)))
		}
	}
	c.stall = 10 * time.Millisecond
	_, err := c.Read(buffer)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	other, silent := net.Pipe()
	defer other.Close()
	defer silent.Close()
	_, err = moving{other, c.stall}.Write(buffer)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestPull(t *testing.T) {
	srv := newServer(t)
	s := open(t, "s3://runs/set")
	want := map[string][]byte{}
	for i := range 12 {
		name := fmt.Sprintf("train/class %d/%d.jpg", i%3, i)
		data, sum := some(rand.IntN(2000))
		put(t, s, name, data, sum)
		want[name] = data
	}
	dir := filepath.Join(t.TempDir(), "a")
	told := atomic.Int64{}
	pull := func() (Pulled, error) {
		told.Store(0)
		return Pull(t.Context(), s, dir, "pull", 3, func(_, total int) { told.Add(1); require.Equal(t, 12, total) })
	}
	same := func() {
		for name, data := range want {
			got, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), name)
		}
	}
	// One is listed and not there for a while; then one for good.
	gone := func(n int64) {
		var met atomic.Int64
		srv.breaks(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/7.jpg") || met.Add(1) > n {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
			return true
		})
	}
	gone(1000)
	p, err := pull()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "7.jpg")
	require.ErrorContains(t, err, "although it is listed")
	require.Less(t, p.Fetched, 12)
	gone(2)
	before := p.Fetched
	p, err = pull()
	require.NoError(t, err)
	require.Equal(t, 12-before, p.Fetched, "what was there is not fetched again")
	require.Equal(t, 12, p.Objects)
	require.EqualValues(t, 12, told.Load())
	same()
	p, err = pull()
	require.NoError(t, err)
	require.Zero(t, p.Fetched)

	const changed = "train/class 1/4.jpg"
	time.Sleep(time.Second) // the times of objects are whole seconds
	data := bytes.Clone(want[changed])
	for i := range data {
		data[i] ^= 1
	}
	whole := sha256.Sum256(data)
	put(t, s, changed, data, hex.EncodeToString(whole[:]))
	want[changed] = data
	require.NoError(t, os.WriteFile(filepath.Join(dir, "train/class 2/5.jpg"), nil, 0o644))
	_, err = pull()
	require.NoError(t, err)
	same()

	// What a pull left that was killed is removed, and nothing else; two pulls at once are refused.
	kept := filepath.Join(dir, "train/class 2/.5.jpg")
	left := fmt.Sprint(kept, rand.IntN(1e9))
	require.NoError(t, errors.Join(os.WriteFile(left, data, 0o600), os.WriteFile(kept, nil, 0o600)))
	_, err = pull()
	require.NoError(t, err)
	require.NoFileExists(t, left)
	require.FileExists(t, kept)
	lock, err := files.Lock(dir, "another pull")
	require.NoError(t, err)
	_, err = pull()
	require.ErrorContains(t, err, "another pull")
	require.NoError(t, lock.Unlock())

	_, err = Pull(t.Context(), open(t, "s3://runs/other"), dir, "pull", 3, func(int, int) {})
	require.ErrorIs(t, err, fs.ErrNotExist)
	srv.puts(t, "bad/..%2f..%2fout", nil)
	_, err = Pull(t.Context(), open(t, "s3://runs/bad"), filepath.Join(dir, "b"), "pull", 3, func(int, int) {})
	require.ErrorContains(t, err, "is no name of an object")
	require.NoDirExists(t, filepath.Join(dir, "b"))
}
