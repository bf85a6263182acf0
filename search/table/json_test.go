package table

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const goodItem = `{"matrix":[[0,1,0],[0,0,1],[0,0,0]],"ops":["input","conv3x3-bn-relu","output"],"test_accuracy":0.9}`

func TestJSONOptionalFields(t *testing.T) {
	table := open(t, "nas_bench.json",
		[]byte(" \n["+goodItem+`, {"rank": null, "matrix":[[0,1],[0,0]],"ops":["input","output"],
		"n_params":882570,"training_time":17.5,"validation_accuracy":0.4, "test_accuracy":null,
		"hash_":"`+mustParse(t, "nasbench101:2:1:").Hash()+`"}]
	`))
	require.Equal(t, []Metric{{Accuracy, "test", 0, 108}, {Accuracy, "validation", 0, 108}, {TrainingTime, "", 0, 108}},
		table.Metrics())
	small, ok := table.Index(mustParse(t, "nasbench101:2:1:"))
	require.True(t, ok)
	require.True(t, math.IsNaN(table.Value(0, small)))
	require.Equal(t, 0.4, table.Value(1, small))
	require.Equal(t, 17.5, table.Value(2, small))
	require.Equal(t, 0.9, table.Value(0, 1-small))
}

func TestJSONFaults(t *testing.T) {
	item := func(extra string) string { return strings.TrimSuffix(goodItem, "}") + "," + extra + "}" }
	other := `{"matrix":[[0,1],[0,0]],"ops":["input","output"],"test_accuracy":0.9}`
	for name, bad := range map[string]struct{ item, text string }{
		"no matrix":           {`{"ops":["input","output"],"test_accuracy":0.9}`, "0 rows"},
		"no operations":       {`{"matrix":[[0,1],[0,0]],"test_accuracy":0.9}`, "0 operations"},
		"unknown operation":   {strings.Replace(goodItem, "conv3x3", "conv5x5", 1), "conv5x5"},
		"matrix of text":      {`{"matrix":"0100"}`, "matrix"},
		"not an object":       {`7`, "number"},
		"too many parameters": {item(`"n_params":1`), "1 parameters, the architecture has"},
		"negative parameters": {item(`"n_params":-1`), "-1 parameters"},
		"wrong hash":          {item(`"hash_":"00000000000000000000000000000000"`), "does not belong"},
		"empty hash":          {item(`"hash_":""`), "empty hash_"},
		"accuracy in percent": {item(`"validation_accuracy":94.2`),
			"validation accuracy: accuracy 94.2 is outside of 0..1"},
		"negative time":         {item(`"training_time":-1`), "negative"},
		"NaN":                   {item(`"train_accuracy":NaN`), "invalid character"},
		"number far too large":  {item(`"train_accuracy":1e999`), "train_accuracy"},
		"the same architecture": {other, "stands at record 0 already"},
		"a record without end": {item(`"note":"` + strings.Repeat("x", 2*maxRecordBytes) + `"`),
			"a record of more than"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "[" + other + "," + bad.item + "," + goodItem + "]"
			requireError(t, openError(t, []byte(text), Options{}), 1, int64(1+len(other)), 0, bad.text)
		})
	}
	for text, want := range map[string]struct {
		record, offset int64
		text           string
	}{
		`[]`:                      {-1, 0, "lists no architecture"},
		`[` + goodItem:            {1, int64(1 + len(goodItem)), "truncated"},
		`[` + goodItem + `,`:      {1, int64(1 + len(goodItem)), "truncated"},
		`[` + goodItem + `] more`: {1, int64(3 + len(goodItem)), "more follows"},
		`[` + goodItem[:50]:       {0, 1, "truncated"},
		`[` + goodItem + ` 1]`:    {1, int64(2 + len(goodItem)), "comma"},
		`[{"matrix":[[0,1],[0,0]],"ops":["input","output"]}]`: {-1, 0, "holds no number"},
	} {
		requireError(t, openError(t, []byte(text), Options{}), want.record, want.offset, 0, want.text)
	}
}

func TestJSONFaultDoesNotOvertakeAnEarlierOne(t *testing.T) {
	var items []string
	for _, c := range someCells(20) {
		items = append(items, fmt.Sprintf(`{"matrix":%s,"ops":["%s"],"test_accuracy":0.5}`,
			strings.ReplaceAll(fmt.Sprint(c.Matrix()), " ", ","), strings.Join(c.OpNames(), `","`)))
	}
	items[3] = items[1]
	items[9] = "}" // found while reading, long before record 3 is compared
	offset := len("["+strings.Join(items[:3], ",")) + 0
	requireError(t, openError(t, []byte("["+strings.Join(items, ",")+"]"), Options{}), 3, int64(offset), 0,
		"stands at record 1 already")
}
