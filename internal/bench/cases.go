package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

// Cases lists everything that can be measured: single operations, then steps. The names of the steps are those of scripts/peers.
func Cases() []Case {
	return []Case{
		gemmCase("gemm", 1792, 128, 128),
		gemmCase("gemm", 423, 64, 64),
		gemmCase("gemm", 16384, 128, 128),
		{Name: "pairs_423", Shape: "all 89,253 pairs of 423 scores, loss and gradient", Setup: pairs},
		{Name: "adam_65536", Shape: "65,536 weights", Setup: adam},
		{Name: "controller_batch_64", Shape: "default controller: 64 samples and an update", Setup: batch},
		{Name: "train_default", Shape: "the default comparator on 423 labels, from start to end", Cold: true, Setup: train},
		{Name: "nac_step_released_256", Shape: "mean update of an epoch over 423 graphs in batches of 256; 4 layers, width 128", Calls: 2, Setup: releasedStep},
		{Name: "controller_iteration", Shape: "18 decisions, batch 1, LSTM 64: sample, ask the comparator, update", Setup: iteration},
		{
			Name: "encode_space_released", Shape: "423,624 cells, 4 layers, width 128, trees ready; equal unfolding trees shared", Whole: true,
			Setup: func(_ context.Context, e *Env) (func() error, error) { return encode(e, false) },
		},
		{
			Name: "encode_space_released_unshared", Shape: "423,624 cells, 4 layers, width 128, graphs ready; nothing shared", Whole: true, Cold: true,
			Setup: func(_ context.Context, e *Env) (func() error, error) { return encode(e, true) },
		},
		{Name: "rank_space_released", Shape: "423,624 cells, from the converted table's file to a ranking", Whole: true, Setup: rank},
		{Name: "search_released_schedule", Shape: "1,000 comparator epochs, 10,000 iterations, 423 labels", Whole: true, Cold: true, Setup: schedule},
	}
}

// random is n numbers in [-1, 1).
func random(n int, step uint32) []float32 {
	s := philox.New(1, philox.PurposeTest, step)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(2*s.Float64() - 1)
	}
	return v
}

func gemmCase(name string, m, n, k int) Case {
	return Case{
		Name: fmt.Sprintf("%s_%d_%d_%d", name, m, n, k), Shape: fmt.Sprintf("%dx%d by %dx%d", m, k, k, n), FLOPs: 2 * float64(m) * float64(n) * float64(k),
		Setup: func(_ context.Context, e *Env) (func() error, error) {
			_, ar, err := e.device()
			if err != nil {
				return nil, err
			}
			p := ar.NewProgram(name)
			gemm.Record(p, gemm.Op{C: ar.F32(m * n), A: ar.Floats(random(m*k, 1)), B: ar.Floats(random(k*n, 2)), M: exec.Fixed(m), N: n, K: k})
			return func() error { p.Run(1); return nil }, nil
		},
	}
}

func pairs(_ context.Context, e *Env) (func() error, error) {
	_, ar, err := e.device()
	if err != nil {
		return nil, err
	}
	const n = 423
	p := ar.NewProgram("pairs")
	loss.AllPairs{N: exec.Fixed(n), Score: ar.Floats(random(n, 1)), Label: ar.Floats(random(n, 2)), DScore: ar.F32(n), Loss: ar.F32(1)}.Record(p)
	return func() error { p.Run(1); return nil }, nil
}

func adam(_ context.Context, e *Env) (func() error, error) {
	_, ar, err := e.device()
	if err != nil {
		return nil, err
	}
	const n = 1 << 16
	p := ar.NewProgram("adam")
	optim.RecordAdam(p, optim.Adam{
		W: ar.Zeros(n), G: ar.Floats(random(n, 1)), M: ar.Zeros(n), V: ar.Zeros(n), LR: ar.Floats([]float32{1e-3}), Step: ar.Ints([]int32{0}),
		Beta1: 0.9, Beta2: 0.999, Eps: 1e-8,
	})
	return func() error { p.Run(1); return nil }, nil
}

// labelled are 423 random cells with invented labels: the time of a step does not depend on what they are.
func labelled() gcn.Data {
	nb := space.NASBench101{}
	s := philox.New(1, philox.PurposeSample, 0)
	archs, labels := make([]space.Arch, 423), make([]float64, 423)
	for i := range archs {
		archs[i], labels[i] = nb.Sample(s), 0.9+0.05*s.Float64()
	}
	return search.Data(nb, archs, labels)
}

func train(ctx context.Context, e *Env) (func() error, error) {
	c, err := gcn.Preset("default")
	data := labelled()
	return func() error {
		_, err := gcn.Train(ctx, e.Device, c, data, 1, nil)
		return err
	}, err
}

func batch(_ context.Context, e *Env) (func() error, error) {
	d, _, err := e.device()
	if err != nil {
		return nil, err
	}
	c, err := controller.New(d, space.NASBench101{}, controller.Default())
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, c.Close)
	rewards := make([]float64, c.Config().Batch)
	return func() error {
		if _, err := c.Sample(); err != nil {
			return err
		}
		rewards[0] = 1 - rewards[0]
		_, err := c.Update(rewards)
		return err
	}, nil
}

