package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
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
	for _, args := range [][]string{{"eval", dir}, {"eval", result.Arch, "--weights", filepath.Join(dir, trainer.WeightsName), "--data", "shapes", "--channels", "4", "--modules", "1", "--resolution", "16"}} {
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
	require.Contains(t, stderr, "is a finished training: nothing was changed")

	for line, says := range map[string]string{
		"train --data shapes":                                    "want an architecture",
		"train nasbench101:best":                                 `"data" not set`,
		"train nasbench101:best --data shapes --recipe none":     "recipe \"none\" is none of",
		"train nasbench101:best --data shapes --lr -1":           "--lr -1",
		"train nasbench101:best --data shapes --on-nan pray":     `--on-nan "pray"`,
		"train x --data shapes --amp --precision fp32":           "--amp and --precision fp32",
		"train --resume " + dir + " --lr 1":                      "--lr cannot be given with --resume",
		"train nasbench101:best --resume " + dir:                 "cannot be given with --resume",
		"eval " + dir + " --channels 8":                          "--channels: " + dir + " is the folder of a training, which says it",
		"eval nasbench101:best --data shapes":                    "an architecture needs --weights FILE",
		"eval nasbench101:best --weights x":                      `"data" not set`,
		"eval nasbench101:best --weights x --data shapes -- a b": "accepts 1 arg",

		"train nasbench101:9:1 --data shapes":                           "nasbench101",
		"train resnet --data shapes":                                    `unknown network "resnet"`,
		"train nasbench101:best --data photos":                          `data "photos"`,
		"eval nasbench101:best --weights x --data shapes --split other": `--split "other"`,
	} {
		code, _, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, line)
		require.Contains(t, stderr, says, line)
	}
	for line, says := range map[string]string{
		"train --resume " + t.TempDir():                         "is not the folder of a training: it has no config.yaml",
		"eval nasbench101:best --weights nowhere --data shapes": "nowhere",
	} {
		code, _, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, exitFailed, code, line+stderr)
		require.Contains(t, stderr, says, line)
	}
}

// tinyImages is a folder of small random pictures in ten classes: a training of it begins at once.
func tinyImages(t *testing.T) string {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for _, part := range []string{"train", "val"} {
		for class := range 10 {
			folder := filepath.Join(dir, part, fmt.Sprintf("class%d", class))
			require.NoError(t, os.MkdirAll(folder, 0o755))
			for k := range 12 {
				m := image.NewRGBA(image.Rect(0, 0, 10, 10))
				for i := range m.Pix {
					m.Pix[i] = uint8(r.IntN(256))
				}
				var file bytes.Buffer
				require.NoError(t, png.Encode(&file, m))
				require.NoError(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.png", k)), file.Bytes(), 0o644))
			}
		}
	}
	return dir
}

// Killed with SIGKILL at twenty random moments (four with -short) and resumed, a training ends in the same bytes; an interrupt writes a checkpoint and has its own
// exit code. Every kind of state is in play.
func TestKillTraining(t *testing.T) {
	want := 20
	if testing.Short() {
		want = 4
	}
	training := "train nasbench101:4:110011:12 --data imagenet:" + tinyImages(t) + " --recipe shapes --channels 4 --resolution 8 --batch 16 --epochs 10 --recalibrate 2 " +
		"--val-split 0.2 --seed 5 --ema 0.9 --clip 1 --mixup 0.3 --label-smoothing 0.1 --quiet --checkpoint-every 2 --out "
	start := func(dir string) *exec.Cmd { return program(strings.Fields(training + dir)...) }
	whole := filepath.Join(t.TempDir(), "whole")
	began := time.Now()
	output, err := start(whole).CombinedOutput()
	require.NoError(t, err, string(output))
	lasts := time.Since(began)
	kills, interrupts, trials := 0, 0, 0
	for kills < want {
		trials++
		dir := filepath.Join(t.TempDir(), "killed")
		for cmd, ended := start(dir), false; !ended; {
			var text strings.Builder
			cmd.Stdout, cmd.Stderr = &text, &text
			require.NoError(t, cmd.Start())
			signal, timer := os.Kill, (*time.Timer)(nil)
			if kills < want {
				if interrupts < kills/4 {
					signal = os.Interrupt
				}
				timer = time.AfterFunc(time.Duration(0.8*rand.Float64()*float64(lasts)), func() { _ = cmd.Process.Signal(signal) })
			}
			err := cmd.Wait()
			if timer != nil {
				timer.Stop()
			}
			switch status := cmd.ProcessState.Sys().(syscall.WaitStatus); {
			case status.Signaled() && status.Signal() == syscall.SIGKILL:
				kills++
			case status.Signaled() || status.ExitStatus() == exitInterrupted: // the former before the program listens
				interrupts++
			default:
				require.NoError(t, err, text.String())
				ended = true
			}
			cmd = program("train", "--resume", dir, "--quiet", "--threads", "1")
			if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil { // killed before the run had a folder
				require.NoError(t, os.RemoveAll(dir))
				cmd = start(dir)
			}
		}
		for _, name := range []string{trainer.ResultName, trainer.WeightsName} {
			a, err := os.ReadFile(filepath.Join(whole, name))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, a, b, name)
		}
	}
	t.Logf("%d kills, %d interrupts, %d trainings, which take %v undisturbed", kills, interrupts, trials, lasts.Round(time.Millisecond))
}

// A training learns from the folder of another one, or from its weights, whose checksum stands in the result.
func TestTeacherFlag(t *testing.T) {
	images := "imagenet:" + tinyImages(t)
	short := " --data " + images + " --recipe shapes --resolution 8 --batch 16 --epochs 1 --recalibrate 0 --quiet --json "
	first := filepath.Join(t.TempDir(), "teacher")
	code, _, stderr := call(nil, strings.Fields("train nasbench101:4:110011:12 --channels 8 --out "+first+short)...)
	require.Equal(t, exitOK, code, stderr)
	student := "train nasbench101:3:101:0 --channels 8 --distill 0.5 --temperature 2" + short
	var sums []string
	for _, teacher := range []string{first, filepath.Join(first, trainer.WeightsName) + " --teacher-arch nasbench101:4:110011:12"} {
		code, stdout, stderr := call(nil, strings.Fields(student+"--teacher "+teacher)...)
		require.Equal(t, exitOK, code, stderr)
		var result trainer.Result
		require.NoError(t, json.Unmarshal([]byte(stdout), &result))
		require.Len(t, result.Teacher, 64)
		sums = append(sums, result.Teacher, fmt.Sprint(result.TrainLoss))
	}
	require.Equal(t, sums[:2], sums[2:])
	for args, says := range map[string]string{
		student: "--teacher FOLDER and --distill WEIGHT belong together",
		"train nasbench101:3:101:0 --teacher x" + short:      "belong together",
		"train nasbench101:3:101:0 --teacher-arch x" + short: "--teacher-arch and --teacher-from are for a --teacher file",
	} {
		code, _, stderr := call(nil, strings.Fields(args)...)
		require.Equal(t, exitUsage, code, stderr)
		require.Contains(t, stderr, says)
	}
	code, _, stderr = call(nil, strings.Fields(student+"--teacher "+t.TempDir())...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "is not the folder of a training")
}
