package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

const (
	archHelp = `An ARCH is an architecture of a space (nasbench101:…, nasbench101:best, mobilenetv3:depths:kernels:ratios@w1.2, darts:Genotype(…), with @cifar10 behind for
CIFAR's network) or a network of the zoo (ctnas zoo lists them).`
	dataHelp = "images: shapes (generated), cifar10:DIR, cifar100:DIR, imagenet:DIR or shards:GLOB"
)

// trainSettings are what of a training is set by flags.
type trainSettings struct {
	Arch            string `yaml:"arch"`
	Data            string `yaml:"data"`
	RecipeName      string `yaml:"recipe"`
	trainer.Recipe  `yaml:",inline"`
	Seed            uint64         `yaml:"seed"`
	OnNaN           string         `yaml:"on-nan"`
	OnCorrupt       data.OnCorrupt `yaml:"on-corrupt"`
	Teacher         string         `yaml:"teacher"`
	TeacherArch     string         `yaml:"teacher-arch"`
	TeacherFrom     string         `yaml:"teacher-from"`
	Workers         int            `yaml:"workers"`
	CheckpointEvery int            `yaml:"checkpoint-every"`
}

// recipeFlags binds the keys of a recipe; the values that r holds are the defaults.
func recipeFlags(f *pflag.FlagSet, r *trainer.Recipe) {
	f.IntVar(&r.Epochs, "epochs", r.Epochs, "passes over the training images")
	f.IntVar(&r.Batch, "batch", r.Batch, "images a step")
	f.IntVar(&r.Accumulate, "accumulate", r.Accumulate, "steps an update: their gradients' mean is taken")
	f.StringVar(&r.Optimizer, "optimizer", r.Optimizer, "sgd, rmsprop (TensorFlow's), adam or adamw")
	f.Float64Var(&r.Momentum, "momentum", r.Momentum, "momentum of sgd and rmsprop")
	f.BoolVar(&r.Nesterov, "nesterov", r.Nesterov, "Nesterov's momentum")
	f.Float64Var(&r.Rho, "rho", r.Rho, "decay of rmsprop's mean square")
	f.Float64Var(&r.Beta1, "beta1", r.Beta1, "decay of adam's mean")
	f.Float64Var(&r.Beta2, "beta2", r.Beta2, "decay of adam's mean square")
	f.Float64Var(&r.Eps, "eps", r.Eps, "what rmsprop adds under, adam beside the root")
	f.Float64Var(&r.WeightDecay, "weight-decay", r.WeightDecay, "weight decay")
	f.BoolVar(&r.DecayAll, "decay-all", r.DecayAll, "biases and batch norms decay too")
	f.BoolVar(&r.Decoupled, "decoupled", r.Decoupled, "decay the weights themselves, not through the gradient")
	f.Float64Var(&r.Clip, "clip", r.Clip, "limit of the gradient's norm (0 = none)")
	f.Float64Var(&r.EMA, "ema", r.EMA, "decay of the average of weights that is evaluated and saved (0 = none)")
	f.Float64Var(&r.LR, "lr", r.LR, "learning rate at its highest")
	f.StringVar(&r.Schedule, "schedule", r.Schedule, "constant, cosine, linear, exponential or step")
	f.Float64Var(&r.Warmup, "warmup", r.Warmup, "epochs in which the rate rises")
	f.Float64Var(&r.FinalLR, "final-lr", r.FinalLR, "where cosine and linear end")
	f.Float64Var(&r.Decay, "decay", r.Decay, "factor of exponential and step")
	f.Float64Var(&r.DecayEvery, "decay-every", r.DecayEvery, "epochs for one such factor")
	f.Float64Var(&r.LabelSmoothing, "label-smoothing", r.LabelSmoothing, "share of the target that is spread over all classes")
	f.StringVar(&r.Init, "init", r.Init, "initial weights: nasbench, he-fan-out or torch")
	f.IntVar(&r.Recalibrate, "recalibrate", r.Recalibrate, "batches that batch norms' statistics are computed from before an evaluation (0 = running ones)")
	f.Float64Var(&r.AuxWeight, "aux-weight", r.AuxWeight, "weight of an auxiliary head's loss (0 = the network's own)")
	f.Float64Var(&r.DropPath, "drop-path", r.DropPath, "largest probability of the network's drop paths (0 = its own)")
	f.StringVar(&r.DropPathSchedule, "drop-path-schedule", r.DropPathSchedule, "constant, or linear: rising from 0 epoch by epoch")
	f.Float64Var(&r.Distill, "distill", r.Distill, "weight of the loss against a --teacher's predictions (0 = none)")
	f.Float64Var(&r.Temperature, "temperature", r.Temperature, "temperature of distillation")
	f.IntVar(&r.Channels, "channels", r.Channels, "channels of a cell network's stem, or of the first nodes of DARTS (0 = as published)")
	f.IntVar(&r.Stacks, "stacks", r.Stacks, "stacks of a network of cells; each but the first halves the image and doubles the channels (0 = as published)")
	f.IntVar(&r.Modules, "modules", r.Modules, "cells a stack of a network of cells (0 = as published)")
	f.IntVar(&r.Resolution, "resolution", r.Resolution, "side of the images (0 = the set's own, or the network's)")
	f.Float64Var(&r.ValSplit, "val-split", r.ValSplit, "share of the training images held out for validation")
	f.Float64Var(&r.AreaMin, "area-min", r.AreaMin, "least area of a random crop (0 = 0.08)")
	f.Float64Var(&r.Jitter, "jitter", r.Jitter, "change of brightness, contrast and saturation")
	f.IntVar(&r.Cutout, "cutout", r.Cutout, "side of a square blanked in each image (0 = none)")
	f.Float64Var(&r.Mixup, "mixup", r.Mixup, "alpha of the weights with which images are mixed (0 = not)")
}

