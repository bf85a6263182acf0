// Package gcn is the Neural Architecture Comparator (NAC): a graph network that gives the probability that one
// architecture beats another, Pr[R(α) >= R(β)] (CTNAS, CVPR 2021, section 3).
//
// A graph is encoded to a score once, and a pair's logit follows from two scores. So all n(n-1)/2 pairs of n labelled
// architectures cost n encodings, and comparing against a whole space costs one scoring of it.
//
// A Network (network.go) is one of two encoders: layered.go has the graph convolution of the paper, gated.go the gated
// unit that visits nodes along the edges. Equal parts of graphs are computed once (forest.go). Train trains a
// Comparator (comparator.go) on all pairs; Released (released.go) follows the released code. A Space (space.go) is a
// whole search space, encoded to be scored.
package gcn
