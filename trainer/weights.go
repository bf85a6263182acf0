package trainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// SaveWeights writes a model's variables under PyTorch's names and in its order.
func SaveWeights(path string, m *Model, metadata map[string]string) error {
	return WriteWeights(path, m.Net, m.Values(), metadata)
}

// WriteWeights writes values of a network's variables, in the layout of memory, likewise.
func WriteWeights(path string, net *nn.Network, values [][]float32, metadata map[string]string) error {
	var tensors []format.Tensor
	for i, v := range net.Variables() {
		tensors = append(tensors, format.Tensor{Name: v.Name, Shape: v.TorchShape(), Data: nn.ToTorch(v, values[i])})
	}
	return format.WriteSafetensors(path, tensors, metadata)
}

// Entries of the metadata of weights files and of ONNX files.
const (
	ArchKey      = "arch"         // the architecture in words
	FromKey      = "weights_from" // the name of a zoo.Variant, or RandomWeights
	ConstantsKey = "constants"    // what the weights want and do not hold: zoo.Constants in JSON
	ClassesKey   = "classes"      // names of the classes in the order of the logits, a list in JSON

	// Of a supernet's: the name of the space whose networks are its paths, and of how many training images, the first
	// that data.Dataset.HeldOut draws, it has seen none.
	SpaceKey   = "space"
	HeldOutKey = "held_out_images"
	// SizeKey is the size of its networks as they were trained: a Size in JSON, of which 0 is the space's own.
	SizeKey = "network_size"
	// ImagesKey is what was done to the images that it was trained on: Images in JSON.
	ImagesKey = "training_images"
)

// RandomWeights says that nobody has trained them. Their constants are those of a training here.
const RandomWeights = "random"

// AddClasses puts names of classes into metadata; none: nothing is put there.
func AddClasses(metadata map[string]string, names []string) {
	if len(names) > 0 {
		text, _ := json.Marshal(names) // a list of texts
		metadata[ClassesKey] = string(text)
	}
}

// AddSize puts the size of a supernet's networks into metadata.
func AddSize(metadata map[string]string, s Size) {
	text, _ := json.Marshal(s) // numbers
	metadata[SizeKey] = string(text)
}

// AddImages puts what a supernet's training did to images into metadata.
func AddImages(metadata map[string]string, i Images) {
	text, _ := json.Marshal(i) // finite numbers
	metadata[ImagesKey] = string(text)
}

// TrainingImages is what a supernet's training did to images; zero where the file does not say it.
func (w *Weights) TrainingImages() (i Images, err error) {
	text, found := w.Metadata[ImagesKey]
	if !found {
		return i, nil
	}
	err = json.Unmarshal([]byte(text), &i)
	if err == nil {
		err = i.check()
	}
	if err != nil {
		return i, fmt.Errorf("%s: metadata %q is %.200q, want what is done to images in JSON: %w", w.Path, ImagesKey,
			text, err)
	}
	return i, nil
}

// check tells whether the numbers are some that a recipe may have.
func (i Images) check() error {
	r := RecipeDefaults()
	r.Images = i
	return r.Check()
}

