package data

import (
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"io"
)

// PNG files of many pixels are decoded here row by row, in memory for two rows and for what is kept: image/png, which
// decodes all others, takes up to eight bytes a pixel. The pixels are the same.

// Colour types of PNG (https://www.w3.org/TR/png-3/#11IHDR).
const (
	pngGrey      = 0
	pngRGB       = 2
	pngPalette   = 3
	pngGreyAlpha = 4
	pngRGBA      = 6
)

// pngHeader is what IHDR says; png.DecodeConfig has accepted it.
type pngHeader struct {
	size       image.Point
	depth      int // bits a sample
	colour     byte
	interlaced bool
}

func readPNGHeader(data []byte) (h pngHeader, ok bool) {
	if len(data) < 29 {
		return h, false
	}
	return pngHeader{image.Pt(int(binary.BigEndian.Uint32(data[16:])), int(binary.BigEndian.Uint32(data[20:]))),
		int(data[24]), data[25], data[28] == 1}, true
}

// bits a pixel.
func (h pngHeader) bits() int {
	return h.depth * map[byte]int{pngGrey: 1, pngRGB: 3, pngPalette: 1, pngGreyAlpha: 2, pngRGBA: 4}[h.colour]
}

// rowBytes is the length of a row of pixels.
func (h pngHeader) rowBytes(width int) int { return (h.bits()*width + 7) / 8 }

// pngPasses are those of Adam7: where a pass begins and its steps.
var pngPasses = []struct{ x, y, dx, dy int }{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1,
	0, 2, 2}, {0, 1, 1, 2}}

// pngStream decodes a PNG file into a sink. Rows below the sink's are not decoded.
func pngStream(data []byte, h pngHeader, s *sink) error {
	palette, body, err := pngChunks(data, h)
	if err != nil {
		return fmt.Errorf("damaged or unusual PNG: %w", err)
	}
	z, err := zlib.NewReader(&body)
	if err != nil {
		return fmt.Errorf("damaged or unusual PNG: %w", pngEnd(err))
	}
	rows := pngRows{h: h, z: z, palette: palette}
	if h.interlaced {
		err = rows.scattered(s)
	} else {
		err = rows.inOrder(s)
	}
	if err != nil {
		return fmt.Errorf("damaged or unusual PNG: %w", err)
	}
	return nil
}

// pngEnd calls an end before its time one.
func pngEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// chunkList reads one chunk after the other.
type chunkList [][]byte

func (c *chunkList) Read(p []byte) (int, error) {
	for len(*c) > 0 && len((*c)[0]) == 0 {
		*c = (*c)[1:]
	}
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	(*c)[0] = (*c)[0][n:]
	return n, nil
}

// pngChunks checks the file's chunks and returns its palette, 256 entries of RGB of which those that it does not have
// are black, and the image's data.
func pngChunks(data []byte, h pngHeader) (palette []byte, body chunkList, err error) {
	at := len(pngMagic)
	for {
		if len(data)-at < 12 {
			return nil, nil, io.ErrUnexpectedEOF
		}
		n := int(binary.BigEndian.Uint32(data[at:]))
		if n > len(data)-at-12 {
			return nil, nil, io.ErrUnexpectedEOF
		}
		kind, content := string(data[at+4:at+8]), data[at+8:at+8+n]
		if crc32.ChecksumIEEE(data[at+4:at+8+n]) != binary.BigEndian.Uint32(data[at+8+n:]) {
			return nil, nil, fmt.Errorf("chunk %q at offset %d: wrong checksum", kind, at)
		}
		switch kind {
		case "PLTE":
			if n == 0 || n%3 != 0 || n > 3*256 || palette != nil {
				return nil, nil, fmt.Errorf("chunk %q at offset %d: %d bytes", kind, at, n)
			}
			palette = make([]byte, 3*256)
			copy(palette, content)
		case "IDAT":
			body = append(body, content)
		case "IEND":
			switch {
			case len(body) == 0:
				return nil, nil, errors.New("no pixels")
			case palette == nil && h.colour == pngPalette:
				return nil, nil, errors.New("no palette")
			}
			return palette, body, nil
		}
		at += 12 + n
	}
}

// pngRows reads rows of pixels.
type pngRows struct {
	h       pngHeader
	z       io.Reader
	palette []byte
	this    []byte // the row that was read last, behind its filter's type
	last    []byte
}

// begin is before the first row of a pass.
func (p *pngRows) begin(width int) {
	n := 1 + p.h.rowBytes(width)
	p.this, p.last = make([]byte, n), make([]byte, n)
}

