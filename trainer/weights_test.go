package trainer

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

func floats(t *testing.T, path string) []float32 {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	out := make([]float32, len(text)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(text[4*i:]))
	}
	return out
}

// predict are the logits of two images.
func predict(t *testing.T, net *nn.Network, values [][]float32, images []float32) []float32 {
	m, err := NewModel(openTest(t), net, Options{Batch: 2, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.SetValues(values)
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, []int32{0, 0})
	m.Evaluate()
	return m.Logits()
}

// peer is a network and a program that has it, from which scripts/peers/zoo_weights.py makes weights.
type peer struct {
	name, from, model string
	ambiguous         bool // the names of tensors leave two programs
}

// peers are those of every network that timm or torchvision has, and two of once-for-all's.
func peers(t *testing.T) []peer {
	list := []peer{{"ofa_389m", "once-for-all", "ofa_389m", false}, {"ofa_482m", "once-for-all", "ofa_482m", false}}
	for _, name := range zoo.Names() {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		models := map[zoo.Origin]string{}
		for _, v := range zoo.Variants(net) {
			models[v.Origin] = v.Model
		}
		for _, from := range []zoo.Origin{zoo.FromTimm, zoo.FromTimmTF, zoo.FromTorchvision} {
			if models[from] != "" {
				ambiguous := from != zoo.FromTorchvision && models[zoo.FromTimm] != "" && models[zoo.FromTimmTF] != ""
				list = append(list, peer{name, string(from), models[from], ambiguous})
			}
		}
	}
	require.GreaterOrEqual(t, len(list), 15)
	return list
}

// Weights that timm, torchvision and once-for-all made give their logits here, from each kind of file, where the
// networks are just as these programs build them: who made them says with which constants. Another program's
// constants give other logits. CTNAS_TEST_ZOO=all takes images of the published size.
func TestWeightsOfPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("runs PyTorch")
	}
	python := testdata.Python(t, "torch", "torchvision", "timm", "safetensors", "ofa")
	dir := t.TempDir()
	side := 64
	if os.Getenv("CTNAS_TEST_ZOO") == "all" {
		side = 224
	}
	args := []string{filepath.Join(testdata.Root(), "scripts", "peers", "zoo_weights.py"), dir, strconv.Itoa(side)}
	peers := peers(t)
	for _, p := range peers {
		args = append(args, p.name+"@"+p.from+"="+p.model)
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	require.NoError(t, err, string(out))
	net, err := zoo.Build("ofa_389m", side, 1000)
	require.NoError(t, err)
	part := net.Initialize(nn.HeFanOut, 1)
	require.NoError(t, ReadWeights(filepath.Join(dir, "ofa_389m@once-for-all.part.safetensors"), net, part))
	super, err := OpenWeights(filepath.Join(dir, "ofa_389m@once-for-all.supernet.pth"))
	require.NoError(t, err)
	require.ErrorIs(t, super.Fill(net, part), ErrSupernet)
	owner, err := super.Identify(net, "")
	require.NoError(t, err)
	require.Equal(t, "once-for-all", owner.Name())
	whole := cutOut(t, super, "ofa_389m", side)
	for i, v := range net.Variables() {
		worst := 0.0
		for k, w := range part[i] {
			worst = math.Max(worst, math.Abs(float64(w-whole[i][k])))
		}
		require.LessOrEqual(t, worst, 1e-6, v.Name)
	}
	for _, p := range peers {
		net, err := zoo.Build(p.name, side, 1000)
		require.NoError(t, err)
		path := filepath.Join(dir, p.name+"@"+p.from)
		want := floats(t, path+".out.f32")
		largest := 0.0
		for _, v := range want {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		worst := func(net *nn.Network, values [][]float32) float64 {
			worst := 0.0
			for i, v := range predict(t, net, values, floats(t, path+".in.f32")) {
				worst = math.Max(worst, math.Abs(float64(v-want[i])))
			}
			return worst
		}
		var first [][]float32
		for _, kind := range []string{".safetensors", ".pth", ".legacy.pth"} {
			w, err := OpenWeights(path + kind)
			require.NoError(t, err)
			owner, err := w.Identify(net, "")
			if p.ambiguous {
				var ambiguous *AmbiguousError
				require.ErrorAs(t, err, &ambiguous, path)
				require.Equal(t, []string{"timm", "timm-tf"}, ambiguous.Names)
				owner, err = w.Identify(net, p.from)
			}
			require.NoError(t, err)
			require.Equal(t, p.from, string(owner.Origin))
			adopted := owner.Adopt(net)
			values := adopted.Initialize(nn.HeFanOut, 1)
			require.NoError(t, w.Fill(adopted, values))
			if first != nil {
				require.Equal(t, first, values, path+kind)
				continue
			}
			first = values
			got := worst(adopted, values)
			require.LessOrEqual(t, got, 1e-4*math.Min(1, largest), path)
			t.Logf("%s: largest difference %.2g of a largest logit of %.3g", filepath.Base(path), got, largest)
			for _, other := range zoo.Variants(net) {
				if !other.Computes(owner.Constants) {
					require.Greater(t, worst(other.Adopt(net), values), 1e-3*largest, "%s with the constants of %s",
						path, other)
				}
			}
			require.Empty(t, owner.Tag)
			// Written again they are that program's: its names and shapes.
			again := filepath.Join(dir, "again.safetensors")
			require.NoError(t, WriteWeights(again, adopted, values, Metadata(p.name, owner.Name(), owner.Constants,
				nil)))
			back, err := OpenWeights(again)
			require.NoError(t, err)
			known, err := back.Identify(net, "")
			require.NoError(t, err)
			require.Equal(t, owner.Constants, known.Constants)
			shapes := func(w *Weights) map[string][]int {
				m := map[string][]int{}
				for _, x := range w.tensors {
					if !strings.HasSuffix(x.Name, ".num_batches_tracked") {
						m[x.Name] = x.Shape
					}
				}
				return m
			}
			require.Equal(t, shapes(w), shapes(back))
		}
	}
}

// cutOut cuts a network of the zoo out of a supernet's weights, on the device.
func cutOut(t *testing.T, super *Weights, name string, side int) [][]float32 {
	o, _, ok := zoo.SubNetwork(name)
	require.True(t, ok)
	shared, err := o.Supernet(1000)
	require.NoError(t, err)
	values, err := super.FillShared(shared)
	require.NoError(t, err)
	s, err := NewSupernet(openTest(t), shared, SupernetOptions{Batch: 2, Image: nn.Shape{H: side, W: side, C: 3},
		Classes: 1000})
	require.NoError(t, err)
	defer s.Close()
	s.SetValues(values)
	m, err := s.Path(name, PathOptions{EvalOnly: true}, func() (nn.Path, error) { return o.Path(side, 1000) })
	require.NoError(t, err)
	return m.Values()
}

// Names of classes are kept as they are, and what is not a list of them is said.
func TestClassesInWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	open := func(metadata map[string]string) *Weights {
		require.NoError(t, format.WriteSafetensors(path, []format.Tensor{{Name: "a", Shape: []int{1},
			Data: []float32{1}}}, metadata))
		w, err := OpenWeights(path)
		require.NoError(t, err)
		return w
	}
	names := []string{"n01440764", `tench, "Tinca tinca"`, "日本"}
	metadata := map[string]string{"format": "pt"}
	AddClasses(metadata, names)
	got, err := open(metadata).Classes()
	require.NoError(t, err)
	require.Equal(t, names, got)
	metadata = map[string]string{"format": "pt"}
	AddClasses(metadata, nil)
	got, err = open(metadata).Classes()
	require.NoError(t, err)
	require.Nil(t, got)
	for _, text := range []string{"cat", "[]", `{"a": 1}`, "null", "[1]"} {
		_, err = open(map[string]string{ClassesKey: text}).Classes()
		require.ErrorContains(t, err, `w.safetensors: metadata "classes" is `)
	}
}

