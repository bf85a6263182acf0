package space

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

// enumerated is the whole space, listed once for all tests.
var enumerated = sync.OnceValues(func() ([]hashedCell, error) {
	return enumerate(context.Background(), maxVertices, nil)
})

func all(t testing.TB) []hashedCell {
	t.Helper()
	list, err := enumerated()
	require.NoError(t, err)
	return list
}

// Values published by the data set's authors (README, NASBench.ipynb) or computed with their code.
func TestPublishedCells(t *testing.T) {
	for _, c := range []struct {
		text, hash string
		cost       Cost
	}{
		{"nasbench101:2:1:", "043721b9c7fe8c5fad811d47d83132ec", Cost{137761792, 882570}},
		{"nasbench101:3:101:0", "b49ac8c578b4561d79ac7087988f1c61", Cost{1496716288, 10177674}},
		{"nasbench101:resnet", "b5fb4f6193360330b6ff6a52cbf0cad7", Cost{2989888512, 20346506}},
		{"nasbench101:inception", "28cfc7874f6d200472e1a9dcd8650aa0", Cost{402002944, 2694282}},
		{"nasbench101:best", "02e5a0247bbdcf2860b7e96f74961594", Cost{4768273408, 32426634}},
	} {
		cell := parse(t, c.text)
		require.Equal(t, c.hash, cell.Hash(), c.text)
		require.Equal(t, c.cost, cell.Cost(), c.text)
	}
	require.Equal(t, "nasbench101:7:110011000101000100101:10200", parse(t, "nasbench101:best").String())
	// The order that the data set stores for the README's cell, which its notebook prints.
	require.Equal(t, "nasbench101:7:111100000010001001101:01200", parse(t, "nasbench101:inception").String())

	// The best cell as its author wrote it, with the operations in that order.
	best, err := NewCell([][]int{{0, 1, 0, 0, 1, 1, 1}, {0, 0, 1, 0, 0, 0, 0}, {0, 0, 0, 1, 0, 0, 0},
		{0, 0, 0, 0, 0, 1, 0}, {0, 0, 0, 0, 0, 1, 0}, {0, 0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0}},
		[]string{"input", "conv3x3-bn-relu", "maxpool3x3", "conv3x3-bn-relu", "conv1x1-bn-relu",
			"conv3x3-bn-relu", "output"})
	require.NoError(t, err)
	require.Equal(t, parse(t, "nasbench101:best"), best)
}

func TestChannels(t *testing.T) {
	d := parse(t, "nasbench101:inception").unpack()
	require.Equal(t, [maxVertices]int64{0, 32, 32, 32, 32, 32, 128}, d.channels(128))
	// Three vertices share 128 channels as 43, 43, 42; the vertex before them has as many as the largest it feeds.
	d = parse(t, "nasbench101:6:100001110001011:0000").unpack()
	require.Equal(t, [maxVertices]int64{0, 43, 43, 43, 42, 128}, d.channels(128))
}

func TestOpen(t *testing.T) {
	s, err := Open("nasbench101")
	require.NoError(t, err)
	require.Equal(t, "nasbench101", s.Name())
	require.Equal(t, 7, s.MaxNodes())
	require.Equal(t, []string{"input", "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3", "output"}, s.Alphabet())
	_, err = Open("nasbench102")
	require.ErrorContains(t, err, "nasbench101")
}

func TestEnumeration(t *testing.T) {
	testdata.SkipUnlessAll(t, "a look at every one of 423,624 cells")
	list := all(t)
	require.Len(t, list, nasbench101Sizes[maxVertices])
	byVertices := map[int]int{}
	seen := make(map[Cell]bool, len(list))
	var previous digest
	for _, c := range list {
		byVertices[c.cell.Vertices()]++
		seen[c.cell] = true
		if bytes.Compare(previous[:], c.hash[:]) >= 0 {
			require.Fail(t, "hashes are not in strictly ascending order")
		}
		previous = c.hash
	}
	require.Len(t, seen, nasbench101Sizes[maxVertices])
	require.Equal(t, map[int]int{2: 1, 3: 6, 4: 84, 5: 2441, 6: 62010, 7: 359082}, byVertices)
	require.Equal(t, 1293208, labelledCells(maxVertices))
}

func TestAllReportsAndStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls, last := 0, 0
	_, err := NASBench101{}.All(ctx, func(done, total int) {
		require.Equal(t, nasbench101Sizes[maxVertices], total)
		require.GreaterOrEqual(t, done, last)
		last = done
		if calls++; calls == 2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, last, nasbench101Sizes[maxVertices])
	require.GreaterOrEqual(t, calls, 2)
}

