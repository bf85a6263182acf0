package data

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree writes files; names that end in an image's ending are images of a shade of their own.
func tree(t testing.TB, names ...string) string {
	dir := t.TempDir()
	for i, name := range names {
		content := []byte("text\n")
		if isImage(name) {
			content = tiny(t, uint8(i))
		}
		write(t, filepath.Join(dir, filepath.FromSlash(name)), content)
	}
	return dir
}

// The folders that people have at hand are found and read as their names say.
func TestImageNetFolders(t *testing.T) {
	train := []string{"train/a/1.jpg", "train/a/2.webp", "train/b/3.png"}
	under := func(root string, names ...string) (out []string) {
		for _, n := range append(train, names...) {
			out = append(out, root+n)
		}
		return out
	}
	for name, c := range map[string]struct {
		files     []string
		at        string
		val, test int
	}{
		"val":                 {under("", "val/b/4.jpg"), "", 0, 1},
		"validation":          {under("", "validation/b/4.jpg"), "", 0, 1},
		"valid":               {under("", "valid/b/4.jpg"), "", 0, 1},
		"test":                {under("", "test/b/4.jpg", "test/a/5.jpg"), "", 0, 2},
		"val and test":        {under("", "val/b/4.jpg", "test/a/5.jpg", "test/b/6.jpg"), "", 1, 2},
		"test without labels": {under("", "val/b/4.jpg", "test/6.jpg"), "", 0, 1},
		"Kaggle":              {under("ILSVRC/Data/CLS-LOC/", "val/b/4.jpg"), "", 0, 1},
		"ILSVRC":              {under("Data/CLS-LOC/", "val/b/4.jpg"), "", 0, 1},
		"one folder down":     {under("my-set/", "val/b/4.jpg"), "", 0, 1},
		"Tiny ImageNet": {append(under("", "val/images/4.JPEG", "test/images/5.JPEG")[3:], "train/a/images/1.JPEG",
			"train/a/a_boxes.txt", "train/b/images/2.JPEG",
			"train/b/images/3.JPEG"), "", 0, 1},
	} {
		dir := tree(t, c.files...)
		if name == "Tiny ImageNet" {
			write(t, filepath.Join(dir, "val", "val_annotations.txt"), []byte("4.JPEG\tb\t0\t0\t44\t51\n"))
		}
		d, err := Open("imagenet:"+filepath.Join(dir, c.at), Options{})
		require.NoError(t, err, name)
		require.Equal(t, []int{3, c.val, c.test}, []int{d.Train.Len(), d.Validation.Len(), d.Test.Len()}, name)
		require.Equal(t, []string{"a", "b"}, d.Classes, name)
		for _, s := range []*Set{d.Train, d.Validation, d.Test} {
			for i := range s.Len() {
				_, _, _, err := s.Image(i)
				require.NoError(t, err, name)
			}
		}
	}

	// The identity of a set with validation images of its own sees them.
	dir := tree(t, under("", "val/b/4.jpg", "test/a/5.jpg")...)
	sum := checksumOf(t, dir)
	write(t, filepath.Join(dir, "val", "b", "4.jpg"), tiny(t, 99))
	require.NotEqual(t, sum, checksumOf(t, dir))
}

func checksumOf(t testing.TB, dir string) string {
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	sum, err := d.Checksum(t.Context())
	require.NoError(t, err)
	return sum
}

// What could be meant in two ways is not read, and the error says what was seen and what to do.
func TestImageNetRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		at    string
		files []string
	}{
		"holds the folders val and valid: one of them only": {
			"", []string{"train/a/1.jpg", "val/a/2.jpg", "valid/a/2.jpg"}},
		"its folders x, y hold a train each: name one of them": {
			"", []string{"x/train/a/1.jpg", "y/train/a/1.jpg"}},
		"but is a part of a set itself: name": {
			"train", []string{"train/a/1.jpg"}},
		"but the folders a, b: if these are the classes, move them into": {
			"", []string{"a/1.jpg", "b/1.jpg"}},
		"holds 1 images and no folders of classes: want a folder a class": {
			"", []string{"train/a/1.jpg", "val/2.jpg"}},
		"numbers classes in an order of its own (meta.mat of the development kit)": {
			"", []string{"train/a/1.jpg", "val/2.jpg", "ILSVRC2012_validation_ground_truth.txt"}},
		`LOC_val_solution.csv: line 1: "text" says no class that the training`: {
			"", []string{"train/a/1.jpg", "val/2.jpg", "LOC_val_solution.csv"}},
		"holds no .jpg, .jpeg, .png or .webp files (2 of 3 classes have no images)": {
			"", []string{"train/a/1.jpg", "train/b/x.gif", "train/c/y.txt"}},
		filepath.Join("val", "c") + " is a class that the training images do not have": {
			"", []string{"train/a/1.jpg", "val/c/2.jpg"}},
	} {
		dir := tree(t, c.files...)
		_, err := Open("imagenet:"+filepath.Join(dir, c.at), Options{})
		require.ErrorContains(t, err, want)
	}
}

