package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/testdata"
)

// picture is an image as the tests pack it; nil bytes: it could not be read.
type picture struct {
	bytes         []byte
	width, height int
	label         int
}

// pictures are random images of at most so many bytes, with the facts that belong to them. The first one can be read.
func pictures(form string, parts [Parts]int, most int) (Facts, []picture) {
	f := Facts{Form: form, Side: 8, Quality: 90, Resized: "somehow", Decoder: "d", Encoder: "e", Source: "imagenet",
		Sum: "abc", Images: parts, Classes: []string{"ant", "bee", "cat"}}
	var list []picture
	for k := range f.Total() {
		p := picture{width: 1 + rand.IntN(20), height: 1 + rand.IntN(20), label: rand.IntN(3)}
		switch {
		case k > 0 && rand.IntN(9) == 0:
			p.width, p.height = 0, 0
		case form == FormRaw:
			p.bytes = make([]byte, 3*p.width*p.height)
		default:
			p.bytes = make([]byte, 1+rand.IntN(most))
		}
		for i := range p.bytes {
			p.bytes[i] = byte(rand.Uint32())
		}
		list = append(list, p)
	}
	return f, list
}

func write(t testing.TB, path string, f Facts, list []picture) {
	t.Helper()
	w, err := Create(path, f, "test")
	require.NoError(t, err)
	for _, p := range list[w.Done():] {
		require.NoError(t, w.Add(p.bytes, p.width, p.height, p.label))
	}
	require.NoError(t, w.Commit())
	require.NoDirExists(t, path+".part")
}

func packed(t testing.TB, f Facts, list []picture) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p")
	write(t, path, f, list)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

func opened(text []byte) (*File, error) { return open(bytes.NewReader(text), int64(len(text))) }

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		form  string
		parts [Parts]int
		most  int
	}{
		{FormJPEG, [Parts]int{50, 3, 20}, 400}, {FormRaw, [Parts]int{20, 0, 1}, 0}, {FormJPEG, [Parts]int{0, 0, 2}, 1},
		{FormJPEG, [Parts]int{9, 0, 5}, 3 << 20}, // several blocks, and images across their borders
	} {
		f, list := pictures(c.form, c.parts, c.most)
		path := filepath.Join(t.TempDir(), "p")
		write(t, path, f, list)
		got, err := Open(path)
		require.NoError(t, err)
		require.Equal(t, f, got.Facts)
		for k, p := range list {
			e := got.Entry(k)
			require.Equal(t, []int{p.width, p.height, p.label}, []int{int(e.Width), int(e.Height), int(e.Label)})
			image, err := got.Read(k, []byte("before"))
			if p.bytes == nil {
				require.EqualError(t, err, Left)
				continue
			}
			require.NoError(t, err)
			require.True(t, string(image) == "before"+string(p.bytes))
		}
		v, err := got.Verify(context.Background(), nil)
		require.NoError(t, err)
		require.Empty(t, v.Damaged)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, info.Size(), got.Size())
		require.NoError(t, got.Close())
	}
	f, _ := pictures(FormJPEG, [Parts]int{2, 1, 4}, 1)
	got := &File{Facts: f, entries: make([]Entry, 7)}
	require.Equal(t, "train image 1 at offset 0", got.Name(1))
	require.Equal(t, "validation image 0 at offset 0", got.Name(2))
	require.Equal(t, "test image 3 at offset 0", got.Name(6))
}

