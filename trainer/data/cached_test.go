package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// counted counts how often each image is read.
type counted struct {
	encoded
	reads []atomic.Int32
}

func (c *counted) read(i int, buf []byte) ([]byte, error) {
	c.reads[i].Add(1)
	return c.encoded.read(i, buf)
}

// counting puts a counter between a dataset's images and what keeps them.
func counting(d *Dataset) *counted {
	kept := d.Train.store.(*cached)
	c := &counted{kept.encoded, make([]atomic.Int32, kept.count())}
	kept.encoded = c
	return c
}

func (c *counted) total() (n int) {
	for i := range c.reads {
		n += int(c.reads[i].Load())
	}
	return n
}

// Each file is read once for all epochs, trainings and goroutines, batches are the same bytes, and the checksum too.
func TestCache(t *testing.T) {
	dir := album(t)
	plain := openAlbum(t, dir)
	cache := NewCache(1<<30, func(text string) { t.Error(text) })
	d, err := Open("imagenet:"+dir, Options{Cache: cache})
	require.NoError(t, err)
	c := Config{Batch: 5, Transform: everything(24), Train: true, Seed: 3, Workers: 3}
	batches := func(s *Set) []Batch {
		l, err := NewLoader(s, c)
		require.NoError(t, err)
		defer l.Close()
		return take(t, l, 3*l.Batches())
	}
	want := batches(plain.Train)
	reads := counting(d)
	var all sync.WaitGroup
	for range 2 { // several at a time may read a file that is not there yet
		all.Go(func() { require.Equal(t, want, batches(d.Split(1, 0).Train)) })
	}
	all.Wait()
	n := d.Train.Len()
	require.LessOrEqual(t, reads.total(), 2*n)
	before := reads.total()
	require.Equal(t, want, batches(d.Train))
	for i := range n {
		got, err := d.Train.store.(encoded).read(i, []byte("before"))
		require.NoError(t, err)
		own, err := plain.Train.store.(encoded).read(i, nil)
		require.NoError(t, err)
		require.Equal(t, append([]byte("before"), own...), got)
		own[0]++ // nobody's but the caller's
	}
	require.Equal(t, before, reads.total())
	sum, err := d.Checksum(t.Context())
	require.NoError(t, err)
	other, err := plain.Checksum(t.Context())
	require.NoError(t, err)
	require.Equal(t, other, sum)
	require.Positive(t, cache.held)

	// What is kept goes with its set; another one of the same files is read anew, as it is then.
	kept := d.Train.store.(*cached)
	require.NoError(t, d.Close())
	require.Zero(t, cache.held)
	require.Zero(t, kept.kept)
	name := filepath.Join(dir, plain.Train.ImageName(0))
	require.NoError(t, os.WriteFile(name, smooth(t, 21, 22), 0o644))
	d, err = Open("imagenet:"+dir, Options{Cache: cache})
	require.NoError(t, err)
	defer d.Close()
	_, w, h, err := d.Train.Image(0)
	require.NoError(t, err)
	require.Equal(t, []int{21, 22}, []int{w, h})
}

// With too little memory some images are kept and stay, the others are read each time, and somebody is told once. Sets
// share the memory, and what one gives back others take.
func TestCacheIsFull(t *testing.T) {
	dir := album(t)
	plain := openAlbum(t, dir)
	var sizes []int
	for i := range plain.Train.Len() {
		file, err := plain.Train.store.(encoded).read(i, nil)
		require.NoError(t, err)
		sizes = append(sizes, len(file))
	}
	var told []string
	cache := NewCache(20_000, func(text string) { told = append(told, text) })
	open := func() (*Dataset, *counted) {
		d, err := Open("imagenet:"+dir, Options{Cache: cache})
		require.NoError(t, err)
		return d, counting(d)
	}
	first, reads := open()
	epoch := func(d *Dataset) {
		for i := range sizes {
			file, err := d.Train.store.(encoded).read(i, nil)
			require.NoError(t, err)
			require.Len(t, file, sizes[i])
		}
	}
	epoch(first)
	kept := slices.Clone(first.Train.store.(*cached).files)
	n, bytes := 0, 0
	for i, file := range kept {
		if file != nil {
			n, bytes = n+1, bytes+sizes[i]
		}
	}
	require.True(t, n > 0 && n < len(sizes) && bytes <= 20_000, "%d of %d, %d bytes", n, len(sizes), bytes)
	for range 2 {
		before := reads.total()
		epoch(first)
		require.Equal(t, len(sizes)-n, reads.total()-before)
	}
	for i, file := range first.Train.store.(*cached).files {
		require.Equal(t, kept[i] == nil, file == nil, "what is kept stays")
	}
	require.Len(t, told, 1)
	require.True(t, strings.HasPrefix(told[0], "the memory for files of images is full: it keeps "), told[0])

	second, reads2 := open()
	defer second.Close()
	epoch(second)
	epoch(second)
	require.Equal(t, 2*len(sizes), reads2.total(), "nothing is left for it")
	require.NoError(t, first.Close())
	epoch(second)
	epoch(second)
	require.Less(t, reads2.total(), 4*len(sizes))
	require.LessOrEqual(t, cache.held, int64(20_000))
}

// Packed sets are left alone.
func TestCacheLeavesAlone(t *testing.T) {
	cache := NewCache(1<<20, nil)
	d, err := Open("imagenet:"+packOf(t, album(t), PackConfig{Raw: true}), Options{Cache: cache})
	require.NoError(t, err)
	defer d.Close()
	_, _, _, err = d.Train.Image(0)
	require.NoError(t, err)
	require.Zero(t, cache.held)
}

// A file that cannot be read is not kept, and says the same each time.
func TestCacheOfDamage(t *testing.T) {
	_, dir := photos(t, 3)
	d, err := Open("imagenet:"+dir, Options{Cache: NewCache(1<<20, nil)})
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, os.Remove(filepath.Join(dir, "p01.jpg")))
	for range 2 {
		_, _, _, err = d.Train.Image(1)
		require.ErrorContains(t, err, "p01.jpg")
	}
	require.Zero(t, d.Train.store.(*cached).kept)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p01.jpg"), smooth(t, 9, 8), 0o644))
	_, w, _, err := d.Train.Image(1)
	require.NoError(t, err)
	require.Equal(t, 9, w)
}
