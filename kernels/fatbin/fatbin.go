// Package fatbin holds the kernels that nvcc compiled, in a program with GPU support (build tag cuda).
package fatbin
