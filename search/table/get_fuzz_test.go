package table

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// hostile is a server that answers each request by a few lines of a script, the last of which it repeats.
type hostile struct {
	script []string
	asked  int
	sent   int64
}

// RoundTrip answers without a network: STATUS|Content-Range|ETag|Content-Length|BODY, where a body of %N is N bytes and
// one that ends with ! is cut off.
func (h *hostile) RoundTrip(r *http.Request) (*http.Response, error) {
	line := h.script[min(h.asked, len(h.script)-1)]
	if h.asked++; h.asked > 200 {
		return nil, &fs.PathError{Op: "asked too often"}
	}
	fields := strings.SplitN(line+"||||", "|", 5)
	status, length := 0, int64(-1)
	_, _ = fmt.Sscan(fields[0], &status)
	_, _ = fmt.Sscan(fields[3], &length)
	header := http.Header{"Content-Range": {fields[1]}, "Etag": {fields[2]}}
	if value := r.Header.Get("If-Range"); strings.ContainsFunc(value, func(c rune) bool {
		return c < ' ' || c == 0x7f
	}) {
		return nil, fmt.Errorf("a header with %q", value) // as net/http refuses it
	}
	text, cut := strings.CutSuffix(strings.TrimRight(fields[4], "|"), "!")
	var body io.Reader = strings.NewReader(text)
	var n int64
	if size, err := fmt.Sscanf(text, "%%%d", &n); size == 1 && err == nil {
		body = io.LimitReader(zeroes{}, n)
	}
	body = io.TeeReader(body, tally{&h.sent})
	if cut {
		body = io.MultiReader(body, broken{})
	}
	return &http.Response{StatusCode: status, Status: fields[0], Header: header, ContentLength: length,
		Body: io.NopCloser(body), Request: r}, nil
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type tally struct{ n *int64 }

func (c tally) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// FuzzServer downloads from a server that answers whatever it likes: the file is the one that was asked for, or it is
// not there. What a server sends bounds neither memory nor, beyond what a file may have, the disk.
func FuzzServer(f *testing.F) {
	const want = "the file"
	f.Add("200||\"v1\"|8|the file", "", "")
	f.Add("200||\"v1\"|8|the !\n206|bytes 4-7/8|\"v1\"|4|file", "", "")
	f.Add("416|bytes */8||0|\n200|||8|the file", "the file", "\"v1\"")
	f.Add("206|bytes 4-7/-9||4|file\n206|bytes 9223372036854775807-1/1||1|x", "the ", "\"a\nb\"")
	f.Add("200|||-1|%99999999", "", "")
	f.Add("206|bytes 1-1/99999999999999||1|x!", "t", "W/\"x\"")
	f.Add("200||"+strings.Repeat("x", 5000)+"|0|\n500\n429\n301\n999", "", "")
	const most = 1 << 20
	f.Fuzz(func(t *testing.T, script, part, tag string) {
		h := &hostile{script: strings.Split(script, "\n")}
		if len(script)+len(part)+len(tag) > 1<<14 {
			return
		}
		dir := t.TempDir()
		target := filepath.Join(dir, "f.bin")
		if part != "" {
			require.NoError(t, os.WriteFile(target+".part", []byte(part), 0o644))
			require.NoError(t, os.WriteFile(target+".part.etag", []byte(tag), 0o644))
		}
		var path string
		var err error
		d := downloader{client: &http.Client{Transport: h}, most: most, pause: time.Nanosecond, stall: time.Minute}
		got := testdata.Allocated(func() {
			path, err = d.get(t.Context(), dir, "http://x/f.bin", sumOf([]byte(want)), nil)
		})
		require.LessOrEqual(t, got, uint64(1<<20+h.asked*(1<<19))) // of which each attempt's buffer is half
		for _, name := range []string{target, target + ".part"} {
			if info, err := os.Stat(name); err == nil {
				require.LessOrEqual(t, info.Size(), int64(most))
			}
		}
		if err != nil {
			require.NoFileExists(t, target)
			require.Less(t, len(err.Error()), 8<<10)
			return
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal([]byte(want), data))
	})
}

// A server that sends without end, or says that it will.
func TestGetIsBounded(t *testing.T) {
	for script, says := range map[string]string{
		"200|||-1|%9999999999":      "the server sends more than 1048576 bytes",
		"200|||9999999999|x":        "the server announces 9999999999 bytes, at most 1048576 are accepted",
		"206|bytes 0-9/10||10|%10!": "given up after 5 attempts",
	} {
		h := &hostile{script: []string{script}}
		d := downloader{client: &http.Client{Transport: h}, most: 1 << 20, pause: time.Nanosecond, stall: time.Minute}
		_, err := d.get(t.Context(), t.TempDir(), "http://x/f.bin", sumOf(nil), nil)
		require.ErrorContains(t, err, says)
		require.LessOrEqual(t, h.sent, int64(3<<20))
	}
}
