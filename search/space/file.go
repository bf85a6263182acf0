package space

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/philox"
)

const filePrefix = "file"

// choice is what is decided in a space that a file describes: an operation for an edge, for a node, or for each block
// of a row of blocks.
type choice struct {
	name    string
	options []option
	low     int // blocks in a row; 1 and 1 but for a row of blocks
	high    int
	tied    bool // all blocks of a row are the same
	when    []condition
	from    int // an edge of a cell: the nodes it joins
	to      int
	node    bool // the choice is made for node `to`; false: for the edge
}

// option is one operation that a choice may come to.
type option struct {
	name     string
	absent   bool // nothing stands there
	identity bool // what it gets it gives
	cost     Cost
	part     int // of Parts; 0 where it is absent
}

// slots is how many bytes of a FileArch's code the choice takes: the count where that is a choice, then one a block, or
// one for all where they are tied.
func (p *choice) slots() int { return p.counts() + p.chosen(p.high) }

// chosen is how many operations are chosen for a row of n blocks.
func (p *choice) chosen(n int) int {
	if p.tied {
		return 1
	}
	return n
}

func (p *choice) counts() int {
	if p.low < p.high {
		return 1
	}
	return 0
}

// FileSpace is a space that a file describes: a cell, in which edges or nodes choose their operations, or a chain of
// blocks. Open it with file:PATH; docs/spaces.md describes the format. Opening the same content again gives the same
// space.
type FileSpace struct {
	name    string
	nodes   int // of a cell, input and output included; 0: a chain
	choices []choice
	plain   [][2]int // edges of a cell without a choice
	fixed   Cost     // what every network has
	priced  [2]bool  // the file says MAdds, parameters
	text    []byte

	alphabet     []string
	ops          [][]uint16 // of each slot that holds an operation and each option its operation in the alphabet
	counts       [][]uint16 // of each choice and each count its operation
	inner        []uint16   // of each node without an operation of its own its operation
	encoder      Encoder
	grammar      *Grammar
	slots        int
	texts        float64           // different ones
	codes        float64           // sequences of decisions, several of which may be one
	combinations []combination     // of the choices that conditions look at; nil where there are no conditions
	classes      func() *isomorphs // of texts that stand for the same network; nil: every text is an architecture

	mu   sync.RWMutex
	said func(a Arch) (Cost, bool) // costs that a table says; nil: there is none
}

// FileArch is an architecture of a FileSpace. What would stand in absent blocks is zero.
type FileArch struct {
	of   *FileSpace
	code string // for each choice the count where that is decided, less the lowest, then an option a block
}

// fileSpaces are the spaces opened so far, by content, so that architectures of the same space are comparable however
// often it is opened.
var fileSpaces sync.Map // [sha256.Size]byte -> Space

// maxSpaceBytes bounds a space's file.
const maxSpaceBytes = 1 << 20

func openFile(name string) (Space, error) {
	path := strings.TrimPrefix(name, filePrefix+":")
	if path == "" || path == name {
		return nil, fmt.Errorf("search space %q: want file:PATH of a YAML file", name)
	}
	text, err := files.ReadText(path, maxSpaceBytes)
	if err != nil {
		return nil, fmt.Errorf("search space %q: %w", name, err)
	}
	return ParseFile(path, text)
}

