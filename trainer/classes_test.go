package trainer

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// setOf is an image set with one image of each of some classes, given as "name" or, of a class at another place,
// "place=name". Without a name the class is numbered.
func setOf(t *testing.T, classes string) *data.Dataset {
	dir := t.TempDir()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.png"), b.Bytes(), 0o644))
	text := "file,class_index,wnid\n"
	for i, class := range strings.Fields(classes) {
		place, name, placed := strings.Cut(class, "=")
		if !placed {
			place, name = fmt.Sprint(i), class
		}
		text += fmt.Sprintf("x.png,%s,%s\n", place, name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte(text), 0o644))
	d, err := data.Open("imagenet:"+dir, data.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Classes are matched by name; without names by their order, which is told; what cannot be matched is named.
func TestMatchClasses(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("n%03d", i)
	}
	for _, c := range []struct {
		weights, images string
		outputs         int
		want            []int // the network's classes of the images
		position        bool
		note            string
		refused         string
	}{
		{weights: "a b c", images: "a b c", want: []int{0, 1, 2}},
		{weights: "a b c", images: "c a b", want: []int{2, 0, 1},
			note: "the images' classes are in another order than the weights', and matched by name"},
		{weights: "a b c", images: "a c", want: []int{0, 2},
			note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of b"},
		{weights: "a b c", images: "c", want: []int{2},
			note: "the images are of 1 of the weights' 3 classes, matched by name; there are none of a, b"},
		{weights: "a b c", images: "b c d",
			refused: "the weights do not know these classes of the images: d; they know a, b, c"},
		{weights: "a b c", images: "x y",
			refused: "the weights do not know these classes of the images: x, y; they know a, b, c"},
		// A place without an image and a name is no class of the images.
		{weights: "a b c d e f", images: "2=c 4=e", want: []int{2, 4},
			note: "the images are of 2 of the weights' 6 classes, matched by name; there are none of a, b, d, f"},
		{weights: "a b c", images: "2=c 9=a", want: []int{2, 0},
			note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of b"},
		// Numbers.
		{weights: "0 1 2", images: "0 1 2", want: []int{0, 1, 2},
			note: "numbers, not names: the same number is taken for the same class"},
		{weights: "0 1 2", images: "0 1", want: []int{0, 1},
			note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of 2"},
		{weights: "0 1", images: "0 1 2",
			refused: "the weights do not know these classes of the images: 2; they know 0, 1"},
		{weights: "a b c", images: "0 1 2", want: []int{0, 1, 2}, position: true,
			note: "the images' classes have numbers, not names: " +
				"they are taken for the weights' classes in their order, a, b, c"},
		{weights: "a b c", images: "0 1", want: []int{0, 1}, position: true,
			note: "the images' classes have numbers, not names: " +
				"they are taken for the weights' classes in their order, a, b, c"},
		{weights: "a b", images: "0 1 2",
			refused: "the weights do not know these classes of the images: 0, 1, 2; they know a, b"},
		{weights: "0 1 2", images: "a b c", want: []int{0, 1, 2}, position: true,
			note: "the weights' classes have numbers, not names: " +
				"the images' classes are taken for them in their order, a, b, c"},
		{weights: "0 1 2", images: "a c",
			refused: "the weights do not know these classes of the images: a, c; they know 0, 1, 2"},
		{weights: "", images: "a c", want: []int{0, 1}, position: true,
			note: "the weights do not name their classes: those of the images are taken in their order, a, c"},
		{weights: "", images: "a c", outputs: 2, want: []int{0, 1}, position: true,
			note: "the weights do not name their classes: those of the images are taken in their order, a, c"},
		{weights: "", images: "2=a 7=c", outputs: 10, want: []int{2, 7}, position: true,
			note: "the weights do not name their 10 classes: the images' numbers, up to 7, are taken for theirs"},
		{weights: "", images: "2=a 7=c", outputs: 3,
			refused: "the weights give 3 logits and do not name their classes, and the images are of 8: " +
				"nothing says which is which"},
		// The first of many.
		{weights: strings.Join(many, " "), images: "x",
			refused: "they know n000, n001, n002, n003, n004, n005, n006, n007, … (1000 in all)"},
		{weights: "a b a", images: "a", refused: `the weights name the class "a" twice`},
	} {
		d := setOf(t, c.images)
		var names []string
		if c.weights != "" {
			names = strings.Fields(c.weights)
		}
		m, err := MatchClasses(names, c.outputs, d, d.Train)
		if c.refused != "" {
			require.ErrorContains(t, err, c.refused)
			continue
		}
		require.NoError(t, err, "%v", c)
		require.Equal(t, c.note, m.Note)
		require.Equal(t, c.position, m.ByPosition)
		labelled := m.Apply(d.Train)
		var got []int
		for i := range labelled.Len() {
			got = append(got, labelled.Label(i))
		}
		require.Equal(t, c.want, got, "%v", c)
		if names != nil {
			require.Equal(t, names, m.Network)
		}
	}
}

// poolNetwork has a number of outputs and little else.
func poolNetwork(t *testing.T, outputs int) *nn.Network {
	b, x := nn.NewBuilder("pool", nn.Shape{H: 8, W: 8, C: 3})
	b.Output(b.Apply("classifier", nn.Linear{Out: outputs, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// A student is told what its teacher says of the student's classes, in the student's order, whatever else the teacher
// knows.
func TestTeacherClasses(t *testing.T) {
	d, dev := setOf(t, "a b c"), openTest(t)
	student, err := NewModel(dev, poolNetwork(t, 3), Options{Batch: 2, Loss: nn.Loss{Distill: 1, Temperature: 1}})
	require.NoError(t, err)
	defer student.Close()
	r := RecipeDefaults()
	r.Distill = 1
	teach := func(outputs int, classes ...string) (*distillation, error) {
		m, err := NewModel(dev, poolNetwork(t, outputs), Options{Batch: 1, EvalOnly: true})
		require.NoError(t, err)
		defer m.Close()
		m.Initialize(nn.HeFanOut, 5)
		path := filepath.Join(t.TempDir(), WeightsName)
		require.NoError(t, SaveWeights(path, m, nil))
		teacher := &Teacher{Net: m.Net, Weights: path, Classes: classes}
		return teacher.distil(student, r, d)
	}
	batch := &data.Batch{N: 2, Images: make([]float32, 2*8*8*3), Labels: make([]int32, 2)}
	for i := range batch.Images {
		batch.Images[i] = float32(i % 7)
	}
	for _, c := range []struct {
		classes []string
		want    []int // of the teacher's logits
	}{
		{[]string{"a", "b", "c"}, []int{0, 1, 2}}, {[]string{"c", "a", "b"}, []int{1, 2, 0}},
		{[]string{"c", "x", "a", "b"}, []int{2, 3, 0}},
		{[]string{"a", "b", "c", "x"}, []int{0, 1, 2}}, {[]string{"0", "1", "2"}, []int{0, 1, 2}},
	} {
		l, err := teach(len(c.classes), c.classes...)
		require.NoError(t, err)
		l.predict(batch, student)
		said, told := l.m.Logits(), student.Teacher.Values()
		for i := range 2 {
			for k, from := range c.want {
				require.Equal(t, said[i*len(c.classes)+from], told[3*i+k], c.classes)
			}
		}
		l.m.Close()
	}
	l, err := teach(3) // nobody knows
	require.NoError(t, err)
	l.m.Close()
	l, err = teach(4) // whose first three are taken, for the images have numbers
	require.NoError(t, err)
	l.m.Close()
	_, err = teach(2)
	require.ErrorContains(t, err, "the weights give 2 logits and do not name their classes, and the images are of 3")
	_, err = teach(3, "a", "b", "x")
	require.ErrorContains(t, err,
		"the teacher: the weights do not know these classes of the images: c; they know a, b, x")
	_, err = teach(3, "a", "b")
	require.ErrorContains(t, err, "do not know these classes of the images: c")
	// The student has an output for a class of which there is no image.
	d = setOf(t, "0=a 1=b 3=c")
	_, err = teach(3, "a", "b", "c")
	require.ErrorContains(t, err, "the teacher does not know the class 2")
}
