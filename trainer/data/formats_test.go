package data

import (
	"archive/tar"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o644))
}

// cifarBytes are n records with labels 0, 1, ... and random pixels.
func cifarBytes(c *cifarFormat, n int, stream uint32) []byte {
	s := philox.New(5, philox.PurposeTest, stream)
	b := make([]byte, n*c.record())
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	for i := range n {
		b[i*c.record()+c.labels-1] = byte(i % c.classes)
	}
	return b
}

func TestCIFARRoundTrip(t *testing.T) {
	for _, c := range []cifarFormat{cifar10, cifar100} {
		c.records, c.tests = c.records/500, 7
		dir := t.TempDir()
		inner := filepath.Join(dir, c.folder)
		raw := map[string][]byte{}
		for i, name := range c.train {
			raw[name] = cifarBytes(&c, c.records, uint32(i))
			write(t, filepath.Join(inner, name), raw[name])
		}
		raw[c.test[0]] = cifarBytes(&c, c.tests, 99)
		write(t, filepath.Join(inner, c.test[0]), raw[c.test[0]])
		for _, at := range []string{dir, inner} {
			d, err := c.open(at, [3]float32{}, [3]float32{1, 1, 1})
			require.NoError(t, err)
			require.Equal(t, []int{100, 0, 7}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()})
			require.Len(t, d.Classes, c.classes)
			require.Equal(t, "7", d.Classes[7])
			for i := range 100 {
				file := raw[c.train[i/c.records]]
				record := file[(i%c.records)*c.record():][:c.record()]
				require.EqualValues(t, record[c.labels-1], d.Train.Label(i))
				pix, w, h, err := d.Train.Image(i)
				require.NoError(t, err)
				require.Equal(t, []int{32, 32}, []int{w, h})
				want := make([]byte, len(pix))
				for j := range want {
					want[j] = record[c.labels+j%3*cifarPlane+j/3]
				}
				require.Equal(t, want, pix)
			}
			require.NoError(t, d.Close())
		}
		write(t, filepath.Join(inner, c.names), []byte("only\nthree\nnames\n"))
		_, err := c.open(dir, [3]float32{}, [3]float32{})
		require.ErrorContains(t, err, "3 names, want")
	}
}

func TestCIFARDamage(t *testing.T) {
	c := cifar10
	dir := t.TempDir()
	_, err := c.load(dir, c.train[:1], 3)
	require.ErrorContains(t, err, "data_batch_1.bin")
	good := cifarBytes(&c, 3, 0)
	path := filepath.Join(dir, c.train[0])
	for _, size := range []int{0, 1, 3072, 2 * 3073, 3*3073 - 1, 3*3073 + 1} {
		content := append(bytes.Clone(good), 0)[:size]
		write(t, path, content)
		_, err := c.load(dir, c.train[:1], 3)
		require.ErrorContains(t, err, fmt.Sprintf("data_batch_1.bin has %d bytes, want 9219", size))
	}
	bad := bytes.Clone(good)
	bad[2*3073] = 10
	write(t, path, bad)
	_, err = c.load(dir, c.train[:1], 3)
	require.ErrorContains(t, err, "data_batch_1.bin: record 2 at offset 6146: label 10, want 0..9")
	err = c.read(&pixels{}, bytes.NewReader(good[:5000]), 3)
	require.ErrorContains(t, err, "record 1 at offset 3073: truncated after 1927 of 3073 bytes")
}

func FuzzCIFAR(f *testing.F) {
	c := cifar10
	f.Add(cifarBytes(&c, 2, 0), uint8(2))
	f.Add([]byte{3}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, records uint8) {
		p := &pixels{}
		if err := c.read(p, bytes.NewReader(b), int(records)); err != nil {
			return
		}
		require.Equal(t, len(b), int(records)*c.record())
		require.Len(t, p.labels, int(records))
		require.Len(t, p.pix, int(records)*3*cifarPlane)
	})
}

