// What pack.cu gets: the weights of all convolutions of a program, to be put in the order in which tiles read them.
#ifndef CTN_CONV_PACK_H
#define CTN_CONV_PACK_H
#include "../exec/exec.h"

// How a step of a tile's columns lies in memory.
enum {
	CTN_PACK_F32,  // float32, [step, tile_cols]
	CTN_PACK_BF16, // bfloat16, [tile_cols, step]
	// As wgmma reads it: bfloat16, [tile_cols, 64], the eight numbers i of column j at i ^ j % 8. A transposed weight
	// has its taps the other way round.
	CTN_PACK_SWIZZLED,
};

// One weight. Its rows are the taps' channels, `pad` a tap, cut into steps; its columns are cut into tiles. What does
// not exist is zero.
typedef struct ctn_conv_packed {
	const float *weight; // [taps, channels, C out], taps tap_ld and rows weight_ld apart
	void *packed;        // [groups, tiles, steps, a step as `layout` says]
	int32_t layout, transposed;
	int32_t groups, taps, depth, cols; // of a group: channels read and written, which change places when transposed
	int32_t pad, step, steps, tile_cols, tiles;
	int32_t weight_ld, tap_ld;
	int32_t first; // the first block that works on it
} ctn_conv_packed;

typedef struct ctn_conv_pack_args {
	const ctn_conv_packed *all; // [count], in the order of `first`
	int32_t count;
} ctn_conv_pack_args;

enum {
	CTN_PACK_BLOCK = 256,
	CTN_PACK_COLS = 32, // columns and rows that a block turns; tiles are multiples of them
	CTN_PACK_ROWS = 64,
};

#endif
