package gcn

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Kind is an encoder's way of passing messages.
type Kind string

const (
	// LayeredGCN is the graph convolution of the paper: every node aggregates its neighbours, all at once, in a few
	// rounds.
	LayeredGCN Kind = "layered"
	// Gated visits the nodes along the edges, each after all that it aggregates (as D-VAE does), once from the input
	// and once from the output.
	Gated Kind = "gated"
)

// Network is a comparator's shape.
type Network struct {
	Kind  Kind `json:"kind"`
	Width int  `json:"width"`

	// Layered only.
	Layers     int  `json:"layers,omitempty"`
	Residual   bool `json:"residual,omitempty"`    // a round adds its input
	Bias       bool `json:"bias,omitempty"`        // a round has a bias
	LinearLast bool `json:"linear_last,omitempty"` // no ReLU after the last round
	// Graphs are padded to this many nodes, padding counts in the mean (released code); 0: not.
	Pad  int  `json:"pad,omitempty"`
	Pair bool `json:"pair,omitempty"` // logit = w·[f_a; f_b] + c (released); otherwise s_a - s_b

	// Gated only.
	Features     bool `json:"features,omitempty"` // the head also sees the graph's features
	FeatureWidth int  `json:"feature_width,omitempty"`
	// The score also has a linear term in this multiple of the standardised counts of operations, which learns so much
	// faster; 0: none.
	Linear    float64 `json:"linear,omitempty"`
	HeadWidth int     `json:"head_width,omitempty"`
	Dropout   float64 `json:"dropout,omitempty"` // of the head's inputs and hidden units
}

// heads is the number of scores a graph gets.
func (n Network) heads() int {
	if n.Pair {
		return 2
	}
	return 1
}

// tensor is a named part of the flat parameter buffer.
type tensor struct {
	name  string
	shape []int
	off   int
	init  func(s *philox.Stream) float32
}

func (t tensor) len() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// layout is where a network's tensors lie in one flat buffer.
type layout struct {
	tensors []tensor
	size    int
	places  *Places // of the operations; nil: every operation has rows of its own
}

func (l *layout) add(name string, init func(s *philox.Stream) float32, shape ...int) {
	t := tensor{name, shape, l.size, init}
	l.tensors = append(l.tensors, t)
	l.size += (t.len() + 15) / 16 * 16 // every tensor starts on a cache line; the gap stays zero
}

func (l *layout) get(name string) tensor {
	for _, t := range l.tensors {
		if t.name == name {
			return t
		}
	}
	panic("gcn: no tensor " + name)
}

// part is a tensor's slice of a flat buffer.
func (l *layout) part(b *exec.Buffer, name string) *exec.Buffer {
	t := l.get(name)
	return b.Slice(t.off, t.len())
}

func uniform(bound float64) func(*philox.Stream) float32 {
	return func(s *philox.Stream) float32 { return float32((2*s.Float64() - 1) * bound) }
}

func normal(sd float64) func(*philox.Stream) float32 {
	return func(s *philox.Stream) float32 { return float32(s.NormFloat64() * sd) }
}

func around(mean, sd float64) func(*philox.Stream) float32 {
	return func(s *philox.Stream) float32 { return float32(mean + s.NormFloat64()*sd) }
}

func zero(*philox.Stream) float32 { return 0 }

// layout lists the network's tensors for an alphabet of operations (the padding operation included where there is one),
// their places, which may be nil, and a number of features.
func (n Network) layout(alphabet int, places *Places, features int) *layout {
	l := &layout{}
	w := n.Width
	switch n.Kind {
	case LayeredGCN:
		bound := 1 / math.Sqrt(float64(w))
		l.add("embedding.weight", normal(1), alphabet, w)
		for k := range n.Layers {
			l.add(layerName(k)+".weight", uniform(bound), w, w)
			if n.Bias {
				l.add(layerName(k)+".bias", uniform(bound), w)
			}
		}
		l.add("fc.weight", uniform(1/math.Sqrt(float64(n.heads()*w))), n.heads(), w)
		if n.Pair {
			l.add("fc.bias", uniform(1/math.Sqrt(float64(n.heads()*w))), 1)
		}
	case Gated:
		inputs := 2*w + n.featureWidth()
		l.places = places
		tables := []summand{{"", nil, alphabet, 0.5}}
		if places != nil {
			tables = places.summands()
		}
		for _, d := range []string{"forward", "backward"} {
			l.add(d+".weight", normal(1/math.Sqrt(float64(w))), w, 2*w)
			for i, t := range tables {
				mean := 0.0
				if i == 0 {
					mean = 1
				}
				l.add(d+".operation"+t.suffix, normal(t.sd), t.rows, 2*w)
				l.add(d+".scale"+t.suffix, around(mean, 0.6*t.sd), t.rows, 2*w)
			}
			l.add("head."+d, normal(1.4/math.Sqrt(float64(inputs))), w, n.HeadWidth)
		}
		if n.Features {
			l.add("features.weight", normal(1.4/math.Sqrt(float64(features))), features, n.FeatureWidth)
			l.add("features.bias", zero, n.FeatureWidth)
			l.add("head.features", normal(1.4/math.Sqrt(float64(inputs))), n.FeatureWidth, n.HeadWidth)
		}
		l.add("head.bias", zero, n.HeadWidth)
		l.add("score.weight", normal(1/math.Sqrt(float64(n.HeadWidth))), 1, n.HeadWidth)
		if n.Linear > 0 {
			l.add("score.counts", zero, alphabet, 1)
		}
	default:
		panic("gcn: unknown kind " + string(n.Kind))
	}
	return l
}

// layerName is what the tensors of a layered network's layer k, from 0, begin with.
func layerName(k int) string { return fmt.Sprintf("gcn.%d", k) }

func (n Network) featureWidth() int {
	if n.Features {
		return n.FeatureWidth
	}
	return 0
}

// initial draws the weights of ensemble member `member` of a seed.
func (l *layout) initial(seed uint64, member int) []float32 {
	out := make([]float32, l.size)
	for i, t := range l.tensors {
		s := philox.New(seed, philox.PurposeInit, uint32(member<<16|i))
		for k := range t.len() {
			out[t.off+k] = t.init(s)
		}
	}
	return out
}
