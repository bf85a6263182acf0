// Package data brings images in: it opens image sets (CIFAR, ImageNet as folders or tar shards, the generated `shapes`), decodes, crops and
// augments, and hands out batches.
//
// What a batch holds is a function of the set, the transform, the seed and the batch's position and of nothing else: not of the number
// of workers, nor of where a run was interrupted. JPEG decoders differ in the last bit, so a run that must be repeated to
// the bit needs the same one (Decoder).
package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Dataset is an opened image set. Close it after use.
type Dataset struct {
	Name                    string   // cifar10, cifar100, imagenet, shards, shapes
	Classes                 []string // names in the order of the labels
	Train, Validation, Test *Set     // never nil; empty where the set has none
	Width, Height           int      // of every image; 0 where they differ
	Mean, Std               [3]float32
	Checksum                string // SHA-256 over pixels and labels, or of encoded sets over names and labels; in hexadecimal

	close func() error
}

// Options of Open.
type Options struct {
	Seed uint64 // chooses the images that are held out
	// ValSplit is the share of the training images that become the validation set, at least 0 and below 1. 0 keeps what the set comes
	// with: `shapes` has a validation set, the others have none.
	ValSplit float64
}

// Open opens the image set that spec names:
//
//	shapes               generated, see Shapes
//	cifar10:DIR          data_batch_1.bin .. data_batch_5.bin, test_batch.bin; also in DIR/cifar-10-batches-bin
//	cifar100:DIR         train.bin, test.bin, fine labels; also in DIR/cifar-100-binary
//	imagenet:DIR         DIR/train/CLASS/*.JPEG and DIR/val/CLASS/*.JPEG, or images beside a labels.csv (file,class_index)
//	shards:GLOB          tar files of KEY.jpg and KEY.cls (WebDataset); GLOB may hold a range {000..099}
//	shards:GLOB?test=GLOB
//
// Published validation images (DIR/val) and test batches become Test: nothing may be chosen by them.
func Open(spec string, o Options) (*Dataset, error) {
	if !(o.ValSplit >= 0 && o.ValSplit < 1) {
		return nil, fmt.Errorf("validation split %g: want at least 0 and below 1", o.ValSplit)
	}
	kind, where, _ := strings.Cut(spec, ":")
	open, known := map[string]func(string) (*Dataset, error){
		"shapes": openShapes, "cifar10": openCIFAR10, "cifar100": openCIFAR100, "imagenet": openImageNet, "shards": openShards,
	}[kind]
	if !known {
		return nil, fmt.Errorf("data %q: want shapes, cifar10:DIR, cifar100:DIR, imagenet:DIR or shards:GLOB", spec)
	}
	if (where == "") != (kind == "shapes") {
		return nil, fmt.Errorf("data %q: want shapes, or %s:PATH", spec, kind)
	}
	d, err := open(where)
	if err != nil {
		return nil, fmt.Errorf("data %s: %w", spec, err)
	}
	d.Name = kind
	if o.ValSplit > 0 {
		d.split(o.Seed, o.ValSplit)
	}
	return d, nil
}

// Absolute makes a path in spec valid in any working directory. Globs of shards stay as they are.
func Absolute(spec string) (string, error) {
	kind, path, found := strings.Cut(spec, ":")
	if !found || kind == "shards" {
		return spec, nil
	}
	path, err := filepath.Abs(path)
	return kind + ":" + path, err
}

// Close closes the set's files.
func (d *Dataset) Close() error {
	if d.close == nil {
		return nil
	}
	return d.close()
}

// split moves a share of the training images, drawn by the seed, to Validation in place of what was there. Both keep their order.
func (d *Dataset) split(seed uint64, share float64) {
	n := d.Train.Len()
	held := int(math.Round(share * float64(n)))
	order := philox.New(seed, philox.PurposeSplit, 0).Perm(n)
	slices.Sort(order[:held])
	slices.Sort(order[held:])
	all := d.Train
	d.Validation, d.Train = all.subset(order[:held]), all.subset(order[held:])
}

// Set is an ordered list of labelled images.
type Set struct {
	store store
	index []int32 // of the store's images; nil: all
}

// store holds images under the numbers 0..count()-1.
type store interface {
	count() int
	label(i int) int32
	name(i int) string // for messages
}

// encoded is a store of JPEG and PNG files. read appends to buf; several goroutines may call it.
type encoded interface {
	store
	read(i int, buf []byte) ([]byte, error)
}

// pixels is a store of decoded images of one size: RGB, 8 bits a sample, row after row.
type pixels struct {
	file          string
	width, height int
	pix           []byte
	labels        []int32
}

func (p *pixels) count() int        { return len(p.labels) }
func (p *pixels) label(i int) int32 { return p.labels[i] }
func (p *pixels) name(i int) string { return fmt.Sprintf("%s image %d", p.file, i) }
func (p *pixels) image(i int) []byte {
	n := 3 * p.width * p.height
	return p.pix[i*n : (i+1)*n]
}

func (p *pixels) raster(i int) raster {
	return raster{pix: p.image(i), stride: 3 * p.width, rect: image.Rect(0, 0, p.width, p.height), shrink: 1}
}

// Len is the number of images.
func (s *Set) Len() int {
	if s.index != nil || s.store == nil {
		return len(s.index)
	}
	return s.store.count()
}

func (s *Set) at(i int) int {
	if s.index != nil {
		return int(s.index[i])
	}
	return i
}

// Label is the class of image i.
func (s *Set) Label(i int) int { return int(s.store.label(s.at(i))) }

// ImageName says where image i comes from.
func (s *Set) ImageName(i int) string { return s.store.name(s.at(i)) }

// Image returns image i decoded: RGB, 8 bits a sample, row after row. It must not be changed.
func (s *Set) Image(i int) (pix []byte, width, height int, err error) {
	if p, ok := s.store.(*pixels); ok {
		return p.image(s.at(i)), p.width, p.height, nil
	}
	file, err := s.store.(encoded).read(s.at(i), nil)
	if err == nil {
		pix, width, height, err = DecodeRGB(file)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s.ImageName(i), err)
	}
	return pix, width, height, err
}

// subset holds the images at positions of s.
func (s *Set) subset(positions []int) *Set {
	index := make([]int32, len(positions))
	for i, p := range positions {
		index[i] = int32(s.at(p))
	}
	return &Set{s.store, index}
}

// checksum hashes decoded sets by their content, encoded ones by their list.
func checksum(stores ...store) string {
	h := sha256.New()
	var line []byte
	for _, s := range stores {
		p, decoded := s.(*pixels)
		if decoded {
			h.Write(p.pix)
		}
		for i := range s.count() {
			line = line[:0]
			if !decoded {
				line = append(line, s.name(i)...)
			}
			label := s.label(i)
			line = append(line, 0, byte(label), byte(label>>8), byte(label>>16))
			h.Write(line)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
