package space

import (
	"slices"
	"strings"
)

// Encoder says how the comparator reads a space's architectures (docs/comparator.md). A space states it; nothing about
// it follows from a size.
type Encoder struct {
	// Kind and Place take the operations of the alphabet apart: what each does, such as a 3x3 convolution, and where it
	// stands, such as on an edge; -1: at no place beside its kind. Both nil: an operation is itself alone.
	Kind, Place []int32
	// Walks: what is joined to what differs between architectures, and the features describe what paths and random
	// walks through the graph meet, by kind. Otherwise they count the kinds, and a linear term in the counts of
	// operations learns most of what an architecture is worth.
	Walks bool
	Costs bool // the features have the logarithms of multiply-adds and parameters
}

// Encoded is a space that states its Encoder.
type Encoded interface {
	Space
	Encoder() *Encoder
}

// counted reads spaces that are Positional and state nothing else; wandered the others, such as NAS-Bench-101.
var counted, wandered = &Encoder{}, &Encoder{Walks: true, Costs: true}

// EncoderOf is how a space's architectures are read.
func EncoderOf(sp Space) *Encoder {
	if e, ok := sp.(Encoded); ok {
		return e.Encoder()
	}
	if IsPositional(sp) {
		return counted
	}
	return wandered
}

// String says it in words.
func (e *Encoder) String() string {
	parts := []string{"an embedding for each operation"}
	if e.Kind != nil {
		parts[0] = "an embedding for each kind of operation"
		if slices.Max(e.Place) >= 0 {
			parts[0] += " plus one for each place"
		}
	}
	if e.Walks {
		parts = append(parts, "features of paths and walks")
	} else {
		parts = append(parts, "counts of operations and a linear term in them")
	}
	if e.Costs {
		parts = append(parts, "costs")
	}
	return strings.Join(parts, ", ")
}
