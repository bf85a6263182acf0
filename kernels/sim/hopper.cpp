// The C++ twins of exec/hopper.cuh, which says what each function does. What is asynchronous happens as late as it may:
// copies end when every thread waits, products are computed at their wgmma_wait, and until then what they write is NaN.
// Copies and products see what threads have written to shared memory after a fence_async alone.
//
// Where fail is called nothing on the stack may own memory: the thread never goes on.
#include "hopper.h"

namespace sim {

namespace {

constexpr uint32_t base = 0x410; // the address of dynamic shared memory: no GPU promises more than a multiple of 16
constexpr uint64_t word = 0x6d6261727269, magic = 0x696d6167656d6170;
constexpr int64_t most_bytes = (1 << 20) - 1;

// What ctn_sim_image_map makes of a ctn_image_map.
struct image_map {
	uint64_t magic;
	ctn_sim_image of;
};
static_assert(sizeof(image_map) <= sizeof(ctn_image_map), "");

uint32_t swizzled(uint32_t at) { return at ^ (at >> 7 & 7) << 4; }

const char *name(const void *b) {
	static thread_local char text[64];
	snprintf(text, sizeof text, "of the barrier at %zx of shared memory", (size_t)b % 0x100000);
	return text;
}

typedef float four __attribute__((vector_size(16)));

} // namespace

void hopper::begin(unsigned threads) {
	barriers.clear(), copies.clear(), groups.clear();
	seen.clear();
	groups.resize(threads / 128);
	fenced.assign(threads, false);
	commits.assign(threads, 0);
	for (gathering &p : parts) p = {};
	draws = 0;
}

std::string hopper::left_over() const {
	if (!copies.empty()) return format("%zu bulk copies are under way at the end", copies.size());
	for (auto &b : barriers)
		if (b.second.bytes)
			return format("a barrier waits for %lld bytes at the end", (long long)b.second.bytes);
	for (auto &g : groups)
		if (!g.products.empty()) return format("%zu products are under way at the end", g.products.size());
	return "";
}

// ---- barriers -------------------------------------------------------------------

mbarrier &hopper::find(uint64_t *b, const char *what) {
	if ((uintptr_t)b % 8) fail("%s of an address that is not a multiple of 8", what);
	auto m = barriers.find(b);
	if (m == barriers.end()) fail("%s of a barrier that was not made", what);
	if (*b != word) fail("%s of a barrier that was overwritten", what);
	return m->second;
}

// Ends the phase where nothing is missing.
void hopper::settle(uint64_t *b, mbarrier &m) {
	if (m.pending) return;
	if (m.bytes < 0)
		fail("%lld bytes more than were announced came in phase %d %s", (long long)-m.bytes, m.ended, name(b));
	if (m.bytes) return;
	m.ended++;
	m.pending = m.count;
	current->wake();
}

void hopper::arrive(uint64_t *b, const char *what, int64_t bytes) {
	mbarrier &m = find(b, what);
	if (!m.pending)
		fail("%s more often than %u times in phase %d %s", what, m.count, m.ended, name(b));
	m.bytes += bytes;
	if (m.bytes > most_bytes) fail("%s with more than %lld bytes", what, (long long)most_bytes);
	m.pending--;
	settle(b, m);
}

// ---- copies ---------------------------------------------------------------------

uint32_t hopper::address(const void *p) const {
	guarded &memory = current->dynamic_memory();
	if (!memory.holds(p, 0)) fail("shared_address of what is not dynamic shared memory");
	return base + (uint32_t)((const unsigned char *)p - memory.data());
}

// Until a copy ends its destination is undefined. The caller fills its bytes.
std::vector<unsigned char> &hopper::start(unsigned char *to, size_t size, uint64_t *b) {
	mbarrier &m = find(b, "a copy");
	if (!m.fenced) fail("a copy to a barrier that no fence_async has followed");
	for (bulk &c : copies)
		if (to < c.to + c.bytes.size() && c.to < to + size) fail("two copies to one place are under way");
	guarded &memory = current->dynamic_memory();
	if (!memory.holds(to, size)) fail("a copy to what is not dynamic shared memory");
	seen.resize(memory.size, 0xff);
	memset(to, 0xff, size);
	memset(&seen[(size_t)(to - memory.data())], 0xff, size);
	copies.push_back({to, std::vector<unsigned char>(size), b});
	return copies.back().bytes;
}

bool hopper::end_a_copy() {
	if (copies.empty()) return false;
	size_t i = 0;
	const ctn_sim_schedule &how = current->how();
	if (how.order == CTN_SIM_DESCENDING) i = copies.size() - 1;
	if (how.order == CTN_SIM_RANDOM) i = ((++draws + how.seed) * 0x9e3779b97f4a7c15u >> 33) % copies.size();
	const bulk &c = copies[i];
	memcpy(c.to, c.bytes.data(), c.bytes.size());
	memcpy(&seen[(size_t)(c.to - current->dynamic_memory().data())], c.bytes.data(), c.bytes.size());
	uint64_t *b = c.barrier;
	mbarrier &m = find(b, "a copy");
	m.bytes -= (int64_t)c.bytes.size();
	copies.erase(copies.begin() + (ptrdiff_t)i);
	settle(b, m);
	return true;
}

// ---- products -------------------------------------------------------------------

warpgroup &hopper::group(const char *what) {
	if (number / 128 >= groups.size()) fail("%s by a warpgroup of less than 128 threads", what);
	return groups[number / 128];
}

// Waits for all threads of the warpgroup; the last one does what is to be done.
template <class F> static void gather(warpgroup &g, const char *what, const F &all) {
	gathering &h = g.here;
	if (++h.arrived == 128) {
		h.arrived = 0, h.generation++;
		all();
		current->wake();
		return;
	}
	unsigned generation = h.generation;
	current->park([&h, generation] { return h.generation != generation; },
	              [&h, what] { return format("in %s for %u threads of its warpgroup", what, 128 - h.arrived); });
}

// A number of dynamic shared memory by its address before the swizzle.
float hopper::read(uint32_t at) const {
	size_t i = swizzled(at) - base;
	if (i >= seen.size() || i + 2 > seen.size())
		fail("wgmma of what no copy and no fence_async has left in shared memory");
	uint16_t bits;
	memcpy(&bits, &seen[i], 2);
	return __uint_as_float((uint32_t)bits << 16);
}

void hopper::multiply(warpgroup &g, const product &p) {
	// Number (i, k) of a matrix: i counts its rows or columns, k the sum.
	auto place = [](uint64_t m, bool transposed, unsigned i, unsigned k) {
		uint32_t at = (uint32_t)(m & 0x3fff) << 4, leading = (uint32_t)(m >> 16 & 0x3fff) << 4,
		         stride = (uint32_t)(m >> 32 & 0x3fff) << 4;
		return transposed ? at + i / 64 * leading + k / 8 * stride + k % 8 * 128 + i % 64 * 2
		                  : at + i / 8 * stride + i % 8 * 128 + k * 2;
	};
	static thread_local float a[64][16];
	static thread_local four b[16][64];
	for (unsigned i = 0; i < 64; i++)
		for (unsigned k = 0; k < 16; k++) a[i][k] = read(place(p.a, p.ta, i, k));
	for (unsigned j = 0; j < (unsigned)p.n; j++)
		for (unsigned k = 0; k < 16; k++) b[k][j / 4][j % 4] = read(place(p.b, p.tb, j, k));
	product_sums &s = g.sums[p.sums];
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned j = 0; j < (unsigned)p.n / 4; j++) {
			float *to = &s.v[i * (unsigned)p.n + 4 * j];
			four sum = {};
			if (p.add) memcpy(&sum, to, sizeof sum);
			for (unsigned k = 0; k < 16; k++) sum += a[i][k] * b[k][j];
			memcpy(to, &sum, sizeof sum);
		}
	}
}

