//go:build !nofarm

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ending is standard error that asks whether the program is ready when a worker waits, and then ends it.
type ending struct {
	t      *testing.T
	cancel func()
	text   bytes.Buffer
	ready  string
}

func (e *ending) Write(p []byte) (int, error) {
	e.text.Write(p)
	if at := watchedAt.FindStringSubmatch(e.text.String()); at != nil && bytes.Contains(p, []byte("waiting: ")) {
		r, err := http.Get(strings.TrimSuffix(at[1], "metrics") + "readyz")
		require.NoError(e.t, err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		require.NoError(e.t, err)
		e.ready = r.Status + ": " + string(text)
		e.cancel()
	}
	return len(p), nil
}

// A worker is not ready before there is a search that it fits.
func TestAWaitingWorkerIsNotReady(t *testing.T) {
	t.Chdir(t.TempDir())
	code, _, stderr := call(nil, "farm", "keys", "secrets")
	require.Equal(t, exitOK, code, stderr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := &ending{t: t, cancel: cancel}
	code = run(ctx, []string{"worker", "--join", "tls://127.0.0.1:1", "--keys", "secrets/keys", "--work", "work",
		"--metrics", "0"}, io.Discard, e, func(string) (string, bool) { return "", false })
	require.Equal(t, exitOK, code, e.text.String())
	require.Equal(t, "503 Service Unavailable: waiting for a search that this worker fits\n", e.ready)
}
