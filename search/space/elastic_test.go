package space

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Every path is a part of what its supernet shares, and the network that is trained by itself; its costs are counted
// right.
func TestPathsArePartsOfTheSupernet(t *testing.T) {
	for _, name := range []string{"mobilenetv3@w1.0,r128-224", "mobilenetv3@w1.2,r160-224", "mobilenetv3@w0.35,r32,s8",
		"mobilenetv3@w0.5,r16-64,s16", "mobilenetv3@w0.75,r32,s4"} {
		sp := open(t, name).(Elastic)
		size := NetworkSize{Classes: 10}
		shared, err := sp.Supernet(size)
		require.NoError(t, err)
		check := func(t require.TestingT, a Arch) {
			p, err := sp.Path(a, size)
			require.NoError(t, err)
			require.NoError(t, shared.Check(p))
			alone, err := a.(Trainable).Network(size)
			require.NoError(t, err)
			require.Equal(t, alone, p.Network)
			cost := p.Cost()
			require.Equal(t, Cost{cost.MAdds, cost.Params}, a.(Trainable).CostAt(size))
		}
		largest, smallest := sp.Largest(0), sp.Smallest(0)
		check(t, largest)
		check(t, smallest)
		rapid.Check(t, func(t *rapid.T) {
			s := philox.New(rapid.Uint64().Draw(t, "seed"), philox.PurposeTest, 0)
			a, err := sp.SamplePath(s, zoo.Choices{}, 0)
			require.NoError(t, err)
			check(t, a)
			cost := a.Cost()
			require.LessOrEqual(t, cost.Params, largest.Cost().Params)
			require.GreaterOrEqual(t, cost.Params, smallest.Cost().Params)
		})
		// The largest path has every parameter but the matrices.
		parameters, matrices := int64(0), int64(0)
		for _, v := range shared.Variables {
			if v.Role.Trainable() {
				parameters += int64(v.Len())
			}
			if v.Role == nn.Weight && len(v.Shape) == 2 && v.Shape[0] == v.Shape[1] {
				matrices += int64(v.Len())
			}
		}
		require.EqualValues(t, 20*(25*25+9*9), matrices)
		require.Equal(t, largest.(Trainable).CostAt(size).Params, parameters-matrices)
	}
}

// Every decision is uniform by itself: depths do not come with the number of their networks.
func TestSamplePathIsUniformByDecision(t *testing.T) {
	sp := open(t, "mobilenetv3@w1.0,r128-224").(Elastic)
	s := philox.New(1, philox.PurposeTest, 0)
	const n = 3000
	depths, kernels, sides := map[uint8]int{}, map[uint8]int{}, map[int]int{}
	for range n {
		a, err := sp.SamplePath(s, zoo.Choices{}, 0)
		require.NoError(t, err)
		m := a.(MobileNet)
		depths[m.depth[2]]++
		kernels[m.kernel[4]]++
		sides[m.Resolution()]++
	}
	for _, counts := range []map[uint8]int{depths, kernels} {
		require.Len(t, counts, 3)
		for _, count := range counts {
			require.InDelta(t, n/3, count, 4*26) // four standard deviations
		}
	}
	require.Len(t, sides, 7)
}

func TestSamplePathWithinChoices(t *testing.T) {
	sp := open(t, "mobilenetv3@w0.5,r32,s8").(Elastic)
	s := philox.New(2, philox.PurposeTest, 0)
	stage := zoo.Choices{Kernels: []int{3, 5, 7}, Depths: []int{4}, Expansions: []int{6}}
	for range 50 {
		a, err := sp.SamplePath(s, stage, 28)
		require.NoError(t, err)
		m := a.(MobileNet)
		require.Equal(t, 28, m.Resolution())
		require.Equal(t, []int{4, 4, 4, 4, 4}, m.Depths())
		for _, e := range m.Expansions() {
			require.Equal(t, 6, e)
		}
	}
	require.Equal(t, 28, sp.Largest(28).(MobileNet).Resolution())
	for _, c := range []zoo.Choices{{Kernels: []int{3, 4}}, {Depths: []int{1}}, {Expansions: []int{262}}} {
		_, err := sp.SamplePath(s, c, 0)
		require.ErrorContains(t, err, "is no choice of mobilenetv3")
	}
}

func TestPathOutsideTheSupernet(t *testing.T) {
	sp := open(t, "mobilenetv3@w0.5,r32-64,s8").(Elastic)
	body := "mobilenetv3:22222:33003300330033003300:66006600660066006600@"
	for suffix, want := range map[string]string{"w1.0,r48,s8": "width is 1.0", "w0.5,r48": "stride is 32",
		"w0.5,r28,s8": "resolution is 28, want 32 to 64", "w0.5,r96,s8": "resolution is 96"} {
		a, err := sp.Parse(body + suffix)
		require.NoError(t, err)
		_, err = sp.Path(a, NetworkSize{})
		require.ErrorContains(t, err, a.String()+" is not in the supernet of mobilenetv3@w0.5,r32-64,s8")
		require.ErrorContains(t, err, want)
	}
	_, err := sp.Path(open(t, "nasbench101-v4").Sample(philox.New(1, philox.PurposeTest, 0)), NetworkSize{})
	require.ErrorContains(t, err, "not in the supernet")
}
