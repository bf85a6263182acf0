package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
	"github.com/ctnas/ctnas/trainer/onnx"
	"github.com/ctnas/ctnas/trainer/torchmodule"
)

// exporting are the flags of `ctnas export`.
type exporting struct {
	arch, onnx, safetensors, module, checkInput, checkOutput string
	weights                                                  weightsFile
	fold, calibrate                                          bool
	size                                                     trainer.Size
	classes                                                  int
	super                                                    supernet.Spec // how a sub-network is cut out of a supernet
}

// checkBatch is how many images a check input has.
const checkBatch = 2

func newExportCommand(a *app) *cobra.Command {
	e := exporting{super: supernet.Spec{Calibrate: supernet.CalibrateImages}}
	cmd := &cobra.Command{
		Use:   "export RUN|ARCH [--onnx F] [--safetensors F] [--module F]",
		Short: "Write a network for other programs",
		Long: `Writes a network with its weights as an ONNX file (opset 17, any batch), or the weights as safetensors
under the names that PyTorch's programs use, or its source in Python, a torch.nn.Module that takes these weights by
load_state_dict: that of a RUN, or an architecture with weights in a file. Without any they are a random start, and
the file says so.

--weights may be a supernet: the folder of ctnas supernet train, or a file of once-for-all. The network's
weights are cut out then, and its batch norms get statistics of their own, on --calibrate-images training
images of --data: the supernet's are of no one network.

A line says of each file what it holds, and its metadata say the same: the architecture, whose weights they are and
with which constants, names of classes; of ONNX files also what is done to images beforehand. What was written as
ONNX is run on two random images and compared with ctnas's own logits; safetensors are read back.

--check-input and --check-output write two random images and the logits that ctnas computes for them, as raw
little-endian float32, images in the order of ONNX (NCHW), for a comparison with another program. With --calibrate
batch norms get the statistics of these images, without which the logits of random weights may be of any size.

` + runHelp + "\n\n" + archHelp,
		Example: `  ctnas export mobilenetv3_large_1.0 --weights v3.safetensors --weights-from timm --onnx v3.onnx
  ctnas export runs/cell --onnx cell.onnx
  ctnas export ofa_482m --weights ofa.pth --data imagenet:/data/imagenet --safetensors ofa.safetensors
  ctnas export runs/s --onnx pick.onnx
  ctnas export runs/s --module network.py --safetensors network.safetensors
  ctnas export darts_v2 --onnx darts.onnx --check-input in.f32 --check-output out.f32`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.arch = args[0]
			if e.onnx+e.safetensors+e.module+e.checkInput+e.checkOutput == "" {
				return usagef("nothing to write: give --onnx, --safetensors or --module")
			}
			if e.calibrate && e.checkInput+e.checkOutput == "" {
				return usagef("--calibrate is for --check-input and --check-output")
			}
			list, err := a.export(cmd.Context(), e)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			return a.printExported(list)
		},
	}
	l := setting.New()
	e.weights.addTo(l)
	l.Bool(&e.weights.allow, "allow-nonfinite", "export weights that are not finite too")
	l.Group("Export")
	l.Text(&e.onnx, "onnx", "ONNX `file` to write")
	l.Text(&e.safetensors, "safetensors", "safetensors `file` to write")
	l.Text(&e.module, "module", "Python `file` to write: a torch.nn.Module, Network, without weights")
	l.Text(&e.checkInput, "check-input", "`file` for two random images")
	l.Text(&e.checkOutput, "check-output", "`file` for their logits")
	l.Bool(&e.calibrate, "calibrate", "give batch norms the statistics of the two images")
	l.Bool(&e.fold, "fold-bn", "multiply batch norms into the layers before them")
	l.Int(&e.classes, "classes", "classes", "classes (0 = as published: 10 or 1000)", 0, 1<<20)
	dataSetting(l, &e.super.Data)
	calibrateSetting(l, &e.super.Calibrate)
	e.size.AddTo(l)
	a.bind(cmd, l)
	return cmd
}

