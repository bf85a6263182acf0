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
)

// setOf is an image set with one image of each of some classes, given as "name" or, of a class at another place, "place=name". Without a name the class is
// numbered.
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
		want            []int // the network's classes of the images
		position        bool
		note            string
		refused         string
	}{
		{weights: "a b c", images: "a b c", want: []int{0, 1, 2}},
		{weights: "a b c", images: "c a b", want: []int{2, 0, 1}, note: "the images' classes are in another order than the weights', and matched by name"},
		{weights: "a b c", images: "a c", want: []int{0, 2}, note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of b"},
		{weights: "a b c", images: "c", want: []int{2}, note: "the images are of 1 of the weights' 3 classes, matched by name; there are none of a, b"},
		{weights: "a b c", images: "b c d", refused: "the weights do not know these classes of the images: d; they know a, b, c"},
		{weights: "a b c", images: "x y", refused: "the weights do not know these classes of the images: x, y; they know a, b, c"},
		// A place without an image and a name is no class of the images.
		{weights: "a b c d e f", images: "2=c 4=e", want: []int{2, 4}, note: "the images are of 2 of the weights' 6 classes, matched by name; there are none of a, b, d, f"},
		{weights: "a b c", images: "2=c 9=a", want: []int{2, 0}, note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of b"},
		// Numbers.
		{weights: "0 1 2", images: "0 1 2", want: []int{0, 1, 2}, note: "classes have numbers, not names: the same number is taken for the same class"},
		{weights: "0 1 2", images: "0 1", want: []int{0, 1}, note: "the images are of 2 of the weights' 3 classes, matched by name; there are none of 2"},
		{weights: "0 1", images: "0 1 2", refused: "the weights do not know these classes of the images: 2; they know 0, 1"},
		{weights: "a b c", images: "0 1 2", want: []int{0, 1, 2}, position: true,
			note: "the images' classes have numbers, not names: they are taken for the weights' classes in their order, a, b, c"},
		{weights: "a b c", images: "0 1", want: []int{0, 1}, position: true,
			note: "the images' classes have numbers, not names: they are taken for the weights' classes in their order, a, b, c"},
		{weights: "a b", images: "0 1 2", refused: "the weights do not know these classes of the images: 0, 1, 2; they know a, b"},
		{weights: "0 1 2", images: "a b c", want: []int{0, 1, 2}, position: true,
			note: "the weights' classes have numbers, not names: the images' classes are taken for them in their order, a, b, c"},
		{weights: "0 1 2", images: "a c", refused: "the weights do not know these classes of the images: a, c; they know 0, 1, 2"},
		{weights: "", images: "a c", want: []int{0, 1}, position: true,
			note: "the weights do not name their classes: those of the images are taken in their order, a, c"},
		// The first of many.
		{weights: strings.Join(many, " "), images: "x", refused: "they know n000, n001, n002, n003, n004, n005, n006, n007, … (1000 in all)"},
		{weights: "a b a", images: "a", refused: `the weights name the class "a" twice`},
	} {
		d := setOf(t, c.images)
		var names []string
		if c.weights != "" {
			names = strings.Fields(c.weights)
		}
		m, err := MatchClasses(names, d, d.Train)
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
