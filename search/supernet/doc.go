// Package supernet makes labels by evaluation: an architecture's label is the accuracy of the sub-network that a
// supernet holds of it, with batch norms' statistics of its own, which are computed afresh. Nothing is trained. Several
// architectures are evaluated at once; what a label is depends on neither their number nor their timing, nor on what
// the cache holds already.
package supernet
