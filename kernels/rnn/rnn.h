#include "../exec/exec.h"

// One row of the heads' table.
enum {
	CTN_RNN_KIND, // 0 linear, 1 attention
	CTN_RNN_CHOICES,
	CTN_RNN_ROW,       // first row of its embeddings, counted over all heads
	CTN_RNN_EMBEDDING, // offsets into the parameters: choices x pad
	CTN_RNN_A,         // linear: weight, choices x pad; attention: W1 transposed, hidden x pad
	CTN_RNN_B,         // linear: bias; attention: W2 transposed, hidden x pad
	CTN_RNN_V,         // attention: v
	CTN_RNN_PART,      // offset into a group's partial sums: choices x pad, then linear: bias; attention: v
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
	CTN_RNN_THREADS = 256,   // of every block
	CTN_RNN_UNITS = 64,      // hidden units that a block's registers hold the weights of
	CTN_RNN_SEQUENCES = 8,   // rollouts a block where there are many
	CTN_RNN_MANY = 128,      // more rollouts than this are many: a block each would not find a multiprocessor for itself
	CTN_RNN_PARTIALS = 256,  // most blocks of the gradient's way back through time
	CTN_RNN_TABLE = 32,      // most embeddings, the start included, that these blocks keep sums for in shared memory
	CTN_RNN_TILE = 64,       // a block sums a square of a weight's gradient
	CTN_RNN_TILE_ROWS = 128, // and at least so many rows of it
};

// pad = hidden rounded up to 16; the padding of every parameter is zero and so is its gradient. A "row" is a decision: rollout * steps
// + decision.
typedef struct ctn_rnn_args {
	int64_t batch, hidden, pad, steps, choices, attended, embeddings, heads,
	        part;            // choices, attended: most of a head, most of an attention head
	const int32_t *head;     // heads x CTN_RNN_HEAD_INTS
	const int32_t *variants; // choices of the first decision x (offset into list, decisions)
	const int32_t *list;     // (head, choices); the first decision is entry 0
	const int32_t *given;    // batch x steps, or NULL: sample
	int32_t *counter;
	uint64_t seed;
	uint32_t purpose;
	const float *params;
	int64_t wih, whh, bih, bhh; // offsets: hidden x 4 pad, both; 4 pad, both; gates in the order i, f, g, o
	float *inputs;              // (embeddings + 1) x 4 pad: what an input adds to the gates; the last one is the start
	float *keys;                // embeddings x pad: W1 e
	int32_t *actions;           // batch x steps
	float *logp, *entropy;      // batch
	float *gates, *c, *h;       // rows x 4 pad, rows x pad
	float *tanh;                // rows x attended x pad
	float *p, *lp;              // rows x choices: probabilities and their logarithms
	const float *dlogp, *dentropy;
	float *dgates, *dquery; // rows x 4 pad, rows x pad
	float *partial;         // groups x part; GPU: blocks x whole
	float *sums, *dkeys;    // CPU: embeddings x 4 pad, embeddings x pad
	float *grad;
	// GPU.
	int64_t attentions;             // heads with attention
	int64_t blocks, whole;          // way back: blocks, and each one's partial sums: part, then (embeddings + 1) x 4 pad of gates
	int64_t split, splits, weights; // rows a split; floats of a split's sums: whh, then every attention head's W2
	int32_t *drawn;                 // the counter of this rollout
	int32_t *at;                    // rows: the decision's head, -1 after the end
	float *dlogits;                 // rows x choices
	float *total;                   // whole: partial summed over the blocks
	float *parts;                   // splits x weights
} ctn_rnn_args;

extern const ctn_kernel ctn_rnn_prepare[], ctn_rnn_rollout[], ctn_rnn_count[], ctn_rnn_bptt[], ctn_rnn_weights[],
        ctn_rnn_embeddings[];
