// Philox4x32-10, the C twin of kernels/philox (which names the source and the meaning of the counter).
#ifndef CTN_PHILOX_H
#define CTN_PHILOX_H
#include "exec.h"

CTN_FN void ctn_philox(uint64_t seed, uint32_t purpose, uint32_t step, uint64_t index, uint32_t out[4]) {
	uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = step, c3 = purpose;
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// A number in [0,1) with 24 random bits: exact in float32.
CTN_FN float ctn_uniform(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }

#endif
