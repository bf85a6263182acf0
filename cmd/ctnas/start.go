package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
)

// startWith are the weights that a training of a network for some classes begins with; nil: random ones. Where the
// file's classes are others, what is shaped by their number begins at random. The network stays ours: with its own
// constants and what the recipe does to images, to which the training adapts what others had.
func (a *app) startWith(s trainSettings, net *nn.Network, classes []string) (*trainer.Start, error) {
	if s.Weights == "" {
		return nil, nil
	}
	from := newTrainSettings()
	file := weightsFile{path: s.Weights, from: s.WeightsFrom, flag: "weights-from"}
	if err := from.load(s.Weights); err == nil {
		file.path = filepath.Join(s.Weights, trainer.WeightsName)
	} else if !isNoFolder(err) {
		return nil, err
	}
	if shared, err := isSupernet(s.Weights); err != nil {
		return nil, err
	} else if shared {
		return nil, usagef("%s is a supernet: ctnas export ARCH --weights %[1]s --safetensors FILE cuts a "+
			"network out", s.Weights)
	}
	build := func(classes int) (*nn.Network, error) {
		return buildNetwork(s.Arch, s.Size, net.Input().H, classes)
	}
	outputs := 0
	w, err := a.openWeights(file, s.Arch, s.Size, func(w *trainer.Weights) (*nn.Network, error) {
		if outputs = w.Outputs(net); outputs == 0 {
			outputs = len(classes)
		}
		return build(outputs)
	})
	if err != nil {
		return nil, err
	}
	values := make([][]float32, len(w.Net.Variables()))
	if err := w.Fill(w.Net, values); err != nil {
		return nil, err
	}
	theirs, err := w.Classes()
	if err != nil {
		return nil, err
	}
	same := outputs == len(classes) && (theirs == nil || slices.Equal(theirs, classes))
	if !same {
		more, err := build(len(classes) + 1)
		if err != nil {
			return nil, err
		}
		other := more.Variables()
		for i, v := range net.Variables() {
			if v.Len() != other[i].Len() {
				values[i] = nil
			}
		}
	}
	kept := 0
	hash := sha256.New()
	for i, v := range values {
		number := [8]byte{}
		binary.LittleEndian.PutUint64(number[:], uint64(len(v)))
		hash.Write(number[:])
		for _, x := range v {
			hash.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
		}
		if values[i] != nil {
			kept++
		}
	}
	a.log.Info("begins with weights", "file", file.path, "tensors", kept, "at_random", len(values)-kept,
		"same_classes", same)
	return &trainer.Start{Values: values, Checksum: hex.EncodeToString(hash.Sum(nil))}, nil
}
