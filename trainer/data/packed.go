package data

import (
	"errors"
	"fmt"
	"image"
	"path/filepath"

	"github.com/ctnas/ctnas/trainer/data/pack"
)

// packed is a store of one part of a packed set: images from number `first` of the file on.
type packed struct {
	file          *pack.File
	base          string // of its path
	first, images int
}

// openPacked opens what Pack wrote. The set's checksum is the file's seal: it is another set than the one that was
// packed.
func openPacked(path string) (*Dataset, error) {
	f, err := pack.Open(path)
	if err != nil {
		return nil, err
	}
	d := &Dataset{Classes: f.Classes, Indexed: f.Indexed, Mean: imageNetMean, Std: imageNetStd,
		Store: fmt.Sprintf("%d-pixel store", f.Side), sum: f.Checksum(), close: f.Close}
	first := 0
	for part, set := range []**Set{&d.Train, &d.Validation, &d.Test} {
		*set = &Set{}
		if n := f.Images[part]; n > 0 {
			*set = &Set{store: &packed{f, filepath.Base(path), first, n}}
			first += n
		}
	}
	return d, nil
}

func (p *packed) count() int        { return p.images }
func (p *packed) label(i int) int32 { return int32(p.file.Entry(p.first + i).Label) }
func (p *packed) name(i int) string { return p.base + " " + p.file.Name(p.first+i) }
func (p *packed) raw() bool         { return p.file.Form == pack.FormRaw }

// stamp is for checksums over files, of which a packed set has none.
func (p *packed) stamp(int) stamp { return stamp{unavailable: true} }

func (p *packed) read(i int, buf []byte) ([]byte, error) {
	buf, err := p.file.Read(p.first+i, buf)
	var damaged *pack.Damaged
	if errors.As(err, &damaged) {
		err = damage{err}
	}
	return buf, err
}

// size is that of an image in pixels.
func (p *packed) size(i int) image.Point {
	e := p.file.Entry(p.first + i)
	return image.Pt(int(e.Width), int(e.Height))
}

// raster is an image of a raw store. Its pixels lie in the buffer that is returned.
func (p *packed) raster(i int, buf []byte) (raster, []byte, error) {
	buf, err := p.read(i, buf)
	size := p.size(i)
	return raster{pix: buf, stride: 3 * size.X, rect: image.Rectangle{Max: size}, shrink: 1}, buf, err
}

// packed tells whether the images are those of a packed set. These are resampled by whole weights: faster, and the same
// bits on every processor. Other sets keep the floats that their results were made with.
func (s *Set) packed() bool {
	_, ok := s.store.(*packed)
	return ok
}
