package trainer

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Supernet is a supernet on a device: parameters that paths share, and the programs of the paths that were run lately.
// Its methods are for one goroutine.
//
// A path is lowered and recorded as any network is, over views into the shared parameters, when it is first wanted. All
// paths share the memory of their values, which is the largest one's, and what a step reads; what else a recorded path
// holds, packed weights among it, lies in an arena of its own, which the next path takes over when the path is dropped.
//
// An update is ZeroGradient, a Step of each path's model, which adds to Grad, and FinishGradient.
type Supernet struct {
	*Parameters
	inputs
	SupernetOptions
	Shared  nn.Shared
	Mixture *Mixture // what paths mix by; nil without rows
	// Second are images and labels that paths see with PathOptions.Second: those that a mixture learns from.
	Second inputs

	arena  *exec.Arena // of what outlives a path
	values *exec.Arena // of memory alone
	memory *exec.Buffer
	losses *exec.Buffer // each recorded path has its own element for each output
	turn   int          // the element of losses that is given away next
	zero   *exec.Program
	finish *exec.Program

	recorded []*recordedPath // the latest used last
	spare    []*exec.Arena
}

// recordedPath is a path whose programs can run.
type recordedPath struct {
	key   pathKey
	model *Model
	arena *exec.Arena
}

type pathKey struct {
	name string
	o    PathOptions
}

// SupernetOptions of a Supernet.
type SupernetOptions struct {
	Batch   int      // images a step
	Shards  int      // that somebody adds up: as Options.Shards
	Image   nn.Shape // the largest that a path has
	Classes int
	Seed    uint64  // of dropout and drop path
	Clip    float64 // limit of the gradient's 2-norm; 0: none
	meeting *place  // as Options.meeting
	// Rows are those that paths mix by; none: they are ordinary networks.
	Rows []nn.Row
	MixtureOptions
	// Cache is how many bytes recorded paths may hold, beside the latest KeptPaths; 0: a quarter of the values' memory.
	Cache int64
}

// KeptPaths is how many paths, at least, stay recorded: a model that Supernet.Path has returned may be run until so
// many others were asked for, or one that takes more memory than any before it.
const KeptPaths = 8

// mostLosses is how many losses are kept, so that one can be read when its path has been dropped.
const mostLosses = 1024

// PathOptions say what a path is for.
type PathOptions struct {
	Loss   nn.Loss // of training; with Distill the teacher is the path before it that has Teach
	Teach  bool    // its logits, as training has them, become Teacher
	Divide int     // the loss is divided by it; 0 is 1: gradients of paths are summed
	Once   bool    // it is drawn by chance and not likely to be run again: a GPU makes no graph of it
	// Transient is EvalOnly, but the norms take each batch's own statistics, which nothing keeps: they are of all
	// of its images, those without a label too (data.Decoded.Full). There is nothing to recalibrate.
	Transient bool
	// EvalOnly paths have running statistics of their own, which Recalibrate computes, with biased variances, and
	// cannot be trained.
	EvalOnly bool
	// FixedWeights: no gradient in the parameters is wanted. FixedMixture: none in the weights of the mixture, to which
	// steps add otherwise.
	FixedWeights, FixedMixture bool
	Second                     bool // it sees the second images and labels
}

// NewSupernet puts shared variables on a device. They are zeros: see SetValues.
func NewSupernet(d *exec.Device, shared nn.Shared, o SupernetOptions) (s *Supernet, err error) {
	if err := (Options{Batch: o.Batch}).check(); err != nil {
		return nil, err
	}
	if o.Image.Len() <= 0 || o.Classes < 1 {
		return nil, fmt.Errorf("%s: images of %s and %d classes", shared.Name, o.Image, o.Classes)
	}
	s = &Supernet{SupernetOptions: o, Shared: shared, arena: d.NewArena(), values: d.NewArena()}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	defer exec.Catch(&err)
	a := s.arena
	s.Parameters = newParameters(a, shared.Variables, a.F32(2))
	s.inputs = newInputs(a, o.Batch, o.Image.Len(), o.Classes, true, false)
	if len(o.Rows) > 0 {
		s.Mixture = newMixture(a, o.Rows, o.Seed, o.MixtureOptions)
		s.Second = newInputs(a, o.Batch, o.Image.Len(), o.Classes, false, false)
	}
	s.losses, s.memory = a.F32(mostLosses), s.values.F32(0)
	s.zero, s.finish = a.NewProgram("zero"), a.NewProgram("finish")
	elementwise.RecordZero(s.zero, s.Grad)
	optim.RecordNorm(s.finish, optim.Norm{G: s.Grad, Max: o.Clip, Out: s.Norm})
	return s, nil
}

// Close frees the supernet's memory.
func (s *Supernet) Close() {
	s.drop()
	for _, a := range s.spare {
		a.Free()
	}
	s.values.Free()
	s.arena.Free()
}

// Bytes is how much memory of the device the supernet holds.
func (s *Supernet) Bytes() int64 { return s.arena.Bytes() + s.values.Bytes() + s.pathBytes() }

