package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// instruction is one of a kernel's machine code, as cuobjdump -sass prints it.
type instruction struct {
	at        int    // bytes from the kernel's begin
	predicate string // "@P0", or empty
	op        string // with its modifiers: "LDG.E.128"
	arguments string
}

// kernel is the machine code of an entry.
type kernel struct {
	name string
	code []instruction
}

var (
	functionLine    = regexp.MustCompile(`^\s*Function : (\S+)`)
	instructionLine = regexp.MustCompile(`^\s+/\*([0-9a-f]{4,})\*/\s+(?:(@\S+)\s+)?([A-Z][A-Za-z0-9_.]*)\s*(.*?)\s*;`)
	address         = regexp.MustCompile(`\b0x([0-9a-f]+)\b`)
	branchPredicate = regexp.MustCompile(`^!?U?P\d`)
	tileColumns     = regexp.MustCompile(`^HGMMA\.64x(\d+)x16\b`)
)

// parse reads what cuobjdump -sass prints.
func parse(r io.Reader) ([]*kernel, error) {
	var list []*kernel
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := functionLine.FindStringSubmatch(lines.Text()); m != nil {
			list = append(list, &kernel{name: m[1]})
			continue
		}
		m := instructionLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("an instruction before the first function: %s", strings.TrimSpace(lines.Text()))
		}
		at, err := strconv.ParseInt(m[1], 16, 32)
		if err != nil {
			return nil, err
		}
		k := list[len(list)-1]
		k.code = append(k.code, instruction{int(at), m[2], m[3], m[4]})
	}
	return list, lines.Err()
}

// graph is a kernel's code as basic blocks. Block 0 is the entry.
type graph struct {
	code   []instruction
	begin  []int   // of each block, and the end of the last
	next   [][]int // blocks that may follow each
	before [][]int
	idom   []int // the block through which every way to a block leads last; -1: not reached
}

// blocks splits the code where jumps come from and go to. Where a jump through a table goes is not known: such ways
// end there, like those of an exit.
func (k *kernel) blocks() *graph {
	index := map[int]int{}
	for i, in := range k.code {
		index[in.at] = i
	}
	starts := map[int]bool{0: true, len(k.code): true}
	ends := func(in instruction) bool {
		return strings.HasPrefix(in.op, "BRA") || strings.HasPrefix(in.op, "BRX") || strings.HasPrefix(in.op, "JMP") ||
			strings.HasPrefix(in.op, "RET") || in.op == "EXIT"
	}
	target := func(in instruction) (int, bool) {
		if !strings.HasPrefix(in.op, "BRA") && !strings.HasPrefix(in.op, "JMP") {
			return 0, false
		}
		all := address.FindAllStringSubmatch(in.arguments, -1)
		if len(all) == 0 {
			return 0, false
		}
		at, err := strconv.ParseInt(all[len(all)-1][1], 16, 32)
		i, known := index[int(at)]
		return i, err == nil && known
	}
	for i, in := range k.code {
		if ends(in) {
			starts[i+1] = true
			if to, ok := target(in); ok {
				starts[to] = true
			}
		}
	}
	g := &graph{code: k.code}
	block := map[int]int{}
	for i := range len(k.code) + 1 {
		if starts[i] {
			block[i] = len(g.begin)
			g.begin = append(g.begin, i)
		}
	}
	n := len(g.begin) - 1
	g.next, g.before = make([][]int, n), make([][]int, n)
	for b := range n {
		last := k.code[g.begin[b+1]-1]
		conditional := last.predicate != "" || branchPredicate.MatchString(last.arguments)
		if to, ok := target(last); ok {
			g.next[b] = append(g.next[b], block[to])
		}
		if b+1 < n && (!ends(last) || conditional) {
			g.next[b] = append(g.next[b], b+1)
		}
		for _, to := range g.next[b] {
			g.before[to] = append(g.before[to], b)
		}
	}
	g.dominators()
	return g
}

