// The twins of exec/hopper.cuh, which says what each function does.
#ifndef CTN_HOPPER_SIM_H
#define CTN_HOPPER_SIM_H

uint32_t shared_address(const void *p);
void mbarrier_init(uint64_t *b, uint32_t count);
void mbarrier_expect(uint64_t *b, uint32_t bytes);
void mbarrier_arrive(uint64_t *b);
void mbarrier_wait(uint64_t *b, uint32_t parity);
void fence_async();
void bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *b);
void bulk_image(void *shared, const ctn_image_map *map, int c, int x, int y, int image, int dx, int dy, uint64_t *b);
void prefetch_map(const ctn_image_map *map);
void part_barrier(int id, int threads);
void wgmma_fence();
void wgmma_commit();

namespace sim {
void wgmma_wait(size_t groups);
void wgmma(float *d, int n, bool ta, bool tb, uint64_t a, uint64_t b, bool add);
} // namespace sim

template <int N> void wgmma_wait() { sim::wgmma_wait(N); }
template <int N, int TA, int TB> void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {
	static_assert(N == 64 || N == 128 || N == 256, "");
	sim::wgmma(d, N, TA, TB, a, b, add != 0);
}

#endif
