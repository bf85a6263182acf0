package data

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/files"
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
	left := leaving{}
	train, err := indexShards(trainGlob, left)
	if err != nil {
		return nil, err
	}
	d := &Dataset{Indexed: true, Train: &Set{store: train}, Validation: &Set{}, Test: &Set{}, Mean: imageNetMean,
		Std: imageNetStd, close: train.close}
	top := train.topLabel()
	if hasTest {
		test, err := indexShards(testGlob, left)
		if err != nil {
			return nil, errors.Join(err, train.close())
		}
		top = max(top, test.topLabel())
		d.Test = &Set{store: test}
		d.close = func() error { return errors.Join(train.close(), test.close()) }
	}
	d.Classes, d.LeftOut = numbered(int(top)+1), left.list()
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
func indexShards(pattern string, left leaving) (*shards, error) {
	paths, err := expand(pattern)
	if err != nil {
		return nil, err
	}
	out := &shards{files: make([]*os.File, len(paths))}
	lists, leftBy := make([][]shardEntry, len(paths)), make([]leaving, len(paths))
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0)) // waits for the disk most of the time
	for i, p := range paths {
		g.Go(func() error {
			f, err := files.Open(p)
			if err != nil {
				return err
			}
			out.files[i], leftBy[i] = f, leaving{}
			if lists[i], err = indexShard(f, leftBy[i]); err != nil {
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
	for i, list := range lists {
		out.entries = append(out.entries, list...)
		left.merge(leftBy[i])
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

// absolutePattern makes a pattern of shards valid in any working directory. What would be a wildcard in the directory's
// name stands for itself.
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

// What members that hold labels may have at most: a number, and an object with some text.
const (
	maxLabelBytes = 32
	maxNotesBytes = 1 << 20
)

// compressions are the beginnings of files that are no plain tar.
var compressions = []struct{ magic, name, tool string }{
	{"\x1f\x8b", "gzip", "gzip -d"}, {"\x28\xb5\x2f\xfd", "Zstandard", "zstd -d"}, {"BZh", "bzip2", "bzip2 -d"},
	{"\xfd7zXZ", "xz", "xz -d"}, {"PK\x03\x04", "zip", "unzip"},
}

// plainTar refuses what is compressed: images are read in any order, and of a compressed file everything before them
// would have to be read each time.
func plainTar(r io.Reader) error {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head[:n], []byte(c.magic)) {
			return fmt.Errorf("it is compressed with %s: images are read in any order, which needs a plain tar: "+
				"unpack it with %s and name the .tar", c.name, c.tool)
		}
	}
	return nil
}

// sample is what a tar file holds under one key.
type sample struct {
	entry    int // of the list; -1: no image so far
	member   string
	label    int32
	labelled bool
	notes    []shardNote
	other    string // a member that is neither image nor label
}

// shardNote is a member that may hold a label: it is looked at where there is no .cls.
type shardNote struct {
	name   string
	offset int64
	size   int64
}

// indexShard lists the images of a tar file in the order of their members. A sample is the members that share a name
// up to its first dot after the last slash (WebDataset). It needs one image, .jpg, .jpeg, .png or .webp, whatever
// stands before that (.input.jpg), and a class: in a .cls (.target.cls), or where there is none in a .txt that holds
// a number and nothing else, or in a .json under one of labelKeys. Others are passed over.
func indexShard(r io.ReadSeeker, left leaving) ([]shardEntry, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if err := plainTar(r); err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
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
			return nil, fmt.Errorf("%s at offset %d: truncated: %d of %d bytes", h.Name, offset, max(0, size-offset),
				h.Size)
		}
		dir, base := path.Split(h.Name)
		if strings.HasPrefix(base, ".") { // as macOS adds beside each member
			left.add(whyHidden, h.Name)
			continue
		}
		stem, ext, _ := strings.Cut(base, ".")
		key := dir + stem
		s := samples[key]
		if s == nil {
			s = &sample{entry: -1}
			samples[key] = s
		}
		switch kind := strings.ToLower(path.Ext("." + ext)); {
		case isImage(kind):
			if s.entry >= 0 {
				return nil, fmt.Errorf("%s at offset %d: a second image of sample %s, beside %s", h.Name, offset, key,
					s.member)
			}
			if h.Size > maxFileBytes {
				return nil, fmt.Errorf("%s at offset %d: %d bytes, at most %d are accepted", h.Name, offset, h.Size,
					maxFileBytes)
			}
			s.entry, s.member = len(list), h.Name
			list = append(list, shardEntry{offset: offset, size: int32(h.Size), key: key})
		case kind == ".cls":
			text, err := io.ReadAll(io.LimitReader(t, maxLabelBytes))
			if err != nil {
				return nil, fmt.Errorf("%s at offset %d: %w", h.Name, offset, err)
			}
			label, ok := classOf(string(text))
			if !ok || s.labelled {
				return nil, fmt.Errorf("%s at offset %d: %q, want one class 0..%d", h.Name, offset, text, maxClasses-1)
			}
			s.label, s.labelled = label, true
		case kind == ".txt" || kind == ".json":
			s.notes = append(s.notes, shardNote{h.Name, offset, h.Size})
		default:
			s.other = h.Name
		}
	}
	for _, e := range list {
		if s := samples[e.key]; !s.labelled {
			if err := s.readNotes(r, e.key); err != nil {
				return nil, err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(samples)) {
		switch s := samples[key]; {
		case s.entry >= 0:
			list[s.entry].label = s.label
		case s.labelled && s.other != "":
			return nil, fmt.Errorf("sample %s has a .cls and no image that is read (%s): %s", key, imageKinds, s.other)
		case s.labelled:
			return nil, fmt.Errorf("sample %s has a .cls and no image", key)
		default:
			left.add(whyNoImage, key)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no images")
	}
	return list, nil
}

// classOf reads a class as text.
func classOf(text string) (label int32, ok bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return int32(n), err == nil && n >= 0 && n < maxClasses
}

// labelKeys are the keys of a .json member that may hold a sample's class.
var labelKeys = []string{"class_index", "label", "class", "cls", "target", "class_id", "label_id"}

// readNotes looks for the label of a sample without .cls: what is there must say one class.
func (s *sample) readNotes(r io.ReadSeeker, key string) error {
	seen := []string{}
	for _, n := range s.notes {
		if n.size > maxNotesBytes {
			seen = append(seen, fmt.Sprintf("%s of %d bytes", n.name, n.size))
			continue
		}
		if _, err := r.Seek(n.offset, io.SeekStart); err != nil {
			return err
		}
		text, err := io.ReadAll(files.Text(io.LimitReader(r, n.size)))
		if err != nil {
			return fmt.Errorf("%s at offset %d: %w", n.name, n.offset, err)
		}
		found, ok := int32(0), false
		if strings.HasSuffix(strings.ToLower(n.name), ".txt") {
			found, ok = classOf(string(text))
			seen = append(seen, fmt.Sprintf("%s with %.20q", n.name, text))
		} else {
			var keys []string
			if found, keys, err = classInJSON(text); err != nil {
				return fmt.Errorf("%s at offset %d: %w", n.name, n.offset, err)
			}
			ok = found >= 0
			seen = append(seen, fmt.Sprintf("%s with the keys %q", n.name, keys))
		}
		if ok && s.labelled && found != s.label {
			return fmt.Errorf("%s at offset %d says class %d, another member of sample %s says %d", n.name, n.offset,
				found, key, s.label)
		}
		if ok {
			s.label, s.labelled = found, true
		}
	}
	switch {
	case s.labelled:
		return nil
	case len(seen) == 0:
		return fmt.Errorf("sample %s has no .cls", key)
	}
	return fmt.Errorf("sample %s has no .cls, and no class is found in %s: want a .txt with a number alone, or a "+
		"number under one of %s",
		key, strings.Join(seen, ", "), strings.Join(labelKeys, ", "))
}

// classInJSON returns the class that an object says under labelKeys, -1 where it says none, and the object's keys.
func classInJSON(text []byte) (label int32, keys []string, err error) {
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		return 0, nil, fmt.Errorf("no JSON object: %w", err)
	}
	label = -1
	for _, key := range labelKeys {
		number, ok := object[key].(json.Number)
		if !ok {
			continue
		}
		found, ok := classOf(number.String())
		if !ok || label >= 0 && label != found {
			return 0, nil, fmt.Errorf("%s is %s, want one class 0..%d", key, number, maxClasses-1)
		}
		label = found
	}
	return label, slices.Sorted(maps.Keys(object)), nil
}