// CIFAR-10 itself, from its packed form.
func TestRealCIFAR10(t *testing.T) {
	testdata.SkipUnlessAll(t, "unpacks 180 MB")
	packed := testdata.Path(t, "cifar10/cifar10_train.jpk")
	tool := filepath.Join(testdata.Root(), "..", "shared", "tools", "jpk2cifar", "main.go")
	if _, err := os.Stat(tool); err != nil {
		t.Skip("the tool that unpacks CIFAR-10 is not here")
	}
	dir := t.TempDir()
	out, err := exec.Command("go", "run", tool, "-in", filepath.Dir(packed), "-out", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	d, err := Open("cifar10:"+dir, Options{Seed: 3, ValSplit: 0.1})
	require.NoError(t, err)
	require.Equal(t, []int{45_000, 5_000, 10_000}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()})
	count := make([]int, 10)
	for i := range d.Train.Len() {
		count[d.Train.Label(i)]++
	}
	for i := range d.Validation.Len() {
		count[d.Validation.Label(i)]++
	}
	for _, n := range count {
		require.Equal(t, 5000, n)
	}
	mean, std := statistics(d.Train.store.(*pixels).pix)
	for c := range 3 {
		require.InDelta(t, d.Mean[c], mean[c], 0.003)
		require.InDelta(t, d.Std[c], std[c], 0.003)
	}
}

// tiny is a PNG of one colour.
func tiny(t testing.TB, shade uint8) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 20, 16))
	for i := range img.Pix {
		img.Pix[i] = shade
	}
	for y := range 16 {
		for x := range 20 {
			img.Set(x, y, color.RGBA{shade, shade, shade, 255})
		}
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []string{"n03", "n01", "n02"} {
		for k := range 3 {
			write(t, filepath.Join(dir, "train", c, fmt.Sprintf("%s_%d.JPEG", c, k)), tiny(t, uint8(10*i+k)))
		}
	}
	write(t, filepath.Join(dir, "train", ".DS_Store"), nil)
	write(t, filepath.Join(dir, "train", "n01", "readme.txt"), nil)
	write(t, filepath.Join(dir, "val", "n02", "x.png"), tiny(t, 77))
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"n01", "n02", "n03"}, d.Classes)
	require.Equal(t, []int{9, 0, 1}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()})
	require.Equal(t, 1, d.Test.Label(0))
	shades := []byte{10, 11, 12, 20, 21, 22, 0, 1, 2}
	for i := range 9 {
		require.Equal(t, i/3, d.Train.Label(i))
		pix, w, h, err := d.Train.Image(i)
		require.NoError(t, err)
		require.Equal(t, []int{20, 16}, []int{w, h})
		require.Equal(t, shades[i], pix[0], d.Train.ImageName(i))
	}
	sum, err := d.Checksum(t.Context())
	require.NoError(t, err)

	write(t, filepath.Join(dir, "val", "n04", "x.png"), tiny(t, 7))
	_, err = Open("imagenet:"+dir, Options{})
	require.ErrorContains(t, err, filepath.Join("val", "n04")+" is a class that the training images do not have")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "val", "n04")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "train", "n05"), 0o755))
	_, err = Open("imagenet:"+dir, Options{})
	require.ErrorContains(t, err, filepath.Join("train", "n05")+" holds no .jpg")
	write(t, filepath.Join(dir, "train", "n05", "a.jpg"), tiny(t, 7))
	d, err = Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	more, err := d.Checksum(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, sum, more)
	write(t, filepath.Join(dir, "train", "loose.jpg"), tiny(t, 7))
	_, err = Open("imagenet:"+dir, Options{})
	require.ErrorContains(t, err, "not in a folder of its class")
	_, err = Open("imagenet:"+t.TempDir(), Options{})
	require.ErrorContains(t, err, "neither a folder train")
}

