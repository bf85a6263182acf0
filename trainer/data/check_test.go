package data

import (
	"context"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// All that is to be known of a set is found, whatever order its images are read in.
func TestCheck(t *testing.T) {
	dir := tree(t, "train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png", "train/b/3.png", "val/b/4.png",
		"val/a/5.png", "train/a/6.gif")
	in := func(parts ...string) string { return filepath.Join(parts...) }
	copyOf := func(from, to string) {
		text, err := os.ReadFile(in(dir, from))
		require.NoError(t, err)
		write(t, in(dir, to), text)
	}
	copyOf("train/a/1.png", "train/a/7.png")
	copyOf("train/a/1.png", "train/b/8.png")
	copyOf("train/b/1.png", "val/b/9.png")
	write(t, in(dir, "train", "b", "wide.jpg"), smooth(t, 60, 10))
	write(t, in(dir, "train", "b", "cut.jpg"), smooth(t, 40, 40)[:300])
	write(t, in(dir, "train", "b", "huge.png"), greyPNG(t, image.Pt(2300, 2000), false, func(x,
		y int) byte {
		return 7
	}))
	require.NoError(t, os.Truncate(in(dir, "val", "a", "5.png"), 70))
	write(t, in(dir, "val", "b", "text.jpg"), []byte("no image"))
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	var done int
	c, err := d.Check(t.Context(), func(n, total int) {
		require.Equal(t, 14, total)
		if n == total {
			done++
		}
	})
	require.NoError(t, err)
	require.Equal(t, 1, done)
	require.Equal(t, &Checked{
		Data: "imagenet", Classes: 2,
		Splits: []CheckedSplit{
			{"train", 10, map[string]int{"PNG": 8, "JPEG": 1}, 2, CheckedClass{"a", 3}, CheckedClass{"b", 7},
				&CheckedSizes{[2]int{20, 16}, [2]int{20, 16}, [2]int{2300, 2000}}},
			{"test", 4, map[string]int{"PNG": 2}, 2, CheckedClass{"a", 1}, CheckedClass{"b", 3},
				&CheckedSizes{[2]int{20, 16}, [2]int{20, 16}, [2]int{20, 16}}},
		},
		Duplicates: []Duplicates{
			{[2]string{"train", "train"}, 2, 1, []string{"train/a/7.png = train/a/1.png",
				"train/b/8.png = train/a/1.png"}},
			{[2]string{"train", "test"}, 1, 0, []string{"val/b/9.png = train/b/1.png"}},
		},
		LeftOut: []LeftOut{{".gif files", 1, []string{"train/a/6.gif"}}},
		Damaged: []Damaged{
			{"train", "train/b/cut.jpg", c.Damaged[0].Why},
			{"test", "val/a/5.png", "png: invalid format: unexpected EOF"},
			{"test", "val/b/text.jpg", "neither JPEG nor PNG nor WebP: starts with 6e 6f 20 69 6d 61 67 65"},
		},
	}, c)
	require.Contains(t, c.Damaged[0].Why, "damaged or unusual JPEG")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Check(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)

	shapes, err := Open("shapes", Options{})
	require.NoError(t, err)
	c, err = shapes.Check(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, c.Damaged)
	require.Equal(t, "[4000 2000 2000]", fmt.Sprint([]int{c.Splits[0].Images, c.Splits[1].Images, c.Splits[2].Images}))
}
