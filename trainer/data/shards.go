package data

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// shards is a store of images in tar files, read at random by offset.
type shards struct {
	files   []*os.File
	entries []shardEntry
}

type shardEntry struct {
	shard, label int32
	offset       int64
	size         int32
	key          string
}

func (s *shards) count() int        { return len(s.entries) }
func (s *shards) label(i int) int32 { return s.entries[i].label }
func (s *shards) name(i int) string {
	e := s.entries[i]
	return filepath.Base(s.files[e.shard].Name()) + ":" + e.key
}

func (s *shards) read(i int, buf []byte) ([]byte, error) {
	e := s.entries[i]
	at := len(buf)
	buf = append(buf, make([]byte, e.size)...)
	_, err := s.files[e.shard].ReadAt(buf[at:], e.offset)
	return buf, err
}

func (s *shards) stamp(i int) stamp {
	e := s.entries[i]
	f := s.files[e.shard]
	st := stampOf(f.Name(), "", f)
	st.offset, st.length = e.offset, int64(e.size)
	return st
}

func (s *shards) close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// testPart stands between the patterns of training and of test images.
const testPart = "?test="

func openShards(where string) (*Dataset, error) {
	trainGlob, testGlob, hasTest := strings.Cut(where, testPart)
	train, err := indexShards(trainGlob)
	if err != nil {
		return nil, err
	}
	d := &Dataset{Train: &Set{store: train}, Validation: &Set{}, Test: &Set{}, Mean: imageNetMean, Std: imageNetStd,
		close: train.close}
	top := train.topLabel()
	if hasTest {
		test, err := indexShards(testGlob)
		if err != nil {
			return nil, errors.Join(err, train.close())
		}
		top = max(top, test.topLabel())
		d.Test = &Set{store: test}
		d.close = func() error { return errors.Join(train.close(), test.close()) }
	}
	d.Classes = numbered(int(top) + 1)
	return d, nil
}

func (s *shards) topLabel() int32 {
	top := int32(0)
	for _, e := range s.entries {
		top = max(top, e.label)
	}
	return top
}

// indexShards opens and lists the files of a pattern, in the order of their names.
func indexShards(pattern string) (*shards, error) {
	paths, err := expand(pattern)
	if err != nil {
		return nil, err
	}
	out := &shards{files: make([]*os.File, len(paths))}
	lists := make([][]shardEntry, len(paths))
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0)) // waits for the disk most of the time
	for i, p := range paths {
		g.Go(func() error {
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			out.files[i] = f
			if lists[i], err = indexShard(f); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			for j := range lists[i] {
				lists[i][j].shard = int32(i)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		for _, f := range out.files {
			if f != nil {
				_ = f.Close()
			}
		}
		return nil, err
	}
	for _, list := range lists {
		out.entries = append(out.entries, list...)
	}
	return out, nil
}

var braces = regexp.MustCompile(`\{(\d+)\.\.(\d+)\}`)

// maxShards bounds a range: all of its files are kept open.
const maxShards = 100_000

// expand lists the files of a pattern: shell wildcards and ranges {000..099}. Every number of a range must exist.
func expand(pattern string) ([]string, error) {
	m := braces.FindStringSubmatchIndex(pattern)
	if m == nil {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("no file matches %q", pattern)
		}
		return paths, nil
	}
	low, high := pattern[m[2]:m[3]], pattern[m[4]:m[5]]
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil || to < from || to-from >= maxShards {
		return nil, fmt.Errorf("pattern %q: bad range {%s..%s}", pattern, low, high)
	}
	var paths []string
	for i := from; i <= to; i++ {
		more, err := expand(pattern[:m[0]] + fmt.Sprintf("%0*d", len(low), i) + pattern[m[1]:])
		if err != nil {
			return nil, err
		}
		if paths = append(paths, more...); len(paths) > maxShards {
			return nil, fmt.Errorf("pattern %q names more than %d files", pattern, maxShards)
		}
	}
	return paths, nil
}

// absolutePattern makes a pattern of shards valid in any working directory. What would be a wildcard in the directory's name stands for itself.
func absolutePattern(pattern string) (string, error) {
	if filepath.IsAbs(pattern) {
		return pattern, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return filepath.Join(literal(dir), pattern), nil
}

// literal is a pattern that only a name itself matches: a class of one character is that character.
func literal(name string) string {
	var out strings.Builder
	for _, r := range name {
		switch {
		case strings.ContainsRune("*?[{", r):
			out.WriteString("[" + string(r) + "]")
		case r == '\\' && filepath.Separator != '\\':
			out.WriteString(`\\`)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// maxLabelBytes is the most a .cls member may hold: a number.
const maxLabelBytes = 32

// indexShard lists the images of a tar file in the order of their members. A sample is the members that share a name up to its first dot
// after the last slash (WebDataset); it needs one .jpg, .jpeg or .png and one .cls, others are passed over.
func indexShard(r io.ReadSeeker) ([]shardEntry, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	type sample struct {
		entry    int // of the list; -1: no image so far
		label    int32
		labelled bool
	}
	samples := map[string]*sample{}
	var list []shardEntry
	t := tar.NewReader(r)
	for {
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("member at offset %d: %w", at, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// tar.Reader reads headers block by block, so the member's data begin here.
		offset, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Size > size-offset {
			return nil, fmt.Errorf("%s at offset %d: truncated: %d of %d bytes", h.Name, offset, max(0, size-offset), h.Size)
		}
		dir, base := path.Split(h.Name)
		stem, ext, _ := strings.Cut(base, ".")
		key := dir + stem
		s := samples[key]
		if s == nil {
			s = &sample{entry: -1}
			samples[key] = s
		}
		switch strings.ToLower(ext) {
		case "jpg", "jpeg", "png":
			if s.entry >= 0 {
				return nil, fmt.Errorf("%s at offset %d: a second image of sample %s", h.Name, offset, key)
			}
			if h.Size > maxFileBytes {
				return nil, fmt.Errorf("%s at offset %d: %d bytes, at most %d are accepted", h.Name, offset, h.Size, maxFileBytes)
			}
			s.entry = len(list)
			list = append(list, shardEntry{offset: offset, size: int32(h.Size), key: key})
		case "cls":
			text, err := io.ReadAll(io.LimitReader(t, maxLabelBytes))
			if err != nil {
				return nil, fmt.Errorf("%s at offset %d: %w", h.Name, offset, err)
			}
			label, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil || label < 0 || label >= maxClasses || s.labelled {
				return nil, fmt.Errorf("%s at offset %d: %q, want one class 0..%d", h.Name, offset, text, maxClasses-1)
			}
			s.label, s.labelled = int32(label), true
		}
	}
	for _, e := range list {
		if s := samples[e.key]; !s.labelled {
			return nil, fmt.Errorf("sample %s has no .cls", e.key)
		}
	}
	for key, s := range samples {
		if s.labelled && s.entry < 0 {
			return nil, fmt.Errorf("sample %s has a .cls and no image", key)
		}
		if s.entry >= 0 {
			list[s.entry].label = s.label
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no images")
	}
	return list, nil
}
