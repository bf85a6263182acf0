package table

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ctnas/ctnas/internal/tfrecord"
	"github.com/stretchr/testify/require"
)

func TestTFRecordFull(t *testing.T) {
	cells := someCells(40)
	table := open(t, "nasbench_full.tfrecord", tfFile(shuffled(cells), 4, 12, 36, 108))
	require.Len(t, table.Metrics(), 4*3*4)
	require.Equal(t, Metric{Accuracy, "test", 1, 4}, table.Metrics()[0])
	require.Equal(t, Metric{TrainingTime, "", 3, 108}, table.Metrics()[47])
	for k, m := range table.Metrics() {
		for i, c := range cells {
			want := fakeAccuracy(c, m)
			if m.Name == TrainingTime {
				want = float64(m.Run) + 0.25
			}
			require.Equal(t, want, table.Value(k, i), "%v", m)
		}
	}
}

func TestTFRecordMissingRunsAreMissing(t *testing.T) {
	cells := someCells(3)
	table := open(t, "x", framed(tfContent(cells[0], 1, 108), tfContent(cells[1], 1, 108), tfContent(cells[1], 2, 108),
		tfContent(cells[2], 1, 4)))
	runs := map[int][]int{108: {1, 2, 0}, 4: {0, 0, 1}} // of each cell
	for k, m := range table.Metrics() {
		for i := range cells {
			require.Equal(t, m.Run <= runs[m.Epochs][i], !math.IsNaN(table.Value(k, i)), "%v of cell %d", m, i)
		}
	}
	require.Len(t, table.Metrics(), 3*4, "run 2 of 4 epochs and every run 3 are of nobody")
}

