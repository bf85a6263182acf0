package format

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/stretchr/testify/require"
)

// pickledColumns is a dictionary with an array of 2x3 bytes, numbers, and texts, as Python 3 writes it (protocol 4).
const pickledColumns = "\x80\x04}(C\x04data\x8c\x15numpy.core.multiarray\x8c\x0c_reconstruct\x93" +
	"\x8c\x05numpy\x8c\x07ndarray\x93K\x00\x85C\x01b\x87R" +
	"(K\x01K\x02K\x03\x86\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R" +
	"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x06abcdeftb" +
	"C\x06labels](K\x07K\x09e\x8c\x05names](\x8c\x01x\x8c\x01yeK\x05K\x06\x8c\x05mixed](K\x01\x8c\x01yeu."

func TestReadColumns(t *testing.T) {
	c, err := ReadColumns(bytes.NewReader([]byte(pickledColumns)), 1<<12)
	require.NoError(t, err)
	require.Equal(t, &Columns{map[string][]int64{"labels": {7, 9}}, map[string][]string{"names": {"x", "y"}},
		map[string]ByteArray{"data": {[]int{2, 3}, "abcdef"}}}, c)
	_, err = ReadColumns(bytes.NewReader([]byte(pickledColumns)), 100)
	require.ErrorContains(t, err, "more than 100 bytes")
	_, err = ReadColumns(bytes.NewReader([]byte(pickledColumns[:100])), 1<<12)
	require.ErrorContains(t, err, "unexpected EOF")
}

// One list under many names is copied for each, until that takes too much.
func TestReadColumnsIsBounded(t *testing.T) {
	text := "\x80\x04}](" + strings.Repeat("K\x01", 50_000) + "eq\x000("
	for i := range 5_000 {
		text += pickledText(fmt.Sprint(i)) + "h\x00"
	}
	text += "u."
	var err error
	got := testdata.Allocated(func() { _, err = ReadColumns(strings.NewReader(text), len(text)) })
	require.ErrorContains(t, err, "the values take more than")
	require.Less(t, got, uint64(200<<20))
}

func FuzzReadColumns(f *testing.F) {
	f.Add([]byte(pickledColumns))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c *Columns
		var err error
		testdata.WithinFactor(t, len(text), perByte, func() { c, err = ReadColumns(bytes.NewReader(text), 1<<16) })
		if err != nil {
			return
		}
		for _, a := range c.Bytes {
			n := 1
			for _, d := range a.Shape {
				n *= d
			}
			require.Equal(t, len(a.Data), n)
		}
	})
}