// corruptFlag binds what becomes of images that cannot be read.
func corruptFlag(f *pflag.FlagSet, o *data.OnCorrupt) {
	f.Var(o, "on-corrupt",
		"when an image cannot be read: stop, or skip it (skip=N: at most N in all), which is counted and listed")
}

// warnCorrupt says which images were left out.
func (a *app) warnCorrupt(c *data.CorruptImages) {
	if c != nil {
		a.log.Warn(fmt.Sprintf("%d images that cannot be read were left out: %v", c.Count, c))
	}
}

func newTrainCommand(a *app) *cobra.Command {
	var resume string
	var amp bool
	given := trainSettings{RecipeName: "shapes", Recipe: trainer.RecipeDefaults()}
	cmd := &cobra.Command{
		Use:   "train ARCH --data D --recipe R",
		Short: "Train an architecture on images",
		Long: `Trains a network from scratch and tests it. The recipe says how; every key of it is a flag that changes it.

--out DIR then holds config.yaml, log.jsonl and TensorBoard events, checkpoints, weights.safetensors and result.json. A training that was stopped, even
with kill -9, goes on with --resume DIR and ends in the same weights. One that ended at an image that cannot be read
goes on without it with --resume DIR --on-corrupt skip: the next one of the epoch's order that can be read takes its
place. ` + "`ctnas data check`" + ` finds such images beforehand.

` + archHelp + `
Recipes: ` + strings.Join(trainer.RecipeNames(), ", ") + `, or a YAML file of such keys.`,
		Example: `  ctnas train nasbench101:best --data shapes --recipe shapes --out runs/cell
  ctnas train mobilenetv3_large_1.0 --data imagenet:/data/imagenet --recipe mobilenetv3 --out runs/v3
  ctnas train --resume runs/v3`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if amp {
				if a.onLine["precision"] && a.precision != string(exec.BF16) {
					return usagef("--amp and --precision %s", a.precision)
				}
				a.precision = string(exec.BF16)
			}
			s, err := a.trainSettings(cmd.Flags(), args, resume)
			if err != nil {
				return err
			}
			result, err := a.train(cmd, s)
			if errors.Is(err, trainer.ErrInterrupted) && a.out != "" {
				fmt.Fprintf(a.stderr, "A checkpoint is written; go on with: ctnas train --resume %s\n", quoted(a.out))
			}
			if data.IsCorrupt(err) && a.out != "" {
				fmt.Fprintf(a.stderr, "A checkpoint is written; go on without such images with: "+
					"ctnas train --resume %s --on-corrupt skip\n", quoted(a.out))
			}
			if err != nil {
				return err
			}
			a.warnCorrupt(result.Corrupt)
			if result.Finished {
				fmt.Fprintf(a.stderr, "%s is a finished training: nothing was changed\n", a.out)
			}
			if a.json {
				return a.printJSON(result)
			}
			return a.printTraining(result)
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.Arch, "arch", "", "the architecture, for a configuration file; otherwise ARCH")
	f.StringVar(&given.Data, "data", "", dataHelp)
	f.StringVar(&given.RecipeName, "recipe", given.RecipeName, "how to train: a `recipe`'s name or file")
	recipeFlags(f, &given.Recipe)
	f.StringVar(&given.Teacher, "teacher", "", "with --distill: the `folder` of a training to learn from, or a safetensors file")
	f.StringVar(&given.TeacherArch, "teacher-arch", "", "the `ARCH` of a --teacher file; a cell has this training's --channels, --stacks and --modules")
	f.StringVar(&given.TeacherFrom, "teacher-from", "", "`whose` weights a --teacher file holds, as eval's --weights-from (empty = by the file)")
	f.StringVar(&given.OnNaN, "on-nan", trainer.OnNaNStop, "when a loss or gradient is not finite: stop, or skip the update and halve the rate")
	corruptFlag(f, &given.OnCorrupt)
	f.IntVar(&given.Workers, "workers", 0, "goroutines that load images (0 = as many as processors, at most 4 a processor)")
	f.IntVar(&given.CheckpointEvery, "checkpoint-every", 0, "updates between checkpoints (0 = an epoch)")
	f.BoolVar(&amp, "amp", false, "mixed precision on a GPU, the same as --precision bf16")
	f.StringVar(&resume, "resume", "", "go on with the training in this `folder`")
	return cmd
}