func TestTFRecordFaults(t *testing.T) {
	cells := someCells(4)
	c := cells[1]
	good := func(run int) []byte { return tfContent(c, run, 108) }
	ops := strings.Join(c.OpNames(), ",")
	value := evaluation(108, 1, 0.9, 0.9, 0.9)
	params := c.Cost().Params
	content := func(hash string, epochs int, adjacency, operations string, m []byte) []byte {
		return trainingJSON(hash, epochs, adjacency, operations, m)
	}
	proper := modelMetrics(params, value)
	for name, bad := range map[string]struct {
		content []byte
		text    string
	}{
		"no JSON":              {[]byte("hello"), "not a list"},
		"JSON of another kind": {[]byte(`{"a":1}`), "not a list"},
		"too short":            {[]byte(`["a",1,"b","c"]`), "4 items"},
		"too long":             {[]byte(`["a",1,"b","c","d","e"]`), "6 items"},
		"null":                 {[]byte(`["a",1,null,"c","d"]`), "5 items"},
		"epochs as text":       {[]byte(`["a","1","b","c","d"]`), "not a list"},
		"two lists":            {append(good(1), "[]"...), "not a list"},
		"hash too short":       {content("abc", 108, matrixText(c), ops, proper), "has 3 digits"},
		"hash not hexadecimal": {content(strings.Repeat("z", 32), 108, matrixText(c), ops, proper), "module hash"},
		"hash of another": {content(cells[2].Hash(), 108, matrixText(c), ops, proper),
			"does not belong to the graph"},
		"no epochs":        {content(c.Hash(), 0, matrixText(c), ops, proper), "0 epochs"},
		"too many epochs":  {content(c.Hash(), 1e6, matrixText(c), ops, proper), "1000000 epochs"},
		"matrix too short": {content(c.Hash(), 108, matrixText(c)[1:], ops, proper), "adjacency of"},
		"matrix with a loop": {content(c.Hash(), 108, "1"+matrixText(c)[1:], ops, proper),
			"strictly upper triangular"},
		"matrix not of digits": {content(c.Hash(), 108, "0x"+matrixText(c)[2:], ops, proper), "want 0 or 1"},
		"unknown operation":    {content(c.Hash(), 108, "010001000", "input,conv9x9,output", proper), "conv9x9"},
		"no output": {content(c.Hash(), 108, "010001000", "input,maxpool3x3,maxpool3x3", proper),
			"output last"},
		"not base64":    {[]byte(fmt.Sprintf(`[%q,108,%q,%q,"*"]`, c.Hash(), matrixText(c), ops)), "base64"},
		"not protobuf":  {content(c.Hash(), 108, matrixText(c), ops, []byte{0xff}), "protobuf"},
		"message cut":   {content(c.Hash(), 108, matrixText(c), ops, proper[:20]), "protobuf"},
		"no evaluation": {content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params)), "no evaluation"},
		"evaluation cut": {content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params, value[:12])),
			"evaluation"},
		"evaluation empty": {content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params, nil)),
			"has no train accuracy"},
		"parameters missing": {content(c.Hash(), 108, matrixText(c), ops, proper[:len(value)+2]),
			"no number of parameters"},
		"parameters of another": {content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params+1, value)),
			"parameters, the architecture has"},
		"parameters wrong type": {content(c.Hash(), 108, matrixText(c), ops, []byte{0x11, 0, 0, 0, 0, 0, 0, 0, 0}),
			"wire type"},
		"accuracy above 1": {content(c.Hash(), 108, matrixText(c), ops,
			modelMetrics(params, evaluation(1, 1, 1, 1.5, 1))), "validation accuracy: accuracy 1.5 is outside"},
		"accuracy NaN": {content(c.Hash(), 108, matrixText(c), ops,
			modelMetrics(params, evaluation(1, 1, 1, 1, math.NaN()))), "NaN"},
		"time negative": {content(c.Hash(), 108, matrixText(c), ops,
			modelMetrics(params, evaluation(1, -1, 1, 1, 1))), "negative"},
		"time infinite": {content(c.Hash(), 108, matrixText(c), ops,
			modelMetrics(params, evaluation(1, math.Inf(1), 1, 1, 1))), "Inf"},
		"accuracy as an integer": {content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params, []byte{0x18, 1})),
			"want a double"},
	} {
		t.Run(name, func(t *testing.T) {
			before := framed(tfContent(cells[0], 1, 108), tfContent(cells[0], 2, 108))
			err := openError(t, append(before, framed(bad.content, tfContent(cells[3], 1, 108))...), Options{})
			requireError(t, err, 2, int64(len(before)), 0, bad.text)
		})
	}
	t.Run("a fourth run", func(t *testing.T) {
		before := framed(good(1), good(2), good(3))
		requireError(t, openError(t, append(before, framed(good(1))...), Options{}), 3, int64(len(before)), 0,
			"a fourth run of 108 epochs")
	})
	t.Run("one graph with two hashes", func(t *testing.T) {
		before := framed(good(1))
		bad := content(cells[2].Hash(), 108, matrixText(c), ops, proper)
		requireError(t, openError(t, append(before, framed(bad)...), Options{}), 1, int64(len(before)), 0,
			"record 0 gives the same graph")
	})
	t.Run("one graph with two numbers of parameters", func(t *testing.T) {
		before := framed(good(1))
		bad := content(c.Hash(), 108, matrixText(c), ops, modelMetrics(params+1, value))
		requireError(t, openError(t, append(before, framed(bad)...), Options{}), 1, int64(len(before)), 0,
			"record 0 gives the same graph")
	})
	t.Run("too many numbers of epochs", func(t *testing.T) {
		var contents [][]byte
		for e := range 9 {
			contents = append(contents, tfContent(c, 1, e+1))
		}
		before := framed(contents[:8]...)
		requireError(t, openError(t, framed(contents...), Options{}), 8, int64(len(before)), 0, "more than 8")
	})
}

func TestTFRecordDamage(t *testing.T) {
	cells := someCells(2)
	first, second := framed(tfContent(cells[0], 1, 108)), framed(tfContent(cells[1], 1, 108))
	whole := append(bytes.Clone(first), second...)
	start := int64(len(first))
	requireError(t, openError(t, whole[:len(whole)-1], Options{}), 1, start, 0, "truncated")
	requireError(t, openError(t, whole[:len(first)+5], Options{}), 1, start, 0, "truncated")
	bad := bytes.Clone(whole)
	bad[len(first)+100] ^= 1
	requireError(t, openError(t, bad, Options{}), 1, start, 0, "data: checksum does not match")
	bad = bytes.Clone(whole)
	bad[len(first)] ^= 1
	requireError(t, openError(t, bad, Options{}), 1, start, 0, "length: checksum does not match")
	long := tfrecord.Append(bytes.Clone(first), make([]byte, maxRecordBytes+1))
	requireError(t, openError(t, long, Options{}), 1, start, 0, "too long")
	packed := zipped(t, bytes.Repeat(first, 1))
	requireError(t, openError(t, packed[:len(packed)-40], Options{}), 0, 0, 0, "truncated")
}