// Calls f(register, number of the sums) for all that the threads of a warpgroup hold.
template <class F> static void each(product_sums &s, F f) {
	for (unsigned t = 0; t < 128; t++)
		for (unsigned i = 0; i < (unsigned)s.n / 2; i++) {
			unsigned row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
			f(s.d[t][i], s.v[row * (unsigned)s.n + column]);
		}
}

static void check_matrix(uint64_t m, bool transposed, const char *which) {
	const uint64_t known = 0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 3ull << 62;
	uint32_t at = (uint32_t)(m & 0x3fff) << 4, stride = (uint32_t)(m >> 32 & 0x3fff) << 4;
	if (m >> 62 != 1 || m & ~known) fail("wgmma: matrix %s is not a matrix_at", which);
	if (stride == 0 || stride % 1024) fail("wgmma: matrix %s with a stride of %u bytes", which, stride);
	if (transposed ? at % 1024 != 0 : at % 1024 + 32 > 128)
		fail("wgmma: matrix %s does not begin in the first row of a block of 1,024 bytes", which);
	if (transposed && ((uint32_t)(m >> 16 & 0x3fff) << 4) % 1024)
		fail("wgmma: matrix %s with 64 rows that do not begin on a multiple of 1,024", which);
}

void wgmma(float *d, int n, bool ta, bool tb, uint64_t a, uint64_t b, bool add) {
	hopper &h = current->more();
	warpgroup &g = h.group("wgmma");
	if (!h.fenced[number]) fail("wgmma without a wgmma_fence after its sums were free to be touched");
	check_matrix(a, ta, "A"), check_matrix(b, tb, "B");
	product mine = {a, b, n, ta, tb, add, h.commits[number], 0};
	if (!g.here.arrived) g.next = mine, g.waiting = false;
	product &p = g.next;
	if (g.waiting || p.a != a || p.b != b || p.n != n || p.ta != ta || p.tb != tb || p.add != add ||
	    p.group != mine.group)
		fail("wgmma of one thread is not that of the others of its warpgroup");
	g.d[number % 128] = d;
	gather(g, "wgmma", [&] {
		unsigned at = 0;
		for (auto &s : g.sums)
			if (s.second.d[0] == g.d[0]) at = s.first;
		if (!at) {
			at = ++g.made;
			product_sums &s = g.sums[at];
			memcpy(s.d, g.d, sizeof s.d);
			s.n = p.n, s.under_way = 0;
			s.v.resize(64 * (size_t)p.n);
			each(s, [](float &registers, float &v) { v = registers, registers = __uint_as_float(~0u); });
		}
		product_sums &s = g.sums[at];
		if (s.n != p.n || memcmp(s.d, g.d, sizeof s.d)) fail("wgmma of other sums while products are under way");
		s.under_way++;
		p.sums = at;
		g.products.push_back(p);
	});
}

