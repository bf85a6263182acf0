package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// operation is what the trainer records for an nn.Op whose output is stored: forward beside backward, in a file
// op_*.go. Batch norms, activations and gates that are applied where a tensor is read are no operations, because
// package nn fuses them; lowering_operand.go knows those.
type operation interface {
	facts() facts
	// forward lists the steps that compute out from in. Where batch norms behind it want sums, it leaves them in
	// out.sums or tells that it has not; then a pass over the output makes them.
	forward(l *lowering, out *output, in []*operand, sums bool) (summed bool)
	// backward lists the steps that compute the gradients in the inputs and in the parameters from dout, the whole
	// gradient in the output.
	backward(l *lowering, out *output, in []*operand, dout *gradient)
}

// facts are what the lowering has to know of an operation before it lists any steps.
type facts struct {
	trained bool // it has parameters: gradients have to reach it
	mixes   bool // it mixes by weights that may learn: gradients have to reach it too
	cut     bool // no gradient goes through it
	gaps    bool // its output may have gaps between pixels: it can be written into a concatenation at once
}

// viewed is an operation that can be applied to a tensor where that is read. Where its output is stored all the same,
// it reads its own input in that way.
type viewed interface {
	// view returns how node i reads its input v.
	view(i int, node nn.Node, v nn.View) nn.View
}

// lower alone says which operation runs an nn.Op. It is an error if the kernels have none.
func lower(op nn.Op) (operation, error) {
	switch op := op.(type) {
	case nn.Input:
		return input{}, nil
	case nn.Zero:
		return zero{}, nil
	case nn.Conv:
		return newConvolution(op)
	case nn.Linear:
		return newLinear(op)
	case nn.MaxPool:
		return newPooling(op, op.Kernel, op.Stride, op.Pad)
	case nn.AvgPool:
		return newPooling(op, op.Kernel, op.Stride, op.Pad)
	case nn.GlobalPool:
		return globalPool{}, nil
	case nn.BatchNorm:
		return batchNorm{}, nil
	case nn.Activation:
		return activation{op: op}, nil
	case nn.Gate:
		return gate{}, nil
	case nn.Add:
		return sum{}, nil
	case nn.Mix:
		return mix{op}, nil
	case nn.Dropout:
		return dropout{op}, nil
	case nn.DropPath:
		return dropPath{op: op}, nil
	case nn.Concat:
		return concat{}, nil
	case nn.Slice:
		return channels{op}, nil
	case nn.Shuffle:
		return shuffle{op}, nil
	}
	return nil, fmt.Errorf("there is no kernel for a %s", op)
}
