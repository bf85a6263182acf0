// What the headers of this family share.
#ifndef CTN_GRAPH_H
#define CTN_GRAPH_H
#include "../exec/exec.h"

enum { CTN_GRAPH_BLOCK = 256 }; // GPU: threads a block
enum {
	CTN_PIECE_ROWS = 8, // GPU: see piece.cuh
	CTN_PIECE_SLAB = 8
};

#endif