// pathBytes is how much of it is recorded paths'.
func (s *Supernet) pathBytes() (sum int64) {
	for _, a := range s.spare {
		sum += a.Bytes()
	}
	for _, r := range s.recorded {
		sum += r.arena.Bytes()
	}
	return sum
}

// ZeroGradient begins an update: the gradient is zero.
func (s *Supernet) ZeroGradient() { s.zero.Run(1) }

// FinishGradient ends the gradient of an update: it leaves Norm.
func (s *Supernet) FinishGradient() { s.finish.Run(1) }

// Path returns the model of a path, recorded when it is first wanted. The key names the path, its images' size with it;
// build is called where the path is not recorded. What the model's Images holds is the supernet's, from the first
// element on.
func (s *Supernet) Path(key string, o PathOptions, build func() (nn.Path, error)) (*Model, error) {
	k := pathKey{key, o}
	for i, r := range s.recorded {
		if r.key == k {
			s.recorded = append(append(s.recorded[:i], s.recorded[i+1:]...), r)
			return r.model, nil
		}
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	r := &recordedPath{key: k, arena: s.room()}
	if r.model, err = s.record(p, o, r.arena); err != nil {
		s.spare = append(s.spare, r.arena)
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	s.recorded = append(s.recorded, r)
	return r.model, nil
}

// room returns an empty arena: a new one while recorded paths hold less than they may, otherwise that of the path that
// was not wanted for the longest time.
func (s *Supernet) room() *exec.Arena {
	limit := s.Cache
	if limit == 0 {
		limit = s.values.Bytes() / 4
	}
	if len(s.spare) == 0 && len(s.recorded) >= KeptPaths && s.pathBytes() >= limit {
		s.spare = append(s.spare, s.recorded[0].arena)
		s.recorded = append(s.recorded[:0], s.recorded[1:]...)
	}
	if n := len(s.spare); n > 0 {
		a := s.spare[n-1]
		s.spare = s.spare[:n-1]
		a.Reset()
		return a
	}
	return s.arena.Device().NewReusable()
}

// drop drops all recorded paths.
func (s *Supernet) drop() {
	for _, r := range s.recorded {
		s.spare = append(s.spare, r.arena)
	}
	s.recorded = nil
}

// record records a path's programs.
func (s *Supernet) record(p nn.Path, o PathOptions, a *exec.Arena) (m *Model, err error) {
	defer exec.Catch(&err)
	if err := s.Shared.Check(p); err != nil {
		return nil, err
	}
	if err := o.Loss.Check(); err != nil {
		return nil, err
	}
	m = newModel(p, Options{Batch: s.Batch, Loss: o.Loss, Seed: s.Seed, Accumulate: max(1, o.Divide),
		Shards: s.Shards, EvalOnly: o.EvalOnly || o.Transient, Biased: true, teach: o.Teach, transient: o.Transient,
		meeting: s.meeting, fixedWeights: o.FixedWeights, fixedMixture: o.FixedMixture}, a)
	if err := m.check(); err != nil {
		return nil, err
	}
	if in := p.Input(); in.Len() > s.Image.Len() || m.classes() != s.Classes {
		return nil, fmt.Errorf("images of %s and %d classes, want %s and %d", in, m.classes(), s.Image, s.Classes)
	}
	if err := s.mixes(p.Network); err != nil {
		return nil, err
	}
	m.Parameters, m.inputs, m.mixture = s.Parameters, s.inputs, s.Mixture
	if o.Second {
		m.inputs = s.Second
	}
	m.Images = m.Images.Slice(0, s.Batch*p.Input().Len())
	heads := len(p.Outputs)
	if s.turn+heads > mostLosses {
		s.turn = 0
	}
	m.Loss = s.losses.Slice(s.turn, heads)
	s.turn += heads
	list := []*lowering{{name: "path", mode: train, accumulate: true, to: &m.training[0]}}
	if m.EvalOnly {
		m.own = newStatistics(a, m.variables)
		list = m.evaluating()
	}
	m.record(list, s.grow)
	m.training[1], m.rest = m.training[0], list[0].rest
	if o.Once {
		all := []*exec.Program{m.training[0], m.evaluation}
		for _, s := range m.rest {
			all = append(all, s.program)
		}
		for _, p := range all {
			if p != nil {
				p.Once()
			}
		}
	}
	return m, nil
}

// mixes tells why a network does not mix by the supernet's rows.
func (s *Supernet) mixes(net *nn.Network) error {
	if len(net.Mixture) == 0 {
		return nil
	}
	same := func(a, b nn.Row) bool { return a.Name == b.Name && slices.Equal(a.Choices, b.Choices) }
	if !slices.EqualFunc(net.Mixture, s.Rows, same) {
		return fmt.Errorf("a mixture by %d rows, which are not the %d of the supernet", len(net.Mixture), len(s.Rows))
	}
	return nil
}

// grow returns memory for values. Where that is more than there is, all recorded paths go: they use what there was.
func (s *Supernet) grow(peak int64) *exec.Buffer {
	if int64(s.memory.Len()) < peak {
		s.drop()
		s.values.Free()
		s.memory = s.values.F32(int(peak))
	}
	return s.memory
}
