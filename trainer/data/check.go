package data

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	"runtime"
	"slices"
)

// Checked is what a set holds, as a reading of all of its images found.
type Checked struct {
	Data       string         `json:"data"`
	Classes    int            `json:"classes"`
	Splits     []CheckedSplit `json:"splits"` // those with images
	Duplicates []Duplicates   `json:"duplicates"`
	LeftOut    []LeftOut      `json:"left_out"`
	Damaged    []Damaged      `json:"damaged"`
}

// CheckedSplit is what one part of a set holds.
type CheckedSplit struct {
	Name     string         `json:"name"`
	Images   int            `json:"images"` // those that cannot be read too
	Formats  map[string]int `json:"formats"`
	Classes  int            `json:"classes"` // that have images here
	Smallest CheckedClass   `json:"smallest_class"`
	Largest  CheckedClass   `json:"largest_class"`
	Sizes    *CheckedSizes  `json:"sizes"` // of those that can be read; null without any
}

// CheckedClass is a class with the number of its images.
type CheckedClass struct {
	Name   string `json:"name"`
	Images int    `json:"images"`
}

// CheckedSizes are widths and heights in pixels, ordered by the number of pixels.
type CheckedSizes struct {
	Smallest [2]int `json:"smallest"`
	Median   [2]int `json:"median"`
	Largest  [2]int `json:"largest"`
}

// Duplicates are images of equal content, each beside the first of its content. That test images are among those for
// training makes their accuracy too good.
type Duplicates struct {
	Splits     [2]string `json:"splits"`
	Images     int       `json:"images"`
	OtherClass int       `json:"of_another_class"` // of them
	First      []string  `json:"first"`
}

// Damaged is an image that cannot be read.
type Damaged struct {
	Split string `json:"split"`
	Image string `json:"image"`
	Why   string `json:"why"`
}

// Formats of images that need no decoding: those that a set holds in memory, and those of a raw store.
const (
	formatDecoded = "decoded"
	formatRaw     = "raw"
)

// found is what of an image is found.
type found struct {
	sum    [sha256.Size]byte
	size   image.Point
	format string
	err    error
}

// Check reads and decodes all images of a set. progress is told how far it is; it may be nil.
func (d *Dataset) Check(ctx context.Context, progress func(done, total int)) (*Checked, error) {
	total := 0
	for _, name := range splits {
		total += d.Part(name).Len()
	}
	// As many as goroutines use at once.
	decoders := make(chan *decoder, 2*runtime.GOMAXPROCS(0))
	for range cap(decoders) {
		one, err := newDecoder()
		if err != nil {
			return nil, err
		}
		defer one.close()
		decoders <- one
	}
	out := &Checked{Data: d.Source(), Classes: len(d.Classes), Splits: []CheckedSplit{}, Duplicates: []Duplicates{},
		LeftOut: d.LeftOut, Damaged: []Damaged{}}
	if out.LeftOut == nil {
		out.LeftOut = []LeftOut{}
	}
	seen := seenImages{at: map[[sha256.Size]byte]origin{}}
	told := counter(total, progress)
	for _, name := range splits {
		set := d.Part(name)
		if set.Len() == 0 {
			continue
		}
		list := make([]found, set.Len())
		err := parallel(ctx, set.Len(), func(i int, buf []byte) []byte {
			one := <-decoders
			buf = list[i].look(set, i, one, buf[:0])
			decoders <- one
			told()
			return buf
		})
		if err != nil {
			return nil, err
		}
		out.Splits = append(out.Splits, d.summary(name, set, list))
		for i, f := range list {
			if f.err != nil {
				out.Damaged = append(out.Damaged, Damaged{name, set.ImageName(i), f.err.Error()})
			} else {
				seen.add(f.sum, origin{name, set, i})
			}
		}
	}
	out.Duplicates = append(out.Duplicates, seen.pairs...)
	return out, nil
}

// look reads and decodes an image.
func (f *found) look(set *Set, i int, d *decoder, buf []byte) []byte {
	number := set.at(i)
	if p, decoded := set.store.(*pixels); decoded {
		f.sum, f.size, f.format = sha256.Sum256(p.image(number)), image.Pt(p.width, p.height), formatDecoded
		return buf
	}
	if buf, f.err = set.store.(encoded).read(number, buf); f.err != nil {
		return buf
	}
	f.sum, f.format = sha256.Sum256(buf), formatOf(buf)
	if p, ok := set.store.(*packed); ok && p.raw() {
		f.size, f.format = p.size(number), formatRaw
		return buf
	}
	if f.size, f.err = d.size(buf); f.err == nil {
		_, f.err = d.region(buf, image.Rectangle{Max: f.size}, 8, 8) // all of it is decoded, and little of it is kept
	}
	return buf
}

// summary says what a part of the set holds.
func (d *Dataset) summary(name string, set *Set, list []found) CheckedSplit {
	s := CheckedSplit{Name: name, Images: set.Len(), Formats: map[string]int{}}
	images := make([]int, len(d.Classes))
	var sizes []image.Point
	for i, f := range list {
		images[set.Label(i)]++
		if f.err == nil {
			sizes = append(sizes, f.size)
			s.Formats[f.format]++
		}
	}
	for class, n := range images {
		if n == 0 {
			continue
		}
		if s.Classes++; s.Classes == 1 || n < s.Smallest.Images {
			s.Smallest = CheckedClass{d.Classes[class], n}
		}
		if n > s.Largest.Images {
			s.Largest = CheckedClass{d.Classes[class], n}
		}
	}
	if len(sizes) > 0 {
		slices.SortFunc(sizes, func(a, b image.Point) int { return cmp.Or(a.X*a.Y-b.X*b.Y, a.X-b.X) })
		side := func(p image.Point) [2]int { return [2]int{p.X, p.Y} }
		s.Sizes = &CheckedSizes{side(sizes[0]), side(sizes[(len(sizes)-1)/2]), side(sizes[len(sizes)-1])}
	}
	return s
}

// origin is an image of a part of a set.
type origin struct {
	split string
	set   *Set
	image int
}

// seenImages knows the first image of each content.
type seenImages struct {
	at    map[[sha256.Size]byte]origin
	pairs []Duplicates
}

func (s *seenImages) add(sum [sha256.Size]byte, p origin) {
	first, again := s.at[sum]
	if !again {
		s.at[sum] = p
		return
	}
	pair := [2]string{first.split, p.split}
	k := slices.IndexFunc(s.pairs, func(d Duplicates) bool { return d.Splits == pair })
	if k < 0 {
		k = len(s.pairs)
		s.pairs = append(s.pairs, Duplicates{Splits: pair, First: []string{}})
	}
	d := &s.pairs[k]
	d.Images++
	if first.set.Label(first.image) != p.set.Label(p.image) {
		d.OtherClass++
	}
	if len(d.First) < leftNames {
		d.First = append(d.First, fmt.Sprintf("%s = %s", p.set.ImageName(p.image), first.set.ImageName(first.image)))
	}
}
