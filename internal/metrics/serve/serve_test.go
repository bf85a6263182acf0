package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/metrics"
)

func get(t *testing.T, url string) (status int, body string) {
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(text)
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"9400": "127.0.0.1:9400", ":9400": "127.0.0.1:9400", "0.0.0.0:9400": "0.0.0.0:9400", "localhost": "localhost:0",
		"[::1]:0": "[::1]:0", "host:1": "host:1", "0": "127.0.0.1:0",
	} {
		got, err := Address(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"70000", ":", ":x", ":-1", ":65536", "a:b:c", "host:http"} {
		_, err := Address(text)
		require.Error(t, err, text)
	}
}

func TestServer(t *testing.T) {
	s, err := New("0", nil)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(s.URL(), "http://127.0.0.1:"), s.URL())
	_, err = New(strings.TrimPrefix(s.URL(), "http://"), nil)
	require.ErrorContains(t, err, "address already in use")

	metrics.Labels.Clear() // a test before may have told of some
	status, body := get(t, s.URL()+"/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "\ngo_goroutines ")
	require.NotContains(t, body, "ctnas_labels")
	metrics.Labels.Set(7)
	metrics.Trained([]string{"cpu"}, 10, time.Second, time.Second/2)
	_, body = get(t, s.URL()+"/metrics")
	require.Contains(t, body, "\nctnas_labels 7\n")
	require.Contains(t, body, "\nctnas_loader_wait_ratio 0.5\n")
	require.Contains(t, body, `ctnas_images_per_second{device="cpu"}`)

	end := metrics.Whenever(func(context.Context) { metrics.Labels.Add(1) })
	_, body = get(t, s.URL()+"/metrics")
	require.Contains(t, body, "\nctnas_labels 8\n")
	end()
	_, body = get(t, s.URL()+"/metrics")
	require.Contains(t, body, "\nctnas_labels 8\n")

	status, _ = get(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusOK, status)
	status, _ = get(t, s.URL()+"/readyz")
	require.Equal(t, http.StatusOK, status)
	s.Busy("no coordinator")
	status, body = get(t, s.URL()+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "no coordinator\n", body)
	s.Busy("")
	status, _ = get(t, s.URL()+"/readyz")
	require.Equal(t, http.StatusOK, status)
	status, body = get(t, s.URL()+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "goroutine profile")
	status, _ = get(t, s.URL()+"/other")
	require.Equal(t, http.StatusNotFound, status)
	r, err := http.Post(s.URL()+"/metrics", "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)

	// Who says nothing, or never ends, does not keep it open.
	idle, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
	require.NoError(t, err)
	defer idle.Close()
	require.NoError(t, s.Close())
	_, err = net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
	require.Error(t, err)
}

// Who names the server otherwise than it may be called is told nothing: a page of the web may have a name of its own
// lead here.
func TestNames(t *testing.T) {
	machine, err := os.Hostname()
	require.NoError(t, err)
	s, err := New("localhost:0", nil)
	require.NoError(t, err)
	defer s.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL(), "http://"))
	require.NoError(t, err)
	for host, want := range map[string]int{
		"localhost:" + port: http.StatusOK, "LOCALHOST": http.StatusOK, "127.0.0.1:" + port: http.StatusOK,
		"10.1.2.3:" + port: http.StatusOK, "[::1]:" + port: http.StatusOK, "[fe80::1%25eth0]": http.StatusOK,
		machine + ":" + port: http.StatusOK, "evil.example:" + port: http.StatusMisdirectedRequest,
		"localhost.evil.example":  http.StatusMisdirectedRequest,
		machine + ".evil.example": http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example":  http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/"} {
			r, err := http.NewRequest(http.MethodGet, s.URL()+path, nil)
			require.NoError(t, err)
			r.Host = host
			answer, err := http.DefaultClient.Do(r)
			require.NoError(t, err, host)
			text, err := io.ReadAll(answer.Body)
			require.NoError(t, errors.Join(err, answer.Body.Close()))
			require.Equal(t, want, answer.StatusCode, "%s%s: %s", host, path, text)
		}
	}
}

// A profile is not taken for ever.
func TestLongProfiles(t *testing.T) {
	s, err := New("0", nil)
	require.NoError(t, err)
	defer s.Close()
	for _, text := range []string{"301", "1e9", "-1", "NaN", "x"} {
		for _, path := range []string{"profile", "trace", "heap"} {
			status, body := get(t, s.URL()+"/debug/pprof/"+path+"?seconds="+text)
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, body, "want 0 to 300")
		}
	}
	status, _ := get(t, s.URL()+"/debug/pprof/trace?seconds=0.01")
	require.Equal(t, http.StatusOK, status)
}

// A page is made while somebody looks, and sent to who follows it whenever it is another one.
func TestPage(t *testing.T) {
	var mu sync.Mutex
	made, text := 0, "<p>one</p>\n<p>two</p>"
	s, err := New("0", &Page{Policy: "default-src 'none'", Head: []byte("<main>"), Tail: []byte("</main>"),
		Body: func(context.Context) []byte { mu.Lock(); defer mu.Unlock(); made++; return []byte(text) }})
	require.NoError(t, err)
	require.Zero(t, made)
	r, err := http.Get(s.URL())
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, errors.Join(err, r.Body.Close()))
	require.Equal(t, "<main><p>one</p>\n<p>two</p></main>", string(body))
	require.Equal(t, "text/html; charset=utf-8", r.Header.Get("Content-Type"))
	require.Equal(t, "default-src 'none'; frame-ancestors 'none'", r.Header.Get("Content-Security-Policy"))

	follow, err := http.Get(s.URL() + "/live")
	require.NoError(t, err)
	defer follow.Body.Close()
	require.Equal(t, "text/event-stream", follow.Header.Get("Content-Type"))
	lines := bufio.NewScanner(follow.Body)
	next := func() (event string) {
		for lines.Scan() && lines.Text() != "" {
			event += lines.Text() + "|"
		}
		return event
	}
	require.Equal(t, "data: <p>one</p>|data: <p>two</p>|", next())
	mu.Lock()
	text = "<p>three</p>"
	mu.Unlock()
	require.Equal(t, "data: <p>three</p>|", next())
	require.NoError(t, s.Close(), "who follows does not keep it open")
	require.Empty(t, next())
	require.NoError(t, lines.Err())
}
