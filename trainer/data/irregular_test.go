//go:build unix

package data

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is no regular file is named, and never waited for.
func TestIrregularFiles(t *testing.T) {
	fifo := func(path string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, syscall.Mkfifo(path, 0o644))
	}
	dir := t.TempDir()
	fifo(filepath.Join(dir, "list", "labels.csv"))
	fifo(filepath.Join(dir, "data_batch_1.bin"))
	fifo(filepath.Join(dir, "s.tar"))
	fifo(filepath.Join(dir, "pipe"))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "zero.tar")))
	for spec, want := range map[string]string{
		"imagenet:" + filepath.Join(dir, "list"):   "labels.csv is a pipe",
		"cifar10:" + dir:                           "data_batch_1.bin is a pipe",
		"shards:" + filepath.Join(dir, "s.tar"):    "s.tar is a pipe",
		"shards:" + filepath.Join(dir, "zero.tar"): "zero.tar is a device",
		"imagenet:" + filepath.Join(dir, "pipe"):   "pipe is a pipe",
		"imagenet:/dev/zero":                       "/dev/zero is a device",
	} {
		_, err := Open(spec, Options{})
		require.ErrorContains(t, err, want, spec)
	}
	set := tree(t, "train/a/1.jpg")
	fifo(filepath.Join(set, "train", "a", "2.jpg"))
	d, err := Open("imagenet:"+set, Options{})
	require.NoError(t, err)
	_, _, _, err = d.Train.Image(1)
	require.EqualError(t, err, filepath.Join("train", "a", "2.jpg")+": is a pipe, want a regular file")
	var broken *UnreadableError
	require.ErrorAs(t, err, &broken)
}
