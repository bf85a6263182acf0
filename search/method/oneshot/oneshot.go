// Package oneshot holds the search methods that ask for no labels: each trains a supernet, weights that all networks of
// the space share, and picks by the accuracy that networks have with them on held-out images. Labels, where there are
// any, judge the pick when it is made and nothing before.
package oneshot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

func init() {
	for _, m := range []method{
		{trainer.MethodSPOS, evolves, "no labels: a supernet of single paths drawn uniformly, and an evolution on it " +
			"(Guo et al., ECCV 2020)"},
		{trainer.MethodFairNAS, evolves, "no labels: the same, each choice trained equally often (Chu et al., " +
			"ICCV 2021)"},
		{trainer.MethodENAS, samples, "no labels: a controller learns from the supernet that it draws the paths of " +
			"(Pham et al., ICML 2018)"},
		{trainer.MethodDARTS, derives, "no labels: a network that mixes all choices by weights that learn, and what " +
			"they stand for (Liu et al., ICLR 2019)"},
		{trainer.MethodFBNet, derives, "no labels: the same, its weights drawn by a Gumbel softmax (Wu et al., " +
			"CVPR 2019)"},
	} {
		run.Register(m)
	}
}

// method is a way to train a supernet and to pick.
type method struct {
	name  string
	picks picks
	about string
}

// picks is how a method comes from a supernet to its pick.
type picks int

const (
	evolves picks = iota // the best of random architectures and of an evolution from them
	samples              // the best of what its controller draws
	derives              // what the weights of a mixture stand for
)

var (
	_ run.Unlabelled = method{}
	_ run.Checker    = method{}
)

// Name is the method's, and that of its supernet's recipe.
func (m method) Name() string { return m.name }

// About is for help.
func (m method) About() string { return m.about }

// Unlabelled marks methods that ask for no labels.
func (method) Unlabelled() {}

// Check tells what is wrong with the settings.
func (m method) Check(c search.Config) error {
	switch {
	case c.SupernetData == "":
		return fmt.Errorf("--supernet-data is not set: say what images %s trains its supernet on", m.name)
	case len(c.Before) > 0:
		return fmt.Errorf("--budget %d: %s asks for no labels, more of them change nothing", c.Budget, m.name)
	}
	if _, _, err := c.SharedWeights.Recipe(m.name); err != nil {
		return fmt.Errorf("--supernet-recipe: %w", err)
	}
	sp, err := space.Open(c.Space)
	if err != nil { // which whoever opens the space says
		return nil
	}
	return m.suits(sp)
}

// Run trains the supernet and picks.
func (m method) Run(ctx context.Context, r *run.Run) error {
	if err := m.suits(r.Deps.Space); err != nil {
		return err
	}
	if r.Supernets.Train == nil {
		return errors.New("nothing is there that trains supernets")
	}
	w := &work{Run: r, method: m, known: map[space.Arch]run.Measured{}, asked: map[space.Arch]bool{}}
	defer w.close()
	if err := w.open(); err != nil {
		return err
	}
	if err := w.train(ctx); err != nil {
		return err
	}
	return w.pick(ctx)
}

// suits tells why a space has no supernet that the method could train.
func (m method) suits(sp space.Space) error {
	_, ok := sp.(space.Sharing)
	names := space.NamesOf[space.Sharing]()
	switch {
	case m.name == trainer.MethodFairNAS:
		_, ok = sp.(space.Strict)
		names = space.NamesOf[space.Strict]()
	case m.picks == derives:
		_, ok = sp.(space.Mixed)
		names = space.NamesOf[space.Mixed]()
	}
	if !ok {
		return fmt.Errorf("--space %s: %s cannot search it, the spaces that it can are %s", sp.Name(), m.name,
			strings.Join(names, ", "))
	}
	return nil
}