// The size of a supernet's networks is read as it was written; a file with a space is a supernet's.
func TestSizeInWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	open := func(metadata map[string]string) *Weights {
		require.NoError(t, format.WriteSafetensors(path, []format.Tensor{{Name: "a", Shape: []int{1},
			Data: []float32{1}}}, metadata))
		w, err := OpenWeights(path)
		require.NoError(t, err)
		return w
	}
	metadata := map[string]string{SpaceKey: "nasbench101-v4"}
	want := Size{Channels: 8, Stacks: 3, Modules: 1, Resolution: 16}
	AddSize(metadata, want)
	w := open(metadata)
	got, err := w.Size()
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.True(t, w.Supernet())
	w = open(map[string]string{"format": "pt"})
	got, err = w.Size()
	require.NoError(t, err)
	require.Zero(t, got)
	require.False(t, w.Supernet())
	for _, text := range []string{"8", "{", `{"channels": -1}`} {
		_, err = open(map[string]string{SizeKey: text}).Size()
		require.ErrorContains(t, err, `w.safetensors: metadata "network_size" is `)
	}
	images := Images{AreaMin: 0.25, Jitter: 0.4, Saturation: 0.5}
	metadata = map[string]string{}
	AddImages(metadata, images)
	done, err := open(metadata).TrainingImages()
	require.NoError(t, err)
	require.Equal(t, images, done)
	for _, text := range []string{"8", `{"area_min": 2}`, `{"jitter": -1}`} {
		_, err = open(map[string]string{ImagesKey: text}).TrainingImages()
		require.ErrorContains(t, err, `w.safetensors: metadata "training_images" is `)
	}
}

