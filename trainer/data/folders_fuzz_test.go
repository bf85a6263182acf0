package data

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// plant makes files in a folder of lines KIND NAME, as much as the system allows: an image, an empty file, text, a
// folder, a link to another name in it or out of it, a link to a device. What makes no name within the folder is left
// out.
func plant(dir string, lines string, image []byte) {
	for n, line := range strings.Split(lines, "\n") {
		kind, name, _ := strings.Cut(line, " ")
		name, content, _ := strings.Cut(name, "|")
		if n > 40 || len(name) > 300 || !filepath.IsLocal(name) || strings.Contains(name, "\x00") {
			continue
		}
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(filepath.Dir(path), 0o755) // it may lie below a file
		switch kind {
		case "image":
			_ = os.WriteFile(path, image, 0o644)
		case "text":
			_ = os.WriteFile(path, []byte(strings.ReplaceAll(content, ";", "\n")), 0o644)
		case "folder":
			_ = os.Mkdir(path, 0o755)
		case "link":
			if filepath.IsLocal(content) {
				_ = os.Symlink(content, path)
			}
		case "up":
			_ = os.Symlink(dir, path)
		case "device":
			_ = os.Symlink("/dev/zero", path)
		}
	}
}

// FuzzFolders opens folders of images as somebody else left them: an error, or a set all of whose images have a class
// and a name within the folder, and are read or refused.
func FuzzFolders(f *testing.F) {
	f.Add("image train/a/1.png\nimage train/b/2.PNG\nimage val/a/3.png\ntext train/a/notes.txt|x")
	f.Add("image 1.png\nimage 2.png\ntext labels.csv|file,class_index;1.png,0;2.png,1")
	f.Add("text labels.csv|file,class_index;../../etc/passwd,0;/dev/zero,1;x.png,0\ndevice x.png")
	f.Add("image train/a/1.png\nup train/b\ndevice train/a/2.png\nlink train/c|a\nlink val|train")
	f.Add("image val/1.JPEG\ntext LOC_val_solution.csv|ImageId,PredictionString;1,a 1 2 3 4\nimage train/a/1.png")
	f.Add("image val/1.png\ntext val.txt|1.png 0;2.png 99999999999\nimage train/a/1.png\ntext train/b/x.png|")
	f.Add("device labels.csv")
	f.Add("folder train/a\nfolder train/\u202eb\nimage test/images/1.png")
	png := tiny(f, 7)
	f.Fuzz(func(t *testing.T, lines string) {
		if len(lines) > 1<<13 {
			return
		}
		dir := t.TempDir()
		plant(dir, lines, png)
		var d *Dataset
		var err error
		testdata.WithinMemory(t, len(lines), func() { d, err = openImageNet(dir) })
		if err != nil {
			require.Less(t, len(err.Error()), 16<<10)
			return
		}
		for _, set := range []*Set{d.Train, d.Validation, d.Test} {
			if set.store == nil {
				continue
			}
			files, ok := set.store.(*imageFiles)
			require.True(t, ok)
			for i := range files.count() {
				require.True(t, files.label(i) >= 0 && int(files.label(i)) < len(d.Classes))
				require.True(t, filepath.IsLocal(files.name(i)), files.name(i))
				if i < 8 {
					content, err := files.read(i, nil)
					require.True(t, err != nil || len(content) <= maxFileBytes)
					_ = files.stamp(i)
				}
			}
		}
	})
}

// A class that is a link to the folder of all is a folder like another: nothing is followed without end.
func TestFoldersOfLinks(t *testing.T) {
	dir := t.TempDir()
	plant(dir, "image train/a/1.png\nup train/b\ndevice train/a/2.png", tiny(t, 7))
	_, err := openImageNet(dir)
	require.ErrorContains(t, err, filepath.Join("train", "b")+" holds no")
	require.NoError(t, os.Remove(filepath.Join(dir, "train", "b")))
	d, err := openImageNet(dir)
	require.NoError(t, err)
	require.Equal(t, 2, d.Train.store.count())
	_, err = d.Train.store.(*imageFiles).read(1, nil)
	require.Error(t, err)
	var damaged damage
	require.True(t, errors.As(err, &damaged), err)
}
