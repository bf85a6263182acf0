package space

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// randomTimes draws times of a space's parts, of some ten microseconds.
func randomTimes(t *testing.T, sp Composed, s *philox.Stream) *Times {
	t.Helper()
	ns := make([]int64, len(sp.Parts()))
	for i := range ns {
		ns[i] = 1000 + int64(s.Intn(20000))
	}
	times, err := NewTimes(sp, ns)
	require.NoError(t, err)
	return times
}

func TestPartsHaveTheirOwnNames(t *testing.T) {
	for _, name := range []string{"mobilenetv3@w1.2,r160-224", "spos", "fairnas@w0.25,r32,s8",
		"file:../../docs/examples/nb201-like.yaml",
		"file:../../docs/examples/blocks.yaml"} {
		sp, err := Open(name)
		require.NoError(t, err)
		seen := map[string]bool{}
		for _, p := range sp.(Composed).Parts() {
			require.False(t, seen[p], p)
			seen[p] = true
			require.NotRegexp(t, `[ ,"#]`, p)
		}
	}
}

// The sections of a network are those of its parts, and each does the work of its part: between architectures, sections
// of the same part have the same layers, and all together the multiply-adds of their block, which the space counts.
func TestSectionsAreTheParts(t *testing.T) {
	for _, name := range []string{"mobilenetv3", "mobilenetv3@w1.2,r176-208", "mobilenetv3@w1.0,r132",
		"mobilenetv3@w0.5,r32,s8", "spos", "fairnas", "spos@w0.25,r32,s8"} {
		sp, err := Open(name)
		require.NoError(t, err)
		m := sp.(Measurable)
		s := philox.New(3, philox.PurposeTest, 0)
		work := map[int]string{}
		covered := m.Cover(s)
		for range 20 {
			covered = append(covered, sp.Sample(s))
		}
		for _, a := range covered {
			net, section, part, err := m.Dissect(a)
			require.NoError(t, err)
			require.True(t, slices.IsSorted(section))
			require.Equal(t, len(part)-1, section[len(section)-1])
			var want []int
			require.True(t, m.EachPart(a, func(p int) { want = append(want, p) }))
			require.ElementsMatch(t, want, part)
			layers := make([]string, len(part))
			for i, node := range net.Nodes {
				layers[section[i]] += fmt.Sprint(node.Op, node.Shape, "; ")
			}
			for k, p := range part {
				require.NotEmpty(t, layers[k])
				if work[p] == "" {
					work[p] = layers[k]
				}
				require.Equal(t, work[p], layers[k], m.Parts()[p])
			}
		}
		require.Equal(t, len(m.Parts()), len(work), "every part was met")
		kinds := map[string]bool{}
		for _, w := range work {
			kinds[w] = true
		}
		if len(sp.(Resizing).Resolutions()) == 1 { // between resolutions sides are rounded to the same
			require.Equal(t, len(work), len(kinds), "no two parts are the same layers")
		}
		other, err := Open("mobilenetv3@w1.0,r64")
		require.NoError(t, err)
		_, _, _, err = m.Dissect(other.Sample(s))
		require.ErrorContains(t, err, "is no architecture of")
	}
}

func TestTimesAddUpByHand(t *testing.T) {
	sp, err := Open("mobilenetv3@w1.2,r208-224")
	require.NoError(t, err)
	m := sp.(MobileNetV3)
	times := randomTimes(t, m, philox.New(1, philox.PurposeTest, 0))
	at := map[string]int64{}
	for i, p := range m.Parts() {
		at[p] = times.parts[i]
	}
	a, err := sp.Parse("mobilenetv3:22322:33005700357033003500:34006300634066003400@w1.2,r208")
	require.NoError(t, err)
	want := int64(0)
	for _, p := range []string{"stem", "head", "unit1/first/k3/e3", "unit1/other/k3/e4", "unit2/first/k5/e6",
		"unit2/other/k7/e3", "unit3/first/k3/e6", "unit3/other/k5/e3", "unit3/other/k7/e4", "unit4/first/k3/e6",
		"unit4/other/k3/e6", "unit5/first/k3/e3", "unit5/other/k5/e4"} {
		want += at["w1.2/r208/"+p]
	}
	got, known := times.Of(a)
	require.True(t, known)
	require.Equal(t, want, got)

	for _, other := range []string{"@w1.0,r208", "@w1.2,r192"} {
		b, err := sp.Parse(strings.Replace(a.String(), "@w1.2,r208", other, 1))
		require.NoError(t, err)
		_, known = times.Of(b)
		require.False(t, known, other)
		require.False(t, Limits{Latency: math.MaxInt64, Times: times}.Allow(b))
		require.Nil(t, times.Milliseconds(b))
	}

	sp, err = Open("file:../../docs/examples/blocks.yaml")
	require.NoError(t, err)
	chain := sp.(Composed)
	times = randomTimes(t, chain, philox.New(2, philox.PurposeTest, 0))
	for i, p := range chain.Parts() {
		at[p] = times.parts[i]
	}
	a, err = sp.Parse("blocks:conv5x5|k3e3+k3e3+k5e6|k3e6|skip")
	require.NoError(t, err)
	got, known = times.Of(a)
	require.True(t, known)
	require.Equal(t, at["fixed"]+at["stem/conv5x5"]+2*at["stage1/k3e3"]+at["stage1/k5e6"]+at["stage2/k3e6"], got)

	_, known = (*Times)(nil).Of(a)
	require.False(t, known)
	_, err = NewTimes(chain, []int64{1})
	require.ErrorContains(t, err, "1 times for")
}

