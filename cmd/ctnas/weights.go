package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// weightsFile is a file of weights as flags name it.
type weightsFile struct {
	path, from string
	allow      bool   // numbers that are not finite
	flag       string // that from comes from
}

func (w *weightsFile) addTo(l *setting.List) {
	w.flag = "weights-from"
	l.Group("Weights")
	l.Text(&w.path, "weights", "`file` of safetensors or PyTorch (.pth)")
	l.Text(&w.from, "weights-from", "the `program` whose weights they are, which says batch norm's epsilon, paddings "+
		"and images: ctnas, timm, timm-tf, torchvision, once-for-all, proxylessnas, darts; ctnas zoo NAME lists "+
		"a network's (empty = by the file's metadata and names)")
}

// owned are weights with whose they are.
type owned struct {
	*trainer.Weights
	trainer.Provenance
	Net     *nn.Network // with the owner's constants and names of tensors
	cutFrom string      // how the statistics of a sub-network that was cut out came about; empty: it is none
	classes []string    // of the logits, of a sub-network
}

// openWeights reads weights for a network, that of an architecture in words and of a size, and says on
// stderr whose they are and what constants are in use.
func (a *app) openWeights(f weightsFile, arch string, size trainer.Size,
	build func(w *trainer.Weights) (*nn.Network, error)) (*owned, error) {
	w, err := trainer.OpenWeights(f.path)
	if err != nil {
		return nil, err
	}
	w.AllowNonFinite = f.allow
	net, err := build(w)
	if err != nil {
		return nil, err
	}
	if said := w.Metadata[trainer.ArchKey]; said != "" && said != arch {
		other, err := buildNetwork(said, size, net.Input().H, net.Nodes[net.Outputs[0].Node].Shape.C)
		if err == nil && fits(net, other) && !computes(net, other) {
			return nil, fmt.Errorf("%s: the file says that its weights are of %s, whose tensors have the same "+
				"names and shapes "+
				"but which computes something else than %s", f.path, said, arch)
		}
	}
	p, err := w.Identify(net, f.from)
	var ambiguous *trainer.AmbiguousError
	switch {
	case errors.As(err, &ambiguous):
		return nil, usagef("%w: say whose they are, --%s %s", err, f.flag, strings.Join(ambiguous.Names, " or "))
	case err != nil && f.from != "":
		return nil, usagef("--%s %w", f.flag, err)
	case err != nil:
		return nil, err
	}
	a.log.Info("weights", "file", f.path, "from", p.Name(), "known", p.Because, "batch_norm_epsilon", p.Eps,
		"strided_padding", p.Padding)
	return &owned{Weights: w, Provenance: p, Net: p.Adopt(net)}, nil
}

// fits tells whether two networks have tensors of the same names and shapes.
func fits(a, b *nn.Network) bool {
	return slices.EqualFunc(a.Variables(), b.Variables(), func(x, y nn.Variable) bool {
		return x.Name == y.Name && slices.Equal(x.Shape, y.Shape)
	})
}

// computes tells whether two networks compute the same in evaluation, where dropout does nothing.
func computes(a, b *nn.Network) bool {
	return slices.EqualFunc(a.Nodes, b.Nodes, func(x, y nn.Node) bool {
		switch x.Op.(type) {
		case nn.Dropout, nn.DropPath:
			return slices.Equal(x.In, y.In)
		}
		return x.Op == y.Op && slices.Equal(x.In, y.In)
	})
}

// values are the weights, in the layout of memory. Those of auxiliary heads that the file leaves out are left as init
// has them.
func (o *owned) values(init nn.Initializer) ([][]float32, error) {
	values := o.Net.Initialize(init, 0)
	return values, o.Fill(o.Net, values)
}

// pictures are the flags that change what images weights want.
type pictures struct {
	crop          float64
	interpolation string
	mean, std     []float32
}

func (p *pictures) addTo(l *setting.List) {
	l.Group("Images")
	l.Float(&p.crop, "crop", "", "share of the resized image's shorter side that is shown (0 = as the weights want it)",
		0, 1)
	l.Text(&p.interpolation, "interpolation", "how images are resized (empty = as the weights want it)").
		OneOf("bilinear", "bicubic")
	l.Floats32(&p.mean, "mean", "", "mean of red, green and blue (empty = as the weights want it)", 0, 1)
	l.Floats32(&p.std, "std", "", "standard deviation of red, green and blue (empty = as the weights want it)", 0, 1)
}

// none tells that no flag was given.
func (p *pictures) none() bool {
	return p.crop == 0 && p.interpolation == "" && len(p.mean)+len(p.std) == 0
}

// change is what images there are with the flags.
func (p *pictures) change(i zoo.Images) (*zoo.Images, error) {
	if p.crop != 0 {
		i.Crop = p.crop
	}
	if p.interpolation != "" {
		i.Interpolation = p.interpolation
	}
	for _, f := range []struct {
		flag string
		from []float32
		to   *[3]float32
	}{{"mean", p.mean, &i.Mean}, {"std", p.std, &i.Std}} {
		if len(f.from) != 0 && len(f.from) != 3 {
			return nil, usagef("--%s %v: want three numbers", f.flag, f.from)
		}
		copy(f.to[:], f.from)
	}
	if err := i.Check(); err != nil {
		return nil, usageError{fmt.Errorf("--crop, --interpolation, --mean, --std: %w", err)}
	}
	return &i, nil
}
