package main

import (
	"cmp"
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

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

const (
	archHelp = `An ARCH is an architecture of a space (nasbench101:…, nasbench101:best, nasbench201:|…|,
mobilenetv3:depths:kernels:ratios@w1.2, darts:Genotype(…), with @cifar10 behind for CIFAR's network, spos:…,
fairnas:a) or a network of the zoo (ctnas zoo lists them).`
	imageSets = "shapes (generated), cifar10:DIR, cifar100:DIR, imagenet:DIR, imagenet:FILE (packed) or " +
		"shards:GLOB"
)

// trainSettings are what of a training is set by flags, and kept in its folder.
type trainSettings struct {
	Arch       string
	Data       string
	RecipeName string
	trainer.Recipe
	Seed            uint64
	OnNaN           string
	OnCorrupt       data.OnCorrupt
	Weights         string
	WeightsFrom     string
	Teacher         string
	TeacherArch     string
	TeacherFrom     string
	Workers         int
	Ranks           int
	CheckpointEvery int
}

// newTrainSettings are the settings before anything is set.
func newTrainSettings() trainSettings {
	return trainSettings{RecipeName: "shapes", Recipe: trainer.RecipeDefaults(), Seed: 1, OnNaN: trainer.OnNaNStop}
}

// settings are all of them, in the order of config.yaml.
func (s *trainSettings) settings() *setting.List {
	l := setting.New()
	l.Group("Training")
	l.Text(&s.Arch, "arch", "the architecture, for a configuration file; otherwise ARCH")
	dataSetting(l, &s.Data)
	l.Text(&s.RecipeName, "recipe", "how to train: a `recipe`'s name or file").Path(trainer.AbsoluteRecipe)
	s.Recipe.AddTo(l)
	l.Group("Training")
	seedSetting(l, &s.Seed).Shared()
	trainer.AddFaults(l, &s.OnNaN, &s.OnCorrupt)
	l.Group("Training")
	l.Text(&s.Weights, "weights", "begin with the weights of a training's `folder`, or of a file of safetensors or "+
		"PyTorch (fine-tuning); a classifier of other classes begins at random").Path(files.Absolute).OmitZero()
	l.Text(&s.WeightsFrom, "weights-from", "the `program` whose weights a --weights file holds, as eval's (empty = "+
		"by the file)").OmitZero()
	l.Text(&s.Teacher, "teacher", "with --distill: the `folder` of a training to learn from, or a "+
		"safetensors file").Path(files.Absolute)
	l.Text(&s.TeacherArch, "teacher-arch", "the `ARCH` of a --teacher file; a cell has this training's --channels, "+
		"--stacks and --modules")
	l.Text(&s.TeacherFrom, "teacher-from", "the `program` whose weights a --teacher file holds, as eval's "+
		"--weights-from (empty = by the file)")
	workersSetting(l, &s.Workers)
	ranksSetting(l, &s.Ranks)
	l.Int(&s.CheckpointEvery, "checkpoint-every", "updates", "updates between checkpoints (0 = an epoch, or ten "+
		"minutes where that is sooner)", 0, 1<<30).MayChange()
	return l
}

// dataSetting adds the images that are trained on or tested with.
func dataSetting(l *setting.List, p *string) {
	l.Text(p, "data", "images: "+imageSets).Path(data.Absolute).
		Check(func() error {
			if *p == "" {
				return nil
			}
			return data.CheckSpec(*p)
		})
}

func workersSetting(l *setting.List, p *int) {
	l.Int(p, "workers", "goroutines", "goroutines that load images (0 = as many as processors, at most 4 a processor)",
		0, mostThreads).
		MayChange().AtOnce(4) // they wait for disks too
}

func ranksSetting(l *setting.List, p *int) {
	l.Int(p, "ranks", "executors", "on the CPU: executors that divide a batch's --shards, and the threads, among "+
		"them as GPUs do (0 = one); results do not depend on it", 0, 64).MayChange().OmitZero()
}

// openRanks is openDevice for a training on all the devices that are named, whose number check looks at.
func (a *app) openRanks(ranks int, check func(devices int) error) (device, error) {
	dev, err := a.openDevice()
	if err != nil {
		return dev, err
	}
	if ranks > 1 && dev.kind != "cpu" {
		return dev, usagef("--ranks %d: divides the processor's threads, and this computes on %s: want 0 (several "+
			"GPUs are --device cuda:N,M)", ranks, dev.name)
	}
	if err := check(max(1, a.nodes.nodes) * trainer.Deps{Device: dev.Config, Ranks: ranks}.Devices()); err != nil {
		return dev, usagef("--%w", err)
	}
	return dev, a.openAll(dev)
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
	given := newTrainSettings()
	cmd := &cobra.Command{
		Use:   "train ARCH|RUN --data D --recipe R",
		Short: "Train an architecture on images",
		Long: `Trains a network, from scratch or from --weights, and tests it. The recipe says how; every key of it is a
flag that changes it.

--out DIR then holds config.yaml, log.jsonl and TensorBoard events, checkpoints, weights.safetensors and
result.json. A training that was stopped, even with kill -9, goes on with --resume DIR and ends in the same
weights. One that ended at an image that cannot be read goes on without it with --resume DIR --on-corrupt
skip: the next one of the epoch's order that can be read takes its place. ` + "`ctnas data check`" + ` finds
such images beforehand.

--nodes N --rendezvous HOST:PORT, on each of N machines, trains one network on all of them, in the same
bytes; node 0 has the folder.

--device cuda:0,1 --shards 2 trains on two GPUs: the recipe's batch is that of all of them together, and
weights depend on --shards, not on how many devices divide them among them. A training may go on with more
of them, or fewer.

` + runHelp + `

` + archHelp + `
Recipes: ` + strings.Join(trainer.RecipeNames(), ", ") + `, or a YAML file of such keys.`,
		Example: `  ctnas train nasbench101:best --data shapes --recipe shapes --out runs/cell
  ctnas train mobilenetv3_large_1.0 --data imagenet:/data/imagenet --recipe mobilenetv3 --out runs/v3
  ctnas train runs/darts --data cifar10:/data/cifar10 --recipe darts-cifar --out runs/genotype
  ctnas train mobilenetv3_large_100 --weights timm.safetensors --data imagenet:/data/flowers --recipe mobilenetv3 \
      --lr 0.01 --epochs 20 --out runs/flowers
  ctnas train --resume runs/v3`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if amp {
				if a.onLine["precision"] && a.precision != string(exec.BF16) {
					return usagef("--amp and --precision %s", a.precision)
				}
				if err := cmd.Flags().Set("precision", string(exec.BF16)); err != nil {
					return err
				}
			}
			s, err := a.trainSettings(cmd.Flags(), args, resume)
			if err == nil {
				err = a.takeFolder()
			}
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
			return a.printTraining(result)
		},
	}
	a.bind(cmd, given.settings())
	f := cmd.Flags()
	f.BoolVar(&amp, "amp", false, "mixed precision on a GPU, the same as --precision bf16")
	f.StringVar(&resume, "resume", "", "go on with the training in this `folder`")
	return cmd
}

