package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unfinished is the folder of a search that was stopped at its end: its last checkpoint is there and its result is not.
func unfinished(t *testing.T, args ...string) (dir, result string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	code, _, stderr := call(nil, append(args, "--out", dir, "--quiet", "--budget", "12", "--init", "6",
		"--per-round", "6", "--members", "1", "--steps", "3",
		"--iterations", "3", "--pool", "20", "--mutations", "5", "--generations", "0")...)
	require.Equal(t, exitOK, code, stderr)
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	require.NoError(t, err)
	stop(t, dir)
	return dir, string(text)
}

func stop(t *testing.T, dir string) {
	require.NoError(t, os.Remove(filepath.Join(dir, "result.json")))
}

// resumes goes on and compares the result.
func resumes(t *testing.T, want, dir string, args ...string) {
	t.Helper()
	code, _, stderr := call(nil, append([]string{"search", "--quiet", "--resume", dir}, args...)...)
	require.Equal(t, exitOK, code, stderr)
	got, err := os.ReadFile(filepath.Join(dir, "result.json"))
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// refused does not go on, and says why.
func refused(t *testing.T, dir, why string, args ...string) string {
	t.Helper()
	code, _, stderr := call(nil, append([]string{"search", "--quiet", "--resume", dir}, args...)...)
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, stderr, why)
	require.NoFileExists(t, filepath.Join(dir, "result.json"))
	return stderr
}

// A table that has moved is told with --labels: what it says counts, not where and in which form it lies.
func TestResumeWithAMovedTable(t *testing.T) {
	csv := smallTable(t, 40)
	dir, want := unfinished(t, "search", "--labels", "table:"+csv)
	text, err := os.ReadFile(csv)
	require.NoError(t, err)
	config, err := os.ReadFile(filepath.Join(dir, "config.yaml"))
	require.NoError(t, err)
	place := t.TempDir()
	ctt, semicolons := filepath.Join(place, "t.ctt"), filepath.Join(place, "t.csv")
	other := filepath.Join(place, "other.csv")
	code, _, stderr := call(nil, "table", "convert", csv, "-o", ctt)
	require.Equal(t, exitOK, code, stderr)
	require.NoError(t, os.WriteFile(semicolons, []byte(strings.ReplaceAll(string(text), ",", ";")), 0o644))
	require.NoError(t, os.WriteFile(other, []byte(strings.Replace(string(text), ",0.1\n", ",0.2\n", 1)), 0o644))
	require.NoError(t, os.Remove(csv))
	stderr = refused(t, dir, csv)
	require.Contains(t, stderr, "if what labels come from has moved, say where it is now with --labels")
	stderr = refused(t, dir, "was begun on other labels: the checksum of what they say was ", "--labels",
		"table:"+other)
	require.Regexp(t, `was [0-9a-f]{64} then \(.*\) and is [0-9a-f]{64} now`, stderr)
	for _, path := range []string{ctt, semicolons} {
		resumes(t, want, dir, "--labels", "table:"+path)
		log, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
		require.NoError(t, err)
		require.Contains(t, string(log), `"event":"moved"`)
		require.Contains(t, string(log), path)
		stop(t, dir)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "config.yaml"))
	require.NoError(t, err)
	require.Equal(t, string(config), string(kept), "it says what the run began with")
}

// A space's file is kept in the folder: where the original has gone, or has changed, the search goes on with what it
// began.
func TestResumeWithAMovedSpace(t *testing.T) {
	place := t.TempDir()
	file, csv := filepath.Join(place, "blocks.yaml"), filepath.Join(place, "blocks.csv")
	for from, to := range map[string]string{"blocks.yaml": file, "blocks.csv": csv} {
		text, err := os.ReadFile(filepath.Join("../../docs/examples", from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, text, 0o644))
	}
	dir, want := unfinished(t, "search", "--space", "file:"+file, "--labels", "table:"+csv)
	require.NoError(t, os.WriteFile(file, []byte("space: blocks\nblocks:\n  - {name: a, operations: [x, y]}\n"), 0o644))
	resumes(t, want, dir)
	stop(t, dir)
	require.NoError(t, os.Remove(file))
	moved := filepath.Join(t.TempDir(), "moved.csv")
	require.NoError(t, os.Rename(csv, moved))
	resumes(t, want, dir, "--labels", "table:"+moved)
}

// Images that labels are trained on likewise: their content counts.
func TestResumeWithMovedImages(t *testing.T) {
	labels, cache := trainedLabels(t), t.TempDir()
	place, query, _ := strings.Cut(strings.TrimPrefix(labels, "train:imagenet:"), "?")
	moved := filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.CopyFS(moved, os.DirFS(place)))
	dir, want := unfinished(t, "search", "--space", "nasbench101-v4", "--labels", "train:imagenet:"+moved+"?"+query,
		"--label-cache", cache)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(moved, elsewhere))
	refused(t, dir, "say where it is now with --labels")
	resumes(t, want, dir, "--labels", "train:imagenet:"+elsewhere+"?"+query)
	stop(t, dir)
	refused(t, dir, "", "--labels", "train:imagenet:"+elsewhere+"?"+query+"&lr=0.5")
}
