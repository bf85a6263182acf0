package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const magic = "test 1\n"

func TestTheNewestWholeCheckpointIsRead(t *testing.T) {
	dir := t.TempDir()
	var got string
	decode := func(data []byte) error {
		body, err := Open(magic, data)
		got = string(body)
		return err
	}
	require.ErrorIs(t, Read(dir, decode), ErrNone)
	require.NoError(t, Write(dir, Seal(magic, []byte("one"))))
	require.NoError(t, Read(dir, decode))
	require.Equal(t, "one", got)
	require.NoError(t, Write(dir, Seal(magic, []byte("two"))))
	require.NoError(t, Read(dir, decode))
	require.Equal(t, "two", got)

	latest, previous := filepath.Join(dir, Dir, Latest), filepath.Join(dir, Dir, Previous)
	data, err := os.ReadFile(latest)
	require.NoError(t, err)
	for _, bad := range [][]byte{nil, data[:len(data)-1], append([]byte("x"), data[1:]...),
		append(data[:len(data)-1:len(data)-1], 'p')} {
		require.NoError(t, os.WriteFile(latest, bad, 0o644))
		require.NoError(t, Read(dir, decode))
		require.Equal(t, "one", got)
	}
	require.NoError(t, os.Remove(latest)) // killed between the two renames
	require.NoError(t, Read(dir, decode))
	require.NoError(t, os.WriteFile(previous, data[:20], 0o644))
	err = Read(dir, decode)
	require.ErrorContains(t, err, previous)
	require.ErrorContains(t, err, "not a checkpoint")
	refused := errors.New("refused")
	require.ErrorIs(t, Read(dir, func([]byte) error { return refused }), refused)
}