// Size is that of a supernet's networks; zero where the file does not say it.
func (w *Weights) Size() (s Size, err error) {
	text, found := w.Metadata[SizeKey]
	if !found {
		return s, nil
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil || min(s.Channels, s.Stacks, s.Modules, s.Resolution) < 0 {
		return s, fmt.Errorf("%s: metadata %q is %.200q, want channels, stacks, modules and resolution in JSON", w.Path,
			SizeKey, text)
	}
	return s, nil
}

// Metadata is what a file of weights says of itself: the architecture, whose weights they are (a variant's name or
// RandomWeights), their constants, and names of classes where they are known.
func Metadata(arch, from string, c zoo.Constants, classes []string) map[string]string {
	text, _ := json.Marshal(c) // finite numbers and texts
	m := map[string]string{"format": "pt", ArchKey: arch, FromKey: from, ConstantsKey: string(text)}
	AddClasses(m, classes)
	return m
}

// Weights are what a file of weights holds.
type Weights struct {
	Path     string
	Metadata map[string]string // of safetensors; empty otherwise
	// AllowNonFinite reads numbers that are not finite too, and variances below 0.
	AllowNonFinite bool

	tensors []format.Tensor
}

// OpenWeights reads a file of safetensors or PyTorch.
func OpenWeights(path string) (*Weights, error) {
	tensors, metadata, err := format.Read(path)
	if err != nil {
		return nil, err
	}
	return &Weights{Path: path, Metadata: metadata, tensors: tensors}, nil
}

// Provenance is whose weights a file holds.
type Provenance struct {
	zoo.Variant
	Random  bool   // nobody has trained them
	Because string // how it is known
}

// Name is the variant's, or RandomWeights.
func (p Provenance) Name() string {
	if p.Random {
		return RandomWeights
	}
	return p.Variant.String()
}

// AmbiguousError is that of weights whose names are those of more than one program.
type AmbiguousError struct {
	Names []string // of the programs
	text  string
}

func (e *AmbiguousError) Error() string { return e.text }

// Identify tells whose weights of a network a file holds: what from says, the name of a variant (see zoo.Named), or
// where it is empty what the file says of itself, or what its tensors' names leave. It is an AmbiguousError where
// they leave programs whose networks of these names compute different things.
func (w *Weights) Identify(net *nn.Network, from string) (Provenance, error) {
	said := w.Metadata[FromKey]
	if from != "" {
		v, err := zoo.Named(net, from)
		if err != nil {
			return Provenance{}, err
		}
		if of, _, _ := strings.Cut(said, ":"); said != "" && of != string(v.Origin) {
			return Provenance{}, fmt.Errorf("%s: the file says that its weights are those of %s, not of %s", w.Path,
				said, from)
		}
		return Provenance{Variant: v, Because: "as was said"}, nil
	}
	all := zoo.Variants(net)
	switch {
	case said == "" && w.Metadata[ArchKey] != "": // trained here before files said more
		return Provenance{Variant: all[0], Because: "the file names an architecture as ctnas does"}, nil
	case said != "":
		p := Provenance{Variant: all[0], Random: said == RandomWeights, Because: "the file says so"}
		var err error
		if !p.Random {
			if p.Variant, err = zoo.Named(net, said); err != nil {
				return p, fmt.Errorf("%s: metadata %q: %w", w.Path, FromKey, err)
			}
		}
		if text, found := w.Metadata[ConstantsKey]; found {
			if p.Constants, err = zoo.ParseConstants(text); err != nil {
				return p, fmt.Errorf("%s: metadata %q: %w", w.Path, ConstantsKey, err)
			}
		}
		return p, nil
	}
	names := map[string]bool{}
	for _, t := range w.tensors {
		names[canonical(t.Name)] = true
	}
	supernet := w.Supernet()
	var fit []zoo.Variant
	most := 0
	for _, v := range all {
		found := 0
		for _, variable := range v.Adopt(net).Variables() {
			if names[canonical(variable.Name)] {
				found++
			}
		}
		if supernet && v.Origin == zoo.FromOnceForAll {
			found = len(names)
		}
		if found > most {
			fit, most = nil, found
		}
		if found == most {
			fit = append(fit, v)
		}
	}
	if len(fit) > 1 && fit[0].Origin == zoo.FromCTNAS { // ctnas names the owner in its files
		fit = fit[1:]
	}
	p := Provenance{Variant: fit[0], Because: "by the tensors' names"}
	if p.Origin == zoo.FromCTNAS {
		p.Because = "no other program's weights of it are known"
	}
	for _, v := range fit[1:] {
		if !v.Computes(p.Constants) {
			return p, &AmbiguousError{[]string{string(p.Origin), string(v.Origin)},
				fmt.Sprintf("%s: its tensors have the names of two programs: %s (batch norm epsilon %g, %s padding) "+
					"and %s (%g, %s), whose networks compute different things", w.Path, p.Origin, p.Eps, p.Padding,
					v.Origin, v.Eps, v.Padding)}
		}
		if v.Origin == p.Origin {
			p.Tag = "" // the names do not tell
		}
	}
	return p, nil
}

// Outputs is how many logits the file's weights of a network give; 0 where they do not say. The network may have
// another number.
func (w *Weights) Outputs(net *nn.Network) int {
	for _, x := range zoo.Variants(net) {
		adopted := x.Adopt(net)
		for _, v := range adopted.Variables() {
			if v.Node != net.Outputs[0].Node || v.Role != nn.Weight {
				continue
			}
			for _, t := range w.tensors {
				if name := canonical(t.Name); len(t.Shape) > 0 && (name == v.Name || strings.TrimSuffix(name,
					".linear.weight") == strings.TrimSuffix(v.Name, ".weight")) {
					return t.Shape[0]
				}
			}
		}
	}
	return 0
}

// ImageSide is the side of the images that the file's weights were trained on; 0 where it does not say.
func (w *Weights) ImageSide() int {
	c, err := zoo.ParseConstants(w.Metadata[ConstantsKey])
	if err != nil || c.Images == nil {
		return 0
	}
	return c.Images.Side
}

// Supernet tells whether the tensors are those of a supernet, whose running statistics are of no one network: the file
// says the space of its paths, or has once-for-all's matrices of kernels.
func (w *Weights) Supernet() bool {
	return w.Metadata[SpaceKey] != "" || slices.ContainsFunc(w.tensors, func(t format.Tensor) bool {
		return strings.HasSuffix(t.Name, "to3_matrix")
	})
}

// Classes are the names of the classes that the file says its logits are of, in their order; nil where it does not say.
func (w *Weights) Classes() ([]string, error) {
	text, found := w.Metadata[ClassesKey]
	if !found {
		return nil, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%s: metadata %q is %.200q, want a list of names in JSON", w.Path, ClassesKey, text)
	}
	return names, nil
}

// LoadWeights sets a model's variables from a file that holds just these.
func LoadWeights(path string, m *Model) error {
	values := m.Values()
	if err := ReadWeights(path, m.Net, values); err != nil {
		return err
	}
	m.SetValues(values)
	return nil
}

// ReadWeights is Fill with the weights of a file.
func ReadWeights(path string, net *nn.Network, values [][]float32) error {
	w, err := OpenWeights(path)
	if err != nil {
		return err
	}
	return w.Fill(net, values)
}

// ErrSupernet is that of a supernet's weights where those of one network are wanted.
var ErrSupernet = errors.New("these are the weights of a supernet, whose statistics are of no one network: `ctnas " +
	"export ARCH --weights FILE --data D --safetensors OUT` cuts a network out of them")

// ErrNotFinite is that of weights with which nothing can be computed.
var ErrNotFinite = errors.New("weights that are not finite")

// defect says what of a variable's numbers cannot be computed with; empty: nothing. A variance is not negative.
func defect(v nn.Variable, data []float32) string {
	bad, first := 0, 0
	for i, x := range data {
		if x-x != 0 || v.Role == nn.Variance && x < 0 { // infinities and NaN are not 0
			if bad == 0 {
				first = i
			}
			bad++
		}
	}
	if bad == 0 {
		return ""
	}
	return fmt.Sprintf("tensor %q has %d of %d numbers that are no %s, the first is number %d, %g", v.Name, bad,
		len(data),
		map[bool]string{true: "variance", false: "finite weight"}[v.Role == nn.Variance], first, data[first])
}

// Fill replaces the values of a network's variables, in the layout of memory, by those of the file, which must hold
// just these. Auxiliary heads may be missing in the file or in the network, and PyTorch's counts of batches are not
// used. A supernet's weights are an error: FillShared reads them, and Supernet.Path cuts a network out.
func (w *Weights) Fill(net *nn.Network, values [][]float32) error {
	if w.Supernet() {
		return fmt.Errorf("%s: %w", w.Path, ErrSupernet)
	}
	byName := map[string]format.Tensor{}
	for _, t := range w.tensors {
		byName[canonical(t.Name)] = t
	}
	needed := net.Ancestors(net.Outputs[0].Node)
	wrong, more := "", 0
	for i, v := range net.Variables() {
		t, ok := byName[canonical(v.Name)]
		if !ok {
			if !needed[v.Node] {
				continue
			}
			return fmt.Errorf("%s: there is no tensor %q", w.Path, v.Name)
		}
		delete(byName, canonical(v.Name))
		if !slices.Equal(t.Shape, v.TorchShape()) {
			return fmt.Errorf("%s: tensor %q has shape %v, want %v", w.Path, v.Name, t.Shape, v.TorchShape())
		}
		if wrong == "" {
			wrong = defect(v, t.Data)
		} else if defect(v, t.Data) != "" {
			more++
		}
		values[i] = nn.FromTorch(v, t.Data)
	}
	if wrong != "" && !w.AllowNonFinite {
		if more > 0 {
			wrong += fmt.Sprintf(", and %d more tensors are like it", more)
		}
		return fmt.Errorf("%s: %w: %s", w.Path, ErrNotFinite, wrong)
	}
	for _, t := range w.tensors {
		name := canonical(t.Name)
		if _, left := byName[name]; left && !strings.HasSuffix(name, ".num_batches_tracked") &&
			!strings.HasPrefix(name, "auxiliary") {
			return fmt.Errorf("%s: the network has no tensor %q (%d tensors, %d variables)", w.Path, t.Name,
				len(w.tensors), len(values))
		}
	}
	return nil
}

// canonical is a name without what PyTorch's wrappers for several GPUs put in front of it, and with the one of the
// two names that the convolutions of a block have in the programs of mit-han-lab.
func canonical(name string) string {
	return strings.Replace(strings.TrimPrefix(name, "module."), ".mobile_inverted_conv.", ".conv.", 1)
}
