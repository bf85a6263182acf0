package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"runtime"

	"golang.org/x/sync/errgroup"

	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/trainer/data/pack"
)

// PackConfig says how a set is packed.
type PackConfig struct {
	Side    int  // what the shorter side of an image has at most, in pixels
	Raw     bool // pixels instead of JPEG
	Quality int  // of JPEG, 1 to 100
	// OnCorrupt says what becomes of images that cannot be read. With Skip the file has a place without bytes for each,
	// an image that cannot be read there, too: the numbers of the others, on which what is random depends, stay.
	OnCorrupt OnCorrupt
	Workers   int    // 0: as many as processors
	Command   string // for who finds the file being written
	// Progress is told how many of the images are packed; may be nil.
	Progress func(done, total int)
	// Corrupt is told what could not be read; may be nil.
	Corrupt func(c Corrupt)
}

// Packed is what a packed set is.
type Packed struct {
	Path     string         `json:"path"`
	Checksum string         `json:"checksum"`
	Store    string         `json:"store"`
	Bytes    int64          `json:"bytes"`
	Images   map[string]int `json:"images"`
	Corrupt  int            `json:"corrupt_images"` // of them
	Was      bool           `json:"was_there"`      // nothing had to be done
}

// howResized says how images become smaller in Pack.
const howResized = "bilinear with antialiasing by weights of 14 bits, rounded to 8 bits"

