package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
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

// candidateDone tells whoever watches of every training or evaluation that has ended, and writes a line, unless a
// terminal shows a bar.
func (a *app) candidateDone() func(labels.Candidate) {
	silent := a.quiet || a.json || onTerminal(a.stderr)
	var p pace
	return func(c labels.Candidate) {
		countCandidate(c)
		if silent {
			return
		}
		how := fmt.Sprintf("%.1f s on %s", c.Seconds, c.Device)
		if c.Cached {
			how = "from the cache"
		}
		if note := c.Note.String(); note != "" {
			how = note + ", " + how
		}
		reached := "no accuracy"
		switch {
		case c.Epochs > 0:
			reached = fmt.Sprintf("%.2f %% after %d epochs", 100*c.Accuracy, c.Epochs)
		case !math.IsNaN(c.Accuracy): // nothing was trained for it
			reached = fmt.Sprintf("%.2f %%", 100*c.Accuracy)
		}
		fmt.Fprintf(a.stderr, "candidate %d of %d: %v %s, %s%s\n", c.N, c.Of, c.Arch, reached, how, p.of(c))
	}
}

// countCandidate adds one to the numbers of those that have ended.
func countCandidate(c labels.Candidate) {
	switch {
	case len(c.Note.Failed) > 0:
		metrics.Jobs.Add(1, "failed")
		return
	case c.Cached:
		metrics.Jobs.Add(1, "cached")
		return
	case c.Note.Diverged:
		metrics.Jobs.Add(1, "diverged")
	default:
		metrics.Jobs.Add(1, "done")
	}
	metrics.JobSeconds.Observe(time.Duration(c.Seconds * float64(time.Second)))
}

// pace is how fast the evaluations of a submission are.
type pace struct {
	begun        time.Time
	made, images int
}

// of says how many images a second went forward so far, and how long the rest takes at that pace; nothing of trainings
// and of what was cached.
func (p *pace) of(c labels.Candidate) string {
	if c.N == 1 {
		*p = pace{}
	}
	if c.Images == 0 {
		return ""
	}
	if p.made == 0 {
		p.begun = time.Now().Add(-time.Duration(c.Seconds * float64(time.Second)))
	}
	p.made, p.images = p.made+1, p.images+c.Images
	passed := time.Since(p.begun)
	text := fmt.Sprintf(", %.0f images/s", float64(p.images)/passed.Seconds())
	if left := c.Of - c.N; left > 0 {
		text += fmt.Sprintf(", %v left", (passed * time.Duration(left) / time.Duration(p.made)).Round(time.Second))
	}
	return text
}
