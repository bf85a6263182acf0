package trainer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// TestTorchSteps is our side of scripts/peers/parity.py, which names a folder in CTNAS_PARITY. Of NAME.in.safetensors,
// which holds a network's variables, `images` (steps x batch x height x width x 3), `labels` (steps x batch), `rate`
// and `samples`, it makes NAME.out.safetensors: for each of the first samples batches k, with the given weights,
// `k.logits` and `k.grad.VARIABLE`, and the decisions on the way, `k.positive.NODE` (1 where a ReLU lets through) and
// `k.pooled.NODE` (what a maximum is taken of); and `losses` of all steps, each of which changes the weights.
func TestTorchSteps(t *testing.T) {
	dir := os.Getenv("CTNAS_PARITY")
	if dir == "" {
		t.Skip("scripts/peers/parity.py runs this")
	}
	for _, c := range benchmarked {
		in := filepath.Join(dir, c.name+".in.safetensors")
		if _, err := os.Stat(in); err != nil {
			continue
		}
		tensors, _, err := format.Read(in)
		require.NoError(t, err)
		byName := map[string]format.Tensor{}
		for _, v := range tensors {
			byName[v.Name] = v
		}
		net, err := c.build()
		require.NoError(t, err)
		d, err := exec.Open(exec.Config{Threads: 2})
		require.NoError(t, err)
		images, labels := byName["images"], byName["labels"]
		steps, batch := images.Shape[0], images.Shape[1]
		r := RecipeDefaults()
		r.Batch, r.LR, r.WeightDecay, r.DecayAll = batch, float64(byName["rate"].Data[0]), 1e-4, true
		s, err := NewStep(d, net, r)
		require.NoError(t, err)
		values := make([][]float32, len(net.Variables()))
		for i, v := range net.Variables() {
			require.Equal(t, v.TorchShape(), byName[v.Name].Shape, v.Name)
			values[i] = nn.FromTorch(v, byName[v.Name].Data)
		}
		fill := func(k int) {
			n := len(images.Data) / steps
			s.Images.WriteF32(0, images.Data[k*n:(k+1)*n])
			integers := make([]int32, batch)
			for i := range integers {
				integers[i] = int32(labels.Data[k*batch+i])
			}
			s.Labels.WriteI32(0, integers)
		}
		s.SetValues(values)
		var out []format.Tensor
		for k := range int(byName["samples"].Data[0]) {
			fill(k)
			logits, decisions := s.batchForward()
			out = append(out, format.Tensor{Name: fmt.Sprintf("%d.logits", k), Shape: []int{batch, 10}, Data: logits})
			for _, d := range decisions {
				d.Name = fmt.Sprintf("%d.%s", k, d.Name)
				out = append(out, d)
			}
			s.Model.Step(0, 0)
			gradients := s.Gradients()
			for i, v := range net.Variables() {
				if v.Role.Trainable() {
					out = append(out, format.Tensor{Name: fmt.Sprintf("%d.grad.%s", k, v.Name), Shape: v.TorchShape(),
						Data: nn.ToTorch(v, gradients[i])})
				}
			}
		}
		losses := make([]float32, steps)
		for k := range losses {
			fill(k)
			loss, err := s.Run()
			require.NoError(t, err)
			losses[k] = float32(loss)
		}
		out = append(out, format.Tensor{Name: "losses", Shape: []int{steps}, Data: losses})
		require.NoError(t, format.WriteSafetensors(filepath.Join(dir, c.name+".out.safetensors"), out, nil))
		s.Close()
		d.Close()
	}
}

// batchForward is what the network says of Images with the statistics of the batch, and where its ReLUs and maxima
// decide what becomes of a gradient.
func (m *Model) batchForward() (logits []float32, decisions []format.Tensor) {
	a := m.arena.Device().NewArena()
	defer a.Free()
	l := &lowering{m: m, name: "inspect", mode: inspect}
	l.lower()
	l.record(a, a.F32(int(l.plan()))).Run(1)
	for _, r := range l.order {
		if r.node == m.Net.Outputs[0].Node {
			logits = r.buffer().Slice(0, r.shape.Len()).Values()
		}
		if _, ok := m.Net.Nodes[r.node].Op.(nn.MaxPool); ok {
			decisions = append(decisions, decision("pooled", m.Net.Nodes[r.node].Name, l.reads[r.node][0],
				func(v float64) float32 {
					return float32(v)
				}))
		}
	}
	for view, x := range l.operands {
		if view.Act != 0 {
			decisions = append(decisions, decision("positive", m.Net.Nodes[view.Act].Name, x, func(v float64) float32 {
				if v > 0 {
					return 1
				}
				return 0
			}))
		}
	}
	return logits, decisions
}

// decision is what an operand is read as, through its norm and ReLU. The sign of a float64 sum of a product of float32
// is that of the kernels' fused one.
func decision(kind, node string, x *operand, of func(v float64) float32) format.Tensor {
	shape := x.of.shape
	values := x.of.buffer().Slice(0, shape.Len()).Values()
	var scale, shift []float32
	if x.view.Norm != 0 {
		n := x.of.norms[x.view.Norm]
		scale, shift = n.Scale.Values(), n.Shift.Values()
	}
	for i, z := range values {
		v := float64(z)
		if scale != nil {
			v = v*float64(scale[i%shape.C]) + float64(shift[i%shape.C])
		}
		if x.view.Act != 0 {
			v = max(0, v)
		}
		values[i] = of(v)
	}
	return format.Tensor{Name: kind + "." + node, Shape: []int{shape.N, shape.H, shape.W, shape.C}, Data: values}
}
