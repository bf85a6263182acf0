// The tensor map of an NHWC tensor of bfloat16, as kernels for Hopper GPUs get it in their arguments: 128 bytes that
// the driver fills (cuda.ImageMap), or the simulator.
#ifndef CTN_HOPPER_H
#define CTN_HOPPER_H
#include <stdint.h>

#ifdef __cplusplus
struct alignas(64) ctn_image_map {
	uint64_t opaque[16];
};
#else
typedef struct ctn_image_map {
	_Alignas(64) uint64_t opaque[16];
} ctn_image_map;
#endif

enum { CTN_IMAGE_CHANNELS = 64 }; // that one copy brings of a pixel: the 128 bytes within which they are swizzled

#endif
