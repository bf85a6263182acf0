package trainer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// operations are all operations of package nn, by the names of their types.
var operations = map[string]nn.Op{
	"Input": nn.Input{Shape: nn.Shape{H: 2, W: 2, C: 3}}, "Zero": nn.Zero{Stride: 1}, "Conv": nn.Conv2D(3, 4),
	"Linear":     nn.Linear{Out: 2},
	"MaxPool":    nn.MaxPool{Kernel: nn.Size{H: 3, W: 3}, Stride: nn.Size{H: 1, W: 1}},
	"AvgPool":    nn.AvgPool{Kernel: nn.Size{H: 3, W: 3}, Stride: nn.Size{H: 1, W: 1}},
	"GlobalPool": nn.GlobalPool{}, "BatchNorm": nn.BatchNorm{}, "Activation": nn.ReLU, "Gate": nn.Gate{},
	"Add": nn.Add{}, "Mix": nn.Mix{Rows: 1}, "Dropout": nn.Dropout{P: 0.5},
	"DropPath": nn.DropPath{P: 0.5}, "Concat": nn.Concat{}, "Slice": nn.Slice{To: 1}, "Shuffle": nn.Shuffle{Groups: 2},
}

// Every operation that package nn knows is one of the list above, and the trainer runs it: none is recorded as nothing.
func TestEveryOperationIsLowered(t *testing.T) {
	paths, err := filepath.Glob("nn/*.go")
	require.NoError(t, err)
	found := 0
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			method, ok := d.(*ast.FuncDecl)
			if !ok || method.Recv == nil || method.Name.Name != "infer" { // the method that makes a type an nn.Op
				continue
			}
			name := method.Recv.List[0].Type.(*ast.Ident).Name
			require.Contains(t, operations, name)
			op, err := lower(operations[name])
			require.NoError(t, err, name)
			require.NotNil(t, op, name)
			found++
		}
	}
	require.Len(t, operations, found)

	// All activations are those of the kernels.
	for a := nn.Identity; a < nn.Activations; a++ {
		require.NotEmpty(t, a.String(), "activation %d has no name", uint8(a))
		act, ok := activations[a]
		require.True(t, ok, "there is no kernel for %s", a)
		for _, x := range []float64{-7, -2.5, -0.3, 0.4, 2.9, 6.5} {
			value, slope := tensor.ActReference(act, x)
			require.InDelta(t, a.Apply(x), value, 1e-15, "%s(%g)", a, x)
			require.InDelta(t, a.Slope(x), slope, 1e-15, "the derivative of %s at %g", a, x)
		}
	}
	require.Len(t, activations, int(tensor.Acts), "an activation of the kernels is that of no operation")
	_, err = lower(nil)
	require.ErrorContains(t, err, "there is no kernel for a")
}