// dominators is the algorithm of Cooper, Harvey and Kennedy (2001).
func (g *graph) dominators() {
	n := len(g.next)
	number := make([]int, n) // in postorder, from 1
	var order []int
	var walk func(b int)
	seen := make([]bool, n)
	walk = func(b int) {
		seen[b] = true
		for _, to := range g.next[b] {
			if !seen[to] {
				walk(to)
			}
		}
		order = append(order, b)
		number[b] = len(order)
	}
	walk(0)
	g.idom = slices.Repeat([]int{-1}, n)
	g.idom[0] = 0
	for changed := true; changed; {
		changed = false
		for _, b := range slices.Backward(order[:len(order)-1]) {
			at := -1
			for _, p := range g.before[b] {
				if g.idom[p] < 0 {
					continue
				}
				for x := p; at >= 0 && x != at; {
					if number[x] < number[at] {
						x = g.idom[x]
					} else {
						at = g.idom[at]
					}
				}
				if at < 0 {
					at = p
				}
			}
			if at != g.idom[b] {
				g.idom[b], changed = at, true
			}
		}
	}
}

func (g *graph) dominates(a, b int) bool {
	for ; b != a; b = g.idom[b] {
		if b == 0 || g.idom[b] < 0 {
			return false
		}
	}
	return true
}

// loop is a natural loop: the blocks on ways from its header back to it.
type loop struct {
	header int
	body   map[int]bool
}

func (g *graph) loops() []loop {
	byHeader := map[int]map[int]bool{}
	for b := range g.next {
		for _, header := range g.next[b] {
			if g.idom[b] < 0 || !g.dominates(header, b) {
				continue
			}
			body := byHeader[header]
			if body == nil {
				body = map[int]bool{header: true}
				byHeader[header] = body
			}
			for stack := []int{b}; len(stack) > 0; {
				at := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				if !body[at] && g.idom[at] >= 0 {
					body[at] = true
					stack = append(stack, g.before[at]...)
				}
			}
		}
	}
	var list []loop
	for header, body := range byHeader {
		list = append(list, loop{header, body})
	}
	slices.SortFunc(list, func(x, y loop) int {
		return cmp.Or(cmp.Compare(len(x.body), len(y.body)), cmp.Compare(x.header, y.header))
	})
	return list
}

// cost is what a warp executes along a way.
type cost struct {
	instructions int
	products     float64 // of m16n8k16
	bytes        float64 // of global memory, all lanes
	rank         [6]float64
}

// of counts a block. rank orders ways, the most important first: products, numbers put into shared memory, few
// transcendental functions and calls, wide loads, multiply-adds, few narrow loads. It is what stands for the way of an
// aligned tensor whose norm is applied, with an activation that is cheap.
func (g *graph) of(block int) (c cost) {
	for _, in := range g.code[g.begin[block]:g.begin[block+1]] {
		c.instructions++
		name, _, _ := strings.Cut(in.op, ".")
		switch name {
		case "HMMA":
			p := 1.0
			if strings.Contains(in.op, ".1688") {
				p = 0.5
			}
			c.products += p
		case "HGMMA": // by four warps
			if m := tileColumns.FindStringSubmatch(in.op); m != nil {
				columns, _ := strconv.Atoi(m[1])
				c.products += float64(columns) / 8
			}
		case "STS", "LDGSTS", "STSM":
			c.rank[1]++
		case "MUFU", "CALL", "FRND":
			c.rank[2]--
		case "FFMA", "HFMA2":
			c.rank[4]++
		}
		if name == "LDG" && strings.Contains(in.op, ".128") {
			c.rank[3]++
		} else if name == "LDG" {
			c.rank[5]--
		}
		if name == "LDG" || name == "STG" || name == "LDGSTS" {
			c.bytes += 32 * accessBytes(in.op)
		}
	}
	c.rank[0] = c.products
	return c
}

// accessBytes is what a lane's access moves.
func accessBytes(op string) float64 {
	for _, modifier := range strings.Split(op, ".") {
		switch modifier {
		case "128":
			return 16
		case "64":
			return 8
		case "U16", "S16":
			return 2
		case "U8", "S8":
			return 1
		}
	}
	return 4
}

