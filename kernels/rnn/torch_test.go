package rnn_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/optim"
	. "github.com/ctnas/ctnas/kernels/rnn"
)

// fixture is what scripts/peers/fixtures.py wrote; the format is described there.
type fixture struct {
	Hidden int
	Adam   struct {
		LR          float64 `json:"lr"`
		Beta1       float64 `json:"beta1"`
		Beta2       float64 `json:"beta2"`
		Eps         float64 `json:"eps"`
		WeightDecay float64 `json:"weight_decay"`
	}
	Params []struct {
		Name  string
		Shape []int
		Tag   uint64
		Scale float64
	}
	EntropyWeight float64 `json:"entropy_weight"`
	Sequences     []struct {
		Decisions []int32
		Score     float64
		Heads     []string
		Choices   []int
	}
	F32, F64 results
}

type results struct {
	Sequences []struct {
		LogpSum    float64 `json:"logp_sum"`
		EntropySum float64 `json:"entropy_sum"`
		Grads      map[string]digest
	}
	Trained struct {
		Loss   []float64
		After3 map[string]digest
	}
}

type digest struct {
	Norm   float64
	Stride int
	Sample []float64
}

// same compares a tensor with a digest, relative to the tensor's root mean square.
func (d digest) same(t *testing.T, got []float32, tol float64, what string) {
	square := 0.0
	for _, v := range got {
		square += float64(v) * float64(v)
	}
	rms := math.Max(d.Norm/math.Sqrt(float64(len(got))), 1e-12)
	require.InDelta(t, d.Norm, math.Sqrt(square), tol*math.Max(d.Norm, 1e-12), what)
	require.NotEmpty(t, d.Sample)
	for i, want := range d.Sample {
		require.InDelta(t, want, got[i*d.Stride], tol*math.Max(rms, math.Abs(want)), "%s, element %d", what, i*d.Stride)
	}
}

// torchNames are the fixtures' names of our tensors.
var torchNames = map[string]string{
	"lstm.weight_ih": "lstm.weight_ih", "lstm.weight_hh": "lstm.weight_hh", "lstm.bias_ih": "lstm.bias_ih",
	"lstm.bias_hh":    "lstm.bias_hh",
	"nodes.embedding": "count_embedding", "nodes.weight": "count_head.weight", "nodes.bias": "count_head.bias",
	"op.embedding": "op_embedding", "op.weight": "op_head.weight", "op.bias": "op_head.bias",
	"node.embedding": "node_embedding", "node.key": "attention_node", "node.query": "attention_hidden",
	"node.value": "attention_out",
}

func (f fixture) params(t *testing.T, n *Network) []float32 {
	params, found := make([]float32, n.Size()), 0
	for _, tensor := range n.Tensors() {
		for _, p := range f.Params {
			if p.Name != torchNames[tensor.Name] {
				continue
			}
			found++
			values := make([]float32, tensor.Rows*tensor.Cols)
			size := 1
			for _, s := range p.Shape {
				size *= s
			}
			require.Equal(t, size, len(values), p.Name)
			for i := range values {
				x := uint32(uint64(i)*2654435769 + p.Tag*2246822507)
				x ^= x >> 16
				x *= 569420461
				x ^= x >> 15
				x *= 1935289751
				x ^= x >> 15
				values[i] = float32((float64(x>>16) - 32768) / 32768 * p.Scale)
			}
			tensor.Put(params, values)
		}
	}
	require.Equal(t, len(f.Params), found)
	return params
}

// The released controller in PyTorch with the same weights and decisions: probabilities, gradients, and the weights
// after three updates.
func TestAgreesWithPyTorch(t *testing.T) {
	for _, name := range []string{"torch_controller_small.json", "torch_controller_large.json"} {
		raw, err := os.ReadFile("testdata/" + name)
		if os.IsNotExist(err) {
			t.Skipf("testdata/%s is not here: scripts/peers/fixtures.py writes it", name)
		}
		require.NoError(t, err)
		var f fixture
		require.NoError(t, json.Unmarshal(raw, &f))
		n, err := NewNetwork(released(), f.Hidden)
		require.NoError(t, err)
		params := f.params(t, n)
		batch := len(f.Sequences)
		var given []int32
		for i, s := range f.Sequences {
			given = append(given, s.Decisions...)
			for k, step := range append([]Step{n.Grammar.First}, n.Grammar.Variants[s.Decisions[0]]...) {
				require.Equal(t, s.Choices[k], step.Choices, "sequence %d, decision %d", i, k)
			}
		}
		t.Run(name, func(t *testing.T) {
			kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
				ar := d.NewArena()
				defer ar.Free()
				for i, s := range f.Sequences {
					dlogp, dentropy := make([]float32, batch), make([]float32, batch)
					dlogp[i], dentropy[i] = float32(-s.Score), float32(-f.EntropyWeight)
					r := record(ar, n, batch, params, given, dlogp, dentropy)
					r.p.Run(1)
					want := f.F64.Sequences[i]
					require.InEpsilon(t, want.LogpSum, r.roll.LogP.Values()[i], 1e-5)
					require.InEpsilon(t, want.EntropySum, r.roll.Entropy.Values()[i], 1e-5)
					grad := r.grad.Values()
					for _, tensor := range n.Tensors() {
						tol := 2e-5
						if tensor.Name == "node.query" || tensor.Name == "op.embedding" {
							// Nearly all of it cancels with small weights: float32 in PyTorch is off by 7e-4 in the
							// elements compared.
							tol = 3e-3
						}
						want.Grads[torchNames[tensor.Name]].same(t, tensor.Get(grad), tol, tensor.Name)
					}
				}
				one := record(ar, n, 1, params, given[:18], make([]float32, 1), []float32{float32(-f.EntropyWeight)})
				dlogp := ar.F32(1)
				one.p = ar.NewProgram("train")
				tape := RecordRollout(one.p, one.roll)
				RecordBackward(one.p, tape,
					Backward{DLogP: dlogp, DEntropy: ar.Floats([]float32{float32(-f.EntropyWeight)}), Grad: one.grad})
				optim.RecordAdam(one.p, optim.Adam{W: one.roll.Params, G: one.grad, M: ar.Zeros(n.Size()),
					V: ar.Zeros(n.Size()), LR: ar.Floats([]float32{float32(f.Adam.LR)}), Step: ar.Ints([]int32{0}),
					Beta1: f.Adam.Beta1, Beta2: f.Adam.Beta2, Eps: f.Adam.Eps, WeightDecay: f.Adam.WeightDecay})
				for k, want := range f.F64.Trained.Loss {
					s := f.Sequences[k%batch]
					one.roll.Given.WriteI32(0, s.Decisions)
					dlogp.WriteF32(0, []float32{float32(-s.Score)})
					one.p.Run(1)
					loss := -float64(one.roll.LogP.Values()[0])*s.Score -
						f.EntropyWeight*float64(one.roll.Entropy.Values()[0])
					require.InEpsilon(t, want, loss, 1e-5)
				}
				after := one.roll.Params.Values()
				for _, tensor := range n.Tensors() {
					f.F64.Trained.After3[torchNames[tensor.Name]].same(t, tensor.Get(after), 2e-5,
						tensor.Name+" after three updates")
				}
			})
		})
	}
}
