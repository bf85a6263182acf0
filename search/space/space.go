// Package space says what is searched: architectures as values, and the spaces they belong to.
package space

import (
	"context"
	"fmt"
	"sort"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Graph is an architecture as the comparator sees it: a directed acyclic graph whose nodes carry operations (paper section 3.1,
// the pair (A, X)).
type Graph struct {
	Ops   []uint8    // one operation a node, an index into Space.Alphabet; node 0 is the input, the last node the output
	Edges [][2]uint8 // from, to with from < to, in ascending order: nodes are numbered topologically
}

// Cost is what running an architecture takes.
type Cost struct {
	MAdds  int64 // multiply-accumulates of convolution and linear layers for one image
	Params int64 // trainable parameters, batch norm included
}

// Arch is an architecture: a comparable value in canonical form, so that two isomorphic architectures are equal with ==.
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

// Grammar describes a controller's decisions as data, so that a kernel follows it without call-backs: the first decision picks
// the variant, and a variant is a fixed list of further decisions.
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

// registry holds the spaces by name.
var registry = func() map[string]Space {
	all := map[string]Space{}
	for n := leastVertices; n < maxVertices; n++ {
		all[NASBench101{n}.Name()] = NASBench101{n}
	}
	all[nasbench101Name] = NASBench101{}
	return all
}()

// Open returns the space of a name.
func Open(name string) (Space, error) {
	if s, ok := registry[name]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("unknown search space %q; known: %v", name, Names())
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
