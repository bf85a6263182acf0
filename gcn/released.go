package gcn

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
)

// ReleasedBatch is the released code's batch of labelled graphs, and of pseudo-labelled pairs beside each.
const ReleasedBatch = 256

// Released trains one network the way the released code does (ctnas/core/engine/nac.py): an epoch visits the labelled
// graphs in random order in batches of 256, each batch is paired with a permutation of itself, the target is 1 where
// the first accuracy is strictly higher; with a pool of pseudo-labelled pairs, as many of them as the batch has pairs
// are drawn and appended.
//
// All labelled graphs are encoded in every update, because they share their parts; graphs outside the batch get no
// gradient, so the update is the released one. An accelerator is given the packed graphs of each update instead.
type Released struct {
	config  Config
	data    Data
	seed    uint64
	epoch   uint32
	train   *releasedStep // over the labelled graphs only
	dev     *exec.Device
	w       []float32
	m, v    []float32
	updates int32
	plain   bool
	batch   int
	packed  []uint64 // the labelled graphs, where updates take packed ones
}

// releasedStep is the recorded update over a set of graphs.
type releasedStep struct {
	*trainer
	count, a, b, target *exec.Buffer
	graphs, packed      *exec.Buffer // how many; the graphs of this update
}

// NewReleased prepares training with the released schedule on a device that the caller keeps open.
func NewReleased(dev *exec.Device, c Config, data Data, seed uint64) (*Released, error) {
	return newReleased(dev, c, data, seed, false, ReleasedBatch)
}

// NewPlainReleased trains in the same way without sharing, for measuring what it saves: both graphs of every pair are
// encoded on their own, a row for every node (the first round's product is still one of operations). It takes no pool.
func NewPlainReleased(dev *exec.Device, c Config, data Data, seed uint64) (*Released, error) {
	return newReleased(dev, c, data, seed, true, ReleasedBatch)
}

func newReleased(dev *exec.Device, c Config, data Data, seed uint64, plain bool, batch int) (*Released, error) {
	if !c.Pair || c.Kind != LayeredGCN || c.Members != 1 {
		return nil, errors.New("the released schedule trains one layered network with a pair head")
	}
	if err := data.check(c, true); err != nil {
		return nil, err
	}
	lay := c.layout(c.alphabetSize(data.Alphabet), nil, 0)
	r := &Released{config: c, data: data, seed: seed, dev: dev, w: lay.initial(seed, 0), m: make([]float32, lay.size),
		v: make([]float32, lay.size), plain: plain, batch: batch}
	r.packed = c.pack(dev, data.Graphs, data.Alphabet)
	graphs := data.Graphs
	if plain {
		graphs = slices.Concat(graphs, graphs) // first and second places
	}
	var err error
	r.train, err = r.record(graphs)
	return r, err
}

// Close frees the recorded program.
func (r *Released) Close() { r.train.ar.Free() }

// record records the update over a set of graphs, or over the packed ones that each update brings.
func (r *Released) record(graphs []Graph) (*releasedStep, error) {
	e := &Encoding{N: 4 * r.batch} // both places of a batch and of as many drawn pairs
	if r.packed == nil {
		var err error
		if e, err = r.config.Encode(Slice(graphs), r.data.Alphabet, nil, r.plain); err != nil {
			return nil, err
		}
	}
	ar := r.dev.NewArena()
	t := &trainer{ar: ar, net: r.config.Network, lay: r.config.layout(r.config.alphabetSize(r.data.Alphabet), nil, 0)}
	s := &releasedStep{trainer: t, count: ar.Ints([]int32{0}), a: ar.Ints(make([]int32, 2*r.batch)),
		b: ar.Ints(make([]int32, 2*r.batch)), target: ar.Zeros(2 * r.batch)}
	t.w, t.g, t.m, t.v = ar.Floats(r.w), ar.Zeros(t.lay.size), ar.Floats(r.m), ar.Floats(r.v)
	t.lr, t.step, t.loss = ar.Floats([]float32{float32(r.config.LR)}), ar.Ints([]int32{r.updates}), ar.F32(1)
	t.program = ar.NewProgram("released comparator step")
	p := &pass{Network: r.config.Network, ar: ar, p: t.program, lay: t.lay, w: t.w, g: t.g, e: e, n: exec.Fixed(e.N)}
	if r.packed != nil {
		s.graphs, s.packed = ar.Ints([]int32{0}), ar.Ints(make([]int32, 2*e.N))
		p.n, p.packed = exec.Dynamic(s.graphs, e.N), s.packed
	}
	p.forward()
	loss.PairList{Pairs: exec.Dynamic(s.count, 2*r.batch), Examples: p.n, Heads: 2, Score: p.score,
		Bias: p.weight("fc.bias"), A: s.a, B: s.b, Target: s.target, DScore: p.dscore, DBias: p.gradient("fc.bias"),
		Loss: t.loss, Scale: 1}.Record(t.program)
	p.backward()
	c := r.config
	optim.RecordAdam(t.program, optim.Adam{W: t.w, G: t.g, M: t.m, V: t.v, LR: t.lr, Step: t.step, Beta1: c.Beta1,
		Beta2: c.Beta2, Eps: 1e-8, WeightDecay: c.WeightDecay})
	return s, nil
}

