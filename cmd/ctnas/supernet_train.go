package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// supernetTrainSettings are what of a supernet's training is set by flags, and kept in its folder.
type supernetTrainSettings struct {
	Space      string
	Data       string
	RecipeName string
	trainer.SupernetRecipe
	Seed            uint64
	OnNaN           string
	OnCorrupt       data.OnCorrupt
	Teacher         string
	Workers         int
	Ranks           int
	PathCache       int // MB
	CheckpointEvery int
}

func newSupernetTrainSettings() supernetTrainSettings {
	return supernetTrainSettings{Space: defaultElastic, SupernetRecipe: trainer.SupernetRecipeDefaults(), Seed: 1,
		OnNaN: trainer.OnNaNStop}
}

// settings are all of them, in the order of config.yaml.
func (s *supernetTrainSettings) settings() *setting.List {
	l := setting.New()
	l.Group("Training")
	l.Text(&s.Space, "space", "the `space` whose networks are the supernet's paths, with the sides of its images")
	dataSetting(l, &s.Data)
	l.Text(&s.RecipeName, "recipe", "how to train: a `recipe`'s name or file (empty = that of the method's name)").
		Path(trainer.AbsoluteSupernetRecipe)
	s.SupernetRecipe.AddTo(l)
	l.Group("Training")
	seedSetting(l, &s.Seed).Shared()
	trainer.AddFaults(l, &s.OnNaN, &s.OnCorrupt)
	l.Group("Training")
	l.Text(&s.Teacher, "teacher", "the largest network, already trained: the `folder` of its training or a file of "+
		"weights, in place of ofa's stage full").Path(files.Absolute)
	workersSetting(l, &s.Workers)
	ranksSetting(l, &s.Ranks)
	l.Int(&s.PathCache, "path-cache", "MB", "memory for the programs of paths that may be wanted again (0 = a quarter "+
		"of a step's)", 0, 1<<24).MayChange()
	l.Int(&s.CheckpointEvery, "checkpoint-every", "updates", "updates between checkpoints (0 = an epoch, or ten "+
		"minutes where that is sooner)", 0, 1<<30).MayChange()
	return l
}

func newSupernetTrainCommand(a *app) *cobra.Command {
	var resume string
	given := newSupernetTrainSettings()
	cmd := &cobra.Command{
		Use:   "train --space S --method M --data D --out RUN",
		Short: "Train a supernet: weights that all networks of a space share",
		Long: `Trains the weights that all networks of a space share. Method sandwich, the default, trains in
every update the largest path with the labels, and the smallest and --paths random ones with what the largest
predicts. Method ofa, progressive shrinking, trains the largest network, then with it as the teacher paths of
ever more kernels, depths and expansions, in --stages; --teacher begins with a largest network that is there.
The sides of the images are drawn for each batch from those of the space.

Methods spos, fairnas and enas train single paths of a space of cells or chains of blocks (nasbench101, spos,
fairnas; darts by spos and enas): a random one an update, as many as decisions have choices with each choice
once, or one that a controller draws, which learns from their accuracies on the held-out images. Methods
darts and fbnet train one network that mixes all choices (of nasbench101, darts, spos, fairnas), whose weights
learn on the held-out images; the architecture that they stand for at the end is derived from them, and
trained by ctnas train RUN.

--held-out training images are seen by no path: what supernet: labels are measured on. After each epoch
--judged-paths random paths are measured on them, of sandwich and ofa the largest and the smallest too, each
with statistics of its own.

--out RUN then holds config.yaml, log.jsonl and TensorBoard events, checkpoints, weights.safetensors (and
weights.pth for PyTorch) under once-for-all's names, result.json and report.html. A training that was
stopped, even with kill -9, goes on with --resume RUN and ends in the same weights.

Recipes: ` + strings.Join(trainer.SupernetRecipeNames(), ", ") + `, or a YAML file of such keys.`,
		Example: `  ctnas supernet train --space mobilenetv3@w1.2,r128-224 --data imagenet:/imagenet --out runs/super
  ctnas supernet train --space mobilenetv3@w0.5,r32,s8 --data shapes --recipe shapes --out runs/small
  ctnas supernet train --space mobilenetv3 --method ofa --teacher ofa_D4_E6_K7 --data imagenet:DIR --out runs/ofa
  ctnas supernet train --space nasbench101-v4 --method spos --recipe spos-shapes --data shapes --out runs/spos
  ctnas supernet train --space darts@cifar10 --method darts --second-order --data cifar10:DIR --out runs/darts
  ctnas supernet train --resume runs/super`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.supernetTrainSettings(cmd.Flags(), resume)
			if err == nil {
				err = a.takeFolder()
			}
			if err != nil {
				return err
			}
			begin := time.Now()
			result, err := a.trainSupernet(cmd, s)
			if errors.Is(err, trainer.ErrInterrupted) && a.out != "" {
				fmt.Fprintf(a.stderr, "A checkpoint is written; go on with: ctnas supernet train --resume %s\n",
					quoted(a.out))
			}
			if data.IsCorrupt(err) && a.out != "" {
				fmt.Fprintf(a.stderr, "A checkpoint is written; go on without such images with: "+
					"ctnas supernet train --resume %s --on-corrupt skip\n", quoted(a.out))
			}
			if err != nil || a.nodes.follows() {
				return err
			}
			a.warnCorrupt(result.Corrupt)
			if result.Finished {
				fmt.Fprintf(a.stderr, "%s is a finished training: nothing was changed\n", a.out)
			}
			if a.json {
				return a.printJSON(result)
			}
			return a.printSupernetTraining(result, time.Since(begin))
		},
	}
	a.bind(cmd, given.settings())
	cmd.Flags().StringVar(&resume, "resume", "", "go on with the training in this `folder`")
	return cmd
}

