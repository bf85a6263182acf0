package latency

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/onnx"
)

// ManifestName is the file of a folder of ONNX files that says what they are.
const ManifestName = "manifest.json"

// Kinds of files.
const (
	kindPart    = "part"
	kindNetwork = "network"
)

// Manifest is manifest.json: a file for each part of a space, and for random networks, which tell how far off the sums
// of parts are.
type Manifest struct {
	Format int    `json:"format"`
	Space  string `json:"space"`
	Batch  int    `json:"batch"` // images that times are of; the files take any number
	Files  []File `json:"files"`
}

// File is an ONNX file of a Manifest.
type File struct {
	File   string      `json:"file"` // in the folder, with slashes
	Kind   string      `json:"kind"` // part, or network
	Name   string      `json:"name"` // the part's, or the architecture in words
	Inputs []onnx.Port `json:"inputs"`
	SHA256 string      `json:"sha256"`
}

// manifestFormat is the form of manifest.json.
const manifestFormat = 1

// maxManifestBytes bounds what is read.
const maxManifestBytes = 16 << 20

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// Collect writes an ONNX file for each part of a space, and o.Networks random networks, into a folder, with random
// weights and batch norms folded into the layers before them. A part is cut out of a network: what it reads are the
// file's inputs. The manifest comes last.
func Collect(ctx context.Context, sp space.Measurable, o Options, dir string) (*Manifest, error) {
	if err := o.Settings().Check(); err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	m := &Manifest{Format: manifestFormat, Space: sp.Name(), Batch: o.Batch}
	names := sp.Parts()
	total, width := len(names)+o.Networks, len(fmt.Sprint(len(names)))
	for _, folder := range []string{"parts", "networks"} {
		if err := files.MkdirAll(filepath.Join(dir, folder)); err != nil {
			return nil, err
		}
	}
	add := func(f File, text []byte) error {
		if err := files.Write(filepath.Join(dir, filepath.FromSlash(f.File)), text); err != nil {
			return err
		}
		f.SHA256 = digest.Of(text)
		m.Files = append(m.Files, f)
		if o.Progress != nil {
			o.Progress(len(m.Files), total)
		}
		return ctx.Err()
	}
	draw := philox.New(o.Seed, philox.PurposeSample, 0)
	var judged []space.Arch
	for range o.Networks {
		judged = append(judged, sp.Sample(draw))
	}
	options := onnx.Options{FoldNorms: true, Version: o.Program}
	written := make([]bool, len(names))
	for _, a := range sp.Cover(draw) {
		net, section, part, err := sp.Dissect(a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		values := net.Initialize(nn.TorchDefault, o.Seed) // time does not depend on them
		for k, p := range part {
			if written[p] {
				continue
			}
			written[p] = true
			text, inputs, _, err := onnx.EncodeSection(net, values, section, k, options)
			if err != nil {
				return nil, fmt.Errorf("part %s of %s: %w", names[p], a, err)
			}
			name := fmt.Sprintf("parts/%0*d-%s.onnx", width, p, unsafeName.ReplaceAllString(names[p], "-"))
			if err := add(File{File: name, Kind: kindPart, Name: names[p], Inputs: inputs}, text); err != nil {
				return nil, err
			}
		}
	}
	for p, there := range written {
		if !there {
			return nil, fmt.Errorf("part %s was in no network", names[p])
		}
	}
	for i, a := range judged {
		net, _, _, err := sp.Dissect(a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		in := net.Input()
		text, err := onnx.Encode(net, net.Initialize(nn.TorchDefault, o.Seed), options)
		if err != nil {
			return nil, err
		}
		if err := add(File{File: fmt.Sprintf("networks/%0*d.onnx", len(fmt.Sprint(o.Networks)), i), Kind: kindNetwork,
			Name: a.String(), Inputs: []onnx.Port{{Name: onnx.InputName, Dims: []int{in.C, in.H, in.W}}}},
			text); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return m, files.Write(filepath.Join(dir, ManifestName), append(text, '\n'))
}

// ReadManifest reads that of a folder.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	text, err := files.Read(path, maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("want the folder of ctnas latency collect: %w", err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("%s: format %d, this program reads %d", path, m.Format, manifestFormat)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		switch {
		case f.Kind != kindPart && f.Kind != kindNetwork:
			return nil, fmt.Errorf("%s: %q is a %q, want a %s or a %s", path, f.File, f.Kind, kindPart, kindNetwork)
		case f.File == "" || seen[f.File]:
			return nil, fmt.Errorf("%s: file %q comes twice, or has no name", path, f.File)
		case !filepath.IsLocal(filepath.FromSlash(f.File)) || strings.Contains(f.File, `\`):
			return nil, fmt.Errorf("%s: %q is no file of the folder", path, f.File)
		}
		seen[f.File] = true
	}
	return m, nil
}
