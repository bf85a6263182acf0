package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
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
	a := &app{stdout: &stdout, stderr: &stderr, env: func(string) (string, bool) { return "", false }}
	root := newRoot(a)
	cmd := &cobra.Command{Use: "work", RunE: func(cmd *cobra.Command, _ []string) error { return work(cmd.Context()) }}
	root.AddCommand(cmd)
	a.watch(cmd)
	code := a.execute(ctx, root, []string{"work"})
	if code != exitOK {
		require.True(t, strings.HasPrefix(stderr.String(), "ctnas: "), stderr.String())
	}
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
