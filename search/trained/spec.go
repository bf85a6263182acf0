// Package trained makes labels by training: a candidate's label is the validation accuracy that its network has after a recipe. Candidates are
// trained several at once; what a label is depends on neither their number nor their timing, nor on what the cache holds already.
package trained

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// Prefix marks these labels among the sources of labels.
const Prefix = "train:"

// What becomes of a candidate whose training falls apart for good.
const (
	DivergedChance = "chance" // its label is the accuracy of guessing
	DivergedFail   = "fail"   // the search ends with an error
)

// Spec says what labels are: everything but the architecture and the device that a label depends on.
type Spec struct {
	Data       string // as data.Open takes it
	RecipeName string
	Recipe     trainer.Recipe
	Seed       uint64
	Seeds      int    // a label is the mean of trainings with Seed, Seed+1, ...
	OnNaN      string // trainer.OnNaNStop or OnNaNSkip
	OnCorrupt  data.OnCorrupt
	Diverged   string  // DivergedChance or DivergedFail
	Stop       float64 // a training below this quantile of the earlier ones ends early; 0: none does
	StopAfter  int     // the first epoch after which one may end

	query string // as it was given
}

// queryKeys are the keys of a query that are none of the recipe's.
var queryKeys = []struct {
	name string
	set  func(s *Spec, value string) error
}{
	{"seed", func(s *Spec, v string) (err error) { s.Seed, err = strconv.ParseUint(v, 10, 64); return err }},
	{"seeds", func(s *Spec, v string) (err error) { s.Seeds, err = strconv.Atoi(v); return err }},
	{"on-nan", func(s *Spec, v string) error { s.OnNaN = v; return nil }},
	{"on-corrupt", func(s *Spec, v string) error { return s.OnCorrupt.Set(v) }},
	{"diverged", func(s *Spec, v string) error { s.Diverged = v; return nil }},
	{"stop", func(s *Spec, v string) (err error) {
		if v == "median" {
			v = "0.5"
		}
		s.Stop, err = strconv.ParseFloat(v, 64)
		return err
	}},
	{"stop-after", func(s *Spec, v string) (err error) { s.StopAfter, err = strconv.Atoi(v); return err }},
}

// Keys lists the keys of a query.
func Keys() []string {
	names := []string{"recipe"}
	for _, k := range queryKeys {
		names = append(names, k.name)
	}
	return append(names, trainer.RecipeKeys()...)
}

// Parse reads train:DATA?recipe=R&key=value: the recipe's name or file, keys of the recipe that are changed, and
//
//	seed=N, seeds=K    the first seed (1) and how many there are (1)
//	stop=median        end trainings below the median of the earlier ones, or below another quantile, as stop=0.25
//	stop-after=E       the first epoch after which one may end; a third of all if it is left out
//	on-nan=stop|skip   see trainer.Job
//	on-corrupt=stop|skip|skip=N  when an image cannot be read, see data.OnCorrupt; N is for each training
//	diverged=chance|fail
//
// The query begins at the last question mark. Values may be escaped as in a URL.
func Parse(labels string) (Spec, error) {
	s, err := parse(labels)
	if err != nil {
		return s, fmt.Errorf("labels %q: %w", labels, err)
	}
	return s, nil
}

