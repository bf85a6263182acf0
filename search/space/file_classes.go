package space

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/ctnas/ctnas/kernels/philox"
)

// classedWork bounds the cells whose texts are sorted into classes of isomorphic ones: texts times choices times nodes.
const classedWork = 1 << 24

// isomorphs are the texts of a cell by the network that they stand for.
type isomorphs struct {
	first []int32 // of each text's number that of the text that stands for its class
	list  []int32 // the texts that stand for a class, ascending
}

// Isomorphic tells whether texts of the same network are one architecture. Those of a chain are not, whose operations
// may mean another thing at every place, nor those of a cell that is too large to look through.
func (f *FileSpace) Isomorphic() bool { return f.classes != nil }

// Isomorphic tells whether other texts may stand for the same architecture.
func (a FileArch) Isomorphic() bool { return a.of.Isomorphic() }

// Size is how many architectures there are.
func (f *FileSpace) Size() float64 {
	if f.classes == nil {
		return f.texts
	}
	return float64(len(f.classes().list))
}

// sorted makes the classes when they are first asked for. For a class stands the text with the fewest operations, of
// those the cheapest, of those the first in the order of numbers.
func (f *FileSpace) sorted() *isomorphs {
	n := int(f.texts)
	c := &isomorphs{first: make([]int32, n)}
	best := map[uint64]int32{}    // of each class
	weight := make([][3]int64, n) // operations, multiply-adds, parameters
	keys := make([]uint64, n)
	code := make([]byte, f.slots)
	reader := newCellReader(f)
	for i := range n {
		f.codeOf(i, code)
		for k, o := range code {
			if x := f.choices[k].options[o]; !x.absent {
				weight[i] = [3]int64{weight[i][0] + 1, weight[i][1] + x.cost.MAdds, weight[i][2] + x.cost.Params}
			}
		}
		keys[i] = reader.fingerprint(code)
		if k, ok := best[keys[i]]; !ok || slices.Compare(weight[i][:], weight[k][:]) < 0 {
			best[keys[i]] = int32(i)
		}
	}
	for i, key := range keys {
		c.first[i] = best[key]
		if len(best) == 1 { // whatever is chosen: then nothing tells what the choices are for
			c.first[i] = int32(i)
		}
		if c.first[i] == int32(i) {
			c.list = append(c.list, int32(i))
		}
	}
	return c
}

// codeOf writes the code of a cell's text number i.
func (f *FileSpace) codeOf(i int, code []byte) {
	for k := range f.choices {
		n := len(f.choices[k].options)
		code[k] = byte(i % n)
		i /= n
	}
}

// numberOf is the inverse of codeOf.
func (f *FileSpace) numberOf(code []byte) int {
	n := 0
	for k := len(f.choices) - 1; k >= 0; k-- {
		n = n*len(f.choices[k].options) + int(code[k])
	}
	return n
}

// canonical is the architecture of a code, in which absent blocks are zero.
func (f *FileSpace) canonical(code []byte) FileArch {
	if f.classes != nil {
		f.codeOf(int(f.classes().first[f.numberOf(code)]), code)
	}
	return FileArch{f, string(code)}
}

// cellReader reads what codes of a cell compute. Its instances are the operations that stand in one, without what the
// file calls the identity and without what gets nothing; a row of counts says what an instance or a node sums up: how
// often the input, and how often each instance.
type cellReader struct {
	f           *FileSpace
	labels      [][]uint64 // of each choice and option
	width       int        // of a row: the input, then as many instances as there are choices
	gives       []uint64   // of each node a row
	reads       []uint64   // of each instance a row, the output's last
	label       []uint64   // of each instance
	known, next []uint64   // of each instance
	read        []bool     // of each instance: the output depends on it
}

func newCellReader(f *FileSpace) *cellReader {
	w := 1 + len(f.choices)
	r := &cellReader{f: f, width: w, gives: make([]uint64, f.nodes*w), reads: make([]uint64, w*w),
		known: make([]uint64, w), next: make([]uint64, w), read: make([]bool, w)}
	for i := range f.choices {
		var labels []uint64
		for _, o := range f.choices[i].options { // an operation is what it is called and costs
			h := fnv.New64a()
			fmt.Fprintf(h, "%s %d %d", o.name, o.cost.MAdds, o.cost.Params)
			labels = append(labels, h.Sum64())
		}
		r.labels = append(r.labels, labels)
	}
	return r
}

