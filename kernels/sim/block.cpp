#include "block.h"
#include "hopper.h"
#include <numeric>
#include <stdarg.h>
#include <stdio.h>

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace sim {

__thread block *current;
__thread unsigned number;

std::string format(const char *text, ...) {
	char buffer[512];
	va_list list;
	va_start(list, text);
	vsnprintf(buffer, sizeof buffer, text, list);
	va_end(list);
	return buffer;
}

static std::string at(uint3 i) { return format("(%u,%u,%u)", i.x, i.y, i.z); }

static const char *base_name(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

// The point with this number in a box, x running fastest.
static uint3 point(unsigned long long i, uint3 box) {
	return {(unsigned)(i % box.x), (unsigned)(i / box.x % box.y), (unsigned)(i / box.x / box.y)};
}

void launch::report(const std::string &text) {
	std::lock_guard<std::mutex> held(lock);
	if (!failed.exchange(true)) error = std::string(entry->name) + ": " + text;
}

std::string block::place() const { return "block " + at(blockIdx); }

// ---- turns --------------------------------------------------------------------

void block::set_ready(unsigned t) {
	threads[t].doing = ready;
	open[turn[t] / 64] |= 1ull << turn[t] % 64;
}

void block::go_on(unsigned t) {
	number = t;
	threadIdx = threads[t].index;
}

// Goes on with the next thread that is ready, in the order of turns. Where there is none, an asynchronous copy ends, at
// the latest time that it may; back home where there is none of those either.
void block::pass_on() {
	thread &self = threads[number];
	unsigned word = turn[number] / 64, words = (n + 63) / 64;
	open[word] &= ~(1ull << turn[number] % 64);
	uint64_t later = open[word] & ~0ull << turn[number] % 64;
	do
		for (unsigned i = 0; !later && i < words; i++) {
			if (++word == words) word = 0;
			later = open[word];
		}
	while (!later && alive && async->end_a_copy());
	bool dead = self.doing == left;
	if (!later) {
		self.f.switch_to(home, dead);
		return;
	}
	unsigned next = order[word * 64 + (unsigned)__builtin_ctzll(later)];
	if (next == number) return; // it waited for that copy
	go_on(next);
	self.f.switch_to(threads[number].f, dead);
}

void block::park(std::function<bool()> open, std::function<std::string()> why) {
	if (open()) return;
	thread &self = threads[number];
	self.doing = parked, self.open = std::move(open), self.why = std::move(why);
	pass_on();
}

void block::wake() {
	for (unsigned t = 0; t < n; t++)
		if (threads[t].doing == parked && threads[t].open()) set_ready(t);
}

block::block() : async(new hopper) {}
block::~block() {}

void block::body() {
	block *b = current;
	launch *l = b->now;
	l->entry->call(l->entry->function, l->args);
	b->threads[number].doing = left;
	b->alive--;
	b->pass_on();
	abort();
}

// Leaves the block as it is: its threads never go on.
void block::abandon(const char *why) {
	now->report(place() + ", thread " + at(threadIdx) + ": " + why);
	threads[number].f.switch_to(home, true);
	abort();
}

void block::schedule(unsigned long long index) {
	std::iota(order, order + n, 0u);
	if (now->how.order == CTN_SIM_DESCENDING) {
		for (unsigned i = 0; i < n; i++) order[i] = n - 1 - i;
	} else if (now->how.order == CTN_SIM_RANDOM) {
		uint64_t x = (now->how.seed + 1) * 0x9e3779b97f4a7c15u + index * 0xd1342543de82ef95u;
		for (unsigned i = n; i > 1; i--) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			std::swap(order[i - 1], order[(x >> 33) % i]);
		}
	}
	for (unsigned i = 0; i < n; i++) turn[order[i]] = i;
}

void block::run(launch &l, unsigned long long index) {
	now = &l, current = this;
	blockIdx = point(index, l.grid), blockDim = l.block, gridDim = l.grid;
	n = alive = l.block.x * l.block.y * l.block.z;
	arrived = 0, votes = 0;
	pieces.clear();
	dynamic.reset(new guarded(l.shared));
	async->begin(n);
	schedule(index);
	memset(open, 0, sizeof open);
	memset(meeting, 0, sizeof meeting);
	for (unsigned t = 0; t < n; t++) {
		threads[t].f.start(body);
		threads[t].index = point(t, blockDim);
		threads[t].groups = 0;
		threads[t].copies.clear();
		set_ready(t);
	}
	go_on(order[0]);
	home.switch_to(threads[number].f);
	if (!l.failed && alive) l.report(place() + ": " + deadlock());
	else if (!l.failed && !async->left_over().empty()) l.report(place() + ": " + async->left_over());
	current = nullptr;
	check_shared();
	dynamic.reset();
	pieces.clear();
}

// ---- barriers and meetings ----------------------------------------------------

int block::barrier(bool vote, const char *at_file, int at_line) {
	if (arrived && (line != at_line || (file != at_file && strcmp(file, at_file) != 0)))
		fail("divergent barrier, %u of %u threads wait at __syncthreads (%s:%d), this one at another (%s:%d)", arrived,
		     n, base_name(file), line, base_name(at_file), at_line);
	file = at_file, line = at_line;
	votes += vote;
	threads[number].doing = at_barrier;
	if (++arrived < n) {
		pass_on();
		return result;
	}
	result = votes;
	arrived = 0, votes = 0;
	for (unsigned t = 0; t < n; t++) set_ready(t);
	return result;
}

// The lanes of a mask that do not wait in a meeting with it.
unsigned block::missing(unsigned warp, unsigned mask) const {
	unsigned lanes = mask & ~meeting[warp];
	for (unsigned here = mask & meeting[warp]; here; here &= here - 1) {
		unsigned l = (unsigned)__builtin_ctz(here);
		if (threads[warp * 32 + l].mask != mask) lanes |= 1u << l;
	}
	return lanes;
}

void block::meet(unsigned mask, collective f, void *mine, const char *name) {
	unsigned warp = number / 32;
	thread &self = threads[number];
	if (!(mask >> lane() & 1)) fail("bad sync mask %08x in %s: lane %u is not in it", mask, name, lane());
	self.doing = at_meeting;
	self.mask = mask, self.function = f, self.brought = mine, self.name = name;
	meeting[warp] |= 1u << lane();
	if ((mask & ~meeting[warp]) || missing(warp, mask)) {
		pass_on();
		return;
	}
	meeting[warp] &= ~mask;
	void *brought[32] = {};
	for (unsigned l = 0; l < 32; l++) {
		if (!(mask >> l & 1)) continue;
		thread &t = threads[warp * 32 + l];
		if (t.function != f) fail("lanes of mask %08x meet in different functions: %s and %s", mask, name, t.name);
		brought[l] = t.brought;
		set_ready(warp * 32 + l);
	}
	f(brought, mask);
}

// Why nobody can go on.
std::string block::deadlock() const {
	unsigned gone = n - alive, met = n, waits = n;
	for (unsigned t = n; t-- > 0;) {
		if (threads[t].doing == at_meeting) met = t;
		if (threads[t].doing == parked) waits = t;
	}
	std::string text;
	if (waits < n) text = "thread " + at(threads[waits].index) + " waits " + threads[waits].why() + "; ";
	if (arrived) {
		text += format("divergent barrier, %u of %u threads wait at __syncthreads (%s:%d)", arrived, n, base_name(file),
		               line);
		if (gone) text += format(", %u have left the kernel", gone);
	}
	if (met < n) {
		const thread &t = threads[met];
		unsigned others = missing(met / 32, t.mask), first = met / 32 * 32 + (unsigned)__builtin_ctz(others);
		text += format("%s thread %s waits in %s with mask %08x for lanes %08x, the first of which ",
		               arrived ? "," : "bad sync mask,", at(t.index).c_str(), t.name, t.mask, others);
		if (first >= n) text += "does not exist";
		else if (threads[first].doing == left) text += "has left the kernel";
		else if (threads[first].doing == at_barrier) text += "waits at __syncthreads";
		else if (threads[first].doing == parked) text += "waits " + threads[first].why();
		else text += format("waits in %s with mask %08x", threads[first].name, threads[first].mask);
	}
	return text;
}

// ---- shared memory ------------------------------------------------------------

void *block::static_shared(const variable *v) {
	size_t sum = v->size;
	for (piece &p : pieces) {
		if (p.owner == v) return p.memory->data();
		sum += p.owner->size;
	}
	if (sum > max_static) fail("%zu bytes of static shared memory, more than %zu", sum, max_static);
	if (sum + now->shared > now->most)
		fail("%zu bytes of shared memory, more than %zu", sum + now->shared, now->most);
	pieces.push_back({v, std::unique_ptr<guarded>(new guarded(v->size))});
	return pieces.back().memory->data();
}

bool block::is_shared(const void *p, size_t size) const {
	if (dynamic->holds(p, size)) return true;
	for (const piece &s : pieces)
		if (s.memory->holds(p, size)) return true;
	return false;
}

// What was written beside shared memory.
void block::check_shared() {
	std::string damage = dynamic->damage();
	if (!damage.empty())
		now->report("wrote " + damage + format(" its %zu bytes of dynamic shared memory, ", dynamic->size) + place());
	for (piece &p : pieces) {
		damage = p.memory->damage();
		if (!damage.empty())
			now->report("wrote " + damage + format(" a static shared variable of %zu bytes, ", p.memory->size) +
			            place());
	}
}

// ---- asynchronous copies ------------------------------------------------------

// Keeps the bytes until the wait, so that a kernel that does not wait finds what was there before.
void block::copy_later(void *to, const void *from) {
	thread &t = threads[number];
	copy c = {to, t.groups, {}};
	memcpy(c.bytes, from, sizeof c.bytes);
	t.copies.push_back(c);
}

void block::wait(size_t groups) {
	thread &t = threads[number];
	size_t i = 0;
	for (; i < t.copies.size() && t.copies[i].group + groups < t.groups; i++)
		memcpy(t.copies[i].to, t.copies[i].bytes, 16);
	t.copies.erase(t.copies.begin(), t.copies.begin() + (ptrdiff_t)i);
}

// ---- what cuda_sim.h calls ----------------------------------------------------

void fail(const char *text, ...) {
	char buffer[512];
	va_list list;
	va_start(list, text);
	vsnprintf(buffer, sizeof buffer, text, list);
	va_end(list);
	current->abandon(buffer);
}

int barrier(bool vote, const char *file, int line) { return current->barrier(vote, file, line); }
void meet(unsigned mask, collective f, void *mine, const char *name) { current->meet(mask, f, mine, name); }
void *static_shared(const variable *v) { return current->static_shared(v); }
void *dynamic_shared() { return current->dynamic_shared(); }

} // namespace sim
