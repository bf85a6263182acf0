// Package fatbin holds the compiled kernels: one fatbin for each .cu file of kernels/, with code for every
// architecture. `make gpu` compiles them into bin/ (CMakeLists.txt) and sets the build tag cuda, which embeds the
// folder. Without the tag there are none.
package fatbin
