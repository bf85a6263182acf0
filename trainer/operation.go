package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// operation is what the trainer records for an nn.Op whose output is stored: forward beside backward, in a file op_*.go. Batch norms,
// activations and gates that are applied where a tensor is read are none (package nn fuses them); lowering_port.go knows those.
type operation interface {
	facts() facts
	// forward lists the steps that compute the output r from in. Where the batch norms behind it want sums, it leaves them in r.sums or
	// tells that it has not, and they are made by a pass over the output.
	forward(l *lowering, r *raw, in []*port, sums bool) (summed bool)
	// backward lists the steps that add what g, the whole gradient in the output, means for the inputs and for the parameters.
	backward(l *lowering, r *raw, in []*port, g *gradient)
}

// facts are what the lowering has to know of an operation before it lists any steps.
type facts struct {
	trained bool // it has parameters: gradients have to reach it
	cut     bool // no gradient goes through it
	gaps    bool // its output may have gaps between pixels: it can be written into a concatenation at once
}

// viewed is an operation that is applied to a tensor as it is read, by whatever reads it. Stored by itself it reads its input so.
type viewed interface {
	// view says how node i reads its input v.
	view(i int, node nn.Node, v nn.View) nn.View
}

// lower is the one place that says which operation runs an nn.Op. One that the kernels do not run is an error.
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
