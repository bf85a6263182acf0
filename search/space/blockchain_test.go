package space

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

// chainNames are spaces of chains, as published and small.
var chainNames = []string{"spos", "fairnas", "spos@w0.25,r32,s8", "fairnas@w0.5,r16,s4"}

func openChain(t require.TestingT, name string) BlockChains {
	sp, err := Open(name)
	require.NoError(t, err)
	return sp.(BlockChains)
}

// Networks cost what their authors say. The first of SPOS is the result that its code was released with, 323M and 3.5M
// parameters; the second stands in that code and is the paper's of 319M. FairNAS-A, B and C have 388M, 345M and 321M,
// and 4.6M, 4.5M and 4.4M parameters.
func TestChainPublishedCosts(t *testing.T) {
	for text, want := range map[string]Cost{
		"spos:released": {322918720, 3558464},
		"spos:(0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2)": {318729024, 3345088},
		"fairnas:a": {388122848, 4651352},
		"fairnas:b": {345297632, 4506272},
		"fairnas:c": {321024992, 4397864},
	} {
		a, err := Find(text)
		require.NoError(t, err)
		require.Equal(t, want, a.Cost(), text)
	}
	// What every network of one kind of block takes, as the released counter finds it.
	for k, want := range []int64{295842496, 313654976, 340373696, 358825920} {
		a, err := Find("spos:" + strings.Repeat(fmt.Sprint(k), 20))
		require.NoError(t, err)
		require.Equal(t, want, a.Cost().MAdds)
	}
}

func TestChainTexts(t *testing.T) {
	sp := open(t, "spos@w0.5,r48,s8")
	for text, want := range map[string]string{
		"spos:01230000000000000003":                                                             "@w0.5,r48,s8",
		"spos:0,1,2,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,3@w0.25":                                    "@w0.25,r224",
		"spos:[0, 1, 2, 3, 0,0,0,0, 0,0,0,0,0,0,0,0, 0,0,0,3]@w1.0,s8,r16":                      "suffix",
		"spos:shuffle3,shuffle5,shuffle7,xception,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,3@w0.75,r16,s4": "@w0.75,r16,s4",

		"spos:012300000000000000033":                    "21 blocks, want one for each of 20 layers",
		"spos:01240000000000000003":                     `layer 4 has block "4", want 0 to 3, shuffle3`,
		"spos:0,1,2,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,03": `layer 20 has block "03"`,

		"fairnas:a":                          "want spos:<a block for each of 20 layers>",
		"spos:01230000000000000003@w0.5,r28": "multiple of 4 in 32..512",
		"spos:01230000000000000003@":         "want a width of 1.0, 0.25, 0.5, 0.75",
		"spos:released":                      "@w0.5,r48,s8",
	} {
		a, err := sp.Parse(text)
		if !strings.HasPrefix(want, "@") {
			require.Error(t, err, text)
			require.True(t, want == "suffix" || strings.Contains(err.Error(), want), err)
			continue
		}
		require.NoError(t, err)
		body, suffix, _ := strings.Cut(a.String(), "@")
		require.Equal(t, want, "@"+suffix)
		if text != "spos:released" {
			require.Equal(t, "spos:0,1,2,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,3", body)
		}
		code, ok := BlockChains{}.AppendCode(nil, a)
		require.True(t, ok)
		require.True(t, a == BlockChains{}.FromCode(code))
		net, err := a.(Trainable).Network(NetworkSize{})
		require.NoError(t, err)
		c := a.(BlockChain)
		require.Equal(t, c.Resolution()/mobileStrides[c.of.stride], net.Nodes[net.Find("head/conv")].Shape.H)
	}
	for name, want := range map[string]string{"spos@w1.0": "spos", "spos@w1.0,r224,s32": "spos",
		"fairnas@w0.5": "fairnas@w0.5,r224", "fairnas@w1.0,r224,s16": "fairnas@w1.0,r224,s16"} {
		require.Equal(t, want, open(t, name).Name())
	}
	for _, name := range []string{"spos@", "spos@w0.35", "spos@r32", "spos@w0.5,r32,s8,", "spos@w0.5,r12"} {
		_, err := Open(name)
		require.ErrorContains(t, err, "search space")
	}
}

// FuzzBlockChain reads texts of networks: they are refused in few words, or read back.
func FuzzBlockChain(f *testing.F) {
	f.Add("spos:2,1,0,1,2,0,2,0,2,0,2,3,0,0,0,0,3,2,3,3@w1.0,r224")
	f.Add("spos:(shuffle3,1,0,1,2,0,2,0,2,0,2,3,0,0,0,0,3,2,3,xception)@w0.25,r32,s8")
	f.Add("fairnas:c")
	f.Fuzz(func(t *testing.T, text string) {
		for kind := range chainKinds {
			sp := BlockChains{kind: uint8(kind), resolution: 224}
			var a Arch
			var err error
			testdata.WithinMemory(t, len(text), func() { a, err = sp.Parse(text) })
			if err != nil {
				require.Less(t, len(err.Error()), 1<<11)
				continue
			}
			again, err := sp.Parse(a.String())
			require.NoError(t, err)
			require.True(t, a == again)
		}
	})
}

