// Package data brings images in: it opens image sets (CIFAR, ImageNet as folders or tar shards, the generated
// `shapes`), decodes, crops and augments, and hands out batches.
//
// What a batch holds is a function of the set, the transform, the seed and the batch's position and of nothing else:
// not of the number of workers, nor of where a run was interrupted. JPEG decoders differ in the last bit, so a run that
// must be repeated to the bit needs the same one (Decoder).
package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Dataset is an opened image set. Close it after use.
type Dataset struct {
	Name                    string   // cifar10, cifar100, imagenet, shards, shapes
	Classes                 []string // names in the order of the labels
	Indexed                 bool     // the set itself says each class's number; false: it is its place in a sorted list
	Train, Validation, Test *Set     // never nil; empty where the set has none
	Width, Height           int      // of every image; 0 where they differ
	Mean, Std               [3]float32
	LeftOut                 []LeftOut // what lies among the images and is not read
	Store                   string    // what a packed set keeps of its images, "256-pixel store"; empty of others

	all, published *Set   // training and validation images before some of the former were held out
	sum            string // of a decoded set; empty: identity tells
	identity       *identity
	close          func() error
}

// Options of Open.
type Options struct {
	Seed uint64 // chooses the images that are held out
	// ValSplit is the share of the training images that become the validation set, at least 0 and below 1. 0 keeps what
	// the set comes with: `shapes` has a validation set, the others have none.
	ValSplit float64
	// Manifests is a folder where hashes of image files are kept, so that files that have not changed are not read
	// again for a checksum. Several processes may share it. Empty: nothing is kept.
	Manifests string
	// Progress is told how many of the image files are read that must be, for a checksum; may be nil.
	Progress func(done, total int)
	// Cache keeps the files of images; nil: they are read each time. A packed set's, and images in memory, it leaves
	// alone.
	Cache *Cache
	// Warn is told what is odd and harms nothing; may be nil.
	Warn func(text string)
}

// Open opens the image set that spec names:
//
//	shapes         generated, see Shapes
//	cifar10:DIR    data_batch_1.bin .. data_batch_5.bin, test_batch.bin; also in DIR/cifar-10-batches-bin; or the
//	               Python version
//	cifar100:DIR   train.bin, test.bin, fine labels; also in DIR/cifar-100-binary; or the Python version
//	imagenet:DIR   DIR/train/CLASS/*.JPEG and DIR/val/CLASS/*.JPEG, or images beside a labels.csv
//	               (file,class_index); see openImageNet
//	imagenet:FILE  what Pack wrote
//	shards:GLOB    tar files of KEY.jpg and KEY.cls (WebDataset); GLOB may hold a range {000..099}; see indexShard
//	shards:GLOB?test=GLOB
//
// Published validation images (DIR/val) and test batches become Test: nothing may be chosen by them. Where a set has
// both, each is what its name says.
func Open(spec string, o Options) (*Dataset, error) {
	if !(o.ValSplit >= 0 && o.ValSplit < 1) {
		return nil, fmt.Errorf("validation split %g: want at least 0 and below 1", o.ValSplit)
	}
	if err := CheckSpec(spec); err != nil {
		return nil, err
	}
	kind, where, _ := strings.Cut(spec, ":")
	d, err := kinds[kind](where)
	if err != nil {
		return nil, fmt.Errorf("data %s: %w", spec, err)
	}
	if d.sum == "" && o.Cache != nil {
		d.cache(o.Cache)
	}
	d.Name, d.all, d.published = kind, d.Train, d.Validation
	if d.sum == "" {
		whole, err := Absolute(spec)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.identity = &identity{spec: whole, classes: d.Classes, options: o, now: time.Now}
		for _, s := range []*Set{d.Train, d.Validation, d.Test} {
			var part encoded = &imageFiles{} // of none: what a part is for counts too
			if s.store != nil {
				part = s.store.(encoded)
			}
			d.identity.parts = append(d.identity.parts, part)
		}
	}
	d.warnLeftOut(o.Warn)
	return d.Split(o.Seed, o.ValSplit), nil
}

// cache has the files of the set's images kept.
func (d *Dataset) cache(c *Cache) {
	inner := d.close
	var all []*cached
	for _, s := range []*Set{d.Train, d.Validation, d.Test} {
		if s.store != nil {
			kept := c.over(s.store.(encoded))
			s.store, all = kept, append(all, kept)
		}
	}
	d.close = func() error {
		for _, kept := range all {
			kept.close()
		}
		if inner == nil {
			return nil
		}
		return inner()
	}
}

var kinds = map[string]func(string) (*Dataset, error){
	"shapes": openShapes, "cifar10": openCIFAR10, "cifar100": openCIFAR100, "imagenet": openImageNet,
	"shards": openShards,
}

