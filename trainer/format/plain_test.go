package format

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// instructions writes instructions of protocol 2, as Python does: each dictionary is remembered, each text once.
type instructions struct {
	bytes.Buffer
	puts  uint32
	texts map[string]uint32
}

func (p *instructions) put() {
	p.WriteByte('r')
	_ = binary.Write(p, binary.LittleEndian, p.puts)
	p.puts++
}

func (p *instructions) text(s string) {
	if at, known := p.texts[s]; known {
		p.WriteByte('j')
		_ = binary.Write(p, binary.LittleEndian, at)
		return
	}
	p.texts[s] = p.puts
	p.WriteByte('X')
	_ = binary.Write(p, binary.LittleEndian, uint32(len(s)))
	p.WriteString(s)
	p.put()
}

func (p *instructions) number(v float64) {
	p.WriteByte('G')
	_ = binary.Write(p, binary.BigEndian, math.Float64bits(v))
}

func (p *instructions) dict(fill func()) {
	p.WriteByte('}')
	p.put()
	p.WriteByte('(')
	fill()
	p.WriteByte('u')
}

// parts streams a dictionary of n parts, each of which has a number that counts and a thousand that do not.
func parts(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		p := &instructions{texts: map[string]uint32{}}
		p.WriteString("\x80\x02")
		p.dict(func() {
			for i := range n {
				p.number(float64(i))
				p.dict(func() {
					p.text("wanted")
					p.number(float64(i) / 2)
					p.text("others")
					p.dict(func() {
						for k := range 1000 {
							p.number(float64(k))
							p.number(1.5)
						}
					})
				})
				if _, err := w.Write(p.Bytes()); err != nil {
					return
				}
				p.Reset()
			}
		})
		p.WriteByte('.')
		_, _ = w.Write(p.Bytes())
		_ = w.Close()
	}()
	return r
}

// A pickle whose values would take more than may be kept is read in parts; one that takes none is refused.
func TestReadParts(t *testing.T) {
	const n = 3000 // some 200 bytes a value that is not wanted, of 2 in each of 1000 entries
	seen, sum := 0, 0.0
	root, err := ReadParts(parts(n), func(d Value) (bool, error) {
		wanted, is := d.Field("wanted")
		if !is {
			return false, nil
		}
		v, _ := wanted.Float()
		seen, sum = seen+1, sum+v
		d.Keep(func(key Value) bool {
			text, _ := key.Text()
			return text == "wanted"
		})
		return true, nil
	})
	require.NoError(t, err)
	require.Equal(t, n, seen)
	require.Equal(t, float64(n*(n-1)/2)/2, sum)
	kept := 0
	for _, d := range root.Pairs() {
		v, _ := d.Field("wanted")
		x, is := v.Float()
		require.True(t, is)
		require.Equal(t, float64(kept)/2, x)
		kept++
	}
	require.Equal(t, n, kept)
	_, err = ReadParts(parts(n), func(Value) (bool, error) { return false, nil })
	require.ErrorContains(t, err, "the values take more than")
	failed := io.ErrNoProgress
	_, err = ReadParts(parts(n), func(Value) (bool, error) { return false, failed })
	require.ErrorIs(t, err, failed)
}
