#include "../exec/exec.h"

// One row of the heads' table.
enum {
	CTN_RNN_KIND, // 0 linear, 1 attention
	CTN_RNN_CHOICES,
	CTN_RNN_ROW,       // first row of its embeddings, counted over all heads
	CTN_RNN_EMBEDDING, // offsets into the parameters: [choices, pad]
	CTN_RNN_A,         // linear: weight, [choices, pad]; attention: W1 transposed, [hidden, pad]
	CTN_RNN_B,         // linear: bias; attention: W2 transposed, [hidden, pad]
	CTN_RNN_V,         // attention: v
	CTN_RNN_PART,      // offset into a group's partial sums: [choices, pad], then linear: bias; attention: v
	CTN_RNN_NUMBER,    // attention: how many attention heads are before it
	CTN_RNN_HEAD_INTS
};

enum {
	CTN_RNN_GROUP = 8,  // rollouts a task
	CTN_RNN_PANEL = 16, // columns a task of the weights' gradient
	CTN_RNN_ROWS = 128, // rows summed at a time there
	CTN_RNN_BLOCK = 64, // columns a task of the preparation
};

// GPU.
enum {
	CTN_RNN_THREADS = 256,  // of every block
	CTN_RNN_UNITS = 64,     // hidden units that a block's registers hold the weights of
	CTN_RNN_SEQUENCES = 8,  // rollouts a block where there are many
	CTN_RNN_MANY = 128,     // more rollouts than this are many: a block each would not find a multiprocessor for itself
	CTN_RNN_PARTIALS = 256, // most blocks of the gradient's backward pass through time
	CTN_RNN_TABLE = 32,     // most embeddings, the start included, that these blocks keep sums for in shared memory
	CTN_RNN_TILE = 64,      // a block sums a square of a weight's gradient
	CTN_RNN_TILE_ROWS = 128, // and at least so many rows of it
};

// pad = hidden rounded up to 16; the padding of every parameter is zero and so is its gradient. A "row" is a decision:
// rollout * steps
// + decision.
typedef struct ctn_rnn_args {
	int64_t batch, hidden, pad, steps, embeddings, heads, part;
	int64_t choices, attended; // most choices of a head, and of an attention head
	const int32_t *head;       // [heads, CTN_RNN_HEAD_INTS]
	const int32_t *variants;   // choices of the first decision x (offset into list, decisions)
	const int32_t *list;       // (head, choices); the first decision is entry 0
	const int32_t *given;      // [batch, steps], or NULL: sample
	int32_t *counter;          // [1]
	uint64_t seed;
	uint32_t purpose;
	const float *params;        // [parameters]
	int64_t wih, whh, bih, bhh; // offsets: [hidden, 4 pad], both; [4 pad], both; gates in the order i, f, g, o
	float *inputs;              // [embeddings + 1, 4 pad]: what an input adds to the gates; the last one is the start
	float *keys;                // [embeddings, pad]: W1 e
	int32_t *actions;           // [batch, steps]
	float *logp, *entropy;      // [batch]
	float *gates, *c, *h;       // [rows, 4 pad], [rows, pad]
	float *tanh;                // [rows, attended, pad]
	float *p, *lp;              // [rows, choices]: probabilities and their logarithms
	const float *dlogp, *dentropy; // [batch]
	float *dgates, *dquery;        // [rows, 4 pad], [rows, pad]
	float *partial;                // [groups, part]; GPU: [blocks, whole]
	float *sums, *dkeys;           // CPU: [embeddings, 4 pad], [embeddings, pad]
	float *grad;                   // [parameters]
	// GPU.
	int64_t attentions;    // heads with attention
	int64_t blocks, whole; // backward: blocks, and the floats of each one's partial sums: part, then those of the
	                       // gates, [embeddings + 1, 4 pad]
	int64_t split, splits, weights; // rows a split; floats of a split's sums: whh, then every attention head's W2
	int32_t *drawn;                 // [1]: the counter of this rollout
	int32_t *at;                    // [rows]: the decision's head, -1 after the end
	float *dlogits;                 // [rows, choices]
	float *total;                   // [whole]: partial summed over the blocks
	float *parts;                   // [splits, weights]
} ctn_rnn_args;

extern const ctn_kernel ctn_rnn_prepare[], ctn_rnn_rollout[], ctn_rnn_count[], ctn_rnn_bptt[], ctn_rnn_weights[],
        ctn_rnn_embeddings[];
