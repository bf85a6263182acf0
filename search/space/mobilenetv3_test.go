package space

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

// csvRows reads a file of the large test data, a map by column a row.
func csvRows(t testing.TB, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(testdata.Path(t, name))
	require.NoError(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var rows []map[string]string
	for _, r := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func open(t testing.TB, name string) Space {
	t.Helper()
	sp, err := Open(name)
	require.NoError(t, err)
	return sp
}

func TestMobileNetCostsOfTheData(t *testing.T) {
	sp := MobileNetV3{resolutions: []uint16{224}}
	seen := map[Arch]bool{}
	for _, row := range csvRows(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv") {
		a, err := sp.NewMobileNet(row["depths"], row["kernels"], row["expands"])
		require.NoError(t, err)
		require.Equal(t, row["macs"], strconv.FormatInt(a.Cost().MAdds, 10), a)
		require.Equal(t, row["params"], strconv.FormatInt(a.Cost().Params, 10), a)
		seen[a] = true
	}
	require.Len(t, seen, 1081)
}

// Costs that once-for-all and PNAG publish, counted from layer lists.
func TestMobileNetPublishedCosts(t *testing.T) {
	for text, want := range map[string]Cost{
		"mobilenetv3:2,2,3,3,3:5,5,0,0,5,5,0,0,7,5,7,0,3,5,5,0,7,5,5,0:" +
			"3,3,0,0,4,3,0,0,4,3,3,0,6,4,4,0,6,6,6,0@w1.2,r224": {336165936, 7638920},
		"mobilenetv3:4,4,4,4,4:5,5,5,5,5,7,3,5,7,5,5,3,3,5,5,3,5,3,3,5:" +
			"6,6,6,6,4,6,6,6,6,6,6,6,6,6,6,6,6,6,6,6@w1.2,r224": {725396720, 10359088},
	} {
		a, err := open(t, mobileName).Parse(text)
		require.NoError(t, err)
		require.Equal(t, text, a.String())
		require.Equal(t, want, a.Cost())
	}
}

// cases are all built-in spaces that are not NAS-Bench-101.
var cases = []string{"nasbench201", "mobilenetv3", "mobilenetv3@w1.2,r160-224", "mobilenetv3@w0.5,r32,s8",
	"mobilenetv3@w0.35,r16-48,s16", "darts", "darts@cifar10", "spos", "spos@w0.25,r32,s8", "fairnas",
	"fairnas@w0.5,r16,s4"}

func TestSpacesAgreeWithThemselves(t *testing.T) {
	for _, name := range cases {
		sp := open(t, name)
		require.Equal(t, name, sp.Name())
		checkSpace(t, sp)
	}
}

// checkSpace draws architectures and checks that the space's functions agree with each other.
func checkSpace(t *testing.T, sp Space) {
	t.Helper()
	s := philox.New(3, philox.PurposeTest, 0)
	cross := sp.(Crosser)
	alphabet := sp.Alphabet()
	names := map[string]bool{}
	for _, op := range alphabet {
		names[op] = true
	}
	require.Len(t, names, len(alphabet), "the alphabet names an operation twice")
	previous := sp.Sample(s)
	for range 60 {
		a := sp.Sample(s)
		for _, x := range []Arch{a, sp.Mutate(a, s), cross.Cross(a, previous, s)} {
			back, err := sp.Parse(x.String())
			require.NoError(t, err)
			require.Equal(t, x, back)
			require.True(t, x == back)
			actions, err := sp.Encode(x)
			require.NoError(t, err)
			require.NoError(t, sp.Grammar().Check(actions))
			decoded, err := sp.Decode(actions)
			require.NoError(t, err)
			require.True(t, x == decoded, "%v becomes %v", x, decoded)
			require.Len(t, x.Hash(), 32)
			g := x.Graph()
			require.LessOrEqual(t, len(g.Ops), sp.MaxNodes())
			previousEdge := [2]uint8{}
			for _, op := range g.Ops {
				require.Less(t, int(op), len(alphabet))
			}
			for i, e := range g.Edges {
				require.Less(t, e[0], e[1])
				require.Less(t, int(e[1]), len(g.Ops))
				require.True(t, i == 0 || previousEdge[0] < e[0] || previousEdge[0] == e[0] && previousEdge[1] < e[1],
					"edges of %v", x)
				previousEdge = e
			}
		}
		require.False(t, sp.Mutate(a, s) == a)
		require.True(t, cross.Cross(a, a, s) == a)
		random := make([]int, 0, 64)
		random = append(random, s.Intn(sp.Grammar().First.Choices))
		for _, step := range sp.Grammar().Steps(random[0])[1:] {
			random = append(random, s.Intn(step.Choices))
		}
		_, err := sp.Decode(random)
		require.NoError(t, err)
		previous = a
	}
	require.LessOrEqual(t, sp.Grammar().MaxSteps(), 64)
	require.LessOrEqual(t, len(sp.Grammar().Heads), 64)
}

func TestMobileNetCanonical(t *testing.T) {
	sp := open(t, mobileName)
	full, err := sp.Parse("mobilenetv3:22222:33773377337733773377:66336633663366336633@w1.2,r160")
	require.NoError(t, err)
	short, err := sp.Parse("mobilenetv3:2,2,2,2,2:3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0:" +
		"6,6,0,0,6,6,0,0,6,6,0,0,6,6,0,0,6,6,0,0@w1.2,r160")
	require.NoError(t, err)
	require.True(t, full == short)
	plain, err := open(t, "mobilenetv3@w1.2,r160").Parse("mobilenetv3:22222:33003300330033003300:66006600660066006600")
	require.NoError(t, err)
	require.True(t, full == plain)
}

func TestMobileNetErrors(t *testing.T) {
	sp := open(t, mobileName)
	k, e := strings.Repeat("3300", 5), strings.Repeat("6600", 5)
	for text, want := range map[string]string{
		"mobilenetv2:22222:" + k + ":" + e:                "want mobilenetv3:",
		"mobilenetv3:2222:" + k + ":" + e:                 "4 depths, want 5",
		"mobilenetv3:22522:" + k + ":" + e:                "unit 3 has depth 5",
		"mobilenetv3:22223:" + k + ":" + e:                "unit 5, block 3 has kernel 0",
		"mobilenetv3:22222:" + k + ":" + "5" + e[1:]:      "unit 1, block 1 has expansion 5",
		"mobilenetv3:22222:" + k + "3:" + e:               "21 kernels, want 20",
		"mobilenetv3:22222:" + k + ":" + e + "@w1.1":      "suffix",
		"mobilenetv3:22222:" + k + ":" + e + "@w1.2,r999": "resolution",
		"mobilenetv3:22222:" + k + ":" + e + "@":          "suffix",
	} {
		_, err := sp.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
	for name, want := range map[string]string{"mobilenetv3@w2.0": "want mobilenetv3",
		"mobilenetv3@w1.2,r224-160": "steps of 16", "darts@imagenet": "want darts", "nasbench101@x": "no settings",
		"elsewhere": "known"} {
		_, err := Open(name)
		require.ErrorContains(t, err, want)
	}
}

// Depths come with the number of networks that have them.
func TestMobileNetSampleIsUniform(t *testing.T) {
	require.Len(t, unitOptions(), 81+729+6561)
	s := philox.New(1, philox.PurposeTest, 0)
	const n = 4000
	depth := map[uint8]int{}
	for range n {
		for _, d := range open(t, mobileName).Sample(s).(MobileNet).depth {
			depth[d]++
		}
	}
	for d, share := range map[uint8]float64{2: 81. / 7371, 3: 729. / 7371, 4: 6561. / 7371} {
		require.InDelta(t, share, float64(depth[d])/(5*n), 4*math.Sqrt(share*(1-share)/(5*n)))
	}
}

// The draw under a limit is the uniform draw that rejects: their mean costs agree, and a limit that hardly anything
// meets is met.
func TestMobileNetWithin(t *testing.T) {
	sp := open(t, mobileName).(Bounded)
	limits := Limits{MAdds: 340e6, Params: 5_600_000}
	draw, err := sp.Within(limits)
	require.NoError(t, err)
	var kept, within [2][]float64
	s := philox.New(1, philox.PurposeTest, 0)
	for len(kept[0]) < 400 {
		if a := sp.Sample(s); limits.Allow(a) {
			c := a.Cost()
			kept[0], kept[1] = append(kept[0], float64(c.MAdds)), append(kept[1], float64(c.Params))
		}
	}
	for range 400 {
		a := draw(s)
		require.True(t, limits.Allow(a))
		within[0], within[1] = append(within[0], float64(a.Cost().MAdds)), append(within[1], float64(a.Cost().Params))
	}
	for i := range kept {
		mean, sd := moments(kept[i])
		other, otherSD := moments(within[i])
		require.InDelta(t, mean, other, 4*math.Sqrt((sd*sd+otherSD*otherSD)/400))
	}
	tight, err := sp.Within(Limits{MAdds: 125e6})
	require.NoError(t, err)
	for range 20 {
		require.LessOrEqual(t, tight(s).Cost().MAdds, int64(125e6))
	}
	_, err = sp.Within(Limits{MAdds: 121e6})
	require.ErrorContains(t, err, "--max-madds")
	wide, err := open(t, "mobilenetv3@w1.2,r160-224").(Bounded).Within(Limits{MAdds: 150e6})
	require.NoError(t, err)
	require.LessOrEqual(t, wide(s).Cost().MAdds, int64(150e6))
}

func moments(v []float64) (mean, sd float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sd += (x - mean) * (x - mean) / float64(len(v)-1)
	}
	return mean, math.Sqrt(sd)
}

// The bounds that a count of the layer lists gives.
func TestMobileNetExtremes(t *testing.T) {
	for _, c := range []struct {
		width    uint8
		low, top float64
	}{{0, 121.28, 566.17}, {1, 193.08, 843.10}} {
		table := costTable(c.width, 0, 224, imageNetClasses)
		low, top := table.fixed.MAdds, table.fixed.MAdds
		for u := range mobileUnits {
			least, most := int64(math.MaxInt64), int64(0)
			for _, o := range unitOptions() {
				cost := table.unit(u, o).MAdds
				least, most = min(least, cost), max(most, cost)
			}
			low, top = low+least, top+most
		}
		require.InDelta(t, c.low, float64(low)/1e6, 0.005)
		require.InDelta(t, c.top, float64(top)/1e6, 0.005)
	}
}

// FuzzMobileNet reads texts of networks: they are refused in few words, or the network is built and reads back.
func FuzzMobileNet(f *testing.F) {
	f.Add("mobilenetv3:2,3,3,3,4:3,3,0,0,7,5,3,0,5,5,5,0,3,7,5,0,5,7,3,3:3,3,0,0,4,3,3,0,6,4,3,0,4,4,3,0,6,6,6,4@w1.0")
	f.Add("mobilenetv3:22222:33003300330033003300:33003300330033003300@w1.2,r160")
	f.Add("mobilenetv3:22222:33003300330033003300:33003300330033003300@w0.35,r16,s4")
	f.Add("mobilenetv3:2,2,2,2,2::@w1.0,r9999999999999999999")
	f.Add("@w0x1p0")
	f.Fuzz(func(t *testing.T, text string) {
		var a Arch
		var err error
		testdata.WithinMemory(t, len(text), func() { a, err = MobileNetV3{resolutions: []uint16{224}}.Parse(text) })
		if err != nil {
			require.Less(t, len(err.Error()), 1<<11)
			return
		}
		again, err := MobileNetV3{resolutions: []uint16{224}}.Parse(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
		n, err := a.(Trainable).Network(NetworkSize{Side: 32, Classes: 10})
		require.NoError(t, err)
		require.Equal(t, a.String(), n.Name)
	})
}

// What is not said of width and stride is the space's; a network of its own width has the published strides unless it
// says others.
func TestMobileNetStrides(t *testing.T) {
	body := "mobilenetv3:22222:33003300330033003300:66006600660066006600"
	sp := open(t, "mobilenetv3@w0.5,r48,s8")
	for suffix, want := range map[string]string{"": "w0.5,r48,s8", "@r32": "w0.5,r32,s8", "@w0.35": "w0.35,r48",
		"@s16": "w0.5,r48,s16", "@w1.0,r64,s32": "w1.0,r64", "@w0.75,r16,s4": "w0.75,r16,s4"} {
		a, err := sp.Parse(body + suffix)
		require.NoError(t, err)
		_, got, _ := strings.Cut(a.String(), "@")
		require.Equal(t, want, got)
		code, ok := MobileNetV3{}.AppendCode(nil, a)
		require.True(t, ok)
		require.NoError(t, MobileNetV3{}.CheckCode(code))
		require.True(t, a == MobileNetV3{}.FromCode(code))
		net, err := a.(Trainable).Network(NetworkSize{Side: 64})
		require.NoError(t, err)
		last := net.Nodes[net.Find("head/conv")].Shape
		require.Equal(t, 64/a.(MobileNet).Stride(), last.H)
	}
	for suffix, want := range map[string]string{"@w0.5,r28": "multiple of 4 in 32..512", "@s8,r32": "suffix",
		"@w0.5,r12,s8": "multiple of 4 in 16..512", "@s64": "suffix", "@w0.50": "suffix"} {
		_, err := sp.Parse(body + suffix)
		require.ErrorContains(t, err, want, suffix)
	}
	for name, want := range map[string]string{"mobilenetv3@w1.0,r224,s32": "mobilenetv3",
		"mobilenetv3@w0.5": "mobilenetv3@w0.5,r224", "mobilenetv3@w1.0,s16": "mobilenetv3@w1.0,r224,s16"} {
		require.Equal(t, want, open(t, name).Name())
	}
	for _, name := range []string{"mobilenetv3@w0.5,r28", "mobilenetv3@w0.5,s7", "mobilenetv3@s8",
		"mobilenetv3@w0.5,r32,s8,"} {
		_, err := Open(name)
		require.Error(t, err, name)
	}
	require.NotEqual(t, open(t, mobileName).Alphabet(), sp.Alphabet())
	require.Equal(t, open(t, mobileName).Alphabet(), open(t, "mobilenetv3@w1.2,r64").Alphabet())
}