// Every path is a part of what its supernet shares, whole blocks of it, and all blocks of all layers together are all
// of it. The names are those of the published code, as PyTorch lists them: 1,003 tensors of 8,388,176 parameters.
func TestChainPathsArePartsOfTheSupernet(t *testing.T) {
	for _, name := range chainNames {
		sp := openChain(t, name)
		size := NetworkSize{Classes: 10}
		shared, err := sp.Supernet(size)
		require.NoError(t, err)
		used := map[int]bool{}
		for k := range len(sp.layers()[0]) {
			c := sp.draw(func(int, int) int { return k })
			p, err := sp.Path(c, size)
			require.NoError(t, err)
			require.NoError(t, shared.Check(p))
			require.Equal(t, c.String(), p.Name)
			for i, v := range p.Variables() {
				used[p.Bindings[i].Shared] = true
				require.Equal(t, shared.Variables[p.Bindings[i].Shared].Shape, v.Shape, v.Name)
			}
			alone, err := c.Network(size)
			require.NoError(t, err)
			require.Equal(t, alone.Cost().MAdds, p.Cost().MAdds)
			if !sp.chain().Plain() {
				require.Equal(t, alone, p.Network)
			}
		}
		require.Len(t, used, len(shared.Variables))
		_, err = sp.Path(open(t, "spos@w0.75").Sample(philox.New(1, philox.PurposeTest, 0)), size)
		require.ErrorContains(t, err, "not in its supernet")
	}
	shared, err := openChain(t, "spos").Supernet(NetworkSize{})
	require.NoError(t, err)
	parameters := 0
	var names []string
	for _, v := range shared.Variables {
		if v.Role.Trainable() {
			parameters += v.Len()
		}
		names = append(names, v.Name)
	}
	require.Equal(t, 8388176, parameters)
	require.Len(t, names, 1003)
	require.Subset(t, names, []string{"first_conv.0.weight", "first_conv.1.running_mean",
		"features.0.2.branch_proj.3.running_var", "features.19.3.branch_main.12.weight", "classifier.0.weight"})
	shared, err = openChain(t, "fairnas").Supernet(NetworkSize{})
	require.NoError(t, err)
	require.Len(t, shared.Branches, 6*(1+3+3+3+3)) // those that keep the shape
}

// Each block of each layer is in exactly one path of an update.
func TestStrictFairness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := openChain(t, rapid.SampledFrom(chainNames).Draw(t, "space"))
		s := philox.New(rapid.Uint64().Draw(t, "seed"), philox.PurposeTest, 0)
		counts := make([][]int, len(sp.layers()))
		updates := rapid.IntRange(1, 5).Draw(t, "updates")
		for range updates {
			paths := sp.StrictPaths(s)
			require.Len(t, paths, len(sp.layers()[0]))
			for _, path := range paths {
				a, err := sp.Parse(path)
				require.NoError(t, err)
				for i, block := range a.(BlockChain).Blocks() {
					counts[i] = append(counts[i], make([]int, max(0, block+1-len(counts[i])))...)
					counts[i][block]++
				}
			}
		}
		for i, layer := range sp.layers() {
			require.Equal(t, slices.Repeat([]int{updates}, len(layer)), counts[i])
		}
	})
	sp := openChain(t, "fairnas")
	paths := sp.StrictPaths(philox.New(1, philox.PurposeTest, 0))
	p, err := sp.WrittenPath(paths[0], NetworkSize{})
	require.NoError(t, err)
	require.Equal(t, paths[0], p.Name)
	_, err = sp.WrittenPath("fairnas:0", NetworkSize{})
	require.ErrorContains(t, err, "1 blocks")
}

// The draw within a range is the uniform draw that rejects: their mean costs agree, and so does how often each block
// comes.
func TestSampleWithin(t *testing.T) {
	sp := openChain(t, "spos")
	const low, high, count = 310e6, 320e6, 600
	draw, err := sp.SampleWithin(low, high, NetworkSize{})
	require.NoError(t, err)
	var kept, within []float64
	var blocks [2][4]int
	s := philox.New(1, philox.PurposeTest, 0)
	for len(kept) < count {
		if a := sp.Sample(s); a.Cost().MAdds >= low && a.Cost().MAdds <= high {
			kept = append(kept, float64(a.Cost().MAdds))
			for _, b := range a.(BlockChain).Blocks() {
				blocks[0][b]++
			}
		}
		if len(within) < count {
			a := draw(s)
			require.True(t, a.Cost().MAdds >= low && a.Cost().MAdds <= high)
			within = append(within, float64(a.Cost().MAdds))
			for _, b := range a.(BlockChain).Blocks() {
				blocks[1][b]++
			}
		}
	}
	mean, sd := moments(kept)
	other, otherSD := moments(within)
	require.InDelta(t, mean, other, 4*math.Sqrt((sd*sd+otherSD*otherSD)/count))
	for b := range blocks[0] {
		share := float64(blocks[0][b]) / (20 * count)
		require.InDelta(t, share, float64(blocks[1][b])/(20*count), 4*math.Sqrt(share*(1-share)/(10*count)))
	}
	for _, r := range [][2]int64{{0, 250e6}, {500e6, 600e6}, {310e6, 310e6}, {-5, -1}} {
		_, err = sp.SampleWithin(r[0], r[1], NetworkSize{})
		require.ErrorContains(t, err, "no architecture of spos was found with")
	}
	_, err = sp.SampleWithin(low, high, NetworkSize{Side: 32})
	require.ErrorContains(t, err, "at 32x32 images")
}

