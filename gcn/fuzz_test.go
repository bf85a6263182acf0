package gcn

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// small is an untrained comparator of a preset.
func small(t testing.TB, preset string) *Comparator {
	c, err := Preset(preset)
	require.NoError(t, err)
	c.Width, c.FeatureWidth, c.HeadWidth = 4, 4, 4
	n := &Comparator{Config: c, Alphabet: 5}
	if c.Features {
		n.Scale = Standard{Mean: make([]float32, 3), SD: []float32{1, 1, 1}}
	}
	n.Weights, n.Spread = [][]float32{make([]float32, n.layout().size)}, []Spread{{0, 1}}
	return n
}

// FuzzComparator reads what claims to be a comparator with the right checksum: it is refused, or all that its sizes say
// is there.
func FuzzComparator(f *testing.F) {
	for _, preset := range []string{"default", "paper", "released"} {
		blob, err := small(f, preset).MarshalBinary()
		require.NoError(f, err)
		f.Add(blob[len(comparatorMagic)+4:])
	}
	for _, spoil := range []func(c *Comparator){
		func(c *Comparator) { c.Config.Kind = "x" },
		func(c *Comparator) { c.Config.Kind, c.Config.Layers = LayeredGCN, 1<<50 },
		func(c *Comparator) { c.Config.Width = -4 },
		func(c *Comparator) { c.Config.Width, c.Alphabet = 1<<40, 1<<40 },
		func(c *Comparator) { c.Scale.SD = nil },
		func(c *Comparator) { c.Spread = nil },
	} {
		c := small(f, "default")
		spoil(c)
		blob, err := c.MarshalBinary()
		require.NoError(f, err)
		require.Error(f, new(Comparator).UnmarshalBinary(blob))
		f.Add(blob[len(comparatorMagic)+4:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		data := binary.LittleEndian.AppendUint32([]byte(comparatorMagic), crc32.ChecksumIEEE(body))
		data = append(data, body...)
		var c Comparator
		var err error
		// encoding/gob makes room for 10 MiB of a list before it has seen any of it.
		got := testdata.Allocated(func() { err = c.UnmarshalBinary(data) })
		require.LessOrEqual(t, got, uint64(48<<20+256*len(data)))
		if err != nil {
			require.Empty(t, c.Weights)
			return
		}
		again, err := c.MarshalBinary()
		require.NoError(t, err)
		require.NoError(t, new(Comparator).UnmarshalBinary(again))
	})
}

// FuzzTrees reads the trees that a converted table holds: what is accepted may be followed by kernels, which check no
// index.
func FuzzTrees(f *testing.F) {
	graphs := randomGraphs(3, 5)
	seed := func(n Network) {
		name, blob, err := NewSpace(5, Slice(graphs), nil).Trees(f.Context(), n)
		require.NoError(f, err)
		require.NotEmpty(f, name)
		f.Add(blob)
		f.Add(append(blob[:len(blob)-4:len(blob)-4], 0xff, 0xff, 0xff, 0x7f))
	}
	for _, preset := range []string{"default", "paper", "released"} {
		c, err := Preset(preset)
		require.NoError(f, err)
		seed(c.Network)
	}
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var forests []*Forest
		var err error
		testdata.WithinFactor(t, len(data), 64, func() {
			forests, err = NewSpace(5, Slice(graphs), nil).parseTrees("x", data)
		})
		if err != nil {
			return
		}
		for _, x := range forests {
			require.Equal(t, len(graphs), x.Graphs())
			rows := int32(x.Rows())
			for l := range x.Levels() {
				begin, end := x.Level(l)
				for r := begin; r < end; r++ {
					require.True(t, x.Label[r] >= 0 && x.Label[r] <= 5)
					for _, below := range x.Idx[x.Ptr[r]:x.Ptr[r+1]] {
						require.True(t, below >= 0 && int(below) < begin, "a row aggregates one that is not below it")
					}
				}
			}
			for _, r := range x.ReadIdx {
				require.True(t, r >= 0 && r < rows)
			}
		}
	})
}
