package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/files"
)

// Pulled says what a pull did.
type Pulled struct {
	Objects int   `json:"objects"` // there are
	Bytes   int64 `json:"bytes"`   // of all of them
	Fetched int   `json:"fetched"` // that were not there already
}

// listedAttempts is how often an object that was listed is asked for where the store says that there is none: some show
// what they have earlier in lists.
const listedAttempts = 3

// Pull fetches everything of a store into a folder, so many objects at once, and tells of each that is there. Files of
// an object's size and time are there already: a pull that was stopped goes on, and what has changed is fetched anew.
// The folder is locked meanwhile for command, and rid of the beginnings of files that a pull left which was killed.
func Pull(ctx context.Context, s Store, dir, command string, atOnce int, progress func(done, total int)) (p Pulled,
	err error) {
	all, err := s.List(ctx, "")
	if err != nil {
		return Pulled{}, err
	}
	if len(all) == 0 {
		return Pulled{}, fmt.Errorf("%v: there is nothing: %w", s, fs.ErrNotExist)
	}
	p.Objects = len(all)
	for _, o := range all { // before anything is fetched
		if err := checkName(o.Name); err != nil {
			return p, fmt.Errorf("%v: %w", s, err)
		}
		p.Bytes += o.Size
	}
	if err := files.MkdirAll(dir); err != nil {
		return p, err
	}
	lock, err := files.Lock(dir, command)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := sweep(dir, all); err != nil {
		return p, err
	}
	var done, fetched atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, atOnce))
	for _, o := range all {
		g.Go(func() error {
			to := filepath.Join(dir, filepath.FromSlash(o.Name))
			if info, err := os.Lstat(to); err != nil || !info.Mode().IsRegular() || info.Size() != o.Size ||
				!info.ModTime().Equal(o.Modified) {
				if err := getListed(ctx, s, o, to); err != nil {
					return err
				}
				fetched.Add(1)
			}
			progress(int(done.Add(1)), len(all))
			return ctx.Err()
		})
	}
	err = g.Wait()
	p.Fetched = int(fetched.Load())
	return p, err
}

// sweep removes from a folder what is left of fetching objects that did not end.
func sweep(dir string, all []Object) error {
	names := map[string][]string{}
	for _, o := range all {
		folder, name := path.Split(o.Name)
		names[folder] = append(names[folder], name)
	}
	for folder, list := range names {
		err := files.Sweep(filepath.Join(dir, filepath.FromSlash(folder)), list...)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func getListed(ctx context.Context, s Store, o Object, path string) error {
	for n := 1; ; n++ {
		err := GetFile(ctx, s, o.Name, path, o.Modified)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if n == listedAttempts {
			return fmt.Errorf("%w, although it is listed: was it removed meanwhile?", err)
		}
		if err := pause(ctx, time.Duration(n)*200*time.Millisecond); err != nil {
			return err
		}
	}
}