// next reads a row.
func (p *pngRows) next() ([]byte, error) {
	p.this, p.last = p.last, p.this
	if _, err := io.ReadFull(p.z, p.this); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("not enough pixel data")
		}
		return nil, err
	}
	return p.this[1:], unfilter(p.this[0], p.this[1:], p.last[1:], max(1, p.h.bits()/8))
}

// unfilter undoes a row's filter; n is the bytes a pixel.
func unfilter(filter byte, row, above []byte, n int) error {
	switch filter {
	case 0:
	case 1:
		for i := n; i < len(row); i++ {
			row[i] += row[i-n]
		}
	case 2:
		for i, v := range above[:len(row)] {
			row[i] += v
		}
	case 3:
		for i := range min(n, len(row)) {
			row[i] += above[i] / 2
		}
		for i := n; i < len(row); i++ {
			row[i] += uint8((int(row[i-n]) + int(above[i])) / 2)
		}
	case 4:
		for i := range min(n, len(row)) {
			row[i] += above[i]
		}
		for i := n; i < len(row); i++ {
			a, b, c := int(row[i-n]), int(above[i]), int(above[i-n])
			pa, pb := b-c, a-c
			pc := max(pa+pb, -pa-pb)
			pa, pb = max(pa, -pa), max(pb, -pb)
			switch {
			case pa <= pb && pa <= pc:
				row[i] += uint8(a)
			case pb <= pc:
				row[i] += uint8(b)
			default:
				row[i] += uint8(c)
			}
		}
	default:
		return fmt.Errorf("unknown filter %d", filter)
	}
	return nil
}

func (p *pngRows) inOrder(s *sink) error {
	p.begin(p.h.size.X)
	out := make([]byte, 3*s.columns())
	for y := range s.bottom() {
		row, err := p.next()
		if err != nil {
			return fmt.Errorf("row %d: %w", y, err)
		}
		if y >= s.top() {
			p.colours(out, row, s.left())
			s.put(y, out)
		}
	}
	if s.bottom() < p.h.size.Y {
		return nil
	}
	return p.end()
}

func (p *pngRows) scattered(s *sink) error {
	out := make([]byte, 3*p.h.size.X)
	for k, pass := range pngPasses {
		width, height := (p.h.size.X-pass.x+pass.dx-1)/pass.dx, (p.h.size.Y-pass.y+pass.dy-1)/pass.dy
		if width <= 0 || height <= 0 {
			continue
		}
		p.begin(width)
		for i := range height {
			row, err := p.next()
			if err != nil {
				return fmt.Errorf("pass %d, row %d: %w", k+1, i, err)
			}
			p.colours(out[:3*width], row, 0)
			s.scatter(pass.y+i*pass.dy, pass.x, pass.dx, out[:3*width])
		}
	}
	s.finishAll()
	return p.end()
}

// end checks that nothing follows the last row, and with it the checksum of all.
func (p *pngRows) end() error {
	var one [1]byte
	if n, err := io.ReadFull(p.z, one[:]); n > 0 {
		return errors.New("too much pixel data")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// colours makes RGB of len(out)/3 pixels of a row from column x on. Grey is repeated, transparency dropped, and of 16
// bits the upper 8 count.
func (p *pngRows) colours(out, row []byte, x int) {
	bytesEach := p.h.depth / 8
	n := len(out) / 3
	switch {
	case p.h.depth < 8:
		scale, mask := 0xFF/(1<<p.h.depth-1), byte(1<<p.h.depth-1)
		for i := range n {
			bit := (x + i) * p.h.depth
			v := row[bit/8] >> (8 - p.h.depth - bit%8) & mask
			if p.h.colour == pngPalette {
				copy(out[3*i:3*i+3], p.palette[3*int(v):])
				continue
			}
			v *= byte(scale)
			out[3*i], out[3*i+1], out[3*i+2] = v, v, v
		}
	case p.h.colour == pngPalette:
		for i, v := range row[x : x+n] {
			copy(out[3*i:3*i+3], p.palette[3*int(v):])
		}
	case p.h.colour == pngGrey || p.h.colour == pngGreyAlpha:
		step := p.h.bits() / 8
		for i := range n {
			v := row[(x+i)*step]
			out[3*i], out[3*i+1], out[3*i+2] = v, v, v
		}
	case p.h.colour == pngRGB && bytesEach == 1:
		copy(out, row[3*x:])
	default:
		step := p.h.bits() / 8
		for i := range n {
			from := row[(x+i)*step:]
			out[3*i], out[3*i+1], out[3*i+2] = from[0], from[bytesEach], from[2*bytesEach]
		}
	}
}
