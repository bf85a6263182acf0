package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// evaluated is what `ctnas eval` prints.
type evaluated struct {
	Arch      string        `json:"arch"`
	Data      string        `json:"data"`
	Split     string        `json:"split"`
	Images    int           `json:"images"`
	Loss      trainer.Real  `json:"loss"` // null where it is not finite
	Top1      float64       `json:"top1"`
	Top5      float64       `json:"top5"`
	From      string        `json:"weights_from"` // whose weights, as in zoo.Variant.String, or random
	Constants zoo.Constants `json:"constants"`    // that belong to these
	// Classes is what there is to say of the matching of the images' classes with the network's: empty where they are
	// the same.
	Classes string `json:"classes,omitempty"`
	// Corrupt are the images that could not be read and do not count; absent without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
}

func newEvalCommand(a *app) *cobra.Command {
	split, calibrate := "test", supernet.CalibrateImages
	var weights weightsFile
	var shown pictures
	s := newTrainSettings()
	s.Batch = 128
	cmd := &cobra.Command{
		Use:   "eval RUN|ARCH [--weights F] [--data D]",
		Short: "Test a network on images",
		Long: `Tests a network: that of a RUN with its weights, of a training also with its images, or an architecture
with weights in a file of safetensors or PyTorch, or with those of a supernet (the folder of ctnas supernet
train, or a file of once-for-all), which are cut out and get statistics of their own, on training images of
--data. What the file does not carry, batch norm's epsilon and what is done to
images among it, is that of whose weights they are: see --weights-from and ctnas zoo NAME.

` + runHelp + "\n\n" + archHelp,
		Example: `  ctnas eval runs/cell
  ctnas eval nasbench101:best --weights w.safetensors --data shapes --channels 8 --modules 1 --resolution 16
  ctnas eval mobilenetv3_large_1.0 --weights v3.safetensors --weights-from timm --data imagenet:/data/imagenet`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := s
			c, err := choose(args[0])
			if err != nil {
				return err
			}
			if c.training != nil {
				for _, name := range new(trainer.Size).Settings().Names() {
					if a.onLine[name] {
						return usagef("--%s: %s is the folder of a training, which says it", name, args[0])
					}
				}
				s = *c.training
				s.Batch, s.Workers, s.OnCorrupt = given.Batch, given.Workers, given.OnCorrupt
			}
			if c.Sized && c.training == nil {
				size := c.Size
				if err := size.Settings().Take(cmd.Flags(), nil); err != nil {
					return usagef("--%w", err)
				}
				s.Size = size
			}
			s.Arch, s.Data = c.Arch, cmp.Or(s.Data, c.Super.Data)
			if weights.path == "" {
				if err := c.missing(args[0]); err != nil {
					return err
				}
				weights.path = c.Weights
			}
			if given.Data != "" {
				s.Data = given.Data
			}
			switch {
			case s.Data == "":
				return usagef(`required flag(s) "data" not set`)
			case weights.path == "":
				if c.What != "" {
					return usagef("the %s in %s has no weights: ctnas retrain makes some, or --weights FILE has them",
						c.What, args[0])
				}
				return usagef("an architecture needs --weights FILE")
			case checkArch(s.Arch) != nil:
				return checkArch(s.Arch)
			}
			e, err := a.eval(cmd, s, weights, shown, split, calibrate)
			if err != nil {
				return err
			}
			a.warnCorrupt(e.Corrupt)
			if a.json {
				return a.printJSON(e)
			}
			fmt.Fprintf(a.stdout, "%s: %.2f %% of %d %s images right, %.2f %% among the first five, loss %.4f\n",
				e.Arch, 100*e.Top1, e.Images, e.Split,
				100*e.Top5, e.Loss)
			if e.Classes != "" {
				fmt.Fprintf(a.stdout, "classes: %s\n", e.Classes)
			}
			return nil
		},
	}
	l, training := setting.New(), s.settings()
	weights.addTo(l)
	shown.addTo(l)
	l.Text(&split, "split", "which images").OneOf("test", "validation", "train")
	calibrateSetting(l, &calibrate)
	a.bind(cmd, setting.Join(
		l.Only("calibrate-images", "weights", "weights-from", "crop", "interpolation", "mean", "std"),
		training.Only("data"), l.Only("split"),
		training.Only("batch", "channels", "stacks", "modules", "resolution", "on-corrupt", "workers")))
	return cmd
}

