package space

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Parameters of 545 genotypes of OnceNAS-Bench, in the network for CIFAR-10. Its multiply-adds are counted by a tool
// that adds batch norms, activations and poolings, so ours are a little lower. Some rows are the same network written
// in two ways.
func TestDartsCostsOfTheData(t *testing.T) {
	sp := open(t, "darts@cifar10")
	seen := map[Arch]bool{}
	for _, row := range csvRows(t, "darts/oncenas_darts_545.csv") {
		a, err := sp.Parse(row["architecture"])
		require.NoError(t, err)
		params, err := strconv.ParseFloat(row["params"], 64)
		require.NoError(t, err)
		flop, err := strconv.ParseFloat(row["flop"], 64)
		require.NoError(t, err)
		require.InDelta(t, params, float64(a.Cost().Params)/1e6, 1e-6, a)
		// Another counter: what it counts beside is not documented.
		require.InDelta(t, 0.965, float64(a.Cost().MAdds)/1e6/flop, 0.015, a)
		seen[a] = true
	}
	require.Len(t, seen, 526)
}

// The networks that DARTS, PC-DARTS and CNAS publish, counted from layer lists.
func TestDartsPublishedCosts(t *testing.T) {
	for text, want := range map[string]Cost{
		dartsV2: {529911552, 4718752},
		"darts:Genotype(normal=[('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), " +
			"('skip_connect', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), " +
			"('dil_conv_5x5', 4)], normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), " +
			"('dil_conv_5x5', 2), ('max_pool_3x3', 1), ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), " +
			"('sep_conv_5x5', 0), ('sep_conv_3x3', 3)], reduce_concat=range(2, 6))": {581627328, 5342464},
		"Genotype(normal=[('dil_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1), " +
			"('sep_conv_3x3', 1), ('max_pool_3x3', 3), ('sep_conv_3x3', 2), ('sep_conv_3x3', 4)], " +
			"normal_concat=[2, 3, 4, 5], reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), " +
			"('skip_connect', 1), ('dil_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), " +
			"('sep_conv_3x3', 3)], reduce_concat=range(2, 6))": {577158528, 5318368},
	} {
		a, err := open(t, dartsName).Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, a.Cost(), text)
	}
}

const dartsV2 = "darts:Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), " +
	"('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], " +
	"normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), " +
	"('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], " +
	"reduce_concat=range(2, 6))"

// A cell with its nodes in another topological order, their operations swapped and `none` reading something else is the
// same.
func TestDartsRelabellingChangesNothing(t *testing.T) {
	s := philox.New(5, philox.PurposeTest, 0)
	for range 300 {
		cell := open(t, dartsName).Sample(s).(Genotype).cells[0]
		other, placed := dartsCell{}, map[uint8]uint8{0: 0, 1: 1}
		for n := 0; n < dartsNodes; {
			v := uint8(s.Intn(dartsNodes))
			x, y := cell[2*v], cell[2*v+1]
			_, done := placed[v+2]
			from, ready := placed[x.from]
			from2, ready2 := placed[y.from]
			if done || !ready || !ready2 {
				continue
			}
			pair := []dartsEdge{{x.op, from}, {y.op, from2}}
			for k := range pair {
				if pair[k].op == dartsNone {
					pair[k].from = uint8(s.Intn(n + 2))
				}
			}
			k := s.Intn(2)
			other[2*n], other[2*n+1] = pair[k], pair[1-k]
			placed[v+2] = uint8(n + 2)
			n++
		}
		require.Equal(t, cell, other.canonical())
		require.Equal(t, cell, cell.canonical())
	}
}

func TestDartsErrors(t *testing.T) {
	sp := open(t, dartsName)
	for from, want := range map[string][2]string{
		"want darts:Genotype":    {"Genotype", "Gene"},
		"unknown name":           {"'sep_conv_3x3', 0", "'sep_conv_9x9', 0"},
		"may read 0..1":          {"'sep_conv_3x3', 0", "'sep_conv_3x3', 2"},
		"7 operations, want 8":   {"('sep_conv_3x3', 0), ", ""},
		"normal_concat is":       {"normal_concat=range(2, 6)", "normal_concat=range(3, 6)"},
		"want ('name', number)":  {"'sep_conv_3x3', 0", "'sep_conv_3x3', x"},
		"more than any genotype": {" reduce=", strings.Repeat(" ", maxGenotypeBytes) + "reduce="},
	} {
		_, err := sp.Parse(strings.Replace(dartsV2, want[0], want[1], 1))
		require.ErrorContains(t, err, from)
	}
}

