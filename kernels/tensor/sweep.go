package tensor

/*
#include "sweep.h"
*/
import "C"

import (
	"github.com/ctnas/ctnas/kernels/exec"
)

// Sweep is how kernels for accelerators go through the pixels of a tensor: see sweep.cuh.
type Sweep struct {
	Groups int // vectors of channels a block
	Chunks int // blocks that share the channels
	Block  int // pixels a block
	Parts  int // blocks that share the pixels; where there are sums, the parts of Stats
}

// SweepThreads are the threads of a block.
const SweepThreads = C.CTN_SWEEP_THREADS

// What a sweep is split by: a thread should have some pixels, so that what is one a channel is loaded for several, and
// blocks should be some for every multiprocessor of a large GPU but not so many that their sums take long to add up.
const (
	sweepPixels = 4
	sweepBlocks = 2048
)

// NewSweep splits the pixels and channels of a tensor, stored as bfloat16 or not.
func NewSweep(pixels, c int, half bool) Sweep {
	s := Sweep{}
	groups := exec.Blocks(c, lanes(half))
	s.Chunks = exec.Blocks(groups, SweepThreads/lanes(half)) // leave_sums wants a thread a channel
	s.Groups = exec.Blocks(groups, s.Chunks)
	strips := SweepThreads / s.Groups
	parts := max(1, min(exec.Blocks(pixels, strips*sweepPixels), sweepBlocks/s.Chunks))
	s.Block = exec.Blocks(exec.Blocks(pixels, parts), strips) * strips
	s.Parts = exec.Blocks(pixels, s.Block)
	return s
}

// lanes is the number of elements in 16 bytes.
func lanes(half bool) int {
	if half {
		return 8
	}
	return 4
}

// Launch is that of an entry of a file, by the form of storage.
func (s Sweep) Launch(file, entry string, half bool) exec.Launch {
	return exec.Launch{File: file, Entry: Entry(entry, half), Grid: [3]int{s.Chunks, s.Parts}, Block: SweepThreads,
		Shared: 4 * C.CTN_SWEEP_THREADS * (3*lanes(half) + 1)}
}

// Images is a sweep in which a block has the pixels of one image.
func (s Sweep) Images(images int) Sweep {
	s.Parts, s.Block = images, 0
	return s
}
