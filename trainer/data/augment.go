package data

import (
	"fmt"
	"image"
	"math"

	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Crop is how a square is taken out of an image.
type Crop int

const (
	// CropCentre resizes the image so that its shorter side is Transform.Resize pixels (0: not at all) and takes the
	// middle: torchvision's Resize and CenterCrop.
	CropCentre Crop = iota
	// CropRandomResized takes a random part of the image, between AreaMin and AreaMax of its area and between 3/4 and
	// 4/3 in its ratio of width to height, and resizes it to the square: torchvision's RandomResizedCrop.
	CropRandomResized
	// CropPadded puts Pad black pixels around an image of exactly the output's size and takes a random square:
	// torchvision's RandomCrop with padding.
	CropPadded
)

// Transform says how an image becomes Size x Size pixels of three floats: crop, flip, colours, normalisation (x -
// Mean)/Std with x from 0 to 1, cutout. Resizing is with antialiasing. The random numbers of an image are a function
// of the seed, the epoch, the image's number in its set and the step of the transform, so that switching one step on
// leaves the others as they were.
type Transform struct {
	Size             int
	Crop             Crop
	Resize           int     // CropCentre
	AreaMin, AreaMax float64 // CropRandomResized; both 0: torchvision's 0.08 and 1
	Pad              int     // CropPadded
	Flip             bool    // mirror half of the images
	Jitter           Jitter
	Cutout           int           // side of a square that is blanked (DeVries and Taylor 2017), 0: none
	Filter           kernel.Filter // of resizing
	Mean, Std        [3]float32
}

// Jitter is torchvision's ColorJitter without hue: each factor is drawn from [1-x, 1+x], not below 0, and they are
// applied in a random order.
type Jitter struct{ Brightness, Contrast, Saturation float64 }

// SupernetJitter is how once-for-all changes colours when it trains supernets and when it computes statistics of batch
// norms ("tf" in its imagenet_classification/data_providers/imagenet.py).
var SupernetJitter = Jitter{Brightness: 32. / 255, Saturation: 0.5}

// TrainTransform is the usual one for training: random resized crops, or where all images have one size and that is
// wanted, random crops of the image with an eighth of black border on every side; mirrored half of the time.
func (d *Dataset) TrainTransform(size int) Transform {
	t := Transform{Size: size, Crop: CropRandomResized, Flip: true, Mean: d.Mean, Std: d.Std}
	if d.Width == size && d.Height == size {
		t.Crop, t.Pad = CropPadded, size/8
	}
	return t
}

// EvalCrop is the share of a resized image's shorter side that is shown in evaluation.
const EvalCrop = 0.875

// EvalTransform is the usual one for evaluation: the middle of the image after resizing it to size/EvalCrop (256 for
// 224), or the whole of it where all images have the size that is wanted.
func (d *Dataset) EvalTransform(size int) Transform {
	t := Transform{Size: size, Crop: CropCentre, Mean: d.Mean, Std: d.Std}
	if d.Width != size || d.Height != size {
		t.Resize = int(math.Round(float64(size) / EvalCrop))
	}
	return t
}

func (t *Transform) check() error {
	switch {
	case t.Size < 1 || t.Size > 4096:
		return fmt.Errorf("image size %d: want 1..4096", t.Size)
	case t.Crop < CropCentre || t.Crop > CropPadded:
		return fmt.Errorf("crop %d is none", t.Crop)
	case t.Crop == CropCentre && t.Resize != 0 && (t.Resize < t.Size || t.Resize > 8192):
		return fmt.Errorf("resizing to %d before a crop of %d: want at least as much, at most 8192", t.Resize, t.Size)
	case t.Pad < 0 || t.Pad > t.Size:
		return fmt.Errorf("padding %d of images of %d", t.Pad, t.Size)
	case !(t.AreaMin >= 0 && t.AreaMin <= t.AreaMax && t.AreaMax <= 1) || t.AreaMin == 0 && t.AreaMax != 0:
		return fmt.Errorf("crop areas %g..%g: want shares of the image above 0, at most 1", t.AreaMin, t.AreaMax)
	case t.Cutout < 0 || t.Cutout > t.Size:
		return fmt.Errorf("cutout %d of images of %d", t.Cutout, t.Size)
	}
	for _, j := range []float64{t.Jitter.Brightness, t.Jitter.Contrast, t.Jitter.Saturation} {
		if !(j >= 0 && j <= 10) {
			return fmt.Errorf("colour jitter %g: want 0..10", j)
		}
	}
	for c := range 3 {
		if !(t.Std[c] > 0) || math.IsInf(float64(t.Std[c]), 0) || math.IsNaN(float64(t.Mean[c])) ||
			math.IsInf(float64(t.Mean[c]), 0) {
			return fmt.Errorf("normalisation by mean %g and standard deviation %g", t.Mean, t.Std)
		}
	}
	return nil
}

// Steps of a transform that draw random numbers. Each has a stream of its own; the numbers are part of the streams'
// keys.
const (
	stepCrop = iota
	stepFlip
	stepJitter
	stepCutout
)

// draws are the random numbers of one image in one epoch.
type draws struct {
	key   philox.Key
	epoch uint32
	image int
}

func (d draws) step(step int) philox.Stream {
	return d.key.From(d.epoch, uint64(d.image)<<20|uint64(step)<<16)
}

// view is what of an image is shown: box is resized to full, and of that the square at `at` is taken, mirrored or not.
type view struct {
	box  image.Rectangle
	full image.Point
	at   image.Point
	flip bool
}

// view chooses the part of an image of the given size. CropPadded is not a view: see padded.
func (t *Transform) view(size image.Point, d draws) (view, error) {
	v := view{box: image.Rectangle{Max: size}, full: size, flip: t.flip(d)}
	if t.Crop == CropRandomResized {
		s := d.step(stepCrop)
		lo, hi := t.AreaMin, t.AreaMax
		if hi == 0 {
			lo, hi = 0.08, 1
		}
		v.box = randomResizedCrop(size, lo, hi, &s)
		v.full = image.Pt(t.Size, t.Size)
		return v, nil
	}
	if t.Resize != 0 {
		if size.X <= size.Y {
			v.full = image.Pt(t.Resize, max(t.Resize, t.Resize*size.Y/size.X))
		} else {
			v.full = image.Pt(max(t.Resize, t.Resize*size.X/size.Y), t.Resize)
		}
	}
	if v.full.X < t.Size || v.full.Y < t.Size {
		return v, fmt.Errorf("image of %dx%d pixels is smaller than the crop of %d", size.X, size.Y, t.Size)
	}
	v.at = image.Pt(int(math.RoundToEven(float64(v.full.X-t.Size)/2)),
		int(math.RoundToEven(float64(v.full.Y-t.Size)/2)))
	return v, nil
}

// padded is a crop of an image of the output's size with black pixels around it: what lies beside the image is black.
func (t *Transform) padded(d draws) view {
	s := d.step(stepCrop)
	whole := image.Pt(t.Size, t.Size)
	dx := s.Intn(2*t.Pad+1) - t.Pad
	dy := s.Intn(2*t.Pad+1) - t.Pad
	return view{box: image.Rectangle{Max: whole}, full: whole, at: image.Pt(dx, dy), flip: t.flip(d)}
}

func (t *Transform) flip(d draws) bool {
	if !t.Flip {
		return false
	}
	s := d.step(stepFlip)
	return s.Uint32()>>31 == 1
}

// randomResizedCrop is torchvision's RandomResizedCrop.get_params: ten tries at an area and a ratio, then the largest
// part in the middle whose ratio is allowed. Python rounds halves to even.
func randomResizedCrop(size image.Point, areaMin, areaMax float64, s *philox.Stream) image.Rectangle {
	const ratioMin, ratioMax = 3.0 / 4, 4.0 / 3
	round := func(v float64) int { return int(math.RoundToEven(v)) }
	uniform := func(a, b float64) float64 { return a + (b-a)*s.Float64() }
	for range 10 {
		area := float64(size.X) * float64(size.Y) * uniform(areaMin, areaMax)
		ratio := math.Exp(uniform(math.Log(ratioMin), math.Log(ratioMax)))
		w, h := round(math.Sqrt(area*ratio)), round(math.Sqrt(area/ratio))
		if w > 0 && w <= size.X && h > 0 && h <= size.Y {
			y := s.Intn(size.Y - h + 1)
			x := s.Intn(size.X - w + 1)
			return image.Rect(x, y, x+w, y+h)
		}
	}
	w, h := size.X, size.Y
	switch ratio := float64(w) / float64(h); {
	case ratio < ratioMin:
		h = min(h, round(float64(w)/ratioMin))
	case ratio > ratioMax:
		w = min(w, round(float64(h)*ratioMax))
	}
	x, y := (size.X-w)/2, (size.Y-h)/2
	return image.Rect(x, y, x+w, y+h)
}

// artist turns images into floats for one worker.
type artist struct {
	t           Transform
	dec         *decoder
	res         *kernel.Resampler
	x, y        kernel.Axis
	fixed       bool            // resampling is by whole weights
	raw         bool            // images are laid out for a device (lay)
	zero        [3]float32      // what turns into 0, with fixed: -bias/scale
	levels      bool            // the output is whole numbers from 0 to 255 and not normalised
	scale, bias [3]float32      // what turns 0..255 into the output or, where colours change afterwards, into 0..1
	table       [3][256]float32 // the same for every value
}

// normalised are the factors and summands that turn values from 0 to 255 into (x - Mean)/Std, and what they make of
// each whole one.
func (t *Transform) normalised() (scale, bias [3]float32, table [3][256]float32) {
	for c := range 3 {
		scale[c] = float32(1 / (255 * float64(t.Std[c])))
		bias[c] = float32(-float64(t.Mean[c]) / float64(t.Std[c]))
	}
	return scale, bias, tabled(scale, bias)
}

func tabled(scale, bias [3]float32) (table [3][256]float32) {
	for c := range table {
		for v := range table[c] {
			table[c][v] = scale[c]*float32(v) + bias[c]
		}
	}
	return table
}

// look is what an artist's images are: normalised floats, unless one of these is set.
type look struct {
	levels bool // whole numbers from 0 to 255
	fixed  bool // resampled by whole weights
	raw    bool // laid out for a device
}

func newArtist(t Transform, c look) (*artist, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	res, err := kernel.NewResampler("")
	if err != nil {
		dec.close()
		return nil, err
	}
	a := &artist{t: t, dec: dec, res: res, levels: c.levels, fixed: c.fixed && !c.raw, raw: c.raw}
	switch {
	case a.jitters() && !c.raw:
		a.scale = [3]float32{1. / 255, 1. / 255, 1. / 255}
		a.table = tabled(a.scale, a.bias)
	case c.levels || c.raw:
		a.scale = [3]float32{1, 1, 1}
		a.table = tabled(a.scale, a.bias)
	default:
		a.scale, a.bias, a.table = t.normalised()
		for c := range 3 {
			a.zero[c] = float32(255 * float64(t.Mean[c]))
		}
	}
	return a, nil
}

func (a *artist) close() { a.dec.close() }

// place is where an image of a batch goes: Size x Size x 3 floats, or, of a raw batch, a number in a section.
type place struct {
	floats  []float32
	section *kernel.Section
	number  int
}

// file draws an encoded image.
func (a *artist) file(dst place, data []byte, d draws) error {
	size, err := a.dec.size(data)
	if err != nil {
		return damage{err}
	}
	if a.t.Crop == CropPadded {
		if err := a.exact(size); err != nil { // before all of it is decoded
			return err
		}
		r, err := a.dec.region(data, image.Rectangle{Max: size}, 1, 1)
		if err != nil {
			return damage{err}
		}
		return a.decoded(dst, r, d)
	}
	v, err := a.t.view(size, d)
	if err != nil {
		return err
	}
	need := a.needed(v)
	r, err := a.dec.region(data, need, a.shrink(v), reduction(v, need.Size()))
	if err != nil {
		return damage{err}
	}
	a.draw(dst, r, v, d)
	return nil
}

// draw draws a view of a raster that holds at least what the view needs.
func (a *artist) draw(dst place, r raster, v view, d draws) {
	if a.raw {
		a.lay(dst, r, v, d)
		return
	}
	a.resample(dst.floats, r, v)
	a.finish(dst.floats, d)
}

// shrink is by how much a training image may be reduced while it is decoded: the crop must not become smaller than the
// output.
func (a *artist) shrink(v view) int {
	s := 1
	for a.t.Crop == CropRandomResized && s < 8 && v.box.Dx() >= 2*s*v.full.X && v.box.Dy() >= 2*s*v.full.Y {
		s *= 2
	}
	return s
}

// reduction is by how much an image is reduced of which more than largePixels are needed: until a quarter of those is
// left, but to no less than twice the size that it is then resized to.
func reduction(v view, need image.Point) int {
	s := 1
	if need.X*need.Y <= largePixels {
		return s
	}
	for need.X*need.Y/(s*s) > largePixels/4 && v.box.Dx() >= 4*s*v.full.X && v.box.Dy() >= 4*s*v.full.Y {
		s *= 2
	}
	return s
}

// needed is the part of the image that a view reads.
func (a *artist) needed(v view) image.Rectangle {
	span := func(lo, hi, full, at int) (int, int) {
		step := float64(hi-lo) / float64(full)
		reach := a.t.Filter.Reach()*math.Max(step, 1) + 1
		return max(lo, lo+int(float64(at)*step-reach)), min(hi, lo+int(float64(at+a.t.Size)*step+reach)+1)
	}
	var r image.Rectangle
	r.Min.X, r.Max.X = span(v.box.Min.X, v.box.Max.X, v.full.X, v.at.X)
	r.Min.Y, r.Max.Y = span(v.box.Min.Y, v.box.Max.Y, v.full.Y, v.at.Y)
	return r
}

// decoded draws an image of which r is the whole.
func (a *artist) decoded(dst place, r raster, d draws) error {
	size := r.rect.Size()
	var v view
	var err error
	if a.t.Crop == CropPadded {
		if err := a.exact(size); err != nil {
			return err
		}
		v = a.t.padded(d)
	} else if v, err = a.t.view(size, d); err != nil {
		return err
	}
	if a.raw || v.box.Size() != v.full {
		a.draw(dst, r, v, d)
		return nil
	}
	if a.t.Crop != CropPadded { // nothing to resize, and nothing comes from outside
		from := v.box.Min.Add(v.at)
		r.pix, v.at = r.pix[from.Y*r.stride+3*from.X:], image.Point{}
	}
	a.shifted(dst.floats, r, v.at.X, v.at.Y, v.flip)
	a.finish(dst.floats, d)
	return nil
}

// exact checks that an image has the size that padded crops are taken of.
func (a *artist) exact(size image.Point) error {
	if size != image.Pt(a.t.Size, a.t.Size) {
		return fmt.Errorf("image of %dx%d pixels, but padded crops of %d", size.X, size.Y, a.t.Size)
	}
	return nil
}

// shifted copies Size x Size pixels, moved by (dx, dy); what comes from outside is black.
func (a *artist) shifted(dst []float32, r raster, dx, dy int, flip bool) {
	n := a.t.Size
	red, green, blue := &a.table[0], &a.table[1], &a.table[2]
	for y := range n {
		row := dst[3*n*y : 3*n*(y+1)]
		sy := y + dy
		var src []byte
		if sy >= 0 && sy < n {
			src = r.pix[sy*r.stride : sy*r.stride+3*n]
		}
		for x := range n {
			sx := x + dx
			o := row[3*x : 3*x+3]
			if flip {
				o = row[3*(n-1-x) : 3*(n-x)]
			}
			if src == nil || sx < 0 || sx >= n {
				o[0], o[1], o[2] = red[0], green[0], blue[0]
				continue
			}
			p := src[3*sx : 3*sx+3]
			o[0], o[1], o[2] = red[p[0]], green[p[1]], blue[p[2]]
		}
	}
}

// jitters tells whether colours change: then images are drawn as 0..1 and normalised by finish.
func (a *artist) jitters() bool { return a.t.Jitter != Jitter{} }

// resample draws a view of a raster that holds at least what the view needs.
func (a *artist) resample(dst []float32, r raster, v view) {
	s := float64(r.shrink)
	axis := func(x *kernel.Axis, lo, hi, begin, end, full, at int, flip bool) {
		from, to := float64(lo)/s, float64(hi)/s
		first, last := max(begin, int(from)), min(end, int(math.Ceil(to)))
		x.Antialias(a.t.Filter, from-float64(begin), to-float64(begin), first-begin, last-begin, full, at,
			a.t.Size, flip)
	}
	axis(&a.x, v.box.Min.X, v.box.Max.X, r.rect.Min.X, r.rect.Max.X, v.full.X, v.at.X, v.flip)
	axis(&a.y, v.box.Min.Y, v.box.Max.Y, r.rect.Min.Y, r.rect.Max.Y, v.full.Y, v.at.Y, false)
	src := kernel.Source{Pix: r.pix, Stride: r.stride, Width: r.rect.Dx(), Height: r.rect.Dy()}
	if a.fixed {
		a.res.ResampleFixed(dst, src, &a.y, &a.x, a.scale, a.zero)
	} else {
		a.res.Resample(dst, src, &a.y, &a.x, a.scale, a.bias)
	}
	if a.t.Filter != kernel.Bilinear { // it may leave 0..255
		for i := range dst {
			c := i % 3
			dst[i] = min(max(dst[i], a.table[c][0]), a.table[c][255])
		}
	}
}

// finish changes colours, rounds levels and blanks a square.
func (a *artist) finish(dst []float32, d draws) {
	if a.jitters() {
		a.t.colours(d).apply(dst)
		for i := range dst {
			if a.levels {
				dst[i] *= 255
			} else {
				dst[i] = (dst[i] - a.t.Mean[i%3]) / a.t.Std[i%3]
			}
		}
	}
	if a.levels {
		for i, v := range dst {
			dst[i] = float32(int(v + 0.5)) // which is not below 0
		}
	}
	cut := a.t.cut(d)
	for y := cut.Min.Y; y < cut.Max.Y; y++ {
		clear(dst[3*(a.t.Size*y+cut.Min.X) : 3*(a.t.Size*y+cut.Max.X)])
	}
}

// cut is the square of an image that is blanked; empty without.
func (t *Transform) cut(d draws) image.Rectangle {
	if t.Cutout == 0 {
		return image.Rectangle{}
	}
	s := d.step(stepCutout)
	n, half := t.Size, t.Cutout/2
	cx, cy := s.Intn(n), s.Intn(n)
	return image.Rect(cx-half, cy-half, cx-half+t.Cutout, cy-half+t.Cutout).Intersect(image.Rect(0, 0, n, n))
}

// colours are the steps of a Jitter as they were drawn for an image, in their order.
type colours struct {
	kinds   [3]kernel.Colour
	factors [3]float32
}

// draw draws the steps, of which those without strength change nothing.
func (j Jitter) draw(s *philox.Stream) (out colours) {
	kinds := [3]kernel.Colour{kernel.Brightness, kernel.Contrast, kernel.Saturation}
	strength := [3]float64{j.Brightness, j.Contrast, j.Saturation}
	for n, kind := range s.Perm(3) {
		lo := math.Max(0, 1-strength[kind])
		factor := float32(lo + (1+strength[kind]-lo)*s.Float64())
		if strength[kind] != 0 {
			out.kinds[n], out.factors[n] = kinds[kind], factor
		}
	}
	return out
}

// colours are an image's.
func (t *Transform) colours(d draws) colours {
	s := d.step(stepJitter)
	return t.Jitter.draw(&s)
}

// apply changes the colours of an image with values from 0 to 1.
func (c colours) apply(img []float32) {
	for n, kind := range c.kinds {
		factor := c.factors[n]
		switch kind {
		case kernel.Brightness:
			blend(img, factor, 0)
		case kernel.Contrast:
			var sum float64
			for i := 0; i < len(img); i += 3 {
				sum += float64(grey(img[i : i+3]))
			}
			blend(img, factor, float32(sum/float64(len(img)/3)))
		case kernel.Saturation:
			for i := 0; i < len(img); i += 3 {
				blend(img[i:i+3], factor, grey(img[i:i+3]))
			}
		}
	}
}

// blend moves values away from a level by a factor, within 0..1.
func blend(img []float32, factor, level float32) {
	rest := (1 - factor) * level
	for i, v := range img {
		img[i] = max(0, min(1, factor*v+rest))
	}
}

// grey is the brightness of a pixel (ITU-R BT.601, as in Pillow).
func grey(p []float32) float32 { return 0.299*p[0] + 0.587*p[1] + 0.114*p[2] }

// betaOne draws from Beta(alpha, alpha), the weight of mixup (Zhang, Cisse, Dauphin, Lopez-Paz 2018).
func betaOne(alpha float64, s *philox.Stream) float64 {
	a, b := gamma(alpha, s), gamma(alpha, s)
	if a+b == 0 { // both vanish for a tiny alpha, where the distribution has all its mass at the ends
		return float64(s.Uint32() >> 31)
	}
	return a / (a + b)
}

// gamma draws from Gamma(alpha, 1) (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
func gamma(alpha float64, s *philox.Stream) float64 {
	if alpha < 1 {
		return gamma(alpha+1, s) * math.Pow(1-s.Float64(), 1/alpha)
	}
	d := alpha - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := s.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if u := 1 - s.Float64(); math.Log(u) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
