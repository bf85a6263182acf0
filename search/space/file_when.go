package space

import (
	"fmt"
	"slices"
	"sort"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/kernels/philox"
)

// A block of a chain may be there only where blocks above it came to certain operations. What would stand in one that
// is not there is zero in a code, as in absent blocks of a row, and - in a text.

// condition is what a choice above must have come to.
type condition struct {
	on      int // the choice, by number
	slot    int // of a code, with its operation
	options []bool
}

// combination is a way in which the choices that conditions look at may come out.
type combination struct {
	ops []byte  // of the choices that are looked at, in order; zero where one is not there
	sum float64 // architectures that have this combination or one before it
}

// maxCombinations bounds them.
const maxCombinations = 1 << 15

// there tells whether a choice's block is there. A condition on a block that is not is not met.
func there[C []byte | string](f *FileSpace, p *choice, code C) bool {
	for _, c := range p.when {
		if !c.options[code[c.slot]] || !there(f, &f.choices[c.on], code) {
			return false
		}
	}
	return true
}

// conditional tells whether a choice of the space may be absent because of another.
func (f *FileSpace) conditional() bool { return f.combinations != nil }

// when reads a block's conditions on blocks above it, {stem: conv, body: [k3, k5]}.
func (r *spaceReader) when(n *yaml.Node) (conditions []condition, err error) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return nil, at(n, "when: want blocks above and the operations that they must have, as {stem: [conv, pool]}")
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		c := condition{on: slices.IndexFunc(r.f.choices, func(p choice) bool { return p.name == key.Value })}
		if c.on < 0 {
			return nil, at(key, "when: no block above is called %.60q", key.Value)
		}
		p := &r.f.choices[c.on]
		if p.high > 1 && !p.tied {
			return nil, at(key, "when: each block of the row %s chooses for itself: a condition needs one choice",
				p.name)
		}
		if slices.ContainsFunc(conditions, func(x condition) bool { return x.on == c.on }) {
			return nil, at(key, "when: %s comes twice", p.name)
		}
		for k := range c.on {
			c.slot += r.f.choices[k].slots()
		}
		c.slot += p.counts()
		c.options = make([]bool, len(p.options))
		list := []*yaml.Node{value}
		if value.Kind != yaml.ScalarNode {
			if list, err = items(value, "when", maxOptions); err != nil {
				return nil, err
			}
		}
		for _, item := range list {
			o := slices.IndexFunc(p.options, func(o option) bool { return o.name == item.Value })
			if o < 0 {
				return nil, at(item, "when: %.60q is no operation of %s", item.Value, p.name)
			}
			c.options[o] = true
		}
		if !slices.Contains(c.options, false) {
			return nil, at(value, "when: these are all operations of %s, so that nothing depends on it", p.name)
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

// looked are the choices that conditions look at, by number.
func (f *FileSpace) looked() (list []int) {
	for i := range f.choices {
		for _, c := range f.choices[i].when {
			list = append(list, c.on)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// rows is how many different rows of blocks a choice has; of one that is looked at, whose operation is given, only the
// counts.
func (p *choice) rows(given bool) float64 {
	if given {
		return float64(p.high - p.low + 1)
	}
	sum := 0.0
	for n := p.low; n <= p.high; n++ {
		sum += p.ways(n)
	}
	return sum
}

// combine lists the combinations, where there are conditions, and returns how many architectures there are.
func (f *FileSpace) combine() (float64, error) {
	looked := f.looked()
	if len(looked) == 0 {
		product := 1.0
		for i := range f.choices {
			product *= f.choices[i].rows(false)
		}
		return product, nil
	}
	starts := make([]int, 0, len(f.choices))
	f.each(func(_ *choice, at int) { starts = append(starts, at) })
	code, ops, sum := make([]byte, f.slots), make([]byte, len(looked)), 0.0
	var add func(k int) error
	add = func(k int) error {
		if k == len(looked) {
			ways := 1.0
			for i := range f.choices {
				if p := &f.choices[i]; there(f, p, code) {
					ways *= p.rows(slices.Contains(looked, i))
				}
			}
			if len(f.combinations) == maxCombinations {
				return fmt.Errorf("the blocks that conditions look at have more than %d combinations", maxCombinations)
			}
			sum += ways
			f.combinations = append(f.combinations, combination{slices.Clone(ops), sum})
			return nil
		}
		p := &f.choices[looked[k]]
		options := 1
		if there(f, p, code) {
			options = len(p.options)
		}
		for o := range options {
			ops[k], code[starts[looked[k]]+p.counts()] = byte(o), byte(o)
			if err := add(k + 1); err != nil {
				return err
			}
		}
		ops[k], code[starts[looked[k]]+p.counts()] = 0, 0
		return nil
	}
	err := add(0)
	return sum, err
}

// sampleConditional draws with the same probability for each architecture: a combination by how many have it, then the
// rest.
func (f *FileSpace) sampleConditional(s *philox.Stream) Arch {
	list := f.combinations
	x := s.Float64() * list[len(list)-1].sum
	k := sort.Search(len(list)-1, func(k int) bool { return x < list[k].sum })
	code, looked, next, i := make([]byte, f.slots), f.looked(), 0, 0
	f.each(func(p *choice, at int) {
		given := next < len(looked) && looked[next] == i
		i++
		switch {
		case given:
			code[at+p.counts()] = list[k].ops[next]
			next++
			if there(f, p, code) && p.counts() == 1 {
				code[at] = byte(s.Intn(p.high - p.low + 1))
			}
		case there(f, p, code):
			p.draw(code[at:], s)
		}
	})
	return FileArch{f, string(code)}
}

// Counting tells of each decision that Encode returns for an architecture whether it counts: not those of blocks that
// are not there.
func (f *FileSpace) Counting(a Arch) (counting []bool) {
	x, ok := a.(FileArch)
	if !ok || x.of != f {
		return nil
	}
	f.each(func(p *choice, at int) {
		n := p.chosen(len(x.blocks(p, at)))
		if !there(f, p, x.code) {
			n = -p.counts()
		}
		for k := range p.slots() {
			if k < p.counts() || len(p.options) > 1 {
				counting = append(counting, k < p.counts()+n)
			}
		}
	})
	return counting
}
