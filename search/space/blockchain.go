package space

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// chainKind is a space of chains of blocks. To add one, write its layers as a zoo.BlockChain, a line here and one in
// registry.
type chainKind struct {
	name  string
	of    func(s zoo.ChainSize) zoo.BlockChain
	known map[string]string // networks that their authors published, by the names that texts may have for them
}

var chainKinds = [...]chainKind{
	{"spos", zoo.SPOS, map[string]string{"released": "21012020202300003233"}},
	{"fairnas", zoo.FairNAS, map[string]string{"a": "2023500551311335354", "b": "1010312031032054534",
		"c": "1020000003000055334"}},
}

// maxChainLayers is the length of the longest chain.
const maxChainLayers = 20

var chainWidths = [...]string{"1.0", "0.25", "0.5", "0.75"}

var chainMultipliers = [...]float64{1.0, 0.25, 0.5, 0.75} // chainWidths as numbers

// BlockChain is an architecture of a space of chains: the number of a block in each layer, 0 behind the last.
type BlockChain struct {
	of     BlockChains
	blocks [maxChainLayers]uint8
}

// BlockChains is a space of chains of blocks (zoo.BlockChain) of one width, product of strides and resolution.
type BlockChains struct {
	kind       uint8 // index into chainKinds
	width      uint8 // index into chainWidths
	stride     uint8 // index into mobileStrides
	resolution uint16
}

var (
	_ Crosser    = BlockChains{}
	_ Positional = BlockChains{}
	_ Bounded    = BlockChains{}
	_ Ranged     = BlockChains{}
	_ Resizing   = BlockChains{}
	_ Coder      = BlockChains{}
	_ Columned   = BlockChains{}
	_ Measurable = BlockChains{}
	_ Strict     = BlockChains{}
	_ Mixed      = BlockChains{}
	_ Alike      = BlockChain{}
)

// chains are the layers of the spaces' networks, by spaces without resolution.
var chains sync.Map

func (sp BlockChains) chain() zoo.BlockChain {
	sp.resolution = 0
	if c, ok := chains.Load(sp); ok {
		return c.(zoo.BlockChain)
	}
	c, _ := chains.LoadOrStore(sp, chainKinds[sp.kind].of(zoo.ChainSize{Width: chainMultipliers[sp.width],
		Whole: int(sp.stride)}))
	return c.(zoo.BlockChain)
}

// chainLayers are the layers of a kind of chain, whose number and names no size changes.
func (sp BlockChains) layers() [][]zoo.Block { return BlockChains{kind: sp.kind}.chain().Layers }

// chainSuffix is what all networks of a space have in common, as its name and the networks' texts say it.
var chainSuffix = regexp.MustCompile(`^w(` + strings.ReplaceAll(strings.Join(chainWidths[:], "|"), ".", `\.`) +
	`)(?:,r(\d{2,3}))?(?:,s(32|16|8|4))?$`)

// openChains opens a kind of chain: spos, which is @w1.0,r224,s32, spos@w0.5, spos@w0.5,r32,s8.
func openChains(kind int) func(name string) (Space, error) {
	return func(name string) (Space, error) {
		sp := BlockChains{kind: uint8(kind), resolution: 224}
		_, suffix, marked := strings.Cut(name, "@")
		if !marked {
			return sp, nil
		}
		if err := sp.resize(suffix); err != nil {
			return nil, fmt.Errorf("search space %q: %w", name, err)
		}
		return sp, nil
	}
}

// resize reads what follows an @.
func (sp *BlockChains) resize(suffix string) error {
	part := chainSuffix.FindStringSubmatch(suffix)
	if part == nil {
		return fmt.Errorf("%.40q behind @: want a width of %s, perhaps with a resolution and a stride of 32, 16, 8 "+
			"or 4 behind, as in %s@w0.5,r32,s8", suffix, strings.Join(chainWidths[:], ", "),
			chainKinds[sp.kind].name)
	}
	sp.width, sp.stride = uint8(slices.Index(chainWidths[:], part[1])), parseStride(part[3])
	sp.resolution = 224
	if part[2] == "" {
		return nil
	}
	var err error
	sp.resolution, err = parseResolution(part[2], sp.stride)
	return err
}

// size is the suffix of names and texts: "w1.0,r224", with the stride behind where it is not 32.
func (sp BlockChains) size() string {
	return fmt.Sprintf("w%s,r%d%s", chainWidths[sp.width], sp.resolution, strideSuffix(sp.stride))
}

// Name is "spos", with width, resolution and stride behind where they are not 1.0, 224 and 32.
func (sp BlockChains) Name() string {
	if name := chainKinds[sp.kind].name; sp != (BlockChains{kind: sp.kind, resolution: 224}) {
		return name + "@" + sp.size()
	}
	return chainKinds[sp.kind].name
}

// Positional: every layer has operations of its own.
func (BlockChains) Positional() {}

// Resolutions is the side of the images in pixels.
func (sp BlockChains) Resolutions() []int { return []int{int(sp.resolution)} }