// Epoch runs one epoch and returns its mean loss. pool holds pseudo-labelled pairs among graphs; nil for none.
func (r *Released) Epoch(graphs []Graph, pool []Pair) (float64, error) {
	n := len(r.data.Labels)
	order := philox.New(r.seed, philox.PurposeShuffle, r.epoch)
	r.epoch++
	perm := order.Perm(n)
	total, batches := 0.0, 0
	if r.plain && len(pool) > 0 {
		return 0, errors.New("plain training takes no pool")
	}
	for begin := 0; begin < n; begin += r.batch {
		batch := perm[begin:min(begin+r.batch, n)]
		partner := order.Perm(len(batch))
		var drawn []Pair
		if len(pool) > 0 {
			chosen := order.Perm(len(pool))
			for _, k := range chosen[:min(len(batch), len(pool))] {
				drawn = append(drawn, pool[k])
			}
		}
		u, err := r.update(graphs, drawn)
		if err != nil {
			return 0, err
		}
		step := u.step
		var a, b []int32
		var target []float32
		for i, k := range batch {
			j := batch[partner[i]]
			a, b = append(a, u.first(k)), append(b, u.second(j))
			target = append(target, boolFloat(r.data.Labels[k] > r.data.Labels[j]))
		}
		for _, p := range drawn {
			a, b, target = append(a, u.drawn(p.A)), append(b, u.drawn(p.B)), append(target, p.Target)
		}
		if r.packed != nil {
			step.packed.WriteI32(0, graph.Words(u.packed))
			step.graphs.WriteI32(0, []int32{int32(len(u.packed))})
		}
		step.a.WriteI32(0, a)
		step.b.WriteI32(0, b)
		step.target.WriteF32(0, target)
		step.count.WriteI32(0, []int32{int32(len(a))})
		step.program.Run(1)
		r.updates++
		l := float64(step.loss.Values()[0])
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return 0, fmt.Errorf("the released comparator's loss is %v at epoch %d", l, r.epoch)
		}
		total += l
		batches++
		if step != r.train { // carry the state over
			step.w.ReadF32(0, r.w)
			step.m.ReadF32(0, r.m)
			step.v.ReadF32(0, r.v)
			step.ar.Free()
			r.train.w.WriteF32(0, r.w)
			r.train.m.WriteF32(0, r.m)
			r.train.v.WriteF32(0, r.v)
			r.train.step.WriteI32(0, []int32{r.updates})
		}
	}
	r.train.w.ReadF32(0, r.w)
	r.train.m.ReadF32(0, r.m)
	r.train.v.ReadF32(0, r.v)
	return total / float64(batches), nil
}

// update is what an update runs, and the numbers that it gives to graphs: to a labelled one in first or second place,
// and to one of the pool's.
type update struct {
	step                 *releasedStep
	first, second, drawn func(k int) int32
	packed               []uint64 // the graphs in their order, where the step takes packed ones
}

