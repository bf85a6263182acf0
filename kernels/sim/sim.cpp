#include "block.h"
#include <algorithm>
#include <map>
#include <thread>

namespace sim {

// The entries by name. A function, as entries register before main.
static std::map<std::string, kernel> &kernels() {
	static std::map<std::string, kernel> k;
	return k;
}

static std::map<void *, std::unique_ptr<guarded>> buffers;
static std::mutex lock; // of both, and of the launch

entry::entry(const char *name, any_function function, void (*call)(any_function, const void *), size_t size,
             unsigned threads) {
	kernels()[name] = {name, function, call, size, std::min(threads, max_threads), 0};
}

static std::string check(const char *name, const kernel *k, const unsigned grid[3], const unsigned block[3],
                         size_t shared) {
	auto text = [](const unsigned v[3]) {
		return std::to_string(v[0]) + "x" + std::to_string(v[1]) + "x" + std::to_string(v[2]);
	};
	if (!k) return std::string(name) + ": no such entry";
	if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535)
		return std::string(name) + ": a grid of " + text(grid) + " blocks";
	if (!block[0] || !block[1] || !block[2] || block[0] > max_threads || block[1] > max_threads || block[2] > 64 ||
	    block[0] * block[1] * block[2] > k->threads)
		return std::string(name) + ": a block of " + text(block) + " threads, more than " +
		       std::to_string(k->threads) + " or none";
	if (shared > max_shared)
		return std::string(name) + ": " + std::to_string(shared) + " bytes of shared memory, more than " +
		       std::to_string(max_shared);
	return "";
}

constexpr size_t max_workers = 8; // each has 1024 stacks, and the system bounds the number of mappings

// Takes blocks until none is left or one has failed.
static void work(launch &l, block &b) {
	catch_faults();
	unsigned long long total = (unsigned long long)l.grid.x * l.grid.y * l.grid.z;
	while (!l.failed) {
		unsigned long long i = l.next++;
		if (i >= total) return;
		switch (l.how.order) {
		case CTN_SIM_DESCENDING: i = total - 1 - i; break;
		case CTN_SIM_RANDOM: i = (i + l.how.seed) % total; break;
		}
		b.run(l, i);
	}
}

static void run(launch &l) {
	static std::vector<std::unique_ptr<block>> blocks; // kept for their stacks
	unsigned long long total = (unsigned long long)l.grid.x * l.grid.y * l.grid.z;
	size_t n = l.how.threads > 0 ? (size_t)l.how.threads : std::thread::hardware_concurrency();
	n = std::max<size_t>(1, std::min<size_t>({n, max_workers, (size_t)total}));
	while (blocks.size() < n) blocks.emplace_back(new block);
	std::vector<std::thread> others;
	for (size_t i = 1; i < n; i++) others.emplace_back([&l, i] { work(l, *blocks[i]); });
	work(l, *blocks[0]);
	for (std::thread &t : others) t.join();
	for (auto &b : buffers) {
		std::string damage = b.second->damage();
		if (damage.empty()) continue;
		l.report("wrote " + damage + " a buffer of " + std::to_string(b.second->size) + " bytes");
		b.second->mend();
	}
}

} // namespace sim

using namespace sim;

static const char *start(const ctn_sim_schedule *how, const char *name, const unsigned grid[3],
                         const unsigned block[3], size_t shared, size_t most, const void *args) {
	static thread_local std::string error;
	std::lock_guard<std::mutex> held(sim::lock);
	auto k = kernels().find(name);
	error = check(name, k == kernels().end() ? nullptr : &k->second, grid, block, shared);
	if (!error.empty()) return error.c_str();
	launch l;
	l.entry = &k->second, l.args = args, l.shared = shared, l.most = std::min(most, max_shared), l.how = *how;
	l.grid = {grid[0], grid[1], grid[2]}, l.block = {block[0], block[1], block[2]};
	k->second.launches++;
	run(l);
	if (!l.failed) return nullptr;
	error = l.error;
	return error.c_str();
}

const char *ctn_sim_launch_as(const ctn_sim_schedule *how, const char *name, const unsigned grid[3],
                              const unsigned block[3], size_t shared, const void *args) {
	return start(how, name, grid, block, shared, max_shared, args);
}

const char *ctn_sim_launch(const char *entry, const unsigned grid[3], const unsigned block[3], size_t shared,
                           size_t most, const void *args) {
	ctn_sim_schedule plain = {CTN_SIM_ASCENDING, 0, 0};
	return start(&plain, entry, grid, block, shared, most, args);
}

long ctn_sim_size(const char *entry) {
	auto k = kernels().find(entry);
	return k == kernels().end() ? -1 : (long)k->second.size;
}

long ctn_sim_launches(const char *entry) {
	std::lock_guard<std::mutex> held(sim::lock);
	auto k = kernels().find(entry);
	return k == kernels().end() ? 0 : k->second.launches;
}

const char *ctn_sim_entry(int i) {
	for (auto &k : kernels())
		if (i-- == 0) return k.second.name;
	return nullptr;
}

void *ctn_sim_alloc(size_t bytes) {
	std::unique_ptr<guarded> g(new guarded(bytes));
	if (!g->ok()) return nullptr;
	std::lock_guard<std::mutex> held(sim::lock);
	void *p = g->data();
	buffers[p] = std::move(g);
	return p;
}

void ctn_sim_free(void *p) {
	std::lock_guard<std::mutex> held(sim::lock);
	buffers.erase(p);
}

int ctn_sim_catches_faults(void) { return can_catch_faults; }

int ctn_sim_sanitized(void) {
#if defined(__SANITIZE_ADDRESS__)
	return 1;
#else
	return 0;
#endif
}
