package data

import (
	"math"
	"sync"

	"github.com/ctnas/ctnas/kernels/philox"
)

// The generated set's sizes.
const (
	shapesSide  = 32
	shapesTrain = 4000
	shapesVal   = 2000
	shapesTest  = 2000
)

// shapesSeed makes the set the same for everyone: labels that were learned on it stay true.
const shapesSeed = 1

// shapeClasses are outlines in a plane where the shape fits in about the unit circle. Some are told apart at a glance
// (ring, cross), others are easily taken for another one under noise (disc, pentagon, square), so that both weak and
// strong networks have something to gain.
var shapeClasses = []struct {
	name   string
	inside func(x, y float64) bool
}{
	{"disc", func(x, y float64) bool { return x*x+y*y < 0.81 }},
	{"ring", func(x, y float64) bool { r := x*x + y*y; return r < 0.9 && r > 0.27 }},
	{"square", func(x, y float64) bool { return math.Abs(x) < 0.78 && math.Abs(y) < 0.78 }},
	{"triangle", polygon(3, 0.55)},
	{"pentagon", polygon(5, 0.78)},
	{"star", star},
	{"cross", func(x, y float64) bool {
		x, y = math.Abs(x), math.Abs(y)
		return x < 0.95 && y < 0.3 || y < 0.95 && x < 0.3
	}},
	{"crescent", func(x, y float64) bool { return x*x+y*y < 0.9 && (x-0.45)*(x-0.45)+y*y > 0.55 }},
	{"half disc", func(x, y float64) bool { return (x+0.4)*(x+0.4)+y*y < 1 && x > -0.35 }},
	{"angle", func(x, y float64) bool {
		return x > -0.75 && x < 0.75 && y > -0.75 && y < 0.75 && (x < -0.25 || y < -0.25)
	}},
}

// shapeReach is farther from the origin than any point of a shape; the star's are the farthest, at 1.1003.
const shapeReach = 1.15

// polygon is a regular one of n sides at distance d from the centre.
func polygon(n int, d float64) func(x, y float64) bool {
	normals := directions(n)
	return func(x, y float64) bool {
		for _, m := range normals {
			if x*m[0]+y*m[1] > d {
				return false
			}
		}
		return true
	}
}

// directions are n unit vectors in equal steps.
func directions(n int) [][2]float64 {
	out := make([][2]float64, n)
	for i := range out {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(n))
		out[i] = [2]float64{cos, sin}
	}
	return out
}

var starNormals = directions(5)

// star has five points: it is where four of the five half-planes of a pentagon's extended sides meet.
func star(x, y float64) bool {
	inside := 0
	for _, m := range starNormals {
		if x*m[0]+y*m[1] < 0.34 {
			inside++
		}
	}
	return inside >= 4
}

// generated is the whole set with its checksum, and what is known of its training images.
type generated struct {
	*pixels
	sum       string
	mean, std [3]float32
}

// theShapes makes the whole set, once: it takes a second or two of one processor.
var theShapes = sync.OnceValue(func() (g generated) {
	g.pixels = generateShapes(shapesSeed, shapesTrain+shapesVal+shapesTest)
	g.sum = checksum(g.pixels)
	g.mean, g.std = statistics(g.pix[:shapesTrain*3*shapesSide*shapesSide])
	return g
})

// openShapes generates the set `shapes`: 32x32 RGB images of 10 classes, 4,000 for training, 2,000 for validation,
// 2,000 for tests. Each shows one filled shape (see shapeClasses) of random place, size, rotation, stretch and colour
// on a textured background of another colour, sometimes crossed by a bar, among small pieces of clutter, with noise.
// Classes are equally frequent. It is made to rank architectures where no real images are at hand: networks of a few
// thousand parameters learn it in seconds, some of them far better than others, at a resolution of 16 too. Accuracies
// on it say nothing about any other set.
func openShapes(string) (*Dataset, error) {
	all := theShapes()
	part := func(from, to int) *Set {
		const image = 3 * shapesSide * shapesSide
		return &Set{store: &pixels{"shapes", shapesSide, shapesSide, all.pix[from*image : to*image],
			all.labels[from:to]}}
	}
	d := &Dataset{Train: part(0, shapesTrain), Validation: part(shapesTrain, shapesTrain+shapesVal),
		Test: part(shapesTrain+shapesVal, all.count()), Width: shapesSide, Height: shapesSide, Mean: all.mean,
		Std: all.std, sum: all.sum}
	for _, c := range shapeClasses {
		d.Classes = append(d.Classes, c.name)
	}
	return d, nil
}

// statistics are the mean and the standard deviation of each channel, in units of 1 = white.
func statistics(pix []byte) (mean, std [3]float32) {
	var sum, square [3]float64
	for i, v := range pix {
		x := float64(v) / 255
		sum[i%3] += x
		square[i%3] += x * x
	}
	n := float64(len(pix) / 3)
	for c := range 3 {
		m := sum[c] / n
		mean[c], std[c] = float32(m), float32(math.Sqrt(square[c]/n-m*m))
	}
	return mean, std
}

func generateShapes(seed uint64, n int) *pixels {
	const size = 3 * shapesSide * shapesSide
	p := &pixels{"shapes", shapesSide, shapesSide, make([]byte, n*size), make([]int32, n)}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				class := i % len(shapeClasses)
				p.labels[i] = int32(class)
				drawShape(p.pix[i*size:(i+1)*size], class, philox.New(seed, philox.PurposeShapes, uint32(i)))
			}
		})
	}
	wg.Wait()
	return p
}

type rgb [3]float64

// canvas is an image while it is drawn.
type canvas [shapesSide * shapesSide]rgb

// thirds are where samples lie in a pixel, along either axis.
var thirds = [3]float64{(0 + 0.5) / 3, (1 + 0.5) / 3, (2 + 0.5) / 3}

