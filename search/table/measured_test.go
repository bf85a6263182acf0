package table

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

func TestMeasured(t *testing.T) {
	sp, err := space.ParseFile("tiny", []byte("space: tiny\nblocks:\n- {name: a, operations: [x, y]}\n"+
		"- {name: b, operations: [x, y], repeat: [1, 2]}\n"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "m.csv")
	read := func(text, metric string, also []string, query string) ([]Measurement, int, error) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		q, err := ParseQuery(query)
		require.NoError(t, err)
		return Measured(context.Background(), path, metric, also, q, Options{Space: sp})
	}
	// A row as often as it stands there, in the order of the file, with its line; a row without the metric is left out.
	list, unsaid, err := read("arch;accuracy;latency_ms\nx|y;0.5;3\nx|y;0,4;-1\n\ny|x+y;;2\ny|x;70%;\n", Accuracy,
		[]string{"latency_ms"}, "")
	require.NoError(t, err)
	require.Equal(t, 1, unsaid)
	require.Len(t, list, 3)
	require.Equal(t, []int{2, 3, 6}, []int{list[0].Line, list[1].Line, list[2].Line})
	require.Equal(t, list[0].Arch, list[1].Arch)
	require.Equal(t, map[string]float64{Accuracy: 0.4, "latency_ms": -1}, list[1].Values)
	require.Equal(t, map[string]float64{Accuracy: 0.7}, list[2].Values)
	// A column a decision, in per cent; the validation accuracy where there are others, and the mean of its runs.
	list, _, err = read("a,b.1,b.2,test_accuracy,val_acc_run1_percent,val_acc_run2_percent\nx,y,,0.1,50,60\n", Accuracy,
		nil, "")
	require.NoError(t, err)
	require.Equal(t, "tiny:x|y", list[0].Arch.String())
	require.InDelta(t, 0.55, list[0].Values[Accuracy], 1e-12)
	// Another metric may be any number, and needs no accuracy.
	list, _, err = read("arch,Perplexity\nx|y,-23.5\n", "perplexity", nil, "")
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"perplexity": -23.5}, list[0].Values)
	for _, c := range []struct{ text, metric, query, want string }{
		{"arch,accuracy\nx|y,0.5\nx|q,0.5\n", Accuracy, "", "m.csv: line 3 (record 1"},
		{"arch,accuracy\nx|y,1.5\n", Accuracy, "", "outside of 0..1"},
		{"arch,accuracy\nx|y,inf\n", Accuracy, "", "line 2"},
		{"arch,accuracy\nx|y,0.5\n", "perplexity", "", `no column "perplexity"`},
		{"arch,loss\nx|y,0.5\n", Accuracy, "", "no column of accuracies"},
		{"arch,accuracy\nx|y,0.5\n", Accuracy, "split=test", "has no test accuracy"},
		{"arch,accuracy\nx|y\n", Accuracy, "", "number of columns"},
		{"", Accuracy, "", "empty"},
	} {
		_, _, err = read(c.text, c.metric, nil, c.query)
		require.ErrorContains(t, err, c.want, c.text)
	}
	_, _, err = Measured(context.Background(), filepath.Join(t.TempDir(), "none"), Accuracy, nil, Query{},
		Options{Space: sp})
	require.ErrorIs(t, err, os.ErrNotExist)
}
