package data

import "image"

// sink takes the rows of an image while they are decoded, keeps a rectangle of them and reduces it: a pixel is the
// mean of shrink x shrink pixels of the image, fewer at its right and lower edge.
type sink struct {
	out  raster
	want image.Rectangle // what is kept, in pixels of the image: out.rect at full size
	// of boxes that are not complete yet: three channels and a count; one row of boxes, or all where rows come in no
	// order
	sums []uint32
	rows int // of boxes in sums
}

// newSink keeps r of an image of the given size. scattered says that pixels come in no order. The result may lie in
// buf.
func newSink(size image.Point, r image.Rectangle, shrink int, scattered bool, buf []byte) *sink {
	rect := image.Rect(r.Min.X/shrink, r.Min.Y/shrink, (r.Max.X+shrink-1)/shrink, (r.Max.Y+shrink-1)/shrink)
	s := &sink{out: newRaster(rect, shrink, buf), rows: 1}
	s.want = image.Rectangle{rect.Min.Mul(shrink), rect.Max.Mul(shrink)}.Intersect(image.Rectangle{Max: size})
	if shrink > 1 {
		if scattered {
			s.rows = rect.Dy()
		}
		s.sums = make([]uint32, 4*rect.Dx()*s.rows)
	}
	return s
}

func (s *sink) left() int    { return s.want.Min.X }
func (s *sink) top() int     { return s.want.Min.Y }
func (s *sink) bottom() int  { return s.want.Max.Y }
func (s *sink) columns() int { return s.want.Dx() }

// put takes the columns from left() on of row y, which lies in [top, bottom): RGB. Rows come in order.
func (s *sink) put(y int, row []byte) {
	if s.sums == nil {
		copy(s.out.pix[(y-s.want.Min.Y)*s.out.stride:][:s.out.stride], row)
		return
	}
	s.add(y, s.left(), 1, row)
	if box := y / s.out.shrink; y == s.bottom()-1 || (y+1)/s.out.shrink != box {
		s.finish(box - s.out.rect.Min.Y)
	}
}

// scatter takes every step-th pixel of row y from column x on: RGB. What is not wanted is left out. finishAll ends it.
func (s *sink) scatter(y, x, step int, row []byte) {
	if y < s.top() || y >= s.bottom() {
		return
	}
	if x < s.left() {
		skip := (s.left() - x + step - 1) / step
		x, row = x+skip*step, row[min(len(row), 3*skip):]
	}
	if keep := (s.want.Max.X - x + step - 1) / step; 3*keep < len(row) {
		row = row[:3*max(0, keep)]
	}
	if s.sums != nil {
		s.add(y, x, step, row)
		return
	}
	at := (y-s.want.Min.Y)*s.out.stride + 3*(x-s.want.Min.X)
	for ; len(row) > 0; row = row[3:] {
		copy(s.out.pix[at:at+3], row)
		at += 3 * step
	}
}

// add adds pixels to their boxes.
func (s *sink) add(y, x, step int, row []byte) {
	shrink, width := s.out.shrink, s.out.rect.Dx()
	sums := s.sums[4*width*((y/shrink-s.out.rect.Min.Y)%s.rows):][:4*width]
	if step == 1 {
		for len(row) > 0 {
			box := sums[4*(x/shrink-s.out.rect.Min.X):][:4]
			n := min(len(row)/3, shrink-x%shrink)
			var r, g, b uint32
			for p := row[:3*n]; len(p) >= 3; p = p[3:] {
				r, g, b = r+uint32(p[0]), g+uint32(p[1]), b+uint32(p[2])
			}
			box[0], box[1], box[2], box[3] = box[0]+r, box[1]+g, box[2]+b, box[3]+uint32(n)
			x, row = x+n, row[3*n:]
		}
		return
	}
	for ; len(row) > 0; row = row[3:] {
		box := sums[4*(x/shrink-s.out.rect.Min.X):][:4]
		box[0] += uint32(row[0])
		box[1] += uint32(row[1])
		box[2] += uint32(row[2])
		box[3]++
		x += step
	}
}

// finish turns a row of boxes into pixels.
func (s *sink) finish(box int) {
	width := s.out.rect.Dx()
	sums := s.sums[4*width*(box%s.rows):][:4*width]
	pix := s.out.pix[box*s.out.stride:][:3*width]
	for i := range width {
		n := max(1, sums[4*i+3])
		for c := range 3 {
			pix[3*i+c] = uint8((sums[4*i+c] + n/2) / n)
		}
	}
	clear(sums)
}

func (s *sink) finishAll() {
	if s.sums == nil {
		return
	}
	for box := range s.rows {
		s.finish(box)
	}
}
