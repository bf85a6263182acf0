package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ask"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
)

// runHelp says what a RUN is, for the help of commands that take one.
const runHelp = `A RUN is a folder: of a search, whose pick is taken, with the weights of ctnas retrain where it has
been retrained, else with those of the supernet that its labels are of; of a training; or of a supernet that mixes
all choices (ctnas supernet train --method darts), of which it is the architecture that the mixture stands for.
Size and classes are those of the networks that were trained there, unless flags say others.`

// chosen is the network that a command is about: one in words, or what a folder holds.
type chosen struct {
	Arch    string // an architecture of a space or a network of the zoo, in words
	What    string // what kind of folder says it: search, retrained search, training, supernet; empty: the user does
	Sized   bool   // the folder says Size, where 0 is as published
	Size    trainer.Size
	Classes int           // 0: not said
	Weights string        // a file, or the folder of a supernet; empty: there are none
	Super   supernet.Spec // how sub-networks are cut out of a supernet, of a search by one

	training *trainSettings // of the folder of a training
}

// choose finds what an argument names: an architecture or network in words, or the folder of a search, a training or a
// supernet. Whether words are a network is not looked at.
func choose(text string) (chosen, error) {
	if at, err := os.Stat(text); err != nil || !at.IsDir() {
		return chosen{Arch: text}, nil
	}
	if is, err := report.IsSupernet(text); is || err != nil {
		return chooseDerived(text, err)
	}
	if _, err := os.Stat(filepath.Join(text, report.LedgerName)); err == nil {
		return chooseSearched(text)
	}
	s := newTrainSettings()
	switch err := s.load(text); {
	case err == nil:
		return chooseTrained(text, s)
	case !isNoFolder(err) && !errors.Is(err, errNoTraining):
		return chosen{}, err
	}
	if checkArch(text) == nil { // a folder that happens to be called as a network
		return chosen{Arch: text}, nil
	}
	return chosen{}, usagef("%s is a folder that says no architecture: want that of a search, of a training, or of a "+
		"supernet that mixes all choices; %s", text, held(text))
}

// chooseDerived is what the mixture of a supernet stands for.
func chooseDerived(dir string, err error) (chosen, error) {
	if err != nil {
		return chosen{}, err
	}
	arch, err := report.Derived(dir)
	return chosen{Arch: arch, What: "supernet", Weights: dir}, err
}

// chooseSearched is the pick of a search.
func chooseSearched(dir string) (c chosen, err error) {
	if _, err := os.Stat(filepath.Join(dir, ask.SuggestionsName)); err == nil {
		return c, usagef("%s is the folder of ctnas suggest and tell, which goes on and has no pick: name an "+
			"architecture, ctnas suggest %[1]s says which was best", dir)
	}
	page, err := report.Load(dir)
	if err != nil {
		return c, err
	}
	c = chosen{Arch: page.Result.Pick, What: "search"}
	if n := page.Result.Network; n != nil {
		c.take(*n)
	}
	if path := filepath.Join(dir, report.RetrainedWeightsName); page.Retrained != nil && isFile(path) {
		c.What, c.Weights = "retrained search", path
		c.take(page.Retrained.Network)
		return c, nil
	}
	settings, err := search.LoadConfig(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil && strings.HasPrefix(settings.Labels, supernet.Prefix) {
		if c.Super, err = supernet.Parse(settings.Labels); err == nil {
			c.Weights = c.Super.Path
		}
	}
	return c, err
}

// chooseTrained is the network of a training.
func chooseTrained(dir string, s trainSettings) (chosen, error) {
	c := chosen{Arch: s.Arch, What: "training", Sized: true, Size: s.Size,
		Weights: filepath.Join(dir, trainer.WeightsName), training: &s}
	var r struct{ Classes []string }
	path := filepath.Join(dir, trainer.ResultName)
	text, err := files.Read(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil // it has not ended
	} else if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.Classes = len(r.Classes)
	if c.Size.Resolution > 0 {
		return c, nil
	}
	w, err := trainer.OpenWeights(c.Weights) // which know the size of the images that they were trained on
	if err == nil {
		c.Size.Resolution = w.ImageSide()
	}
	return c, err
}

// take takes a size of networks.
func (c *chosen) take(n space.NetworkSize) {
	c.Size = trainer.Size{Channels: n.Channels, Stacks: n.Stacks, Modules: n.Modules, Resolution: n.Side}
	c.Sized, c.Classes = true, n.Classes
}

// sized is the folder's size with what flags say.
func (c *chosen) sized(flags trainer.Size) trainer.Size {
	return trainer.Size{Channels: cmp.Or(flags.Channels, c.Size.Channels),
		Stacks: cmp.Or(flags.Stacks, c.Size.Stacks), Modules: cmp.Or(flags.Modules, c.Size.Modules),
		Resolution: cmp.Or(flags.Resolution, c.Size.Resolution)}
}

// missing is an error where a training has left no weights yet.
func (c *chosen) missing(dir string) error {
	if _, err := os.Stat(c.Weights); c.training == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("the training in %s has not ended: it has no %s; go on with ctnas train --resume %[1]s", dir,
		trainer.WeightsName)
}

// mostHeld is how many names of a folder are said.
const mostHeld = 5

// held says what is in a folder that was taken for something else.
func held(dir string) string {
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return "it cannot be read: " + err.Error()
	case len(entries) == 0:
		return "it is empty"
	}
	var names []string
	for _, e := range entries {
		if e.Name() == comparisonName {
			return "it is that of a comparison, which has no pick"
		}
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	more := ""
	if n := len(names) - mostHeld; n > 0 {
		names, more = names[:mostHeld], fmt.Sprintf(" and %d more", n)
	}
	return "it holds " + strings.Join(names, ", ") + more
}
