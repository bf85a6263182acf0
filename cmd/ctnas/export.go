package main

import (
	"encoding/binary"
	"math"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/onnx"
)

// exporting are the flags of `ctnas export`.
type exporting struct {
	arch, weights, onnx, safetensors, checkInput, checkOutput string
	fold, calibrate                                           bool
	recipe                                                    trainer.Recipe // the measures of a network of cells
	side, classes                                             int
}

// checkBatch is how many images a check input has.
const checkBatch = 2

func newExportCommand(a *app) *cobra.Command {
	var e exporting
	cmd := &cobra.Command{
		Use:   "export ARCH [--onnx F] [--safetensors F]",
		Short: "Write a network for other programs",
		Long: `Writes a network with its weights as an ONNX file (opset 17, any batch), or the weights as safetensors under the names that PyTorch's programs use.
Without --weights they are a random start.

--check-input and --check-output write two random images and the logits that ctnas computes for them, as raw little-endian float32, images in the order of ONNX
(NCHW), for a comparison with another program. With --calibrate batch norms get the statistics of these images, without which the logits of random weights may
be of any size.

` + archHelp,
		Example: `  ctnas export mobilenetv3_large_1.0 --weights mobilenetv3_large_100.safetensors --onnx v3.onnx --fold-bn
  ctnas export ofa_230m --weights ofa.pth --safetensors ofa.safetensors
  ctnas export darts_v2 --onnx darts.onnx --check-input in.f32 --check-output out.f32`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			e.arch = args[0]
			if e.onnx+e.safetensors+e.checkInput+e.checkOutput == "" {
				return usagef("nothing to write: give --onnx or --safetensors")
			}
			if e.calibrate && e.checkInput+e.checkOutput == "" {
				return usagef("--calibrate is for --check-input and --check-output")
			}
			return a.export(e)
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.weights, "weights", "", "`file` of safetensors or PyTorch (.pth)")
	f.StringVar(&e.onnx, "onnx", "", "ONNX `file` to write")
	f.StringVar(&e.safetensors, "safetensors", "", "safetensors `file` to write")
	f.StringVar(&e.checkInput, "check-input", "", "`file` for two random images")
	f.StringVar(&e.checkOutput, "check-output", "", "`file` for their logits")
	f.BoolVar(&e.calibrate, "calibrate", false, "give batch norms the statistics of the two images")
	f.BoolVar(&e.fold, "fold-bn", false, "multiply batch norms into the layers before them")
	f.IntVar(&e.recipe.Channels, "channels", 0, "channels of a cell network's stem, or of the first nodes of DARTS (0 = as published)")
	f.IntVar(&e.recipe.Stacks, "stacks", 0, "stacks of a network of cells (0 = as published)")
	f.IntVar(&e.recipe.Modules, "modules", 0, "cells a stack (0 = as published)")
	f.IntVar(&e.side, "resolution", 0, "side of the images (0 = as published)")
	f.IntVar(&e.classes, "classes", 0, "classes (0 = as published: 10 or 1000)")
	return cmd
}

func (a *app) export(e exporting) error {
	net, err := buildNetwork(e.arch, e.recipe, e.side, e.classes)
	if err != nil {
		return usageError{err}
	}
	values := net.Initialize(nn.HeFanOut, a.seed)
	if e.weights != "" {
		if err := trainer.ReadWeights(e.weights, net, values); err != nil {
			return err
		}
	}
	if e.checkInput+e.checkOutput != "" {
		if values, err = a.writeCheck(e, net, values); err != nil {
			return err
		}
	}
	if e.onnx != "" {
		if err := onnx.Write(e.onnx, net, values, onnx.Options{FoldNorms: e.fold, Version: thisBuild().Version}); err != nil {
			return err
		}
	}
	if e.safetensors != "" {
		return trainer.WriteWeights(e.safetensors, net, values, map[string]string{"format": "pt", "architecture": e.arch})
	}
	return nil
}

// writeCheck writes random images and what the network says of them. It returns the variables that it used.
func (a *app) writeCheck(e exporting, net *nn.Network, values [][]float32) ([][]float32, error) {
	s := philox.New(a.seed, philox.PurposeSample, 0)
	planes := make([]float32, checkBatch*net.Input().Len())
	for i := range planes {
		planes[i] = float32(s.NormFloat64())
	}
	if e.checkInput != "" {
		if err := writeFloats(e.checkInput, planes); err != nil {
			return nil, err
		}
	}
	values, logits, err := a.logits(net, values, channelsLast(planes, net.Input()), e.calibrate)
	if err != nil || e.checkOutput == "" {
		return values, err
	}
	return values, writeFloats(e.checkOutput, logits)
}

// logits runs a network on images, NHWC, whose statistics its batch norms may be given before. It returns the network's variables too.
func (a *app) logits(net *nn.Network, values [][]float32, images []float32, calibrate bool) (used [][]float32, logits []float32, err error) {
	defer exec.Catch(&err)
	place, err := a.openOne()
	if err != nil {
		return nil, nil, err
	}
	d, err := exec.Open(place.Config)
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