func parse(labels string) (s Spec, err error) {
	rest, ok := strings.CutPrefix(labels, Prefix)
	if !ok {
		return s, fmt.Errorf("want %sDATA?recipe=R", Prefix)
	}
	s = Spec{Data: rest, Seed: 1, Seeds: 1, OnNaN: trainer.OnNaNStop, Diverged: DivergedChance}
	if i := strings.LastIndexByte(rest, '?'); i >= 0 {
		s.Data, s.query = rest[:i], rest[i+1:]
	}
	if s.Data == "" {
		return s, errors.New("no images are named")
	}
	if err := data.CheckSpec(s.Data); err != nil {
		return s, err
	}
	values, err := url.ParseQuery(s.query)
	if err != nil {
		return s, err
	}
	for key, given := range values {
		switch {
		case !slices.Contains(Keys(), key):
			return s, fmt.Errorf("unknown key %q; known: %s", key, strings.Join(Keys(), ", "))
		case len(given) != 1 || given[0] == "":
			return s, fmt.Errorf("%s wants one value", key)
		}
	}
	if s.RecipeName = values.Get("recipe"); s.RecipeName == "" {
		if s.Data != "shapes" {
			return s, errors.New("want ?recipe=R: " + strings.Join(trainer.RecipeNames(), ", ") + ", or a file")
		}
		s.RecipeName = "shapes"
	}
	if s.Recipe, err = trainer.OpenRecipe(s.RecipeName); err != nil {
		return s, err
	}
	for _, key := range trainer.RecipeKeys() {
		if values.Has(key) {
			if err := s.Recipe.Set(key, values.Get(key)); err != nil {
				return s, err
			}
		}
	}
	for _, key := range queryKeys {
		if values.Has(key.name) {
			if err := key.set(&s, values.Get(key.name)); err != nil {
				return s, fmt.Errorf("%s=%s: not a value of this key (%w)", key.name, values.Get(key.name), err)
			}
		}
	}
	if s.StopAfter == 0 && !values.Has("stop-after") {
		s.StopAfter = (s.Recipe.Epochs + 2) / 3
	}
	return s, s.check()
}

func (s Spec) check() error {
	switch {
	case s.Seeds < 1 || s.Seeds > 1000:
		return fmt.Errorf("seeds=%d: want 1 to 1000", s.Seeds)
	case s.OnNaN != trainer.OnNaNStop && s.OnNaN != trainer.OnNaNSkip:
		return fmt.Errorf("on-nan=%s: want %s or %s", s.OnNaN, trainer.OnNaNStop, trainer.OnNaNSkip)
	case s.Diverged != DivergedChance && s.Diverged != DivergedFail:
		return fmt.Errorf("diverged=%s: want %s or %s", s.Diverged, DivergedChance, DivergedFail)
	case !(s.Stop >= 0 && s.Stop <= 0.9):
		return fmt.Errorf("stop=%g: want median, or a quantile of 0 (none is stopped) to 0.9", s.Stop)
	case s.StopAfter < 1:
		return fmt.Errorf("stop-after=%d: want 1 or more", s.StopAfter)
	}
	return s.Recipe.Check()
}

// String is the text that Parse reads, with paths that are valid in any working directory.
func (s Spec) String() string {
	where, err := data.Absolute(s.Data)
	if err != nil {
		where = s.Data
	}
	query := s.query
	if !slices.Contains(trainer.RecipeNames(), s.RecipeName) {
		values, _ := url.ParseQuery(query) // it was parsed before
		if path, err := filepath.Abs(s.RecipeName); err == nil {
			values.Set("recipe", path)
		}
		query = values.Encode()
	}
	if query == "" {
		return Prefix + where
	}
	return Prefix + where + "?" + query
}

// recipe names the recipe with its fingerprint: a name alone does not tell what was changed.
func (s Spec) recipe() string {
	return strings.TrimSuffix(filepath.Base(s.RecipeName), ".yaml") + "-" + s.Recipe.Hash()
}

// describe says what the labels are, in a line without paths.
func (s Spec) describe() string {
	kind, _, _ := strings.Cut(s.Data, ":")
	text := fmt.Sprintf("chosen on validation accuracy of networks trained on %s (recipe %s, %d epochs, seed %d", kind, s.recipe(), s.Recipe.Epochs, s.Seed)
	if s.Seeds > 1 {
		text += fmt.Sprintf(", mean of %d seeds", s.Seeds)
	}
	text += "), judged on test accuracy of the same trainings"
	if s.Stop > 0 {
		text += fmt.Sprintf("; trainings below quantile %g of the earlier ones end early, from epoch %d on", s.Stop, s.StopAfter)
	}
	if s.OnCorrupt.Skip {
		text += "; images that cannot be read are left out"
	}
	return text
}
