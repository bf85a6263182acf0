package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checkpoint is made while the run goes on; the next waits for it, and what went wrong is told once.
func TestWriter(t *testing.T) {
	dir := t.TempDir()
	w := NewWriter(dir)
	require.NoError(t, w.Wait())
	require.NoError(t, w.Failed())
	require.Zero(t, w.Took())
	now := func() (got string) {
		require.NoError(t, Read(dir, func(data []byte) error {
			body, err := Open(magic, data)
			got = string(body)
			return err
		}))
		return got
	}
	made := func(text string) func() ([]byte, error) {
		return func() ([]byte, error) { return Seal(magic, []byte(text)), nil }
	}
	require.NoError(t, w.Write(made("one")))
	require.NoError(t, w.Wait())
	require.Equal(t, "one", now())
	require.Positive(t, w.Took())

	may := make(chan bool)
	require.NoError(t, w.Write(func() ([]byte, error) {
		<-may
		return Seal(magic, []byte("two")), nil
	}))
	require.NoError(t, w.Failed())
	require.Equal(t, "one", now())
	close(may)
	require.NoError(t, w.Write(made("three"))) // waits for two
	require.NoError(t, w.Wait())
	require.Equal(t, "three", now())
	require.NoError(t, os.Remove(filepath.Join(dir, Dir, Latest)))
	require.Equal(t, "two", now())

	full := errors.New("no space left on device")
	require.NoError(t, w.Write(func() ([]byte, error) { return nil, full }))
	require.ErrorIs(t, w.Write(made("four")), full)
	require.NoError(t, w.Wait())
	require.NoError(t, w.Write(func() ([]byte, error) { return nil, full }))
	for {
		if err := w.Failed(); err != nil {
			require.ErrorIs(t, err, full)
			break
		}
	}
	require.NoError(t, w.Wait())
	require.Equal(t, "two", now())
}