// Pack writes a set of image files into one file of small ones, which Open reads as imagenet:FILE: an image whose
// shorter side is longer than Side pixels is resized to that; others stay as they are, byte for byte, or with Raw
// their pixels. The file is a function of the set and of Side, Raw and Quality (and of the decoder's and the encoder's
// version, which it names), whatever the number of workers; what was interrupted is gone on with. The folder of what
// is being written is PATH.part.
func (d *Dataset) Pack(ctx context.Context, path string, c PackConfig) (*Packed, error) {
	if d.identity == nil {
		return nil, fmt.Errorf("%s holds no files of images to be packed", d.Source())
	}
	f := pack.Facts{Form: pack.FormRaw, Side: c.Side, Resized: howResized, Decoder: Decoder, Source: d.Name,
		Indexed: d.Indexed, Classes: d.Classes}
	var encoder jpegEncoder
	if !c.Raw {
		var err error
		f.Form, f.Quality = pack.FormJPEG, c.Quality
		if encoder, f.Encoder, err = newEncoder(c.Quality); err != nil {
			return nil, err
		}
	}
	for i, part := range d.identity.parts {
		f.Images[i] = part.count()
	}
	d.identity.mu.Lock()
	list, err := d.identity.list(ctx)
	f.Sum = d.identity.sum
	d.identity.mu.Unlock()
	if err != nil {
		return nil, err
	}
	have, err := pack.Same(path, f)
	switch {
	case err == nil:
		return packedFacts(path, have, true)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	w, err := pack.Create(path, f, c.Command)
	if err != nil {
		return nil, err
	}
	if err := d.pack(ctx, w, f, c, encoder, list); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if err := w.Commit(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if have, err = pack.Open(path); err != nil {
		return nil, err
	}
	return packedFacts(path, have, false)
}

func packedFacts(path string, f *pack.File, was bool) (*Packed, error) {
	p := &Packed{Path: path, Checksum: f.Checksum(), Store: fmt.Sprintf("%d-pixel store", f.Side), Bytes: f.Size(),
		Images: map[string]int{}, Was: was}
	for i, name := range splits {
		p.Images[name] = f.Images[i]
	}
	for k := range f.Total() {
		if f.Entry(k).Bytes == 0 {
			p.Corrupt++
		}
	}
	return p, f.Close()
}

// small is an image as the file has it.
type small struct {
	image []byte
	size  image.Point
	err   error
}

// pack writes the images that are not there yet: workers make them small, one goroutine puts them in their order.
func (d *Dataset) pack(ctx context.Context, w *pack.Writer, f pack.Facts, c PackConfig, encoder jpegEncoder,
	list []listed) error {
	workers := c.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	type job struct {
		k    int
		done chan small
	}
	g, ctx := errgroup.WithContext(ctx)
	jobs, order := make(chan job), make(chan job, 4*workers)
	total, first := f.Total(), w.Done()
	g.Go(func() error {
		defer close(jobs)
		defer close(order)
		for k := first; k < total; k++ {
			j := job{k, make(chan small, 1)}
			for _, to := range []chan job{order, jobs} {
				select {
				case to <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for range workers {
		p, err := newPacker(c.Side, encoder)
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			defer p.dec.close()
			for j := range jobs {
				part, i := d.identity.at(j.k)
				j.done <- p.pack(part, i, &list[j.k])
			}
			return nil
		})
	}
	g.Go(func() error {
		left := w.Left()
		for j := range order {
			var s small
			select {
			case s = <-j.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			part, i := d.identity.at(j.k)
			if s.err != nil {
				if err := c.leaveOut(unreadable(part.name(i), s.err), d.partOf(j.k), i, &left); err != nil {
					return err
				}
			}
			if err := w.Add(s.image, s.size.X, s.size.Y, int(part.label(i))); err != nil {
				return err
			}
			if c.Progress != nil {
				c.Progress(j.k+1, total)
			}
		}
		return ctx.Err()
	})
	return g.Wait()
}

// partOf is the name of the part that image k of all belongs to.
func (d *Dataset) partOf(k int) string {
	for i, part := range d.identity.parts {
		if k < part.count() {
			return splits[i]
		}
		k -= part.count()
	}
	return ""
}

// leaveOut counts an image that cannot be read, unless that ends the work.
func (c *PackConfig) leaveOut(err error, split string, i int, left *int) error {
	var broken *UnreadableError
	if !errors.As(err, &broken) || !c.OnCorrupt.Skip {
		return err
	}
	*left++
	if c.OnCorrupt.Most > 0 && *left > c.OnCorrupt.Most {
		return tooMany{fmt.Errorf("%d images cannot be read, on-corrupt %v allows %d, the last: %w", *left, c.OnCorrupt,
			c.OnCorrupt.Most, err)}
	}
	if c.Corrupt != nil {
		c.Corrupt(Corrupt{Split: split, Image: i, Why: broken.Error()})
	}
	return nil
}

// jpegEncoder encodes RGB, row after row, and appends the file to buf. For any number of goroutines.
type jpegEncoder interface {
	encode(pix []byte, width, height int, buf []byte) ([]byte, error)
}

// maxJPEGSide is the longest side of a JPEG that every decoder takes.
const maxJPEGSide = 65500

// packer makes images small, for one worker.
type packer struct {
	side    int
	encoder jpegEncoder // nil: pixels are kept
	dec     *decoder
	res     *kernel.Resampler
	x, y    kernel.Axis
	file    []byte
	floats  []float32
	pix     []byte
}

func newPacker(side int, encoder jpegEncoder) (*packer, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	res, err := kernel.NewResampler("")
	if err != nil {
		dec.close()
		return nil, err
	}
	return &packer{side: side, encoder: encoder, dec: dec, res: res}, nil
}

// pack reads and packs an image, which must be the one that the set's checksum stands for.
func (p *packer) pack(part encoded, i int, l *listed) small {
	var err error
	p.file, err = part.read(i, p.file[:0])
	switch {
	case l.size < 0 && err != nil:
		return small{err: err}
	case err != nil: // whatever it is, it was not so before
		return small{err: errors.New("it could be read a moment ago: " + err.Error())}
	case l.size < 0 || sha256.Sum256(p.file) != l.sum:
		return small{err: errors.New("it has changed since its checksum was computed: begin anew")}
	}
	s, err := p.small(p.file)
	if err != nil {
		return small{err: damage{err}}
	}
	if cap(p.file) > keptBytes {
		p.file = nil
	}
	return s
}

// small is what is kept of a file. All of it is decoded, also where it is kept as it is.
func (p *packer) small(file []byte) (small, error) {
	size, err := p.dec.size(file)
	if err != nil {
		return small{}, err
	}
	full := size
	if shorter := min(size.X, size.Y); shorter > p.side { // as Transform.view resizes for evaluation
		full = image.Pt(max(p.side, p.side*size.X/shorter), max(p.side, p.side*size.Y/shorter))
	}
	switch {
	case full != size && p.encoder != nil && max(full.X, full.Y) > maxJPEGSide:
		return small{}, fmt.Errorf("image of %dx%d pixels: a JPEG of %dx%d is not possible", size.X, size.Y, full.X,
			full.Y)
	case p.encoder == nil && full.X*full.Y > pack.MaxImageBytes/3:
		return small{}, fmt.Errorf("image of %dx%d pixels: %dx%d are too many to be kept", size.X, size.Y, full.X,
			full.Y)
	}
	whole := view{box: image.Rectangle{Max: size}, full: full}
	r, err := p.dec.region(file, whole.box, 1, reduction(whole, size))
	switch {
	case err != nil:
		return small{}, err
	case full == size && p.encoder != nil:
		return small{bytes.Clone(file), size, nil}, nil
	case full == size:
		return small{bytes.Clone(r.pix), size, nil}, nil
	}
	p.resize(r, size, full)
	if p.encoder == nil {
		return small{bytes.Clone(p.pix), full, nil}, nil
	}
	out, err := p.encoder.encode(p.pix, full.X, full.Y, nil)
	return small{out, full, err}, err
}

// stripRows is how many rows are floats at a time.
const stripRows = 64

// resize makes p.pix of an image of some size, which r holds the whole of.
func (p *packer) resize(r raster, size, full image.Point) {
	s := float64(r.shrink)
	src := kernel.Source{Pix: r.pix, Stride: r.stride, Width: r.rect.Dx(), Height: r.rect.Dy()}
	p.pix = append(p.pix[:0], make([]byte, 3*full.X*full.Y)...)
	p.x.Antialias(kernel.Bilinear, 0, float64(size.X)/s, 0, r.rect.Dx(), full.X, 0, full.X, false)
	for at := 0; at < full.Y; at += stripRows {
		rows := min(stripRows, full.Y-at)
		p.y.Antialias(kernel.Bilinear, 0, float64(size.Y)/s, 0, r.rect.Dy(), full.Y, at, rows, false)
		n := 3 * full.X * rows
		p.floats = append(p.floats[:0], make([]float32, n)...)
		// By whole weights, so that the file is the same wherever it is made.
		p.res.ResampleFixed(p.floats, src, &p.y, &p.x, [3]float32{1, 1, 1}, [3]float32{})
		for i, v := range p.floats {
			p.pix[3*full.X*at+i] = byte(v + 0.5) // weights are positive and sum to 1: 0..255
		}
	}
	if cap(p.floats) > keptBytes {
		p.floats = nil
	}
}
