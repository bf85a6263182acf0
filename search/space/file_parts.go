package space

import "slices"

var _ Composed = (*FileSpace)(nil)

// fixedPart is what every network of a space from a file has.
const fixedPart = "fixed"

// numberParts gives every option that is something a part, behind the fixed one.
func (f *FileSpace) numberParts() {
	n := 1
	for i := range f.choices {
		p := &f.choices[i]
		p.options = slices.Clone(p.options) // places may share the file's operations
		for o := range p.options {
			if !p.options[o].absent {
				p.options[o].part = n
				n++
			}
		}
	}
}

// Parts are fixed, which every network has, and <choice>/<operation> for every operation that a choice may come to: a
// block's or a node's name, or from>to of an edge. In a row of blocks all have the same time.
func (f *FileSpace) Parts() []string {
	names := []string{fixedPart}
	for i := range f.choices {
		for _, o := range f.choices[i].options {
			if !o.absent {
				names = append(names, f.choices[i].name+"/"+o.name)
			}
		}
	}
	return names
}

// EachPart visits the fixed part and the chosen operations.
func (f *FileSpace) EachPart(a Arch, visit func(part int)) bool {
	x, ok := a.(FileArch)
	if !ok || x.of != f {
		return false
	}
	visit(0)
	f.each(func(p *choice, at int) {
		for _, o := range []byte(x.blocks(p, at)) {
			if !p.options[o].absent {
				visit(p.options[o].part)
			}
		}
	})
	return true
}