// written is a file of a network's weights, with metadata.
func written(t *testing.T, net *nn.Network, values [][]float32, metadata map[string]string) *Weights {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	require.NoError(t, WriteWeights(path, net, values, metadata))
	w, err := OpenWeights(path)
	require.NoError(t, err)
	return w
}

// Whose weights a file has is what is said, what the file says, or what its names leave; names of two programs whose
// networks differ are an error.
func TestIdentify(t *testing.T) {
	build := func(name string) *nn.Network {
		net, err := zoo.Build(name, 32, 10)
		require.NoError(t, err)
		return net
	}
	v3 := build("mobilenetv3_large_1.0")
	named := func(net *nn.Network, metadata map[string]string) *Weights { // only names count
		w := &Weights{Path: "w.safetensors", Metadata: metadata}
		for _, v := range net.Variables() {
			w.tensors = append(w.tensors, format.Tensor{Name: v.Name})
		}
		return w
	}
	bare := named(v3, nil)
	_, err := bare.Identify(v3, "")
	var ambiguous *AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	require.Equal(t, []string{"timm", "timm-tf"}, ambiguous.Names)
	require.ErrorContains(t, err, "timm (batch norm epsilon 1e-05, symmetric padding) and timm-tf (0.001, same)")
	_, err = bare.Identify(v3, "keras")
	require.ErrorContains(t, err,
		`"keras": the weights of mobilenetv3_large_1.0 that are known here are those of ctnas, timm:ra_in1k`)
	own := zoo.Variants(v3)[0].Constants
	other := own
	other.Eps = 0.005
	for _, c := range []struct {
		metadata        map[string]string
		from, name, err string
		eps             float64
	}{
		{nil, "timm", "timm", "", 1e-5},
		{nil, "timm-tf:in1k", "timm-tf:in1k", "", 1e-3},
		{nil, "ctnas", "ctnas", "", 1e-3},
		{map[string]string{"format": "pt"}, "timm", "timm", "", 1e-5},
		{map[string]string{"arch": "mobilenetv3_large_1.0"}, "", "ctnas", "", 1e-3}, // before files said more
		{Metadata("x", "ctnas", other, nil), "", "ctnas", "", 0.005},
		{Metadata("x", RandomWeights, own, nil), "", RandomWeights, "", 1e-3},
		{Metadata("x", "ctnas", own, nil), "timm", "", "the file says that its weights are those of ctnas, not of " +
			"timm", 0},
		{Metadata("x", RandomWeights, own, nil), "timm", "", "those of random, not of timm", 0},
		{Metadata("x", "keras", own, nil), "", "", `metadata "weights_from": "keras"`, 0},
		{map[string]string{FromKey: "ctnas", ConstantsKey: "{}"}, "", "", `metadata "constants": "{}": not constants`,
			0},
	} {
		p, err := named(v3, c.metadata).Identify(v3, c.from)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.name, p.Name())
		require.Equal(t, c.eps, p.Eps)
	}
	for name, from := range map[string]string{"mnasnet_a1": "timm", "mobilenetv2_1.4": "timm", "fbnet_c": "ctnas",
		"shufflenetv2_2.0": "torchvision", "ofa_230m": "once-for-all",
		"proxylessnas_mobile": "proxylessnas", "darts_v2": "darts", "nasnet_a_mobile": "ctnas"} {
		net := build(name)
		p, err := named(net, nil).Identify(net, "")
		require.NoError(t, err, name)
		require.Equal(t, from, p.Name(), name)
	}
	// torchvision's names leave torchvision, whichever of its weights they are.
	v, err := zoo.Named(v3, "torchvision")
	require.NoError(t, err)
	p, err := named(v.Adopt(v3), nil).Identify(v3, "")
	require.NoError(t, err)
	require.Equal(t, "torchvision", p.Name())
	require.Len(t, p.OtherImages(v3), 1)
}

