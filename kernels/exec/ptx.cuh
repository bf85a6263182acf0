// The only file with PTX (NVIDIA, "PTX ISA": cp.async, ldmatrix, mma, cvt). Each function has a C++ twin in
// kernels/sim/ptx.cpp. sm_75 has no bf16 or tf32 product: there mma_* traps, and asynchronous copies are plain ones.
#ifndef CTN_PTX_CUH
#define CTN_PTX_CUH

// Starts a copy of 16 bytes to shared memory, past L1. Both addresses are multiples of 16. The copy has happened, for
// this thread, after a cp_async_wait; for the others after a barrier behind that.
__device__ __forceinline__ void cp_async16(void *shared, const void *global) {
#if __CUDA_ARCH__ >= 800
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
	             "l"(global)
	             : "memory");
#else
	*(int4 *)shared = *(const int4 *)global;
#endif
}

// The same where there is something to copy, and otherwise 16 bytes of zeros: `global` is then not read.
__device__ __forceinline__ void cp_async16_or_zero(void *shared, const void *global, bool there) {
#if __CUDA_ARCH__ >= 800
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
	             "l"(global), "r"(there ? 16 : 0)
	             : "memory");
#else
	*(int4 *)shared = there ? *(const int4 *)global : make_int4(0, 0, 0, 0);
#endif
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
	asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most N of this thread's latest groups are still on their way.
template <int N> __device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Loads four 8x8 matrices of 16-bit elements from shared memory. Lanes 8i..8i+7 give the addresses of the rows of
// matrix i, multiples of 16; lane l gets elements 2(l%4) and 2(l%4)+1 of row l/4 of matrix i in r[i].
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"((uint32_t)__cvta_generic_to_shared(row))
	             : "memory");
}

// The same, each matrix transposed: lane l gets rows 2(l%4) and 2(l%4)+1 of column l/4.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"((uint32_t)__cvta_generic_to_shared(row))
	             : "memory");
}

// D (16x8) += A (16x16) B (16x8), bf16 with float sums, by one warp. With g = lane/4 and t = lane%4:
//   a[0], a[1]: rows g, g+8 of columns 2t, 2t+1;  a[2], a[3]: the same rows of columns 2t+8, 2t+9
//   b[0], b[1]: rows 2t, 2t+1 and 2t+8, 2t+9 of column g
//   d[0], d[1]: row g, columns 2t, 2t+1;  d[2], d[3]: row g+8
// Of two bf16 in a word the lower column (of A) or row (of B) is in the lower half.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
	asm volatile(
	        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
	__trap();
#endif
}

// D (16x8) += A (16x8) B (8x8), operands rounded to tf32 (10 bits of mantissa, ties away from zero), by one warp:
//   a[0], a[1]: rows g, g+8 of column t;  a[2], a[3]: the same rows of column t+4
//   b[0], b[1]: rows t, t+4 of column g
// D as in mma_m16n8k16_bf16.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#if __CUDA_ARCH__ >= 800
	uint32_t x[4], y[2];
	for (int i = 0; i < 4; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(x[i]) : "f"(a[i]));
	for (int i = 0; i < 2; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y[i]) : "f"(b[i]));
	asm volatile(
	        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
#else
	__trap();
#endif
}

// Two floats as bf16, low in the lower half of the word: rounded to nearest, ties to even; a NaN becomes 0x7fff.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if __CUDA_ARCH__ >= 800
	uint32_t r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
#else
	uint32_t l = __float_as_uint(low), h = __float_as_uint(high);
	l = low != low ? 0x7fff : (l + 0x7fff + (l >> 16 & 1)) >> 16;
	h = high != high ? 0x7fff : (h + 0x7fff + (h >> 16 & 1)) >> 16;
	return h << 16 | l;
#endif
}

#endif
