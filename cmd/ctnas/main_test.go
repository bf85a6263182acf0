package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/visible"
)

// call runs the program in this process. env holds NAME=VALUE.
func call(env []string, args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	lookup := func(name string) (string, bool) {
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
	code = run(context.Background(), args, &out, &errOut, lookup)
	return code, out.String(), errOut.String()
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	var visit func(cmd *cobra.Command, path []string)
	visit = func(cmd *cobra.Command, path []string) {
		code, stdout, stderr := call(nil, append(path, "--help")...)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, "Usage:")
		if cmd.Runnable() && len(path) > 0 {
			require.Contains(t, cmd.Example, "ctnas "+strings.Join(path, " "))
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				visit(sub, append(append([]string{}, path...), sub.Name()))
			}
		}
	}
	visit(newRoot(&app{}), nil)
}

func TestPanicsAndInterruptsHaveTheirExitCodes(t *testing.T) {
	require.Equal(t, exitFailed, runWith(t, context.Background(), func(context.Context) error { panic("boom") }))
	require.Equal(t, exitFailed, runWith(t, context.Background(), func(context.Context) error {
		return os.ErrNotExist
	}))
	require.Equal(t, exitUsage, runWith(t, context.Background(), func(context.Context) error { return usagef("no") }))
	require.Equal(t, exitOK, runWith(t, context.Background(), func(context.Context) error { return nil }))
	ctx, cancel := context.WithCancel(context.Background())
	require.Equal(t, exitInterrupted, runWith(t, ctx, func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	}))
}

func runWith(t *testing.T, ctx context.Context, work func(context.Context) error) int {
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: visible.NewWriter(&stderr),
		env: func(string) (string, bool) { return "", false }}
	root := newRoot(a)
	cmd := &cobra.Command{Use: "work", RunE: func(cmd *cobra.Command, _ []string) error { return work(cmd.Context()) }}
	root.AddCommand(cmd)
	a.noteWork(cmd)
	code := a.execute(ctx, root, []string{"work"})
	if code != exitOK {
		require.True(t, strings.HasPrefix(stderr.String(), "ctnas: "), stderr.String())
	}
	require.Equal(t, ctx.Err() != nil, strings.HasPrefix(stderr.String(), "ctnas: told to stop"))
	require.Empty(t, stdout.String())
	return code
}

func TestProgressInAPipeIsPlainLines(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{stderr: &stderr}
	update, finish := a.progress("read")
	for done := range 101 {
		update(done, 100)
	}
	finish()
	require.Equal(t, 9, strings.Count(stderr.String(), "\n"))
	require.Contains(t, stderr.String(), "read: 50 of 100 (50%)\n")

	stderr.Reset()
	for _, a := range []*app{{stderr: &stderr, quiet: true}, {stderr: &stderr, json: true}} {
		update, finish := a.progress("read")
		update(100, 100)
		finish()
	}
	require.Empty(t, stderr.String())
}

// What an earlier process had done says nothing of the pace, and the rest goes by while nothing new is done.
func TestClock(t *testing.T) {
	var c clock
	require.Equal(t, "0s passed", c.of(60, 60, 100))
	require.Equal(t, "0s passed", c.of(60, 65, 100), "so short a time is no pace")
	c.done = 60
	c.begun = c.begun.Add(-20 * time.Second)
	c.last = c.begun
	require.Equal(t, "20s passed, 1m0s left", c.of(60, 70, 100))
	c.begun, c.last = c.begun.Add(-15*time.Second), c.last.Add(-15*time.Second)
	require.Equal(t, "35s passed, 45s left", c.of(60, 70, 100))
	require.Equal(t, "35s passed", c.of(60, 100, 100))
}

// A second SIGTERM ends the program at once, unless its launcher has said how it is to exit: launchers tell some
// processes twice.
func TestToldTwice(t *testing.T) {
	for name, want := range map[string]int{"": -1, preemptExit + "=75": 7} {
		cmd := exec.Command("twice")
		cmd.Env = append(os.Environ(), name)
		_ = cmd.Run()
		require.Equal(t, want, cmd.ProcessState.ExitCode(), name)
	}
}
