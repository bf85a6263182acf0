// One block of threads at a time on one thread of the host: fibers, barriers, shared memory.
#ifndef CTN_SIM_BLOCK_H
#define CTN_SIM_BLOCK_H
#include "../exec/cuda.cuh"
#include "fiber.h"
#include "guard.h"
#include "sim.h"
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace sim {

constexpr unsigned max_threads = 1024;
constexpr size_t max_static = 48 << 10, max_shared = 227 << 10; // bytes a block; the second on sm_90 and newer

struct kernel {
	const char *name;
	any_function function;
	void (*call)(any_function, const void *);
	size_t size;
	unsigned threads; // of a block, at most: its __launch_bounds__
	long launches;
};

// What the blocks of one launch share.
struct launch {
	const kernel *entry;
	const void *args;
	uint3 grid, block;
	size_t shared, most; // bytes of dynamic shared memory, and of static and dynamic that are allowed
	ctn_sim_schedule how;
	std::atomic<unsigned long long> next{0};
	std::atomic<bool> failed{false};
	std::mutex lock;
	std::string error; // of the first failure

	void report(const std::string &text);
};

struct hopper; // barriers, copies and products of exec/hopper.cuh: hopper.cpp

class block {
  public:
	block();
	~block();
	void run(launch &l, unsigned long long index);

	int barrier(bool vote, const char *file, int line);
	void meet(unsigned mask, collective f, void *mine, const char *name);
	void *static_shared(const variable *v);
	void *dynamic_shared() { return dynamic->data(); }
	bool is_shared(const void *p, size_t n) const;
	void copy_later(void *to, const void *from);
	void commit() { threads[number].groups++; }
	void wait(size_t groups);
	void abandon(const char *why); // does not return
	// Waits until open() is true, which wake() finds out; why() says what for.
	void park(std::function<bool()> open, std::function<std::string()> why);
	void wake();
	unsigned size() const { return n; }
	guarded &dynamic_memory() { return *dynamic; }
	const ctn_sim_schedule &how() const { return now->how; }
	hopper &more() { return *async; }
	const fiber &running() const { return threads[number].f; }

  private:
	struct copy {
		void *to;
		size_t group;
		unsigned char bytes[16];
	};
	enum state { ready, at_barrier, at_meeting, parked, left };
	struct thread {
		fiber f;
		uint3 index;
		state doing;
		unsigned mask; // of the meeting
		collective function;
		void *brought;
		const char *name;
		std::function<bool()> open; // of what it is parked for
		std::function<std::string()> why;
		size_t groups; // of asynchronous copies that were closed
		std::vector<copy> copies;
	};

	static void body();
	void schedule(unsigned long long index);
	void set_ready(unsigned t);
	void go_on(unsigned t);
	void pass_on();
	std::string place() const;
	void check_shared();
	std::string deadlock() const;
	unsigned missing(unsigned warp, unsigned mask) const;

	launch *now = nullptr;
	std::unique_ptr<thread[]> threads{new thread[max_threads]};
	fiber home; // the host's thread itself
	unsigned n = 0, alive = 0;
	unsigned order[max_threads], turn[max_threads]; // the thread of each turn, and the turn of each thread
	uint64_t open[max_threads / 64];                // turns whose thread is ready
	unsigned meeting[max_threads / 32];             // of each warp, the lanes that wait in a meeting
	unsigned arrived = 0;
	int votes = 0, result = 0;
	const char *file = nullptr; // of the barrier that is waited for
	int line = 0;
	std::unique_ptr<guarded> dynamic;
	struct piece {
		const variable *owner;
		std::unique_ptr<guarded> memory;
	};
	std::vector<piece> pieces;
	std::unique_ptr<hopper> async;
};

extern __thread block *current; // while its threads run

// Makes a thread's bad memory access a failure of the launch, where the system lets it. For each thread of the host
// that runs blocks.
void catch_faults();
extern const bool can_catch_faults;

} // namespace sim

#endif
