package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
)

// manifested is an opened set with what it said and how many files it read for its checksum.
type manifested struct {
	d     *Dataset
	read  int
	warns []string
}

// sumOf opens a set and returns its checksum. The clock of the program is an hour ahead, so that files just written
// count as settled.
func sumOf(t *testing.T, spec, manifests string) (string, *manifested) {
	t.Helper()
	m := &manifested{}
	var err error
	m.d, err = Open(spec, Options{Manifests: manifests, Progress: func(_, total int) { m.read = total },
		Warn: func(text string) { m.warns = append(m.warns, text) }})
	require.NoError(t, err)
	m.d.identity.now = func() time.Time { return time.Now().Add(time.Hour) }
	m.d.identity.options.Progress = func(_, total int) { m.read = total }
	sum, err := m.d.Checksum(t.Context())
	require.NoError(t, err)
	require.Len(t, sum, 64)
	require.NoError(t, m.d.Close())
	return sum, m
}

// folders is a set of 2 x n training images and two test images, in folders; shades say what is in the images.
func folders(t *testing.T, n int, shade uint8) string {
	dir := t.TempDir()
	for c, class := range []string{"cat", "dog"} {
		for k := range n {
			write(t, filepath.Join(dir, "train", class, fmt.Sprintf("%03d.png", k)), tiny(t, shade+uint8(n*c+k)))
		}
		write(t, filepath.Join(dir, "val", class, "x.png"), tiny(t, shade+uint8(c)))
	}
	return dir
}

// shardsOf is a set in two tar files and one of test images.
func shardsOf(t *testing.T, shade uint8) string {
	dir := t.TempDir()
	for i := range 3 {
		var members []member
		for k := range 5 {
			members = append(members, member{fmt.Sprintf("%d-%d.png", i, k), tiny(t, shade+uint8(5*i+k))},
				member{fmt.Sprintf("%d-%d.cls", i, k), []byte{'0' + byte(k%2)}})
		}
		write(t, filepath.Join(dir, fmt.Sprintf("s%d.tar", i)), tarOf(t, members...))
	}
	return dir
}

// Two sets of equal names, sizes and labels have one checksum only if their images are equal, wherever they lie and
// whenever they were written.
func TestChecksumIsOfContents(t *testing.T) {
	for kind, make := range map[string]func(shade uint8) string{
		"folders": func(shade uint8) string { return "imagenet:" + folders(t, 4, shade) },
		"csv": func(shade uint8) string {
			dir := folders(t, 2, shade)
			write(t, filepath.Join(dir, "labels.csv"),
				[]byte("file,class_index,wnid\ntrain/cat/000.png,1,n1\nval/dog/x.png,0,n0\n"))
			return "imagenet:" + dir
		},
		"shards": func(shade uint8) string {
			dir := shardsOf(t, shade)
			return "shards:" + dir + "/s{0..1}.tar?test=" + dir + "/s2.tar"
		},
	} {
		a, _ := sumOf(t, make(10), "")
		b, _ := sumOf(t, make(10), "")
		require.Equal(t, a, b, kind)
		noise, _ := sumOf(t, make(90), "")
		require.NotEqual(t, a, noise, kind)
		// On any number of processors.
		one := runtime.GOMAXPROCS(1)
		c, _ := sumOf(t, make(10), "")
		runtime.GOMAXPROCS(one)
		require.Equal(t, a, c, kind)
	}
	// Names of files are no part of it, those of classes are, and so are labels and which images are for tests.
	dir := folders(t, 3, 10)
	want, _ := sumOf(t, "imagenet:"+dir, "")
	renamed := filepath.Join(dir, "train", "cat", "000.jpg")
	require.NoError(t, os.Rename(filepath.Join(dir, "train", "cat", "000.png"), renamed))
	got, _ := sumOf(t, "imagenet:"+dir, "")
	require.Equal(t, want, got)
	list := filepath.Join(t.TempDir(), "labels.csv")
	sums := map[string]bool{}
	for _, text := range []string{"a.png,0,x\nb.png,1,y\n", "a.png,1,y\nb.png,0,x\n", "a.png,0,x\nb.png,1,z\n",
		"b.png,1,y\na.png,0,x\n"} {
		for _, name := range []string{"a", "b"} {
			write(t, filepath.Join(filepath.Dir(list), name+".png"), tiny(t, name[0]))
		}
		write(t, list, []byte("file,class_index,wnid\n"+text))
		sum, _ := sumOf(t, "imagenet:"+filepath.Dir(list), "")
		sums[sum] = true
	}
	require.Len(t, sums, 4)
	for _, pattern := range []string{"s0.tar", "s{0..1}.tar", "s0.tar?test=s1.tar"} {
		shards := shardsOf(t, 10)
		sum, _ := sumOf(t, "shards:"+shards+"/"+strings.ReplaceAll(pattern, "test=", "test="+shards+"/"), "")
		sums[sum] = true
	}
	require.Len(t, sums, 7)
}

