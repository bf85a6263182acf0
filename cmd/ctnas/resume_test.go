package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram makes the test binary behave as ctnas: the tests below need a process of their own to kill.
const asProgram = "CTNAS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	cache, err := os.MkdirTemp("", "ctnas-test") // not the user's
	if err == nil {
		err = os.Setenv("XDG_CACHE_HOME", cache)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(cache)
	os.Exit(code)
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// searchTable writes a CSV table of 2,000 sampled cells whose accuracy grows with their parameters.
func searchTable(t *testing.T) string {
	_, stdout, stderr := call(nil, "space", "sample", "nasbench101", "-n", "2000", "--json")
	var rows []archRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows), stderr)
	var csv strings.Builder
	csv.WriteString("arch,accuracy\n")
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.Hash] {
			fmt.Fprintf(&csv, "%s,%.6f\n", r.Arch, 0.95-0.1/(1+float64(*r.Params)/1e6)-0.001*float64(r.Hash[0]%7))
		}
		seen[r.Hash] = true
	}
	path := filepath.Join(t.TempDir(), "cells.csv")
	require.NoError(t, os.WriteFile(path, []byte(csv.String()), 0o644))
	return path
}

// A search that is killed with SIGKILL at random moments, again and again, and resumed each time, ends in the same bytes as one that was
// left alone.
func TestKillAndResume(t *testing.T) {
	if testing.Short() {
		t.Skip("runs several searches; left out with -short")
	}
	labels := "table:" + searchTable(t)
	start := func(dir string) *exec.Cmd {
		return program("search", "--space", "nasbench101", "--labels", labels, "--budget", "60", "--seed", "3", "--quiet", "--out", dir)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	began := time.Now()
	output, err := start(whole).CombinedOutput()
	require.NoError(t, err, string(output))
	lasts := time.Since(began)

	for trial := range 3 {
		dir := filepath.Join(t.TempDir(), "killed")
		cmd, kills := start(dir), 0
		for kills < 4 {
			delay := time.Duration(rand.Float64() * float64(lasts))
			var text strings.Builder
			cmd.Stdout, cmd.Stderr = &text, &text
			require.NoError(t, cmd.Start())
			timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			if timer.Stop() {
				require.NoError(t, err, text.String())
				break
			}
			kills++
			t.Logf("trial %d: killed after %v", trial, delay.Round(time.Millisecond))
			cmd = program("search", "--resume", dir, "--quiet")
			if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil { // killed before the run had a folder
				require.NoError(t, os.RemoveAll(dir))
				cmd = start(dir)
			}
		}
		if kills == 4 {
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, string(output))
		}
		for _, name := range []string{"result.json", "ledger.jsonl"} {
			want, err := os.ReadFile(filepath.Join(whole, name))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, string(want), string(got), "trial %d: %s", trial, name)
		}
	}
}

// An interrupt ends the program with its own exit code.
func TestInterruptExitsWith130(t *testing.T) {
	cmd := program("space", "enumerate", "nasbench101")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(stderr)
	_, err = lines.ReadString('\n') // the first tenth is done: the work has begun and is far from its end
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Contains(t, string(rest), "ctnas: interrupted")
	err = cmd.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitInterrupted, exit.ExitCode())
}
