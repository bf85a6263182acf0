package zoo

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Origin is the program that weights come from. What a network's constants are belongs to whose weights it has: a
// file of weights does not carry them, and two programs may give the same names to tensors of networks that compute
// different things.
type Origin string

// Origins of weights.
const (
	FromCTNAS        Origin = "ctnas"        // trained here
	FromTimm         Origin = "timm"         // huggingface/pytorch-image-models
	FromTimmTF       Origin = "timm-tf"      // its networks tf_..., with weights of TensorFlow's programs
	FromTorchvision  Origin = "torchvision"  // pytorch/vision
	FromOnceForAll   Origin = "once-for-all" // mit-han-lab/once-for-all
	FromProxylessNAS Origin = "proxylessnas" // mit-han-lab/proxylessnas
	FromDARTS        Origin = "darts"        // quark0/darts and the programs that were made of it
)

// Paddings of convolutions with a stride.
const (
	Symmetric = "symmetric" // PyTorch's: half of the kernel on every side
	SameTF    = "same"      // TensorFlow's SAME: as little as is needed, the larger part below and to the right
)

// Constants are what a network computes with and no file of weights carries.
type Constants struct {
	Eps      float64 `json:"batch_norm_eps"`
	Momentum float64 `json:"batch_norm_momentum"` // see nn.BatchNorm; only a training reads it
	Padding  string  `json:"strided_padding"`
	Dropout  float64 `json:"dropout"` // before the classifier; only a training reads it
	Images   *Images `json:"images"`  // nil: what the images' set says
}

// Images are how an image becomes a network's input: its shorter side is resized to Resized(side), the middle is
// taken, and of each channel of RGB, from 0 to 1, the mean is subtracted and the rest divided by the standard
// deviation.
type Images struct {
	Side          int        `json:"side"`          // that is published; 0: any
	Crop          float64    `json:"crop"`          // the middle's share of the resized side
	Rounding      string     `json:"rounding"`      // of side/Crop to whole pixels: floor, ceil or round
	Interpolation string     `json:"interpolation"` // bilinear or bicubic, both with antialiasing
	Mean          [3]float32 `json:"mean"`
	Std           [3]float32 `json:"std"`
	Channels      string     `json:"channels"` // their order, RGB
}

// Interpolations.
const (
	Bilinear = "bilinear"
	Bicubic  = "bicubic"
)

// Resized is to how many pixels the shorter side of an image is resized before the middle of a side is taken.
func (i *Images) Resized(side int) int {
	exact := float64(side) / i.Crop
	if whole := math.Round(exact); math.Abs(exact-whole) < 1e-9 {
		return int(whole)
	}
	return int(map[string]func(float64) float64{"floor": math.Floor, "ceil": math.Ceil,
		"round": math.Round}[i.Rounding](exact))
}

func (i *Images) String() string {
	return fmt.Sprintf("%s, crop %.4g of the resized image, %s, mean %v, std %v", i.Channels, i.Crop, i.Interpolation,
		i.Mean, i.Std)
}

// Variant is a network as the weights of one program want it.
type Variant struct {
	Origin Origin
	// Tag tells apart published weights of one program and network that want different images; the program's default
	// comes first in a list.
	Tag   string
	Model string // the program's name of the network; empty: the same as here
	Constants
	Source string // where the constants were read

	names naming // of tensors in files; nil: those that the network has
}

// String is "timm", or with a tag "timm:ra_in1k": what Named understands.
func (v Variant) String() string {
	if v.Tag == "" {
		return string(v.Origin)
	}
	return string(v.Origin) + ":" + v.Tag
}

// Computes tells whether a network computes the same from an input under both constants, in evaluation.
func (c Constants) Computes(like Constants) bool {
	return c.Eps == like.Eps && c.Padding == like.Padding
}

var (
	imageNetMean = [3]float32{0.485, 0.456, 0.406}
	imageNetStd  = [3]float32{0.229, 0.224, 0.225}
	halves       = [3]float32{0.5, 0.5, 0.5}
)

// imageNet are images of the usual size with ImageNet's statistics.
func imageNet(interpolation string, crop float64, rounding string) *Images {
	return &Images{224, crop, rounding, interpolation, imageNetMean, imageNetStd, "RGB"}
}

