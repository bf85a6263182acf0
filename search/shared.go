package search

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// SharedWeights is the supernet of a method that asks for no labels and picks by shared weights (package oneshot).
type SharedWeights struct {
	SupernetData   string `json:"-"` // the training's own checkpoint knows the images
	SupernetPreset string `json:"supernet_preset,omitempty"`
	SupernetRecipe string `json:"supernet_recipe,omitempty"` // what it says the training's own checkpoint knows
	SupernetEpochs int    `json:"supernet_epochs,omitempty"`
	SupernetCells  int    `json:"supernet_cells,omitempty"`
	SupernetImages int    `json:"supernet_images,omitempty"`
	Channels       int    `json:"channels,omitempty"`
	Modules        int    `json:"modules,omitempty"`
	Stacks         int    `json:"stacks,omitempty"`
	Resolution     int    `json:"resolution,omitempty"`
}

// PresetPublished is the value of SharedWeights.SupernetPreset that stands for the protocol of the paper's rows (Yu et
// al., "Evaluating the search phase of neural architecture search", ICLR 2020).
const PresetPublished = "published"

// DefaultSharedWeights are the settings of the default protocol.
func DefaultSharedWeights() SharedWeights {
	return SharedWeights{SupernetPreset: PresetDefault, SupernetCells: 1000}
}

// AddTo adds the supernet's settings.
func (s *SharedWeights) AddTo(l *setting.List) {
	l.Group("Supernets of methods that ask for no labels")
	l.Text(&s.SupernetData, "supernet-data", "`images` that supernets are trained on: shapes (generated), "+
		"cifar10:DIR, cifar100:DIR, imagenet:DIR or shards:GLOB").Path(data.Absolute).OmitZero().
		Check(func() error {
			if s.SupernetData == "" {
				return nil
			}
			if err := data.CheckSpec(s.SupernetData); err != nil {
				return fmt.Errorf("supernet-%w", err)
			}
			return nil
		})
	l.Text(&s.SupernetPreset, "supernet-preset", "how they are trained and picked from: honestly, or as the source of "+
		"the paper's rows did").OneOf(PresetDefault, PresetPublished).From("Yu et al. 2020 (published)")
	l.Text(&s.SupernetRecipe, "supernet-recipe", "how they are trained: a `recipe`'s name or file (empty = METHOD, "+
		"METHOD-shapes of the images shapes, published-METHOD of the preset)").
		Path(trainer.AbsoluteSupernetRecipe).OmitZero()
	l.Int(&s.SupernetEpochs, "supernet-epochs", "epochs", "epochs of their training (0 = the recipe's)", 0,
		1e6).OmitZero()
	l.Int(&s.SupernetCells, "supernet-cells", "architectures", "random architectures that are measured with shared "+
		"weights; the evolution behind them measures as many again", 2, most)
	l.Int(&s.SupernetImages, "supernet-images", "images", "held-out images that they are measured on (0 = all)", 0,
		most).OmitZero()
	for _, x := range []struct {
		p             *int
		name, meaning string
	}{
		{&s.Channels, "channels", "channels of a supernet's first cells"},
		{&s.Modules, "modules", "cells of a stack in a supernet"},
		{&s.Stacks, "stacks", "stacks of cells in a supernet"},
		{&s.Resolution, "resolution", "side of a supernet's images"},
	} {
		l.Int(x.p, x.name, "", x.meaning+" (0 = the recipe's)", 0, 1<<14).OmitZero()
	}
}

// Recipe is the recipe of a method's supernet: what it is called, and what it says with the settings that change it.
func (s *SharedWeights) Recipe(method string) (name string, r trainer.SupernetRecipe, err error) {
	own := method
	switch kind, _, _ := strings.Cut(s.SupernetData, ":"); {
	case s.SupernetPreset == PresetPublished:
		own = PresetPublished + "-" + method
	case kind == "shapes":
		own += "-" + kind
	}
	name = cmp.Or(s.SupernetRecipe, own)
	if r, err = trainer.OpenSupernetRecipe(name); err != nil {
		return name, r, err
	}
	r.Epochs = cmp.Or(s.SupernetEpochs, r.Epochs)
	r.Channels, r.Modules = cmp.Or(s.Channels, r.Channels), cmp.Or(s.Modules, r.Modules)
	r.Stacks, r.Resolution = cmp.Or(s.Stacks, r.Stacks), cmp.Or(s.Resolution, r.Resolution)
	return name, r, r.Check()
}
