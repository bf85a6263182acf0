package table

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCSVWaysToWriteAnArchitecture(t *testing.T) {
	want := mustParse(t, "nasbench101:4:101101:02")
	require.Equal(t, want, mustParse(t, want.String()))
	for _, row := range []string{
		"arch\nnasbench101:4:101101:02",
		"architecture\n nasbench101:4:101101:02 ",
		"adjacency,operations\n101101,02",
		"adj,ops\n101101,02",
		"adjacency,operations\n0101001000010000,02",
		"matrix,operations\n0 1 0 1 0 0 1 0 0 0 0 1 0 0 0 0,02",
		"matrix,operations\n\"[[0, 1, 0, 1], [0, 0, 1, 0],\n [0, 0, 0, 1], [0, 0, 0, 0]]\",\"['input', " +
			"'conv3x3-bn-relu', 'maxpool3x3', 'output']\"",
		"adjacency,operations\n101101,input;conv3x3-bn-relu;maxpool3x3;output",
		"adjacency,operations\n101101,conv3x3-bn-relu maxpool3x3",
		"adjacency,operations\n101101,\"conv3x3-bn-relu,maxpool3x3\"",
	} {
		header, rest, _ := strings.Cut(row, "\n")
		text := header + ",accuracy\n" + rest + ",0.5\n"
		if row == "arch\nnasbench101:4:101101:02" {
			text = "\ufeff" + strings.ReplaceAll(text, "\n", "\r\n") // as a spreadsheet writes it
		}
		table := open(t, "x.csv", []byte(text))
		require.Equal(t, want, table.Arch(0), row)
	}
	two := open(t, "x.csv", []byte("adjacency,operations,accuracy\n1,,0.5\n"))
	require.Equal(t, mustParse(t, "nasbench101:2:1:"), two.Arch(0))
}

func TestCSVMetricNames(t *testing.T) {
	table := open(t, "x.csv",
		[]byte("arch,accuracy,val_acc,test_accuracy_run1,validation_accuracy_run2_epochs108,train_acc_mean_percent,"+
			"training_time,test_accuracy_run3_percent,valid_accuracy_epochs12,accuracy_of_my_cat,madds,params\n"+
			"nasbench101:2:1:,0.1,0.2,0.3,0.4,50,60,70,,9000,,\n"+
			"nasbench101:best,0.1,0.2,0.3,0.4,50,60,7e1,0.8,?,,32426634\n"))
	want := map[Metric]float64{
		{Accuracy, "", 0, 0}: 0.1, {Accuracy, "validation", 0, 0}: 0.2, {Accuracy, "test", 1, 0}: 0.3,
		{Accuracy, "validation", 2, 108}: 0.4, {Accuracy, "train", 0, 0}: 0.5, {TrainingTime, "", 0, 0}: 60,
		{Accuracy, "test", 3, 0}: 0.7, {Accuracy, "validation", 0, 12}: 0.8,
	}
	require.Len(t, table.Metrics(), len(want))
	best, ok := table.Index(mustParse(t, "nasbench101:best"))
	require.True(t, ok)
	for k, m := range table.Metrics() {
		value, known := want[m]
		require.True(t, known, "%v", m)
		require.Equal(t, value, table.Value(k, best), "%v", m)
		require.Equal(t, m.Epochs == 12, math.IsNaN(table.Value(k, 1-best)), "%v: an empty field is missing", m)
	}
}

func TestCSVNamedColumns(t *testing.T) {
	c := mustParse(t, "nasbench101:best")
	text := fmt.Sprintf("id,cell,score,test_accuracy,score_percent,cost,fingerprint\n7,%v,0.5,0.6,70,%d,%s\n", c,
		c.Cost().MAdds, c.Hash())
	path := file(t, "x.csv", []byte(text))
	for query, want := range map[string]map[Metric]float64{
		"arch=cell&accuracy=score":                          {{Accuracy, "", 0, 0}: 0.5},
		"arch=cell&accuracy=score_percent&madds=cost":       {{Accuracy, "", 0, 0}: 0.7},
		"arch=cell&accuracy=test_accuracy&hash=fingerprint": {{Accuracy, "test", 0, 0}: 0.6},
		"arch=cell&validation=score&test=score_percent&madds=cost": {{Accuracy, "validation", 0, 0}: 0.5,
			{Accuracy, "test", 0, 0}: 0.7},
		"arch=cell": {{Accuracy, "test", 0, 0}: 0.6},
	} {
		table, view, err := openLabels(t.Context(), "table:"+path+"?"+query, Options{})
		require.NoError(t, err, query)
		require.Len(t, table.Metrics(), len(want), query)
		for k, m := range table.Metrics() {
			require.Equal(t, want[m], table.Value(k, 0), query)
		}
		require.Equal(t, len(want) == 2, view.Sealed(), query)
	}
	for query, text := range map[string]string{
		"arch=cells":                                  `no column "cells"; the header has id, cell, score`,
		"arch=cell&accuracy=points":                   `no column "points"`,
		"arch=cell&madds=score":                       `column "score": "0.5" is not a count`,
		"arch=cell&params=cost":                       "parameters, the architecture has",
		"arch=cell&madds=id":                          "7 multiply-adds, the architecture has",
		"arch=cell&hash=id":                           "has 1 digits",
		"arch=cell&test=score&accuracy=test_accuracy": "two columns hold test accuracy",
		"accuracy=score":                              "no column arch, nor columns adjacency and operations",
	} {
		_, _, err := openLabels(t.Context(), "table:"+path+"?"+query, Options{})
		require.ErrorContains(t, err, text, query)
		require.ErrorContains(t, err, path, query)
	}
	_, err := Open(t.Context(), file(t, "x.json", []byte("["+goodItem+"]")), Options{Columns: Columns{Arch: "a"}})
	requireError(t, err, -1, 0, 0, "not CSV")
}

