package table

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

func openSpaceTable(t *testing.T, path, name string, q Query) *View {
	t.Helper()
	table, err := Open(path, Options{Space: name, Columns: q.Columns})
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
	require.ErrorContains(t, WriteCTT(filepath.Join(t.TempDir(), "x.ctt"), v.Table()), "used as CSV")
	_, err = Open(testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"), Options{Space: "mobilenetv3@w1.2"})
	require.ErrorContains(t, err, "the architecture has")
	_, err = Open(testdata.Path(t, "mobilenetv3/ofa_mbv3_w1.0_r224.csv"), Options{Space: "darts"})
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
		_, err := Open(write(rows...), Options{Space: "mobilenetv3@w1.2"})
		require.ErrorContains(t, err, want)
	}
}
