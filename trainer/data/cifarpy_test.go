package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// python2 writes pickles as Python 2 did those of CIFAR (protocol 2).
type python2 struct{ bytes.Buffer }

func (p *python2) text(s string) {
	if len(s) < 256 {
		p.WriteString("U" + string([]byte{byte(len(s))}) + s)
		return
	}
	p.WriteByte('T')
	_ = binary.Write(p, binary.LittleEndian, uint32(len(s)))
	p.WriteString(s)
}

func (p *python2) number(n int) {
	p.WriteByte('J')
	_ = binary.Write(p, binary.LittleEndian, int32(n))
}

// file is a pickled dictionary of an array of bytes, numbers and texts.
func (p *python2) file(rows, columns int, data []byte, labels string, numbers []int, texts map[string][]string) []byte {
	p.WriteString("\x80\x02}q\x01(")
	p.text("batch_label")
	p.text("training batch 1 of 5")
	if data != nil {
		p.text("data")
		p.WriteString("cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85")
		p.text("b")
		p.WriteString("\x87Rq\x04(K\x01")
		p.number(rows)
		p.number(columns)
		p.WriteString("\x86cnumpy\ndtype\nq\x05")
		p.text("u1")
		p.WriteString("K\x00K\x01\x87Rq\x06(K\x03")
		p.text("|")
		p.WriteString("NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
		p.text(string(data))
		p.WriteString("tb")
	}
	if labels != "" {
		p.text(labels)
		p.WriteString("](")
		for _, n := range numbers {
			p.number(n)
		}
		p.WriteString("e")
	}
	for name, list := range texts {
		p.text(name)
		p.WriteString("](")
		for _, text := range list {
			p.text(text)
		}
		p.WriteString("e")
	}
	p.WriteString("u.")
	return p.Bytes()
}

// The Python version is the same set as the binary one, in its folder and in the one above, which has the binary
// version if both are there.
func TestCIFARPython(t *testing.T) {
	for _, c := range []cifarFormat{cifar10, cifar100} {
		c.records, c.tests = 3*len(c.train), 5
		dir := t.TempDir()
		binaryDir, python := filepath.Join(dir, "binary"), filepath.Join(dir, c.python)
		for i, name := range append(c.train[:len(c.train):len(c.train)], c.test...) {
			records := c.records
			if i == len(c.train) {
				records = c.tests
			}
			raw := cifarBytes(&c, records, uint32(i))
			write(t, filepath.Join(binaryDir, name), raw)
			var data []byte
			var labels []int
			for r := range records {
				record := raw[r*c.record():][:c.record()]
				labels = append(labels, int(record[c.labels-1]))
				data = append(data, record[c.labels:]...)
			}
			write(t, filepath.Join(python, name[:len(name)-4]), new(python2).file(records, 3*cifarPlane, data,
				c.pythonLabels, labels, map[string][]string{"filenames": {"x.png"}}))
		}
		names := []string{}
		for k := range c.classes {
			names = append(names, fmt.Sprintf("class %c%d", 'a'+k%26, k))
		}
		write(t, filepath.Join(python, c.pythonMeta), new(python2).file(0, 0, nil, "", nil,
			map[string][]string{c.pythonNames: names}))
		want, err := c.open(binaryDir, [3]float32{}, unit)
		require.NoError(t, err)
		for _, at := range []string{dir, python} {
			d, err := c.open(at, [3]float32{}, unit)
			require.NoError(t, err)
			require.Equal(t, want.sum, d.sum)
			require.Equal(t, want.Train.store.(*pixels).pix, d.Train.store.(*pixels).pix)
			require.Equal(t, want.Test.store.(*pixels).labels, d.Test.store.(*pixels).labels)
			require.Equal(t, names, d.Classes)
		}
		first := filepath.Join(python, c.train[0][:len(c.train[0])-4])
		for wanted, content := range map[string][]byte{
			"unexpected EOF": []byte("\x80\x02}q\x01(U\x04da"),
			fmt.Sprintf("data of shape [2 3072] and 2 %s, want %d rows", c.pythonLabels,
				c.records): new(python2).file(2, 3072, make([]byte, 2*3072), c.pythonLabels, []int{1, 2}, nil),
			"an array of shape [2 3072] with 5 " +
				"bytes": new(python2).file(2, 3072, make([]byte, 5),
				c.pythonLabels, []int{1, 2}, nil),
			"want a dictionary": []byte("\x80\x02K\x01."),
			"image 0: label 100, want 0..": new(python2).file(c.records, 3072, make([]byte, c.records*3072),
				c.pythonLabels,
				append([]int{100}, make([]int, c.records-1)...), nil),
		} {
			write(t, first, content)
			_, err := c.open(dir, [3]float32{}, unit)
			require.ErrorContains(t, err, wanted)
			require.ErrorContains(t, err, first)
		}
	}
}