func (r *cellReader) row(of []uint64, i int) []uint64 { return of[i*r.width : (i+1)*r.width] }

// parse finds the instances of a code.
func (r *cellReader) parse(code []byte) {
	f := r.f
	clear(r.gives)
	r.label = r.label[:0]
	r.gives[0] = 1
	add := func(to int, from []uint64) {
		for k, times := range from {
			r.row(r.gives, to)[k] += times
		}
	}
	nothing := func(from []uint64) bool {
		return !slices.ContainsFunc(from, func(n uint64) bool { return n > 0 })
	}
	instance := func(label uint64, from []uint64) int {
		copy(r.row(r.reads, len(r.label)), from)
		r.label = append(r.label, label)
		return len(r.label) // its place in a row
	}
	for to := 1; to < f.nodes; to++ {
		for _, e := range f.plain {
			if e[1] == to {
				add(to, r.row(r.gives, e[0]))
			}
		}
		own := -1
		for k := range f.choices {
			p := &f.choices[k]
			switch o := p.options[code[k]]; {
			case p.to != to || o.absent:
			case p.node:
				own = k
			case nothing(r.row(r.gives, p.from)):
			case o.identity || o.name == joinedEdge:
				add(to, r.row(r.gives, p.from))
			default:
				r.row(r.gives, to)[instance(r.labels[k][code[k]], r.row(r.gives, p.from))]++
			}
		}
		if sum := r.row(r.gives, to); own >= 0 && !f.choices[own].options[code[own]].identity && !nothing(sum) {
			i := instance(r.labels[own][code[own]], sum)
			clear(sum)
			sum[i] = 1
		}
	}
	instance(1, r.row(r.gives, f.nodes-1))
}

// fingerprint is the same for codes of the same network. As NAS-Bench-101's own it refines what is known of each
// operation by what is known of those that it reads and that read it, as often as there are operations; cells with
// different networks that no such refinement tells apart are larger than what is looked through.
func (r *cellReader) fingerprint(code []byte) uint64 {
	r.parse(code)
	n := len(r.label)
	clear(r.read)
	r.read[n-1] = true
	rounds := 0
	for i := n - 1; i >= 0; i-- {
		if !r.read[i] {
			continue
		}
		rounds++
		for k, times := range r.row(r.reads, i)[1:] {
			r.read[k] = r.read[k] || times > 0
		}
	}
	const input = 2
	copy(r.known, r.label)
	for range rounds {
		for i := range n {
			r.next[i] = mixed(r.known[i], 1)
		}
		for i := range n {
			for k, times := range r.row(r.reads, i) { // sums do not depend on the order
				switch {
				case times == 0 || !r.read[i]:
				case k == 0:
					r.next[i] += mixed(input, 2*times)
				default:
					r.next[i] += mixed(r.known[k-1], 2*times)
					r.next[k-1] += mixed(r.known[i], 2*times+1)
				}
			}
		}
		for i := range n {
			r.known[i] = mixed(r.next[i], 0)
		}
	}
	sum := uint64(0)
	for i := range n {
		if r.read[i] {
			sum += mixed(r.known[i], 3)
		}
	}
	return sum
}

// mixed mixes two numbers (the finaliser of SplitMix64).
func mixed(a, b uint64) uint64 {
	x := a + (b+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// classify prepares to tell isomorphic texts, where the space is a cell small enough.
func (f *FileSpace) classify() {
	if f.nodes > 0 && f.texts*float64(f.slots*f.nodes) <= classedWork {
		f.classes = sync.OnceValue(f.sorted)
	}
}

// classedWithin draws uniformly of the architectures that limits allow.
func (f *FileSpace) classedWithin(l Limits) (func(s *philox.Stream) Arch, error) {
	var allowed []FileArch
	for _, i := range f.classes().list {
		code := make([]byte, f.slots)
		f.codeOf(int(i), code)
		if a := (FileArch{f, string(code)}); l.Allow(a) {
			allowed = append(allowed, a)
		}
	}
	if len(allowed) == 0 {
		return within(f, l, f.Sample) // which says why
	}
	return func(s *philox.Stream) Arch { return allowed[s.Intn(len(allowed))] }, nil
}
