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
		"kinds":    {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13},
		"placed":   {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13, Linear: 5},
		"dropout":  {Kind: Gated, Width: 18, Features: true, FeatureWidth: 7, HeadWidth: 13, Dropout: 0.3},
	}
}

// placesOf is what a network of networks takes the five operations apart to: two of one kind, and two of one place.
func placesOf(name string) *Places {
	switch name {
	case "kinds":
		return &Places{Kind: []int32{0, 1, 1, 2, 3}, Place: slices.Repeat([]int32{NoPlace}, 5)}
	case "placed":
	default:
		return nil
	}
	return &Places{Kind: []int32{0, 1, 1, 2, 3}, Place: []int32{NoPlace, 0, 1, 1, NoPlace}}
}

func randomFeatures(graphs []Graph) []float32 {
	return standardRows(graphs, func(g Graph) []float32 { return Features(g, 5) })
}

func standardRows(graphs []Graph, of func(g Graph) []float32) []float32 {
	rows := make([][]float32, len(graphs))
	for i, g := range graphs {
		rows[i] = of(g)
	}
	return standard(rows).apply(slices.Concat(rows...))
}

// encodeAll encodes graphs with all that a network may want of them.
func encodeAll(t testing.TB, n Network, graphs []Graph, plain bool) *Encoding {
	e, err := n.Encode(Slice(graphs), 5, randomFeatures(graphs), plain)
	require.NoError(t, err)
	if n.Linear > 0 {
		e.Counts = standardRows(graphs, func(g Graph) []float32 { return Counts(g, 5) })
	}
	return e
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
			e := encodeAll(t, n, graphs, false)
			ar := dev.NewArena()
			defer ar.Free()
			lay := n.layout(n.alphabetSize(5), placesOf(name), FeatureCount(5, 0))
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
		shared := encodeAll(t, n, graphs, false)
		lay := n.layout(n.alphabetSize(5), placesOf(name), FeatureCount(5, 0))
		weights := lay.initial(2, 0)
		want, _ := n.score(dev, lay, weights, shared, 0)
		chunked, _ := n.score(dev, lay, weights, shared, 37)
		require.Equal(t, want, chunked, "%s in chunks", name)
		if n.Kind == LayeredGCN {
			plain := encodeAll(t, n, graphs, true)
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
			alone, err := n.Encode(Slice(graphs[i:i+1]), 5, someRows(shared.Features, 300, []int{i}), false)
			require.NoError(t, err)
			alone.Counts = someRows(shared.Counts, 300, []int{i})
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
		lay := n.layout(n.alphabetSize(5), nil, 0)
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

// A gated network against its definition in float64, on every executor; operations have rows of their own, or are the
// sum of a kind and a place.
func TestGatedAgainstDefinition(t *testing.T) {
	graphs := randomGraphs(30, 9)
	kerneltest.EachExecutor(t, func(t *testing.T, dev *exec.Device) {
		for _, name := range []string{"gated", "linear", "kinds", "placed"} {
			n := networks()[name]
			e := encodeAll(t, n, graphs, false)
			lay := n.layout(5, placesOf(name), FeatureCount(5, 0))
			weights := lay.initial(4, 0)
			if n.Linear > 0 { // zero at first
				some, _ := kerneltest.Random(5, 6)
				copy(weights[lay.get("score.counts").off:], some)
			}
			got, _ := n.score(dev, lay, weights, e, 0)
			want, values := make([]float64, len(graphs)), make([]float32, len(graphs))
			for i, g := range graphs {
				want[i] = gatedReference(n, lay, weights, g, someRows(e.Features, e.N, []int{i}),
					someRows(e.Counts, e.N, []int{i}))
				values[i] = float32(got[i])
			}
			kerneltest.Close(t, want, values, 2e-5, name)
		}
	})
}

// gatedReference is the score of one graph, node by node.
func gatedReference(n Network, lay *layout, weights []float32, g Graph, features, counts []float32) float64 {
	at := func(name string, i int) float64 { return float64(weights[lay.get(name).off+i]) }
	w := n.Width
	hidden := make([]float64, n.HeadWidth)
	for j := range hidden {
		hidden[j] = at("head.bias", j)
	}
	into := func(part []float64, name string) {
		for i, x := range part {
			for j := range hidden {
				hidden[j] += x * at(name, i*n.HeadWidth+j)
			}
		}
	}
	for d, name := range []string{"forward", "backward"} {
		table := func(of string, op, j int) float64 {
			if lay.places == nil {
				return at(name+of, op*2*w+j)
			}
			sum := at(name+of, int(lay.places.Kind[op])*2*w+j)
			if len(lay.places.summands()) > 1 {
				sum += at(name+of+".own", op*2*w+j)
			}
			if place := lay.places.Place[op]; place != NoPlace {
				sum += at(name+of+".place", int(place)*2*w+j)
			}
			return sum
		}
		near := g.neighbours(Direction(d))
		h := make([][]float64, len(g.Ops))
		for k := range g.Ops {
			v := k
			if Direction(d) == FromOutputs {
				v = len(g.Ops) - 1 - k
			}
			a := make([]float64, w)
			for _, u := range near[v] {
				for j := range a {
					a[j] += h[u][j] / math.Sqrt(float64(len(near[v])))
				}
			}
			gate := func(j int) float64 {
				sum := 0.0
				for i, x := range a {
					sum += x * at(name+".weight", i*2*w+j)
				}
				return table(".operation", int(g.Ops[v]), j) + table(".scale", int(g.Ops[v]), j)*sum
			}
			h[v] = make([]float64, w)
			for j := range w {
				z := 1 / (1 + math.Exp(-gate(j)))
				h[v][j] = z*math.Tanh(gate(w+j)) + (1-z)*a[j]
			}
		}
		into(h[[]int{len(g.Ops) - 1, 0}[d]], "head."+name)
	}
	layer := make([]float64, n.FeatureWidth)
	for j := range layer {
		layer[j] = at("features.bias", j)
		for i, x := range features {
			layer[j] += float64(x) * at("features.weight", i*n.FeatureWidth+j)
		}
		layer[j] = max(layer[j], 0)
	}
	into(layer, "head.features")
	score := 0.0
	for j, x := range hidden {
		score += max(x, 0) * at("score.weight", j)
	}
	for k, c := range counts {
		score += n.Linear * float64(c) * at("score.counts", k)
	}
	return score
}

func TestPlacesAreChecked(t *testing.T) {
	data := problem(20, 60)
	c := quick(t, "default")
	same := make([]int32, 5)
	for _, p := range []Places{{Kind: []int32{0}, Place: []int32{0}}, {Kind: []int32{0, 1, 2, 3, 5}, Place: same},
		{Kind: same, Place: []int32{0, -2, 0, 0, 0}}} {
		data.Places = &p
		_, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 1, nil)
		require.ErrorContains(t, err, "place")
	}
	data.Places, c.Steps, c.Linear = placesOf("placed"), 20, 3
	cmp, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 1, nil)
	require.NoError(t, err)
	blob, err := cmp.MarshalBinary()
	require.NoError(t, err)
	var back Comparator
	require.NoError(t, back.UnmarshalBinary(blob))
	require.Equal(t, *cmp, back)
	cmp.Places.Kind[2] = 5
	blob, err = cmp.MarshalBinary()
	require.NoError(t, err)
	require.ErrorContains(t, new(Comparator).UnmarshalBinary(blob), "damaged")
}

func TestFeatures(t *testing.T) {
	// input -> 1 -> 2 -> output, input -> output
	g := Graph{Ops: []uint16{0, 1, 2, 3}, Edges: [][2]uint8{{0, 1}, {0, 3}, {1, 2}, {2, 3}}}
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
