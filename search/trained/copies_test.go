package trained

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/objects"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/job"
)

// A training that was stopped on one machine goes on from its copy on another one, to the same record, and leaves no
// copy. A copy that is spoiled, or that cannot be had, is work to be repeated and nothing else.
func TestCopies(t *testing.T) {
	s := tiny(t, testdata.Images(t), "", nil)
	j := s.job(cells(t, 1)[0], 0, nil)
	s.local.Capacity(1)
	want, err := s.local.Do(t.Context(), j, func(job.Notice) {})
	require.NoError(t, err)
	var copies string
	var warned []error
	elsewhere := func() *Local {
		l := NewLocal(Cache(t.TempDir()), s.local.devices, 1, s.materials)
		l.Copies, l.Retries, l.Warn = copies, 2, func(err error) { warned = append(warned, err) }
		l.Capacity(1)
		return l
	}
	stopAfter := func(l *Local, epochs int) (from int) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		_, err := l.Do(ctx, j, func(n job.Notice) {
			if n.Epoch > 0 && from == 0 {
				from = n.Epoch
			}
			if n.Epoch == epochs {
				stop()
			}
		})
		require.ErrorIs(t, err, context.Canceled)
		return from
	}
	from := 0
	do := func(l *Local) {
		from = 0
		r, err := l.Do(t.Context(), j, func(n job.Notice) {
			if n.Epoch > 0 && from == 0 {
				from = n.Epoch
			}
		})
		require.NoError(t, err)
		require.True(t, j.Same(want, r))
	}
	folder, spoiled := t.TempDir(), t.TempDir()
	for _, copies = range []string{bucket(t), folder} {
		require.Equal(t, 1, stopAfter(elsewhere(), 2))
		require.Greater(t, stopAfter(elsewhere(), 4), 1, "another machine goes on")
		if copies == folder {
			require.NoError(t, os.CopyFS(spoiled, os.DirFS(copies)))
		}
		do(elsewhere())
		require.Greater(t, from, 3)
		store, err := objects.Open(copies)
		require.NoError(t, err)
		left, err := store.List(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, left)
	}

	// A log that is another one's, or a checkpoint that is none.
	for _, name := range []string{"log.jsonl", "checkpoint/latest"} {
		copies = t.TempDir()
		require.NoError(t, os.CopyFS(copies, os.DirFS(spoiled)))
		require.NoError(t, os.WriteFile(filepath.Join(copies, j.Key.hash(), name), []byte("x"), 0o644))
		do(elsewhere())
	}
	require.Empty(t, warned)
	copies = "http://nowhere"
	do(elsewhere())
	require.Len(t, warned, 1)
	require.Equal(t, 1, from)
}

// bucket is one of S3 on loopback, which the environment leads to.
func bucket(t *testing.T) string {
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("runs"))
	s := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(s.Close)
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": s.URL, "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"} {
		t.Setenv(name, value)
	}
	return objects.Scheme + "runs/work"
}
