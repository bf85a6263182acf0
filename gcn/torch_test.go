package gcn

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/optim"
)

// The fixtures hold what PyTorch computes; scripts/peers/fixtures.py writes them and documents their format.
type torchFixture struct {
	Model         string
	Layers, Width int
	Adam          struct {
		LR, Beta1, Beta2, Eps float64
		WeightDecay           float64 `json:"weight_decay"`
	}
	Params []struct {
		Name  string
		Shape []int
		Tag   uint64
		Scale float64
	}
	Cells      []string
	Accuracies []float64
	Perms      [][]int32
	Targets    [][]float32
	F32, F64   torchResult
}

type torchResult struct {
	P       []float64
	Loss    []float64
	Grads   map[string]torchTensor
	After1  map[string]torchTensor
	After3  map[string]torchTensor
	PAfter3 []float64 `json:"p_after3"`
}

type torchTensor struct {
	Norm   float64
	Stride int
	Sample []float64
}

// torchWeights repeats the generator of the fixtures' weights.
func torchWeights(n int, tag uint64, scale float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		x := uint32(uint64(i)*2654435769 + tag*2246822507)
		x ^= x >> 16
		x *= 569420461
		x ^= x >> 15
		x *= 1935289751
		x ^= x >> 15
		out[i] = float32((float64(x>>16) - 32768) / 32768 * scale)
	}
	return out
}

// torchName is our tensor of PyTorch's name.
func torchName(name string) string {
	switch {
	case name == "embedding":
		return "embedding.weight"
	case strings.HasPrefix(name, "layer"):
		return "gcn." + strings.TrimPrefix(name, "layer")
	case strings.HasPrefix(name, "weight"):
		return "gcn." + strings.TrimPrefix(name, "weight") + ".weight"
	}
	return name
}

// toTorch reorders a tensor's elements: PyTorch's table of operations starts with the padding, ours ends with it (or
// has none).
func toTorch(name string, width int, v []float32) []float32 {
	if name != "embedding" {
		return v
	}
	rows := len(v) / width
	if rows == 5 { // no padding: its row keeps the initial weights and a gradient of zero
		return append(make([]float32, width), v...)
	}
	return append(append([]float32(nil), v[5*width:]...), v[:5*width]...)
}

func fromTorch(name string, width, ours int, v []float32) []float32 {
	if name != "embedding" {
		return v
	}
	out := append(append([]float32(nil), v[width:]...), v[:width]...)
	return out[:ours]
}

// cellGraph parses nasbench101:<vertices>:<upper triangle>:<operations 0 conv3x3, 1 conv1x1, 2 maxpool3x3>.
func cellGraph(t *testing.T, s string) Graph {
	part := strings.Split(s, ":")
	require.Len(t, part, 4)
	var n int
	_, err := fmt.Sscan(part[1], &n)
	require.NoError(t, err)
	g := Graph{Ops: make([]uint16, n)}
	for i, c := range part[3] {
		g.Ops[i+1] = map[rune]uint16{'0': 2, '1': 1, '2': 3}[c]
	}
	g.Ops[n-1] = 4
	k := 0
	for i := range n {
		for j := i + 1; j < n; j++ {
			if part[2][k] == '1' {
				g.Edges = append(g.Edges, [2]uint8{uint8(i), uint8(j)})
			}
			k++
		}
	}
	return g
}

// With PyTorch's weights the outputs, the loss, every gradient and three Adam updates equal PyTorch's to 1e-5.
func TestTorchParity(t *testing.T) {
	for _, name := range []string{"released", "paper64", "paper128"} {
		data, err := os.ReadFile("testdata/torch_nac_" + name + ".json")
		require.NoError(t, err)
		var f torchFixture
		require.NoError(t, json.Unmarshal(data, &f))
		preset, err := Preset(f.Model)
		require.NoError(t, err)
		net := preset.Network
		net.Width, net.Layers = f.Width, f.Layers
		var graphs []Graph
		for _, c := range f.Cells {
			graphs = append(graphs, cellGraph(t, c))
		}
		t.Run(name, func(t *testing.T) {
			kerneltest.EachExecutor(t, func(t *testing.T, dev *exec.Device) { checkTorch(t, dev, f, net, graphs) })
		})
	}
}