func released(e *Env) (*gcn.Released, error) {
	c, err := gcn.Preset("released")
	if err != nil {
		return nil, err
	}
	d, _, err := e.device()
	if err != nil {
		return nil, err
	}
	r, err := gcn.NewReleased(d, c, labelled(), 1)
	if err == nil {
		e.close = append(e.close, r.Close)
	}
	return r, err
}

func releasedStep(_ context.Context, e *Env) (func() error, error) {
	r, err := released(e)
	return func() error {
		_, err := r.Epoch(nil, nil)
		return err
	}, err
}

// iteration is one of the released schedule: a sample, its probability of beating a baseline, an update.
func iteration(_ context.Context, e *Env) (func() error, error) {
	r, err := released(e)
	if err != nil {
		return nil, err
	}
	cmp, err := r.Comparator()
	if err != nil {
		return nil, err
	}
	one := exec.Config{Level: e.Device.Level, Threads: 1}
	ask := func(g space.Graph) (*gcn.Scores, error) {
		encoding, err := cmp.Prepare(gcn.Data{Alphabet: cmp.Alphabet, Graphs: []gcn.Graph{gcn.Graph(g)}})
		if err != nil {
			return nil, err
		}
		return cmp.Score(one, encoding)
	}
	nb := space.NASBench101{}
	baseline, err := ask(nb.Sample(philox.New(2, philox.PurposeSample, 0)).Graph())
	if err != nil {
		return nil, err
	}
	d, _, err := e.device()
	if err != nil {
		return nil, err
	}
	c, err := controller.New(d, nb, controller.Released())
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, c.Close)
	return func() error {
		b, err := c.Sample()
		if err != nil {
			return err
		}
		s, err := ask(b.Archs[0].Graph())
		if err != nil {
			return err
		}
		_, err = c.Update([]float64{s.Against(baseline, 0, 0)})
		return err
	}, nil
}

// unsharedPiece is how many graphs are scored at once where nothing is shared: as many as the caches like.
const unsharedPiece = 512

func encode(e *Env, plain bool) (func() error, error) {
	t, err := e.labels()
	if err != nil {
		return nil, err
	}
	r, err := released(e)
	if err != nil {
		return nil, err
	}
	cmp, err := r.Comparator()
	if err != nil {
		return nil, err
	}
	piece := t.Len()
	if plain {
		piece = unsharedPiece
	}
	var encodings []*gcn.Encoding
	for begin := 0; begin < t.Len(); begin += piece {
		graphs := gcn.GraphSet{N: min(piece, t.Len()-begin), At: func(i int) gcn.Graph { return gcn.Graph(t.Arch(begin + i).Graph()) }}
		encoding, err := cmp.Config.Encode(graphs, cmp.Alphabet, nil, plain)
		if err != nil {
			return nil, err
		}
		encodings = append(encodings, encoding)
	}
	if plain {
		return func() error {
			for _, encoding := range encodings {
				if _, err := cmp.Score(e.Device, encoding); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	s, err := cmp.Scorer(e.Device, encodings[0])
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	return func() error { s.Score(); return nil }, nil
}

func rank(_ context.Context, e *Env) (func() error, error) {
	t, err := e.labels()
	if err != nil {
		return nil, err
	}
	r, err := released(e)
	if err != nil {
		return nil, err
	}
	cmp, err := r.Comparator()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ctnas-bench")
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "space.ctt")
	sections, err := trees.Sections(t)
	if err != nil {
		return nil, err
	}
	if err := table.WriteCTT(path, t, sections...); err != nil {
		return nil, err
	}
	return func() error {
		t, err := table.Open(path, table.Options{Threads: e.Device.Threads})
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		list := search.NewCatalogue(t.Space(), t, trees.Stored(t))
		encoding, err := list.Space().Encoding(cmp)
		if err != nil {
			return err
		}
		scores, err := cmp.Score(e.Device, encoding)
		if err != nil {
			return err
		}
		order := make([]int, len(scores.Rank))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int {
			switch {
			case scores.Rank[a] > scores.Rank[b]:
				return -1
			case scores.Rank[a] < scores.Rank[b]:
				return 1
			}
			return a - b
		})
		return nil
	}, nil
}

// schedule is the released search with nothing written.
func schedule(ctx context.Context, e *Env) (func() error, error) {
	t, err := e.labels()
	if err != nil {
		return nil, err
	}
	c, err := search.Preset(search.PresetReleased)
	if err != nil {
		return nil, err
	}
	c.Seed = 2020
	c.Validation = 100 // the released code measures tau on as many after every exploration
	c.Budget += c.Validation
	return func() error {
		view, err := t.View(e.query)
		if err != nil {
			return err
		}
		_, err = search.Run(ctx, c, search.Deps{Space: t.Space(), Source: ledger.FromTable(view), Device: e.Device})
		return err
	}, nil
}
