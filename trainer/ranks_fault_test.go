//go:build !cuda

// What is tested here are simulated devices that fail: a program with GPU support has nothing to add to it.

package trainer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/trainer/data"
)

// mortal is a simulated device that fails as a test says: at one Alloc, or at a Run and in everything from then on, as
// a GPU does.
type mortal struct {
	*sim.Device
	of           *mortals
	number       int
	allocs, runs int
	dead, closed bool
	busy         bool // something was enqueued since somebody waited
	leak         error
}

// mortals are the devices that a test opens as "mortal:0,1".
type mortals struct {
	which, alloc, run int // the device that fails, and its Alloc or Run, from 1; 0: none
	all               []*mortal
	early             bool // one was closed when another could still have copied from it
}

var (
	errFull = errors.New("there is no memory left")
	errDead = errors.New("it has died")
)

// register opens devices anew.
func (m *mortals) register() {
	exec.Register("mortal", func(string, exec.Precision) (exec.Accelerator, error) {
		d := &mortal{Device: sim.Open(sim.Config{}), of: m, number: len(m.all)}
		m.all = append(m.all, d)
		return d, nil
	})
}

func (m *mortal) alive(err error) error {
	if m.dead {
		return errDead
	}
	return err
}

func (m *mortal) Alloc(bytes int) (unsafe.Pointer, error) {
	if m.allocs++; m.number == m.of.which && m.allocs == m.of.alloc {
		return nil, errFull
	}
	if err := m.alive(nil); err != nil {
		return nil, err
	}
	return m.Device.Alloc(bytes)
}

func (m *mortal) Write(dst, src unsafe.Pointer, n int) error {
	return m.alive(m.Device.Write(dst, src, n))
}
func (m *mortal) Read(dst, src unsafe.Pointer, n int) error {
	return m.alive(m.Device.Read(dst, src, n))
}

func (m *mortal) Sync() error {
	m.busy = false
	return m.alive(m.Device.Sync())
}

func (m *mortal) Close() error {
	m.of.early = m.of.early || slices.ContainsFunc(m.of.all, func(d *mortal) bool { return d.busy })
	m.closed, m.leak = true, m.Device.Close()
	return m.alive(m.leak)
}

func (m *mortal) Sequence(launches []cuda.Launch) (exec.Sequence, error) {
	s, err := m.Device.Sequence(launches)
	if err = m.alive(err); err != nil {
		return nil, err
	}
	return mortalSequence{s, m}, nil
}

func (m *mortal) Loop(launches []cuda.Launch) (exec.Sequence, error) { return m.Sequence(launches) }

type mortalSequence struct {
	*sim.Sequence
	m *mortal
}

func (s mortalSequence) Run(n int) error {
	s.m.busy = true
	if s.m.runs++; s.m.number == s.m.of.which && s.m.runs == s.m.of.run {
		s.m.dead = true
	}
	if err := s.m.alive(nil); err != nil {
		return err
	}
	return s.Sequence.Run(n)
}

// A device that has no memory left, or dies, ends a training with an error that is its own: whenever that is, all
// devices are closed, nothing of theirs is left, and the folder's training goes on with others.
func TestRanksFail(t *testing.T) {
	kerneltest.Simulated(t)
	job := shardedJob(t, 2, func(j *Job) {
		j.Recipe.Batch, j.Recipe.Accumulate, j.Recipe.Recalibrate = 2, 1, 1
		j.Data.Train, j.Data.Validation = first(j.Data.Train, 4), first(j.Data.Train, 3)
		j.Net = batchNormed(t)
	})
	together := job
	together.Recipe.SyncBN = true
	drawn := cellsJob(t, func(r *SupernetRecipe) {
		r.Batch, r.Shards, r.Accumulate, r.Judged = 2, 2, 2, 0
	}, oneConvolution, otherOperations)
	drawn.Data.Train = first(drawn.Data.Train, 4)
	deps := func(dir string) Deps {
		return Deps{Dir: dir, Device: exec.Config{Device: "mortal:0,1"}, CheckpointEvery: 1}
	}
	for name, c := range map[string]struct {
		parts []float64 // of what a training does, where it fails
		train func(dir string) error
	}{
		"network": {[]float64{0, 0.3, 0.7, 1}, func(dir string) error {
			_, err := Train(t.Context(), job, deps(dir))
			return err
		}},
		"batch norms over all shards": {[]float64{0.5, 0.8}, func(dir string) error {
			_, err := Train(t.Context(), together, deps(dir))
			return err
		}},
		"supernet": {[]float64{0.5, 0.95}, func(dir string) error {
			_, err := TrainSupernet(t.Context(), drawn, deps(dir))
			return err
		}},
	} {
		dir := t.TempDir()
		var whole mortals
		whole.register()
		require.NoError(t, c.train(dir))
		want := weightsIn(t, dir)
		for which, d := range whole.all {
			for _, part := range c.parts {
				for _, dies := range []bool{false, true} {
					m, what := mortals{which: which, alloc: 1 + int(part*float64(d.allocs-1))}, errFull
					if dies {
						m.alloc, m.run, what = 0, 1+int(part*float64(d.runs-1)), errDead
					}
					t.Run(fmt.Sprint(name, which, m.alloc, m.run), func(t *testing.T) {
						dir := t.TempDir()
						m.register()
						err := c.train(dir)
						require.ErrorIs(t, err, what)
						require.Equal(t, 1, strings.Count(err.Error(), what.Error()), err)
						require.False(t, m.early)
						for _, d := range m.all {
							require.True(t, d.closed)
							require.NoError(t, d.leak)
						}
						new(mortals).register()
						require.NoError(t, c.train(dir))
						require.Equal(t, want, weightsIn(t, dir))
					})
				}
			}
		}
	}
}

func weightsIn(t *testing.T, dir string) []byte {
	text, err := os.ReadFile(filepath.Join(dir, WeightsName))
	require.NoError(t, err)
	return text
}

// A feed that finds no room on a device leaves no loader behind, which nobody else would close.
func TestFeedWithoutRoom(t *testing.T) {
	m := mortals{alloc: 8}
	m.register()
	d := openOn(t, "mortal:0", exec.FP32)
	a := d.NewArena()
	in := newInputs(a, 1, 12, 10, false, false)
	images := shapesJob(t, nil).Data
	l, err := data.NewLoader(images.Train, data.Config{Batch: 1, Transform: images.EvalTransform(32)})
	require.NoError(t, err)
	m.all[0].allocs = m.alloc - 1
	require.PanicsWithError(t, errFull.Error(), func() {
		newFeed(l, 1, portion{all: 1, each: 1}, receiver{arena: a, in: in})
	})
	_, err = l.Next(t.Context())
	require.ErrorContains(t, err, "closed")
	a.Free()
}
