package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer"
)

// shortTraining takes a second or two, most of it for drawing the images.
func shortTraining(dir string) []string {
	return strings.Fields("train nasbench101:4:110011:12 --data shapes --recipe shapes --channels 4 --resolution 16 --batch 100 --epochs 3 --recalibrate 2 " +
		"--val-split 0.5 --seed 5 --quiet --checkpoint-every 3 --out " + dir)
}

func TestTrainCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	code, stdout, stderr := call(nil, append(shortTraining(dir), "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var result trainer.Result
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Equal(t, 60, result.Updates)
	require.Equal(t, "nasbench101:4:110011:12", result.Arch)
	require.Equal(t, 4, result.Recipe.Channels)
	require.Equal(t, "cpu", result.Device)
	require.Len(t, result.Validation, 3)
	written, err := os.ReadFile(filepath.Join(dir, trainer.ResultName))
	require.NoError(t, err)
	require.JSONEq(t, string(written), stdout)

	// The folder is tested again with the same outcome; so are its weights by themselves.
	for _, args := range [][]string{{"eval", dir}, {"eval", result.Arch, "--weights", filepath.Join(dir, trainer.WeightsName), "--data", "shapes", "--channels", "4", "--modules", "1",
		"--resolution", "16"}} {
		code, stdout, stderr = call(nil, append(args, "--json")...)
		require.Equal(t, exitOK, code, stderr)
		var e evaluated
		require.NoError(t, json.Unmarshal([]byte(stdout), &e))
		require.Equal(t, result.Test.Top1, e.Top1)
		require.Equal(t, 2000, e.Images)
	}

	// config.yaml repeats it.
	again := filepath.Join(t.TempDir(), "again")
	code, _, stderr = call(nil, "train", "--config", filepath.Join(dir, "config.yaml"), "--out", again, "--quiet")
	require.Equal(t, exitOK, code, stderr)
	for _, name := range []string{trainer.ResultName, trainer.WeightsName} {
		a, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(again, name))
		require.NoError(t, err)
		require.Equal(t, a, b, name)
	}
	code, stdout, stderr = call(nil, "train", "--resume", dir, "--quiet")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "nasbench101:4:110011:12", "a finished training says again what it found")

	for line, says := range map[string]string{
		"train --data shapes":                                    "want an architecture",
		"train nasbench101:best":                                 `"data" not set`,
		"train nasbench101:best --data shapes --recipe none":     "recipe \"none\" is none of",
		"train nasbench101:best --data shapes --lr -1":           "--lr -1",
		"train nasbench101:best --data shapes --on-nan pray":     `--on-nan "pray"`,
		"train --resume " + dir + " --lr 1":                      "--lr cannot be given with --resume",
		"train nasbench101:best --resume " + dir:                 "cannot be given with --resume",
		"eval nasbench101:best --data shapes":                    "an architecture needs --weights FILE",
		"eval nasbench101:best --weights x":                      `"data" not set`,
		"eval nasbench101:best --weights x --data shapes -- a b": "accepts 1 arg",
	} {
		code, _, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, line)
		require.Contains(t, stderr, says, line)
	}
	for line, says := range map[string]string{
		"train nasbench101:9:1 --data shapes":                           "nasbench101",
		"train resnet --data shapes":                                    `unknown network "resnet"`,
		"train nasbench101:best --data photos":                          `data "photos"`,
		"train --resume " + t.TempDir():                                 "config.yaml",
		"eval nasbench101:best --weights nowhere --data shapes":         "nowhere",
		"eval nasbench101:best --weights x --data shapes --split other": "--split other",
	} {
		code, _, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, exitFailed, code, line+stderr)
		require.Contains(t, stderr, says, line)
	}
}

// Killed at random moments and resumed, a training ends in the same bytes; an interrupt writes a checkpoint and has its own exit code.
func TestKillTraining(t *testing.T) {
	if testing.Short() {
		t.Skip("runs several trainings; left out with -short")
	}
	whole := filepath.Join(t.TempDir(), "whole")
	began := time.Now()
	output, err := program(shortTraining(whole)...).CombinedOutput()
	require.NoError(t, err, string(output))
	lasts := time.Since(began)
	dir := filepath.Join(t.TempDir(), "killed")
	cmd, kills, interrupts := program(shortTraining(dir)...), 0, 0
	for kills+interrupts < 6 {
		signal := os.Kill
		if interrupts < kills {
			signal = os.Interrupt
		}
		var text strings.Builder
		cmd.Stdout, cmd.Stderr = &text, &text
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(time.Duration((0.3+0.7*rand.Float64())*float64(lasts)), func() { _ = cmd.Process.Signal(signal) })
		err := cmd.Wait()
		if timer.Stop() {
			require.NoError(t, err, text.String())
			break
		}
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			kills++
		} else if status.ExitStatus() == exitInterrupted {
			interrupts++
			require.Contains(t, text.String(), "ctnas: interrupted")
		}
		cmd = program("train", "--resume", dir, "--quiet", "--threads", "1")
		if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil { // killed before the run had a folder
			require.NoError(t, os.RemoveAll(dir))
			cmd = program(shortTraining(dir)...)
		}
	}
	if kills+interrupts >= 6 {
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
	}
	for _, name := range []string{trainer.ResultName, trainer.WeightsName} {
		a, err := os.ReadFile(filepath.Join(whole, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, a, b, name)
	}
	t.Logf("%d kills, %d interrupts", kills, interrupts)
}