// What has not changed is not read again, and what has is noticed, by its size, its time, its ctime, and without any
// of these by a sample of contents.
func TestManifest(t *testing.T) {
	for kind, spec := range map[string]func() (spec string, file string){
		"folders": func() (string, string) {
			dir := folders(t, 40, 10)
			return "imagenet:" + dir, filepath.Join(dir, "train", "dog", "007.png")
		},
		"shards": func() (string, string) {
			dir := shardsOf(t, 10)
			return "shards:" + dir + "/s*.tar", filepath.Join(dir, "s1.tar")
		},
	} {
		kept := filepath.Join(t.TempDir(), "new", "manifests")
		set, file := spec()
		fresh, m := sumOf(t, set, kept)
		all := m.d.Train.Len() + m.d.Test.Len()
		require.Equal(t, all, m.read, kind)
		again, m := sumOf(t, set, kept)
		require.Equal(t, fresh, again)
		require.Zero(t, m.read, kind)
		require.Empty(t, m.warns)

		// The same size and the same time.
		info, err := os.Stat(file)
		require.NoError(t, err)
		old, err := os.ReadFile(file)
		require.NoError(t, err)
		changed := bytes.Clone(old)
		at := bytes.Index(changed, []byte("IDAT")) + 8 // in the midst of an image's pixels
		changed[at] ^= 1
		rewrite := func(content []byte) {
			// The clock of a file system goes in steps.
			for before := stampOf("", file, nil); before == stampOf("", file, nil); {
				require.NoError(t, os.WriteFile(file, content, 0o644))
				require.NoError(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
			}
		}
		rewrite(changed)
		other, m := sumOf(t, set, kept)
		require.NotEqual(t, fresh, other, kind)
		require.NotZero(t, m.read)
		require.Less(t, m.read, all, "only what has another stamp")
		rewrite(old)
		back, _ := sumOf(t, set, kept)
		require.Equal(t, fresh, back)

		// A damaged or foreign manifest is not believed.
		names, err := filepath.Glob(filepath.Join(kept, "*"))
		require.NoError(t, err)
		require.Len(t, names, 1)
		text, err := os.ReadFile(names[0])
		require.NoError(t, err)
		foreign, _ := spec()
		_, _ = sumOf(t, foreign, kept)
		names2, err := filepath.Glob(filepath.Join(kept, "*"))
		require.NoError(t, err)
		require.Len(t, names2, 2)
		other2 := names2[0]
		if other2 == names[0] {
			other2 = names2[1]
		}
		swapped, err := os.ReadFile(other2)
		require.NoError(t, err)
		for what, damage := range map[string][]byte{
			"bit": append(append([]byte{}, text[:len(text)-1]...), text[len(text)-1]^1), "cut": text[:len(text)/2],
			"empty": {}, "foreign": swapped,
		} {
			require.NoError(t, os.WriteFile(names[0], damage, 0o644))
			sum, m := sumOf(t, set, kept)
			require.Equal(t, fresh, sum, what)
			require.Equal(t, all, m.read, what)
			require.Len(t, m.warns, 1)
			require.Contains(t, m.warns[0], names[0])
			_, m = sumOf(t, set, kept)
			require.Zero(t, m.read, "it was written anew")
		}
	}
}

// store that lies about its files: their stamps never change.
type frozen struct{ encoded }

func (f frozen) stamp(i int) stamp {
	s := f.encoded.stamp(i)
	s.inode, s.mtime, s.ctime = 0, 1, 1
	return s
}

// Where a file system does not tell that files have changed, the contents of some do.
func TestRecheck(t *testing.T) {
	dir, kept := folders(t, 100, 0), t.TempDir()
	sum := func() (string, int, []string) {
		d, err := Open("imagenet:"+dir, Options{Manifests: kept})
		require.NoError(t, err)
		var warns []string
		read := 0
		for i, part := range d.identity.parts {
			d.identity.parts[i] = frozen{part}
		}
		d.identity.options.Warn = func(text string) { warns = append(warns, text) }
		d.identity.options.Progress = func(_, total int) { read = total }
		sum, err := d.Checksum(t.Context())
		require.NoError(t, err)
		return sum, read, warns
	}
	before, read, _ := sum()
	require.Equal(t, 202, read)
	again, read, warns := sum()
	require.Equal(t, before, again)
	require.Zero(t, read)
	require.Empty(t, warns)
	other := folders(t, 100, 50)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "train")))
	require.NoError(t, os.Rename(filepath.Join(other, "train"), filepath.Join(dir, "train")))
	after, read, warns := sum()
	require.NotEqual(t, before, after)
	require.Equal(t, 202, read)
	require.Len(t, warns, 1)
	require.Contains(t, warns[0], "has changed, although its size and times have not")
}

// A file that has just been written may change again within the resolution of the clock: its hash is used and not kept.
func TestUnsettledFilesAreReadAgain(t *testing.T) {
	dir, kept := folders(t, 2, 10), t.TempDir()
	for range 2 {
		d, err := Open("imagenet:"+dir, Options{Manifests: kept})
		require.NoError(t, err)
		read := 0
		d.identity.options.Progress = func(_, total int) { read = total }
		info, err := os.Stat(filepath.Join(dir, "train", "cat", "000.png"))
		require.NoError(t, err)
		d.identity.now = func() time.Time { return info.ModTime().Add(time.Second) }
		_, err = d.Checksum(t.Context())
		require.NoError(t, err)
		require.Equal(t, 6, read)
	}
}