// exported is what `ctnas export` prints of a file.
type exported struct {
	File        string        `json:"file"`
	Arch        string        `json:"arch"`
	From        string        `json:"weights_from"` // whose weights, as in zoo.Variant.String, or random
	Because     string        `json:"weights_known"`
	Constants   zoo.Constants `json:"constants"`
	Input       []int         `json:"input"` // of an image: channels, height, width
	Outputs     int           `json:"outputs"`
	Classes     []string      `json:"classes"` // null where the weights do not say
	Bytes       int           `json:"bytes"`
	Check       string        `json:"check"` // what was compared with ctnas's own logits
	Largest     trainer.Real  `json:"largest_logit"`
	Difference  *trainer.Real `json:"largest_difference"` // of a logit; null where none was compared
	description string
}

func (a *app) export(ctx context.Context, e exporting) ([]exported, error) {
	if err := e.ofFolder(); err != nil {
		return nil, err
	}
	w, values, err := a.exportedWeights(ctx, &e)
	if err != nil {
		return nil, err
	}
	classes := w.classes
	if classes == nil {
		if classes, err = w.Classes(); err != nil {
			return nil, err
		}
	}
	out := w.Net.Nodes[w.Net.Outputs[0].Node].Shape.C
	if len(classes) > 0 && len(classes) != out {
		return nil, fmt.Errorf("%s: names of %d classes for %d outputs", w.Path, len(classes), out)
	}
	planes := randomPlanes(w.Net, a.seed)
	values, logits, err := a.logits(w.Net, values, channelsLast(planes, w.Net.Input()), e.calibrate)
	if err != nil {
		return nil, err
	}
	metadata := trainer.Metadata(e.arch, w.Name(), w.Constants, classes)
	in := w.Net.Input()
	metadata["input"] = fmt.Sprintf("float32 N x %d x %d x %d", in.C, in.H, in.W)
	metadata["outputs"] = fmt.Sprintf("logits of %d classes", out)
	switch {
	case e.calibrate:
		metadata["statistics"] = "batch norms have those of two random images"
	case w.cutFrom != "":
		metadata["statistics"] = w.cutFrom
	}
	whole := exported{Arch: e.arch, From: w.Name(), Because: w.Because, Constants: w.Constants,
		Input: []int{in.C, in.H, in.W}, Outputs: out, Classes: classes,
		Largest: trainer.Real(largest(logits))}
	var done []exported
	add := func(file, check string, size int, difference *trainer.Real, says string) {
		x := whole
		x.File, x.Check, x.Bytes, x.Difference, x.description = file, check, size, difference, says
		done = append(done, x)
	}
	if e.onnx != "" {
		if err := a.exportONNX(e, w.Net, w.Images, values, planes, logits, metadata, add); err != nil {
			return nil, err
		}
	}
	if e.safetensors != "" {
		if err := a.exportSafetensors(e, w.Net, values, metadata, add); err != nil {
			return nil, err
		}
	}
	if e.module != "" {
		source, err := torchmodule.Encode(w.Net)
		if err != nil {
			return nil, err
		}
		if err := files.Write(e.module, source); err != nil {
			return nil, err
		}
		add(e.module, "not run", len(source), nil, "source of a torch.nn.Module, which was not run")
	}
	for path, numbers := range map[string][]float32{e.checkInput: planes, e.checkOutput: logits} {
		if path != "" {
			if err := writeFloats(path, numbers); err != nil {
				return nil, err
			}
		}
	}
	return done, nil
}

// ofFolder replaces the folder of a search, a training or a supernet by the network that it holds, and takes its
// weights where none are given.
func (e *exporting) ofFolder() error {
	c, err := choose(e.arch)
	if err != nil {
		return err
	}
	if e.weights.path == "" {
		if err := c.missing(e.arch); err != nil {
			return err
		}
		if e.weights.path = c.Weights; c.Super.Path != "" {
			e.super.Calibrate, e.super.Seed = c.Super.Calibrate, c.Super.Seed
		}
	}
	e.super.Data = cmp.Or(e.super.Data, c.Super.Data)
	e.arch, e.size = c.Arch, c.sized(e.size)
	if e.weights.path == "" { // weights say it otherwise
		e.classes = cmp.Or(e.classes, c.Classes)
	}
	return nil
}