func checkTorch(t *testing.T, dev *exec.Device, f torchFixture, net Network, graphs []Graph) {
	e, err := net.Encode(Slice(graphs), 5, nil, false)
	require.NoError(t, err)
	lay := net.layout(net.alphabetSize(5), nil, 0)
	ar := dev.NewArena()
	defer ar.Free()
	w, g := ar.Zeros(lay.size), ar.Zeros(lay.size)
	for _, p := range f.Params {
		tn := lay.get(torchName(p.Name))
		n := 1
		for _, d := range p.Shape {
			n *= d
		}
		w.WriteF32(tn.off, fromTorch(p.Name, f.Width, tn.len(), torchWeights(n, p.Tag, p.Scale)))
	}
	a := make([]int32, len(graphs))
	for i := range a {
		a[i] = int32(i)
	}
	b, target, lossOut := ar.Ints(a), ar.Zeros(len(a)), ar.F32(1)
	p := ar.NewProgram("step")
	s := &pass{Network: net, ar: ar, p: p, lay: lay, w: w, g: g, e: e}
	if packed := net.pack(dev, graphs, 5); packed != nil { // as an accelerator trains
		s.n, s.packed = exec.Fixed(e.N), ar.Ints(graph.Words(packed))
	}
	s.forward()
	loss.PairList{Pairs: exec.Fixed(len(a)), Examples: exec.Fixed(len(a)), Heads: 2, Score: s.score,
		Bias: s.weight("fc.bias"), A: ar.Ints(a), B: b, Target: target, DScore: s.dscore, DBias: s.gradient("fc.bias"),
		Loss: lossOut, Scale: 1}.Record(p)
	s.backward()
	update := ar.NewProgram("update")
	optim.RecordAdam(update, optim.Adam{W: w, G: g, M: ar.Zeros(lay.size), V: ar.Zeros(lay.size),
		LR: ar.Floats([]float32{float32(f.Adam.LR)}), Step: ar.Ints([]int32{0}), Beta1: f.Adam.Beta1,
		Beta2: f.Adam.Beta2, Eps: f.Adam.Eps, WeightDecay: f.Adam.WeightDecay})
	probabilities := func() []float32 {
		uv, bias := s.score.Values(), w.Values()[lay.get("fc.bias").off]
		out := make([]float32, len(a))
		for i := range out {
			out[i] = float32(1 / (1 + math.Exp(-float64(uv[2*i])-float64(uv[2*f.Perms[0][i]+1])-float64(bias))))
		}
		return out
	}
	check := func(buf *exec.Buffer, want map[string]torchTensor, tol float64, what string) {
		values := buf.Values()
		for name, w := range want {
			tn := lay.get(torchName(name))
			got := toTorch(name, f.Width, values[tn.off:tn.off+tn.len()])
			// Relative to the tensor's root mean square.
			rms := w.Norm / math.Sqrt(float64(len(got)))
			for i, v := range w.Sample {
				if name == "embedding" && tn.len() == 5*f.Width && i*w.Stride < f.Width {
					continue // the padding's row, which this network does not have
				}
				require.InDelta(t, v, float64(got[i*w.Stride]), tol*math.Max(math.Abs(v), math.Max(rms, 1e-6)),
					"%s of %s, element %d", what, name, i*w.Stride)
			}
		}
	}
	for k := range 3 {
		b.WriteI32(0, f.Perms[k])
		target.WriteF32(0, f.Targets[k])
		p.Run(1)
		kerneltest.Close(t, f.F64.Loss[k:k+1], lossOut.Values(), 1e-5, "loss")
		if k == 0 {
			kerneltest.Close(t, f.F64.P, probabilities(), 1e-5, "probability")
			check(g, f.F64.Grads, 1e-5, "gradient")
		}
		update.Run(1)
		if k == 0 {
			check(w, f.F64.After1, 1e-4, "weight after 1 step")
		}
	}
	check(w, f.F64.After3, 1e-4, "weight after 3 steps")
	p.Run(1)
	kerneltest.Close(t, f.F64.PAfter3, probabilities(), 1e-4, "probability after 3 steps")
}