void wgmma_wait(size_t latest) {
	hopper &h = current->more();
	warpgroup &g = h.group("wgmma_wait");
	size_t commits = h.commits[number];
	if (!g.here.arrived) g.next.group = commits, g.waits = latest, g.waiting = true;
	if (!g.waiting || g.next.group != commits || g.waits != latest)
		fail("wgmma_wait of one thread is not that of the others of its warpgroup");
	h.fenced[number] = false;
	gather(g, "wgmma_wait", [&] {
		size_t i = 0;
		for (; i < g.products.size() && g.products[i].group + latest < commits; i++) {
			const product &p = g.products[i];
			h.multiply(g, p);
			product_sums &s = g.sums[p.sums];
			if (--s.under_way) continue;
			each(s, [](float &registers, float &v) { registers = v; });
			g.sums.erase(p.sums);
		}
		g.products.erase(g.products.begin(), g.products.begin() + (ptrdiff_t)i);
	});
}

} // namespace sim

using namespace sim;

uint32_t shared_address(const void *p) { return current->more().address(p); }

void mbarrier_init(uint64_t *b, uint32_t count) {
	hopper &h = current->more();
	if ((uintptr_t)b % 8 || !current->is_shared(b, 8)) fail("mbarrier_init of what is not 8 bytes of shared memory");
	if (!count || count > most_bytes) fail("mbarrier_init for %u arrivals", count);
	if (h.barriers.count(b)) fail("mbarrier_init of a barrier that is one already");
	h.barriers[b] = {count, count, 0, 0, number, false, std::vector<int>(current->size(), -2)};
	*b = word;
}

void mbarrier_expect(uint64_t *b, uint32_t bytes) { current->more().arrive(b, "mbarrier_expect", bytes); }
void mbarrier_arrive(uint64_t *b) { current->more().arrive(b, "mbarrier_arrive", 0); }

void mbarrier_wait(uint64_t *b, uint32_t parity) {
	mbarrier &m = current->more().find(b, "mbarrier_wait");
	int &next = m.next[number];
	if (parity > 1) fail("mbarrier_wait for parity %u", parity);
	if (next == -2) next = parity ? -1 : 0;
	if ((uint32_t)(next & 1) != parity)
		fail("mbarrier_wait for parity %u where phase %d is next %s", parity, next, name(b));
	int phase = next;
	current->park([&m, phase] { return m.ended > phase; },
	              [&m, phase, b] {
		              return format("for phase %d, of which %u arrivals and %lld bytes are missing, ", phase, m.pending,
		                            (long long)m.bytes) +
		                     name(b);
	              });
	if (m.ended > phase + 1) fail("mbarrier_wait has missed the end of phase %d %s", phase, name(b));
	next++;
}