// exportedWeights are those of the file, or random ones. Without --classes there are as many as the file has outputs
// for.
func (a *app) exportedWeights(ctx context.Context, e *exporting) (*owned, [][]float32, error) {
	build := func(classes int) (*nn.Network, error) {
		net, err := buildNetwork(e.arch, e.size, e.size.Resolution, classes)
		if err != nil {
			return nil, usageError{err}
		}
		return net, nil
	}
	if e.weights.path == "" {
		net, err := build(e.classes)
		if err != nil {
			return nil, nil, err
		}
		if e.weights.from != "" {
			return nil, nil, usagef("--weights-from is for --weights")
		}
		a.log.Warn("the weights are random: without --weights nothing has been learned", "seed", a.seed)
		w := &owned{Weights: &trainer.Weights{}, Provenance: trainer.Provenance{Variant: zoo.Variants(net)[0],
			Random: true, Because: fmt.Sprintf("seed %d", a.seed)}, Net: net}
		return w, w.Net.Initialize(nn.HeFanOut, a.seed), nil
	}
	shared, err := isSupernet(e.weights.path)
	if err != nil {
		return nil, nil, err
	}
	if shared {
		e.super.Path = e.weights.path
		w, values, _, err := a.cutOut(ctx, e.arch, e.size.Resolution, e.super)
		return w, values, err
	}
	w, err := a.openWeights(e.weights, e.arch, e.size, func(w *trainer.Weights) (*nn.Network, error) {
		if i := w.ImageSide(); e.size.Resolution == 0 && i > 0 {
			e.size.Resolution = i
		}
		net, err := build(e.classes)
		if err != nil || e.classes > 0 {
			return net, err
		}
		return build(w.Outputs(net))
	})
	if err != nil {
		return nil, nil, err
	}
	values, err := w.values(nn.HeFanOut)
	return w, values, err
}

// exportTolerance is by how much an exported network's logits may differ from ours, of the largest where that is
// above 1. Random weights, whose logits may be of any size, are multiplied from layer to layer, and so is what is
// rounded.
const exportTolerance = 1e-3

// exportONNX writes a network and, before it, runs what is written and compares its logits with ours.
func (a *app) exportONNX(e exporting, net *nn.Network, images *zoo.Images, values [][]float32, planes,
	logits []float32, metadata map[string]string,
	add func(file, check string, size int, difference *trainer.Real, says string)) error {
	metadata = maps.Clone(metadata)
	delete(metadata, "format") // that of safetensors
	maps.Copy(metadata, preprocessing(images, net.Input().H))
	metadata["batch_norms"] = map[bool]string{true: "folded", false: "kept"}[e.fold]
	o := onnx.Options{FoldNorms: e.fold, Version: thisBuild().Version, Metadata: metadata}
	text, err := onnx.Encode(net, values, o)
	if err != nil {
		return err
	}
	theirs, err := onnx.Run(text, planes)
	if err != nil {
		return fmt.Errorf("%s: running what was to be written: %w", e.onnx, err)
	}
	worst := 0.0
	for i, v := range theirs {
		worst = math.Max(worst, math.Abs(float64(v)-float64(logits[i]))) // NaN stays
	}
	allowed := exportTolerance * math.Max(1, largest(logits))
	if !(worst <= allowed) && !e.weights.allow {
		return fmt.Errorf("%s: the written network's logits would differ from ctnas's by %g, largest %g; allowed "+
			"is %g: nothing was written", e.onnx, worst, largest(logits), allowed)
	}
	metadata["check"] = fmt.Sprintf("logits of %d random images are within %g of ctnas's own, of the largest where "+
		"that is above 1", checkBatch, exportTolerance)
	says := fmt.Sprintf("logits of %d random images within %.2g of ctnas's own (largest %.3g)", checkBatch, worst,
		largest(logits))
	if !(worst <= allowed) {
		says = "not checked: the weights are not finite"
		metadata["check"] = says
	}
	if text, err = onnx.Encode(net, values, o); err != nil {
		return err
	}
	difference := trainer.Real(worst)
	add(e.onnx, metadata["check"], len(text), &difference, says)
	return files.Write(e.onnx, text)
}