// Every row of the data set: the canonical form is the form that it publishes, and so are the order, the hash and the
// costs.
func TestAllEqualsTheDataSet(t *testing.T) {
	testdata.SkipUnlessAll(t, "423,624 hashes, one after the other")
	file, err := os.Open(testdata.Path(t, "nasbench101/nb101_run0.csv.gz"))
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(unzipped)
	require.True(t, lines.Scan())
	require.Equal(t, "index,hash,n,adj,ops,test_correct_of_9984,params,flops", lines.Text())
	list := all(t)
	rows := 0
	for ; lines.Scan(); rows++ {
		f := strings.Split(lines.Text(), ",")
		cell := list[rows].cell
		params, err := strconv.ParseInt(f[6], 10, 64)
		require.NoError(t, err)
		flops, err := strconv.ParseInt(f[7], 10, 64)
		require.NoError(t, err)
		// The flops column counts, beside the multiply-accumulates, two operations for each output of a batch norm.
		normalised := int64(0)
		cell.convolutions(cellMacro{imageSide, stemChannels, stacks, cellsPerStack, classes},
			func(_, _, out, side int64) { normalised += out * side * side })
		text := "nasbench101:" + f[2] + ":" + f[3] + ":" + f[4]
		if cell.String() != text || cell.Cost() != (Cost{flops - 2*normalised, params}) {
			require.Equal(t, text, cell.String())
			require.Equal(t, Cost{flops - 2*normalised, params}, cell.Cost(), text)
		}
		if hash := hex.EncodeToString(list[rows].hash[:]); hash != f[1] {
			require.Equal(t, f[1], hash, text)
		}
	}
	require.NoError(t, lines.Err())
	require.Equal(t, nasbench101Sizes[maxVertices], rows)
}

func TestGrammar(t *testing.T) {
	g := NASBench101{}.Grammar()
	require.Equal(t, []Head{{"nodes", 5}, {"node", 7}, {"op", 3}}, g.Heads)
	require.Equal(t, 18, g.MaxSteps())
	for first := range g.First.Choices {
		steps := g.Steps(first)
		require.Len(t, steps, 18)
		for _, s := range steps {
			require.LessOrEqual(t, s.Choices, g.Heads[s.Head].Choices)
		}
	}
	for _, bad := range [][]int{nil, {5}, {0, 0}, append([]int{0, 0, 3}, make([]int, 15)...),
		append([]int{0, 1}, make([]int, 16)...)} {
		_, err := NASBench101{}.Decode(bad)
		require.Error(t, err)
	}
}

// A sequence by hand: three vertices, 0-1 conv1x1, 0-2 maxpool, 2-3 conv3x3, output from 3, and of the five pairs
// 4-1 (an edge to the output from vertex 1), 2-1 and three without effect.
func TestDecodeOneSequence(t *testing.T) {
	a, err := NASBench101{}.Decode([]int{2, 0, 1, 0, 2, 2, 0, 3, 4, 1, 2, 1, 0, 0, 3, 3, 0, 1})
	require.NoError(t, err)
	want, err := NewCell([][]int{{0, 1, 1, 0, 0}, {0, 0, 1, 0, 1}, {0, 0, 0, 1, 0}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}},
		[]string{"input", "conv1x1-bn-relu", "maxpool3x3", "conv3x3-bn-relu", "output"})
	require.NoError(t, err)
	require.Equal(t, want, a)
}

func TestEverySequenceDecodes(t *testing.T) {
	g := NASBench101{}.Grammar()
	rapid.Check(t, func(t *rapid.T) {
		actions := []int{rapid.IntRange(0, g.First.Choices-1).Draw(t, "first")}
		for _, s := range g.Steps(actions[0])[1:] {
			actions = append(actions, rapid.IntRange(0, s.Choices-1).Draw(t, "decision"))
		}
		a, err := NASBench101{}.Decode(actions)
		require.NoError(t, err)
		cell, err := UnpackCell(uint64(a.(Cell)))
		require.NoError(t, err)
		require.LessOrEqual(t, cell.Vertices(), actions[0]+3)
	})
}