// update prepares an update with the graphs of the drawn pairs.
func (r *Released) update(graphs []Graph, drawn []Pair) (*update, error) {
	u := &update{step: r.train}
	if r.packed == nil {
		u.first = func(k int) int32 { return int32(k) }
		u.second = u.first
		if r.plain {
			u.second = func(k int) int32 { return int32(len(r.data.Labels) + k) }
		}
		if len(drawn) == 0 {
			return u, nil
		}
		var err error
		u.step, u.drawn, err = r.recordDrawn(graphs, drawn)
		return u, err
	}
	at := map[uint64]int32{}
	number := func(g uint64) int32 {
		i, ok := at[g]
		if !ok || r.plain {
			i = int32(len(u.packed))
			at[g] = i
			u.packed = append(u.packed, g)
		}
		return i
	}
	u.first = func(k int) int32 { return number(r.packed[k]) }
	u.second = u.first
	pool := map[int]uint64{}
	u.drawn = func(k int) int32 { return number(pool[k]) }
	for _, p := range drawn {
		for _, k := range []int{p.A, p.B} {
			var ok bool
			if pool[k], ok = graphs[k].pack(r.data.Alphabet); !ok {
				return nil, fmt.Errorf("graph %d of the pool is not like the labelled ones: %v", k, graphs[k])
			}
		}
	}
	return u, nil
}

// recordDrawn records an update over the labelled graphs and those of the drawn pairs, and numbers the latter.
func (r *Released) recordDrawn(graphs []Graph, drawn []Pair) (*releasedStep, func(k int) int32, error) {
	r.train.w.ReadF32(0, r.w)
	r.train.m.ReadF32(0, r.m)
	r.train.v.ReadF32(0, r.v)
	all := append([]Graph(nil), r.data.Graphs...)
	at := map[int]int32{}
	number := func(g int) int32 {
		if _, ok := at[g]; !ok {
			at[g] = int32(len(all))
			all = append(all, graphs[g])
		}
		return at[g]
	}
	for _, p := range drawn {
		number(p.A)
		number(p.B)
	}
	step, err := r.record(all)
	return step, number, err
}

func boolFloat(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

// Packed tells whether updates take packed graphs, as they do on an accelerator; RecordScores then can be used.
func (r *Released) Packed() bool { return r.packed != nil }

// RecordScores appends to a program of the same device the scores of n packed graphs, 2 integers each with nodes
// numbered as in the training data: n x 2, by the weights at the time when the program runs.
func (r *Released) RecordScores(p *exec.Program, n int, graphs, scores *exec.Buffer) {
	s := &pass{Network: r.config.Network, ar: p.Arena(), p: p, lay: r.train.lay, w: r.train.w, e: &Encoding{N: n},
		n: exec.Fixed(n), packed: graphs, score: scores}
	s.packedGraphs()
}

// Comparator returns the network as it stands.
func (r *Released) Comparator() (*Comparator, error) {
	c := &Comparator{Config: r.config, Alphabet: r.data.Alphabet, Weights: [][]float32{append([]float32(nil), r.w...)}}
	e, err := r.config.Encode(Slice(r.data.Graphs), r.data.Alphabet, nil, false)
	if err != nil {
		return nil, err
	}
	s, err := r.train.spread(e)
	c.Spread = []Spread{s}
	return c, err
}

// ReleasedState is everything that a resumed run needs.
type ReleasedState struct {
	Epoch   uint32
	Updates int32
	W, M, V []float32
}

// State copies the training state.
func (r *Released) State() ReleasedState {
	c := func(v []float32) []float32 { return append([]float32(nil), v...) }
	return ReleasedState{r.epoch, r.updates, c(r.w), c(r.m), c(r.v)}
}

// Restore continues from a state of the same configuration.
func (r *Released) Restore(s ReleasedState) error {
	if len(s.W) != len(r.w) || len(s.M) != len(r.m) || len(s.V) != len(r.v) {
		return fmt.Errorf("a comparator state of %d weights for a network of %d", len(s.W), len(r.w))
	}
	r.epoch, r.updates = s.Epoch, s.Updates
	copy(r.w, s.W)
	copy(r.m, s.M)
	copy(r.v, s.V)
	r.train.w.WriteF32(0, r.w)
	r.train.m.WriteF32(0, r.m)
	r.train.v.WriteF32(0, r.v)
	r.train.step.WriteI32(0, []int32{r.updates})
	return nil
}
