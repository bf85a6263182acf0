package table

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

func openSpaceTable(t *testing.T, path, name string, q Query) *View {
	t.Helper()
	table, err := Open(t.Context(), path, Options{Space: spaceOf(t, name), Columns: q.Columns})
	require.NoError(t, err)
	v, err := table.View(q)
	require.NoError(t, err)
	for i := range table.Len() {
		at, ok := table.Index(table.Arch(i))
		require.True(t, ok)
		require.Equal(t, i, at)
	}
	return v
}

func TestMobileNetTable(t *testing.T) {
	v := openSpaceTable(t, testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"), "mobilenetv3", Query{})
	require.Len(t, v.Cells(), 1081)
	i, accuracy, err := v.Best()
	require.NoError(t, err)
	require.InDelta(t, 0.77466, accuracy, 1e-9)
	require.Equal(t, space.MobileNetV3{}.Alphabet(), v.Table().Space().Alphabet())
	require.Contains(t, v.Table().Arch(i).String(), "@w1.0,r224")
	_, err = Open(t.Context(), testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"),
		Options{Space: spaceOf(t, "mobilenetv3@w1.2")})
	require.ErrorContains(t, err, "the architecture has")
	_, err = Open(t.Context(), testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"),
		Options{Space: spaceOf(t, "darts")})
	require.ErrorContains(t, err, "--space mobilenetv3")
}

// Rows that write one network in two ways count once, with their mean.
func TestDartsTable(t *testing.T) {
	v := openSpaceTable(t, testdata.Path(t, "darts/oncenas_darts_545.csv"), "darts@cifar10", Query{})
	require.Len(t, v.Cells(), 526)
	require.Contains(t, v.Describe(), "50 epochs")
	require.Contains(t, v.Describe(), "19 rows that write an architecture once more, averaged")
	ten := openSpaceTable(t, testdata.Path(t, "darts/oncenas_darts_545.csv"), "darts", Query{Epochs: 10})
	require.Equal(t, 10, ten.SeenMetric().Epochs)
}

// A user's own file: an architecture a line, costs checked, repeats refused.
func TestTableOfASpace(t *testing.T) {
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	s := philox.New(1, philox.PurposeTest, 0)
	write := func(rows ...string) string {
		path := filepath.Join(t.TempDir(), "t.csv")
		text := "arch,madds,test_accuracy\n"
		for _, r := range rows {
			text += r + "\n"
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	a, b := sp.Sample(s), sp.Sample(s)
	line := func(x space.Arch, wrong int64) string { return fmt.Sprintf("%q,%d,0.5", x, x.Cost().MAdds+wrong) }
	v := openSpaceTable(t, write(line(a, 0), line(b, 0)), "mobilenetv3@w1.2", Query{})
	require.Len(t, v.Cells(), 2)
	for want, rows := range map[string][]string{
		"line 3":               {line(a, 0), line(a, 0)},
		"the architecture has": {line(a, 1)},
		"unit 1 has depth 9":   {`"mobilenetv3:92222:` + "33003300330033003300:66006600660066006600" + `",1,0.5`},
	} {
		_, err := Open(t.Context(), write(rows...), Options{Space: spaceOf(t, "mobilenetv3@w1.2")})
		require.ErrorContains(t, err, want)
	}
}

// convert writes a table in the compact form and opens that.
func convert(t *testing.T, table *Table) *Table {
	path := filepath.Join(t.TempDir(), "x.ctt")
	require.NoError(t, WriteCTT(path, table))
	again, err := Open(t.Context(), path, Options{Space: table.Space()})
	if f := space.FileOf(table.Space()); f != nil {
		again, err = Open(t.Context(), path, Options{Space: spaceOf(t, spaceFile(t, string(f.Text())))})
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = again.Close() })
	return again
}

func spaceFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "space.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return "file:" + path
}

// A converted table of any space is the table.
func TestConvertEverySpace(t *testing.T) {
	for _, c := range []struct{ path, space string }{
		{"../../docs/examples/blocks.csv", "file:../../docs/examples/blocks.yaml"},
		{"../../docs/examples/nb201-like.csv", "file:../../docs/examples/nb201-like.yaml"},
		{testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"), "mobilenetv3"},
		{testdata.Path(t, "darts/oncenas_darts_545.csv"), "darts@cifar10"},
	} {
		v := openSpaceTable(t, c.path, c.space, Query{})
		want := v.Table()
		costs := make([]space.Cost, want.Len())
		for i := range costs {
			costs[i] = want.Arch(i).Cost()
		}
		got := convert(t, want)
		require.NoError(t, got.Verify(t.Context()))
		require.Equal(t, want.Len(), got.Len())
		require.Equal(t, want.Metrics(), got.Metrics())
		require.Equal(t, want.Source(), got.Source())
		for i := range want.Len() {
			a := got.Arch(i)
			require.Equal(t, want.Arch(i), a)
			require.Equal(t, costs[i], a.Cost())
			at, ok := got.Index(a)
			require.True(t, ok)
			require.Equal(t, i, at)
			for m := range want.Metrics() {
				require.Equal(t, want.Value(m, i), got.Value(m, i))
			}
		}
		again, err := got.View(Query{})
		require.NoError(t, err)
		require.Equal(t, v.Describe(), again.Describe())
	}
}

// A table that was converted for one file of a space is not read with another of the same name: its codes are numbers
// of choices.
func TestConvertedForAnotherFile(t *testing.T) {
	const text = "space: s\nblocks:\n  - {name: a, operations: [x, y]}\n  - {name: b, operations: [x, y]}\n"
	one := spaceFile(t, text)
	table, err := Open(t.Context(), file(t, "x.csv", []byte("arch,accuracy\nx|y,0.5\ny|y,0.6\n")),
		Options{Space: spaceOf(t, one)})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "x.ctt")
	require.NoError(t, WriteCTT(path, table))
	_, err = Open(t.Context(), path, Options{Space: spaceOf(t, one)})
	require.NoError(t, err)
	other := spaceFile(t, strings.ReplaceAll(text, "[x, y]", "[y, x]"))
	_, err = Open(t.Context(), path, Options{Space: spaceOf(t, other)})
	require.ErrorContains(t, err, "another file of the space s, with SHA-256 ")
	_, err = Open(t.Context(), path, Options{})
	require.ErrorContains(t, err, `the table is of the space "s", want nasbench101`)
}

// Costs that only the table says are those of its architectures, and unknown where it says none.
func TestCostsOfATable(t *testing.T) {
	text := "space: told\nblocks:\n  - {name: a, operations: [x, y]}\n  - {name: b, operations: [x, y]}\n"
	table, err := Open(t.Context(), file(t, "x.csv", []byte("arch,accuracy,params\nx|y,0.5,7\ny|y,0.6,\nx|x,0.4,9\n")),
		Options{Space: spaceOf(t, spaceFile(t, text))})
	require.NoError(t, err)
	for _, table := range []*Table{table, convert(t, table)} {
		for text, params := range map[string]int64{"x|y": 7, "x|x": 9, "y|y": space.Unknown, "y|x": space.Unknown} {
			a, err := table.Space().Parse(text)
			require.NoError(t, err)
			require.Equal(t, space.Cost{MAdds: space.Unknown, Params: params}, a.Cost())
		}
	}
}