// Blocks are the numbers of the blocks, one for each layer.
func (c BlockChain) Blocks() []int { return ints(c.blocks[:len(c.of.layers())]) }

// Resolution is the side of the images in pixels.
func (c BlockChain) Resolution() int { return int(c.of.resolution) }

// String is the canonical text, spos:<numbers of the blocks>@w<width>,r<resolution>, and behind it ,s<stride> where
// that is not 32.
func (c BlockChain) String() string {
	return chainKinds[c.of.kind].name + ":" + joined(c.blocks[:len(c.of.layers())]) + "@" + c.of.size()
}

// Hash is the MD5 of the text, since no fingerprint is published.
func (c BlockChain) Hash() string { return textHash(c.String()) }

// Parse reads spos:<blocks>[@w<width>[,r<resolution>][,s<stride>]]. Blocks are numbers or names with commas between
// them, in brackets or without, or digits alone, or the name of a published network: fairnas:a. What is not said behind
// them is the space's; a width without resolution and stride has the published ones.
func (sp BlockChains) Parse(s string) (Arch, error) {
	c, err := sp.parse(s)
	if err != nil {
		return nil, fmt.Errorf("architecture %.200q: %w", s, err)
	}
	return c, nil
}

func (sp BlockChains) parse(s string) (BlockChain, error) {
	kind, layers := chainKinds[sp.kind], sp.layers()
	c := BlockChain{of: sp}
	body, suffix, marked := strings.Cut(s, "@")
	if marked {
		if err := c.of.resize(suffix); err != nil {
			return c, err
		}
	}
	text, ok := strings.CutPrefix(body, kind.name+":")
	if !ok {
		return c, fmt.Errorf("want %s:<a block for each of %d layers>, perhaps with @w0.5,r32,s8 behind", kind.name,
			len(layers))
	}
	if known, ok := kind.known[text]; ok {
		text = known
	}
	words := strings.Split(strings.Trim(text, "()[]"), ",")
	if len(words) == 1 {
		words = strings.Split(text, "")
	}
	return c, c.fill(words)
}

// fill reads the block of each layer, its number or its name.
func (c *BlockChain) fill(words []string) error {
	layers := c.of.layers()
	if len(words) != len(layers) {
		return fmt.Errorf("%d blocks, want one for each of %d layers", len(words), len(layers))
	}
	for i, word := range words {
		word = strings.TrimSpace(word)
		k := slices.IndexFunc(layers[i], func(b zoo.Block) bool { return b.Name == word })
		if n, err := strconv.Atoi(word); err == nil && n >= 0 && n < len(layers[i]) && strconv.Itoa(n) == word {
			k = n
		}
		if k < 0 {
			return fmt.Errorf("layer %d has block %.20q, want 0 to %d, %s", i+1, word, len(layers[i])-1,
				strings.Join(blockNames(layers[i]), ", "))
		}
		c.blocks[i] = uint8(k)
	}
	return nil
}

// blockNames are those of a layer's blocks.
func blockNames(layer []zoo.Block) []string {
	names := make([]string, len(layer))
	for k, b := range layer {
		names[k] = b.Name
	}
	return names
}

// draw makes a chain of a block for each layer.
func (sp BlockChains) draw(block func(layer, blocks int) int) BlockChain {
	c := BlockChain{of: sp}
	for i, layer := range sp.layers() {
		c.blocks[i] = uint8(block(i, len(layer)))
	}
	return c
}

// Sample draws each layer's block with the same probability.
func (sp BlockChains) Sample(s *philox.Stream) Arch {
	return sp.draw(func(_, blocks int) int { return s.Intn(blocks) })
}

// chainMutation is the probability that the evolution of SPOS draws a layer again (megvii-model/SinglePathOneShot,
// Search/search.py).
const chainMutation = 0.1

// Mutate is the mutation of SPOS: each layer's block is drawn again with probability 0.1, until a different network
// results. a must be a BlockChain.
func (sp BlockChains) Mutate(a Arch, s *philox.Stream) Arch {
	parent := a.(BlockChain)
	for {
		c := parent.of.draw(func(layer, blocks int) int {
			if s.Float64() < chainMutation {
				return s.Intn(blocks)
			}
			return int(parent.blocks[layer])
		})
		if c != parent {
			return c
		}
	}
}

// Cross is the crossover of SPOS: each layer's block is that of one of the parents, of equal probability.
func (sp BlockChains) Cross(x, y Arch, s *philox.Stream) Arch {
	parents := [2]BlockChain{x.(BlockChain), y.(BlockChain)}
	return parents[0].of.draw(func(layer, _ int) int { return int(parents[s.Intn(2)].blocks[layer]) })
}

