package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

func TestResolvedConfigIsReadBack(t *testing.T) {
	flags := func() (*pflag.FlagSet, *[]string, *sizeValue) {
		f := pflag.NewFlagSet("test", pflag.ContinueOnError)
		(&app{}).addFlags(f)
		methods := f.StringSlice("methods", []string{"a"}, "")
		f.String("text", "", "")
		f.Float64("rate", 0.1, "")
		var size sizeValue
		f.Var(&size, "max-madds", "")
		return f, methods, &size
	}
	f, _, _ := flags()
	require.NoError(t, f.Parse([]string{"--seed=18446744073709551615", "--methods=x,y z", "--text=true", "--rate=1e-05", "--max-madds=482M", "--out=there", "--json"}))
	text, err := resolvedConfig(f, map[string]any{"commit": "abc", "unknown-flag": 1})
	require.NoError(t, err)
	require.NotContains(t, string(text), "there")

	g, methods, size := flags()
	require.NoError(t, setFromYAML(g, text), string(text))
	require.Equal(t, []string{"x", "y z"}, *methods)
	require.Equal(t, sizeValue(482e6), *size)
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "out" && flag.Name != "json" {
			require.Equal(t, flag.Value.String(), g.Lookup(flag.Name).Value.String(), flag.Name)
		}
	})
}

func TestValuesWithUnits(t *testing.T) {
	size := func(s string) any { var v sizeValue; return result(v.Set(s), int64(v)) }
	require.EqualValues(t, 482e6, size("482M"))
	require.EqualValues(t, 1.2e9, size("1.2G"))
	require.EqualValues(t, 7, size("7"))
	require.EqualValues(t, 3000, size("3k"))
	duration := func(s string) any { var v durationValue; return result(v.Set(s), float64(v)) }
	require.EqualValues(t, 90, duration("90s"))
	require.EqualValues(t, 7200, duration("2h"))
	percent := func(s string) any { var v percentValue; return result(v.Set(s), float64(v)) }
	require.EqualValues(t, 0.005, percent("0.5%"))
	for _, s := range []string{"", "M", "-1", "1e3", "NaN", "inf", "1_0", "0x10", "9999999999G", "1MM"} {
		require.IsType(t, errString(""), size(s), s)
	}
	for _, s := range []string{"", "2", "-2h", "h"} {
		require.IsType(t, errString(""), duration(s), s)
	}
	for _, s := range []string{"", "0.5", "%", "101%", "-1%"} {
		require.IsType(t, errString(""), percent(s), s)
	}
	for _, s := range []string{"482M", "1200M", "7", "0", "1G", "1234567"} {
		var v sizeValue
		require.NoError(t, v.Set(s))
		require.Equal(t, s, v.String())
	}
}

// errString and result make a value or its error one thing to compare.
type errString string

func result(err error, v any) any {
	if err != nil {
		return errString(err.Error())
	}
	return v
}

func TestPanicsAndInterruptsHaveTheirExitCodes(t *testing.T) {
	require.Equal(t, exitFailed, runWith(t, context.Background(), func(context.Context) error { panic("boom") }))
	require.Equal(t, exitFailed, runWith(t, context.Background(), func(context.Context) error { return os.ErrNotExist }))
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
