package space

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"strconv"
)

// Hash is the module hash that NAS-Bench-101 publishes, 32 hexadecimal digits.
func (c Cell) Hash() string {
	d := c.unpack()
	sum := d.fingerprint()
	return hex.EncodeToString(sum[:])
}

type digest [md5.Size]byte

// fingerprint computes the official module hash (nasbench/lib/graph_util.py, hash_module): every vertex starts with the
// MD5 of its out-degree, in-degree and label (input -1, output -2) written as a Python tuple; as many times as there
// are vertices it becomes the MD5 of the sorted hashes of its predecessors, of its successors and its own; the
// fingerprint is the MD5 of the sorted hashes written as a Python list. Hashes enter as hexadecimal text. It is the
// same for every order of the vertices.
func (d *dag) fingerprint() digest {
	var hashes, next [maxVertices][2 * md5.Size]byte
	text := make([]byte, 0, 512) // the longest text is the last: 7 hashes of 32 digits, quotes, commas
	for v := range d.n {
		out, in := 0, 0
		for u := range d.n {
			if d.edge(v, u) {
				out++
			}
			if d.edge(u, v) {
				in++
			}
		}
		label := int64(d.op[v])
		switch v {
		case 0:
			label = -1
		case d.n - 1:
			label = -2
		}
		text = append(text[:0], '(')
		text = strconv.AppendInt(text, int64(out), 10)
		text = append(text, ", "...)
		text = strconv.AppendInt(text, int64(in), 10)
		text = append(text, ", "...)
		text = strconv.AppendInt(text, label, 10)
		text = append(text, ')')
		sum := md5.Sum(text)
		hex.Encode(hashes[v][:], sum[:])
	}
	var order [maxVertices]int // vertices by ascending hash
	sorted := func() []int {
		for i := range d.n {
			j := i
			for ; j > 0 && bytes.Compare(hashes[order[j-1]][:], hashes[i][:]) > 0; j-- {
				order[j] = order[j-1]
			}
			order[j] = i
		}
		return order[:d.n]
	}
	for range d.n {
		byHash := sorted()
		for v := range d.n {
			text = text[:0]
			for _, u := range byHash {
				if d.edge(u, v) {
					text = append(text, hashes[u][:]...)
				}
			}
			text = append(text, '|')
			for _, u := range byHash {
				if d.edge(v, u) {
					text = append(text, hashes[u][:]...)
				}
			}
			text = append(text, '|')
			text = append(text, hashes[v][:]...)
			sum := md5.Sum(text)
			hex.Encode(next[v][:], sum[:])
		}
		hashes = next
	}
	text = text[:0]
	separator := "['"
	for _, v := range sorted() {
		text = append(text, separator...)
		text = append(text, hashes[v][:]...)
		separator = "', '"
	}
	text = append(text, "']"...)
	return md5.Sum(text)
}
