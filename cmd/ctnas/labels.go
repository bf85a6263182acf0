package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	_ "github.com/ctnas/ctnas/search/labels/sources" // which --labels may name
)

// labelsLong is what help says of the sources that --labels may name and that have more to say than a line.
var labelsLong = labels.Help()

// labelOptions are how labels are opened, and made, on a device. listed asks for the space's list, where it takes time.
func (a *app) labelOptions(on device, m search.Making, listed bool) labels.Options {
	return labels.Options{
		Device: on.Config, Threads: a.threads, Listed: listed, Progress: a.progress,
		Making: labels.Making{
			Workers: m.LabelWorkers, Retries: m.LabelRetries, Cache: m.LabelCache,
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

// exactVersion tells programs apart whose trainings may differ: the commit's hash, and of a program with changes that
// are not in it, or of an unknown one, the program file's.
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
