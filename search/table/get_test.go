package table

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/files"
)

// content is what the test servers serve.
var content = bytes.Repeat([]byte("All architectures are equal, but some are more equal than others. "), 20_000)

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// server serves content as a good server does, after letting meddle have a request first; meddle says whether it
// answered.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	ranges []string // the Range header of each request
	tags   []string // the If-Range header
	data   []byte
	tag    string
	meddle func(request int, w http.ResponseWriter, r *http.Request) bool
}

func newServer(t *testing.T) *server {
	s := &server{data: content, tag: `"v1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		request := len(s.ranges)
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.tags = append(s.tags, r.Header.Get("If-Range"))
		s.mu.Unlock()
		if s.meddle != nil && s.meddle(request, w, r) {
			return
		}
		w.Header().Set("ETag", s.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.data))
	}))
	t.Cleanup(s.Close)
	return s
}

// cut answers with all of the content announced and only n bytes of it.
func (s *server) cut(w http.ResponseWriter, n int) {
	w.Header().Set("ETag", s.tag)
	w.Header().Set("Content-Length", fmt.Sprint(len(s.data)))
	_, _ = w.Write(s.data[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func (s *server) get(t *testing.T, dir string) (string, error) {
	return downloader{client: s.Client(), most: 1 << 30, pause: time.Microsecond, stall: time.Minute}.get(t.Context(),
		dir, s.URL+"/nasbench/table.bin", sumOf(content), nil)
}

// requireGot checks that the file is there, whole, and nothing beside it.
func requireGot(t *testing.T, dir, path string) {
	t.Helper()
	require.Equal(t, filepath.Join(dir, "table.bin"), path)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, data))
	requireOnly(t, dir, "table.bin")
}

func requireOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		if e.Name() != files.LockName { // which stays
			names = append(names, e.Name())
		}
	}
	require.ElementsMatch(t, want, names)
}

// What is checked is what lies on the disk: a file that something else changed while it came is discarded, and one
// start at a time writes it.
func TestGetChecksTheFileItself(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	part := filepath.Join(dir, "table.bin.part")
	changed := false
	_, err := Get(t.Context(), dir, s.URL+"/table.bin", sumOf(content), func(done, total int64) {
		if done == total && !changed {
			changed = true
			f, err := os.OpenFile(part, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("No"), 3)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	})
	require.True(t, changed)
	require.ErrorContains(t, err, "want "+sumOf(content))
	requireOnly(t, dir)

	lock, err := files.Lock(dir, "another download")
	require.NoError(t, err)
	_, err = Get(t.Context(), dir, s.URL+"/table.bin", sumOf(content), nil)
	require.ErrorContains(t, err, "another download")
	require.NoError(t, lock.Unlock())
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
}

func TestGet(t *testing.T) {
	s := newServer(t)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	last, lastTotal := int64(-1), int64(-1)
	path, err := Get(t.Context(), dir, s.URL+"/nasbench/table.bin?generation=7", sumOf(content),
		func(done, total int64) {
			require.GreaterOrEqual(t, done, last)
			last, lastTotal = done, total
		})
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, int64(len(content)), last)
	require.Equal(t, int64(len(content)), lastTotal)

	again, err := s.get(t, dir)
	require.NoError(t, err)
	require.Equal(t, path, again)
	require.Len(t, s.ranges, 1, "what is there is not asked for again")
}

func TestGetGoesOnAfterACut(t *testing.T) {
	s := newServer(t)
	s.meddle = func(request int, w http.ResponseWriter, _ *http.Request) bool {
		if request == 0 {
			s.cut(w, 100_000)
		}
		return false
	}
	dir := t.TempDir()
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"", "bytes=100000-"}, s.ranges)
	require.Equal(t, []string{"", `"v1"`}, s.tags)
}

func TestGetGoesOnAtTheNextStart(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.meddle = func(request int, w http.ResponseWriter, _ *http.Request) bool {
		if request == 0 {
			w.Header().Set("ETag", s.tag)
			_, _ = w.Write(s.data[:70_000])
			w.(http.Flusher).Flush()
			<-ctx.Done()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	dir := t.TempDir()
	_, err := Get(ctx, dir, s.URL+"/table.bin", sumOf(content), func(done, _ int64) {
		if done == 70_000 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "the next start goes on at byte 70000")
	requireOnly(t, dir, "table.bin.part", "table.bin.part.etag")
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"", "bytes=70000-"}, s.ranges)
}

func TestGetStartsAnewWhenTheFileHasChanged(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part"), []byte("part of an older version"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part.etag"), []byte(`"v0"`), 0o644))
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"bytes=24-"}, s.ranges)
	require.Equal(t, []string{`"v0"`}, s.tags)
}

func TestGetStartsAnewFromAPartOfSomethingElse(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part"), []byte("nobody knows what this is"), 0o644))
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"bytes=25-", ""}, s.ranges)
}

func TestGetOfAPartThatIsWhole(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part"), content, 0o644))
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Len(t, s.ranges, 1)

	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part"), append(bytes.Clone(content), "and more"...),
		0o644))
	path, err = s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
}

func TestGetFromAServerWithoutRanges(t *testing.T) {
	s := newServer(t)
	s.meddle = func(request int, w http.ResponseWriter, _ *http.Request) bool {
		if request == 0 {
			s.cut(w, 50_000)
		}
		_, _ = w.Write(s.data)
		return true
	}
	dir := t.TempDir()
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Len(t, s.ranges, 2)
}

func TestGetFromAServerThatSendsAnotherRange(t *testing.T) {
	s := newServer(t)
	s.meddle = func(request int, w http.ResponseWriter, _ *http.Request) bool {
		if request == 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(content)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[:10])
			return true
		}
		return false
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table.bin.part"), content[:100], 0o644))
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"bytes=100-", "bytes=100-"}, s.ranges)
}

func TestGetWrongChecksum(t *testing.T) {
	s := newServer(t)
	s.data = append(bytes.Clone(content), '!')
	dir := t.TempDir()
	_, err := s.get(t, dir)
	require.ErrorContains(t, err, "SHA-256 of what came is "+sumOf(s.data)+", want "+sumOf(content))
	require.ErrorContains(t, err, s.URL)
	requireOnly(t, dir)
}

func TestGetKeepsWhatIsThere(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	mine := filepath.Join(dir, "table.bin")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o644))
	_, err := s.get(t, dir)
	require.ErrorContains(t, err, mine+" is there already with SHA-256 "+sumOf([]byte("mine")))
	data, err := os.ReadFile(mine)
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
	require.Empty(t, s.ranges)
}

func TestGetRefused(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		s := newServer(t)
		s.meddle = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
		dir := t.TempDir()
		_, err := s.get(t, dir)
		require.ErrorContains(t, err, fmt.Sprintf("/nasbench/table.bin: %d %s", status, http.StatusText(status)))
		require.Len(t, s.ranges, 1, "asking again is of no use")
		requireOnly(t, dir)
	}
}

func TestGetTriesAgain(t *testing.T) {
	s := newServer(t)
	s.meddle = func(request int, w http.ResponseWriter, _ *http.Request) bool {
		if request < attempts-1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	dir := t.TempDir()
	path, err := s.get(t, dir)
	require.NoError(t, err)
	requireGot(t, dir, path)

	s.meddle = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s.ranges = nil
	dir = t.TempDir()
	_, err = s.get(t, dir)
	require.ErrorContains(t, err, "given up after 5 attempts; the next start goes on at byte 0: 503")
	require.Len(t, s.ranges, attempts)
	requireOnly(t, dir)
}

func TestGetGivesUpOnASilentServer(t *testing.T) {
	s := newServer(t)
	silence := make(chan struct{})
	s.meddle = func(request int, w http.ResponseWriter, r *http.Request) bool {
		if request == 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:10])
			w.(http.Flusher).Flush()
			select {
			case <-silence:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
		return false
	}
	defer close(silence)
	dir := t.TempDir()
	path, err := downloader{client: s.Client(), most: 1 << 30, pause: time.Microsecond, stall: 100 * time.Millisecond}.
		get(t.Context(), dir, s.URL+"/table.bin", sumOf(content), nil)
	require.NoError(t, err)
	requireGot(t, dir, path)
	require.Equal(t, []string{"", "bytes=10-"}, s.ranges)
}

func TestGetUsage(t *testing.T) {
	for _, sum := range []string{"", "abc", sumOf(nil) + "00", "zz" + sumOf(nil)[2:]} {
		_, err := Get(t.Context(), t.TempDir(), "http://localhost/x", sum, nil)
		require.ErrorContains(t, err, "is not a SHA-256")
	}
	for _, address := range []string{"http://localhost", "http://localhost/", "http://localhost/a/.."} {
		_, err := Get(t.Context(), t.TempDir(), address, sumOf(nil), nil)
		require.ErrorContains(t, err, "names no file", address)
	}
	_, err := Get(t.Context(), t.TempDir(), "http://[::1", sumOf(nil), nil)
	require.Error(t, err)
	_, err = Get(t.Context(), filepath.Join(file(t, "f", nil), "below"), "http://localhost/x", sumOf(nil), nil)
	require.Error(t, err)
}

func TestPublished(t *testing.T) {
	require.Len(t, Published, 2)
	for _, p := range Published {
		require.Equal(t, "https://storage.googleapis.com/nasbench/"+p.Name, p.URL)
		require.Len(t, p.SHA256, 64)
	}
}

// What is got by hand says where it is and, then, the command that reads it.
func TestByHand(t *testing.T) {
	for _, m := range ByHand {
		how := m.How()
		require.Contains(t, how, m.Page)
		require.Contains(t, how, m.File)
		require.Contains(t, how, "ctnas table convert "+m.Read+" --space "+m.Space+" -o "+m.Name+".ctt")
	}
}
