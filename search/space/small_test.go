package space

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// smallSpaces are those of few enough cells to look at each.
var smallSpaces = []NASBench101{{3}, {4}, {5}}

// A space of small cells lists just those, samples them uniformly, reaches them by mutation and by its grammar, and
// refuses others.
func TestSmallSpaces(t *testing.T) {
	for _, sp := range smallSpaces {
		t.Run(sp.Name(), func(t *testing.T) {
			opened, err := Open(sp.Name())
			require.NoError(t, err)
			require.Equal(t, Space(sp), opened)
			list, err := sp.All(t.Context(), func(done, total int) {
				require.LessOrEqual(t, done, total)
				require.Equal(t, nasbench101Sizes[sp.Vertices], total)
			})
			require.NoError(t, err)
			require.Len(t, list, map[int]int{3: 7, 4: 91, 5: 2532}[sp.Vertices])
			index := map[Arch]int{}
			for i, a := range list {
				index[a] = i
				require.LessOrEqual(t, a.(Cell).Vertices(), sp.Vertices)
				if i > 0 {
					require.Less(t, list[i-1].Hash(), a.Hash())
				}
				parsed, err := sp.Parse(a.String())
				require.NoError(t, err)
				require.Equal(t, a, parsed)
				actions, err := sp.Encode(a)
				require.NoError(t, err)
				require.NoError(t, sp.Grammar().Check(actions))
				decoded, err := sp.Decode(actions)
				require.NoError(t, err)
				require.Equal(t, a, decoded)
			}
			require.Len(t, index, len(list))

			s := philox.New(12, philox.PurposeTest, uint32(sp.Vertices))
			drawn, expected := make([]int, len(list)), make([]float64, len(list))
			for range 40 * len(list) {
				i, listed := index[sp.Sample(s)]
				require.True(t, listed)
				drawn[i]++
			}
			for i := range expected {
				expected[i] = 40
			}
			df := float64(len(list) - 1)
			require.InDelta(t, df, chiSquare(t, drawn, expected), 4*math.Sqrt(2*df), "four standard deviations")
			met := map[Arch]bool{}
			at := list[0]
			for range 60 * len(list) {
				child := sp.Mutate(at, s)
				_, listed := index[child]
				if !listed || child == at { // testify's own would search the map for it
					t.Fatalf("%s became %s", at, child)
				}
				met[child], at = true, child
			}
			require.Greater(t, len(met), len(list)*3/4, "a walk by mutation gets about")
		})
	}
	sp := NASBench101{5}
	_, err := sp.Parse("nasbench101:best")
	require.ErrorContains(t, err, "7 vertices, the space nasbench101-v5 has at most 5")
	_, err = sp.Encode(parse(t, "nasbench101:best"))
	require.ErrorContains(t, err, "not a cell of nasbench101-v5")
	require.False(t, sp.Contains(parse(t, "nasbench101:inception")))
	require.True(t, sp.Contains(parse(t, "nasbench101:resnet")))
	require.True(t, NASBench101{}.Contains(parse(t, "nasbench101:best")))
	require.Subset(t, Names(), []string{"nasbench101", "nasbench101-v3", "nasbench101-v4", "nasbench101-v5",
		"nasbench101-v6"})
}

// Every sequence that a small space's grammar allows is a cell of the space.
func TestSequencesOfSmallSpaces(t *testing.T) {
	for _, sp := range []NASBench101{{3}, {4}, {5}, {6}} {
		s := philox.New(13, philox.PurposeTest, uint32(sp.Vertices))
		g := sp.Grammar()
		for range 2000 {
			actions := []int{s.Intn(g.First.Choices)}
			for _, step := range g.Variants[actions[0]] {
				actions = append(actions, s.Intn(step.Choices))
			}
			a, err := sp.Decode(actions)
			require.NoError(t, err)
			require.True(t, sp.Contains(a))
		}
		require.Equal(t, 2*sp.edges(), g.MaxSteps())
	}
}