// What was killed at any place, with whatever of the end lost or torn, ends in the same bytes as what was left alone.
func TestResume(t *testing.T) {
	for range 8 {
		f, list := pictures(FormJPEG, [Parts]int{40, 0, 9}, 1<<uint(rand.IntN(19)))
		want := packed(t, f, list)
		path := filepath.Join(t.TempDir(), "p")
		for range 4 {
			w, err := Create(path, f, "test")
			require.NoError(t, err)
			left := 0
			for _, p := range list[:w.Done()] {
				if p.bytes == nil {
					left++
				}
			}
			require.Equal(t, left, w.Left())
			for _, p := range list[w.Done():][:rand.IntN(len(list)-w.Done()+1)] {
				require.NoError(t, w.Add(p.bytes, p.width, p.height, p.label))
			}
			require.NoError(t, errors.Join(w.file.Close(), w.lock.Unlock())) // what it still held is lost
			name := filepath.Join(path+".part", beginning)
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			switch at := rand.IntN(len(text)); rand.IntN(4) {
			case 0:
				text = text[:at]
			case 1: // pages that never reached the disk
				if at >= len(w.head) {
					clear(text[at:min(len(text), at+4096)])
				}
			case 2:
				text = append(text, want[:min(at, len(want))]...)
			}
			require.NoError(t, os.WriteFile(name, text, 0o644))
		}
		write(t, path, f, list)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

func TestWriterRefuses(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{3, 0, 0}, 9)
	path := filepath.Join(t.TempDir(), "p")
	w, err := Create(path, f, "the first")
	require.NoError(t, err)
	_, err = Create(path, f, "the second")
	var locked *files.ErrLocked
	require.ErrorAs(t, err, &locked)
	require.Equal(t, "the first", locked.Holder.Command)
	require.ErrorContains(t, w.Commit(), "0 of 3 images")
	require.ErrorContains(t, w.Add([]byte{1}, 1, 1, 3), "class 3 of 3")
	require.NoError(t, w.Add(list[0].bytes, list[0].width, list[0].height, list[0].label))
	require.NoError(t, w.Close())
	other := f
	other.Quality = 80
	_, err = Create(path, other, "")
	require.ErrorContains(t, err, "was begun from other images or with other settings")
	_, err = Same(path, f)
	require.ErrorIs(t, err, fs.ErrNotExist)
	write(t, path, f, list)
	_, err = Same(path, other)
	require.ErrorContains(t, err, "was packed from other images")
	w, err = Create(path, f, "killed behind its last step")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	have, err := Same(path, f)
	require.NoError(t, err)
	require.NoError(t, have.Close())
	require.NoDirExists(t, path+".part")
	require.NoError(t, os.WriteFile(path, []byte("something else"), 0o644))
	_, err = Same(path, f)
	require.ErrorContains(t, err, "it is not replaced")
}

// Every byte counts: a damaged one is found when the file is opened, or by Verify, which names the image.
func TestDamage(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{30, 5, 0}, 700<<10)
	text := packed(t, f, list)
	whole, err := opened(text)
	require.NoError(t, err)
	begin, end := whole.entries[0].Offset, whole.Size()-32*int64(len(whole.sums)+1)
	require.Greater(t, end-begin, int64(BlockBytes+20))
	for range 40 {
		at := rand.Int64N(int64(len(text)))
		switch rand.IntN(3) {
		case 0:
			at = rand.Int64N(begin)
		case 1: // about the border of two blocks
			at = begin + BlockBytes - 9 + rand.Int64N(20)
		}
		was := text[at]
		text[at] ^= byte(1 + rand.IntN(255))
		got, err := opened(text)
		if at < begin || at >= end {
			require.Error(t, err, "offset %d", at)
			text[at] = was
			continue
		}
		require.NoError(t, err)
		v, err := got.Verify(context.Background(), nil)
		require.NoError(t, err)
		require.Len(t, v.Damaged, 1, "offset %d", at)
		d := v.Damaged[0]
		e := whole.entries[d.Image]
		require.True(t, at >= e.Offset && at < e.Offset+int64(e.Bytes) && d.Offset == e.Offset)
		require.Contains(t, d.Why, fmt.Sprintf("offset %d", e.Offset))
		_, err = got.Read(d.Image, nil)
		require.Equal(t, &d, err)
		_, err = got.Read((d.Image+1)%len(list), nil)
		require.True(t, err == nil || err.Error() == Left)
		text[at] = was
	}
	for range 20 {
		n := rand.IntN(len(text))
		_, err := opened(text[:n])
		require.Error(t, err, "%d bytes", n)
	}
	_, err = opened(append(bytes.Clone(text), 0))
	require.ErrorContains(t, err, "truncated or something follows")
}

// A file that is cut off while it is open gives an error, and no signal. It may be another one's doing that passes.
func TestCutOff(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{3, 0, 0}, 10_000)
	path := filepath.Join(t.TempDir(), "p")
	write(t, path, f, list)
	got, err := Open(path)
	require.NoError(t, err)
	begin := got.Entry(0).Offset
	require.NoError(t, os.Truncate(path, begin))
	_, err = got.Read(0, nil)
	require.ErrorContains(t, err, fmt.Sprintf("offset %d: unexpected EOF", begin))
	var damaged *Damaged
	require.False(t, errors.As(err, &damaged))
	_, err = got.Verify(context.Background(), nil)
	require.ErrorContains(t, err, fmt.Sprintf("offset %d", begin))
	require.NoError(t, got.Close())
}

// A wrong block without a wrong image is told as such.
func TestDamagedSum(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{5, 0, 0}, 1000)
	got, err := opened(packed(t, f, list))
	require.NoError(t, err)
	got.sums[0][3]++
	v, err := got.Verify(context.Background(), nil)
	require.NoError(t, err)
	require.Len(t, v.Damaged, 1)
	require.Equal(t, -1, v.Damaged[0].Image)
}