func (i *Images) normalized(mean, std [3]float32) *Images {
	out := *i
	out.Mean, out.Std = mean, std
	return &out
}

// Sources of constants: timm's create_model leaves batch norms as PyTorch has them, but for the networks tf_..., and
// dropout is 0 unless a training asks for it.
const (
	timmSource        = "timm 1.0.31, the models' batch norms and default_cfgs"
	torchvisionSource = "torchvision 0.29.2, the models' batch norms and weights' transforms()"
	ofaSource         = "ofa 0.1.0, bn_param and data_providers/imagenet.py"
	proxylessSource   = "ofa 0.1.0, proxyless_nets.py and han-cai/files proxylessnas/*.config"
	dartsSource       = "quark0/darts cnn/train_imagenet.py and cnn/utils.py"
)

func ofTimm(model, tag string, i *Images) Variant {
	return Variant{Origin: FromTimm, Tag: tag, Model: model, Constants: Constants{1e-5, 0.1, Symmetric, 0, i},
		Source: timmSource}
}

func ofTimmTF(model, tag string, i *Images) Variant {
	return Variant{Origin: FromTimmTF, Tag: tag, Model: model, Constants: Constants{1e-3, 0.1, SameTF, 0, i},
		Source: timmSource}
}

func ofTorchvision(model, tag string, eps, momentum, dropout float64, i *Images, names naming) Variant {
	return Variant{Origin: FromTorchvision, Tag: tag, Model: model, Constants: Constants{eps, momentum, Symmetric,
		dropout, i}, Source: torchvisionSource, names: names}
}

// Images that published weights want.
var (
	bicubic        = imageNet(Bicubic, 0.875, "floor")
	bilinear       = imageNet(Bilinear, 0.875, "floor")
	torchvision256 = imageNet(Bilinear, 224./256, "round") // its weights V1
	torchvision232 = imageNet(Bilinear, 224./232, "round") // its weights V2
	halves90       = imageNet(Bicubic, 0.9, "floor").normalized(halves, halves)
	halves95       = imageNet(Bicubic, 0.95, "floor").normalized(halves, halves)
	fromZeroToOne  = bilinear.normalized([3]float32{}, [3]float32{1, 1, 1})
)

var (
	ofProxyless = Variant{Origin: FromProxylessNAS, Constants: Constants{1e-3, 0.1, Symmetric, 0, imageNet(Bilinear,
		0.875, "ceil")}, Source: proxylessSource}
	// CIFAR-10's are cnn/utils.py's, where nothing is resized.
	dartsCIFAR = &Images{32, 1, "round", Bilinear, [3]float32{0.49139968, 0.48215827, 0.44653124},
		[3]float32{0.24703233, 0.24348505, 0.26158768}, "RGB"}
)

// Variants lists the variants that a network has, by its name: our own first, with the constants that it was built
// with.
func Variants(net *nn.Network) []Variant {
	own := Variant{Origin: FromCTNAS, Constants: constantsOf(net), Source: "the network's definition (trainer/nn/zoo)"}
	var others []Variant
	if n := lookup(net.Name); n != nil {
		others = n.weights
	}
	inFamily := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(net.Name, p) })
	}
	same := own.Constants // but for the images
	switch {
	case inFamily(mobileNetV3Space, "ofa_", "pnag_"):
		same.Images = imageNet(Bilinear, 0.875, "ceil")
		same.Images.Side = net.Input().H
		others = []Variant{{Origin: FromOnceForAll, Constants: same, Source: ofaSource}}
	case inFamily("darts", "pdarts_", "pcdarts_") || net.Name == "cnas" || strings.HasSuffix(net.Name, "_darts_macro"):
		if same.Images = imageNet(Bilinear, 224./256, "round"); net.Find("stem/conv") >= 0 { // the small network's
			same.Images = dartsCIFAR
		}
		others = []Variant{{Origin: FromDARTS, Constants: same, Source: dartsSource}}
	}
	return append([]Variant{own}, others...)
}