// ParseFile makes a space of a file's content; path only names it in errors.
func ParseFile(path string, text []byte) (Space, error) {
	key := sha256.Sum256(text)
	if sp, ok := fileSpaces.Load(key); ok {
		return sp.(Space), nil
	}
	f, err := parseSpace(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.text = text
	var sp Space = f
	if f.texts <= listedSize && f.codes <= 16*listedSize {
		sp = listedSpace{f}
	}
	stored, _ := fileSpaces.LoadOrStore(key, sp)
	return stored.(Space), nil
}

// FileOf returns the FileSpace behind a space; nil where it is another one.
func FileOf(sp Space) *FileSpace {
	switch s := sp.(type) {
	case *FileSpace:
		return s
	case listedSpace:
		return s.FileSpace
	}
	return nil
}

// Name is the name that the file gives.
func (f *FileSpace) Name() string { return f.name }

// Positional: an operation of the alphabet says at which choice it stands.
func (f *FileSpace) Positional() {}

// Encoder shares what an operation is between the places at which it may stand. A cell's features describe walks
// through its graph and, where the file says them, costs; those of a chain count operations.
func (f *FileSpace) Encoder() *Encoder { return &f.encoder }

// Text is the file's content.
func (f *FileSpace) Text() []byte { return f.text }

// Priced tells whether the file says multiply-adds and parameters; what it does not say, a table may, see UseCosts.
func (f *FileSpace) Priced() (madds, params bool) { return f.priced[0], f.priced[1] }

// Alphabet lists the operations of a Graph's nodes, each at each choice that may come to it.
func (f *FileSpace) Alphabet() []string { return slices.Clone(f.alphabet) }

// MaxNodes counts every choice and node.
func (f *FileSpace) MaxNodes() int {
	n := max(2, f.nodes)
	for i := range f.choices {
		n += f.choices[i].counts() + f.choices[i].high
	}
	return n
}

// Grammar decides the places in their order: the count of a row of blocks, then an operation for each of the most
// blocks. Every decision has a head of its own.
func (f *FileSpace) Grammar() *Grammar { return f.grammar }

// each visits the places with the offset of their slots in a code.
func (f *FileSpace) each(visit func(p *choice, at int)) {
	at := 0
	for i := range f.choices {
		visit(&f.choices[i], at)
		at += f.choices[i].slots()
	}
}

// clear zeroes absent blocks and gives the architecture of a code.
func (f *FileSpace) clear(code []byte) FileArch {
	f.each(func(p *choice, at int) {
		switch {
		case !there(f, p, code):
			clear(code[at : at+p.slots()])
		case p.counts() == 1 && !p.tied:
			for b := p.low + int(code[at]); b < p.high; b++ {
				code[at+1+b] = 0
			}
		}
	})
	return f.canonical(code)
}

// blocks are the options taken at a choice that starts at a slot; none where conditions are not met.
func (a FileArch) blocks(p *choice, at int) string {
	if !there(a.of, p, a.code) {
		return ""
	}
	return p.row(a.code[at:])
}

// row are the options taken in the choice's part of a code.
func (p *choice) row(code string) string {
	n := p.high
	if p.counts() == 1 {
		n = p.low + int(code[0])
		code = code[1:]
	}
	if p.tied {
		return strings.Repeat(code[:1], n)
	}
	return code[:n]
}

// String is the canonical text, <name>:<choice>|<choice>|..., where a row of blocks is <choice>+<choice>+...
func (a FileArch) String() string {
	var b strings.Builder
	b.WriteString(a.of.name)
	separator := byte(':')
	a.of.each(func(p *choice, at int) {
		b.WriteByte(separator)
		separator = '|'
		if !there(a.of, p, a.code) {
			b.WriteString(missingEdge)
		}
		for i, o := range []byte(a.blocks(p, at)) {
			if i > 0 {
				b.WriteByte('+')
			}
			b.WriteString(p.options[o].name)
		}
	})
	return b.String()
}

// Hash is the MD5 of the text.
func (a FileArch) Hash() string { return textHash(a.String()) }

// Cost is the sum of the chosen operations' costs and the fixed part; what the file does not say is what a table
// says, else Unknown.
func (a FileArch) Cost() Cost {
	f := a.of
	sum := f.fixed
	f.each(func(p *choice, at int) {
		for _, o := range []byte(a.blocks(p, at)) {
			sum.MAdds += p.options[o].cost.MAdds
			sum.Params += p.options[o].cost.Params
		}
	})
	if f.priced == [2]bool{true, true} {
		return sum
	}
	said := Cost{Unknown, Unknown}
	f.mu.RLock()
	lookup := f.said
	f.mu.RUnlock()
	if lookup != nil {
		if costs, known := lookup(a); known {
			said = costs
		}
	}
	if !f.priced[0] {
		sum.MAdds = said.MAdds
	}
	if !f.priced[1] {
		sum.Params = said.Params
	}
	return sum
}

// UseCosts sets where the costs are looked up that the file does not say, in a table that was opened for the space;
// false where it has not got an architecture, Unknown where it does not say one. The last one that was set counts.
func (f *FileSpace) UseCosts(lookup func(a Arch) (costs Cost, known bool)) {
	f.mu.Lock()
	f.said = lookup
	f.mu.Unlock()
}

// Parse reads <name>:<choice>|<choice>|... or the same without the name; or, in any order,
// <place>=<choice>|<place>=<choice>|...
func (f *FileSpace) Parse(s string) (Arch, error) {
	a, err := f.parse(s)
	if err != nil {
		return nil, fmt.Errorf("architecture %.200q: %w", s, err)
	}
	return a, nil
}

func (f *FileSpace) parse(s string) (FileArch, error) {
	if len(s) > maxSpaceBytes {
		return FileArch{}, fmt.Errorf("%d bytes", len(s))
	}
	parts := strings.Split(strings.TrimPrefix(s, f.name+":"), "|")
	parts, err := f.byName(parts)
	if err != nil {
		return FileArch{}, err
	}
	if len(parts) != len(f.choices) {
		return FileArch{}, fmt.Errorf("%d choices, want %d", len(parts), len(f.choices))
	}
	code := make([]byte, f.slots)
	var failure error
	i := 0
	f.each(func(p *choice, at int) {
		chosen := strings.Split(parts[i], "+")
		i++
		if failure != nil {
			return
		}
		if !there(f, p, code) {
			if len(chosen) != 1 || chosen[0] != missingEdge {
				failure = fmt.Errorf("%.40q at %s, which is not there for its conditions are not met: want %s",
					parts[i-1], p.name, missingEdge)
			}
			return
		}
		if len(chosen) < p.low || len(chosen) > p.high {
			failure = fmt.Errorf("%d blocks at %s, want %d..%d", len(chosen), p.name, p.low, p.high)
			return
		}
		if p.counts() == 1 {
			code[at] = byte(len(chosen) - p.low)
		}
		for b, name := range chosen {
			o := slices.IndexFunc(p.options, func(o option) bool { return o.name == name })
			if o < 0 {
				names := make([]string, len(p.options))
				for k := range names {
					names[k] = p.options[k].name
				}
				failure = fmt.Errorf("%.40q is no choice at %s; known: %.200s", name, p.name, strings.Join(names, ", "))
				return
			}
			if p.tied && name != chosen[0] {
				failure = fmt.Errorf("%.40q and %.40q at %s, whose blocks are tied: they are the same", chosen[0], name,
					p.name)
				return
			}
			code[at+p.counts()+min(b, p.chosen(p.high)-1)] = byte(o)
		}
	})
	if failure != nil {
		return FileArch{}, failure
	}
	return f.canonical(code), nil
}

// Decode returns the architecture of a sequence of decisions; those of absent blocks do not matter.
func (f *FileSpace) Decode(actions []int) (Arch, error) {
	if err := f.grammar.Check(actions); err != nil {
		return nil, err
	}
	code := make([]byte, f.slots)
	f.each(func(p *choice, at int) {
		for k := range p.slots() {
			if k < p.counts() || len(p.options) > 1 {
				code[at+k], actions = byte(actions[0]), actions[1:]
			}
		}
	})
	return f.clear(code), nil
}

// Encode returns the decisions of an architecture.
func (f *FileSpace) Encode(a Arch) ([]int, error) {
	x, ok := a.(FileArch)
	if !ok || x.of != f {
		return nil, fmt.Errorf("%v is no architecture of %s", a, f.name)
	}
	var actions []int
	f.each(func(p *choice, at int) {
		for k := range p.slots() {
			if k < p.counts() || len(p.options) > 1 {
				actions = append(actions, int(x.code[at+k]))
			}
		}
	})
	return actions, nil
}

// ways is how many different rows of n blocks a choice has.
func (p *choice) ways(n int) float64 {
	return math.Pow(float64(len(p.options)), float64(p.chosen(n)))
}

// Sample draws with the same probability for each architecture.
func (f *FileSpace) Sample(s *philox.Stream) Arch {
	code := make([]byte, f.slots)
	if f.classes != nil {
		list := f.classes().list
		f.codeOf(int(list[s.Intn(len(list))]), code)
		return FileArch{f, string(code)}
	}
	if f.conditional() {
		return f.sampleConditional(s)
	}
	f.each(func(p *choice, at int) { p.draw(code[at:], s) })
	return FileArch{f, string(code)}
}

// draw draws the choice's part of a code, each row of blocks with the same probability.
func (p *choice) draw(code []byte, s *philox.Stream) {
	n := p.high
	if p.counts() == 1 {
		n = p.low
		for x := s.Float64()*p.rows(false) - p.ways(n); x >= 0 && n < p.high; x -= p.ways(n) {
			n++
		}
		code[0] = byte(n - p.low)
	}
	for b := range p.chosen(n) {
		code[p.counts()+b] = byte(s.Intn(len(p.options)))
	}
}

// maxRows bounds the different rows of a choice that are counted one by one.
const maxRows = 1 << 15

// Within draws uniformly under limits. Costs that the file says and times are counted; other limits, and limits where
// blocks have conditions, reject.
func (f *FileSpace) Within(l Limits) (func(s *philox.Stream) Arch, error) {
	if f.classes != nil {
		return f.classedWithin(l)
	}
	var counts []func(o option) int64 // what a limit counts
	var left []int64                  // of a limit for the choices
	if l.MAdds > 0 && f.priced[0] {
		counts, left = append(counts, func(o option) int64 { return o.cost.MAdds }), append(left, l.MAdds-f.fixed.MAdds)
	}
	if l.Params > 0 && f.priced[1] {
		counts, left = append(counts, func(o option) int64 {
			return o.cost.Params
		}), append(left, l.Params-f.fixed.Params)
	}
	if l.Latency > 0 && l.Times != nil {
		counts, left = append(counts, func(o option) int64 {
			if o.absent {
				return 0
			}
			return l.Times.parts[o.part]
		}), append(left, l.Latency-l.Times.parts[0])
	}
	rows := make([][]string, len(f.choices)) // the codes of each choice
	for i := range f.choices {
		p := &f.choices[i]
		if total := p.ways(p.high); len(counts) == 0 || total > maxRows || f.conditional() {
			return within(f, l, f.Sample)
		}
		for n := p.low; n <= p.high; n++ {
			for k := range int(p.ways(n)) {
				code := make([]byte, p.slots())
				if p.counts() == 1 {
					code[0] = byte(n - p.low)
				}
				for b := range p.chosen(n) {
					code[p.counts()+b] = byte(k % len(p.options))
					k /= len(p.options)
				}
				rows[i] = append(rows[i], string(code))
			}
		}
	}
	var tightest *sums
	for k, count := range counts {
		costs := make([][]int64, len(f.choices))
		for i := range f.choices {
			p := &f.choices[i]
			for _, code := range rows[i] {
				sum := int64(0)
				for _, o := range []byte(p.row(code)) {
					sum += count(p.options[o])
				}
				costs[i] = append(costs[i], sum)
			}
		}
		counted, ok := newSums(costs, 0, left[k])
		if !ok {
			return nil, errNone(f, l)
		}
		if tightest == nil || counted.total() < tightest.total() {
			tightest = counted
		}
	}
	return within(f, l, func(s *philox.Stream) Arch {
		var b strings.Builder
		for i, k := range tightest.draw(s) {
			b.WriteString(rows[i][k])
		}
		return FileArch{f, b.String()}
	})
}

// Mutate returns an architecture in which one decision is another.
func (f *FileSpace) Mutate(a Arch, s *philox.Stream) Arch {
	parent := a.(FileArch)
	code := []byte(parent.code)
	for { // isomorphic ones are passed through
		f.each(func(p *choice, at int) { // what would stand in absent blocks, should they come
			if !there(f, p, code) {
				p.draw(code[at:], s)
			}
			if p.counts() == 1 && !p.tied {
				for b := p.low + int(code[at]); b < p.high; b++ {
					code[at+1+b] = byte(s.Intn(len(p.options)))
				}
			}
		})
		k := s.Intn(f.slots)
		f.each(func(p *choice, at int) {
			switch {
			case k < at || k >= at+p.slots():
			case k < at+p.counts():
				code[k] = byte(s.Intn(p.high - p.low + 1))
			default:
				code[k] = byte(s.Intn(len(p.options)))
			}
		})
		if child := f.clear(slices.Clone(code)); child != parent {
			return child
		}
	}
}

// Cross takes every decision from one of the parents, of equal probability; a block that one of them does not have
// comes from the other.
func (f *FileSpace) Cross(x, y Arch, s *philox.Stream) Arch {
	a, b := x.(FileArch), y.(FileArch)
	code := []byte(a.code)
	f.each(func(p *choice, at int) {
		has := func(z FileArch, block int) bool { return block < len(z.blocks(p, at)) }
		if p.counts() == 1 && has(b, 0) && (s.Intn(2) == 1 || !has(a, 0)) {
			code[at] = b.code[at]
		}
		for k := range p.chosen(p.high) {
			if take := s.Intn(2) == 1; !has(a, k) || take && has(b, k) {
				code[at+p.counts()+k] = b.code[at+p.counts()+k]
			}
		}
	})
	return f.clear(code)
}

// listedSize is the largest space that is listed.
const listedSize = 1 << 20

// listedSpace is a FileSpace small enough to list.
type listedSpace struct{ *FileSpace }

// All lists every architecture in the order of ascending hash.
func (f listedSpace) All(ctx context.Context, progress func(done, total int)) ([]Arch, error) {
	type hashed struct {
		hash string
		arch FileArch
	}
	var list []hashed
	code := make([]byte, f.slots)
	limits := make([]int, 0, f.slots) // choices of each slot
	f.each(func(p *choice, _ int) {
		if p.counts() == 1 {
			limits = append(limits, p.high-p.low+1)
		}
		for range p.chosen(p.high) {
			limits = append(limits, len(p.options))
		}
	})
	for {
		if a := f.clear(slices.Clone(code)); a.code == string(code) {
			list = append(list, hashed{a.Hash(), a})
			if len(list)%4096 == 0 {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				if progress != nil {
					progress(len(list), int(f.Size()))
				}
			}
		}
		k := 0
		for ; k < len(code); k++ {
			if code[k]++; int(code[k]) < limits[k] {
				break
			}
			code[k] = 0
		}
		if k == len(code) {
			break
		}
	}
	slices.SortFunc(list, func(a, b hashed) int { return strings.Compare(a.hash, b.hash) })
	out := make([]Arch, len(list))
	for i, h := range list {
		out[i] = h.arch
	}
	if progress != nil {
		progress(len(out), len(out))
	}
	return out, ctx.Err()
}
