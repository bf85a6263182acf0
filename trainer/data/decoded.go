package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Decoded are the images of a set after a transform, kept as bytes: what is shown to one network after another is
// decoded, cut and resized once. It is not changed any more, so that any number of goroutines may read it.
type Decoded struct {
	Side    int
	Corrupt []Corrupt // images of the set that are left out, because they cannot be read

	pix    []byte // [Len, Side, Side, 3], red, green, blue
	labels []int32
	table  [3][256]float32 // what a network gets for a value of each channel
}

// DecodeConfig says how a set is decoded.
type DecodeConfig struct {
	// Transform is applied once. What is random in it is a function of Seed and each image's number in its set. After
	// it, values are rounded to whole ones from 0 to 255, as torchvision rounds them, then normalised when they are
	// read.
	Transform Transform
	Seed      uint64
	OnCorrupt OnCorrupt // with Skip, images that cannot be read are left out
	Workers   int       // 0: as many as processors
	Memory    int64     // bytes that the images may take; 0: any number
	// Progress is told how many of the images have been decoded; may be nil.
	Progress func(done, total int)
}

// decodeBatch is how many images are floats at a time.
const decodeBatch = 16

// bytesOf are those of a set's images.
func bytesOf(set *Set, side int) int64 { return int64(set.Len()) * int64(3*side*side+4) }

// Decode decodes a set. Where its images would take more than Memory it decodes none.
func Decode(ctx context.Context, set *Set, c DecodeConfig) (*Decoded, error) {
	side := c.Transform.Size
	if c.Transform.Cutout > 0 {
		return nil, errors.New("cutout blanks images with their mean, which no byte is")
	}
	l, err := NewLoader(set, Config{Batch: decodeBatch, Transform: c.Transform, Seed: c.Seed, Epochs: 1,
		OnCorrupt: c.OnCorrupt, Workers: c.Workers, levels: true})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if need := bytesOf(set, side); c.Memory > 0 && need > c.Memory {
		return nil, fmt.Errorf("%d images of %d pixels take %d bytes of memory, %d are allowed", set.Len(), side, need,
			c.Memory)
	}
	d := &Decoded{Side: side, pix: make([]byte, 0, set.Len()*3*side*side), labels: make([]int32, 0, set.Len())}
	_, _, d.table = c.Transform.normalised()
	for done := 0; ; {
		b, err := l.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		d.add(b, done)
		if err := c.OnCorrupt.allows(d.Corrupt); err != nil {
			return nil, err
		}
		if done += b.N; c.Progress != nil {
			c.Progress(done, set.Len())
		}
	}
	if len(d.labels) == 0 {
		return nil, tooMany{fmt.Errorf("none of the %d images can be read: %v", set.Len(), summary(d.Corrupt))}
	}
	return d, nil
}

// add appends a batch, whose first image has the number `first`, without those that cannot be read.
func (d *Decoded) add(b *Batch, first int) {
	d.Corrupt = append(d.Corrupt, b.Corrupt...)
	size := 3 * d.Side * d.Side
	for i := range b.N {
		if slices.ContainsFunc(b.Corrupt, func(c Corrupt) bool { return c.Image == first+i }) {
			continue
		}
		d.labels = append(d.labels, b.Labels[i])
		for _, v := range b.Images[i*size : (i+1)*size] {
			d.pix = append(d.pix, byte(v))
		}
	}
}

// Len is the number of images.
func (d *Decoded) Len() int { return len(d.labels) }

// Bytes is the memory that the images take.
func (d *Decoded) Bytes() int64 { return int64(cap(d.pix)) + 4*int64(cap(d.labels)) }

// Label is the class of image i.
func (d *Decoded) Label(i int) int { return int(d.labels[i]) }

// Batches is how many batches of so many images there are; the last one may be smaller.
func (d *Decoded) Batches(size int) int { return (len(d.labels) + size - 1) / size }