// CheckSpec tells whether spec is of one of Open's forms, whatever there is under that name.
func CheckSpec(spec string) error {
	kind, where, _ := strings.Cut(spec, ":")
	if i := strings.Index(spec, "s3://"); i == 0 || i > 0 && i == len(kind)+1 {
		return fmt.Errorf("data %q: images are read from disks, as fast as training wants them: first `ctnas data pull %s "+
			"-o DIR`, then name DIR", spec, spec[i:])
	}
	if _, known := kinds[kind]; !known {
		return fmt.Errorf("data %q: want shapes, cifar10:DIR, cifar100:DIR, imagenet:DIR or shards:GLOB", spec)
	}
	if (where == "") != (kind == "shapes") {
		return fmt.Errorf("data %q: want shapes, or %s:PATH", spec, kind)
	}
	return nil
}

// Checksum is a SHA-256 in hexadecimal over all that a training can see of a set, its training images and its test
// images: of a decoded set over pixels and labels, of encoded images over each one's label, size and content and over
// the names of the classes. It depends neither on where the files lie nor on their names and times. It may read every
// image (Options.Manifests says how to avoid that).
func (d *Dataset) Checksum(ctx context.Context) (string, error) {
	if d.identity == nil {
		return d.sum, nil
	}
	sum, err := d.identity.checksum(ctx)
	if err != nil {
		return "", fmt.Errorf("the checksum of %s: %w", d.Name, err)
	}
	return sum, nil
}

// Source is what the images are, without a path, for texts: "imagenet", or "imagenet, 256-pixel store".
func (d *Dataset) Source() string {
	if d.Store == "" {
		return d.Name
	}
	return d.Name + ", " + d.Store
}

// Split is the same set with other images held out (Options). It shares the files: close one of the two only, when
// neither is used any longer.
func (d *Dataset) Split(seed uint64, share float64) *Dataset {
	out := *d
	out.Train, out.Validation = d.all, d.published
	if share > 0 {
		out.split(seed, share)
	}
	return &out
}

// Absolute makes the paths in spec valid in any working directory.
func Absolute(spec string) (string, error) {
	kind, where, found := strings.Cut(spec, ":")
	if !found {
		return spec, nil
	}
	if kind != "shards" {
		path, err := files.Absolute(where)
		return kind + ":" + path, err
	}
	train, test, hasTest := strings.Cut(where, testPart)
	train, err := absolutePattern(train)
	if err != nil || !hasTest {
		return kind + ":" + train, err
	}
	test, err = absolutePattern(test)
	return kind + ":" + train + testPart + test, err
}

// Close closes the set's files.
func (d *Dataset) Close() error {
	if d.close == nil {
		return nil
	}
	return d.close()
}

// split moves a share of the training images, drawn by the seed, to Validation in place of what was there. Both keep
// their order.
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
	store  store
	index  []int32 // of the store's images; nil: all
	labels []int32 // what the store's labels stand for; nil: themselves
}

// store holds images under the numbers 0..count()-1.
type store interface {
	count() int
	label(i int) int32
	name(i int) string // for messages
}

// encoded is a store of JPEG and PNG files. read appends to buf; several goroutines may call it and stamp.
type encoded interface {
	store
	read(i int, buf []byte) ([]byte, error)
	stamp(i int) stamp
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
func (s *Set) Label(i int) int {
	label := s.store.label(s.at(i))
	if s.labels != nil {
		label = s.labels[label]
	}
	return int(label)
}

// Relabelled is the same images with the labels that `to` has for theirs.
func (s *Set) Relabelled(to []int32) *Set { return &Set{s.store, s.index, to} }

// ImageName says where image i comes from.
func (s *Set) ImageName(i int) string { return s.store.name(s.at(i)) }

// Image returns image i decoded: RGB, 8 bits a sample, row after row. It must not be changed.
func (s *Set) Image(i int) (pix []byte, width, height int, err error) {
	if p, ok := s.store.(*pixels); ok {
		return p.image(s.at(i)), p.width, p.height, nil
	}
	if p, ok := s.store.(*packed); ok && p.raw() {
		var r raster
		if r, _, err = p.raster(s.at(i), nil); err != nil {
			err = unreadable(s.ImageName(i), err)
		}
		return r.pix, r.rect.Dx(), r.rect.Dy(), err
	}
	file, err := s.store.(encoded).read(s.at(i), nil)
	if err == nil {
		if pix, width, height, err = DecodeRGB(file); err != nil {
			err = damage{err}
		}
	}
	if err != nil {
		err = unreadable(s.ImageName(i), err)
	}
	return pix, width, height, err
}

// subset holds the images at positions of s.
func (s *Set) subset(positions []int) *Set {
	index := make([]int32, len(positions))
	for i, p := range positions {
		index[i] = int32(s.at(p))
	}
	return &Set{s.store, index, s.labels}
}

// checksum hashes pixels and labels.
func checksum(stores ...*pixels) string {
	h := sha256.New()
	for _, p := range stores {
		_, _ = h.Write(p.pix) // a hash takes everything
		for _, label := range p.labels {
			_, _ = h.Write([]byte{0, byte(label), byte(label >> 8), byte(label >> 16)})
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
