// What hopper.cu and hopper_weight.cu share: a ring of stages that one warpgroup fills and two multiply from.
#ifndef CTN_CONV_HOPPER_CUH
#define CTN_CONV_HOPPER_CUH
#include "../exec/hopper.cuh"
#include "../tensor/load.cuh"
#include "hopper.h"
#include "weights.cuh"

constexpr int CONSUMERS = CTN_HOPPER_CONSUMERS, BLOCK = CTN_HOPPER_BLOCK;

// A block's dynamic shared memory, from a multiple of 1,024 on.
__device__ __forceinline__ unsigned char *shared() {
	DYNAMIC_SHARED(unsigned char, work);
	return work + (1024 - shared_address(work) % 1024) % 1024;
}

// A stage has 64 channels of ROWS pixels and of COLS columns, or 64 pixels of so many channels.
template <int ROWS, int COLS> struct layout {
	static constexpr int LEFT = ROWS * 128, RIGHT = COLS * 128, STAGE = LEFT + RIGHT,
	                     STAGES = STAGE > CTN_HOPPER_LARGE ? 3 : 4;
};

// The barriers of the stages: full[s] ends a phase when what was announced has come, empty[s] when every warp that
// multiplies is done with it.
template <int STAGES> struct stage_barriers {
	uint64_t *full, *empty;
	__device__ __forceinline__ stage_barriers() {
		STATIC_SHARED(uint64_t[2 * STAGES], barriers);
		full = barriers, empty = barriers + STAGES;
		if (threadIdx.x == 0) {
			for (int s = 0; s < STAGES; s++) mbarrier_init(full + s, 1), mbarrier_init(empty + s, 4 * CONSUMERS);
			fence_async();
		}
		__syncthreads();
	}
};

// A place in the ring. The parity is that of the next phase of the stage's `full`, and not that of its `empty`, whose
// first is the one before there was any.
template <int STAGES> struct ring {
	int stage = 0;
	uint32_t parity = 0;
	__device__ __forceinline__ void move() {
		if (++stage == STAGES) stage = 0, parity ^= 1;
	}
};

#endif
