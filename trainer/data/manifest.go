package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
)

// identity tells an image set from every other one: it computes Dataset.Checksum.
//
// Of encoded images that is a hash over a manifest, which says of each image in the order of the set its label, its
// size and the SHA-256 of its file, and the names of the classes. Where the files lie, when they were written and
// what they are called is no part of it: what a training sees is. Reading all of ImageNet takes minutes, so the
// hashes are kept (Options.Manifests) under what the file system says of a file, and only a file of which that has
// changed is read again.
type identity struct {
	spec    string // with an absolute path
	classes []string
	parts   []encoded // training, validation and test images
	options Options
	now     func() time.Time

	mu  sync.Mutex
	sum string // empty: not computed yet
}

// stamp is what the file system says of the file that an image is in, and where in it the image lies. A file that is
// changed gets another one: its ctime cannot be set by programs.
type stamp struct {
	file               string // below the set's folder
	inode              uint64 // 0 and ctime 0 where the system has none
	size, mtime, ctime int64  // of the file; times in nanoseconds since 1970
	offset, length     int64  // of the image
	unavailable        bool
}

const (
	manifestMagic = "ctnas manifest 1\n"
	// A record of a kept manifest is the first bytes of a stamp's SHA-256 and the SHA-256 of the image's file.
	// Records are sorted.
	printBytes  = 16
	recordBytes = printBytes + sha256.Size
	// maxManifestBytes bounds one manifest (22 million images) and mostManifestBytes all of a folder: the ones that
	// were not used for longest go.
	maxManifestBytes  = 1 << 30
	mostManifestBytes = 2 << 30
	// rechecked is how many images of a set are read each time although nothing is known to have changed: some file
	// systems keep no ctime, or do not change a time when a file changes.
	rechecked = 64
	// settling is how old a file's last change must be for its stamp to be trusted: two changes within the resolution
	// of a file system's clock, 2 s at worst, have the same time.
	settling = 2 * time.Second
)

// settled tells whether the file had been left alone for long enough at a time.
func (s *stamp) settled(now time.Time) bool {
	changed := s.ctime
	if changed == 0 {
		changed = s.mtime
	}
	return now.Sub(time.Unix(0, changed)) > settling
}

// print is a short hash of all that would change with the file.
func (s *stamp) print() (p [printBytes]byte) {
	text := make([]byte, 0, 128)
	text = append(append(text, s.file...), 0)
	for _, v := range []uint64{s.inode, uint64(s.size), uint64(s.mtime), uint64(s.ctime), uint64(s.offset),
		uint64(s.length)} {
		text = binary.LittleEndian.AppendUint64(text, v)
	}
	sum := sha256.Sum256(text)
	copy(p[:], sum[:])
	return p
}

// listed is a line of the manifest.
type listed struct {
	sum    [sha256.Size]byte
	size   int64 // -1: it cannot be read
	stamp  [printBytes]byte
	known  bool // sum is that of the file as it is now
	keep   bool // stamp can be trusted next time
	reason error
}

// checksum computes the set's checksum, once. When it fails it is tried again the next time.
func (id *identity) checksum(ctx context.Context) (string, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.sum != "" {
		return id.sum, nil
	}
	_, err := id.list(ctx)
	return id.sum, err
}

// list is the manifest, of which it computes the checksum. mu is held.
func (id *identity) list(ctx context.Context) ([]listed, error) {
	all, err := id.manifest(ctx)
	if err != nil {
		return nil, err
	}
	list := all
	h := sha256.New()
	var line []byte
	number := func(v int64) { line = binary.LittleEndian.AppendUint64(line, uint64(v)) }
	line = append(line, "ctnas images 1\n"...)
	number(int64(len(id.classes)))
	for _, c := range id.classes {
		number(int64(len(c)))
		line = append(line, c...)
	}
	for _, part := range id.parts {
		number(int64(part.count()))
		for i := range part.count() {
			number(int64(part.label(i)))
			number(list[i].size)
			line = append(line, list[i].sum[:]...)
			_, _ = h.Write(line) // a hash takes everything
			line = line[:0]
		}
		list = list[part.count():]
	}
	_, _ = h.Write(line)
	id.sum = hex.EncodeToString(h.Sum(nil))
	return all, nil
}

