// Package trainer trains networks and evaluates them. It turns an nn.Network into recorded programs over one arena,
// feeds them with images, and keeps what a run leaves behind: logs, checkpoints, weights, results.
//
// A Model is a network on a device (model.go). The lowering (lowering*.go) lists the steps of a program, with one file
// for each kind of operation (op_*.go) in which forward stands beside backward; lowering_gradient.go tells the life of
// a gradient. A Recipe says how to train, and Train runs it (run.go).
package trainer