// Under a limit on the latency, alone or with another one, every architecture within is drawn equally often, and none
// above. The space is small enough to list.
func TestSamplingWithinALatency(t *testing.T) {
	sp, err := Open("file:../../docs/examples/blocks.yaml")
	require.NoError(t, err)
	all, err := sp.(Enumerable).All(t.Context(), nil)
	require.NoError(t, err)
	times := randomTimes(t, sp.(Composed), philox.New(4, philox.PurposeTest, 0))
	var sorted []float64
	for _, a := range all {
		ns, _ := times.Of(a)
		sorted = append(sorted, float64(ns))
	}
	limit := int64(quantile(sorted, 0.05))
	l := Limits{Latency: limit, Times: times}
	within := 0
	for _, a := range all {
		if ns, _ := times.Of(a); ns <= limit {
			within++
			require.True(t, l.Allow(a))
		} else {
			require.False(t, l.Allow(a))
			require.Greater(t, l.Excess(a), 1.0)
		}
	}
	draw, err := Sampler(sp, l)
	require.NoError(t, err)
	s := philox.New(5, philox.PurposeTest, 0)
	counts := map[Arch]int{}
	const each = 50
	for range each * within {
		a := draw(s)
		ns, _ := times.Of(a)
		require.LessOrEqual(t, ns, limit)
		counts[a]++
	}
	chi := float64((within - len(counts)) * each)
	for _, n := range counts {
		chi += float64(n-each) * float64(n-each) / each
	}
	require.InDelta(t, float64(within), chi, 5*math.Sqrt(2*float64(within)), "%d architectures", within)
}

func quantile(v []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[int(q*float64(len(sorted)))]
}

// In MobileNetV3's space a draw under a limit is one of the unlimited draws that are within: what units look like
// agrees between the two ways to draw.
func TestMobileNetsWithinALatency(t *testing.T) {
	sp, err := Open("mobilenetv3@w1.2,r192-224")
	require.NoError(t, err)
	m := sp.(MobileNetV3)
	s := philox.New(6, philox.PurposeTest, 0)
	times := randomTimes(t, m, s)
	var ns []float64
	for range 2000 {
		v, _ := times.Of(sp.Sample(s))
		ns = append(ns, float64(v))
	}
	for name, l := range map[string]Limits{
		"latency":           {Latency: int64(quantile(ns, 0.1)), Times: times},
		"latency and MAdds": {Latency: int64(quantile(ns, 0.3)), Times: times, MAdds: 420e6},
	} {
		t.Run(name, func(t *testing.T) {
			draw, err := m.Within(l)
			require.NoError(t, err)
			seen := func(draw func(*philox.Stream) Arch, n int) map[string]float64 {
				share := map[string]float64{}
				for got := 0; got < n; {
					a := draw(s).(MobileNet)
					if !l.Allow(a) {
						continue
					}
					got++
					share[fmt.Sprint("r", a.resolution)] += 1 / float64(n)
					for u, d := range a.depth {
						share[fmt.Sprint("depth of ", u, ": ", d)] += 1 / float64(n)
					}
					share[fmt.Sprint("kernel ", a.kernel[0], " expand ", a.expand[4])] += 1 / float64(n)
				}
				return share
			}
			const n = 2000
			counted, rejected := seen(func(s *philox.Stream) Arch {
				a := draw(s)
				v, known := times.Of(a)
				require.True(t, known)
				require.LessOrEqual(t, v, l.Latency)
				return a
			}, n), seen(sp.Sample, n)
			for what, p := range rejected {
				require.InDelta(t, p, counted[what], 5*math.Sqrt(2*p*(1-p)/n)+1e-3, what)
			}
		})
	}
	_, err = m.Within(Limits{Latency: 1000, Times: times})
	require.ErrorContains(t, err, "at most 0.001 ms: loosen --max-latency")
	_, err = m.Within(Limits{Latency: 1e9})
	require.Error(t, err, "without times nothing is known to be within")
}