// The forms in which people have a genotype at hand are all the same architecture.
func TestGenotypesOfOtherPrograms(t *testing.T) {
	sp := open(t, dartsName)
	want, err := sp.Parse(dartsV2)
	require.NoError(t, err)
	plain := strings.TrimPrefix(dartsV2, "darts:")
	for name, text := range map[string]string{
		"assigned":        "DARTS_V2 = " + plain,
		"a line of a log": "2019-05-03 10:11:12,131 genotype = " + plain + "\n",
		"a module":        "arch: genotypes." + plain,
		"copied":          "\ufeff " + strings.Replace(plain, ", ", ",\u00a0", 1),
		"lists":           strings.ReplaceAll(plain, "range(2, 6)", "[2, 3, 4, 5]"),
		"list(range)":     strings.ReplaceAll(plain, "range(2, 6)", "list(range(2,6))"),
		"a tuple":         strings.ReplaceAll(plain, "range(2, 6)", "( 5, 4, 3, 2, )"),
		"NumPy":           regexp.MustCompile(`('\w+'), (\d)`).ReplaceAllString(plain, "np.str_($1), np.int64($2)"),
		"double quotes":   strings.ReplaceAll(plain, "'", `"`),
		"lists of lists":  regexp.MustCompile(`\(('\w+'), (\d)\)`).ReplaceAllString(plain, "[$1, $2]"),
		"nested":          regexp.MustCompile(`(\('\w+', \d\), \('\w+', \d\))`).ReplaceAllString(plain, "[$1]"),
		"other order": "Genotype(reduce" + strings.TrimSuffix(strings.SplitN(plain, "reduce", 2)[1], ")") + ", " +
			strings.TrimPrefix(strings.SplitN(plain, ", reduce=", 2)[0], "Genotype(") + ")",
	} {
		got, err := sp.Parse(text)
		require.NoError(t, err, "%s: %s", name, text)
		require.Equal(t, want, got, name)
	}
	for text, says := range map[string]string{
		strings.ReplaceAll(plain, "normal_concat=range(2, 6), ",
			""): "without normal_concat",
		strings.ReplaceAll(plain, "normal=",
			""): "the parts of a Genotype have no names",
		strings.Replace(plain, "range(2, 6)", "[2, 3, 4]",
			1): "normal_concat is [2, 3, 4]: this space concatenates all four nodes",
		strings.Replace(plain, "('sep_conv_3x3', 0)", "(0, 'sep_conv_3x3')",
			1): "operation 0 is [0, 'sep_conv_3x3'], want ('name', number)",
		strings.Replace(plain, "('sep_conv_3x3', 0)", "('sep_conv_3x3', 0, 1)",
			1): "operation 0 is ['sep_conv_3x3', 0, 1], want",
		strings.Replace(plain, "('sep_conv_3x3', 0)", "('sep_conv_3x3', 0.5)",
			1): "want ('name', number)",
		strings.Replace(plain, "normal=", "cell=",
			1): `a Genotype with "cell"`,
		"Genotype(normal=[[('none', 0)]], normal_concat=range(2, 6), reduce=[], " +
			"reduce_concat=[2,3,4,5])": "node 0 has [['none', 0]], want two operations",
		"Genotype(normal=" +
			strings.Repeat("[", 100): "more than 16 lists in each other",
		"Genotype(normal={}":           `character 17: "{}" is no part of`,
		"Genotype(normal=[('none', 0)": "it ends where",
		"MyGenotype(normal=[])":        "want darts:Genotype",
	} {
		_, err := sp.Parse(text)
		require.ErrorContains(t, err, says)
	}
}

func FuzzGenotype(f *testing.F) {
	f.Add(dartsV2)
	f.Add("x = Genotype(normal=[[(np.str_('none'), 0), ['none', 1.]]], normal_concat=[2 3], reduce=(), " +
		"reduce_concat=list(range(2,6)))")
	f.Add(strings.TrimPrefix(dartsV2, "darts:") + "@cifar10")
	f.Add("mobilenetv3:22222:33003300330033003300:66006600660066006600@w1.2,r160")
	spaces := []Space{open(f, dartsName), open(f, mobileName)}
	f.Fuzz(func(t *testing.T, text string) {
		for _, sp := range spaces {
			var a Arch
			var err error
			testdata.WithinMemory(t, len(text), func() { a, err = sp.Parse(text) })
			if err != nil {
				continue
			}
			back, err := sp.Parse(a.String())
			require.NoError(t, err)
			require.True(t, a == back)
		}
	})
}
