package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/objects"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/report"
)

// lookEvery is how often it is looked whether there is another checkpoint to copy.
const lookEvery = 2 * time.Second

// farmFolder is the part of a run's folder that a farm keeps: its keys and what its server has stored, which are no
// part of a copy.
const farmFolder = "farm"

// copied gives a command that writes a run's folder --copy STORE, which that is copied to as checkpoints are written. A
// folder that is not here is fetched from there by --resume.
func (a *app) copied(cmd *cobra.Command) *cobra.Command {
	var to string
	l := setting.New()
	l.Group("Copy")
	l.Text(&to, "copy", "keep a copy of the run's folder in this `store` (s3://BUCKET/PREFIX, or a folder elsewhere) "+
		"with every checkpoint; with --resume, a folder that is not here is fetched from there").
		Check(func() error {
			if to == "" {
				return nil
			}
			if _, err := objects.Open(to); err != nil {
				return fmt.Errorf("copy %w", err)
			}
			return nil
		}).MayChange().Unkept()
	l.Bind(cmd.Flags())
	a.lists[cmd] = setting.Join(a.lists[cmd], l)
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if to == "" || a.nodes.follows() {
			return work(cmd, args)
		}
		resume := cmd.Flag("resume").Value.String()
		dir := cmp.Or(resume, a.out)
		if dir == "" {
			return usagef("--copy needs --out or --resume: the folder that is copied")
		}
		store, err := objects.Open(to)
		if err != nil {
			return fmt.Errorf("--copy %w", err)
		}
		if !strings.HasPrefix(to, objects.Scheme) && (within(to, dir) || within(dir, to)) {
			return usagef("--copy %s: want a folder apart from %s", to, dir)
		}
		// Another run's copy is not written over.
		_, missing := os.Stat(filepath.Join(dir, report.ConfigName))
		if !errors.Is(missing, fs.ErrNotExist) {
			if err := sameRun(cmd.Context(), store, dir); err != nil {
				return fmt.Errorf("--copy %s: %w", to, err)
			}
		} else if resume != "" {
			if err := a.fetch(cmd.Context(), store, filepath.Clean(dir)); err != nil {
				return fmt.Errorf("--copy: %s is not here: %w", dir, err)
			}
		} else if there, err := store.List(cmd.Context(), report.ConfigName); err != nil {
			return fmt.Errorf("--copy: %w", err)
		} else if len(there) > 0 {
			return usagef("--copy %s: there is a run already; --resume %s goes on with it", to, quoted(dir))
		}
		k := objects.Keep(cmd.Context(), store, dir, lookEvery, func(err error) {
			a.log.Warn("the copy is behind: it is tried again", "error", strings.TrimSpace(err.Error()))
		}, farmFolder, nodesFolder)
		err = work(cmd, args)
		if !isRun(dir, err == nil || cmd.Context().Err() != nil) {
			k.Stop()
			return err
		}
		if lost := k.Close(cmd.Context()); lost != nil {
			lost = fmt.Errorf("--copy: the copy is not complete, %s is: %w", dir, lost)
			if err == nil {
				return lost
			}
			a.log.Error(lost.Error())
		}
		return err
	}
	return cmd
}

// isRun tells whether a folder holds a run to copy: one that has a checkpoint, or was begun by a command that did not
// fail. A folder that a command refused, whatever it holds, is nothing to send away.
func isRun(dir string, begun bool) bool {
	name := filepath.Join(checkpoint.Dir, checkpoint.Latest)
	if begun {
		name = report.ConfigName
	}
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// fetch makes a run's folder of its copy. What it has got lies beside the folder until it is whole: a part of a run
// would be gone on with from its begin.
func (a *app) fetch(ctx context.Context, from objects.Store, dir string) error {
	part := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".fetching")
	update, finish := a.progress("objects of the run")
	pulled, err := objects.Pull(ctx, from, part, a.commandLine(), 8, update)
	finish()
	if err != nil {
		return err
	}
	if err := files.Rename(part, dir); err != nil {
		return err
	}
	a.log.Info("fetched", "folder", dir, "from", from, "bytes", pulled.Bytes)
	return nil
}

// sameRun refuses a store that holds the copy of another run than a folder: its settings are other ones, and its log
// begins otherwise. A run that was killed early may have begun its log anew; settings may change when it goes on.
func sameRun(ctx context.Context, s objects.Store, dir string) error {
	here, there, err := both(ctx, s, dir, report.ConfigName)
	if err != nil || len(there) == 0 || bytes.Equal(here, there) {
		return err
	}
	here, there, err = both(ctx, s, dir, events.FileName)
	if err != nil || len(here) == 0 || len(there) == 0 {
		return err
	}
	one, _, _ := bytes.Cut(here, []byte("\n"))
	other, _, _ := bytes.Cut(there, []byte("\n"))
	if !bytes.Equal(one, other) {
		return usagef("that is the copy of another run than %s", dir)
	}
	return nil
}

// both is a file of a folder and its copy; what is not there is empty.
func both(ctx context.Context, s objects.Store, dir, name string) (here, there []byte, err error) {
	here, err = files.Read(filepath.Join(dir, name), maxLogBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	var copied bytes.Buffer
	if err := s.Get(ctx, name, &copied); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return here, copied.Bytes(), nil
}

// within tells whether a folder is another one or lies in it, whatever of them is there and by whatever links.
func within(dir, other string) bool {
	for _, path := range []*string{&dir, &other} {
		at, rest := *path, ""
		if absolute, err := filepath.Abs(at); err == nil {
			at = absolute
		}
		for {
			if real, err := filepath.EvalSymlinks(at); err == nil {
				*path = filepath.Join(real, rest)
				break
			}
			if filepath.Dir(at) == at {
				break
			}
			at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest)
		}
	}
	way, err := filepath.Rel(other, dir)
	return err == nil && filepath.IsLocal(way)
}

// maxLogBytes bounds what is read of a log, as its reader does.
const maxLogBytes = 1 << 30