func TestCSVFaults(t *testing.T) {
	const header = "arch,test_accuracy,hash,params\n"
	const first = "nasbench101:2:1:,0.5,,882570\n"
	for name, bad := range map[string]struct{ line, text string }{
		"text for a number": {"nasbench101:best,high,,",
			`column "test_accuracy": "high" is not a number; one that is not known is left empty`},
		"infinite": {"nasbench101:best,Inf,,", "Inf"},
		"percent": {"nasbench101:best,94.2,,",
			"94.2 is outside of 0..1; if the column is in percent, end its name in _percent or say ?unit=percent"},
		"negative":            {"nasbench101:best,-0.1,,", "-0.1 is outside of 0..1"},
		"no such cell":        {"nasbench101:worst,0.5,,", "worst"},
		"twice":               {"nasbench101:2:1:,0.5,,", "stands at line 2 already"},
		"wrong hash":          {"nasbench101:best,0.5,00000000000000000000000000000000,", "does not belong"},
		"wrong parameters":    {"nasbench101:best,0.5,,5", "5 parameters, the architecture has 32426634"},
		"negative parameters": {"nasbench101:best,0.5,,-5", `column "params": "-5" is not a count`},
		"a column more":       {"nasbench101:best,0.5,,,", "number of columns is not that of the header: 5, want 4"},
		"a column less":       {"nasbench101:best,0.5,", "number of columns"},
		"open quote":          {"nasbench101:best,\"0.5,,", "column"},
		"quote in the middle": {"nasbench101:best,0\".5,,", "column 19"},
		"line without end": {"nasbench101:best," + strings.Repeat("0", maxRecordBytes+5000) + ",,",
			"a record of more than"},
	} {
		t.Run(name, func(t *testing.T) {
			line := 3
			if name == "line without end" {
				line = 0
			}
			err := openError(t, []byte(header+first+bad.line+"\nnasbench101:inception,0.5,,\n"), Options{})
			requireError(t, err, 1, int64(len(header+first)), line, bad.text)
		})
	}
	for text, want := range map[string]string{
		"arch,test_accuracy\n":                              "lists no architecture",
		"arch,test_accuracy\nnasbench101:best,\n":           "holds no number",
		"arch,params\nnasbench101:best,5\n":                 "no column of accuracies such as",
		"arch,test_accuracy,test_accuracy\n":                "names column \"test_accuracy\" twice",
		"arch,test_acc,test_accuracy\n":                     "two columns hold test accuracy",
		"arch,acc" + strings.Repeat(",", maxMetrics) + "\n": "columns, at most 256",
		"\"": "header",
	} {
		requireError(t, openError(t, []byte(text), Options{}), -1, 0, 0, want)
	}
}

func TestCSVTruncatedGzip(t *testing.T) {
	text := "arch,test_accuracy\n"
	for i, c := range someCells(500) {
		text += fmt.Sprintf("%v,%v\n", c, float64(i)/1000)
	}
	packed := zipped(t, []byte(text))
	for _, cut := range []int{len(packed) - 1, len(packed) / 2} {
		err := openError(t, packed[:cut], Options{})
		var at *Error
		require.ErrorAs(t, err, &at)
		require.ErrorContains(t, err, "the file is truncated")
		require.Greater(t, at.Record, int64(0))
		require.Greater(t, at.Offset, int64(0))
	}
	packed[len(packed)-6] ^= 1
	require.ErrorContains(t, openError(t, packed, Options{}), "damaged")
}
