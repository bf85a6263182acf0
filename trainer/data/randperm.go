package data

import "fmt"

// maxRandPerm is from where on torch.randperm draws 64 bits at a time, in another order (PyTorch,
// aten/src/ATen/native/TensorFactories.cpp): no image set is as large.
const maxRandPerm = (1<<32 - 1) / 20

// RandPerm is PyTorch's torch.randperm(n) on the CPU after manual_seed(seed): the published supernets of once-for-all
// were trained without images that it draws. n must be below 214,748,364, where PyTorch begins to draw otherwise. Of
// the seed PyTorch uses the lower 32 bits.
func RandPerm(n int, seed uint64) []int32 {
	if n < 0 || n >= maxRandPerm {
		panic(fmt.Sprintf("data: RandPerm of %d: want 0..%d", n, maxRandPerm-1))
	}
	p := make([]int32, n)
	for i := range p {
		p[i] = int32(i)
	}
	twister := newTwister(uint32(seed))
	for i := range n - 1 {
		j := i + int(twister.next())%(n-i)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// mt19937 is the generator of Matsumoto and Nishimura, "Mersenne twister", 1998: PyTorch's on the CPU. Nothing else
// draws from it here (see package philox).
type mt19937 struct {
	state [624]uint32
	at    int
}

// newTwister is init_genrand of the authors' code of 2002.
func newTwister(seed uint32) *mt19937 {
	m := &mt19937{}
	m.state[0] = seed
	for i := 1; i < len(m.state); i++ {
		m.state[i] = 1812433253*(m.state[i-1]^m.state[i-1]>>30) + uint32(i)
	}
	m.at = len(m.state)
	return m
}

func (m *mt19937) next() uint32 {
	n := len(m.state)
	if m.at == n {
		for i := range m.state {
			y := m.state[i]&(1<<31) | m.state[(i+1)%n]&(1<<31-1)
			m.state[i] = m.state[(i+397)%n] ^ y>>1 ^ -(y&1)&0x9908b0df
		}
		m.at = 0
	}
	y := m.state[m.at]
	m.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}
