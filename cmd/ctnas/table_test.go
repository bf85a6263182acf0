package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallTable writes a CSV table of sampled cells with invented accuracies.
func smallTable(t *testing.T, n int) string {
	_, stdout, stderr := call(nil, "space", "sample", "nasbench101", "-n", "64", "--json")
	var rows []archRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows), stderr)
	var csv strings.Builder
	csv.WriteString("arch,accuracy\n")
	for i, r := range rows[:n] {
		csv.WriteString(r.Arch + ",0." + string(rune('1'+i%9)) + "\n")
	}
	path := filepath.Join(t.TempDir(), "small.csv")
	require.NoError(t, os.WriteFile(path, []byte(csv.String()), 0o644))
	return path
}

func TestTableCommands(t *testing.T) {
	csv := smallTable(t, 20)
	code, stdout, stderr := call(nil, "table", "info", csv, "--json")
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var info map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &info))
	require.EqualValues(t, 20, info["records"])
	require.Equal(t, "csv", info["format"])
	require.Equal(t, "nasbench101", info["space"])
	require.InDelta(t, 0.9, info["best"].(map[string]any)["accuracy"], 1e-9)

	ctt := filepath.Join(t.TempDir(), "small.ctt")
	code, _, stderr = call(nil, "table", "convert", csv, "-o", ctt)
	require.Equal(t, exitOK, code, stderr)
	code, stdout, stderr = call(nil, "table", "info", ctt)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "made from      small.csv (csv)")
	require.Contains(t, stdout, info["checksum"].(string))

	code, stdout, stderr = call(nil, "table", "info", "--verify", ctt)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "20 architectures in their order, 1 columns, 3 sections of trees; no SHA-256 is published for")

	network := "mobilenetv3:2,2,2,2,2:3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0:3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0@w1.0,r224"
	other := filepath.Join(t.TempDir(), "other.csv")
	require.NoError(t, os.WriteFile(other, []byte("arch,accuracy\n\""+network+"\",0.75\n"), 0o644))
	code, stdout, stderr = call(nil, "table", "info", other, "--space", "mobilenetv3")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "mobilenetv3:2,2,2,2,2:")
	require.Contains(t, stdout, "75.0000 %")

	mobile := filepath.Join(t.TempDir(), "mobile.ctt")
	code, _, stderr = call(nil, "table", "convert", other, "--space", "mobilenetv3", "-o", mobile)
	require.Equal(t, exitOK, code, stderr)
	code, again, stderr := call(nil, "table", "info", mobile, "--space", "mobilenetv3", "--verify")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, again, stdout[strings.Index(stdout, "best "):])

	for line, want := range map[string]int{
		"table info " + mobile:                           exitFailed,
		"table info " + other:                            exitFailed,
		"table info --space nothing " + other:            exitUsage,
		"table convert " + csv:                           exitUsage,
		"table get nasbench201":                          exitUsage,
		"table info table:" + csv + "?split=best":        exitUsage,
		"table info " + csv + ".none":                    exitFailed,
		"table info --verify " + csv:                     exitFailed,
		"table convert " + csv + " -o /nowhere/at/all.x": exitFailed,
	} {
		code, _, stderr = call(nil, strings.Fields(line)...)
		require.Equal(t, want, code, "%s: %s", line, stderr)
	}
	require.NoError(t, os.WriteFile(ctt, []byte("arch,accuracy\nnonsense,0.5\n"), 0o644))
	code, _, stderr = call(nil, "table", "info", ctt)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "small.ctt: line 2")
}