// Validation images of one folder have the classes of a list.
func TestAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"LOC_val_solution.csv": "ImageId,PredictionString\nv2,b 85 1 499 272 b 0 0 1 1 \nv1,a 1 2 3 4 \nv3,b 1 1 1 1\n",
		"val.txt":              "v2.JPEG 1\nv1.JPEG 0\r\nv3.JPEG 1\n",
	} {
		for _, at := range []string{".", "val", "ILSVRC/Data/CLS-LOC"} {
			root := "ILSVRC/Data/CLS-LOC/"
			if at == "val" {
				at = root + "val"
			}
			dir := tree(t, root+"train/a/1.jpg", root+"train/b/1.jpg", root+"val/v1.JPEG", root+"val/v2.JPEG",
				root+"val/v3.JPEG")
			write(t, filepath.Join(dir, at, name), []byte(text))
			d, err := Open("imagenet:"+dir, Options{})
			require.NoError(t, err)
			require.Equal(t, []int{0, 1, 1}, []int{d.Test.Label(0), d.Test.Label(1), d.Test.Label(2)})
			require.Empty(t, d.LeftOut, "the list itself is nothing that is left out")
			write(t, filepath.Join(dir, root, "val", "ImageId.JPEG"), tiny(t, 1)) // the header names no image
			_, err = Open("imagenet:"+dir, Options{})
			require.ErrorContains(t, err, "does not say the class of "+filepath.Join("val", "ImageId.JPEG"))
			require.NoError(t, os.Remove(filepath.Join(dir, root, "val", "ImageId.JPEG")))
			write(t, filepath.Join(dir, root, "val", "v4.JPEG"), tiny(t, 1))
			_, err = Open("imagenet:"+dir, Options{})
			require.ErrorContains(t, err, "does not say the class of "+filepath.Join("val", "v4.JPEG"))
		}
	}
	// ImageNet's own ImageSets/CLS-LOC/val.txt numbers the images: no class is read out of it.
	_, _, ok := caffeAnswer("ILSVRC2012_val_00000001 1", []string{"a", "b"})
	require.False(t, ok)
	_, _, ok = caffeAnswer("v1.JPEG 2", []string{"a", "b"})
	require.False(t, ok)
}

func FuzzAnswers(f *testing.F) {
	for _, line := range []string{"v2,b 85 1 499 272", "ImageId,PredictionString", "v2.JPEG 1", "v.JPEG\tb\t0"} {
		f.Add(line)
	}
	classes := []string{"a", "b"}
	f.Fuzz(func(t *testing.T, line string) {
		for _, a := range knownAnswers {
			if image, label, ok := a.read(line, classes); ok {
				require.True(t, label < len(classes) && (label >= 0 || image == "ImageId"), "%s: %q %d", a.name, image,
					label)
			}
		}
	})
}

// What lies among the images and is not read is counted, and said when a set is opened.
func TestLeftOut(t *testing.T) {
	dir := tree(t, "train/a/1.jpg", "train/a/2.gif", "train/a/3.gif", "train/a/4.GIF", "train/a/5.gif",
		"train/a/.hidden.jpg", "train/a/more/6.jpg", "train/a/README",
		"train/list.txt", "train/.DS_Store", "val/a/1.png", "val/a/._1.png", "other/1.jpg")
	var said []string
	d, err := Open("imagenet:"+dir, Options{Warn: func(text string) { said = append(said, text) }})
	require.NoError(t, err)
	in := func(name string) string { return filepath.Join("train", "a", name) }
	require.Equal(t, []LeftOut{
		{".gif files", 4, []string{in("2.gif"), in("3.gif"), in("4.GIF")}},
		{"hidden", 3, []string{filepath.Join("train", ".DS_Store"), in(".hidden.jpg"),
			filepath.Join("val", "a", "._1.png")}},
		{"beside the folders of classes", 1, []string{filepath.Join("train", "list.txt")}},
		{"files without an ending", 1, []string{in("README")}},
		{"folders in a class's folder", 1, []string{in("more")}},
		{"folders that are no part of the set", 1, []string{"other"}},
	}, d.LeftOut)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "imagenet: 11 files or folders are not read: 4 .gif files ("+in("2.gif")+", "+
		in("3.gif")+", "+in("4.GIF")+", …); 3 hidden (")
	said = nil
	_, err = Open("imagenet:"+tree(t, "train/a/1.jpg"), Options{Warn: func(text string) { said = append(said, text) }})
	require.NoError(t, err)
	require.Empty(t, said)
}

