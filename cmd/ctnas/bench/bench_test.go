package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// small is an environment with a table of a few cells.
func small(t *testing.T) *Env {
	var csv strings.Builder
	csv.WriteString("arch,accuracy\n")
	seen := map[space.Arch]bool{}
	s := philox.New(1, philox.PurposeTest, 0)
	for len(seen) < 700 {
		if a := (space.NASBench101{}).Sample(s); !seen[a] {
			seen[a] = true
			fmt.Fprintf(&csv, "%s,0.9\n", a)
		}
	}
	path := filepath.Join(t.TempDir(), "cells.csv")
	require.NoError(t, os.WriteFile(path, []byte(csv.String()), 0o644))
	e := &Env{Device: exec.Config{Threads: 1}, Open: func() (*table.Table, table.Query, error) {
		t, err := table.Open(t.Context(), path, table.Options{})
		return t, table.Query{}, err
	}}
	t.Cleanup(e.Close)
	return e
}

func TestEveryCaseRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("one case after the other, on one thread")
	}
	e := small(t)
	names := map[string]bool{}
	repeats := 1
	if testdata.All() {
		repeats = 2
	}
	for _, c := range Cases() {
		require.NotEmpty(t, c.Shape, c.Name)
		require.False(t, names[c.Name], "%s stands there twice", c.Name)
		names[c.Name] = true
		if c.Long || c.Name == "rank_from_cached_table" {
			continue // each takes many seconds and is tested where it is at home
		}
		if strings.HasPrefix(c.Name, "train_") && c.Name != "train_nb101_small" && !testdata.All() {
			continue // the smallest of them tests what they have in common, in a tenth of the time
		}
		c.Cold = true // no warming up
		times, err := e.Times(t.Context(), c, repeats)
		require.NoError(t, err, c.Name)
		require.Len(t, times, repeats)
		for _, ms := range times {
			require.Positive(t, ms)
		}
	}
	// The names that scripts/peers asks for.
	for _, name := range []string{
		"nac_step_released_256", "nac_step_released_256_plain", "encode_space_released",
		"encode_space_released_unshared", "rank_space_released", "controller_iteration",
		"search_released_schedule", "train_nb101_best", "train_nb101_inception", "train_nb101_small",
		"train_mobilenetv3_large", "train_mobilenetv2_1.4", "supernet_ofa_step", "supernet_ofa_label",
		"supernet_darts_step", "jpeg_rrc224",
	} {
		require.True(t, names[name], name)
	}
}

func TestMeasure(t *testing.T) {
	e := &Env{}
	defer e.Close()
	calls := 0
	c := Case{Name: "count", Shape: "one", FLOPs: 100, Bytes: 200, Cold: true,
		Setup: func(context.Context, *Env) (func() error, error) {
			return func() error { calls++; return nil }, nil
		}}
	r, err := e.Measure(t.Context(), c, Ceilings{CopyGBps: 10, GFLOPs: 50}, time.Nanosecond)
	require.NoError(t, err)
	require.Equal(t, 3, calls)
	require.Equal(t, 3, r.Repeats)
	require.LessOrEqual(t, r.MinMS, r.MedianMS)
	require.InDelta(t, 2**r.GFLOPs, *r.GBps, 1e-9**r.GBps)
	require.InDelta(t, *r.GBps/10, *r.CeilingShare, 1e-9**r.GBps, "the larger of the two shares")

	_, err = e.Measure(t.Context(), Case{Name: "whole", Setup: func(_ context.Context, e *Env) (func() error, error) {
		_, err := e.labels()
		return nil, err
	}}, Ceilings{}, 1)
	require.ErrorIs(t, err, ErrNoTable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Measure(ctx, c, Ceilings{}, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestServe(t *testing.T) {
	e := &Env{Device: exec.Config{Threads: 1}}
	defer e.Close()
	var out bytes.Buffer
	require.NoError(t,
		e.Serve(t.Context(),
			strings.NewReader("pairlist_512 3\nnobody 1\npairlist_512 0\npairlist_512\nrank_space_released "+
				"1\npairlist_512 1\n"), &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 6)
	var answers []answer
	for _, line := range lines {
		var a answer
		require.NoError(t, json.Unmarshal([]byte(line), &a))
		answers = append(answers, a)
	}
	require.Len(t, answers[0].MS, 3)
	require.Contains(t, answers[1].Error, `"nobody"`)
	require.Contains(t, answers[2].Error, "how often")
	require.Contains(t, answers[3].Error, "how often")
	require.Contains(t, answers[4].Error, "needs a table")
	require.Len(t, answers[5].MS, 1)
}

func TestCeilings(t *testing.T) {
	e := &Env{Device: exec.Config{Threads: 1}}
	defer e.Close()
	c, err := e.Ceilings()
	require.NoError(t, err)
	require.Positive(t, c.CopyGBps)
	require.Positive(t, c.GFLOPs)
}