// trainSettings are the recipe's with the flags that were given, or with --resume those of the folder.
func (a *app) trainSettings(f *pflag.FlagSet, args []string, resume string) (s trainSettings, err error) {
	s = trainSettings{Recipe: trainer.RecipeDefaults()}
	if resume != "" {
		f.VisitAll(func(flag *pflag.Flag) {
			switch flag.Name {
			case "resume", "device", "precision", "amp", "threads", "json", "quiet", "log-level", "manifests", "workers", "checkpoint-every", "on-corrupt":
			default:
				if a.onLine[flag.Name] {
					err = usagef("--%s cannot be given with --resume: the folder says it", flag.Name)
				}
			}
		})
		if err == nil && len(args) > 0 {
			err = usagef("an architecture cannot be given with --resume: the folder says it")
		}
		if err != nil {
			return s, err
		}
		a.out = resume
		if err := s.load(resume); isNoFolder(err) {
			return s, fmt.Errorf("%s is not the folder of a training: it has no %s", resume, report.ConfigName)
		} else if err != nil {
			return s, err
		}
		for name, to := range map[string]*int{"workers": &s.Workers, "checkpoint-every": &s.CheckpointEvery} {
			if a.onLine[name] {
				*to, _ = f.GetInt(name) // it is one
			}
		}
		if a.onLine["on-corrupt"] {
			_ = s.OnCorrupt.Set(f.Lookup("on-corrupt").Value.String()) // it is one
		}
		return s, nil
	}
	if s.Arch, _ = f.GetString("arch"); len(args) > 0 {
		s.Arch = args[0]
	}
	if s.Arch == "" {
		return s, usagef("want an architecture")
	}
	if err := checkArch(s.Arch); err != nil {
		return s, err
	}
	s.RecipeName, _ = f.GetString("recipe")
	if s.Recipe, err = trainer.OpenRecipe(s.RecipeName); err != nil {
		return s, usagef("--recipe: %w", err)
	}
	named := pflag.NewFlagSet("", pflag.ContinueOnError)
	recipeFlags(named, &s.Recipe)
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && named.Lookup(flag.Name) != nil && err == nil {
			err = named.Set(flag.Name, flag.Value.String())
		}
	})
	if err == nil {
		err = s.Recipe.Check()
	}
	if err != nil {
		return s, usagef("--%w", err)
	}
	s.Seed = a.seed
	s.Data, _ = f.GetString("data")
	s.Teacher, _ = f.GetString("teacher")
	s.TeacherArch, _ = f.GetString("teacher-arch")
	s.TeacherFrom, _ = f.GetString("teacher-from")
	s.OnNaN, _ = f.GetString("on-nan")
	_ = s.OnCorrupt.Set(f.Lookup("on-corrupt").Value.String()) // it is one
	s.Workers, _ = f.GetInt("workers")
	s.CheckpointEvery, _ = f.GetInt("checkpoint-every")
	switch {
	case s.Data == "":
		err = usagef(`required flag(s) "data" not set`)
	case data.CheckSpec(s.Data) != nil:
		err = usagef("--%w", data.CheckSpec(s.Data))
	case s.OnNaN != trainer.OnNaNStop && s.OnNaN != trainer.OnNaNSkip:
		err = usagef("--on-nan %q: want %s or %s", s.OnNaN, trainer.OnNaNStop, trainer.OnNaNSkip)
	case (s.Teacher != "") != (s.Distill > 0):
		err = usagef("--teacher FOLDER and --distill WEIGHT belong together")
	case s.TeacherArch+s.TeacherFrom != "" && s.Teacher == "":
		err = usagef("--teacher-arch and --teacher-from are for a --teacher file")
	case a.out != "":
		err = checkOut(a.out)
	}
	if err == nil {
		err = record(map[string]*string{"data": &s.Data, "teacher": &s.Teacher, "recipe": &s.RecipeName})
	}
	return s, err
}