// Images that a list does not name are not passed over without a word.
func TestUnlisted(t *testing.T) {
	dir := tree(t, "1.jpg", "2.jpg", "in/3.jpg", "in/4.jpg", "in/5.txt", "other/6.jpg")
	write(t, filepath.Join(dir, "labels.csv"), []byte("file,class_index\n1.jpg,0\n./in/../in/3.jpg,1\n"))
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	require.Equal(t, []LeftOut{{whyUnlisted, 2, []string{"2.jpg", filepath.Join("in", "4.jpg")}}}, d.LeftOut)
}

// A list with a byte-order mark, or in UTF-16, is the same list.
func TestLabelsEncodings(t *testing.T) {
	text := "wnid,file,class_index\nn9,ä.png,1\n"
	utf16 := []byte{0xFF, 0xFE}
	for _, r := range text {
		utf16 = append(utf16, byte(r), byte(r>>8))
	}
	for _, content := range [][]byte{[]byte(text), []byte("\uFEFF" + text), utf16} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "labels.csv"), content)
		d, err := Open("imagenet:"+dir, Options{})
		require.NoError(t, err)
		require.Equal(t, "ä.png", d.Train.ImageName(0))
		require.Equal(t, "n9", d.Classes[1])
	}
}

// A sample's class may stand in other members than .cls, and an image behind another word.
func TestShardForms(t *testing.T) {
	pic := tiny(t, 1)
	good := map[string][]member{
		"input and target": {{"a.input.jpg", pic}, {"a.target.cls", []byte("3")}},
		"webp":             {{"a.webp", pic}, {"a.cls", []byte("3")}},
		"txt":              {{"a.png", pic}, {"a.txt", []byte(" 3\n")}},
		"txt in UTF-16":    {{"a.png", pic}, {"a.txt", []byte("\xFF\xFE3\x00")}},
		"json":             {{"a.json", []byte(`{"label": 3, "key": "a", "width": 20}`)}, {"a.png", pic}},
		"json and txt": {{"a.json", []byte(`{"class_index": 3, "label": 3}`)}, {"a.txt", []byte("a dog")},
			{"a.png", pic}},
		"cls before all": {{"a.json", []byte(`{"label": 9}`)}, {"a.txt", []byte("7")}, {"a.png", pic},
			{"a.cls", []byte("3")}},
		"hidden":   {{"._a.png", []byte("x")}, {"a.png", pic}, {"a.cls", []byte("3")}},
		"no image": {{"a.png", pic}, {"a.cls", []byte("3")}, {"readme.md", nil}},
	}
	for name, members := range good {
		left := leaving{}
		list, err := indexShard(bytes.NewReader(tarOf(t, members...)), left)
		require.NoError(t, err, name)
		require.Len(t, list, 1, name)
		require.EqualValues(t, 3, list[0].label, name)
		require.Len(t, left, map[string]int{"hidden": 1, "no image": 1}[name], name)
	}
	for want, members := range map[string][]member{
		"offset 1536: a second image of sample a, beside a.input.jpg": {{"a.input.jpg", pic}, {"a.target.jpg", pic}},
		`no class is found in a.txt with "a dog", a.json with the keys ["caption" "url"]: want a .txt with`: {
			{"a.png", pic}, {"a.txt", []byte("a dog")}, {"a.json", []byte(`{"caption": "a dog", "url": "u"}`)}},
		"a.txt at offset 2560 says class 4, another member of sample a says 3": {
			{"a.png", pic}, {"a.json", []byte(`{"label": 3}`)}, {"a.txt", []byte("4")}},
		"label is 1.5, want one class":          {{"a.png", pic}, {"a.json", []byte(`{"label": 1.5}`)}},
		"a.json at offset 1536: no JSON object": {{"a.png", pic}, {"a.json", []byte(`[3]`)}},
		"sample a has a .cls and no image that is read (.jpg, .jpeg, .png or .webp files): a.gif": {
			{"a.gif", pic}, {"a.cls", []byte("3")}},
	} {
		_, err := indexShard(bytes.NewReader(tarOf(t, members...)), leaving{})
		require.ErrorContains(t, err, want)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(tarOf(t, good["txt"]...))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	path := filepath.Join(t.TempDir(), "s.tar.gz")
	write(t, path, packed.Bytes())
	_, err = Open("shards:"+path, Options{})
	require.ErrorContains(t, err, "s.tar.gz: it is compressed with gzip: images are read in any order, which needs "+
		"a plain tar: unpack it with gzip -d")
}

// Other forms of CIFAR are named, with what to do.
func TestCIFARElsewhere(t *testing.T) {
	for want, files := range map[string][]string{
		"binary.tar.gz is packed: tar -xzf": {"cifar-10-binary.tar.gz"},
		"python.tar.gz is packed: tar -xzf": {"cifar-10-python.tar.gz"},
		"holds neither data_batch_1.bin nor a folder cifar-10-batches-bin or cifar-10-batches-py": {"x"},
		"data_batch_1: pickle: byte": {"data_batch_1"},
	} {
		_, err := Open("cifar10:"+tree(t, files...), Options{})
		require.ErrorContains(t, err, want)
	}
}