func TestLabelsCSV(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.png"), tiny(t, 1))
	list := filepath.Join(dir, "labels.csv")
	write(t, list, []byte("wnid,file,class_index\nn9,a.png,4\nn2,sub/b.png,1\n"))
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"0", "n2", "2", "3", "n9"}, d.Classes)
	require.Equal(t, 4, d.Train.Label(0))
	_, _, _, err = d.Train.Image(1)
	require.ErrorContains(t, err, filepath.Join("sub", "b.png"))
	for content, want := range map[string]string{
		"":                                      "labels.csv: empty file",
		"file,label\n":                          "want file and class_index",
		"file,class_index\n":                    "no images",
		"file,class_index\na.png,x\n":           `line 2: class_index "x"`,
		"file,class_index\na.png,-1\n":          "line 2: class_index",
		"file,class_index\na.png,99999999999\n": "line 2: class_index",
		"file,class_index\n../a.png,1\n":        "line 2: file \"../a.png\" is not below",
		"file,class_index\na.png,1,5\n":         "line 2",
		"file,class_index,wnid\na,1,x\nb,1,y\n": `line 3: class 1 is "y" here and "x" before`,
	} {
		write(t, list, []byte(content))
		_, err := Open("imagenet:"+dir, Options{})
		require.ErrorContains(t, err, want)
	}
}

func FuzzLabels(f *testing.F) {
	f.Add("file,class_index\na.png,1\n")
	f.Add("wnid,file,class_index\nn9,\"a\n.png\",4\n")
	f.Fuzz(func(t *testing.T, text string) {
		set, classes, err := readLabels(strings.NewReader(text), "/root")
		if err != nil {
			return
		}
		require.NotZero(t, set.count())
		for i := range set.count() {
			require.Less(t, int(set.label(i)), len(classes))
			require.True(t, filepath.IsLocal(set.name(i)) || set.name(i) == "", set.name(i))
		}
	})
}

type member struct {
	name    string
	content []byte
}

func tarOf(t testing.TB, members ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.content)), Mode: 0o644}))
		_, err := w.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("long", 60) // needs an extended header
	for i := range 3 {
		write(t, filepath.Join(dir, fmt.Sprintf("s-%03d.tar", i)), tarOf(t,
			member{fmt.Sprintf("a%d.jpg", i), tiny(t, uint8(10*i))}, member{fmt.Sprintf("a%d.cls", i), []byte("2\n")},
			member{"x/" + long + ".cls", []byte("5")}, member{"x/" + long + ".json", []byte("{}")},
			member{"x/" + long + ".png", tiny(t, uint8(10*i+1))}))
	}
	for _, pattern := range []string{"s-{000..002}.tar", "s-*.tar", "s-{000..002}.tar?test=" + dir + "/s-001.tar"} {
		d, err := Open("shards:"+filepath.Join(dir, pattern), Options{})
		require.NoError(t, err)
		require.Equal(t, 6, d.Train.Len())
		require.Len(t, d.Classes, 6)
		for i := range 6 {
			pix, _, _, err := d.Train.Image(i)
			require.NoError(t, err)
			require.Equal(t, byte(10*(i/2)+i%2), pix[0])
			require.Equal(t, 2+3*(i%2), d.Train.Label(i))
		}
		require.Equal(t, "s-001.tar:a1", d.Train.ImageName(2))
		if strings.Contains(pattern, "test") {
			require.Equal(t, 2, d.Test.Len())
		}
		require.NoError(t, d.Close())
	}
	for pattern, want := range map[string]string{
		"s-{000..003}.tar":                "no file matches",
		"none*.tar":                       "no file matches",
		"s-{002..001}.tar":                "bad range",
		"s-{0..99999999}.tar":             "bad range",
		"[":                               "syntax error",
		"s-000.tar?test=" + dir + "/none": "no file matches",
	} {
		_, err := Open("shards:"+filepath.Join(dir, pattern), Options{})
		require.ErrorContains(t, err, want, pattern)
	}
}

