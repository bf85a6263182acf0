package command

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Prefix marks these labels among the sources of labels.
const Prefix = "exec:"

// Spec says what labels are, and how the command that makes them is run.
type Spec struct {
	Command string // as it was given
	made.Rules
	Epochs int     // that the command tells of; 0: nobody knows
	Chance float64 // the accuracy of guessing
	Size   space.NetworkSize
	Env    []string // names of variables that count
	Files  []string // files that count, beside those that are words of the command
	Dir    string   // where it runs

	Timeout time.Duration // 0: none
	GPUs    []string

	words []string
	query string // as it was given
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Settings are the keys of a query.
func (s *Spec) Settings() *setting.List {
	l := setting.New()
	l.Group("Labels by a command")
	l.Text(&s.Dir, "dir", "`folder` that the command runs in (default: the working directory)").Path(files.Absolute)
	l.Value((*list)(&s.Env), (*list)(&s.Env), "env", "", "names of variables of the environment whose values labels "+
		"depend on").Check(func() error {
		for _, name := range s.Env {
			if !variable.MatchString(name) {
				return fmt.Errorf("env %q: want the name of a variable", name)
			}
		}
		return nil
	})
	l.Value((*list)(&s.Files), (*list)(&s.Files), "files", "", "files that labels depend on, beside those that are "+
		"words of the command")
	l.Duration(&s.Timeout, "timeout", "after how long an attempt is ended as failed (0s = never)", 0, 10000*time.Hour)
	l.Value((*list)(&s.GPUs), (*list)(&s.GPUs), "gpus", "", "what CUDA_VISIBLE_DEVICES is set to, one in turn for "+
		"each candidate at work (default: each of those that the variable names)")
	l.Int(&s.Epochs, "epochs", "epochs", "of each training, of which the command tells one after the other; needed to "+
		"stop trainings early (0 = not known)", 0, mostEpochs)
	l.Float(&s.Chance, "chance", "", "the accuracy of guessing: the label of what diverged, or failed", 0, 1)
	s.Rules.AddTo(l)
	l.Int(&s.Size.Side, "resolution", "pixels", "side of the images of the network in {onnx} and {module} (0 = the "+
		"space's own)", 0, 4096)
	l.Int(&s.Size.Classes, "classes", "classes", "its classes (0 = the space's own)", 0, 1<<20)
	l.Int(&s.Size.Channels, "channels", "channels", "its width, of a network of cells (0 = the space's own)", 0, 1<<16)
	l.Int(&s.Size.Stacks, "stacks", "stacks", "its stacks, of a network of cells (0 = the space's own)", 0, 64)
	l.Int(&s.Size.Modules, "modules", "cells", "its cells a stack (0 = the space's own)", 0, 1024)
	return l
}

// list is words with commas between them.
type list []string

var _ pflag.Value = (*list)(nil)

func (l *list) Set(text string) error {
	*l = nil
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			return fmt.Errorf("an empty word in %q", text)
		}
		*l = append(*l, word)
	}
	return nil
}

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Type() string { return "words" }

// UnmarshalText is Set, for a query.
func (l *list) UnmarshalText(text []byte) error { return l.Set(string(text)) }

// Parse reads exec:COMMAND?key=value. The query begins at the last question mark; a command with one of its own ends
// in another. Values may be escaped as in a URL.
func Parse(text string) (Spec, error) {
	s, err := parse(text)
	if err != nil {
		return s, fmt.Errorf("labels %q: %w", text, err)
	}
	return s, nil
}

func parse(text string) (s Spec, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return s, fmt.Errorf("want %sCOMMAND {arch}", Prefix)
	}
	s = Spec{Command: rest, Rules: made.DefaultRules()}
	if i := strings.LastIndexByte(rest, '?'); i >= 0 {
		s.Command, s.query = rest[:i], rest[i+1:]
	}
	if s.words, err = words(s.Command, holders); err == nil && !s.told() {
		err = fmt.Errorf("the command %q is not told which architecture it trains: want {arch}, {json}, {onnx}, "+
			"{module} or {dir} in it or, where a shell reads it, $%s", s.Command, envArch)
	}
	if err != nil && s.query != "" {
		err = fmt.Errorf("%w; it ends before the last question mark: if that is its own, add another at the end", err)
	}
	if err != nil {
		return s, err
	}
	l := s.Settings()
	values, err := labels.ReadQuery(s.query, l)
	if err == nil {
		err = labels.SetAll(l, values)
	}
	if err != nil {
		return s, err
	}
	if s.Dir == "" {
		if s.Dir, err = os.Getwd(); err != nil {
			return s, err
		}
	}
	if s.Stop > 0 && s.Epochs == 0 {
		return s, errors.New("stop: trainings are compared epoch by epoch, so epochs=N says how many the command " +
			"tells of")
	}
	s.Complete(s.Epochs)
	return s, l.Check()
}

// String is the text that Parse reads, which means the same in any working directory.
func (s Spec) String() string {
	values, _ := labels.ReadQuery(s.query, s.Settings()) // it was parsed before
	dir, err := files.Absolute(s.Dir)
	if err != nil {
		dir = s.Dir
	}
	values.Set("dir", dir)
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		keys = append(keys, key+"="+labels.Escaped(values.Get(key)))
	}
	return Prefix + s.Command + "?" + strings.Join(keys, "&")
}

// told tells whether the command is given the architecture in some form.
func (s Spec) told() bool {
	return strings.Contains(s.Command, "CANDIDATE_") || slices.ContainsFunc(
		[]string{heldArch, heldJSON, heldONNX, heldModule, heldDir},
		func(what string) bool { return holds(s.words, what) })
}

// networked tells whether the command is given a network.
func (s Spec) networked() bool { return holds(s.words, heldONNX) || holds(s.words, heldModule) }

// describe says what the labels are, in a line without paths.
func (s Spec) describe(fingerprint string) string {
	text := "chosen on the accuracy that `" + s.Command + "` says (" + fingerprint[:12]
	if s.Epochs > 0 {
		text += fmt.Sprintf(", %d epochs", s.Epochs)
	}
	seeds, early := s.Rules.Describe()
	return text + ", " + seeds + "), judged on its test accuracy where it says one" + early
}
