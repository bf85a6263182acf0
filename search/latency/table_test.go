package latency

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

const chainFile = "file:../../docs/examples/blocks.yaml"

// handWritten is a table of a space's parts, part i of i + 1 milliseconds.
func handWritten(t *testing.T, name string) string {
	t.Helper()
	sp, err := space.Open(name)
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString("# by hand\npart,ms\n")
	for i, p := range sp.(space.Composed).Parts() {
		fmt.Fprintf(&b, "%s,%d\n", p, i+1)
	}
	return b.String()
}

func TestTableByHand(t *testing.T) {
	sp, err := space.Open(chainFile)
	require.NoError(t, err)
	for _, ending := range []string{"\n", "\r\n"} {
		table, err := Parse("x.csv", []byte(strings.ReplaceAll(handWritten(t, chainFile), "\n", ending)))
		require.NoError(t, err)
		require.False(t, table.Signed)
		require.Contains(t, table.String(), "unsigned")
		require.False(t, table.Parts[0].Measured(), "nobody said how steady it is: that is not perfectly")
		times, err := table.For(sp)
		require.NoError(t, err)
		a, err := sp.Parse("blocks:conv3x3|k3e3|k3e3+k3e3|skip")
		require.NoError(t, err)
		// fixed 1, stem/conv3x3 2, stage1/k3e3 4, stage2/k3e3 8 twice
		require.Equal(t, 1+2+4+2*8.0, *times.Milliseconds(a))
	}
}

func TestTheExample(t *testing.T) {
	sp, err := space.Open(chainFile)
	require.NoError(t, err)
	m, err := Open("../../docs/examples/blocks-latency.csv", sp)
	require.NoError(t, err)
	a, err := sp.Parse("blocks:conv5x5|k5e3+k5e3|k5e6+k3e3|se")
	require.NoError(t, err)
	require.Equal(t, 2.84, *m.Milliseconds(a))
}

func TestTableSurvivesItsFile(t *testing.T) {
	table, err := Parse("x.csv", []byte(handWritten(t, chainFile)))
	require.NoError(t, err)
	table.Facts = []Fact{{factDevice, "an oven\n# sha256: x"}, {factBatch, "1"}, {factSpace, "blocks"}}
	table.Parts[1].MS, table.Parts[1].First, table.Parts[1].Third, table.Parts[1].Samples = 0.123456, 0.1, 0.2, 7
	path := filepath.Join(t.TempDir(), "t.csv")
	require.NoError(t, table.Write(path))
	back, err := Read(path)
	require.NoError(t, err)
	require.True(t, back.Signed)
	require.Equal(t, "an oven # sha256: x", back.Fact(factDevice))
	require.Equal(t, table.Checksum(), back.Checksum())
	for i, p := range back.Parts {
		require.Equal(t, table.Parts[i], p)
	}

	// Any byte that is changed, and any piece that is cut off, is seen: unless what is left is no signed table any
	// more.
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	first := strings.IndexByte(string(text), '\n')
	for i := first + 1; i < len(text); i++ {
		changed := append([]byte(nil), text...)
		changed[i] ^= 1
		_, err := Parse("t.csv", changed)
		require.Error(t, err, "byte %d", i)
		if i < len(text)-1 { // without the last line's end it is whole
			_, err = Parse("t.csv", text[:i])
			require.ErrorContains(t, err, "t.csv: line", "cut at %d", i)
		}
	}
}

func TestBadTablesAreNamed(t *testing.T) {
	for want, text := range map[string]string{
		"no line of column names":                 "",
		"line 1: no column ms":                    "part,milliseconds\na,1\n",
		"line 1: column \"ms\" comes twice":       "part,ms,ms\na,1,2\n",
		"no parts":                                "part,ms\n",
		"line 2: a part without a name":           "part,ms\n,1\n",
		`line 2: ms "NaN"`:                        "part,ms\na,NaN\n",
		`line 2: ms "Inf"`:                        "part,ms\na,Inf\n",
		`line 2: ms "-1"`:                         "part,ms\na,-1\n",
		`line 2: ms "1e9": want milliseconds`:     "part,ms\na,1e9\n",
		`line 2: ms "0x10"`:                       "part,ms\na,0x10\n",
		`line 2: ms "1_0"`:                        "part,ms\na,1_0\n",
		`line 2: ms "12ms"`:                       "part,ms\na,12ms\n",
		`line 3: q3_ms "x"`:                       "# k\npart,ms,q3_ms\na,1,x\n",
		`line 2: samples "-1"`:                    "part,ms,samples\na,1,-1\n",
		"line 5: part \"a\" stands in line 3":     "part,ms\n# b\na,1\nb,1\na,1\n",
		"line 3: wrong number of fields":          "part,ms\na,1\nb\n",
		"line 1: \"# ctnas latency table 2\"":     "# ctnas latency table 2\npart,ms\na,1\n",
		"line 3: the table ends without its":      signed + "\npart,ms\na,1\n",
		"line 1: the table ends without its":      signed,
		"line 4: the checksum is not that of the": signed + "\npart,ms\na,1\n" + checksum + "00\n",
	} {
		_, err := Parse("t.csv", []byte(text))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "t.csv")
	}
	_, err := Parse("t.csv", make([]byte, MaxBytes+1))
	require.ErrorContains(t, err, "larger than")
	_, err = Read(filepath.Join(t.TempDir(), "none.csv"))
	require.ErrorContains(t, err, "none.csv")
}

func TestTableOfAnotherSpace(t *testing.T) {
	table, err := Parse("t.csv", []byte(handWritten(t, "mobilenetv3@w1.2,r192-224")))
	require.NoError(t, err)
	for name, want := range map[string]string{
		"mobilenetv3@w1.2,r208": "", "mobilenetv3@w1.2,r192-208": "",
		"mobilenetv3":               "92 of the 92 parts of mobilenetv3 are missing: w1.0/r224/stem, ",
		"mobilenetv3@w1.2,r176-192": "92 of the 184 parts",
		"nasbench101":               "no sum over parts", "darts": "no sum over parts",
		chainFile: "parts of blocks are missing: fixed, stem/conv3x3, ",
	} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		_, err = table.For(sp)
		if want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	_, err = Open(filepath.Join(t.TempDir(), "none"), nil)
	require.Error(t, err)
	require.Nil(t, (*Model)(nil).Known())
	require.Empty(t, (*Model)(nil).Checksum())
}

// Whatever the bytes, a table is refused with an error that names it, or what it says is in order.
func FuzzTable(f *testing.F) {
	f.Add([]byte("part,ms\na,1\n"))
	f.Add([]byte("# x\npart,ms,q1_ms,q3_ms,samples\n\"a,b\",1.5e-3,1,2,3\n"))
	table := &Table{Facts: []Fact{{factDevice, "d"}}, Parts: []Part{{Name: "fixed", MS: 1, Samples: 2}}}
	path := filepath.Join(f.TempDir(), "t.csv")
	if err := table.Write(path); err != nil {
		f.Fatal(err)
	}
	f.Add(table.Text())
	sp, err := space.Open(chainFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := Parse("fuzz.csv", text)
		if err != nil {
			require.ErrorContains(t, err, "fuzz.csv")
			return
		}
		for _, p := range table.Parts {
			require.NotEmpty(t, p.Name)
			require.True(t, p.MS >= 0 && p.MS <= space.MaxMilliseconds)
		}
		_, _ = table.For(sp)
		_ = table.String()
		require.LessOrEqual(t, len(table.Slowest(3)), 3)
	})
}
