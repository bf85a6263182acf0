package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Teacher is a trained network that another one learns from: see nn.Loss.
type Teacher struct {
	Net     *nn.Network
	Weights string // a file with just its variables
	// Images are those that its weights want; nil: the student's. It sees the student's crops in its own normalisation.
	Images *zoo.Images
	// Classes are the names of its outputs; nil: nobody knows, and they are those of the images in their order.
	Classes []string
}

// distillation is a teacher at work: it makes the logits that the student learns from.
type distillation struct {
	m   *Model
	sum string // SHA-256 of the file of weights
	// order lists which of the teacher's logits are those of the student's classes; nil where they are the same in the
	// same order.
	order  []int32
	logits []float32 // in that order [N, K]
	// scale and shift make a channel of the student's images, normalised by another mean and deviation, one of the
	// teacher's.
	scale, shift [3]float32
	images       []float32 // the teacher's images [N, H, W, C]; nil: they are the student's
	// show makes the student's images, which lie on the device alone, the teacher's; nil on the CPU.
	show *exec.Program
}

// distil puts the teacher beside a model that is trained by a recipe. It is nil without distillation.
func (t *Teacher) distil(student *Model, r Recipe, d *data.Dataset) (*distillation, error) {
	switch {
	case t == nil && r.Distill > 0:
		return nil, fmt.Errorf("distill %g: want a teacher", r.Distill)
	case t == nil:
		return nil, nil
	case r.Distill == 0:
		return nil, fmt.Errorf("there is a teacher, but distill, the weight of its loss, is 0")
	}
	if in, want := t.Net.Input(), student.Net.Input(); in != want {
		return nil, fmt.Errorf("the teacher is for images of %s, want %s", in, want)
	}
	match, err := t.classes(d)
	if err != nil {
		return nil, err
	}
	sum, err := fileSum(t.Weights)
	if err != nil {
		return nil, fmt.Errorf("the teacher's weights: %w", err)
	}
	m, err := NewModel(student.arena.Device(), t.Net, Options{Batch: student.Batch, EvalOnly: true})
	if err != nil {
		return nil, fmt.Errorf("the teacher: %w", err)
	}
	if err := LoadWeights(t.Weights, m); err != nil {
		m.Close()
		return nil, fmt.Errorf("the teacher's weights: %w", err)
	}
	out := &distillation{m: m, sum: sum, order: match.order()}
	own := t.Images != nil && (t.Images.Mean != d.Mean || t.Images.Std != d.Std)
	for c := 0; own && c < 3; c++ {
		std := float64(t.Images.Std[c])
		out.scale[c], out.shift[c] = float32(float64(d.Std[c])/std),
			float32((float64(d.Mean[c])-float64(t.Images.Mean[c]))/std)
	}
	switch in := t.Net.Input(); {
	case m.arena.Device().Accelerated():
		images := tensor.Input{Shape: tensor.Shape{N: student.Batch, H: in.H, W: in.W, C: in.C}, Z: student.Images}
		if own {
			images.Scale, images.Shift = m.arena.Floats(out.scale[:]), m.arena.Floats(out.shift[:])
		}
		out.show = m.arena.NewProgram("show_teacher")
		elementwise.Sum{Terms: []elementwise.Term{{In: images}}, Out: m.Images}.Record(out.show)
	case own:
		out.images = make([]float32, student.Batch*in.Len())
	}
	return out, nil
}

// predict gives the student the teacher's logits of a batch's images, as the student sees them.
func (d *distillation) predict(b *data.Batch, student *Model) {
	if d.show != nil {
		d.show.Run(1)
	} else {
		images := b.Images
		if d.images != nil {
			images = d.images[:len(b.Images)]
			for i, v := range b.Images {
				images[i] = v*d.scale[i%3] + d.shift[i%3]
			}
		}
		d.m.Images.WriteF32(0, images)
	}
	d.m.Labels.WriteI32(0, b.Labels)
	d.m.Evaluate()
	student.Teacher.WriteF32(0, d.chosen(d.m.Logits()))
}

// classes matches the classes of a set with the teacher's, which must know all of them.
func (t *Teacher) classes(d *data.Dataset) (*Matching, error) {
	match, err := MatchClasses(t.Classes, t.Net.Nodes[t.Net.Outputs[0].Node].Shape.C, d, d.Train)
	if err != nil {
		return nil, fmt.Errorf("the teacher: %w", err)
	}
	if have, named := t.Net.Nodes[t.Net.Outputs[0].Node].Shape.C, len(match.Network); have != named {
		return nil, fmt.Errorf("the teacher has %d outputs for %d classes", have, named)
	}
	for i, to := range match.to {
		if to < 0 { // no image is of it, but the student has an output for it
			return nil, fmt.Errorf("the teacher does not know the class %s", d.Classes[i])
		}
	}
	return match, nil
}

// chosen picks the logits of the student's classes, in their order, from the teacher's logits of a batch.
func (d *distillation) chosen(logits []float32) []float32 {
	if d.order == nil {
		return logits
	}
	d.logits = d.logits[:0]
	outputs := len(logits) / d.m.Batch
	for i := range d.m.Batch {
		for _, k := range d.order {
			d.logits = append(d.logits, logits[i*outputs+int(k)])
		}
	}
	return d.logits
}

func (d *distillation) checksum() string {
	if d == nil {
		return ""
	}
	return d.sum
}

// fileSum is the SHA-256 of a file, in hexadecimal.
func fileSum(path string) (string, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