// fill paints colour(x, y) where inside(x, y), both in a frame with its origin at (cx, cy), turned by angle and scaled
// so that one unit is (rx, ry) pixels. Nothing farther than reach from the origin along either axis is inside. Edges
// are smoothed with 3x3 samples a pixel.
func (c *canvas) fill(cx, cy, rx, ry, angle, reach float64, inside func(x, y float64) bool,
	colour func(x, y float64) rgb) {
	sin, cos := math.Sincos(angle)
	r := reach * max(rx, ry)
	ix, iy := 1/rx, 1/ry
	const sample = 0.5 // the samples of a pixel lie no farther from its middle
	farX, farY := reach+sample/rx, reach+sample/ry
	for y := max(0, int(cy-r)); y < min(shapesSide, int(cy+r)+2); y++ {
		for x := max(0, int(cx-r)); x < min(shapesSide, int(cx+r)+2); x++ {
			dx, dy := float64(x)+0.5-cx, float64(y)+0.5-cy
			u, v := (dx*cos+dy*sin)/rx, (dy*cos-dx*sin)/ry
			if math.Abs(u) > farX || math.Abs(v) > farY {
				continue
			}
			var ax, bx, ay, by [3]float64
			for s, part := range thirds {
				dx, dy := float64(x)+part-cx, float64(y)+part-cy
				ax[s], bx[s], ay[s], by[s] = dx*cos, dx*sin, dy*sin, dy*cos
			}
			hits := 0
			for j := range ay {
				for i := range ax {
					if inside((ax[i]+ay[j])*ix, (by[j]-bx[i])*iy) {
						hits++
					}
				}
			}
			if hits == 0 {
				continue
			}
			paint := colour(u, v)
			cover := float64(hits) / 9
			p := &c[y*shapesSide+x]
			for i := range p {
				p[i] += cover * (paint[i] - p[i])
			}
		}
	}
}

// texture is two colours that change into each other along a wave.
func texture(s *philox.Stream, base rgb, contrast float64) func(x, y float64) rgb {
	var other rgb
	for i := range other {
		other[i] = base[i] + contrast*(2*s.Float64()-1)
	}
	frequency, phase := 1.5+6*s.Float64(), 2*math.Pi*s.Float64()
	sin, cos := math.Sincos(2 * math.Pi * s.Float64())
	bend := 2 * s.Float64()
	return func(x, y float64) rgb {
		u, v := x*cos+y*sin, y*cos-x*sin
		w := 0.5 + 0.5*math.Sin(frequency*u+bend*math.Sin(2*v)+phase)
		var out rgb
		for i := range out {
			out[i] = base[i] + w*(other[i]-base[i])
		}
		return out
	}
}

func drawShape(pix []byte, class int, s *philox.Stream) {
	uniform := func(a, b float64) float64 { return a + (b-a)*s.Float64() }
	colour := func() rgb { return rgb{uniform(0.1, 0.9), uniform(0.1, 0.9), uniform(0.1, 0.9)} }
	var c canvas
	const middle = shapesSide / 2

	back := colour()
	for back.light() > 0.5 {
		back = colour()
	}
	paint := texture(s, back, 0.25)
	for i := range c {
		c[i] = paint(float64(i%shapesSide)/middle-1, float64(i/shapesSide)/middle-1)
	}
	clutter := func(count int) {
		for range count {
			kind := shapeClasses[s.Intn(len(shapeClasses))]
			r := uniform(1, 1.8)
			c.fill(uniform(0, shapesSide), uniform(0, shapesSide), r, r, uniform(0, 2*math.Pi), shapeReach, kind.inside,
				texture(s, colour(), 0.2))
		}
	}
	clutter(s.Intn(3))

	// A colour that is clearly lighter than the background's.
	front := colour()
	for front.light() < back.light()+0.2 {
		front = colour()
	}
	r, stretch := uniform(8, 11.5), uniform(0.85, 1.18)
	cx, cy := uniform(12, shapesSide-12), uniform(12, shapesSide-12)
	c.fill(cx, cy, r*math.Sqrt(stretch), r/math.Sqrt(stretch), uniform(-0.6, 0.6), shapeReach,
		shapeClasses[class].inside,
		texture(s, front, 0.15))

	// A bar over part of it, and one more piece of clutter.
	if s.Float64() < 0.4 {
		angle := uniform(0, 2*math.Pi)
		sin, cos := math.Sincos(angle)
		away := uniform(0.2, 0.9) * r
		c.fill(cx-away*sin, cy+away*cos, 2*shapesSide, uniform(0.7, 1.5), angle, 1, func(_, y float64) bool {
			return math.Abs(y) < 1
		},
			texture(s, colour(), 0.2))
	}
	clutter(1)

	light, noise := uniform(0.7, 1.15), uniform(0.02, 0.12)
	for i := range c {
		for ch, v := range c[i] {
			level := 255 * (v*light + noise*bell(s))
			if level < 0 {
				level = 0
			} else if level > 255 {
				level = 255
			}
			pix[3*i+ch] = uint8(level + 0.5)
		}
	}
}

// bell is about a standard normal number, from one draw: the sum of four bytes.
func bell(s *philox.Stream) float64 {
	v := s.Uint32()
	return bells[v&255+v>>8&255+v>>16&255+v>>24]
}

// bells are the numbers of the sums of four bytes, whose standard deviation is 147.8.
var bells = func() (b [4*255 + 1]float64) {
	for sum := range b {
		b[sum] = (float64(sum) - 510) / 147.8
	}
	return b
}()

// light is a colour's brightness.
func (c rgb) light() float64 { return 0.299*c[0] + 0.587*c[1] + 0.114*c[2] }
