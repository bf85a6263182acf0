// The C++ twins of exec/ptx.cuh, which says what each function does.
#include "block.h"

namespace {

struct fragments {
	float *d;
	uint32_t a[4], b[2];
};

struct rows {
	const void *row;
	uint32_t *r;
};

float upper(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }
float lower(uint32_t word) { return __uint_as_float(word << 16); }

typedef float four __attribute__((vector_size(16)));

// Adds the product of an 16xK and a Kx8 matrix to the warp's fragments, k ascending. A row of eight is two vectors: the
// convolutions' tests spend much of their time here.
template <int K> void add_product(void *const brought[32], const float (&a)[16][K], const float (&b)[K][8]) {
	four sum[16][2], right[K][2];
	memcpy(right, b, sizeof right);
	auto each = [&](auto f) {
		for (unsigned l = 0; l < 32; l++) {
			unsigned g = l / 4, t = l % 4;
			float *d = ((const fragments *)brought[l])->d;
			for (unsigned i = 0; i < 4; i++) f(d[i], sum[g + i / 2 * 8][t / 2], t % 2 * 2 + i % 2);
		}
	};
	each([](float &d, four &s, unsigned i) { s[i] = d; });
	for (unsigned i = 0; i < 16; i++) {
		four low = sum[i][0], high = sum[i][1];
		for (unsigned k = 0; k < K; k++) low += a[i][k] * right[k][0], high += a[i][k] * right[k][1];
		sum[i][0] = low, sum[i][1] = high;
	}
	each([](float &d, four &s, unsigned i) { d = s[i]; });
}

void mma_bf16(void *const brought[32], unsigned) {
	float a[16][16], b[16][8];
	for (unsigned l = 0; l < 32; l++) {
		unsigned g = l / 4, t = l % 4;
		const fragments *f = (const fragments *)brought[l];
		for (unsigned i = 0; i < 4; i++) {
			a[g + i % 2 * 8][2 * t + i / 2 * 8] = lower(f->a[i]);
			a[g + i % 2 * 8][2 * t + i / 2 * 8 + 1] = upper(f->a[i]);
		}
		for (unsigned i = 0; i < 2; i++) {
			b[2 * t + i * 8][g] = lower(f->b[i]);
			b[2 * t + i * 8 + 1][g] = upper(f->b[i]);
		}
	}
	add_product<16>(brought, a, b);
}

void mma_tf32(void *const brought[32], unsigned) {
	float a[16][8], b[8][8];
	for (unsigned l = 0; l < 32; l++) {
		unsigned g = l / 4, t = l % 4;
		const fragments *f = (const fragments *)brought[l];
		for (unsigned i = 0; i < 4; i++) a[g + i % 2 * 8][t + i / 2 * 4] = __uint_as_float(f->a[i]);
		for (unsigned i = 0; i < 2; i++) b[t + i * 4][g] = __uint_as_float(f->b[i]);
	}
	add_product<8>(brought, a, b);
}

uint32_t tf32(float x) {
	uint32_t u = __float_as_uint(x);
	return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}

template <bool transposed> void load_matrices(void *const brought[32], unsigned) {
	for (unsigned l = 0; l < 32; l++)
		for (unsigned m = 0; m < 4; m++) {
			uint16_t pair[2];
			for (unsigned i = 0; i < 2; i++) {
				unsigned row = transposed ? l % 4 * 2 + i : l / 4, column = transposed ? l / 4 : l % 4 * 2 + i;
				memcpy(&pair[i], (const uint16_t *)((const rows *)brought[m * 8 + row])->row + column, 2);
			}
			((const rows *)brought[l])->r[m] = (uint32_t)pair[1] << 16 | pair[0];
		}
}

void check_row(const void *row, const char *name) {
	if ((uintptr_t)row % 16) sim::fail("%s from an address that is not a multiple of 16", name);
	if (!sim::current->is_shared(row, 16)) sim::fail("%s from an address that is not in shared memory", name);
}

} // namespace

void cp_async16(void *shared, const void *global) {
	if ((uintptr_t)shared % 16 || (uintptr_t)global % 16)
		sim::fail("cp_async16 with an address that is not a multiple of 16");
	if (!sim::current->is_shared(shared, 16)) sim::fail("cp_async16 to an address that is not in shared memory");
	sim::current->copy_later(shared, global);
}

void cp_async16_or_zero(void *shared, const void *global, bool there) {
	alignas(16) static const char zeros[16] = {};
	if ((uintptr_t)global % 16) sim::fail("cp_async16 with an address that is not a multiple of 16");
	cp_async16(shared, there ? global : zeros);
}

void cp_async_commit() { sim::current->commit(); }
void sim::cp_async_wait(size_t groups) { sim::current->wait(groups); }

void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
	check_row(row, "ldmatrix_x4");
	rows mine = {row, r};
	sim::meet(~0u, load_matrices<false>, &mine, "ldmatrix_x4");
}

void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
	check_row(row, "ldmatrix_x4_trans");
	rows mine = {row, r};
	sim::meet(~0u, load_matrices<true>, &mine, "ldmatrix_x4_trans");
}

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
	fragments mine = {d, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
	sim::meet(~0u, mma_bf16, &mine, "mma_m16n8k16_bf16");
}

void mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
	fragments mine = {d, {tf32(a[0]), tf32(a[1]), tf32(a[2]), tf32(a[3])}, {tf32(b[0]), tf32(b[1])}};
	sim::meet(~0u, mma_tf32, &mine, "mma_m16n8k8_tf32");
}

uint32_t pack_bf16(float low, float high) {
	auto round = [](float x) {
		uint32_t u = __float_as_uint(x);
		return x != x ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16;
	};
	return round(high) << 16 | round(low);
}
