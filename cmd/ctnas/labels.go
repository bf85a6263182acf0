package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	_ "github.com/ctnas/ctnas/search/labels/sources" // which --labels may name
)

// What help says of --labels: in a line, and of each source that has more to say.
var labelsHelp, labelsLong = "where accuracies come from: " + labels.Usage(), labels.Help()

// labelFlags are how labels are made, not what they are.
type labelFlags struct {
	workers, retries *int
	cache            *string
}

// labelFlagNames may also be given with --resume, as --labels may where they have moved.
var labelFlagNames = []string{"label-workers", "label-retries", "label-cache"}

// newLabelFlags are those of a command that has no configuration to keep them in.
func newLabelFlags() labelFlags {
	c, _ := search.Preset(search.PresetDefault) // the name is one of its own
	return labelFlags{&c.LabelWorkers, &c.LabelRetries, &c.LabelCache}
}

// addLabelFlags binds them; their values are the defaults.
func addLabelFlags(f *pflag.FlagSet, l labelFlags) {
	f.IntVar(l.workers, "label-workers", *l.workers, "candidates trained at once, which share the threads (0 = one a thread, at most 8); labels do not depend on it")
	f.IntVar(l.retries, "label-retries", *l.retries, "how often a candidate whose training failed is tried again")
	f.StringVar(l.cache, "label-cache", *l.cache, "`folder` of trainings that have been done, which several runs may share (default: in the user's cache folder)")
}

// labelOptions are how labels are opened, and made, on a device. listed asks for the space's list, where it takes time.
func (a *app) labelOptions(on device, f labelFlags, listed bool) labels.Options {
	return labels.Options{
		Device: on.Config, Threads: a.threads, Listed: listed, Progress: a.progress,
		Making: labels.Making{
			Workers: *f.workers, Retries: *f.retries, Cache: *f.cache,
			Images: a.imageOptions, Version: exactVersion, Done: a.candidateDone(),
		},
	}
}

// openLabels opens what --labels names for a space.
func (a *app) openLabels(ctx context.Context, text, spaceName string, o labels.Options) (*labels.Labels, error) {
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	l, err := labels.Open(ctx, text, sp, o)
	return l, labelsError(err)
}

// labelsError is an error about --labels: wrong use where the text itself is to blame.
func labelsError(err error) error {
	if wrong := new(labels.TextError); errors.As(err, &wrong) {
		return usagef("--%w", err)
	}
	return err
}

// exactVersion tells programs apart whose trainings may differ: the commit's hash, and of a program with changes that are not in it, or of an
// unknown one, the program file's.
func exactVersion() (string, error) {
	build := thisBuild()
	if !build.Modified && build.Commit != "unknown" {
		return build.Version + " " + build.Commit, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	file, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	whole := sha256.New()
	if _, err := io.Copy(whole, file); err != nil {
		return "", err
	}
	return build.Version + " " + hex.EncodeToString(whole.Sum(nil)), nil
}

// candidateDone writes a line for every training that has ended, unless a terminal shows a bar.
func (a *app) candidateDone() func(labels.Candidate) {
	if a.quiet || a.json || onTerminal(a.stderr) {
		return nil
	}
	return func(c labels.Candidate) {
		how := fmt.Sprintf("%.1f s on %s", c.Seconds, c.Device)
		if c.Cached {
			how = "from the cache"
		}
		if note := c.Note.String(); note != "" {
			how = note + ", " + how
		}
		reached := "no accuracy"
		if c.Epochs > 0 {
			reached = fmt.Sprintf("%.2f %%", 100*c.Accuracy)
		}
		fmt.Fprintf(a.stderr, "candidate %d of %d: %v %s after %d epochs, %s\n", c.N, c.Of, c.Arch, reached, c.Epochs,
			how)
	}
}