// ParseConstants reads constants from JSON and checks them.
func ParseConstants(text string) (Constants, error) {
	var c Constants
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%.200q: %w", text, err)
	}
	if !(c.Eps >= 0 && c.Eps <= 1 && c.Momentum >= 0 && c.Momentum <= 1 && (c.Padding == Symmetric ||
		c.Padding == SameTF) && c.Dropout >= 0 && c.Dropout < 1) {
		return c, fmt.Errorf("%.300q: not constants of a network", text)
	}
	if c.Images != nil {
		if err := c.Images.Check(); err != nil {
			return c, fmt.Errorf("%.300q: %w", text, err)
		}
	}
	return c, nil
}

// Check tells what is wrong with them.
func (i *Images) Check() error {
	switch {
	case i.Side < 0 || i.Side > 4096:
		return fmt.Errorf("images of side %d: want 0 to 4096", i.Side)
	case !(i.Crop > 0.1 && i.Crop <= 1):
		return fmt.Errorf("a crop of %g: want more than 0.1, at most 1", i.Crop)
	case !slices.Contains([]string{"floor", "ceil", "round"}, i.Rounding):
		return fmt.Errorf("rounding %q: want floor, ceil or round", i.Rounding)
	case i.Interpolation != Bilinear && i.Interpolation != Bicubic:
		return fmt.Errorf("interpolation %q: want %s or %s", i.Interpolation, Bilinear, Bicubic)
	case i.Channels != "RGB":
		return fmt.Errorf("channels %q: want RGB", i.Channels)
	case !(slices.Min(i.Std[:]) > 0 && slices.Max(i.Std[:]) < 1e6 && slices.Min(i.Mean[:]) > -1e6 &&
		slices.Max(i.Mean[:]) < 1e6):
		return fmt.Errorf("mean %v and standard deviation %v: want numbers, deviations above 0", i.Mean, i.Std)
	}
	return nil
}

// Named is the variant of a network of a name such as "timm" or "timm:ra_in1k". Without a tag its images are those of
// the program's default weights.
func Named(net *nn.Network, name string) (Variant, error) {
	all := Variants(net)
	var names []string
	for _, v := range all {
		if v.String() == name {
			return v, nil
		}
		if string(v.Origin) == name { // the first of an origin has the images that most likely belong to it
			v.Tag = ""
			return v, nil
		}
		names = append(names, v.String())
	}
	return Variant{}, fmt.Errorf("%q: the weights of %s that are known here are those of %s", name, net.Name,
		strings.Join(names, ", "))
}

// OtherImages lists the published weights that a variant without a tag may be and that want other images than it has.
func (v Variant) OtherImages(net *nn.Network) []Variant {
	var others []Variant
	for _, o := range Variants(net) {
		if v.Tag == "" && o.Origin == v.Origin && o.Images != nil && v.Images != nil && *o.Images != *v.Images {
			others = append(others, o)
		}
	}
	return others
}

// constantsOf are a network's own.
func constantsOf(net *nn.Network) Constants {
	c := Constants{Padding: Symmetric}
	for _, node := range net.Nodes {
		switch op := node.Op.(type) {
		case nn.BatchNorm:
			c.Eps, c.Momentum = op.Eps, op.Momentum
		case nn.Dropout:
			c.Dropout = op.P
		case nn.Conv:
			if p := op.Pad; op.Stride != nn.Square(1) && (p.Top != p.Bottom || p.Left != p.Right) && p.Top >= 0 &&
				p.Left >= 0 {
				c.Padding = SameTF
			}
		}
	}
	return c
}

// Adopt is a network with the constants of a variant of it, and with its names of tensors.
func (v Variant) Adopt(net *nn.Network) *nn.Network {
	out := *net
	out.Nodes = slices.Clone(net.Nodes)
	padded := v.Padding == SameTF && constantsOf(net).Padding != SameTF
	for i := range out.Nodes {
		switch op := out.Nodes[i].Op.(type) {
		case nn.BatchNorm:
			op.Eps, op.Momentum = v.Eps, v.Momentum
			out.Nodes[i].Op = op
		case nn.Dropout:
			out.Nodes[i].Op = nn.Dropout{P: v.Dropout}
		case nn.Conv:
			// the output keeps its size: the input's over the stride, rounded up
			if padded && op.Stride != nn.Square(1) {
				x := out.Inputs(i)[0]
				op.Pad = samePad(op.Kernel, op.Stride, nn.Tensor{Shape: x})
				out.Nodes[i].Op = op
			}
		}
	}
	if v.names != nil {
		v.names(&out)
	}
	return &out
}
