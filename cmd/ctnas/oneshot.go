package main

import (
	"context"
	"strconv"

	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/trainer"
)

// unlabelled tells whether a search's method asks for no labels.
func unlabelled(c search.Config) bool {
	m, err := searchrun.Open(c.Algorithm())
	return err == nil && searchrun.IsUnlabelled(m)
}

// searchLabels opens the labels of a search; those of a method that asks for none may be missing, and are never listed
// for it.
func (a *app) searchLabels(ctx context.Context, c search.Config, o labels.Options) (*labels.Labels, error) {
	name := a.keptSpace(c.Space)
	if o.Farm != nil && c.Labels == "" {
		return nil, usagef("--farm makes labels, and none are asked for: want --labels")
	}
	if !unlabelled(c) {
		return a.openLabels(ctx, c.Labels, name, o)
	}
	if o.Listed = false; c.Labels != "" {
		return a.openLabels(ctx, c.Labels, name, o)
	}
	sp, err := openSpace(name)
	if err != nil {
		return nil, err
	}
	return labels.New(sp, ledger.None{}, "", nil), nil
}

// supernets are how methods that ask for no labels come to supernets: trained as `ctnas supernet train` does.
func (a *app) supernets() searchrun.Supernets {
	return searchrun.Supernets{Train: a.trainOrdered, Images: a.imageOptions}
}

// trainOrdered trains the supernet of a search, on as many of its devices as can divide the recipe's shards.
func (a *app) trainOrdered(ctx context.Context, o searchrun.SupernetOrder) (*trainer.SupernetResult, error) {
	s := newSupernetTrainSettings()
	s.Space, s.Data, s.RecipeName, s.SupernetRecipe, s.Seed = o.Space, o.Data, o.RecipeName, o.Recipe, o.Seed
	if err := s.settings().Absolute(); err != nil {
		return nil, err
	}
	dev, err := a.openDevice()
	if err == nil {
		err = a.openAll(dev) // sub-networks are measured on all of them later
	}
	if err != nil {
		return nil, err
	}
	dev.Config = dev.Config.First(o.Recipe.Fitting(len(dev.Config.Each())))
	return a.trainSupernetOn(ctx, dev, s, o.Dir, o.Sampler, o.Progress)
}

// unlabelledProgress shows how far the stages of a search without labels are.
func (a *app) unlabelledProgress() (update func(searchrun.Progress), finish func()) {
	show, finish := a.stages()
	return func(p searchrun.Progress) {
		if p.Total > 0 {
			show(p.Stage, p.Done, p.Total)
		}
	}, finish
}

// tauText is a tau-b, or the word for one that nobody knows.
func tauText(tau *float64) string {
	if tau == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*tau, 'f', 3, 64)
}
