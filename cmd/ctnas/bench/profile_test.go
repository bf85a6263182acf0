package bench

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// checkProfile checks what holds of every profile.
func checkProfile(t *testing.T, r Profile, name string, repeats int) {
	t.Helper()
	require.Equal(t, name, r.Name)
	require.Equal(t, repeats, r.Repeats)
	require.Positive(t, r.StepMS)
	total, count := 0.0, 0
	for _, p := range r.Parts {
		require.NotEmpty(t, p.Entry)
		require.GreaterOrEqual(t, p.MS, 0.0)
		total += p.MS
	}
	share := 0.0
	for i, s := range r.Sums {
		count += s.Count
		share += s.Share
		if i > 0 {
			require.LessOrEqual(t, s.MS, r.Sums[i-1].MS, "the longest first")
		}
	}
	require.Len(t, r.Parts, count)
	require.InDelta(t, total, r.PartsMS, 1e-9*total)
	require.InDelta(t, 1, share, 1e-9)
}

// smallStep is a step of a small network: a cell of one operation.
func smallStep(_ context.Context, e *Env) (func() error, error) {
	if _, err := e.device(); err != nil {
		return nil, err
	}
	arch, err := space.NASBench101{}.Parse("nasbench101:3:101:0")
	if err != nil {
		return nil, err
	}
	net, err := zoo.NASBench101(arch.(space.Cell), 8, 10)
	if err != nil {
		return nil, err
	}
	s, err := trainStep(e, net, e.Batch)
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := s.Run()
		return err
	}, nil
}

func TestProfileOnTheCPU(t *testing.T) {
	e := &Env{Device: exec.Config{Threads: 1}, Batch: 2}
	defer e.Close()
	c := Case{Name: "step", Setup: smallStep, Cold: true}
	r, err := e.Profile(t.Context(), c, Ceilings{}, 3)
	require.NoError(t, err)
	checkProfile(t, r, "step", 3)
	require.Nil(t, r.Parts[0].Grid, "operations have no grid")
	require.Equal(t, "update", r.Parts[len(r.Parts)-1].Program)
	require.Equal(t, "sgd", r.Parts[len(r.Parts)-1].Entry)

	c, err = Named("rollout_1")
	require.NoError(t, err)
	c.Cold = true
	_, err = e.Profile(t.Context(), c, Ceilings{}, 3)
	require.ErrorContains(t, err, "more than recorded programs")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Profile(ctx, c, Ceilings{}, 3)
	require.ErrorIs(t, err, context.Canceled)
}

// On a GPU, or on the fake driver whose kernels the simulator runs (make test-gpu-fake), each launch has a time, and
// what it moves and computes makes rates.
func TestProfileOnAGPU(t *testing.T) {
	if _, err := cuda.Devices(); err != nil {
		t.Skip(err)
	}
	e := &Env{Device: exec.Config{Device: "cuda:0", Precision: exec.BF16}, Batch: 2}
	defer e.Close()
	for _, name := range []string{"depthwise_7_960_k5s1", "conv_7_160_960_k1s1", "step"} {
		c, err := Named(name)
		if name == "step" {
			c, err = Case{Name: name, Setup: smallStep}, nil
		}
		require.NoError(t, err)
		c.Cold = true
		r, err := e.Profile(t.Context(), c, Ceilings{CopyGBps: 1, GFLOPs: 1}, 1)
		require.NoError(t, err)
		checkProfile(t, r, name, 1)
		products := 0
		for _, p := range r.Parts {
			require.NotNil(t, p.Grid)
			if p.TFLOPs != nil {
				products++
				require.Positive(t, *p.TFLOPs)
				require.NotNil(t, p.GBps)
				require.NotNil(t, p.CeilingShare)
			}
		}
		require.Equal(t, name == "step" || name == "conv_7_160_960_k1s1", products > 0)
		walls, err := e.Walls(t.Context(), c, 2)
		require.NoError(t, err)
		if name == "step" {
			require.Nil(t, walls, "its times are by the wall")
		} else {
			require.Len(t, walls, 2)
		}
		e.Release(name)
	}
}

// A case that fails frees what it had, and the next one goes on.
func TestAFailingCase(t *testing.T) {
	e := &Env{Device: exec.Config{Threads: 1}}
	defer e.Close()
	freed := 0
	_, err := e.Measure(t.Context(), Case{Name: "bad", Setup: func(_ context.Context, e *Env) (func() error, error) {
		e.close = append(e.close, func() { freed++ })
		return nil, errors.New("it cannot be set up")
	}}, Ceilings{}, 1)
	require.ErrorContains(t, err, "cannot be set up")
	require.Equal(t, 1, freed)
	_, err = e.Measure(t.Context(), Case{Name: "falls", Setup: func(_ context.Context, e *Env) (func() error, error) {
		e.close = append(e.close, func() { freed++ })
		exec.Fail(errors.New("out of memory"))
		return nil, nil
	}}, Ceilings{}, 1)
	require.ErrorContains(t, err, "out of memory")
	require.Equal(t, 2, freed)
	c, err := Named("pairlist_512")
	require.NoError(t, err)
	c.Cold = true
	_, err = e.Measure(t.Context(), c, Ceilings{}, 1)
	require.NoError(t, err)
}

func TestFill(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	for _, n := range []int{1, 7, 1 << 16, 1<<16 + 1, 5<<16 + 3} {
		b := ar.F32(n)
		fill(b)
		few := random(min(n, 1<<16), 1)
		for i, v := range b.Values() {
			if v != few[i%len(few)] {
				t.Fatalf("element %d of %d is %g, not %g", i, n, v, few[i%len(few)])
			}
		}
	}
}