// Batch writes the k-th batch of len(labels) images, [len(labels), Side, Side, 3], normalised, and returns how many
// there are. Behind the last one labels are -1 and images zero.
func (d *Decoded) Batch(k int, images []float32, labels []int32) int {
	batch, size := len(labels), 3*d.Side*d.Side
	if k < 0 || k >= d.Batches(batch) || len(images) != batch*size {
		panic(fmt.Sprintf("data: batch %d of %d images in %d floats: there are %d images of %d pixels", k, batch,
			len(images), d.Len(), d.Side))
	}
	n := copy(labels, d.labels[k*batch:])
	for i := n; i < batch; i++ {
		labels[i] = -1
	}
	d.normalise(images, d.pix[k*batch*size:][:n*size])
	clear(images[n*size:])
	return n
}

// Full is Batch, but behind the last image the first ones of the set follow, without labels, again and again where
// there are few: the statistics of such a batch are then of as many images as those of any other.
func (d *Decoded) Full(k int, images []float32, labels []int32) int {
	n, size := d.Batch(k, images, labels), 3*d.Side*d.Side
	for i := n; i < len(labels); i++ {
		d.normalise(images[i*size:], d.pix[(i-n)%d.Len()*size:][:size])
	}
	return n
}

// normalise writes what a network gets for bytes of images.
func (d *Decoded) normalise(images []float32, pix []byte) {
	red, green, blue := &d.table[0], &d.table[1], &d.table[2]
	for i := 0; i+3 <= len(pix); i += 3 {
		images[i], images[i+1], images[i+2] = red[pix[i]], green[pix[i+1]], blue[pix[i+2]]
	}
}

// Sides are the images of a set decoded at one side after another. Its methods are for any number of goroutines.
type Sides struct {
	set       *Set
	transform func(side int) Transform
	c         DecodeConfig

	mu   sync.Mutex
	kept []*sided // those used last at the end
}

// sided are the images at a side, from when somebody begins to decode them.
type sided struct {
	side    int
	done    chan struct{} // closed when decoded and err are there
	decoded *Decoded
	err     error
}

// NewSides decodes nothing yet. The transform of a side takes that of c. c.Memory bounds what all sides take that are
// kept: those used longest ago are forgotten for others. What somebody still uses, or decodes, counts too but is there
// until it is done.
func NewSides(set *Set, transform func(side int) Transform, c DecodeConfig) *Sides {
	return &Sides{set: set, transform: transform, c: c}
}

// At returns the images at a side. Whoever is first to ask decodes them, others wait.
func (s *Sides) At(ctx context.Context, side int) (*Decoded, error) {
	for {
		p, mine := s.find(side)
		if mine {
			c := s.c
			c.Transform = s.transform(side)
			p.decoded, p.err = Decode(ctx, s.set, c)
			if p.err != nil {
				s.forget(p)
			}
			close(p.done)
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := p.err; err == nil || mine {
			return p.decoded, err
		} else if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		// Who decoded gave up, which is no reason for others to.
	}
}

// find returns the images at a side, and whether the caller is to decode them.
func (s *Sides) find(side int) (p *sided, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.kept, func(p *sided) bool { return p.side == side }); i >= 0 {
		p = s.kept[i]
		s.kept = append(slices.Delete(s.kept, i, i+1), p)
		return p, false
	}
	total := bytesOf(s.set, side)
	for _, p := range s.kept {
		total += bytesOf(s.set, p.side)
	}
	s.kept = slices.DeleteFunc(s.kept, func(p *sided) bool {
		if s.c.Memory == 0 || total <= s.c.Memory || p.decoding() {
			return false
		}
		total -= bytesOf(s.set, p.side)
		return true
	})
	p = &sided{side: side, done: make(chan struct{})}
	s.kept = append(s.kept, p)
	return p, true
}

func (p *sided) decoding() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (s *Sides) forget(p *sided) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = slices.DeleteFunc(s.kept, func(other *sided) bool { return other == p })
}

// Bytes is the memory that the images of all kept sides take.
func (s *Sides) Bytes() (total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.kept {
		if !p.decoding() && p.err == nil {
			total += p.decoded.Bytes()
		}
	}
	return total
}
