// Package philox is the project's only source of random numbers: the counter-based generator Philox4x32-10 (Salmon,
// Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// A number is a function of (seed, purpose, step, index) and of nothing else, so every executor draws the same ones, no
// generator state needs saving, and a resumed run goes on exactly where it stopped. The kernels' C twin is
// kernels/exec/philox.h.
package philox

import "math"

// Purposes keep streams apart that share a seed. A number is never reused for another purpose, or old runs would
// change.
const (
	PurposeSample      uint32 = 1 // random architectures
	PurposeInit        uint32 = 2 // initial weights
	PurposeShuffle     uint32 = 3 // order of training examples
	PurposeRollout     uint32 = 4 // the controller's decisions
	PurposeMutate      uint32 = 5 // evolution: parents and mutations
	PurposeExplore     uint32 = 6 // data exploration: which pairs
	PurposePropose     uint32 = 7 // proposals of candidates to label
	PurposeEvaluate    uint32 = 8 // random triples and pairs of evaluations
	PurposeBootstrap   uint32 = 9 // confidence intervals
	PurposeTest        uint32 = 10
	PurposeTrain       uint32 = 11 // training noise, dropout
	PurposeController0 uint32 = 12 // the controller's initial weights
	PurposeHeldOut     uint32 = 13 // random architectures that a search's pick is set beside

	PurposeSplit   uint32 = 32 // which training images are held out for validation
	PurposeAugment uint32 = 33 // crops, flips, colours of training images
	PurposeMixup   uint32 = 34 // mixing weights of batches
	PurposeShapes  uint32 = 35 // the generated image set `shapes`
	PurposePath    uint32 = 36 // which paths of a supernet an update trains
	PurposeSide    uint32 = 37 // the side of a step's images
	PurposeGumbel  uint32 = 38 // noise of a mixture's weights
)

const (
	mul0, mul1 = 0xD2511F53, 0xCD9E8D57
	bump0      = 0x9E3779B9
	bump1      = 0xBB67AE85
)

// Key selects a family of streams.
type Key struct {
	Seed    uint64
	Purpose uint32
}

// Block is the bare generator: ten rounds over a 128-bit counter with a 64-bit key.
func Block(counter [4]uint32, k0, k1 uint32) [4]uint32 {
	for range 10 {
		p0 := uint64(counter[0]) * mul0
		p1 := uint64(counter[2]) * mul1
		counter = [4]uint32{uint32(p1>>32) ^ counter[1] ^ k0, uint32(p1), uint32(p0>>32) ^ counter[3] ^ k1, uint32(p0)}
		k0 += bump0
		k1 += bump1
	}
	return counter
}

// At returns the four numbers at index of a step. Steps have 32 bits and the purpose is part of the counter; the index
// has 64.
func (k Key) At(step uint32, index uint64) [4]uint32 {
	return Block([4]uint32{uint32(index), uint32(index >> 32), step, k.Purpose}, uint32(k.Seed), uint32(k.Seed>>32))
}

// Stream hands out the numbers of one (key, step) in order.
type Stream struct {
	key   Key
	step  uint32
	index uint64
	block [4]uint32
	left  int
}

// New starts the stream of a seed, a purpose and a step.
func New(seed uint64, purpose, step uint32) *Stream {
	return &Stream{key: Key{seed, purpose}, step: step}
}

// From starts a stream at an index of a step, so that a step can hold one stream for each of many things.
func (k Key) From(step uint32, index uint64) Stream { return Stream{key: k, step: step, index: index} }

// Uint32 returns 32 random bits.
func (s *Stream) Uint32() uint32 {
	if s.left == 0 {
		s.block = s.key.At(s.step, s.index)
		s.index++
		s.left = 4
	}
	s.left--
	return s.block[3-s.left]
}

// Uint64 returns 64 random bits.
func (s *Stream) Uint64() uint64 { return uint64(s.Uint32())<<32 | uint64(s.Uint32()) }

// Float64 returns a number in [0,1) with 53 random bits.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) / (1 << 53) }

// Intn returns a number in [0,n) without bias; n must be positive.
func (s *Stream) Intn(n int) int {
	if n <= 0 {
		panic("philox: Intn of a non-positive number")
	}
	bound := uint64(n)
	limit := math.MaxUint64 - math.MaxUint64%bound
	for {
		if v := s.Uint64(); v < limit {
			return int(v % bound)
		}
	}
}

// Perm returns a random order of 0..n-1 (Fisher and Yates).
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := s.Intn(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// NormFloat64 returns a standard normal number (Box and Muller; one of the pair is dropped, so a call always costs two
// uniforms).
func (s *Stream) NormFloat64() float64 {
	u := 1 - s.Float64()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*s.Float64())
}
