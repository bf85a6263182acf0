package bench

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/ledger"
	_ "github.com/ctnas/ctnas/search/method/released" // registers it
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

// Cases lists everything that can be measured: what says most, then single operations, then the other steps. The names
// of the steps are those of scripts/peers.
func Cases() []Case {
	all := slices.Concat(kernels(), steps(), training(), ranks(), supernet(), farms())
	// A pass that is cut off has these at least.
	first := []string{"train_mobilenetv3_large", "train_nb101_best", "nac_step_released_512", "encode_space_released",
		"controller_iteration", "rollouts_4096"}
	rank := func(c Case) int {
		if i := slices.Index(first, c.Name); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(all, func(x, y Case) int { return rank(x) - rank(y) })
	return all
}

func steps() []Case {
	const network = "4 layers, width 128"
	return []Case{
		{Name: "rollout_1", Shape: "released controller, one sample", Setup: rollout(controller.Released(), false)},
		{Name: "rollout_64", Shape: "default controller, 64 samples", Setup: rollout(controller.Default(), false)},
		{Name: "rollouts_4096", Shape: "released controller, 4,096 samples, left on the device", Setup: rollouts(4096)},
		{Name: "rollout_update_1", Shape: "released controller, one sample and an update",
			Setup: rollout(controller.Released(), true)},
		{Name: "rollout_update_64", Shape: "default controller, 64 samples and an update",
			Setup: rollout(controller.Default(), true)},
		{
			Name: "nac_step_released_256", Shape: "256 pairs of 256 cells, " + network +
				"; each graph encoded once, equal unfolding trees shared",
			Setup: releasedStep(256, false),
		},
		{
			Name: "nac_step_released_256_plain", Shape: "256 pairs of 256 cells, " + network +
				"; both graphs of each pair encoded, nothing shared",
			Setup: releasedStep(256, true),
		},
		{
			Name: "nac_epoch_released_423", Shape: "256 and 167 pairs of 423 cells: 2 updates, " + network +
				"; shared, all 423 encoded in each update",
			Setup: releasedStep(423, false),
		},
		{
			Name: "nac_step_released_512", Shape: "512 pairs of 512 cells, " + network +
				"; data on the device, each graph encoded once",
			Setup: batchStep(512, 4, 128),
		},
		{Name: "nac_step_65536_w64", Shape: "65,536 pairs of as many cells, 2 layers, width 64; likewise", Long: true,
			Setup: batchStep(65536, 2, 64)},
		{Name: "nac_step_65536_w256", Shape: "65,536 pairs of as many cells, 2 layers, width 256; likewise", Long: true,
			Setup: batchStep(65536, 2, 256)},
		{Name: "nac_step_default_423", Shape: "an update of one member of the default comparator, all pairs of " +
			"423 cells", Setup: defaultStep},
		{Name: "train_default", Shape: "the default comparator on 423 labels, from start to end", Cold: true,
			Long: true, Setup: train},
		{Name: "controller_iteration", Shape: "18 decisions, batch 1, LSTM 64: sample, ask the comparator, update",
			Setup: iteration},
		{Name: "encode_space_released", Shape: "423,624 cells, " + network + ", trees ready; equal unfolding trees " +
			"shared", Setup: encode},
		{
			Name: "encode_space_released_unshared", Shape: "423,624 cells, " + network +
				", graphs ready; nothing shared", Cold: true,
			Setup: encodeUnshared,
		},
		{Name: "score_space_default", Shape: "423,624 cells by one member of the default comparator, trees ready",
			Setup: scoreDefault},
		{Name: "best_of_space_released", Shape: "the best 1,000 of 423,624 scores, left where they are",
			Setup: bestOfSpace},
		{Name: "rank_space_released", Shape: "423,624 cells, from the converted table's file to a ranking by the " +
			"released network", Setup: rankReleased},
		{Name: "rank_from_cached_table", Shape: "423,624 cells, from the converted table's file to a ranking by the " +
			"default comparator", Cold: true, Setup: rankDefault},
		{
			Name: "search_released_schedule", Shape: "1,000 comparator epochs, 10,000 iterations, 423 labels",
			Cold: true, Long: true,
			Setup: schedule,
		},
	}
}

// labelled are random cells with invented labels: the time of a step does not depend on what they are.
func labelled(n int) gcn.Data {
	nb := space.NASBench101{}
	s := philox.New(1, philox.PurposeSample, 0)
	archs, labels := make([]space.Arch, n), make([]float64, n)
	for i := range archs {
		archs[i], labels[i] = nb.Sample(s), 0.9+0.05*s.Float64()
	}
	return catalogue.Data(nb, archs, labels)
}

func train(ctx context.Context, e *Env) (func() error, error) {
	c, err := gcn.Preset("default")
	data := labelled(423)
	return func() error {
		_, err := gcn.Train(ctx, e.Device, c, data, 1, nil)
		return err
	}, err
}

func defaultStep(_ context.Context, e *Env) (func() error, error) {
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	c, err := gcn.Preset("default")
	if err != nil {
		return nil, err
	}
	s, err := gcn.NewStep(d, c, labelled(423), 1)
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	return func() error { s.Run(1); return nil }, nil
}

func rollout(config controller.Config, update bool) func(context.Context, *Env) (func() error, error) {
	return func(_ context.Context, e *Env) (func() error, error) {
		d, err := e.device()
		if err != nil {
			return nil, err
		}
		c, err := controller.New(d, space.NASBench101{}, config)
		if err != nil {
			return nil, err
		}
		e.close = append(e.close, c.Close)
		rewards := make([]float64, c.Config().Batch)
		return func() error {
			if _, err := c.Sample(); err != nil || !update {
				return err
			}
			rewards[0] = 1 - rewards[0]
			_, err := c.Update(rewards)
			return err
		}, nil
	}
}

// rollouts are a batch's, by themselves.
func rollouts(n int) func(context.Context, *Env) (func() error, error) {
	return func(_ context.Context, e *Env) (func() error, error) {
		d, err := e.device()
		if err != nil {
			return nil, err
		}
		config := controller.Released()
		config.Batch = n
		c, err := controller.New(d, space.NASBench101{}, config)
		if err != nil {
			return nil, err
		}
		e.close = append(e.close, c.Close)
		e.last = c.Rollout()
		return func() error { c.Rollout().Run(1); return nil }, nil
	}
}

// released is the released network in training on n cells.
func released(e *Env, n int, plain bool) (*gcn.Released, error) {
	c, err := gcn.Preset("released")
	if err != nil {
		return nil, err
	}
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	open := gcn.NewReleased
	if plain {
		open = gcn.NewPlainReleased
	}
	r, err := open(d, c, labelled(n), 1)
	if err == nil {
		e.close = append(e.close, r.Close)
	}
	return r, err
}

// releasedStep is an epoch, which over 256 cells is one update.
func releasedStep(n int, plain bool) func(context.Context, *Env) (func() error, error) {
	return func(_ context.Context, e *Env) (func() error, error) {
		r, err := released(e, n, plain)
		return func() error {
			_, err := r.Epoch(nil, nil)
			return err
		}, err
	}
}

// batchStep is the released update on one batch of n cells that stays where it is.
func batchStep(n, layers, width int) func(context.Context, *Env) (func() error, error) {
	return func(_ context.Context, e *Env) (func() error, error) {
		c, err := gcn.Preset("released")
		if err != nil {
			return nil, err
		}
		c.Layers, c.Width = layers, width
		d, err := e.device()
		if err != nil {
			return nil, err
		}
		s, err := gcn.NewBatchStep(d, c, labelled(n), 1)
		if err != nil {
			return nil, err
		}
		e.close = append(e.close, s.Close)
		e.last = s.Program()
		return func() error { s.Program().Run(1); return nil }, nil
	}
}

// untrained is the released network with the weights it starts with: its speed is that of a trained one.
func untrained(e *Env) (*gcn.Comparator, error) {
	r, err := released(e, 423, false)
	if err != nil {
		return nil, err
	}
	return r.Comparator()
}

// iteration is one of the released schedule: a sample, its probability of beating a baseline, an update. An accelerator
// goes through them by itself, as it does in a search.
func iteration(_ context.Context, e *Env) (func() error, error) {
	r, err := released(e, 423, false)
	if err != nil {
		return nil, err
	}
	if r.Packed() {
		return loop(e, r)
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
	d, err := e.device()
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

// loop is the iteration as a recorded program.
func loop(e *Env, r *gcn.Released) (func() error, error) {
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	config := controller.Released()
	c, err := controller.New(d, space.NASBench101{}, config)
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, c.Close)
	l, err := c.NewLoop(controller.Opponents{Members: 1, Heads: 2}, 1,
		func(p *exec.Program, graphs, scores *exec.Buffer) {
			r.RecordScores(p, config.Batch, graphs, scores)
		})
	if err != nil {
		return nil, err
	}
	if err := l.SetOpponent([]float32{0, 0}, []float32{0}); err != nil {
		return nil, err
	}
	e.last = l.Program()
	return func() error { _, err := l.Run(1); return err }, nil
}

// unsharedPiece is how many graphs are scored at once where nothing is shared: buffers large enough for huge pages,
// which cost little to make.
const unsharedPiece = 4096

func encodeUnshared(ctx context.Context, e *Env) (func() error, error) {
	list, err := e.whole(ctx)
	if err != nil {
		return nil, err
	}
	cmp, err := untrained(e)
	if err != nil {
		return nil, err
	}
	var encodings []*gcn.Encoding
	for begin := 0; begin < list.Len(); begin += unsharedPiece {
		graphs := gcn.GraphSet{N: min(unsharedPiece, list.Len()-begin), At: func(i int) gcn.Graph {
			return gcn.Graph(e.at(begin + i).Graph())
		}}
		encoding, err := cmp.Config.Encode(graphs, cmp.Alphabet, nil, true)
		if err != nil {
			return nil, err
		}
		encodings = append(encodings, encoding)
	}
	return func() error {
		for _, encoding := range encodings {
			if _, err := cmp.Score(e.Device, encoding); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func encode(ctx context.Context, e *Env) (func() error, error) {
	cmp, err := untrained(e)
	if err != nil {
		return nil, err
	}
	return score(ctx, e, cmp)
}

// scorer holds the whole space ready for a comparator; n is the number of architectures.
func scorer(ctx context.Context, e *Env, cmp *gcn.Comparator) (s *gcn.Scorer, n int, err error) {
	list, err := e.whole(ctx)
	if err != nil {
		return nil, 0, err
	}
	encoding, err := list.Space().Encoding(context.Background(), cmp)
	if err != nil {
		return nil, 0, err
	}
	if s, err = cmp.Scorer(e.Device, encoding); err == nil {
		e.close = append(e.close, s.Close)
	}
	return s, list.Len(), err
}

// score scores the whole space again and again.
func score(ctx context.Context, e *Env, cmp *gcn.Comparator) (func() error, error) {
	s, _, err := scorer(ctx, e, cmp)
	if err != nil {
		return nil, err
	}
	if e.dev != nil && e.dev.Accelerated() { // the network alone: the scores stay where they are
		e.last = s.Program()
		s.Score()
	}
	return func() error { s.Score(); return nil }, nil
}

// bestOfSpace finds the best cells among scores that are ready.
func bestOfSpace(ctx context.Context, e *Env) (func() error, error) {
	cmp, err := untrained(e)
	if err != nil {
		return nil, err
	}
	s, n, err := scorer(ctx, e, cmp)
	if err != nil {
		return nil, err
	}
	const best = 1000
	top := s.Top(min(best, n))
	top.Of(0)
	e.last = top.Program()
	return func() error { top.Program().Run(1); return nil }, nil
}

// shortlyTrained is the default comparator after a few updates: its speed is that of a trained one.
func shortlyTrained(ctx context.Context, e *Env, members int) (*gcn.Comparator, error) {
	c, err := gcn.Preset("default")
	if err != nil {
		return nil, err
	}
	if c.Steps = 2; members > 0 {
		c.Members = members
	}
	return gcn.Train(ctx, e.Device, c, labelled(423), 1, nil)
}

func scoreDefault(ctx context.Context, e *Env) (func() error, error) {
	cmp, err := shortlyTrained(ctx, e, 1)
	if err != nil {
		return nil, err
	}
	return score(ctx, e, cmp)
}

func rankReleased(_ context.Context, e *Env) (func() error, error) {
	cmp, err := untrained(e)
	if err != nil {
		return nil, err
	}
	return rank(e, cmp)
}

func rankDefault(ctx context.Context, e *Env) (func() error, error) {
	if e.Open == nil {
		return nil, ErrNoTable
	}
	cmp, err := shortlyTrained(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	return rank(e, cmp)
}

// rank opens the table's converted form and sorts what stands in it.
func rank(e *Env, cmp *gcn.Comparator) (func() error, error) {
	t, err := e.labels()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ctnas-bench")
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "space.ctt")
	sections, err := trees.Sections(context.Background(), t)
	if err != nil {
		return nil, err
	}
	if err := table.WriteCTT(path, t, sections...); err != nil {
		return nil, err
	}
	return func() error {
		t, err := table.Open(context.Background(), path, table.Options{Threads: e.Device.Threads})
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		encoding, err := catalogue.New(t.Space(), t, trees.Stored(t)).Space().Encoding(context.Background(), cmp)
		if err != nil {
			return err
		}
		scores, err := cmp.Score(e.Device, encoding)
		if err != nil {
			return err
		}
		order := make([]int32, len(scores.Rank))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortFunc(order, func(a, b int32) int {
			switch {
			case scores.Rank[a] > scores.Rank[b]:
				return -1
			case scores.Rank[a] < scores.Rank[b]:
				return 1
			}
			return int(a - b)
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
		_, err = run.Do(ctx, c, run.Deps{Space: t.Space(), Source: ledger.FromTable(view), Device: e.Device})
		return err
	}, nil
}
