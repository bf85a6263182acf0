package rnn

import "fmt"

// Kind is how a head turns the LSTM's state h into logits.
type Kind int

const (
	// Linear: logits = W h + b, W with a row a choice.
	Linear Kind = iota
	// Attention: logit j = v . tanh(W1 e_j + W2 h), e_j the embedding of choice j (additive attention, Bahdanau et al.
	// 2015).
	Attention
)

// Head is a kind of decision: a softmax over Choices outputs, and an embedding a choice, which is the next decision's
// input.
type Head struct {
	Name    string
	Kind    Kind
	Choices int
}

// Step is one decision: a head, of which the first Choices outputs are allowed.
type Step struct{ Head, Choices int }

// Grammar lists the decisions: the first picks a variant, a variant is a fixed list of further ones.
type Grammar struct {
	Heads    []Head
	First    Step
	Variants [][]Step // one a choice of First
}

// MaxSteps is the length of the longest sequence, the first decision included; at most 64.
func (g *Grammar) MaxSteps() int {
	longest := 0
	for _, v := range g.Variants {
		longest = max(longest, len(v))
	}
	return longest + 1
}

func (g *Grammar) check() error {
	if len(g.Heads) == 0 || len(g.Heads) > 64 || len(g.Variants) != g.First.Choices {
		return fmt.Errorf("grammar with %d heads, %d variants and %d first choices", len(g.Heads), len(g.Variants),
			g.First.Choices)
	}
	for i, h := range g.Heads {
		if h.Choices < 1 || h.Choices > 4096 || h.Kind != Linear && h.Kind != Attention {
			return fmt.Errorf("head %d (%s) has kind %d and %d choices", i, h.Name, h.Kind, h.Choices)
		}
	}
	if n := g.MaxSteps(); n > 64 {
		return fmt.Errorf("a sequence of %d decisions: at most 64", n)
	}
	for i, v := range append([][]Step{{g.First}}, g.Variants...) {
		for j, s := range v {
			if s.Head < 0 || s.Head >= len(g.Heads) || s.Choices < 1 || s.Choices > g.Heads[s.Head].Choices {
				return fmt.Errorf("list %d, decision %d: %d choices of head %d", i, j, s.Choices, s.Head)
			}
		}
	}
	return nil
}

// Network is a controller's shape and the place of its parameters in one flat buffer.
//
// An LSTM cell (PyTorch's LSTMCell: gates in the order i, f, g, o and two bias vectors, which matter separately under
// L2 decay) reads the embedding of the decision before, of that decision's own table; the first decision reads zeros,
// and h and c start at zero. Rows are padded to a multiple of 16 floats; padding holds zeros and gets zero gradients.
type Network struct {
	Grammar Grammar
	Hidden  int

	pad, size          int
	wih, whh, bih, bhh int
	heads              []headLayout
	rows, part         int // embeddings of all heads; floats of a group's partial sums
}

type headLayout struct{ row, embedding, a, b, v, part int }

// NewNetwork lays out the parameters of a grammar and a hidden size of 1 to 1024.
func NewNetwork(g Grammar, hidden int) (*Network, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("controller network: %w", err)
	}
	if hidden < 1 || hidden > 1024 {
		return nil, fmt.Errorf("controller network: hidden size %d: want 1..1024", hidden)
	}
	n := &Network{Grammar: g, Hidden: hidden, pad: (hidden + 15) / 16 * 16}
	take := func(size int) int {
		at := n.size
		n.size += size
		return at
	}
	gates := 4 * n.pad
	n.wih, n.whh = take(hidden*gates), take(hidden*gates)
	n.bih, n.bhh = take(gates), take(gates)
	for _, h := range g.Heads {
		l := headLayout{row: n.rows, part: n.part, embedding: take(h.Choices * n.pad)}
		n.rows += h.Choices
		n.part += h.Choices * n.pad
		if h.Kind == Attention {
			l.a, l.b, l.v = take(hidden*n.pad), take(hidden*n.pad), take(n.pad)
			n.part += n.pad
		} else {
			bias := (h.Choices + 15) / 16 * 16
			l.a, l.b = take(h.Choices*n.pad), take(bias)
			n.part += bias
		}
		n.heads = append(n.heads, l)
	}
	return n, nil
}

// Size is the number of floats of the parameters, padding included.
func (n *Network) Size() int { return n.size }

// Tensor is one parameter in PyTorch's shape: [Rows, Cols], row-major.
type Tensor struct {
	Name       string
	Rows, Cols int
	At         func(row, col int) int // the place of an element in a parameter buffer
}

// Tensors lists the parameters: "lstm.weight_ih" and "lstm.weight_hh" ([4 Hidden, Hidden]), "lstm.bias_ih" and
// "lstm.bias_hh" ([1, 4 Hidden]), and for each head, by its name, "NAME.embedding" ([Choices, Hidden]) and either
// "NAME.weight" ([Choices, Hidden]) and "NAME.bias" ([1, Choices]), or "NAME.key" (W1), "NAME.query" (W2; both
// [Hidden, Hidden]) and "NAME.value" (v; [1, Hidden]).
func (n *Network) Tensors() []Tensor {
	plain := func(base int) func(int, int) int { return func(r, c int) int { return base + r*n.pad + c } }
	turned := func(base int) func(int, int) int { return func(r, c int) int { return base + c*n.pad + r } }
	gate := func(r int) int { return r/n.Hidden*n.pad + r%n.Hidden }
	weight := func(base int) func(int, int) int { return func(r, c int) int { return base + c*4*n.pad + gate(r) } }
	bias := func(base int) func(int, int) int { return func(_, c int) int { return base + gate(c) } }
	h := n.Hidden
	out := []Tensor{{"lstm.weight_ih", 4 * h, h, weight(n.wih)}, {"lstm.weight_hh", 4 * h, h, weight(n.whh)},
		{"lstm.bias_ih", 1, 4 * h, bias(n.bih)}, {"lstm.bias_hh", 1, 4 * h, bias(n.bhh)}}
	for i, head := range n.Grammar.Heads {
		l := n.heads[i]
		out = append(out, Tensor{head.Name + ".embedding", head.Choices, h, plain(l.embedding)})
		if head.Kind == Attention {
			out = append(out, Tensor{head.Name + ".key", h, h, turned(l.a)},
				Tensor{head.Name + ".query", h, h, turned(l.b)}, Tensor{head.Name + ".value", 1, h, plain(l.v)})
		} else {
			out = append(out, Tensor{head.Name + ".weight", head.Choices, h, plain(l.a)},
				Tensor{head.Name + ".bias", 1, head.Choices, plain(l.b)})
		}
	}
	return out
}

// Put writes a tensor's [Rows, Cols] values into a parameter buffer of Size floats.
func (t Tensor) Put(params, values []float32) {
	for i := range t.Rows * t.Cols {
		params[t.At(i/t.Cols, i%t.Cols)] = values[i]
	}
}

// Get reads a tensor's [Rows, Cols] values out of a parameter or gradient buffer of Size floats.
func (t Tensor) Get(params []float32) []float32 {
	out := make([]float32, t.Rows*t.Cols)
	for i := range out {
		out[i] = params[t.At(i/t.Cols, i%t.Cols)]
	}
	return out
}