// Alphabet lists the operations of a Graph's nodes: the input, what a block may be of each layer, part by part, and the
// output. Parts are operations of their own in every layer.
func (sp BlockChains) Alphabet() []string {
	names := []string{inputName}
	for i, layer := range sp.layers() {
		for part := range layer[0].Parts {
			for _, name := range partNames(layer, part) {
				names = append(names, fmt.Sprintf("%d %s", i+1, name))
			}
		}
	}
	return append(names, outputName)
}

// partNames are what a part of a layer's blocks may be.
func partNames(layer []zoo.Block, part int) (names []string) {
	for _, b := range layer {
		if !slices.Contains(names, b.Parts[part]) {
			names = append(names, b.Parts[part])
		}
	}
	return names
}

// MaxNodes counts the parts of a block in each layer, the input and the output.
func (sp BlockChains) MaxNodes() int {
	n := 2
	for _, layer := range sp.layers() {
		n += len(layer[0].Parts)
	}
	return n
}

// Graph is a chain. A layer is a node for each part of its block, such as a kernel and an expansion, which all read all
// nodes of the layer before.
func (c BlockChain) Graph() Graph {
	g := Graph{Ops: []uint16{0}}
	before, first := []uint8{0}, 1
	for i, layer := range c.of.layers() {
		var nodes []uint8
		for part, name := range layer[c.blocks[i]].Parts {
			names := partNames(layer, part)
			nodes = append(nodes, g.add(uint16(first+slices.Index(names, name)), before...))
			first += len(names)
		}
		before = nodes
	}
	g.add(uint16(first), before...)
	slices.SortFunc(g.Edges, func(x, y [2]uint8) int { return slices.Compare(x[:], y[:]) })
	return g
}

// Grammar decides the block of each layer in their order, with a head each.
func (sp BlockChains) Grammar() *Grammar {
	g := &Grammar{}
	var steps []Step
	for i, layer := range sp.layers() {
		g.Heads = append(g.Heads, Head{fmt.Sprintf("layer%d", i+1), len(layer)})
		steps = append(steps, Step{i, len(layer)})
	}
	g.fixed(steps)
	return g
}

// Decode returns the network of a decision for each layer.
func (sp BlockChains) Decode(actions []int) (Arch, error) {
	if err := sp.Grammar().Check(actions); err != nil {
		return nil, err
	}
	return sp.draw(func(layer, _ int) int { return actions[layer] }), nil
}

// Encode returns the decisions of a network.
func (sp BlockChains) Encode(a Arch) ([]int, error) {
	c, err := sp.own(a)
	if err != nil {
		return nil, err
	}
	return c.Blocks(), nil
}

// own is an architecture of the space itself.
func (sp BlockChains) own(a Arch) (BlockChain, error) {
	c, ok := a.(BlockChain)
	if !ok || c.of != sp {
		return c, fmt.Errorf("%v is no architecture of %s", a, sp.Name())
	}
	return c, nil
}

// CodeBytes is the width, with the stride in the upper half of the byte, the resolution and a byte a layer.
func (sp BlockChains) CodeBytes() int { return 3 + len(sp.layers()) }

// AppendCode appends the network's numbers.
func (sp BlockChains) AppendCode(code []byte, a Arch) ([]byte, bool) {
	c, ok := a.(BlockChain)
	code = append(code, c.of.stride<<4|c.of.width, byte(c.of.resolution), byte(c.of.resolution>>8))
	return append(code, c.blocks[:len(sp.layers())]...), ok && c.of.kind == sp.kind
}

// FromCode returns the BlockChain.
func (sp BlockChains) FromCode(code []byte) Arch {
	c := BlockChain{of: BlockChains{kind: sp.kind, width: code[0] & 15, stride: code[0] >> 4,
		resolution: uint16(code[1]) | uint16(code[2])<<8}}
	copy(c.blocks[:], code[3:])
	return c
}

// CheckCode refuses numbers that Parse would not make.
func (sp BlockChains) CheckCode(code []byte) error {
	c := sp.FromCode(code).(BlockChain)
	valid := int(c.of.width) < len(chainWidths) && int(c.of.stride) < len(mobileStrides)
	valid = valid && int(c.of.resolution) >= leastResolution(c.of.stride) && c.of.resolution <= maxResolution &&
		c.of.resolution%4 == 0
	for i, layer := range sp.layers() {
		valid = valid && int(c.blocks[i]) < len(layer)
	}
	if !valid {
		return fmt.Errorf("%x is no network of %s", code, chainKinds[sp.kind].name)
	}
	return nil
}

// Columns are layer1, layer2 and so on.
func (sp BlockChains) Columns() []string {
	var names []string
	for _, h := range sp.Grammar().Heads {
		names = append(names, h.Name)
	}
	return names
}

// FromColumns reads numbers or names of blocks.
func (sp BlockChains) FromColumns(fields []string) (Arch, error) {
	words := make([]string, len(fields))
	for i, field := range fields {
		words[i] = strings.TrimSuffix(strings.TrimSpace(field), ".0")
	}
	c := BlockChain{of: sp}
	if err := c.fill(words); err != nil {
		return nil, err
	}
	return c, nil
}
