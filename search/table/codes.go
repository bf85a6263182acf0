package table

import (
	"bytes"
	"hash/maphash"
)

// codes finds the rows of codes of one length that lie one behind the other: a hash table with open addressing, at
// most half full.
type codes struct {
	width int
	seed  maphash.Seed
	slots []int32 // a row + 1, or 0
	n     int
}

// newCodes makes room for n codes; there may be more.
func newCodes(width, n int) *codes {
	size := 1024
	for size < 2*n {
		size *= 2
	}
	return &codes{width: width, seed: maphash.MakeSeed(), slots: make([]int32, size)}
}

func (c *codes) at(list []byte, row int) []byte { return list[row*c.width : (row+1)*c.width] }

// slot is where a code's row stands or would.
func (c *codes) slot(list, code []byte) int {
	mask := len(c.slots) - 1
	for i := int(maphash.Bytes(c.seed, code)) & mask; ; i = (i + 1) & mask {
		if row := int(c.slots[i]) - 1; row < 0 || bytes.Equal(c.at(list, row), code) {
			return i
		}
	}
}

// find returns the row of a code in the list; the row that add would give it and false where there is none.
func (c *codes) find(list, code []byte) (row int, known bool) {
	if row := c.slots[c.slot(list, code)]; row > 0 {
		return int(row) - 1, true
	}
	return c.n, false
}

// add enters the next row of the list, whose code is a new one.
func (c *codes) add(list []byte) {
	if c.n++; 2*c.n > len(c.slots) {
		c.slots = make([]int32, 2*len(c.slots))
		for row := range c.n - 1 {
			c.slots[c.slot(list, c.at(list, row))] = int32(row) + 1
		}
	}
	c.slots[c.slot(list, c.at(list, c.n-1))] = int32(c.n)
}