// SPOS's bins come equally often, also those that hardly any network is in.
func TestBins(t *testing.T) {
	sp := openChain(t, "spos")
	draw, err := Bins{290e6, 360e6, 10e6}.Sampler(sp, NetworkSize{})
	require.NoError(t, err)
	const count = 1400
	var seen [7]int
	s := philox.New(2, philox.PurposeTest, 0)
	for range count {
		seen[(draw(s).Cost().MAdds-290e6)/10e6]++
	}
	for _, n := range seen {
		require.InDelta(t, count/7, n, 4*math.Sqrt(count/7))
	}
	for _, b := range []Bins{{290e6, 365e6, 10e6}, {290e6, 290e6, 10e6}, {290e6, 360e6, 0}, {0, 360e6, 1}} {
		_, err := b.Sampler(sp, NetworkSize{})
		require.ErrorContains(t, err, "bins of")
	}
	_, err = Bins{100e6, 200e6, 10e6}.Sampler(sp, NetworkSize{})
	require.ErrorContains(t, err, "no architecture")
	_, err = Bins{290e6, 360e6, 10e6}.Sampler(open(t, "darts"), NetworkSize{})
	require.ErrorContains(t, err, "darts cannot draw within ranges")
}

// Limits are met, by whatever they limit, and those that nothing meets are refused.
func TestChainWithin(t *testing.T) {
	sp := openChain(t, "fairnas")
	s := philox.New(3, philox.PurposeTest, 0)
	times := randomTimes(t, sp, s)
	a := sp.Sample(s)
	ns, _ := times.Of(a)
	for _, l := range []Limits{{MAdds: 330e6}, {Params: 4_000_000}, {MAdds: 400e6, Params: 4_500_000},
		{Latency: ns, Times: times}} {
		draw, err := sp.Within(l)
		require.NoError(t, err)
		for range 20 {
			require.True(t, l.Allow(draw(s)))
		}
	}
	for _, l := range []Limits{{MAdds: 200e6}, {Params: 1000}, {Latency: 1, Times: times}, {Latency: 1e9}} {
		_, err := sp.Within(l)
		require.Error(t, err)
	}
}

// The mixture of a chain has a row of blocks a layer and all weights of the supernet; with all weight on one block of
// each layer it computes what their chain does, and costs as much.
func TestChainMixtures(t *testing.T) {
	for _, name := range []string{"spos@w0.25,r16,s8", "fairnas@w0.25,r16,s4"} {
		sp := open(t, name).(BlockChains)
		size := NetworkSize{Side: 4, Classes: 3}
		rows := sp.chain().Rows()
		p := requireRows(t, sp, size, rows)
		require.Len(t, p.Mixture, len(sp.layers()))
		require.Equal(t, blockNames(sp.layers()[2]), p.Mixture[2].Choices)
		require.Equal(t, "layer3", p.Mixture[2].Name)
		require.Equal(t, p.Network.Cost().Params, trainable(t, sp, size))
		c := sp.Sample(philox.New(2, philox.PurposeTest, 0)).(BlockChain)
		weights := oneHot(rows, func(row int) int { return c.Blocks()[row] })
		requireMixesAs(t, sp, size, weights, c.String())
		derived, err := sp.Derive(weights)
		require.NoError(t, err)
		require.Equal(t, c.String(), derived)
		requireRefusals(t, sp, rows)
		weights = oneHot(rows, func(int) int { return 0 })
		weights[1][0], weights[1][1], weights[1][2] = 0.25, 0.375, 0.375
		derived, err = sp.Derive(weights)
		require.NoError(t, err)
		a, err := sp.Parse(derived)
		require.NoError(t, err)
		require.Equal(t, append([]int{0, 1}, make([]int, len(rows)-2)...), a.(BlockChain).Blocks())
	}
}

// trainable counts a supernet's parameters.
func trainable(t *testing.T, sp Sharing, size NetworkSize) (n int64) {
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	for _, v := range shared.Variables {
		if v.Role.Trainable() {
			n += int64(v.Len())
		}
	}
	return n
}
