package trained

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/setting"
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

// Settings are the keys of a query; those of the recipe are the same as in its file.
func (s *Spec) Settings() *setting.List {
	l := setting.New()
	l.Group("Labels by training")
	l.Text(&s.RecipeName, "recipe", "how to train: a `recipe`'s name or file").Path(trainer.AbsoluteRecipe)
	l.Uint64(&s.Seed, "seed", "", "first seed of the trainings")
	l.Int(&s.Seeds, "seeds", "trainings", "trainings of each candidate, whose mean is its label", 1, 1000)
	trainer.AddFaults(l, &s.OnNaN, &s.OnCorrupt)
	l.Text(&s.Diverged, "diverged", "what becomes of a candidate whose training falls apart for good: its label "+
		"is the accuracy "+
		"of guessing, or the search ends").OneOf(DivergedChance, DivergedFail)
	l.Value((*quantile)(&s.Stop), (*quantile)(&s.Stop), "stop", "",
		"trainings below this quantile of the earlier ones end early, "+
			"median or a number (0 = none does)").Between(0, 0.9)
	l.Int(&s.StopAfter, "stop-after", "epochs", "the first epoch after which one may end (a third of all if it is "+
		"left out)", 1, 1e6)
	s.Recipe.AddTo(l)
	return l
}

// quantile is 0 to 1, or the word median.
type quantile float64

var _ pflag.Value = (*quantile)(nil)

func (q *quantile) Set(text string) (err error) {
	if text == "median" {
		text = "0.5"
	}
	v, err := strconv.ParseFloat(text, 64)
	*q = quantile(v)
	return err
}

func (q *quantile) String() string { return strconv.FormatFloat(float64(*q), 'g', -1, 64) }

func (q *quantile) Type() string { return "quantile" }

// UnmarshalText is Set, for a query.
func (q *quantile) UnmarshalText(text []byte) error { return q.Set(string(text)) }

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
	l := s.Settings()
	for key, given := range values {
		switch {
		case l.Lookup(key) == nil:
			return s, fmt.Errorf("unknown key %q; known: %s", key, strings.Join(l.Names(), ", "))
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
	for _, key := range l.Names() {
		if values.Has(key) {
			if err := l.Set(key, values.Get(key)); err != nil {
				return s, err
			}
		}
	}
	if s.StopAfter == 0 && !values.Has("stop-after") {
		s.StopAfter = (s.Recipe.Epochs + 2) / 3
	}
	if err := l.Check(); err != nil {
		return s, err
	}
	return s, s.Recipe.Check()
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
		if path, err := trainer.AbsoluteRecipe(s.RecipeName); err == nil {
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
	text := fmt.Sprintf("chosen on validation accuracy of networks trained on %s (recipe %s, %d epochs, seed %d", kind,
		s.recipe(), s.Recipe.Epochs, s.Seed)
	if s.Seeds > 1 {
		text += fmt.Sprintf(", mean of %d seeds", s.Seeds)
	}
	text += "), judged on test accuracy of the same trainings"
	if s.Stop > 0 {
		text += fmt.Sprintf("; trainings below quantile %g of the earlier ones end early, from epoch %d on",
			s.Stop, s.StopAfter)
	}
	if s.OnCorrupt.Skip {
		text += "; images that cannot be read are left out"
	}
	return text
}