// preprocessing says, key by key, what is done to an image before it is the network's input of a side, as text and
// lists in JSON: whoever runs the ONNX file has no other word for it. Of weights that want nothing known it is empty.
func preprocessing(i *zoo.Images, side int) map[string]string {
	if i == nil {
		return nil
	}
	list := func(v [3]float32) string { return fmt.Sprintf("[%g, %g, %g]", v[0], v[1], v[2]) }
	return map[string]string{
		"image_size": strconv.Itoa(side), "image_resize": strconv.Itoa(i.Resized(side)),
		"image_interpolation": i.Interpolation, "image_channels": i.Channels, "image_mean": list(i.Mean),
		"image_std": list(i.Std),
		"preprocessing": fmt.Sprintf("resize the shorter side to %d (%s), take the middle %d x %d, divide by 255, "+
			"subtract image_mean, divide by image_std; %s, channels first; where an image has that size already, it "+
			"is not resized", i.Resized(side), i.Interpolation, side, side, i.Channels),
	}
}

// exportSafetensors writes weights and compares what is read back with them.
func (a *app) exportSafetensors(e exporting, net *nn.Network, values [][]float32, metadata map[string]string,
	add func(file, check string, size int, difference *trainer.Real, says string)) error {
	if err := trainer.WriteWeights(e.safetensors, net, values, metadata); err != nil {
		return err
	}
	back, err := trainer.OpenWeights(e.safetensors)
	if err != nil {
		return err
	}
	back.AllowNonFinite = true
	got := make([][]float32, len(values))
	if err := back.Fill(net, got); err != nil {
		return err
	}
	numbers := 0
	for i := range values {
		numbers += len(values[i])
		for k, v := range values[i] {
			if math.Float32bits(v) != math.Float32bits(got[i][k]) {
				return fmt.Errorf("%s: what was written is read back as other numbers, the first in %q",
					e.safetensors, net.Variables()[i].Name)
			}
		}
	}
	info, err := os.Stat(e.safetensors)
	if err != nil {
		return err
	}
	add(e.safetensors, "read back bit by bit", int(info.Size()), nil, fmt.Sprintf("%d numbers read back the same",
		numbers))
	return nil
}

// printExported says a line of each file.
func (a *app) printExported(list []exported) error {
	for _, x := range list {
		weights := "weights of " + x.From
		if x.From == trainer.RandomWeights {
			weights = "random weights"
		}
		_, err := fmt.Fprintf(a.stdout, "%s: %s, %s (%s), batch norm epsilon %g, %d x %d x %d to %d logits, %.1f "+
			"MB, %s\n", x.File, x.Arch, weights, x.Because, x.Constants.Eps,
			x.Input[0], x.Input[1], x.Input[2], x.Outputs, float64(x.Bytes)/1e6, x.description)
		if err != nil {
			return err
		}
	}
	return nil
}

// largest is the largest size of a number.
func largest(of []float32) float64 {
	m := 0.0
	for _, v := range of {
		m = math.Max(m, math.Abs(float64(v)))
	}
	return m
}

// randomPlanes are random images for a check, NCHW.
func randomPlanes(net *nn.Network, seed uint64) []float32 {
	s := philox.New(seed, philox.PurposeSample, 0)
	planes := make([]float32, checkBatch*net.Input().Len())
	for i := range planes {
		planes[i] = float32(s.NormFloat64())
	}
	return planes
}

// logits runs a network on images, NHWC, whose statistics its batch norms may be given before. It returns the
// network's variables too.
func (a *app) logits(net *nn.Network, values [][]float32, images []float32, calibrate bool) (used [][]float32,
	logits []float32, err error) {
	defer exec.Catch(&err)
	dev, err := a.openOne()
	if err != nil {
		return nil, nil, err
	}
	d, err := exec.Open(dev.Config)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	m, err := trainer.NewModel(d, net, trainer.Options{Batch: checkBatch, EvalOnly: true})
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	m.SetValues(values)
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, make([]int32, checkBatch))
	if calibrate {
		m.BeginRecalibration()
		m.Recalibrate()
	}
	m.Evaluate()
	return m.Values(), m.Logits(), nil
}

// channelsLast brings images from NCHW to NHWC.
func channelsLast(planes []float32, s nn.Shape) []float32 {
	out := make([]float32, 0, len(planes))
	for n := range len(planes) / s.Len() {
		for p := range s.H * s.W {
			for c := range s.C {
				out = append(out, planes[(n*s.C+c)*s.H*s.W+p])
			}
		}
	}
	return out
}

// writeFloats writes numbers as little-endian float32.
func writeFloats(path string, values []float32) error {
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return files.Write(path, out)
}
