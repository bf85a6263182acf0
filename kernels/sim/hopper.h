// The state of exec/hopper.cuh's twins in a block.
#ifndef CTN_SIM_HOPPER_H
#define CTN_SIM_HOPPER_H
#include "block.h"
#include "../exec/hopper.cuh"
#include <map>

namespace sim {

std::string format(const char *text, ...) __attribute__((format(printf, 1, 2)));

// An mbarrier. `next` is of each thread the phase that its next wait is for.
struct mbarrier {
	uint32_t count, pending;
	int64_t bytes; // announced and not yet there
	int ended;     // phases
	unsigned maker;
	bool fenced;
	std::vector<int> next;
};

// A copy that is under way.
struct bulk {
	unsigned char *to;
	std::vector<unsigned char> bytes;
	uint64_t *barrier;
};

// A product that is under way, and the sums of a warpgroup's products, which are in nobody's registers meanwhile.
struct product {
	uint64_t a, b;
	int n;
	bool ta, tb, add;
	size_t group;
	unsigned sums;
};
struct product_sums {
	float *d[128];
	int n, under_way;
	std::vector<float> v; // [64, n]
};

// The threads of a warpgroup, or of a part_barrier, that have come to where all of them go on together.
struct gathering {
	unsigned arrived = 0, generation = 0, threads = 0;
};

struct warpgroup {
	gathering here;
	product next;           // what those who are here have brought
	size_t waits = 0;       // the same for a wgmma_wait
	bool waiting = false;   // that is what they are here for
	float *d[128];
	std::vector<product> products;
	std::map<unsigned, product_sums> sums;
	unsigned made = 0;
};

struct hopper {
	void begin(unsigned threads);
	bool end_a_copy();              // false: there is none under way
	std::string left_over() const;  // what is wrong when all threads have left

	mbarrier &find(uint64_t *b, const char *name);
	void arrive(uint64_t *b, const char *name, int64_t bytes);
	void settle(uint64_t *b, mbarrier &m);
	std::vector<unsigned char> &start(unsigned char *to, size_t size, uint64_t *b);
	uint32_t address(const void *p) const;
	warpgroup &group(const char *name);
	void multiply(warpgroup &g, const product &p);
	float read(uint32_t at) const;

	std::map<uint64_t *, mbarrier> barriers;
	std::vector<bulk> copies;
	std::vector<unsigned char> seen; // dynamic shared memory as copies and products see it
	std::vector<warpgroup> groups;
	std::vector<bool> fenced;    // by thread: wgmma_fence
	std::vector<size_t> commits; // by thread
	gathering parts[16];
	uint64_t draws = 0;
};

} // namespace sim

#endif
