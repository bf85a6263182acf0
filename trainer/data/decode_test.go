package data

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
)

// decoders are the JPEG decoders of this build: Go's, and libjpeg-turbo where it is built in.
func decoders(t testing.TB) map[string]*decoder {
	out := map[string]*decoder{"go": {jpeg: goJPEG{}}}
	d, err := newDecoder()
	require.NoError(t, err)
	t.Cleanup(d.close)
	out["build: "+Decoder] = d
	return out
}

func rgbOf(t testing.TB, d *decoder, file []byte) ([]byte, image.Point) {
	size, err := d.size(file)
	require.NoError(t, err)
	r, err := d.region(file, image.Rectangle{Max: size}, 1, 1)
	require.NoError(t, err)
	require.Equal(t, image.Rectangle{Max: size}, r.rect)
	return bytes.Clone(r.pix), size
}

// Unusual kinds of files as Pillow decodes them. Lossy ones may differ by the rounding of two decoders.
func TestDecodeAsPillow(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.rgb.png")
	require.NoError(t, err)
	require.Len(t, paths, 18)
	for name, d := range decoders(t) {
		for _, path := range paths {
			stem := strings.TrimSuffix(path, ".rgb.png")
			file, err := os.ReadFile(stem + ".jpg")
			tolerance := 3
			for _, exact := range []string{".png", ".webp"} {
				if err != nil {
					file, err = os.ReadFile(stem + exact)
					tolerance = 0
				}
			}
			require.NoError(t, err)
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			wantPix, wantSize := rgbOf(t, d, want)
			pix, size := rgbOf(t, d, file)
			require.Equal(t, wantSize, size, stem)
			sum := 0
			for i, v := range pix {
				diff := max(int(v)-int(wantPix[i]), int(wantPix[i])-int(v))
				require.LessOrEqual(t, diff, tolerance, "%s: %s sample %d", name, stem, i)
				sum += diff
			}
			require.Less(t, float64(sum)/float64(len(pix)), 0.7, "%s: %s", name, stem)
		}
	}
}

// A region is exactly that part of the whole image, at any place.
func TestRegionIsPartOfWhole(t *testing.T) {
	s := philox.New(1, philox.PurposeTest, 0)
	paths, err := filepath.Glob("testdata/*.*")
	require.NoError(t, err)
	if more, err := filepath.Glob(filepath.Join(testdata.Dir(), "imagenet_sample", "*.JPEG")); err == nil &&
		len(more) > 4 {
		paths = append(paths, more[:4]...)
	}
	for name, d := range decoders(t) {
		for _, path := range paths {
			if strings.HasSuffix(path, ".json") {
				continue
			}
			file, err := os.ReadFile(path)
			require.NoError(t, err)
			whole, size := rgbOf(t, d, file)
			for range 5 {
				x, y := s.Intn(size.X), s.Intn(size.Y)
				want := image.Rect(x, y, x+1+s.Intn(size.X-x), y+1+s.Intn(size.Y-y))
				r, err := d.region(file, want, 1, 1)
				require.NoError(t, err)
				require.True(t, want.In(r.rect), "%s: %s: %v in %v", name, path, want, r.rect)
				for y := want.Min.Y; y < want.Max.Y; y++ {
					got := r.pix[(y-r.rect.Min.Y)*r.stride+3*(want.Min.X-r.rect.Min.X):][:3*want.Dx()]
					require.Equal(t, whole[3*(y*size.X+want.Min.X):][:3*want.Dx()], got, "%s: %s: %v row %d", name,
						path, want, y)
				}
			}
		}
	}
}

// A reduced region holds the means of blocks of the whole image, about.
func TestReducedRegion(t *testing.T) {
	file := smooth(t, 203, 150)
	for name, d := range decoders(t) {
		whole, size := rgbOf(t, d, file)
		for _, shrink := range []int{2, 4, 8} {
			want := image.Rect(33, 20, 171, 131)
			r, err := d.region(file, want, shrink, 1)
			require.NoError(t, err)
			require.Contains(t, []int{1, shrink}, r.shrink, name)
			k := r.shrink
			require.True(t, r.rect.Min.X*k <= want.Min.X && r.rect.Min.Y*k <= want.Min.Y &&
				r.rect.Max.X*k >= want.Max.X && r.rect.Max.Y*k >= want.Max.Y)
			for y := r.rect.Min.Y; y < min(r.rect.Max.Y, size.Y/k); y++ {
				for x := r.rect.Min.X; x < min(r.rect.Max.X, size.X/k); x++ {
					sum := 0
					for b := range k * k {
						sum += int(whole[3*((y*k+b/k)*size.X+x*k+b%k)])
					}
					got := r.pix[(y-r.rect.Min.Y)*r.stride+3*(x-r.rect.Min.X)]
					require.InDelta(t, float64(sum)/float64(k*k), float64(got), 6, "%s: 1/%d at %d,%d", name, shrink, x,
						y)
				}
			}
		}
	}
}

