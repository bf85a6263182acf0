package space

import (
	"cmp"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// NetworkSize is what a trained network depends on beside its architecture.
type NetworkSize struct {
	Side     int // of the square RGB images
	Classes  int
	Channels int // of the stem, where a space leaves the width open
	Stacks   int // of a network of cells; 0: as many as the data set has
	Modules  int // cells a stack; 0: as many as the data set has
}

// Trainable is an architecture that can be trained: a space whose architectures are Trainable can be searched with labels of its own making.
type Trainable interface {
	Arch
	// Network builds what is trained; an error where the size leaves no room for the architecture.
	Network(size NetworkSize) (*nn.Network, error)
}

var _ Trainable = Cell(0)

// Network is the data set's network around the cell, three stacks of three unless the size says otherwise, with another number of channels than its 128.
func (c Cell) Network(s NetworkSize) (*nn.Network, error) {
	return zoo.CellNetwork{Cell: c, Image: nn.Shape{H: s.Side, W: s.Side, C: imageChannels}, Channels: s.Channels, Stacks: cmp.Or(s.Stacks, stacks),
		Modules: cmp.Or(s.Modules, cellsPerStack), Classes: s.Classes}.Build()
}