func TestShardDamage(t *testing.T) {
	pic := tiny(t, 1)
	good := tarOf(t, member{"a.jpg", pic}, member{"a.cls", []byte("1")})
	flipped := bytes.Clone(good)
	flipped[3] ^= 1 // the header's checksum no longer fits
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":         {nil, "no images"},
		"cut in data":   {good[:520], "a.jpg at offset 512: truncated: 8 of"},
		"cut in header": {good[:100], "member at offset 0"},
		"header":        {flipped, "member at offset 0"},
		"no label":      {tarOf(t, member{"a.jpg", pic}), "sample a has no .cls"},
		"no image": {tarOf(t, member{"a.cls", []byte("1")}, member{"b.png", pic}, member{"b.cls", []byte("1")}),
			"sample a has a .cls and no image"},
		"bad label":  {tarOf(t, member{"a.cls", []byte("one")}), `a.cls at offset 512: "one"`},
		"negative":   {tarOf(t, member{"a.cls", []byte("-1")}), "a.cls at offset 512"},
		"two images": {tarOf(t, member{"a.jpg", pic}, member{"a.png", pic}), "second image of sample a"},
		"two labels": {tarOf(t, member{"a.cls", []byte("1")}, member{"a.cls", []byte("1")}), "want one class"},
	} {
		_, err := indexShard(bytes.NewReader(c.content), leaving{})
		require.ErrorContains(t, err, c.want, name)
	}
	path := filepath.Join(t.TempDir(), "s.tar")
	write(t, path, good[:520])
	_, err := Open("shards:"+path, Options{})
	require.ErrorContains(t, err, path)
}

func FuzzShard(f *testing.F) {
	f.Add(tarOf(f, member{"a.jpg", []byte("pixels")}, member{"a.cls", []byte("1")}))
	f.Add(tarOf(f, member{"x/" + strings.Repeat("long", 60) + ".png", nil}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := indexShard(bytes.NewReader(b), leaving{})
		if err != nil {
			return
		}
		for _, e := range list {
			require.True(t, e.offset >= 0 && e.offset+int64(e.size) <= int64(len(b)))
			require.True(t, e.label >= 0 && e.label < maxClasses)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		"":               "want shapes, cifar10:DIR",
		"mnist:x":        "want shapes, cifar10:DIR",
		"shapes:x":       "want shapes",
		"cifar10":        "cifar10:PATH",
		"cifar10:/none":  "/none holds neither data_batch_1.bin nor a folder cifar-10-batches-bin",
		"imagenet:/none": "/none: no such file",
	} {
		_, err := Open(spec, Options{})
		require.ErrorContains(t, err, want, spec)
	}
	_, err := Open("shapes", Options{ValSplit: 1})
	require.ErrorContains(t, err, "validation split 1")
}

func TestShapes(t *testing.T) {
	d, err := Open("shapes", Options{})
	require.NoError(t, err)
	require.Equal(t, []int{4000, 2000, 2000}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()})
	for _, s := range []*Set{d.Train, d.Validation, d.Test} {
		count := make([]int, 10)
		for i := range s.Len() {
			count[s.Label(i)]++
		}
		for _, n := range count {
			require.Equal(t, s.Len()/10, n)
		}
	}
	a, b := generateShapes(1, 40), generateShapes(2, 40)
	require.Equal(t, a.pix, d.Train.store.(*pixels).pix[:len(a.pix)])
	require.NotEqual(t, a.pix, b.pix)
	if runtime.GOARCH == "amd64" { // elsewhere multiply-adds may round once instead of twice
		sum, err := d.Checksum(t.Context())
		require.NoError(t, err)
		require.Equal(t, shapesChecksum, sum)
	}
}

// A changed set would make every label that was learned on it untrue.
const shapesChecksum = "b74f037e05a73f8de64496ddb1287d3c40dbe386859497849f86d4275660793b"

func TestSplit(t *testing.T) {
	sets := map[string]bool{}
	for _, seed := range []uint64{1, 2, 1} {
		d, err := Open("shapes", Options{Seed: seed, ValSplit: 0.25})
		require.NoError(t, err)
		require.Equal(t, []int{3000, 1000, 2000}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()})
		seen := map[int]bool{}
		for _, s := range []*Set{d.Train, d.Validation} {
			for i := range s.Len() {
				require.False(t, seen[s.at(i)])
				seen[s.at(i)] = true
			}
		}
		require.Len(t, seen, 4000)
		sets[fmt.Sprint(d.Validation.index)] = true
	}
	require.Len(t, sets, 2, "the seed alone chooses")
}