// smooth is a JPEG file without sharp edges.
func smooth(t testing.TB, w, h int) []byte {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(60 + x*120/w), uint8(200 - y*150/h), uint8((x + y) * 250 / (w + h)), 255})
		}
	}
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}))
	return b.Bytes()
}

// Both decoders on real photographs.
func TestDecodersAgreeOnPhotographs(t *testing.T) {
	dir := testdata.Path(t, "imagenet_sample")
	if Decoder == "Go image/jpeg" {
		t.Skip("built without libjpeg-turbo: there is one decoder only")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.JPEG"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	d := decoders(t)
	for i := 0; i < len(paths); i += 9 {
		file, err := os.ReadFile(paths[i])
		require.NoError(t, err)
		a, size := rgbOf(t, d["go"], file)
		b, other := rgbOf(t, d["build: "+Decoder], file)
		require.Equal(t, size, other)
		sum, large := 0, 0
		for j, v := range a {
			diff := max(int(v)-int(b[j]), int(b[j])-int(v))
			sum += diff
			if diff > 4 {
				large++
			}
		}
		require.Less(t, float64(sum)/float64(len(a)), 0.5, paths[i])
		require.Less(t, float64(large)/float64(len(a)), 1e-3, paths[i])
	}
}

func TestBadImages(t *testing.T) {
	good := smooth(t, 64, 48)
	var pngFile bytes.Buffer
	require.NoError(t, png.Encode(&pngFile, image.NewGray(image.Rect(0, 0, 9, 9))))
	huge := bytes.Clone(good)
	frame := bytes.Index(huge, []byte{0xFF, 0xC0})
	copy(huge[frame+5:], []byte{0xFE, 0x00, 0xFE, 0x00}) // height and width
	cases := map[string]struct {
		file []byte
		want string
	}{
		"empty":          {nil, "empty file"},
		"text":           {[]byte("GIF89a, or anything"), "neither JPEG nor PNG nor WebP: starts with 47 49 46"},
		"huge":           {huge, "65024x65024 pixels"},
		"header only":    {good[:20], "JPEG"},
		"half":           {good[:len(good)/2], "JPEG"},
		"magic only":     {good[:3], "JPEG"},
		"half a PNG":     {pngFile.Bytes()[:pngFile.Len()/2], "EOF"},
		"PNG magic only": {pngMagic, "EOF"},
	}
	for kind, d := range decoders(t) {
		for name, c := range cases {
			size, err := d.size(c.file)
			if err == nil {
				_, err = d.region(c.file, image.Rectangle{Max: size}, 1, 1)
			}
			require.ErrorContains(t, err, c.want, "%s: %s", kind, name)
		}
		// The decoder works on after each failure.
		_, size := rgbOf(t, d, good)
		require.Equal(t, image.Pt(64, 48), size)
	}
}

// Damage anywhere in a file gives pixels or an error, and never anything worse.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"ycc420.jpg", "progressive.jpg", "cmyk.jpg", "grey16.png"} {
		file, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(file, uint16(3), uint16(5), uint8(1))
	}
	all := decoders(f)
	f.Fuzz(func(t *testing.T, file []byte, x, y uint16, shrink uint8) {
		for _, d := range all {
			size, err := d.size(file)
			if err != nil || size.X*size.Y > 1<<16 {
				continue
			}
			at := image.Pt(int(x)%size.X, int(y)%size.Y)
			r, err := d.region(file, image.Rectangle{at, size}, 1<<(shrink%4), 1<<(x%3))
			if err == nil {
				require.Len(t, r.pix, 3*r.rect.Dx()*r.rect.Dy())
			}
		}
	})
}

// Resizing against torchvision's resized_crop with antialias=True.
func TestResizeAsTorchvision(t *testing.T) {
	file, err := os.ReadFile("testdata/resize.png")
	require.NoError(t, err)
	pix, w, h, err := DecodeRGB(file)
	require.NoError(t, err)
	text, err := os.ReadFile("testdata/resize.json")
	require.NoError(t, err)
	var cases []struct {
		X, Y, Width, Height, Size int
		Interpolation             string
		Values                    []float64
	}
	require.NoError(t, json.Unmarshal(text, &cases))
	require.Len(t, cases, 6)
	res, err := kernel.NewResampler("")
	require.NoError(t, err)
	for _, c := range cases {
		f := map[string]kernel.Filter{"bilinear": kernel.Bilinear, "bicubic": kernel.Bicubic}[c.Interpolation]
		var x, y kernel.Axis
		x.Antialias(f, float64(c.X), float64(c.X+c.Width), c.X, c.X+c.Width, c.Size, 0, c.Size, false)
		y.Antialias(f, float64(c.Y), float64(c.Y+c.Height), c.Y, c.Y+c.Height, c.Size, 0, c.Size, false)
		out := make([]float32, c.Size*c.Size*3)
		res.Resample(out, kernel.Source{Pix: pix, Stride: 3 * w, Width: w, Height: h}, &y, &x, [3]float32{1, 1, 1},
			[3]float32{})
		kerneltest.Close(t, c.Values, out, 1e-4, "resize")
	}
}