// buildNetwork is the network of an architecture in words, for images of a side and a number of classes; where these are 0, of the published ones. Of the recipe it
// takes the measures of a network of cells.
func buildNetwork(arch string, r trainer.Recipe, side, classes int) (*nn.Network, error) {
	return space.Network(arch, space.NetworkSize{
		Side: side, Classes: classes, Channels: r.Channels, Stacks: r.Stacks, Modules: r.Modules,
	})
}

// checkArch finds mistakes in the name of an architecture before anything is opened for it.
func checkArch(arch string) error {
	if _, err := buildNetwork(arch, trainer.Recipe{}, 0, 0); err != nil {
		return usageError{err}
	}
	return nil
}

func (a *app) train(cmd *cobra.Command, s trainSettings) (*trainer.Result, error) {
	place, err := a.openOne()
	if err != nil {
		return nil, err
	}
	o, finishImages := a.imageOptions()
	o.Seed, o.ValSplit = s.Seed, s.ValSplit
	d, err := data.Open(s.Data, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	checksum, err := d.Checksum(cmd.Context())
	finishImages()
	if err != nil {
		return nil, err
	}
	net, err := buildNetwork(s.Arch, s.Recipe, s.Side(d), len(d.Classes))
	if err != nil {
		return nil, err
	}
	for _, key := range s.Recipe.Idle(net) {
		a.log.Warn("the network has no part that this key of the recipe is about", "key", key)
	}
	teacher, err := a.openTeacher(s, net.Input().H, d)
	if err != nil {
		return nil, err
	}
	build := thisBuild()
	if a.out != "" {
		unlock, err := a.lockFolder(a.out)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := sameImages(a.out, checksum); err != nil {
			return nil, err
		}
		facts := runFacts{a.commandLine(), build.Version, build.Commit, build.Modified, build.Go, build.Platform, place.name, place.level, place.threads,
			"", checksum, "", checksum, a.out}
		if err := writeConfig(a.out, s, facts); err != nil {
			return nil, err
		}
	}
	update, finish := a.progress("updates")
	defer finish()
	var last trainer.Progress
	defer func() {
		if last.Update > 0 {
			a.log.Info("speed", "images_per_second", math.Round(last.ImagesPerSecond), "waiting_for_images", fmt.Sprintf("%.1f%%", 100*last.LoaderShare))
		}
	}()
	kind, _, _ := strings.Cut(s.Data, ":")
	return trainer.Train(cmd.Context(), trainer.Job{Arch: s.Arch, Net: net, Data: d, Source: kind, Recipe: s.Recipe, Seed: s.Seed, OnNaN: s.OnNaN,
		OnCorrupt: s.OnCorrupt, Teacher: teacher},
		trainer.Deps{Device: place.Config, Workers: s.Workers, Dir: a.out, CheckpointEvery: s.CheckpointEvery, Version: build.Version,
			Progress: func(p trainer.Progress) {
				last = p
				update(p.Update, p.Updates)
			}})
}

// load reads the settings of a training's folder, over those that s holds.
func (s *trainSettings) load(dir string) error {
	path := filepath.Join(dir, report.ConfigName)
	text, err := files.ReadText(path, maxConfigBytes)
	if err != nil {
		return err
	}
	if err := s.parse(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// parse reads a training's config.yaml over the settings that are there.
func (s *trainSettings) parse(text []byte) error {
	if err := yaml.Unmarshal(text, s); err != nil {
		return err
	}
	if s.Arch == "" || s.Data == "" {
		return errors.New("names neither an architecture nor images: not the folder of a training")
	}
	if s.Workers < 0 || s.CheckpointEvery < 0 {
		return fmt.Errorf("workers %d, checkpoint-every %d: want 0 or more", s.Workers, s.CheckpointEvery)
	}
	return s.Check()
}

// isNoFolder tells whether load failed because what was named is a file, an architecture (whose text may be longer
// than a name can be), nothing, or has no settings.
func isNoFolder(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// openTeacher is the network of a training's folder with its weights, or one of --teacher-arch with weights in a file; nil without.
func (a *app) openTeacher(s trainSettings, side int, d *data.Dataset) (*trainer.Teacher, error) {
	if s.Teacher == "" {
		return nil, nil
	}
	t := trainSettings{Arch: s.TeacherArch, Recipe: s.Recipe}
	weights := weightsFile{path: s.Teacher, from: s.TeacherFrom, flag: "teacher-from"}
	if err := t.load(s.Teacher); err == nil {
		weights.path = filepath.Join(s.Teacher, trainer.WeightsName)
	} else if !isNoFolder(err) {
		return nil, err
	}
	if t.Arch == "" {
		return nil, fmt.Errorf("--teacher %s is not the folder of a training (it has no %s); a file of weights needs --teacher-arch", s.Teacher, report.ConfigName)
	}
	var names []string
	w, err := a.openWeights(weights, t.Arch, t.Recipe, func(file *trainer.Weights) (net *nn.Network, err error) {
		var match *trainer.Matching
		net, match, names, err = matchClasses(file, d, d.Train, func(classes int) (*nn.Network, error) {
			return buildNetwork(t.Arch, t.Recipe, side, classes)
		})
		if err == nil && match.Note != "" {
			a.log.Warn("classes of the teacher", "teacher", s.Teacher, "note", match.Note)
		}
		return net, err
	})
	if err != nil {
		return nil, fmt.Errorf("--teacher %s: %w", s.Teacher, err)
	}
	return &trainer.Teacher{Net: w.Net, Weights: weights.path, Classes: names, Images: w.Images}, nil
}

// writeConfig writes config.yaml into a run's folder unless it is there.
func writeConfig(dir string, s trainSettings, facts runFacts) error {
	path := filepath.Join(dir, report.ConfigName)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := files.MkdirAll(dir); err != nil {
		return err
	}
	var doc, key, block yaml.Node
	err := errors.Join(doc.Encode(s), key.Encode(runBlock), block.Encode(facts))
	if err != nil {
		return err
	}
	doc.Content = append(doc.Content, &key, &block)
	text, err := yaml.Marshal(&doc)
	if err != nil {
		return err
	}
	return files.Write(path, text)
}

// printTraining is the result for people.
func (a *app) printTraining(r *trainer.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "architecture\t%s, %d MAdds, %d parameters\n", r.Arch, r.MAdds, r.Params)
	fmt.Fprintf(w, "updates\t%d", r.Updates)
	if r.Skipped > 0 {
		fmt.Fprintf(w, ", %d of them left out", r.Skipped)
	}
	fmt.Fprintln(w)
	if n := len(r.Validation); n > 0 {
		fmt.Fprintf(w, "validation\t%.2f %% (first five %.2f %%), loss %.4f\n", 100*r.Validation[n-1].Top1, 100*r.Validation[n-1].Top5, r.Validation[n-1].Loss)
	}
	if r.Test != nil {
		fmt.Fprintf(w, "test\t%.2f %% (first five %.2f %%), loss %.4f\n", 100*r.Test.Top1, 100*r.Test.Top5, r.Test.Loss)
	}
	if r.Corrupt != nil {
		fmt.Fprintf(w, "left out\t%d images that cannot be read: %v\n", r.Corrupt.Count, r.Corrupt)
	}
	if a.out != "" {
		fmt.Fprintf(w, "written\t%s with %s, %s\n", a.out, trainer.ResultName, trainer.WeightsName)
	}
	return w.Flush()
}
