// Command image puts a program for Linux, with the libraries that it is linked to, into an image of containers: an OCI
// archive, without Docker and without a network. The same files make the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	program := flag.String("program", "bin/ctnas", "the program `file`")
	out := flag.String("out", "build/image/ctnas.tar", "the archive `file` to write")
	gpu := flag.Bool("gpu", false, "ask the runtime for GPUs")
	version := flag.String("version", "", "of the program, for the image's labels")
	flag.Parse()
	if err := write(*program, *out, *version, *gpu); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// user is nobody's name elsewhere; manifests run as it.
const user = 65532

// small are the files of an image that no package has.
var small = map[string]string{
	"etc/passwd": fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\n"+
		"ctnas:x:%d:%d:ctnas:/tmp:/sbin/nologin\n", user, user),
	"etc/group":         fmt.Sprintf("root:x:0:\nctnas:x:%d:\n", user),
	"etc/nsswitch.conf": "hosts: files dns\n",
}

// write makes the archive.
func write(program, out, version string, gpu bool) error {
	files := map[string]string{} // by their places in the image
	libraries, err := libraries(program)
	if err != nil {
		return err
	}
	for _, l := range libraries {
		files[strings.TrimPrefix(l, "/")] = l
		copyright, err := copyrights(l)
		if err != nil {
			return err
		}
		if copyright != "" {
			files[strings.TrimPrefix(copyright, "/")] = copyright
		}
	}
	const certificates = "/etc/ssl/certs/ca-certificates.crt" // for s3:// and tls://
	if _, err := os.Stat(certificates); err != nil {
		return fmt.Errorf("%w: apt-get install ca-certificates", err)
	}
	files[certificates[1:]] = certificates
	var system, own bytes.Buffer // layers: what the program stands on seldom changes
	err = errors.Join(layer(&system, files, small), layer(&own, map[string]string{"usr/local/bin/ctnas": program}, nil))
	if err != nil {
		return err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, text := range [][]byte{system.Bytes(), own.Bytes()} {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text)), nil
		}, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return err
		}
		if image, err = mutate.AppendLayers(image, l); err != nil {
			return err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", runtime.GOARCH, v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/local/bin/ctnas"}, User: fmt.Sprintf("%d:%d", user, user), WorkingDir: "/tmp",
		Env: []string{"PATH=/usr/local/bin", "XDG_CACHE_HOME=/tmp/cache"},
		Labels: map[string]string{"org.opencontainers.image.title": "ctnas",
			"org.opencontainers.image.version": version, "org.opencontainers.image.licenses": "Apache-2.0"},
	}
	if gpu { // NVIDIA's runtime then mounts the driver's library
		config.Config.Env = append(config.Config.Env, "NVIDIA_VISIBLE_DEVICES=all",
			"NVIDIA_DRIVER_CAPABILITIES=compute,utility")
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return archive(image, out)
}

// archive writes an image as a tar file of an OCI layout.
func archive(image v1.Image, out string) error {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})
	if err := at.AppendImage(image, name); err != nil {
		return err
	}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		files[filepath.ToSlash(inside)] = file
		return err
	})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := layer(&text, files, nil); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

var (
	linked  = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(0x`)
	missing = regexp.MustCompile(`(?m)^\t(\S+) => not found`)
)

// libraries are the files that a program is linked to; none of one that has all of its libraries in itself.
func libraries(program string) ([]string, error) {
	text, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && bytes.Contains(text, []byte("not a dynamic executable")) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, text)
	}
	if m := missing.FindSubmatch(text); m != nil {
		return nil, fmt.Errorf("%s is linked to %s, which is not here", program, m[1])
	}
	var all []string
	for _, m := range linked.FindAllSubmatch(text, -1) {
		all = append(all, string(m[1]))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("ldd %s names no library: %s", program, text)
	}
	return all, nil
}

// copyrights is the file in which Debian's package of a library says whose it is; empty where the library is of none.
func copyrights(library string) (string, error) {
	whole, err := filepath.EvalSymlinks(library)
	if err != nil {
		return "", err
	}
	for _, name := range []string{library, whole, strings.TrimPrefix(whole, "/usr")} {
		if text, err := exec.Command("dpkg-query", "-S", name).Output(); err == nil {
			owner, _, _ := strings.Cut(string(text), ":")
			file := path.Join("/usr/share/doc", owner, "copyright")
			if _, err := os.Stat(file); err == nil {
				return file, nil
			}
		}
	}
	return "", nil
}

// layer writes a tar file of files, by their places, and of texts, with the folders above them and /tmp: all of root,
// of one time and in one order.
func layer(out io.Writer, files, texts map[string]string) error {
	folders := map[string]bool{}
	names := []string{}
	for _, group := range []map[string]string{files, texts} {
		for name := range group {
			names = append(names, name)
			for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
				folders[dir+"/"] = true
			}
		}
	}
	if texts != nil {
		folders["tmp/"] = true
	}
	for dir := range folders {
		names = append(names, dir)
	}
	slices.Sort(names)
	w := tar.NewWriter(out)
	for _, name := range names {
		head := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0),
			Format: tar.FormatUSTAR}
		var body []byte
		switch {
		case name == "tmp/":
			head.Mode, head.Typeflag = 0o1777, tar.TypeDir
		case folders[name]:
			head.Typeflag = tar.TypeDir
		case files[name] != "":
			info, err := os.Stat(files[name])
			if err != nil {
				return err
			}
			if body, err = os.ReadFile(files[name]); err != nil {
				return err
			}
			head.Mode = int64(0o644 | info.Mode().Perm()&0o111)
		default:
			body, head.Mode = []byte(texts[name]), 0o644
		}
		head.Size = int64(len(body))
		if err := w.WriteHeader(head); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	return w.Close()
}
