package command

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
)

// Program is a command with all that its labels depend on beside the candidate: the files that it is made of, and
// variables of the environment.
type Program struct {
	dir   string
	words []string
	files []file // in the order of their names
	env   []string
}

// file is one whose content counts.
type file struct {
	name string // as the command has it
	sum  string // SHA-256
	seen stamp  // when that was computed
}

// stamp tells a file that was written from one that was not.
type stamp struct {
	size, modified int64
}

// newProgram reads the files of a command: its words that name a regular file, as a whole or behind an equals sign, and
// others that count. What a shell would find on its path is not read.
func newProgram(words []string, dir string, others, env []string) (*Program, error) {
	p := &Program{dir: dir, words: words}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		err = errors.Join(err, errors.New("want the folder that the command runs in"))
		return nil, fmt.Errorf("dir %s: %w", dir, err)
	}
	names := slices.Clone(others)
	for _, w := range words {
		if holder.MatchString(w) {
			continue
		}
		for _, name := range []string{w, w[strings.IndexByte(w, '=')+1:]} {
			info, err := os.Stat(p.path(name))
			if err == nil && name != "" && info.Mode().IsRegular() {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		f := file{name: name}
		if err := f.read(p.path(name)); err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	for _, name := range env {
		value, set := os.LookupEnv(name)
		if !set {
			return nil, fmt.Errorf("env=%s: the environment has no such variable", name)
		}
		p.env = append(p.env, name+"="+value)
	}
	slices.Sort(p.env)
	return p, nil
}

func (p *Program) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.dir, name)
}

// Checksum is that of all of it, and of nothing else: not of where it lies.
func (p *Program) Checksum() string {
	parts := append([]string{"command"}, p.words...)
	for _, f := range p.files {
		parts = append(parts, "file", f.name, f.sum)
	}
	for _, e := range p.env {
		parts = append(parts, "env", e)
	}
	return digest.Of([]byte(strings.Join(parts, "\x00")))
}

// FilesChecksum is that of the files; empty without any.
func (p *Program) FilesChecksum() string {
	switch len(p.files) {
	case 0:
		return ""
	case 1:
		return p.files[0].sum
	}
	var all []string
	for _, f := range p.files {
		all = append(all, f.name, f.sum)
	}
	return digest.Of([]byte(strings.Join(all, "\x00")))
}

// Environment are the variables that count, by name; nil without any.
func (p *Program) Environment() map[string]string {
	var all map[string]string
	for _, e := range p.env {
		name, value, _ := strings.Cut(e, "=")
		if all == nil {
			all = map[string]string{}
		}
		all[name] = value
	}
	return all
}

var reading sync.Mutex // of files that may have been written

// unchanged is an error where a file is no longer what it was.
func (p *Program) unchanged() error {
	reading.Lock()
	defer reading.Unlock()
	for i := range p.files {
		f := &p.files[i]
		path := p.path(f.name)
		now, err := stampOf(path)
		if err == nil && now == f.seen {
			continue
		}
		again := file{name: f.name}
		if err := again.read(path); err != nil {
			return err
		}
		if again.sum != f.sum {
			return fmt.Errorf("%s was changed since the search began, and its labels would not be comparable: put it "+
				"back, or begin another search", path)
		}
		f.seen = again.seen // the rest is the same, and others read it
	}
	return nil
}

func stampOf(path string) (s stamp, err error) {
	info, err := os.Stat(path)
	if err == nil {
		s = stamp{info.Size(), info.ModTime().UnixNano()}
	}
	return s, err
}

// read computes the checksum of a file.
func (f *file) read(path string) (err error) {
	if f.seen, err = stampOf(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("file of the command: %w", err)
	}
	in, err := files.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	whole := sha256.New()
	if _, err := io.Copy(whole, in); err != nil {
		return err
	}
	f.sum = hex.EncodeToString(whole.Sum(nil))
	return nil
}
