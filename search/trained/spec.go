package trained

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// Prefix marks these labels among the sources of labels.
const Prefix = "train:"

// Spec says what labels are: everything but the architecture and the device that a label depends on.
type Spec struct {
	Data       string // as data.Open takes it
	RecipeName string
	Recipe     trainer.Recipe
	OnNaN      string // trainer.OnNaNStop or OnNaNSkip
	OnCorrupt  data.OnCorrupt
	made.Rules

	query string // as it was given
}

// Settings are the keys of a query; those of the recipe are the same as in its file.
func (s *Spec) Settings() *setting.List {
	l := setting.New()
	l.Group("Labels by training")
	l.Text(&s.RecipeName, "recipe", "how to train: a `recipe`'s name or file").Path(trainer.AbsoluteRecipe)
	s.Rules.AddTo(l)
	trainer.AddFaults(l, &s.OnNaN, &s.OnCorrupt)
	s.Recipe.AddTo(l)
	return l
}

// Parse reads train:DATA?recipe=R&key=value: the recipe's name or file, keys of the recipe that are changed, and
//
//	seed=N, seeds=K    the first seed (1) and how many there are (1)
//	stop=median        end trainings below the median of the earlier ones, or below another quantile, as stop=0.25
//	stop-after=E       the first epoch after which one may end; a third of all if it is left out
//	on-nan=stop|skip   see trainer.Job
//	on-corrupt=stop|skip|skip=N  when an image cannot be read, see data.OnCorrupt; N is for each training
//	diverged=chance|fail         what becomes of a candidate whose training falls apart
//	failed=fail|chance           and of one whose training fails wherever it is tried
//
// The query begins at the last question mark. Values may be escaped as in a URL.
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
		return s, fmt.Errorf("want %sDATA?recipe=R", Prefix)
	}
	s = Spec{Data: rest, OnNaN: trainer.OnNaNStop, Rules: made.DefaultRules()}
	if i := strings.LastIndexByte(rest, '?'); i >= 0 {
		s.Data, s.query = rest[:i], rest[i+1:]
	}
	if s.Data == "" {
		return s, errors.New("no images are named")
	}
	if err := data.CheckSpec(s.Data); err != nil {
		return s, err
	}
	l := s.Settings()
	values, err := labels.ReadQuery(s.query, l)
	if err != nil {
		return s, err
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
	if err := labels.SetAll(l, values); err != nil {
		return s, err
	}
	if !values.Has("stop-after") {
		s.Complete(s.Recipe.Epochs)
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

// describe says what the labels are, in a line without paths; images is data.Dataset.Source.
func (s Spec) describe(images string) string {
	seeds, early := s.Rules.Describe()
	text := fmt.Sprintf("chosen on validation accuracy of networks trained on %s (recipe %s, %d epochs, %s), judged "+
		"on test accuracy of the same trainings%s", images, s.recipe(), s.Recipe.Epochs, seeds, early)
	if s.OnCorrupt.Skip {
		text += "; images that cannot be read are left out"
	}
	return text
}
