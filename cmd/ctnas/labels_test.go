package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// trainedLabels are labels that take milliseconds each.
func trainedLabels(t *testing.T) string {
	return "train:imagenet:" + testdata.Images(t) + "?recipe=shapes&epochs=6&batch=10&channels=8&resolution=8&val-split=0.3&recalibrate=1&stop=median"
}

// trainedSearch is a search that trains its labels, in three submissions or more.
func trainedSearch(labels, out, cache string) []string {
	return []string{"search", "--space", "nasbench101-v4", "--labels", labels, "--budget", "30", "--init", "12", "--per-round", "9", "--members", "1", "--steps", "5",
		"--iterations", "5", "--pool", "64", "--mutations", "8", "--seed", "4", "--quiet", "--label-cache", cache, "--out", out}
}

func TestSearchTrainsItsLabels(t *testing.T) {
	labels := trainedLabels(t)
	dir, cache := filepath.Join(t.TempDir(), "run"), t.TempDir()
	code, stdout, stderr := call(nil, append(trainedSearch(labels, dir, cache), "--json", "--label-workers", "3")...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var result struct {
		Pick          string   `json:"pick"`
		PickAccuracy  float64  `json:"pick_accuracy"`
		PickJudged    *float64 `json:"pick_judged"`
		PickRank      int      `json:"pick_rank"`
		Architectures []struct {
			Arch     string   `json:"arch"`
			Accuracy *float64 `json:"accuracy"`
			Note     string   `json:"note"`
		} `json:"architectures"`
		Samples any `json:"controller_samples"`
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.NotNil(t, result.PickJudged)
	require.Zero(t, result.PickRank, "nobody knows it")
	require.Nil(t, result.Samples)
	require.Greater(t, result.PickAccuracy, 0.34)
	stopped := 0
	for _, a := range result.Architectures {
		if a.Note != "" {
			stopped++
			require.Contains(t, a.Note, "stopped after ")
			require.NotEqual(t, result.Pick, a.Arch)
		}
	}
	ledger, err := os.ReadFile(filepath.Join(dir, "ledger.jsonl"))
	require.NoError(t, err)
	require.Equal(t, 30, strings.Count(string(ledger), `"source":"trained","metric":"validation accuracy","epochs":6,"recipe":"shapes-`))
	require.Equal(t, stopped, strings.Count(string(ledger), `"stopped":[`))
	require.NotContains(t, string(ledger), "seconds")
	log, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
	require.NoError(t, err)
	require.Equal(t, 30, strings.Count(string(log), `"event":"candidate",`))
	require.Contains(t, string(log), `"train_seconds":`)

	// Another method, on the same cache: a line for every candidate, and what was trained before is not trained again.
	code, _, stderr = call(nil, "search", "--space", "nasbench101-v4", "--labels", labels, "--budget", "12", "--method", "random", "--label-cache", cache,
		"--out", filepath.Join(t.TempDir(), "random"))
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "candidate 12 of 12: nasbench101:")
	require.Contains(t, stderr, "from the cache")

	// Compared and ranked.
	code, stdout, stderr = call(nil, "compare", "--space", "nasbench101-v4", "--labels", labels, "--budget", "12", "--methods", "random,evolution", "--seeds", "2",
		"--label-cache", cache)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "evolution")
	require.NotContains(t, stdout, "paper", "its numbers are of other networks")
	require.NotContains(t, stdout, "NaN")
	code, stdout, stderr = call(nil, "rank", "--space", "nasbench101-v4", "--labels", labels, "--train", "20", "--judged", "15", "--seeds", "2", "--label-cache", cache,
		"--set", "members=1", "--set", "steps=5", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, `"tau_b": {`)
	require.Contains(t, stdout, "judged on test accuracy of the same trainings")

	for line, says := range map[string]string{
		"search --labels train:shapes?speed=1":                                           "unknown key",
		"search --labels train:photos:x?recipe=shapes":                                   "want shapes, cifar10:DIR",
		"search --labels train:shapes --device cuda:0":                                   "cuda:0",
		"search --space nasbench101-v9 --labels train:shapes":                            "nasbench101-v5",
		"search --labels train:shapes --label-retries -1":                                "retries",
		"search --resume " + dir + " --space nasbench101":                                "--space cannot be given with --resume",
		"search --space nasbench101-v4 --labels " + labels + " --budget 20 --out " + dir: "cannot be resumed",
		"search --labels " + labels + "&lr=nan --out " + dir:                             "lr",
		"search --labels train:imagenet:" + t.TempDir() + "?recipe=shapes":               "imagenet",
	} {
		code, stdout, stderr := call([]string{"CTNAS_LABEL_CACHE=" + cache}, strings.Fields(line)...)
		require.NotEqual(t, exitOK, code, line)
		require.Contains(t, stderr, says, line)
		require.Empty(t, stdout, line)
	}
}

// Killed at random moments and resumed with other workers, a search that trains and stops candidates ends in the same bytes.
func TestKillSearchThatTrains(t *testing.T) {
	if testing.Short() {
		t.Skip("runs several searches; left out with -short")
	}
	labels := trainedLabels(t)
	whole, cache := filepath.Join(t.TempDir(), "whole"), t.TempDir()
	began := time.Now()
	output, err := program(trainedSearch(labels, whole, t.TempDir())...).CombinedOutput()
	require.NoError(t, err, string(output))
	lasts := time.Since(began)
	dir := filepath.Join(t.TempDir(), "killed")
	cmd, kills := program(trainedSearch(labels, dir, cache)...), 0
	for kills < 5 {
		var text strings.Builder
		cmd.Stdout, cmd.Stderr = &text, &text
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(time.Duration((0.1+0.3*rand.Float64())*float64(lasts)), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		if timer.Stop() {
			require.NoError(t, err, text.String())
			break
		}
		kills++
		cmd = program("search", "--resume", dir, "--quiet", "--label-workers", []string{"1", "3"}[kills%2])
		if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil { // killed before the run had a folder
			require.NoError(t, os.RemoveAll(dir))
			cmd = program(trainedSearch(labels, dir, cache)...)
		}
	}
	if kills == 5 {
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
	}
	for _, name := range []string{"result.json", "ledger.jsonl"} {
		want, err := os.ReadFile(filepath.Join(whole, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), name)
	}
	t.Logf("%d kills", kills)
}
