package testdata

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Images writes a tiny set of images into a folder of the test, to be opened as imagenet:DIR: three classes that can be
// told apart, 8x8 pixels, 60 images for training and 12 for tests.
func Images(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s := rand.New(rand.NewPCG(1, 0)) // the same images on every machine
	for _, split := range []struct {
		name string
		n    int
	}{{"train", 20}, {"val", 4}} {
		for class := range 3 {
			folder := filepath.Join(dir, split.name, fmt.Sprintf("class%d", class))
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range split.n {
				img := image.NewNRGBA(image.Rect(0, 0, 8, 8))
				for p := range 64 {
					v := uint8(64*class + s.IntN(120))
					img.Set(p%8, p/8, color.NRGBA{v, uint8(s.IntN(256)), 255 - v, 255})
				}
				file, err := os.Create(filepath.Join(folder, fmt.Sprintf("%s%d-%d.png", split.name, class, i)))
				if err == nil {
					err = png.Encode(file, img)
				}
				if err == nil {
					err = file.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return dir
}