func TestVerifyEnds(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{5, 0, 0}, 1000)
	got, err := opened(packed(t, f, list))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = got.Verify(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// What a file claims is compared with its size before memory is taken, and errors say where.
func TestClaims(t *testing.T) {
	f, list := pictures(FormJPEG, [Parts]int{4, 0, 0}, 50)
	text := packed(t, f, list)
	head, err := f.head()
	require.NoError(t, err)
	at := func(k, field int) int { return len(head) + recordBytes*k + field }
	put := func(offset int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[offset:], v)
			return b
		}
	}
	for want, change := range map[string]func(b []byte) []byte{
		"it starts with":               func(b []byte) []byte { return append([]byte("x"), b...) },
		"truncated after 20 bytes":     func(b []byte) []byte { return b[:20] },
		"offset 16: facts of":          put(20, 1<<20),
		"offset 24: invalid character": put(24, 0x78787878),
		"a table of 900000000 images": func(b []byte) []byte {
			return otherFacts(b, `"images":[4,`, `"images":[900000000,`)
		},
		"images of parts": func(b []byte) []byte { return otherFacts(b, `"images":[4,`, `"images":[-4,`) },
		"unknown field":   func(b []byte) []byte { return otherFacts(b, `"side"`, `"wide"`) },
		fmt.Sprintf("image 2 at offset %d of the table: the image is said to lie at offset 5", at(2, 0)): put(
			at(2, 0), 5),
		"class 4294967295 of 3":        put(at(1, 20), 1<<32-1),
		"part 2, want 0":               put(at(3, 24), 2),
		"an image of 4294967295 bytes": put(at(0, 8), 1<<32-1),
		"an image of 0x":               put(at(0, 12), 0),
	} {
		b := change(bytes.Clone(text))
		testdata.WithinMemory(t, len(b), func() { _, err = opened(b) })
		require.ErrorContains(t, err, want)
	}
	raw, list := pictures(FormRaw, [Parts]int{1, 0, 0}, 0)
	b := packed(t, raw, list)
	head, err = raw.head()
	require.NoError(t, err)
	b[len(head)+12]++
	_, err = opened(resealed(b))
	require.ErrorContains(t, err, "bytes of")
}

// otherFacts is a file with another text in its facts, whose length is set anew.
func otherFacts(b []byte, old, text string) []byte {
	length := binary.LittleEndian.Uint64(b[16:])
	facts := strings.Replace(string(b[24:24+length]), old, text, 1)
	out := binary.LittleEndian.AppendUint64(bytes.Clone(b[:16]), uint64(len(facts)))
	return append(append(out, facts...), b[24+length:]...)
}

// resealed is a file with the seal that belongs to what it says, where that can be found out: somebody who means harm
// makes one, too.
func resealed(b []byte) []byte {
	f, head, err := readHead(bytes.NewReader(b), int64(len(b)))
	if err != nil || f.Total() > len(b)/recordBytes {
		return b
	}
	begin := len(head) + recordBytes*f.Total()
	end := begin
	for at := len(head); at < begin && begin <= len(b); at += recordBytes {
		e := decode(b[at:])
		end += int(e.Bytes)
	}
	if end > len(b)-sha256.Size {
		return b
	}
	seal := sha256.Sum256(slices.Concat(b[:begin], b[end:len(b)-sha256.Size]))
	return slices.Concat(b[:len(b)-sha256.Size], seal[:])
}

// FuzzPack opens what somebody else made, and reads all of it.
func FuzzPack(f *testing.F) {
	for _, form := range []string{FormJPEG, FormRaw} {
		facts, list := pictures(form, [Parts]int{3, 1, 1}, 40)
		f.Add(packed(f, facts, list))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var file *File
		var err error
		testdata.WithinMemory(t, len(b), func() { file, err = opened(b) })
		if err != nil {
			require.Less(t, len(err.Error()), 1000)
			if file, err = opened(resealed(b)); err != nil {
				return
			}
		}
		require.Equal(t, int64(len(b)), file.Size())
		for k := range file.Total() {
			image, err := file.Read(k, nil)
			require.True(t, err != nil || len(image) == int(file.Entry(k).Bytes))
			require.Less(t, int(file.Entry(k).Label), len(file.Classes))
			_ = file.Name(k)
		}
		_, err = file.Verify(context.Background(), nil)
		require.NoError(t, err)
	})
}