// supernetTrainSettings are the recipe's with the flags that were given, or with --resume those of the folder.
func (a *app) supernetTrainSettings(f *pflag.FlagSet, resume string) (supernetTrainSettings, error) {
	s := newSupernetTrainSettings()
	if resume != "" {
		return a.resumedSupernet(f, resume)
	}
	s.RecipeName = f.Lookup("recipe").Value.String()
	name := cmp.Or(s.RecipeName, f.Lookup("method").Value.String())
	var err error
	if s.SupernetRecipe, err = trainer.OpenSupernetRecipe(name); err != nil {
		return s, usagef("--recipe: %w", err)
	}
	if err := s.settings().Take(f, nil); err != nil {
		return s, usagef("--%w", err)
	}
	s.RecipeName = name
	if err := cmp.Or(s.settings().Check(), s.SupernetRecipe.Check()); err != nil {
		return s, usagef("--%w", err)
	}
	if s.Data == "" {
		return s, usagef(`required flag(s) "data" not set`)
	}
	if a.out != "" && !a.nodes.follows() {
		if err := checkOut(a.out); err != nil {
			return s, err
		}
	}
	return s, s.settings().Absolute()
}

// resumedSupernet are the settings that a folder holds, with those on the line that may change.
func (a *app) resumedSupernet(f *pflag.FlagSet, dir string) (supernetTrainSettings, error) {
	s := newSupernetTrainSettings()
	if err := a.mayResume(s.settings()); err != nil {
		return s, err
	}
	a.out = dir
	path := filepath.Join(dir, report.ConfigName)
	text, err := files.ReadText(path, maxConfigBytes)
	if isNoFolder(err) {
		return s, fmt.Errorf("%s is not the folder of a supernet's training: it has no %s", dir, report.ConfigName)
	} else if err != nil {
		return s, err
	}
	if err := s.parse(text); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if err := a.computeWhere(dir, f); err != nil {
		return s, err
	}
	return s, s.settings().Take(f, func(name string) bool { return a.onLine[name] })
}

// parse reads a supernet's config.yaml over the settings that are there.
func (s *supernetTrainSettings) parse(text []byte) error {
	l := s.settings()
	s.Space = ""
	if err := l.ReadConfig(text); err != nil {
		return err
	}
	if s.Space == "" || s.Data == "" {
		return errors.New("names neither a space nor images: not the folder of a supernet's training")
	}
	return cmp.Or(l.Check(), s.SupernetRecipe.Check())
}

func (a *app) trainSupernet(cmd *cobra.Command, s supernetTrainSettings) (*trainer.SupernetResult, error) {
	dev, err := a.openRanks(s.Ranks, s.CheckRanks)
	if err != nil {
		return nil, err
	}
	show, finish := a.supernetProgress()
	defer finish()
	return a.trainSupernetOn(cmd.Context(), dev, s, a.out, nil, show)
}

