package sim

// The families whose .cu files are compiled in: importing them makes the go command compile the simulator again when
// one changes.
import (
	_ "github.com/ctnas/ctnas/kernels/cell"
	_ "github.com/ctnas/ctnas/kernels/conv"
	_ "github.com/ctnas/ctnas/kernels/dense"
	_ "github.com/ctnas/ctnas/kernels/depthwise"
	_ "github.com/ctnas/ctnas/kernels/elastic"
	_ "github.com/ctnas/ctnas/kernels/elementwise"
	_ "github.com/ctnas/ctnas/kernels/gemm"
	_ "github.com/ctnas/ctnas/kernels/graph"
	_ "github.com/ctnas/ctnas/kernels/image"
	_ "github.com/ctnas/ctnas/kernels/loss"
	_ "github.com/ctnas/ctnas/kernels/mixture"
	_ "github.com/ctnas/ctnas/kernels/norm"
	_ "github.com/ctnas/ctnas/kernels/optim"
	_ "github.com/ctnas/ctnas/kernels/partial"
	_ "github.com/ctnas/ctnas/kernels/peak"
	_ "github.com/ctnas/ctnas/kernels/pool"
	_ "github.com/ctnas/ctnas/kernels/rnn"
)
