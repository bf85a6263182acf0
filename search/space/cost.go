package space

// The network that NAS-Bench-101 trains around a cell (Ying et al. 2019, section 2.1 and figure 1;
// nasbench/lib/model_builder.py): a 3x3 convolution to 128 channels on 32x32 images, three stacks of three cells with a
// 2x2 max-pooling and twice the channels before the second and the third, global average pooling and a linear layer
// with bias to 10 classes. A convolution has no bias and is followed by batch norm (scale and shift) and ReLU.
const (
	imageSide     = 32
	imageChannels = 3
	stemChannels  = 128
	stacks        = 3
	cellsPerStack = 3
	classes       = 10
)

// Cost counts the whole network around the cell, for one 32x32 image. Params equals the published trainable_parameters.
// MAdds are those of the convolutions and the linear layer; tables that count 2 operations more for each output of a
// batch norm are larger by about 1 %.
func (c Cell) Cost() Cost {
	return c.cost(cellMacro{imageSide, stemChannels, stacks, cellsPerStack, classes})
}

// cellMacro is the size of a network around a cell.
type cellMacro struct{ side, channels, stacks, modules, classes int }

func (c Cell) cost(m cellMacro) Cost {
	weights := (int64(m.channels) << (m.stacks - 1)) * int64(m.classes)
	cost := Cost{MAdds: weights, Params: weights + int64(m.classes)}
	c.convolutions(m, func(kernel, in, out, side int64) {
		weights := kernel * kernel * in * out
		cost.Params += weights + 2*out
		cost.MAdds += weights * side * side
	})
	return cost
}

// convolutions visits every convolution of the network: its kernel's side, channels in and out, and the side of its
// output in pixels.
func (c Cell) convolutions(m cellMacro, visit func(kernel, in, out, side int64)) {
	d := c.unpack()
	in := int64(m.channels)
	visit(3, imageChannels, in, int64(m.side))
	side := int64(m.side)
	for stack := range m.stacks {
		out := int64(m.channels) << stack
		if stack > 0 {
			side = (side + 1) / 2
		}
		for range m.modules {
			d.convolutions(in, out, side, visit)
			in = out
		}
	}
}

// convolutions visits those of one cell. An edge from the input is a 1x1 convolution to the channels of its target;
// interior vertices add what comes in; the output concatenates what comes from interior vertices and adds what comes
// from the input.
func (d *dag) convolutions(in, out, side int64, visit func(kernel, in, out, side int64)) {
	channels := d.channels(out)
	for v := 1; v < d.n; v++ {
		if d.edge(0, v) {
			visit(1, in, channels[v], side)
		}
		if v == d.n-1 {
			continue
		}
		switch d.op[v] {
		case conv3x3:
			visit(3, channels[v], channels[v], side)
		case conv1x1:
			visit(1, channels[v], channels[v], side)
		}
	}
}

// channels gives each vertex after the input its channels (model_builder.py, compute_vertex_channels): the vertices
// that feed the output share its channels, the first ones taking one more where they do not divide evenly; any other
// has as many as the largest of the vertices it feeds.
func (d *dag) channels(out int64) [maxVertices]int64 {
	var channels [maxVertices]int64
	last := d.n - 1
	channels[last] = out
	feeding := int64(0)
	for v := 1; v < last; v++ {
		if d.edge(v, last) {
			feeding++
		}
	}
	if feeding == 0 {
		return channels
	}
	share, extra := out/feeding, out%feeding
	for v := 1; v < last; v++ {
		if d.edge(v, last) {
			channels[v] = share
			if extra > 0 {
				channels[v]++
				extra--
			}
		}
	}
	for v := last - 1; v > 0; v-- {
		if d.edge(v, last) {
			continue
		}
		for to := v + 1; to < last; to++ {
			if d.edge(v, to) {
				channels[v] = max(channels[v], channels[to])
			}
		}
	}
	return channels
}
