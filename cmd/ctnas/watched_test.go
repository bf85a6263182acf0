package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// watcher is standard error; at each line about a candidate it asks for the numbers.
type watcher struct {
	t       *testing.T
	text    bytes.Buffer
	numbers string
	page    string
}

var watchedAt = regexp.MustCompile(`msg=watched page=http\S+ at=(http://127\.0\.0\.1:\d+/metrics)`)

func (w *watcher) Write(p []byte) (int, error) {
	w.text.Write(p)
	if at := watchedAt.FindStringSubmatch(w.text.String()); at != nil && bytes.Contains(p, []byte("labels, best")) {
		r, err := http.Get(at[1])
		require.NoError(w.t, err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		require.NoError(w.t, err)
		w.numbers = string(text)
		r, err = http.Get(strings.TrimSuffix(at[1], "metrics"))
		require.NoError(w.t, err)
		defer r.Body.Close()
		text, err = io.ReadAll(r.Body)
		require.NoError(w.t, err)
		w.page = string(text)
	}
	return len(p), nil
}

// A search that is watched tells how it is going, and ends in the same bytes as one that is not.
func TestWatching(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, writeColours("data", "blue", "green", "red"))
	line := []string{"search", "--space", "nasbench101-v5", "--method", "random", "--budget", "10", "--init", "8",
		"--labels", "train:imagenet:data?recipe=shapes&epochs=1&batch=10&channels=4&resolution=8&val-split=0.3" +
			"&recalibrate=1"}
	none := func(string) (string, bool) { return "", false }
	w := &watcher{t: t}
	args := append(line, "--label-cache", "cache", "--out", "watched", "--metrics", "0")
	code := run(t.Context(), args, io.Discard, w, none)
	require.Equal(t, exitOK, code, w.text.String())
	for _, want := range []string{"ctnas_labels ", "ctnas_best_accuracy ", `ctnas_jobs{state="done"} `,
		"ctnas_job_seconds_count ", "ctnas_checkpoint_seconds_count ", `ctnas_images_per_second{device="cpu"} `,
		"ctnas_loader_wait_ratio "} {
		require.Contains(t, w.numbers, "\n"+want)
	}
	for _, want := range []string{"<h1>ctnas search</h1>", "<code>ctnas search --space nasbench101-v5",
		"<span>of 10</span>", "Best so far", "ctnas_labels"} {
		require.Contains(t, w.page, want)
	}
	for text := range strings.SplitSeq(w.numbers, "\n") {
		require.NotContains(t, text, "nasbench101")
		require.NotContains(t, text, t.TempDir())
	}
	code, _, stderr := call(nil, append(line, "--out", "alone", "--label-cache", "other")...)
	require.Equal(t, exitOK, code, stderr)
	require.NotContains(t, stderr, "watched")
	for _, name := range []string{"result.json", "ledger.jsonl"} {
		watched, err := os.ReadFile(filepath.Join("watched", name))
		require.NoError(t, err)
		alone, err := os.ReadFile(filepath.Join("alone", name))
		require.NoError(t, err)
		require.Equal(t, string(alone), string(watched))
	}
	for _, address := range []string{"x:y", "70000", ":"} {
		code, _, stderr = call(nil, append(line, "--metrics", address)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "--metrics")
	}
}
