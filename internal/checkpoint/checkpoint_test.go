package checkpoint

import (
	"errors"
	"math/rand/v2"
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

// A damaged checkpoint does not take the place of the one before it, which is the only whole one until the next stands.
func TestADamagedCheckpointDisplacesNone(t *testing.T) {
	for name, spoil := range map[string]func(data []byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"torn":  func(data []byte) []byte { return data[:rand.IntN(len(data))] },
		"flipped": func(data []byte) []byte {
			data[len(magic)+rand.IntN(len(data)-len(magic))] ^= 1 << rand.IntN(8)
			return data
		},
	} {
		dir := t.TempDir()
		var got string
		read := func() string {
			require.NoError(t, Read(dir, func(data []byte) error {
				body, err := Open(magic, data)
				got = string(body)
				return err
			}), name)
			return got
		}
		write := func(body string) { require.NoError(t, Write(dir, Seal(magic, []byte(body))), name) }
		write("one")
		write("two")
		latest := filepath.Join(dir, Dir, Latest)
		data, err := os.ReadFile(latest)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(latest, spoil(data), 0o644))
		require.Equal(t, "one", read(), name)
		w := NewWriter(dir) // of the run that goes on
		put := func(body string) {
			require.NoError(t, w.Write(func() ([]byte, error) { return Seal(magic, []byte(body)), nil }))
			require.NoError(t, w.Wait())
		}
		put("three")
		require.Equal(t, "three", read(), name)
		require.NoError(t, os.Remove(latest)) // killed between the two renames
		require.Equal(t, "one", read(), name)
		put("four")
		put("five")
		require.NoError(t, os.Remove(latest))
		require.Equal(t, "four", read(), name)
	}
}
