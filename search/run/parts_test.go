package run

import (
	"bytes"
	"context"
	"encoding/gob"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

func TestOtherSource(t *testing.T) {
	line := "table a" + sourceImages + "i" + sourceLatency + "b" + sourceSpace + "c"
	for other, want := range map[string]string{
		"table d" + sourceImages + "j" + sourceLatency + "b" + sourceSpace + "c": "the images that its labels were " +
			"trained on have changed: i; now: j",
		"table d" + sourceImages + "i" + sourceLatency + "b" + sourceSpace + "c": "its labels came from other data: " +
			"table a; now: table d",
		"table a" + sourceImages + "i" + sourceLatency + "d" + sourceSpace + "c": "its latencies came from another " +
			"table: b; now: d",
		"table a" + sourceImages + "i" + sourceSpace + "c": "its latencies came from another " +
			"table: b; now: none",
		"table a" + sourceImages + "i" + sourceLatency + "b" + sourceSpace +
			"d": "its space came from another file: c; now: d",
	} {
		require.Equal(t, want, otherSource(line, other))
	}
}

// A checkpoint that tells of much and holds little takes little to refuse.
func TestCheckpointsAreNotBelieved(t *testing.T) {
	for name, fields := range map[string][]byte{
		"a message of 900 MB":  append([]byte{0xfc, 0x35, 0xa4, 0xe9, 0x00}, make([]byte, 100)...),
		"messages without end": bytes.Repeat([]byte{1, 0}, 1<<20),
	} {
		data := checkpoint.Seal(checkpointMagic, fields)
		var err error
		got := testdata.Allocated(func() { _, err = decodeSnapshot(data) })
		require.ErrorContains(t, err, "damaged checkpoint", name)
		require.Less(t, got, uint64(64<<20), name)
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	whole, err := (&snapshot{Version: "1", Round: 2, State: []byte("x")}).encode()
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(checkpointMagic))
	var plain bytes.Buffer
	require.NoError(f,
		gob.NewEncoder(&plain).Encode(&snapshot{Version: "1", State: []byte("ab"),
			Seconds: map[string]float64{"x": 1}}))
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, []byte(checkpointMagic)) { // the fields of a whole one
			data = checkpoint.Seal(checkpointMagic, data)
		}
		var s *snapshot
		var err error
		// encoding/gob makes room for 10 MiB of a list before it has seen any of it.
		got := testdata.Allocated(func() { s, err = decodeSnapshot(data) })
		require.LessOrEqual(t, got, uint64(64<<20+4096*len(data)))
		if err != nil {
			return
		}
		again, err := s.encode()
		require.NoError(t, err)
		_, err = decodeSnapshot(again)
		require.NoError(t, err)
	})
}

func TestPareto(t *testing.T) {
	archs := slices.Clone(runtest.Archs()[:6])
	slices.SortFunc(archs, func(a, b space.Arch) int { return int(a.Cost().MAdds - b.Cost().MAdds) })
	var labels []ledger.Label
	for i, v := range []float64{0.5, 0.4, 0.6, 0.6, 0.55, 0.9} {
		labels = append(labels, ledger.Label{Arch: archs[i], Value: v, Score: v})
	}
	slices.Reverse(labels)
	var r Result
	r.Front("", labels, ledger.Facts{}, space.Limits{})
	require.Equal(t, []string{archs[0].String(), archs[2].String(), archs[5].String()}, r.Pareto)
	require.Equal(t, space.CostMAdds, r.ParetoCost)
}

// twice is a method that asks for two labels.
type twice struct{}

func (twice) Name() string { return "twice" }
func (twice) Run(ctx context.Context, r *Run) error {
	for round := range 2 {
		candidate := ledger.Request{Arch: runtest.Archs()[round], Proposer: "list"}
		if _, err := r.Buy(ctx, round, []ledger.Request{candidate}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// What results depend on is the processor's level too, and the program's version: elsewhere nothing is gone on with.
func TestACheckpointOfAnotherLevelIsRefused(t *testing.T) {
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.Budget = 2
	ctx, cancel := context.WithCancel(t.Context())
	d := Deps{Space: runtest.Space, Source: runtest.NewSource(), Dir: t.TempDir(), Program: Program{Version: "test"}}
	d.Progress = func(Progress) { cancel() }
	_, err = With(ctx, twice{}, c, d)
	require.ErrorIs(t, err, ErrInterrupted)
	snap, err := readSnapshot(d.Dir)
	require.NoError(t, err)
	level := snap.Level
	write := func() {
		data, err := snap.encode()
		require.NoError(t, err)
		require.NoError(t, checkpoint.Write(d.Dir, data))
	}
	snap.Level = "avx4096"
	write()
	_, err = With(t.Context(), twice{}, c, d)
	require.ErrorContains(t, err, "it was begun on avx4096, elsewhere the results would differ")
	snap.Level, snap.Version = level, "older"
	write()
	_, err = With(t.Context(), twice{}, c, d)
	require.ErrorContains(t, err, "begun by version older, this is test")
	snap.Version = "test"
	write()
	r, err := With(t.Context(), twice{}, c, d)
	require.NoError(t, err)
	require.Equal(t, 2, r.LabelsUsed)
	require.Len(t, d.Source.(*runtest.Source).Asked, 2)
}