func TestEncodeInvertsForEveryCell(t *testing.T) {
	testdata.SkipUnlessAll(t, "lists 423,624 cells")
	for _, c := range all(t) {
		actions, err := NASBench101{}.Encode(c.cell)
		require.NoError(t, err)
		decoded, err := NASBench101{}.Decode(actions)
		if err != nil || decoded != Arch(c.cell) {
			require.NoError(t, err)
			require.Equal(t, c.cell.String(), decoded.String())
		}
	}
	_, err := NASBench101{}.Encode(nil)
	require.Error(t, err)
}

// chiSquare measures how far counts are from the expected ones; with k classes it is about k-1 with standard deviation
// sqrt(2(k-1)).
func chiSquare(t *testing.T, got []int, expected []float64) float64 {
	t.Helper()
	x := 0.0
	for i, e := range expected {
		require.Greater(t, e, 20.0, "class %d is too small to judge", i)
		x += (float64(got[i]) - e) * (float64(got[i]) - e) / e
	}
	return x
}

// Were cells drawn as often as they have numberings, the classes by that number would be far off; were some region of
// the space favoured, the classes by hash would.
func TestSampleIsUniform(t *testing.T) {
	testdata.SkipUnlessAll(t, "200,000 draws, one after the other")
	const draws = 200000
	numberings := make(map[Cell]int, nasbench101Sizes[maxVertices])
	for i := range labelledCells(maxVertices) {
		d := labelled(i)
		numberings[d.canonical()]++
	}
	class := func(c Cell) int { return min(numberings[c], 13) - 1 }
	bySize, byNumberings, byCell := make([]int, 3), make([]int, 13), make([]int, 256)
	expectSize, expectNumberings, expectCell := make([]float64, 3), make([]float64, 13), make([]float64, 256)
	size := func(c Cell) int { return max(c.Vertices(), 5) - 5 }
	bucket := func(c Cell) int { return int(uint64(c) * 0x9E3779B97F4A7C15 >> 56) }
	for _, c := range all(t) {
		expectSize[size(c.cell)] += float64(draws) / float64(nasbench101Sizes[maxVertices])
		expectNumberings[class(c.cell)] += float64(draws) / float64(nasbench101Sizes[maxVertices])
		expectCell[bucket(c.cell)] += float64(draws) / float64(nasbench101Sizes[maxVertices])
	}
	s := philox.New(5, philox.PurposeTest, 0)
	for range draws {
		c := NASBench101{}.Sample(s).(Cell)
		require.Positive(t, numberings[c])
		bySize[size(c)]++
		byNumberings[class(c)]++
		byCell[bucket(c)]++
	}
	require.Less(t, chiSquare(t, bySize, expectSize), 14.0)                    // 2 degrees of freedom: p = 0.001
	require.Less(t, chiSquare(t, byNumberings, expectNumberings), 33.0)        // 12: p = 0.001
	require.Less(t, chiSquare(t, byCell, expectCell), 330.0)                   // 255: p = 0.001
	require.Greater(t, chiSquare(t, byCell, expectCell), 190.0, "too regular") // 255: p = 0.999
}

func TestSampleIsAFunctionOfItsStream(t *testing.T) {
	a, b := philox.New(9, philox.PurposeSample, 2), philox.New(9, philox.PurposeSample, 2)
	for range 100 {
		require.Equal(t, NASBench101{}.Sample(a), NASBench101{}.Sample(b))
	}
}

func TestMutate(t *testing.T) {
	s := philox.New(6, philox.PurposeTest, 0)
	again := philox.New(6, philox.PurposeTest, 0)
	sizes := map[int]bool{}
	var small Arch = parse(t, "nasbench101:2:1:")
	for _, start := range []Arch{small, parse(t, "nasbench101:best")} {
		for range 5000 {
			child := NASBench101{}.Mutate(start, s)
			require.NotEqual(t, start, child)
			require.Equal(t, child, NASBench101{}.Mutate(start, again))
			_, err := UnpackCell(uint64(child.(Cell)))
			require.NoError(t, err)
			sizes[child.(Cell).Vertices()] = true
		}
	}
	require.Len(t, sizes, 6)
}

// Growing a cell to seven vertices adds nothing that pruning would keep.
func TestGrowIsUndoneByPruning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, _ := drawCell(t)
		cell := d.canonical()
		g := cell.grow(maxVertices, philox.New(rapid.Uint64().Draw(t, "seed"), philox.PurposeTest, 0))
		require.Equal(t, maxVertices, g.n)
		again, err := g.cell()
		require.NoError(t, err)
		require.Equal(t, cell, again)
	})
}