// Weights with which nothing can be computed are refused, with the tensor and how many they are, unless they are
// wanted.
func TestWeightsThatAreNotFinite(t *testing.T) {
	net := shapesNetwork(t)
	good := net.Initialize(nn.HeFanOut, 1)
	require.NoError(t, written(t, net, good, nil).Fill(net, net.Initialize(nn.HeFanOut, 2)))
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for role, c := range map[nn.Role]struct {
		numbers []float32
		says    string
	}{
		nn.Weight: {[]float32{nan, 1, inf},
			`tensor "stem.conv.weight" has 2 of 216 numbers that are no finite weight, the first is number 0, NaN`},
		nn.Mean: {[]float32{0, inf},
			`tensor "stem.bn.running_mean" has 1 of 8 numbers that are no finite weight, the first is number 1, -Inf`},
		nn.Variance: {[]float32{1, -0.5},
			`tensor "stem.bn.running_var" has 1 of 8 numbers that are no variance, the first is number 1, -0.5`},
	} {
		values := net.Initialize(nn.HeFanOut, 1)
		i := slices.IndexFunc(net.Variables(), func(v nn.Variable) bool { return v.Role == role })
		v := net.Variables()[i]
		torch := nn.ToTorch(v, values[i])
		copy(torch, c.numbers)
		values[i] = nn.FromTorch(v, torch)
		w := written(t, net, values, nil)
		err := w.Fill(net, net.Initialize(nn.HeFanOut, 2))
		require.ErrorIs(t, err, ErrNotFinite)
		require.ErrorContains(t, err, "w.safetensors: weights that are not finite: "+c.says)
		w.AllowNonFinite = true
		require.NoError(t, w.Fill(net, net.Initialize(nn.HeFanOut, 2)))
		values[len(values)-1][0] = nan
		require.ErrorContains(t, written(t, net, values, nil).Fill(net, net.Initialize(nn.HeFanOut, 2)),
			", and 1 more tensors are like it")
	}
}

// What is done to images is what the weights want, whatever set they come from; a teacher sees the student's images
// as its own weights want them.
func TestImagesOfWeights(t *testing.T) {
	d := shapesJob(t, nil).Data
	side := d.Width
	require.Equal(t, d.EvalTransform(side), EvalTransform(d, ImagesOf(d, side), side))
	require.Equal(t, d.EvalTransform(side+5), EvalTransform(d, ImagesOf(d, side), side+5))
	wanted := &zoo.Images{Crop: 0.5, Rounding: "floor", Interpolation: zoo.Bicubic, Mean: [3]float32{0.5, 0.25, 0},
		Std: [3]float32{0.5, 2, 1}, Channels: "RGB"}
	got := EvalTransform(d, wanted, side+5)
	require.Equal(t, 2*(side+5), got.Resize)
	require.Equal(t, wanted.Mean, got.Mean)
	require.Equal(t, wanted.Std, got.Std)
	require.NotEqual(t, d.EvalTransform(side).Filter, got.Filter)
	require.Zero(t, EvalTransform(d, wanted, side).Resize, "images of the network's size stay whole")

	teacher := newTeacher(t)
	teacher.Images = wanted
	student, err := NewModel(openTest(t), shapesNetwork(t), Options{Batch: 3, Loss: nn.Loss{Distill: 1,
		Temperature: 1}})
	require.NoError(t, err)
	defer student.Close()
	rec := RecipeDefaults()
	rec.Distill = 1
	l, err := teacher.distil(student, rec, d)
	require.NoError(t, err)
	defer l.m.Close()
	n := student.Net.Input().Len()
	b := &data.Batch{N: 3, Images: make([]float32, 3*n), Labels: make([]int32, 3)}
	for i := range b.Images {
		b.Images[i] = float32(i%7) - 3
	}
	l.predict(b, student)
	seen := make([]float32, 3*n)
	l.m.Images.ReadF32(0, seen)
	for i, v := range b.Images {
		pixel := float64(v)*float64(d.Std[i%3]) + float64(d.Mean[i%3])
		require.InDelta(t, (pixel-float64(wanted.Mean[i%3]))/float64(wanted.Std[i%3]), float64(seen[i]), 1e-4)
	}
}
