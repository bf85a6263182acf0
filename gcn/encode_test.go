package gcn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
)

func networks() map[string]Network {
	return map[string]Network{
		"released": {Kind: LayeredGCN, Width: 20, Layers: 4, Residual: true, Bias: true, Pad: 7, Pair: true},
		"paper":    {Kind: LayeredGCN, Width: 24, Layers: 2, LinearLast: true, Pair: true},
		"gated":    {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13},
		"linear":   {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13, Linear: 5},
		"dropout":  {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13, Dropout: 0.3},
	}
}

func randomFeatures(graphs []Graph) []float32 {
	rows := make([][]float32, len(graphs))
	for i, g := range graphs {
		rows[i] = Features(g, 5)
	}
	return standard(rows).apply(slices.Concat(rows...))
}

// Every tensor's gradient against central differences along a random direction: the scores' dot product with a fixed
// vector is the function. Only one tensor moves at a time.
func TestGradientOfEveryTensor(t *testing.T) {
	graphs := randomGraphs(40, 3)
	for name, n := range networks() {
		kerneltest.EachCPU(t, func(t *testing.T, dev *exec.Device) {
			if dev.Threads() > 1 {
				return
			}
			e, err := n.Encode(Slice(graphs), 5, randomFeatures(graphs), false)
			require.NoError(t, err)
			ar := dev.NewArena()
			defer ar.Free()
			lay := n.layout(n.alphabetSize(5), FeatureCount(5, 0))
			weights := lay.initial(7, 0)
			w, g := ar.Floats(weights), ar.Zeros(lay.size)
			forward, backward := ar.NewProgram("forward"), ar.NewProgram("backward")
			s := &pass{Network: n, ar: ar, p: forward, lay: lay, w: w, g: g, e: e, seed: 5, step: ar.Ints([]int32{3})}
			s.forward()
			s.p = backward
			dir, _ := kerneltest.Random(s.score.Len(), 4)
			s.backward()
			value := func() float64 {
				forward.Run(1)
				sum := 0.0
				for i, v := range s.score.Values() {
					sum += float64(v) * float64(dir[i])
				}
				return sum
			}
			value()
			s.dscore.WriteF32(0, dir)
			backward.Run(1)
			grad := g.Values()
			for k, tn := range lay.tensors {
				if tn.name == "fc.bias" {
					continue // belongs to the loss
				}
				// A direction that crosses the kink of a ReLU differs; a wrong gradient agrees in none of several
				// random directions.
				r := philox.New(8, philox.PurposeTest, uint32(k))
				moved := append([]float32(nil), weights...)
				var square float64
				var wrong []float64
				for range 8 {
					step := make([]float64, tn.len())
					want := 0.0
					for i := range step {
						step[i] = r.NormFloat64()
						want += step[i] * float64(grad[tn.off+i])
					}
					const h = 3e-4
					at := func(sign float64) float64 {
						for i := range step {
							moved[tn.off+i] = weights[tn.off+i] + float32(sign*h*step[i])
						}
						w.WriteF32(0, moved)
						return value()
					}
					got := (at(1) - at(-1)) / (2 * h)
					w.WriteF32(0, weights)
					square += want * want
					wrong = append(wrong, math.Abs(got-want))
				}
				require.Greater(t, square, 0.0, "%s %s", name, tn.name)
				slices.Sort(wrong)
				require.Less(t, wrong[2]/math.Sqrt(square/8), 0.01, "%s %s", name, tn.name)
			}
		})
	}
}

// Sharing equal parts and scoring in chunks change nothing but the order of the last bits.
func TestSharingAndChunksAreExact(t *testing.T) {
	graphs := randomGraphs(300, 5)
	dev, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	defer dev.Close()
	for name, n := range networks() {
		n.Dropout = 0
		features := randomFeatures(graphs)
		shared, err := n.Encode(Slice(graphs), 5, features, false)
		require.NoError(t, err)
		lay := n.layout(n.alphabetSize(5), FeatureCount(5, 0))
		weights := lay.initial(2, 0)
		want, _ := n.score(dev, lay, weights, shared, 0)
		chunked, _ := n.score(dev, lay, weights, shared, 37)
		require.Equal(t, want, chunked, "%s in chunks", name)
		if n.Kind == LayeredGCN {
			plain, err := n.Encode(Slice(graphs), 5, features, true)
			require.NoError(t, err)
			got := make([]float32, len(want))
			apart, _ := n.score(dev, lay, weights, plain, 0)
			for i, v := range apart {
				got[i] = float32(v)
			}
			kerneltest.Close(t, want, got, 1e-5, name)
		}
		// The way forward of training, which keeps every row, gives the same.
		ar := dev.NewArena()
		p := ar.NewProgram("training")
		s := &pass{Network: n, ar: ar, p: p, lay: lay, w: ar.Floats(weights), g: ar.Zeros(lay.size), e: shared}
		s.forward()
		p.Run(1)
		for i, v := range s.score.Values() {
			if i%n.heads() == 0 {
				require.Equal(t, want[i/n.heads()], float64(v), name)
			}
		}
		ar.Free()
		// One graph alone scores as in company.
		for i := 0; i < 300; i += 60 {
			alone, err := n.Encode(Slice(graphs[i:i+1]), 5, features[i*FeatureCount(5, 0):(i+1)*FeatureCount(5, 0)],
				false)
			require.NoError(t, err)
			got, _ := n.score(dev, lay, weights, alone, 0)
			require.InDelta(t, want[i], got[0], 1e-4*(1+math.Abs(want[i])), "%s %d", name, i)
		}
	}
}