func (c cost) plus(d cost) cost {
	c.instructions += d.instructions
	c.products += d.products
	c.bytes += d.bytes
	for i := range c.rank {
		c.rank[i] += d.rank[i]
	}
	return c
}

func (c cost) better(d cost) bool {
	if order := slices.Compare(c.rank[:], d.rank[:]); order != 0 {
		return order > 0
	}
	return c.instructions < d.instructions
}

// way is the best way from `from` through blocks of a set (nil: all) to a jump back to it or, where exits counts, to an
// end of the code. Of loops inside one iteration counts.
func (g *graph) way(from int, within map[int]bool, exits bool) (cost, bool) {
	type result struct {
		cost
		ok, done bool
	}
	known := make([]result, len(g.next))
	var walk func(b int) result
	walk = func(b int) result {
		if known[b].done {
			return known[b]
		}
		var best result
		consider := func(r result) {
			if r.ok && (!best.ok || r.better(best.cost)) {
				best = r
			}
		}
		if exits && len(g.next[b]) == 0 && g.code[g.begin[b+1]-1].op == "EXIT" {
			consider(result{ok: true})
		}
		for _, to := range g.next[b] {
			switch {
			case to == from && !exits:
				consider(result{ok: true})
			case within != nil && !within[to], g.dominates(to, b): // leaves, or goes round a loop inside
			default:
				consider(walk(to))
			}
		}
		best.cost = best.plus(g.of(b))
		best.done = true
		known[b] = best
		return best
	}
	r := walk(from)
	return r.cost, r.ok
}

// figures are what the machine code of an entry says of the time that it takes.
type figures struct {
	name         string
	static, path int     // instructions of the main loop, and of its way that counts
	products     float64 // of the way; 0: no tensor cores
	warpgroup    bool    // by wgmma
	perProduct   float64 // instructions of the main loop for one m16n8k16; 0 without tensor cores
	perByte      float64 // instructions of the rest for a byte of global memory
	once         float64 // instructions of the rest where no loop goes round it: of a warp, whatever is moved
}

// figures finds the main loop: the innermost one with products on tensor cores. perByte is that of the loop which moves
// most on its way, of those around the main loop where there is one, or of the whole kernel where no loop moves
// anything.
func (k *kernel) figures() (f figures, err error) {
	f.name = k.name
	g := k.blocks()
	f.warpgroup = slices.ContainsFunc(k.code, func(in instruction) bool { return strings.HasPrefix(in.op, "HGMMA") })
	size := func(l loop) (n int) {
		for b := range l.body {
			n += g.begin[b+1] - g.begin[b]
		}
		return n
	}
	loops := g.loops()
	var inner cost
	main := -1
	for i, l := range loops {
		c, ok := g.way(l.header, l.body, false)
		if ok && c.products > 0 {
			main, inner = i, c
			f.static, f.path, f.products = size(l), c.instructions, c.products
			f.perProduct = float64(c.instructions) / c.products
			break
		}
	}
	rest := cost{}
	for _, l := range loops {
		c, ok := g.way(l.header, l.body, false)
		if !ok || main >= 0 && (!l.body[loops[main].header] || l.header == loops[main].header) {
			continue
		}
		if c.instructions -= inner.instructions; c.bytes-inner.bytes > rest.bytes {
			c.bytes -= inner.bytes
			rest = c
		}
	}
	if rest.bytes == 0 {
		c, ok := g.way(0, nil, true)
		if !ok {
			return f, fmt.Errorf("%s: no way to an exit", k.name)
		}
		if main >= 0 {
			f.once = float64(c.instructions - inner.instructions)
			return f, nil
		}
		rest = c
	}
	if rest.bytes > 0 {
		f.perByte = float64(rest.instructions) / rest.bytes
	}
	if math.IsInf(f.perByte, 0) || f.perByte < 0 {
		return f, fmt.Errorf("%s: %d instructions for %g bytes", k.name, rest.instructions, rest.bytes)
	}
	return f, nil
}
