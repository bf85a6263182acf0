package main

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

func TestZooTable(t *testing.T) {
	code, stdout, stderr := call(nil, "zoo", "--json")
	require.Equal(t, exitOK, code, stderr)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Len(t, rows, len(zoo.Rows()))
	for _, key := range []string{"name", "row", "top1", "top5", "madds", "madds_published", "params", "queries",
		"search_gpu_days", "total_gpu_days", "source", "note"} {
		require.Contains(t, rows[0], key)
	}
	byName := map[string]map[string]any{}
	for _, r := range rows {
		byName[r["name"].(string)] = r
	}
	require.EqualValues(t, 581627328, byName["pcdarts_imagenet"]["madds"])
	require.EqualValues(t, 3400, byName["pcdarts_imagenet"]["queries"])
	require.Nil(t, byName["ctnas"]["madds"])
	require.EqualValues(t, 482e6, byName["ctnas"]["madds_published"])
	require.EqualValues(t, 50.1, byName["ctnas"]["total_gpu_days"])

	code, stdout, _ = call(nil, "zoo", "--format", "csv")
	require.Equal(t, exitOK, code)
	lines, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+len(zoo.Rows()))
	code, stdout, _ = call(nil, "zoo", "--format", "markdown")
	require.Equal(t, exitOK, code)
	require.Equal(t, 2+len(zoo.Rows()), strings.Count(stdout, "\n"))
}

func TestZooLayers(t *testing.T) {
	code, stdout, stderr := call(nil, "zoo", "mobilenetv3_large_1.0", "--json")
	require.Equal(t, exitOK, code, stderr)
	var got struct {
		MAdds, Params int64
		Layers        []layerRow
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	var madds, params int64
	for _, l := range got.Layers {
		madds += l.MAdds
		params += l.Params
	}
	require.Equal(t, []int64{216589760, 5483032}, []int64{got.MAdds, got.Params})
	require.Equal(t, []int64{216589760, 5483032}, []int64{madds, params})
	require.Equal(t, layerRow{"stem/conv", "3x3 convolution by 2x2, batch norm, h-swish", "112x112x16", 5419008, 464},
		got.Layers[0])
}
