// Package split says for how large a GPU the work of a convolution is split. It stands apart so that tests of package
// conv, which are of another package, can make it small: a test file inside of package conv would have the kernels and
// the simulator compiled once more.
package split

// Target is what the work is split for: a large GPU, whatever runs it, so that results depend on shapes alone. Tests
// set a small one.
var Target = struct {
	Resident int // blocks that run at the same time: two on each multiprocessor
	// Blocks that keep it busy to the end; with more than that, blocks compute several tiles each and leave fewer sums.
	Enough int
	Tiles  int // but at most so many
	Tile   int // on compute capability 9.0 this one of the kernels' tiles, from 1; 0: by the shapes
}{264, 1056, 8, 0}

// Small splits work for a GPU so small that tests reach wide tiles, and several a block, until the function it returns
// is called.
func Small() (restore func()) {
	keep := Target
	Target.Resident, Target.Enough, Target.Tiles = 2, 1, 3
	return func() { Target = keep }
}