// trainSettings are the recipe's with the flags that were given, or with --resume those of the folder.
func (a *app) trainSettings(f *pflag.FlagSet, args []string, resume string) (trainSettings, error) {
	if resume != "" {
		return a.resumedTraining(f, args, resume)
	}
	s := newTrainSettings()
	if s.Arch = f.Lookup("arch").Value.String(); len(args) > 0 {
		s.Arch = args[0]
	}
	if s.Arch == "" {
		return s, usagef("want an architecture")
	}
	dir := s.Arch
	c, err := choose(dir)
	if err != nil {
		return s, err
	}
	s.Arch = c.Arch
	if err := checkArch(s.Arch); err != nil {
		return s, err
	}
	if s.Recipe, err = trainer.OpenRecipe(f.Lookup("recipe").Value.String()); err != nil {
		return s, usagef("--recipe: %w", err)
	}
	recipe := s.Size
	if c.Sized {
		s.Size = c.Size
	}
	if err := s.settings().Take(f, func(name string) bool { return name != "arch" }); err != nil {
		return s, usagef("--%w", err)
	}
	if err := s.check(); err != nil {
		return s, err
	}
	if a.out != "" && !a.nodes.follows() {
		if err := checkOut(a.out); err != nil {
			return s, err
		}
	}
	if c.What != "" {
		a.log.Info("takes the network of a "+c.What, "folder", dir, "arch", s.Arch, "channels", s.Channels,
			"stacks", s.Stacks, "modules", s.Modules, "resolution", s.Resolution)
	}
	if c.Sized && s.Size != recipe {
		a.log.Info("sizes are not the recipe's, which has: flags change them", "channels", recipe.Channels, "stacks",
			recipe.Stacks, "modules", recipe.Modules, "resolution", recipe.Resolution)
	}
	return s, s.settings().Absolute()
}

// check finds what is wrong with the settings of a new training.
func (s *trainSettings) check() error {
	if err := cmp.Or(s.settings().Check(), s.Recipe.Check()); err != nil {
		return usagef("--%w", err)
	}
	switch {
	case s.Data == "":
		return usagef(`required flag(s) "data" not set`)
	case (s.Teacher != "") != (s.Distill > 0):
		return usagef("--teacher FOLDER and --distill WEIGHT belong together")
	case s.WeightsFrom != "" && s.Weights == "":
		return usagef("--weights-from is for --weights")
	case s.TeacherArch+s.TeacherFrom != "" && s.Teacher == "":
		return usagef("--teacher-arch and --teacher-from are for a --teacher file")
	}
	return nil
}

// resumedTraining are the settings that a folder holds, with those on the line that may change.
func (a *app) resumedTraining(f *pflag.FlagSet, args []string, dir string) (trainSettings, error) {
	s := newTrainSettings()
	if err := a.mayResume(s.settings()); err != nil {
		return s, err
	}
	if len(args) > 0 {
		return s, usagef("an architecture cannot be given with --resume: the folder says it")
	}
	a.out = dir
	if err := s.load(dir); isNoFolder(err) {
		return s, fmt.Errorf("%s is not the folder of a training: it has no %s", dir, report.ConfigName)
	} else if err != nil {
		return s, err
	}
	if err := a.computeWhere(dir, f); err != nil {
		return s, err
	}
	return s, s.settings().Take(f, func(name string) bool { return a.onLine[name] })
}

