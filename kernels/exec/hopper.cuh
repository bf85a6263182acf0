// What compute capability 9.0 has beyond ptx.cuh (NVIDIA, "PTX ISA": mbarrier, cp.async.bulk, wgmma), for .cu files
// that begin with "// ctnas-archs: 90a". The twins, which check what the hardware does not forgive, are in
// kernels/sim/hopper.cpp.
//
// An mbarrier is an 8-byte word of shared memory that counts phases, 0, 1 and so on. A phase ends when as many threads
// have arrived as the barrier was made for and the bytes that they announced have come. Copies and products are
// asynchronous: a copy's destination is undefined until the phase that it counts for has ended, a product's sums and
// what it reads are in use until a wgmma_wait.
#ifndef CTN_HOPPER_CUH
#define CTN_HOPPER_CUH
#include "cuda.cuh"
#include "hopper.h"

// A matrix of bfloat16 in shared memory as wgmma reads it, swizzled within 128 bytes as bulk_image leaves it: of what
// lies at address a, the 16 bytes number i of each 128 stand at number i ^ (a / 128) % 8. Blocks of 8 x 64 numbers are
// 1,024 bytes, on a multiple of that.
//
// With the sum's index running fastest (K-major): `stride` bytes lie between 8 rows (or columns) and the next 8, and 16
// numbers on in the sum are 32 bytes. With rows (or columns) running fastest (transposed): `stride` bytes lie between 8
// numbers of the sum and the next 8, `leading` ones between 64 rows (or columns) and the next 64.
__device__ __forceinline__ uint64_t matrix_at(uint32_t address, uint32_t leading, uint32_t stride) {
	return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(leading >> 4) << 16 | (uint64_t)(stride >> 4) << 32 |
	       (uint64_t)1 << 62;
}

#ifdef __CUDACC__

// The address within shared memory: that of dynamic shared memory is a multiple of 16 and no more.
__device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

// Makes a barrier for so many arrivals a phase. Before others use it: fence_async by the thread that made it, and a
// barrier of the block.
__device__ __forceinline__ void mbarrier_init(uint64_t *b, uint32_t count) {
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}

// Arrives and announces bytes, which bulk_copy and bulk_image bring.
__device__ __forceinline__ void mbarrier_expect(uint64_t *b, uint32_t bytes) {
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
	             : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t *b) {
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

// Waits until the latest phase of that parity has ended: a thread's waits are for one phase after the other. With
// parity 1 a new barrier's first wait is none.
__device__ __forceinline__ void mbarrier_wait(uint64_t *b, uint32_t parity) {
	asm volatile("{\n"
	             ".reg .pred done;\n"
	             "again:\n"
	             "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
	             "@done bra end;\n"
	             "bra again;\n"
	             "end:\n"
	             "}" ::"r"(shared_address(b)),
	             "r"(parity)
	             : "memory");
}

// What a thread has written to shared memory, barriers included, is seen by its later copies and products, and after a
// barrier by those of others.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copies bytes, addresses and number multiples of 16, to shared memory.
__device__ __forceinline__ void bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *b) {
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
	                     shared_address(shared)),
	             "l"(global), "r"(bytes), "r"(shared_address(b))
	             : "memory");
}

// Copies 64 channels from c on of the map's number of pixels, 128 bytes each, swizzled, to a multiple of 1,024. The
// first pixel is (image, y + dy, x + dx); the next ones are those to the right of (y, x), then the next rows', then the
// next image's, all within the map's box, each moved by (dy, dx). What lies outside of the tensor is zero.
__device__ __forceinline__ void bulk_image(void *shared, const ctn_image_map *map, int c, int x, int y, int image,
                                           int dx, int dy, uint64_t *b) {
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
	             "%4, %5, %6}], [%2], {%7, %8};" ::"r"(shared_address(shared)),
	             "l"(map), "r"(shared_address(b)), "r"(c), "r"(x), "r"(y), "r"(image), "h"((uint16_t)dx),
	             "h"((uint16_t)dy)
	             : "memory");
}
__device__ __forceinline__ void prefetch_map(const ctn_image_map *map) {
	asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// A barrier of so many threads of the block, whole warps. id: 1 to 15.
__device__ __forceinline__ void part_barrier(int id, int threads) {
	asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Before a warpgroup's first product, and again after it has touched the sums.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most N of the latest groups are under way.
template <int N> __device__ __forceinline__ void wgmma_wait() {
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#define CTN_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define CTN_D16(i) CTN_D4(i), CTN_D4(i + 4), CTN_D4(i + 8), CTN_D4(i + 12)
#define CTN_D32(i) CTN_D16(i), CTN_D16(i + 16)
#define CTN_R32_0 \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
	"%30,%31"
#define CTN_R32_1 \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
	"%60,%61,%62,%63"
#define CTN_R32_2 \
	"%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91," \
	"%92,%93,%94,%95"
#define CTN_R32_3 \
	"%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118," \
	"%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define CTN_WGMMA(n, registers, a_, b_, add_, ta_, tb_) \
	"{\n.reg .pred p;\nsetp.ne.b32 p, " add_ ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" \
	registers "}, " a_ ", " b_ ", p, 1, 1, " ta_ ", " tb_ ";\n}"

// D (64 x N) = A (64 x 16) B (16 x N), plus D where `add` is not 0; bfloat16 with float sums, by the 128 threads of a
// warpgroup, which begins at a multiple of that. a and b: matrix_at; TA, TB: the matrix is transposed. With w the warp
// in its group, g = lane/4 and t = lane%4: d[4j], d[4j+1] are row 16w + g, columns 8j + 2t and 8j + 2t + 1; d[4j+2],
// d[4j+3] row 16w + g + 8.
template <int N, int TA, int TB>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {
	static_assert(N == 64 || N == 128 || N == 256, "");
	if constexpr (N == 64)
		asm volatile(CTN_WGMMA("64", CTN_R32_0, "%32", "%33", "%34", "%35", "%36")
		             : CTN_D32(0)
		             : "l"(a), "l"(b), "r"(add), "n"(TA), "n"(TB));
	else if constexpr (N == 128)
		asm volatile(CTN_WGMMA("128", CTN_R32_0 "," CTN_R32_1, "%64", "%65", "%66", "%67", "%68")
		             : CTN_D32(0), CTN_D32(32)
		             : "l"(a), "l"(b), "r"(add), "n"(TA), "n"(TB));
	else
		asm volatile(CTN_WGMMA("256", CTN_R32_0 "," CTN_R32_1 "," CTN_R32_2 "," CTN_R32_3, "%128", "%129", "%130",
		                       "%131", "%132")
		             : CTN_D32(0), CTN_D32(32), CTN_D32(64), CTN_D32(96)
		             : "l"(a), "l"(b), "r"(add), "n"(TA), "n"(TB));
}

#undef CTN_D4
#undef CTN_D16
#undef CTN_D32
#undef CTN_R32_0
#undef CTN_R32_1
#undef CTN_R32_2
#undef CTN_R32_3
#undef CTN_WGMMA

#else
#include "../sim/hopper_sim.h"
#endif

#endif