// trainSupernetOn trains a supernet in a folder, or without one where dir is empty. A nil sampler is the recipe's
// method's.
func (a *app) trainSupernetOn(ctx context.Context, dev device, s supernetTrainSettings, dir string,
	sampler trainer.Sampler, show func(trainer.Progress)) (result *trainer.SupernetResult, err error) {
	sp, err := openSpace(s.Space)
	if err != nil {
		return nil, err
	}
	if _, sharing := sp.(space.Sharing); !sharing { // before images are looked at
		return nil, usageError{supernet.ErrNotSharing(sp)}
	}
	build := thisBuild()
	deps := trainer.Deps{Device: dev.Config, Ranks: s.Ranks, Workers: s.Workers, Dir: dir,
		CheckpointEvery: s.CheckpointEvery, Version: build.Version, Progress: show}
	o, finishImages := a.imageOptions()
	o.Seed = s.Seed
	whole, err := data.Open(s.Data, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = whole.Close() }()
	checksum, err := whole.Checksum(ctx)
	finishImages()
	if err != nil {
		return nil, err
	}
	d, err := supernet.HoldOut(whole, s.HeldOut)
	if err != nil {
		return nil, usagef("--%w", err)
	}
	how, err := supernet.NewHow(sp, s.SupernetRecipe, d, s.Seed, dev.Config, sampler)
	if err != nil {
		return nil, usageError{err}
	}
	defer how.Close()
	teacher, err := teacherFile(s.Teacher)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		unlock, err := a.lockFolder(dir)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := sameImages(dir, checksum); err != nil {
			return nil, err
		}
		facts := runFacts{a.commandLine(), build.Version, build.Commit, build.Modified, build.Go, build.Platform,
			dev.name, dev.level, dev.threads, "", checksum, "", checksum, dir}
		if err := writeConfig(dir, setting.Join(s.settings(), a.where(dev)), facts); err != nil {
			return nil, err
		}
	}
	nodes, leave, err := a.joinNodes(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { leave(err) }()
	deps.Nodes = nodes
	result, err = trainer.TrainSupernet(ctx, trainer.SupernetJob{Space: sp.Name(),
		Paths: how.Paths, Sampler: how.Sampler, Data: d, Source: d.Source(), HeldOut: s.HeldOut, Recipe: how.Recipe,
		Seed: s.Seed, OnNaN: s.OnNaN, OnCorrupt: s.OnCorrupt, Teacher: teacher, Cache: int64(s.PathCache) << 20},
		deps)
	if err == nil && dir != "" && !result.Finished {
		err = report.WriteSupernet(dir)
	}
	return result, err
}

// teacherFile is the file of weights of a training's folder, or the file that was named.
func teacherFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("--teacher: %w", err)
	}
	if info.IsDir() {
		return filepath.Join(path, trainer.WeightsName), nil
	}
	return path, nil
}

// supernetProgress shows how far a supernet's training is, how fast, and how long the rest will take.
func (a *app) supernetProgress() (show func(trainer.Progress), finish func()) {
	update, done := a.progress("updates")
	begin := time.Now()
	var first, last trainer.Progress
	said := time.Duration(0)
	show = func(p trainer.Progress) {
		if first.Update == 0 {
			first = p
		}
		last = p
		update(p.Update, p.Updates)
		passed := time.Since(begin)
		if steps := p.Update - first.Update; steps > 0 && passed-said >= sayEvery {
			said = passed
			left := passed / time.Duration(steps) * time.Duration(p.Updates-p.Update)
			a.log.Info("training", "update", p.Update, "of", p.Updates, "epoch", p.Epoch+1, "loss",
				math.Round(1e4*p.Loss)/1e4, "images_per_second", math.Round(p.ImagesPerSecond), "time_left",
				left.Round(time.Second))
		}
	}
	return show, func() {
		done()
		if last.Update > 0 {
			a.log.Info("speed", "images_per_second", math.Round(last.ImagesPerSecond), "waiting_for_images",
				fmt.Sprintf("%.1f%%", 100*last.LoaderShare))
		}
	}
}

// sayEvery is the time between two lines about the rate and the time left.
const sayEvery = 30 * time.Second

// printSupernetTraining is the result for people.
func (a *app) printSupernetTraining(r *trainer.SupernetResult, took time.Duration) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "supernet\t%s by %s, %d shared parameters\n", r.Space, r.Method, r.Params)
	fmt.Fprintf(w, "took\t%d updates", r.Cost.Updates)
	if r.Skipped > 0 {
		fmt.Fprintf(w, " (%d of them left out)", r.Skipped)
	}
	fmt.Fprintf(w, ", %d images, %d path-steps, %.4g multiply-adds", r.Cost.Images, r.Cost.Steps, float64(r.Cost.MAdds))
	if !r.Finished {
		fmt.Fprintf(w, "; %v by this process", took.Round(time.Second/10))
	}
	fmt.Fprintln(w)
	for _, p := range r.Paths {
		if p.Epoch == r.Paths[len(r.Paths)-1].Epoch {
			fmt.Fprintf(w, "%s\t%.2f %% of %d validation images (first five %.2f %%), loss %.4f\t%s\n", p.Role,
				100*p.Top1, p.Images, 100*p.Top5, p.Loss, p.Path)
		}
	}
	if r.Corrupt != nil {
		fmt.Fprintf(w, "left out\t%d images that cannot be read: %v\n", r.Corrupt.Count, r.Corrupt)
	}
	if a.out != "" {
		fmt.Fprintf(w, "written\t%s with %s, %s, %s\n", a.out, trainer.ResultName, trainer.WeightsName, report.PageName)
	}
	return w.Flush()
}