// buildNetwork is the network of an architecture in words, for images of a side and a number of classes; where these
// are 0, of the published ones. The size is that of a network of cells.
func buildNetwork(arch string, size trainer.Size, side, classes int) (*nn.Network, error) {
	return space.Network(arch, space.NetworkSize{
		Side: side, Classes: classes, Channels: size.Channels, Stacks: size.Stacks, Modules: size.Modules,
	})
}

// checkArch finds mistakes in the name of an architecture before anything is opened for it.
func checkArch(arch string) error {
	if _, err := buildNetwork(arch, trainer.Size{}, 0, 0); err != nil {
		return usageError{err}
	}
	return nil
}

func (a *app) train(cmd *cobra.Command, s trainSettings) (result *trainer.Result, err error) {
	dev, err := a.openRanks(s.Ranks, s.Recipe.CheckRanks)
	if err != nil {
		return nil, err
	}
	deps := trainer.Deps{Device: dev.Config, Ranks: s.Ranks, Workers: s.Workers, Dir: a.out,
		CheckpointEvery: s.CheckpointEvery, Version: thisBuild().Version}
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
	net, err := buildNetwork(s.Arch, s.Size, s.Side(d), len(d.Classes))
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
	start, err := a.startWith(s, net, d.Classes)
	if err != nil {
		return nil, fmt.Errorf("--weights: %w", err)
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
		facts := runFacts{a.commandLine(), build.Version, build.Commit, build.Modified, build.Go, build.Platform,
			dev.name, dev.level, dev.threads, "", checksum, "", checksum, a.out}
		if err := writeConfig(a.out, setting.Join(s.settings(), a.where(dev)), facts); err != nil {
			return nil, err
		}
	}
	nodes, leave, err := a.joinNodes(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer func() { leave(err) }()
	deps.Nodes = nodes
	update, finish := a.progress("updates")
	defer finish()
	var last trainer.Progress
	defer func() {
		if last.Update > 0 {
			a.log.Info("speed", "images_per_second", math.Round(last.ImagesPerSecond), "waiting_for_images",
				fmt.Sprintf("%.1f%%", 100*last.LoaderShare))
		}
	}()
	deps.Progress = func(p trainer.Progress) {
		last = p
		update(p.Update, p.Updates)
	}
	return trainer.Train(cmd.Context(), trainer.Job{Arch: s.Arch, Net: net, Data: d, Source: d.Source(),
		Recipe: s.Recipe, Seed: s.Seed, OnNaN: s.OnNaN, OnCorrupt: s.OnCorrupt, Start: start, Teacher: teacher}, deps)
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
	l := s.settings()
	if err := l.ReadConfig(text); err != nil {
		return err
	}
	if s.Arch == "" || s.Data == "" {
		return errNoTraining
	}
	return cmp.Or(l.Check(), s.Recipe.Check())
}

// errNoTraining is what parse says of a config.yaml that is another command's.
var errNoTraining = errors.New("names neither an architecture nor images: not the folder of a training")

// isNoFolder tells whether load failed because what was named is a file, an architecture (whose text may be longer
// than a name can be), nothing, or has no settings.
func isNoFolder(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// openTeacher is the network of a training's folder with its weights, or one of --teacher-arch with weights in a file;
// nil without.
func (a *app) openTeacher(s trainSettings, side int, d *data.Dataset) (*trainer.Teacher, error) {
	if s.Teacher == "" {
		return nil, nil
	}
	t := newTrainSettings()
	t.Arch, t.Recipe = s.TeacherArch, s.Recipe
	weights := weightsFile{path: s.Teacher, from: s.TeacherFrom, flag: "teacher-from"}
	if err := t.load(s.Teacher); err == nil {
		weights.path = filepath.Join(s.Teacher, trainer.WeightsName)
	} else if !isNoFolder(err) {
		return nil, err
	}
	if t.Arch == "" {
		return nil, fmt.Errorf("--teacher %s is not the folder of a training (it has no %s); a file of weights needs "+
			"--teacher-arch", s.Teacher, report.ConfigName)
	}
	var names []string
	w, err := a.openWeights(weights, t.Arch, t.Size, func(file *trainer.Weights) (net *nn.Network, err error) {
		var match *trainer.Matching
		net, match, names, err = matchClasses(file, d, d.Train, func(classes int) (*nn.Network, error) {
			return buildNetwork(t.Arch, t.Size, side, classes)
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
func writeConfig(dir string, settings *setting.List, facts runFacts) error {
	path := filepath.Join(dir, report.ConfigName)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := files.MkdirAll(dir); err != nil {
		return err
	}
	text, err := settings.YAML(facts)
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
		fmt.Fprintf(w, "validation\t%.2f %% (first five %.2f %%), loss %.4f\n", 100*r.Validation[n-1].Top1,
			100*r.Validation[n-1].Top5, r.Validation[n-1].Loss)
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
