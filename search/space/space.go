// Package space says what is searched: architectures as values, and the spaces they belong to.
package space

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Graph is an architecture as the comparator sees it: a directed acyclic graph whose nodes carry operations (paper
// section 3.1, the pair (A, X)).
type Graph struct {
	// One operation a node, an index into Space.Alphabet; node 0 is the input, the last node the output.
	Ops   []uint16
	Edges [][2]uint8 // from, to with from < to, in ascending order: nodes are numbered topologically
}

// add adds a node behind all others that reads some of them, and returns its number.
func (g *Graph) add(op uint16, from ...uint8) uint8 {
	v := uint8(len(g.Ops))
	g.Ops = append(g.Ops, op)
	for _, u := range from {
		g.Edges = append(g.Edges, [2]uint8{u, v})
	}
	return v
}

// Cost is what running an architecture takes. What nobody knows is Unknown.
type Cost struct {
	MAdds  int64 // multiply-accumulates of convolution and linear layers for one image
	Params int64 // trainable parameters, batch norm included
}

// Unknown is a cost that neither the space nor a table says.
const Unknown int64 = -1

// Known is a cost for a document: nil, null there, where it is Unknown.
func Known(cost int64) *int64 {
	if cost < 0 {
		return nil
	}
	return &cost
}

// Arch is an architecture: a comparable value in canonical form, so that two isomorphic architectures are equal with
// ==.
type Arch interface {
	String() string // canonical text, with the space's name; Space.Parse reads it back
	Hash() string   // the space's published fingerprint where it has one
	Graph() Graph
	Cost() Cost
}

// Space is a set of architectures.
type Space interface {
	Name() string
	Alphabet() []string // names of the node operations
	MaxNodes() int
	Parse(s string) (Arch, error)
	Grammar() *Grammar
	Decode(actions []int) (Arch, error)   // any sequence of decisions that follows the grammar
	Encode(a Arch) ([]int, error)         // a sequence that Decode turns into a
	Sample(s *philox.Stream) Arch         // uniform over the distinct architectures
	Mutate(a Arch, s *philox.Stream) Arch // a different architecture a small step away
}

// Enumerable is a space small enough to list.
type Enumerable interface {
	Space
	// All lists every architecture in the order of ascending hash. progress may be nil.
	All(ctx context.Context, progress func(done, total int)) ([]Arch, error)
}

// Positional is a space whose operations say where in a network they stand: a node of a Graph is known by its operation
// alone. Of the others, such as NAS-Bench-101, the edges say it.
type Positional interface {
	Space
	Positional()
}

// IsPositional tells whether a space is Positional.
func IsPositional(sp Space) bool {
	_, positional := sp.(Positional)
	return positional
}

// Grammar describes a controller's decisions as data, so that a kernel follows it without call-backs: the first
// decision picks the variant, and a variant is a fixed list of further decisions.
type Grammar struct {
	Heads    []Head
	First    Step
	Variants [][]Step // one a choice of First
}

// Head is a kind of decision: a softmax over Choices outputs and an embedding of the choice taken.
type Head struct {
	Name    string
	Choices int
}

// Step is one decision: a head, of which the first Choices outputs are allowed.
type Step struct{ Head, Choices int }

// MaxSteps is the length of the longest sequence of decisions, the first included.
func (g *Grammar) MaxSteps() int {
	longest := 0
	for _, v := range g.Variants {
		longest = max(longest, len(v))
	}
	return longest + 1
}

// Steps lists the decisions after a first choice, the first included.
func (g *Grammar) Steps(first int) []Step {
	return append([]Step{g.First}, g.Variants[first]...)
}

// Draw draws each decision uniformly by itself. An architecture that several sequences stand for is drawn more often
// than one that has a single sequence.
func (g *Grammar) Draw(s *philox.Stream) []int { return g.drawBehind(s.Intn(g.First.Choices), s) }

// drawBehind draws likewise what follows a first choice, which comes with it.
func (g *Grammar) drawBehind(first int, s *philox.Stream) []int {
	actions := []int{first}
	for _, step := range g.Variants[first] {
		actions = append(actions, s.Intn(step.Choices))
	}
	return actions
}

// Check tells whether actions is a sequence the grammar allows.
func (g *Grammar) Check(actions []int) error {
	if len(actions) == 0 {
		return fmt.Errorf("an empty sequence of decisions")
	}
	if actions[0] < 0 || actions[0] >= g.First.Choices {
		return fmt.Errorf("decision 0 is %d, want 0..%d", actions[0], g.First.Choices-1)
	}
	steps := g.Steps(actions[0])
	if len(actions) != len(steps) {
		return fmt.Errorf("%d decisions, want %d after first choice %d", len(actions), len(steps), actions[0])
	}
	for i, s := range steps {
		if actions[i] < 0 || actions[i] >= s.Choices {
			return fmt.Errorf("decision %d is %d, want 0..%d", i, actions[i], s.Choices-1)
		}
	}
	return nil
}

// Crosser is a space whose architectures can be crossed.
type Crosser interface {
	Space
	// Cross returns a child whose parts come from both parents; it may equal one of them.
	Cross(a, b Arch, s *philox.Stream) Arch
}

// registry opens spaces by the part of their name before a settings suffix (@) or a file (:). A space is one line
// here. What else it can do it says by the interfaces that it has: Enumerable, Crosser, Positional, Encoded,
// Initialised (features and first labels), Coder (tables), Columned, Composed and Measurable (latencies), Resizing,
// Bounded and Ranged (limits), Sharing, Written, Strict, Mixed, Elastic and Shrinking (supernets); and its
// architectures by Trainable, Alike (labels by training).
var registry = map[string]func(name string) (Space, error){
	"nasbench101":    plain(NASBench101{}),
	"nasbench101-v3": plain(NASBench101{3}),
	"nasbench101-v4": plain(NASBench101{4}),
	"nasbench101-v5": plain(NASBench101{5}),
	"nasbench101-v6": plain(NASBench101{6}),
	nasbench201Name:  plain(NASBench201{}),
	mobileName:       openMobileNetV3,
	dartsName:        openDarts,
	"spos":           openChains(0),
	"fairnas":        openChains(1),
	filePrefix:       openFile,
}

// plain opens a space without settings.
func plain(sp Space) func(name string) (Space, error) {
	return func(name string) (Space, error) {
		if name != sp.Name() {
			return nil, fmt.Errorf("search space %q: %s has no settings", name, sp.Name())
		}
		return sp, nil
	}
}

// Open returns the space of a name, which may carry settings: mobilenetv3@w1.2,r224.
func Open(name string) (Space, error) {
	kind := name
	if i := strings.IndexAny(name, "@:"); i >= 0 {
		kind = name[:i]
	}
	if f, ok := registry[kind]; ok {
		return f(name)
	}
	return nil, names.Unknown("search space", name, Names())
}

// Absolute is the name that opens the same space in any working directory.
func Absolute(name string) (string, error) {
	path, ok := strings.CutPrefix(name, filePrefix+":")
	if !ok {
		return name, nil
	}
	whole, err := files.Absolute(path)
	return filePrefix + ":" + whole, err
}

// Names lists the registered spaces in order.
func Names() []string {
	names := make([]string, 0, len(registry))
	for n := range registry {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// NamesOf lists the registered spaces that have an interface, such as Measurable, and open by their name alone.
func NamesOf[Interface Space]() []string {
	var names []string
	for _, name := range Names() {
		if sp, err := Open(name); err == nil {
			if _, ok := sp.(Interface); ok {
				names = append(names, name)
			}
		}
	}
	return names
}
