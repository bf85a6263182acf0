// Package nn describes networks as data: which operations are applied to which tensors, with what parameters, at what
// cost. It knows no device; package reference runs a network slowly in float64, and a lowering pass turns one into
// recorded programs.
//
// A tensor is a batch of examples in the order NHWC. Shapes leave the batch out.
package nn