func (id *identity) warn(format string, args ...any) {
	if id.options.Warn != nil {
		id.options.Warn(fmt.Sprintf(format, args...))
	}
}

// at is image k of the manifest.
func (id *identity) at(k int) (encoded, int) {
	for _, part := range id.parts {
		if k < part.count() {
			return part, k
		}
		k -= part.count()
	}
	panic("no such image") // unreachable: k is below the sum of all counts
}

func (id *identity) name(k int) string {
	part, i := id.at(k)
	return part.name(i)
}

// manifest lists the images: those whose stamps are known from the last time are not read, but for a few.
func (id *identity) manifest(ctx context.Context) ([]listed, error) {
	n := 0
	for _, part := range id.parts {
		n += part.count()
	}
	list, kept := make([]listed, n), id.load()
	err := parallel(ctx, n, func(k int, _ []byte) []byte {
		part, i := id.at(k)
		if s := part.stamp(i); !s.unavailable {
			list[k].stamp, list[k].size = s.print(), s.length
			list[k].sum, list[k].known = kept.find(list[k].stamp)
			list[k].keep = list[k].known
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if changed, err := id.recheck(ctx, list); err != nil {
		return nil, err
	} else if changed >= 0 {
		id.warn("%s has changed, although its size and times have not: all images of %s are read again",
			id.name(changed), id.spec)
		for k := range list {
			list[k].known = false
		}
	}
	fresh, err := id.hash(ctx, list)
	if err != nil {
		return nil, err
	}
	bad := 0
	for k := len(list) - 1; k >= 0; k-- {
		if list[k].reason != nil {
			bad++
			err = fmt.Errorf("%s: %w", id.name(k), list[k].reason)
		}
	}
	if bad > 0 {
		id.warn("%d of %d images of %s cannot be read, the first: %v", bad, n, id.spec, err)
	}
	if fresh > bad {
		id.store(list)
	}
	return list, nil
}

// recheck reads a few images whose hashes are known, always the same ones, and returns one that has changed; -1: none
// has.
func (id *identity) recheck(ctx context.Context, list []listed) (changed int, err error) {
	var chosen []int
	for part := range rechecked { // one of each 64th of the set, by its name
		from, to := part*len(list)/rechecked, (part+1)*len(list)/rechecked
		if from == to {
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(id.name(from))) // a hash takes everything
		if k := from + int(h.Sum32())%(to-from); list[k].known {
			chosen = append(chosen, k)
		}
	}
	var worst atomic.Int64
	worst.Store(-1)
	err = parallel(ctx, len(chosen), func(c int, buf []byte) []byte {
		part, i := id.at(chosen[c])
		buf, err := part.read(i, buf[:0])
		if err != nil || sha256.Sum256(buf) != list[chosen[c]].sum {
			worst.Store(int64(chosen[c]))
		}
		return buf
	})
	return int(worst.Load()), err
}

// hash reads the images that are not known and returns how many they were.
func (id *identity) hash(ctx context.Context, list []listed) (int, error) {
	var todo []int
	for k := range list {
		if !list[k].known {
			todo = append(todo, k)
		}
	}
	told := counter(len(todo), id.options.Progress)
	err := parallel(ctx, len(todo), func(t int, buf []byte) []byte {
		k := todo[t]
		part, i := id.at(k)
		now, before := id.now(), part.stamp(i)
		buf, err := part.read(i, buf[:0])
		l := &list[k]
		*l = listed{size: -1, reason: err}
		if err == nil {
			l.sum, l.size, l.stamp = sha256.Sum256(buf), int64(len(buf)), before.print()
			l.known, l.keep = true, before.settled(now) && before == part.stamp(i) && before.length == l.size
		}
		told()
		return buf
	})
	return len(todo), err
}

// counter counts calls from any number of goroutines and tells progress, which may be nil, one after the other.
func counter(total int, progress func(done, total int)) func() {
	if progress == nil {
		return func() {}
	}
	var mu sync.Mutex
	done := 0
	return func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		progress(done, total)
	}
}

// parallel calls do for 0..n-1 on several goroutines, each of which hands the bytes that do returned to its next
// call. Reading files waits for the disk most of the time, so they are more than processors.
func parallel(ctx context.Context, n int, do func(i int, buf []byte) []byte) error {
	const block = 16
	var next atomic.Int64
	g, inner := errgroup.WithContext(ctx)
	for range min(2*runtime.GOMAXPROCS(0), (n+block-1)/block) {
		g.Go(func() error {
			var buf []byte
			for {
				from := int(next.Add(block)) - block
				if from >= n {
					return nil
				}
				for i := from; i < min(from+block, n); i++ {
					if err := inner.Err(); err != nil {
						return err
					}
					if buf = do(i, buf); cap(buf) > keptBytes {
						buf = nil
					}
				}
			}
		})
	}
	return g.Wait()
}

// records are those of a kept manifest.
type records []byte

// find looks a stamp up.
func (r records) find(stamp [printBytes]byte) (sum [sha256.Size]byte, found bool) {
	at := func(i int) []byte { return r[i*recordBytes : (i+1)*recordBytes] }
	n := len(r) / recordBytes
	i := sort.Search(n, func(i int) bool { return bytes.Compare(at(i)[:printBytes], stamp[:]) >= 0 })
	if i == n || !bytes.Equal(at(i)[:printBytes], stamp[:]) {
		return sum, false
	}
	return [sha256.Size]byte(at(i)[printBytes:]), true
}

// path is the file of the kept manifest.
func (id *identity) path() string {
	sum := sha256.Sum256([]byte(id.spec))
	return filepath.Join(id.options.Manifests, hex.EncodeToString(sum[:16]))
}

// load reads the kept manifest. Without one, or with a damaged one, all images are read.
func (id *identity) load() records {
	if id.options.Manifests == "" {
		return nil
	}
	text, err := files.Read(id.path(), maxManifestBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r records
	if err == nil {
		r, err = decodeManifest(text, id.spec)
	}
	if err != nil {
		id.warn("%s, which keeps hashes of the images of %s, is not used (%v): all images are read again", id.path(),
			id.spec, err)
		return nil
	}
	now := id.now()
	_ = os.Chtimes(id.path(), now, now) // it was used: others go first
	return r
}

// decodeManifest checks what store wrote for a set.
func decodeManifest(text []byte, spec string) (records, error) {
	body, err := checkpoint.Open(manifestMagic, text)
	if err != nil {
		return nil, err
	}
	r, mine := bytes.CutPrefix(body, []byte(spec+"\n"))
	switch {
	case !mine:
		return nil, errors.New("it is of another image set")
	case len(r)%recordBytes != 0:
		return nil, fmt.Errorf("%d bytes of records, want a multiple of %d", len(r), recordBytes)
	}
	return r, nil
}

// store keeps the manifest. A folder that cannot be written costs time, not a training.
func (id *identity) store(list []listed) {
	if id.options.Manifests == "" {
		return
	}
	entries := make([]int, 0, len(list))
	for k := range list {
		if list[k].keep {
			entries = append(entries, k)
		}
	}
	slices.SortFunc(entries, func(a, b int) int { return bytes.Compare(list[a].stamp[:], list[b].stamp[:]) })
	body := make([]byte, 0, len(id.spec)+1+recordBytes*len(entries))
	body = append(append(body, id.spec...), '\n')
	for _, k := range entries {
		body = append(append(body, list[k].stamp[:]...), list[k].sum[:]...)
	}
	err := files.MkdirAll(id.options.Manifests)
	if sealed := checkpoint.Seal(manifestMagic, body); err == nil && len(sealed) > maxManifestBytes {
		err = fmt.Errorf("%d bytes, at most %d are kept of a set", len(sealed), maxManifestBytes)
	} else if err == nil {
		err = files.Write(id.path(), sealed)
	}
	if err == nil {
		err = prune(id.options.Manifests, mostManifestBytes)
	}
	if err != nil {
		id.warn("the hashes of the images of %s are not kept, they will all be read again: %v", id.spec, err)
	}
}

// prune removes the files of a folder that were not used for longest until the others have at most so many bytes.
func prune(dir string, most int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	total := int64(0)
	for _, info := range infos {
		if total += info.Size(); total > most {
			err = errors.Join(err, os.Remove(filepath.Join(dir, info.Name())))
		}
	}
	return err
}
