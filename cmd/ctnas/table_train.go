package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/trained"
)

func newTableTrainCommand(a *app) *cobra.Command {
	spaceName, text, out := "nasbench101-v4", "train:shapes", ""
	var epochs []int
	var count int
	making := search.DefaultMaking()
	cmd := &cobra.Command{
		Use:   "train --space S --labels 'train:DATA?recipe=R&seeds=K' -o OUT.csv",
		Short: "Make a table: train every architecture of a small space, or some of a large one",
		Long: `Trains every architecture of a space, or --count random ones, with each seed and each number of epochs,
and writes their validation and test accuracies as a CSV table that every command takes as labels.
OUT.csv.seconds is how long each training took; it is not part of the table, which is the same on every
machine with the same instruction set. The command goes on where it was stopped.

` + trained.Help,
		Example: `  ctnas table train --space nasbench101-v4 \
      --labels 'train:shapes?recipe=shapes&seed=0&seeds=3' --epochs 1,2,4 -o shapes91.csv
  ctnas table train --space darts@cifar10 --count 100 \
      --labels 'train:cifar10:DIR?recipe=fast-cifar&modules=2' -o darts100.csv
  ctnas search --space nasbench101-v4 --labels table:shapes91.csv --budget 30`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sp, err := openSpace(spaceName)
			if err != nil {
				return err
			}
			list, ok := sp.(space.Enumerable)
			if !ok && count == 0 {
				return usagef("--space %s: it cannot be listed; give the --count of random architectures", spaceName)
			}
			dev, err := a.openDevice()
			if err != nil {
				return err
			}
			farm, err := a.openFarm(dev, out+".farm")
			if err != nil {
				return err
			}
			defer farm.finish()
			o := farm.with(a.labelOptions(dev, making, false))
			c, err := trained.NewConfig(text, sp, o)
			if err != nil {
				return labelsError(err)
			}
			if len(epochs) == 0 {
				epochs = []int{c.Recipe.Epochs}
			}
			var archs []space.Arch
			if count > 0 {
				archs, err = a.drawTrainable(cmd.Context(), c, o, count)
			} else {
				archs, err = list.All(cmd.Context(), nil)
			}
			if err != nil {
				return err
			}
			var finishImages func()
			c.Images, finishImages = a.imageOptions()
			defer finishImages()
			update, finish := a.progress("trainings")
			rows, seconds, err := trained.Sweep(cmd.Context(), c, archs, epochs, update)
			finish()
			if err != nil {
				return err
			}
			if err := files.Write(out+".seconds", seconds); err != nil {
				return err
			}
			if err := files.Write(out, rows); err != nil {
				return err
			}
			if err := farm.end(cmd.Context()); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": out, "records": len(archs)})
			}
			_, err = fmt.Fprintf(a.stdout, "%s: %d architectures\n", out, len(archs))
			return err
		},
	}
	l := setting.New()
	l.Group("Table")
	l.Text(&spaceName, "space", "search `space` of the architectures")
	l.Text(&text, "labels", "how they are trained: train:DATA?recipe=R&key=value")
	l.Int(&count, "count", "architectures", "random architectures to train (0 = all)", 0, 1<<24)
	l.Ints(&epochs, "epochs", "epochs", "numbers of epochs, trainings for each (empty = the recipe's)", 1, 1e6)
	l.Text(&out, "out", "the `file` to write").Short("o")
	making.AddTo(l)
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

// drawTrainable draws random architectures whose networks can be built, fewer where the space has no more.
func (a *app) drawTrainable(ctx context.Context, c trained.Config, o labels.Options, n int) ([]space.Arch, error) {
	source, err := trained.OpenWith(ctx, c, o)
	if err != nil {
		return nil, err
	}
	return searchrun.Draw(c.Space, source, n, a.seed), source.Close()
}