// What cannot be read is told and part of what the set is; what cannot be kept is told.
func TestManifestTrouble(t *testing.T) {
	dir := folders(t, 2, 10)
	whole, _ := sumOf(t, "imagenet:"+dir, "")
	gone := filepath.Join(dir, "train", "cat", "001.png")
	require.NoError(t, os.Remove(gone))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), gone))
	kept := t.TempDir()
	for range 2 {
		sum, m := sumOf(t, "imagenet:"+dir, kept)
		require.NotEqual(t, whole, sum)
		require.Len(t, m.warns, 1)
		require.Contains(t, m.warns[0],
			"1 of 6 images of imagenet:"+dir+" cannot be read, the first: "+filepath.Join("train", "cat", "001.png"))
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	_, m := sumOf(t, "imagenet:"+folders(t, 2, 10), filepath.Join(file, "below"))
	require.Len(t, m.warns, 2)
	require.Contains(t, m.warns[1], "are not kept")

	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Checksum(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.Checksum(t.Context())
	require.NoError(t, err, "it is tried again")
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		path := filepath.Join(dir, fmt.Sprint(i))
		write(t, path, make([]byte, 100))
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		require.NoError(t, os.Chtimes(path, at, at))
	}
	require.NoError(t, prune(dir, 299))
	for i := range 5 {
		_, err := os.Stat(filepath.Join(dir, fmt.Sprint(i)))
		require.Equal(t, i >= 2, errors.Is(err, fs.ErrNotExist), i)
	}
}

// Splits of a set share its files, its checksum and its images.
func TestSplits(t *testing.T) {
	spec := "imagenet:" + folders(t, 20, 0)
	d, err := Open(spec, Options{Seed: 1, ValSplit: 0.25})
	require.NoError(t, err)
	for _, seed := range []uint64{1, 2} {
		direct, err := Open(spec, Options{Seed: seed, ValSplit: 0.25})
		require.NoError(t, err)
		s := d.Split(seed, 0.25)
		require.Equal(t, direct.Train.index, s.Train.index)
		require.Equal(t, direct.Validation.index, s.Validation.index)
		a, err := s.Checksum(t.Context())
		require.NoError(t, err)
		b, err := direct.Checksum(t.Context())
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
	require.Equal(t, 40, d.Split(9, 0).Train.Len())
	require.Zero(t, d.Split(9, 0).Validation.Len())
}

// A name that was valid in one working directory is made valid in all, whatever the directory is called.
func TestAbsolute(t *testing.T) {
	top := t.TempDir()
	for _, odd := range []string{"plain", "a[1]*b?", "{1..3}", "x?test=y", `back\slash`} {
		dir := filepath.Join(top, odd)
		for i, name := range []string{"s0.tar", "s1.tar", "t.tar"} {
			write(t, filepath.Join(dir, "sub", name), tarOf(t, member{"a.png", tiny(t, uint8(10*i))}, member{"a.cls",
				[]byte("1")}))
		}
		t.Chdir(dir)
		for _, spec := range []string{"shards:sub/s{0..1}.tar", "shards:./sub/s[01].tar?test=sub/t.tar",
			"shards:../" + literal(odd) + "/sub/s?.tar?test=" + literal(dir) + "/sub/t.tar"} {
			want, err := Open(spec, Options{})
			require.NoError(t, err, spec)
			absolute, err := Absolute(spec)
			require.NoError(t, err)
			t.Chdir(top)
			got, err := Open(absolute, Options{})
			require.NoError(t, err, absolute)
			require.Equal(t, []int{2, want.Test.Len()}, []int{got.Train.Len(), got.Test.Len()})
			a, err := want.Checksum(t.Context())
			require.NoError(t, err)
			b, err := got.Checksum(t.Context())
			require.NoError(t, err)
			require.Equal(t, a, b)
			again, err := Absolute(absolute)
			require.NoError(t, err)
			require.Equal(t, absolute, again)
			require.NoError(t, errors.Join(want.Close(), got.Close()))
			t.Chdir(dir)
		}
		absolute, err := Absolute("cifar10:sub")
		require.NoError(t, err)
		require.Equal(t, "cifar10:"+filepath.Join(dir, "sub"), absolute)
	}
	plain, err := Absolute("shapes")
	require.NoError(t, err)
	require.Equal(t, "shapes", plain)
}

func FuzzManifest(f *testing.F) {
	stamp := stamp{file: "a", size: 3}
	print := stamp.print()
	f.Add(append(append([]byte("set\n"), print[:]...), make([]byte, 32)...))
	f.Add([]byte("other\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := decodeManifest(body, "set")
		require.Error(t, err, "without a seal")
		r, err := decodeManifest(checkpoint.Seal(manifestMagic, body), "set")
		if err != nil {
			return
		}
		if sum, found := r.find(print); found { // in whatever order the records are
			require.True(t, bytes.Contains(r, append(print[:], sum[:]...)))
		}
	})
}
