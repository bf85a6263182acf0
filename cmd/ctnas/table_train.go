package main

import (
	"fmt"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/sweep"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

func newTableTrainCommand(a *app) *cobra.Command {
	var spaceName, dataFlag, recipe, out string
	var epochs []int
	var seeds int
	cmd := &cobra.Command{
		Use:   "train --space S --data D --recipe R -o OUT.csv",
		Short: "Make a table: train every architecture of a small space",
		Long: `Trains every architecture of a space with each number of epochs and each seed, and writes their validation and test accuracies as a CSV table that
every command takes as labels. --threads trainings run at the same time, each on one thread; the table does not depend on it.

Finished trainings are noted in OUT.csv.log, and the same command goes on after it was stopped. OUT.csv.seconds is how long each took.`,
		Example: `  ctnas table train --space nasbench101-v4 --data shapes --recipe shapes --epochs 4,2,1 --seed 0 --seeds 3 -o shapes91.csv
  ctnas search --space nasbench101-v4 --labels table:shapes91.csv --budget 30`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seeds < 1 {
				return usagef("--seeds %d: want at least 1", seeds)
			}
			p, err := a.sweepPlan(dataFlag, recipe)
			if err != nil {
				return err
			}
			defer func() { _ = p.Data.Close() }()
			if len(epochs) > 0 {
				p.Epochs = epochs
			}
			for i := range seeds {
				p.Seeds = append(p.Seeds, a.seed+uint64(i))
			}
			sp, err := openSpace(spaceName)
			if err != nil {
				return err
			}
			list, ok := sp.(space.Enumerable)
			if !ok {
				return usagef("--space %s: it cannot be listed", spaceName)
			}
			if p.Archs, err = list.All(cmd.Context(), nil); err != nil {
				return err
			}
			return a.tableTrain(cmd, p, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&spaceName, "space", "nasbench101-v4", "search `space`, of which all architectures are trained")
	f.StringVar(&dataFlag, "data", "shapes", dataHelp)
	f.StringVar(&recipe, "recipe", "shapes", "how to train: a `recipe`'s name or file")
	f.IntSliceVar(&epochs, "epochs", nil, "numbers of epochs, a training for each (empty = the recipe's)")
	f.IntVar(&seeds, "seeds", 3, "seeds, counted from --seed: the table's runs 1, 2, ...")
	f.StringVarP(&out, "out", "o", "", "the `file` to write")
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

// sweepPlan opens images and a recipe for training many architectures.
func (a *app) sweepPlan(dataFlag, recipe string) (p sweep.Plan, err error) {
	if p.Recipe, err = trainer.OpenRecipe(recipe); err != nil {
		return p, usagef("--recipe: %w", err)
	}
	p.Epochs = []int{p.Recipe.Epochs}
	if p.Data, err = data.Open(dataFlag, data.Options{Seed: a.seed, ValSplit: p.Recipe.ValSplit}); err != nil {
		return p, err
	}
	p.Source, _, _ = strings.Cut(dataFlag, ":")
	p.Build = func(x space.Arch) (*nn.Network, error) {
		return buildNetwork(x.String(), p.Recipe, side(p.Recipe, p.Data), len(p.Data.Classes))
	}
	return p, nil
}

func (a *app) tableTrain(cmd *cobra.Command, p sweep.Plan, out string) error {
	place, err := a.openCPU()
	if err != nil {
		return err
	}
	update, finish := a.progress("trainings")
	list, err := p.Run(cmd.Context(), sweep.Deps{Device: place.Config, Log: out + ".log", Version: thisBuild().Version, Progress: update})
	finish()
	if err != nil {
		return err
	}
	text, err := p.Table(list)
	if err != nil {
		return err
	}
	seconds, err := p.Seconds(list)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(out+".seconds", seconds, 0o644); err != nil {
		return err
	}
	if err := renameio.WriteFile(out, text, 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"file": out, "records": len(p.Archs), "trainings": len(list)})
	}
	fmt.Fprintf(a.stdout, "%s: %d architectures, %d trainings\n", out, len(p.Archs), len(list))
	return nil
}
