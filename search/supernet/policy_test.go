package supernet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
)

// A policy that is rewarded for one operation draws it ever more often; restored, it goes on in the same way, and its
// paths are a function of the update and of what it has learned.
func TestPolicyLearnsAndGoesOn(t *testing.T) {
	sp, err := space.Open("nasbench101-v4")
	require.NoError(t, err)
	const wanted = "conv1x1-bn-relu"
	begin := func() *supernet.Policy {
		c := controller.Default()
		c.Batch, c.LR, c.Seed = 10, 1e-3, 3
		p, err := supernet.NewPolicy(exec.Config{Device: "cpu", Threads: 1}, sp, c, 0)
		require.NoError(t, err)
		t.Cleanup(p.Close)
		return p
	}
	measured := 0
	measure := func(_ context.Context, paths []string, from, to int) (found []float64, err error) {
		require.Equal(t, from+1, to)
		for _, path := range paths {
			measured++
			shares, err := supernet.OpShares(sp, []string{path})
			if err != nil {
				return nil, err
			}
			found = append(found, shares[wanted])
		}
		return found, nil
	}
	paths := func(p *supernet.Policy) (all []string) {
		for update := range 20 {
			one, err := p.Paths(update)
			require.NoError(t, err)
			require.Len(t, one, 1)
			all = append(all, one...)
		}
		return all
	}
	p := begin()
	before := paths(p)
	require.Equal(t, before, paths(p))
	require.NoError(t, p.Learn(t.Context(), 1, measure))
	require.Less(t, measured, 300, "equal samples of an update are measured once")
	state, err := p.State()
	require.NoError(t, err)
	require.NotEqual(t, before, paths(p))
	again := begin()
	require.NoError(t, again.Restore(state))
	for epoch := 2; epoch < 5; epoch++ {
		require.NoError(t, p.Learn(t.Context(), epoch, measure))
		require.NoError(t, again.Learn(t.Context(), epoch, measure))
	}
	require.Equal(t, paths(p), paths(again))
	require.Equal(t, p.Epochs(), again.Epochs())
	first, last := p.Epochs()[0], p.Epochs()[3]
	require.Greater(t, last.Reward, first.Reward+0.1)
	require.Greater(t, last.Ops[wanted], first.Ops[wanted])
	a, err := p.Candidates(50)
	require.NoError(t, err)
	b, err := again.Candidates(50)
	require.NoError(t, err)
	require.Equal(t, a, b)
	require.Error(t, again.Restore([]byte(strings.Replace(string(state), `"drawn"`, `"none"`, 1))))
	require.Error(t, again.Restore(state[:len(state)/2]))
}

// Before it learns a policy draws anew after each epoch, and measures nothing.
func TestPolicyWaits(t *testing.T) {
	sp, err := space.Open("nasbench101-v4")
	require.NoError(t, err)
	c := controller.Default()
	c.Batch, c.Seed = 10, 3
	p, err := supernet.NewPolicy(exec.Config{Device: "cpu", Threads: 1}, sp, c, 2)
	require.NoError(t, err)
	defer p.Close()
	measured := 0
	measure := func(_ context.Context, paths []string, _, _ int) ([]float64, error) {
		measured++
		return make([]float64, len(paths)), nil
	}
	drawn := map[string]bool{}
	for epoch := range 2 {
		require.NoError(t, p.Learn(t.Context(), epoch+1, measure))
		state, err := p.State()
		require.NoError(t, err)
		drawn[string(state)] = true
	}
	require.Zero(t, measured)
	require.Len(t, drawn, 2)
	require.Empty(t, p.Epochs())
	require.NoError(t, p.Learn(t.Context(), 3, measure))
	require.Positive(t, measured)
	require.Equal(t, 3, p.Epochs()[0].Epoch)
}
