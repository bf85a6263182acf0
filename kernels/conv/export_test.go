package conv

// Winograd tells whether the convolution goes by Winograd's algorithm on the CPU.
func (c Conv) Winograd() bool { return c.defaults().winograd() }

// SmallTarget splits work for a GPU so small that tests reach wide tiles, and several a block, until the function it returns is called.
func SmallTarget() (restore func()) {
	keep := target
	target.resident, target.enough, target.tiles = 2, 1, 3
	return func() { target = keep }
}