// A layered network with a few rounds against the definition in float64, on one graph.
func TestLayeredAgainstDefinition(t *testing.T) {
	g := randomGraphs(20, 6)[7]
	dev, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	for _, n := range []Network{networks()["released"], networks()["paper"]} {
		e, err := n.Encode(Slice([]Graph{g}), 5, nil, false)
		require.NoError(t, err)
		lay := n.layout(n.alphabetSize(5), 0)
		weights := lay.initial(3, 0)
		ar := dev.NewArena()
		p := ar.NewProgram("score")
		s := &pass{Network: n, ar: ar, p: p, lay: lay, w: ar.Floats(weights), e: e}
		s.forward()
		p.Run(1)
		kerneltest.Close(t, layeredReference(n, lay, weights, g, 5), s.score.Values(), 2e-5, fmt.Sprint(n))
		ar.Free()
	}
}

// layeredReference is the released network (or the paper's) written out with dense matrices.
func layeredReference(n Network, lay *layout, weights []float32, g Graph, alphabet int) []float64 {
	at := func(name string, i int) float64 { return float64(weights[lay.get(name).off+i]) }
	nodes, w := max(len(g.Ops), n.Pad), n.Width
	a := make([][]float64, nodes) // A' + I
	for i := range a {
		a[i] = make([]float64, nodes)
		a[i][i] = 1
	}
	for _, e := range g.Edges {
		a[e[1]][e[0]] = 1
	}
	h := make([][]float64, nodes)
	for v := range h {
		op := alphabet // padding
		if v < len(g.Ops) {
			op = int(g.Ops[v])
		}
		h[v] = make([]float64, w)
		for j := range w {
			h[v][j] = at("embedding.weight", op*w+j)
		}
	}
	for k := range n.Layers {
		name := fmt.Sprintf("gcn.%d", k)
		next := make([][]float64, nodes)
		for v := range next {
			next[v] = make([]float64, w)
			for j := range w {
				sum := 0.0
				for u := range nodes {
					if a[v][u] != 0 {
						for i := range w {
							sum += h[u][i] * at(name+".weight", i*w+j)
						}
					}
				}
				if n.Residual {
					sum += h[v][j]
				}
				if n.Bias {
					sum += at(name+".bias", j)
				}
				if sum < 0 && (k < n.Layers-1 || !n.LinearLast) {
					sum = 0
				}
				next[v][j] = sum
			}
		}
		h = next
	}
	out := make([]float64, n.heads())
	for i := range out {
		for v := range nodes {
			for j := range w {
				out[i] += h[v][j] * at("fc.weight", i*w+j) / float64(nodes)
			}
		}
	}
	return out
}

func TestFeatures(t *testing.T) {
	// input -> 1 -> 2 -> output, input -> output
	g := Graph{Ops: []uint8{0, 1, 2, 3}, Edges: [][2]uint8{{0, 1}, {0, 3}, {1, 2}, {2, 3}}}
	f := Features(g, 4, 9)
	require.Len(t, f, FeatureCount(4, 1))
	require.Equal(t, []float32{9, 1, 1, 1, 1, 4, 4, 1, 2, 2}, f[:10])
	require.InDelta(t, math.Log(2), f[10], 1e-6)
	require.InDelta(t, 2, f[11], 1e-6) // paths of 3 and 1 nodes after the input
	require.Equal(t, []float32{0, 0, 0, 0, 0}, f[12:17])
	require.Equal(t, []float32{1, 0, 0.5, 0.5, 0.5}, f[17:22]) // operation 1: on one of two paths
	require.Equal(t, []float32{1, 0, 0.5, 0.5, 0.5}, f[22:27])
	require.Equal(t, []float32{1, 1, 1, 0, 1}, f[27:32])
	require.Equal(t, []float32{3, 1, 2, 1, 2}, f[32:37])
	require.Equal(t, []float32{0.5, 0, 0, 0.5, 0.5, 0, 0, 0.5}, f[37:])
}