void fence_async() {
	hopper &h = current->more();
	for (auto &b : h.barriers)
		if (b.second.maker == number) b.second.fenced = true;
	guarded &memory = current->dynamic_memory();
	h.seen.assign(memory.data(), memory.data() + memory.size);
}

void bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *b) {
	if ((uintptr_t)global % 16 || current->more().address(shared) % 16 || bytes % 16 || !bytes)
		fail("bulk_copy of %u bytes, not all of it multiples of 16", bytes);
	memcpy(current->more().start((unsigned char *)shared, bytes, b).data(), global, bytes);
}

void bulk_image(void *shared, const ctn_image_map *map, int c, int x, int y, int image, int dx, int dy, uint64_t *b) {
	image_map m;
	if ((uintptr_t)map % 64) fail("bulk_image with a map that is not on a multiple of 64");
	memcpy(&m, map, sizeof m);
	if (m.magic != magic) fail("bulk_image with what is no map");
	const ctn_sim_image &of = m.of;
	if (current->more().address(shared) % 1024) fail("bulk_image to an address that is not a multiple of 1,024");
	if (dx < 0 || dx > 255 || dy < 0 || dy > 255) fail("bulk_image moved by (%d, %d)", dy, dx);
	if (x < of.lower[0] || x >= of.w + of.upper[0] || y < of.lower[1] || y >= of.h + of.upper[1])
		fail("bulk_image from (%d, %d), outside of the map's box", y, x);
	std::vector<unsigned char> &bytes = current->more().start((unsigned char *)shared, (size_t)of.pixels * 128, b);
	for (int p = 0; p < of.pixels; p++) {
		int at_y = y + dy, at_x = x + dx;
		if (image >= 0 && image < of.n && at_y >= 0 && at_y < of.h && at_x >= 0 && at_x < of.w)
			for (int i = 0; i < CTN_IMAGE_CHANNELS; i++) {
				if (c + i < 0 || c + i >= of.c) continue;
				const uint16_t *from =
				        (const uint16_t *)of.z + (((long long)image * of.h + at_y) * of.w + at_x) * of.ld + c + i;
				memcpy(&bytes[swizzled((uint32_t)(p * 128 + i * 2))], from, 2);
			}
		if (++x < of.w + of.upper[0]) continue;
		x = of.lower[0];
		if (++y < of.h + of.upper[1]) continue;
		y = of.lower[1], image++;
	}
}

void prefetch_map(const ctn_image_map *) {}

void part_barrier(int id, int threads) {
	if (id < 1 || id > 15 || threads <= 0 || threads % 32 || (unsigned)threads > current->size())
		fail("part_barrier %d of %d threads", id, threads);
	gathering &p = current->more().parts[id];
	if (p.arrived && p.threads != (unsigned)threads)
		fail("part_barrier %d of %d threads where others wait for %u", id, threads, p.threads);
	p.threads = (unsigned)threads;
	if (++p.arrived == p.threads) {
		p.arrived = 0, p.generation++;
		current->wake();
		return;
	}
	unsigned generation = p.generation;
	current->park([&p, generation] { return p.generation != generation; },
	              [&p, id] { return format("at part_barrier %d for %u threads", id, p.threads - p.arrived); });
}

void wgmma_fence() {
	current->more().group("wgmma_fence");
	current->more().fenced[number] = true;
}

void wgmma_commit() {
	current->more().group("wgmma_commit");
	current->more().commits[number]++;
}

const char *ctn_sim_image_map(const ctn_sim_image *image, void *map) {
	if ((uintptr_t)image->z % 16) return "a tensor that is not on a multiple of 16 bytes";
	if (image->ld <= 0 || image->ld % 8) return "pixels that are not a multiple of 16 bytes apart";
	if (image->n <= 0 || image->h <= 0 || image->w <= 0 || image->c <= 0 || image->ld < image->c)
		return "a tensor without elements, or whose pixels overlap";
	if (image->pixels <= 0 || image->pixels > 1024) return "a copy of more than 1,024 pixels, or none";
	for (int i = 0; i < 2; i++) {
		if (image->lower[i] < -128 || image->lower[i] > 127 || image->upper[i] < -128 || image->upper[i] > 127)
			return "a box more than 128 pixels beside the tensor";
		if ((i ? image->h : image->w) + image->upper[i] <= image->lower[i]) return "an empty box";
	}
	image_map m = {magic, *image};
	memset(map, 0, sizeof(ctn_image_map));
	memcpy(map, &m, sizeof m);
	return nullptr;
}