func (a *app) eval(cmd *cobra.Command, s trainSettings, weights weightsFile, shown pictures, split string,
	calibrate int) (e *evaluated, err error) {
	defer exec.Catch(&err)
	on, err := a.openDevice()
	if err == nil {
		err = a.openAll(on)
	}
	if err != nil {
		return nil, err
	}
	o, finish := a.imageOptions()
	defer finish()
	o.Seed, o.ValSplit = s.Seed, s.ValSplit
	d, err := data.Open(s.Data, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	set := map[string]*data.Set{"test": d.Test, "validation": d.Validation, "train": d.Train}[split]
	if set == nil || set.Len() == 0 {
		return nil, fmt.Errorf("--split %s: %s has no such images", split, s.Data)
	}
	w, values, match, err := a.evaluatedWeights(cmd.Context(), s, weights, d, set, calibrate)
	if err != nil {
		return nil, err
	}
	side := w.Net.Input().H
	if w.Images == nil {
		w.Images = trainer.ImagesOf(d, side)
	} else if others := w.OtherImages(w.Net); len(others) > 0 && shown.none() {
		a.log.Warn("not all published weights of this program and network want the same images: --weights-from "+
			"says which these are, --crop, --interpolation, --mean and --std "+
			"what they want", "taken", w.Images, "others", others)
	}
	if w.Images, err = shown.change(*w.Images); err != nil {
		return nil, err
	}
	transform := trainer.EvalTransform(d, w.Images, side)
	a.log.Info("images", "side", side, "resized", cmp.Or(transform.Resize, side), "interpolation",
		w.Images.Interpolation, "mean", w.Images.Mean, "std", w.Images.Std,
		"channels", w.Images.Channels)
	var models []*trainer.Model
	for _, one := range on.Config.Each() {
		dev, err := exec.Open(one)
		if err != nil {
			return nil, err
		}
		defer dev.Close()
		m, err := trainer.NewModel(dev, w.Net, trainer.Options{Batch: s.Batch, EvalOnly: true})
		if err != nil {
			return nil, err
		}
		defer m.Close()
		m.SetValues(values)
		models = append(models, m)
	}
	tally := data.NewTally(s.OnCorrupt)
	got, err := trainer.EvaluateAll(cmd.Context(), models, d, match.Apply(set), transform,
		trainer.Loading{Workers: s.Workers, Tally: tally})
	if err != nil {
		return nil, err
	}
	return &evaluated{s.Arch, d.Source(), split, got.Images, got.Loss, got.Top1, got.Top5, w.Name(), w.Constants,
		match.Note, tally.Summary()}, nil
}

// evaluatedWeights are a network with its weights, and how the classes of some images are those of the network.
func (a *app) evaluatedWeights(ctx context.Context, s trainSettings, weights weightsFile, d *data.Dataset,
	set *data.Set, calibrate int) (w *owned, values [][]float32, match *trainer.Matching, err error) {
	shared, err := isSupernet(weights.path)
	if err != nil {
		return nil, nil, nil, err
	}
	if shared {
		w, values, _, err = a.cutOut(ctx, s.Arch, s.Resolution, supernet.Spec{Path: weights.path, Data: s.Data,
			Calibrate: calibrate})
		if err == nil {
			match, err = trainer.MatchClasses(w.classes, 0, d, set)
		}
		return w, values, match, err
	}
	w, err = a.openWeights(weights, s.Arch, s.Size, func(file *trainer.Weights) (net *nn.Network, err error) {
		net, match, _, err = matchClasses(file, d, set, func(classes int) (*nn.Network, error) {
			return buildNetwork(s.Arch, s.Size, s.Side(d), classes)
		})
		if err != nil {
			err = fmt.Errorf("%s and %s: %w", weights.path, s.Data, err)
		}
		return net, err
	})
	if err != nil {
		return nil, nil, nil, err
	}
	// what the file leaves out is not evaluated either: to draw it would take the longest of all
	values, err = w.values(func(nn.Role, nn.Fan, bool, *philox.Stream) float64 { return 0 })
	return w, values, match, err
}
