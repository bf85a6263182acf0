package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
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

// write puts text into a new file.
func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "file.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func TestMistakesOnTheLineExitWithTwo(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"serach", `unknown command "serach"`},
		{"space", "needs a command"},
		{"space lsit", `unknown command "lsit"`},
		{"space info", "accepts 1 arg"},
		{"space info nowhere", `unknown search space "nowhere"`},
		{"version --nope", "unknown flag: --nope"},
		{"version extra", "unknown command"},
		{"version --threads many", "--threads"},
		{"version --threads -1", "--threads -1"},
		{"version --device gpu", `--device "gpu"`},
		{"version --device cuda:0", "--device cuda:0: "},
		{"version --device cuda:0,1", "--device cuda:0,1: "},
		{"version --precision fp8", "--precision"},
		{"version --log-level loud", "--log-level"},
		{"version --config nowhere.yaml", "nowhere.yaml"},
		{"completion tcsh", "tcsh"},
		{"completion", "arg"},
	} {
		code, stdout, stderr := call(nil, strings.Fields(c.line)...)
		require.Equal(t, exitUsage, code, c.line)
		require.Empty(t, stdout, c.line)
		require.Contains(t, stderr, c.says, c.line)
		require.True(t, strings.HasPrefix(stderr, "ctnas: "), stderr)
		require.Contains(t, stderr, "--help", c.line)
	}
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

func TestVersionAndDevices(t *testing.T) {
	code, stdout, _ := call(nil, "version", "--json")
	require.Equal(t, exitOK, code)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.Contains(t, v["go"], "go1.")

	code, stdout, _ = call(nil, "devices", "--json", "--threads", "1")
	require.Equal(t, exitOK, code)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Equal(t, "cpu", rows[0]["name"])
	require.NotEmpty(t, rows[0]["isa"])
	require.EqualValues(t, 1, rows[0]["threads"])
}

func TestLineWinsOverEnvironmentOverFile(t *testing.T) {
	seed := func(env []string, args ...string) string {
		code, stdout, stderr := call(env, append([]string{"space", "sample", "nasbench101"}, args...)...)
		require.Equal(t, exitOK, code, stderr)
		return stdout
	}
	file := write(t, "seed: 4\nrun:\n  seed: [9]\n  commit: abc\n")
	env := []string{"CTNAS_SEED=3", "CTNAS_THREADS=1"}
	of := func(n string) string { return seed(nil, "--seed", n) }
	require.NotEqual(t, of("2"), of("3"))
	require.NotEqual(t, of("3"), of("4"))
	require.Equal(t, of("2"), seed(env, "--config", file, "--seed", "2"))
	require.Equal(t, of("3"), seed(env, "--config", file))
	require.Equal(t, of("4"), seed(nil, "--config", file))
	require.Equal(t, of("4"), seed([]string{"CTNAS_CONFIG=" + file}))

	code, _, stderr := call([]string{"CTNAS_THREADS=few"}, "devices")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `CTNAS_THREADS="few"`)
}

func TestConfigurationSaysWhatItDoesNotUnderstand(t *testing.T) {
	for text, says := range map[string]string{
		"thraeds: 4":             `line 1: unknown key "thraeds"`,
		"seed: 1\nconfig: x":     `line 2: unknown key "config"`,
		"seed: 1\nseed: 2":       "line 2",
		"seed: one":              "line 1: seed",
		"seed: [1, 2]":           "not a list",
		"seed:":                  "want a value",
		"seed: {a: 1}":           "want a value",
		"- seed":                 "want flag names",
		"seed: \"":               "yaml",
		"threads: -3":            "--threads -3",
		"seed: *nobody":          "nobody",
		strings.Repeat("#", 2e6): "at most 1048576 are accepted",
	} {
		code, _, stderr := call(nil, "devices", "--config", write(t, text))
		require.Equal(t, exitUsage, code, "%.30s", text)
		require.Contains(t, stderr, says, "%.30s", text)
	}
	code, _, stderr := call(nil, "devices", "--config", write(t, "# nothing\n"))
	require.Equal(t, exitOK, code, stderr)
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

func TestSpaceCommands(t *testing.T) {
	code, stdout, stderr := call(nil, "space", "sample", "nasbench101", "-n", "3", "--seed", "7", "--json")
	require.Equal(t, exitOK, code, stderr)
	var rows []archRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Len(t, rows, 3)
	_, again, _ := call(nil, "space", "sample", "nasbench101", "-n", "3", "--seed", "7", "--json")
	require.Equal(t, stdout, again)
	_, other, _ := call(nil, "space", "sample", "nasbench101", "-n", "3", "--seed", "8", "--json")
	require.NotEqual(t, stdout, other)

	code, stdout, stderr = call(nil, "space", "show", "nasbench101", rows[0].Arch, "--json")
	require.Equal(t, exitOK, code, stderr)
	var shown archRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &shown))
	require.Equal(t, rows[0], shown)

	code, stdout, stderr = call(nil, "space", "show", "nasbench101", "nasbench101:best", "--svg")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "<svg")
	code, stdout, _ = call(nil, "space", "show", "nasbench101", "nasbench101:best")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "conv3x3-bn-relu")

	code, stdout, _ = call(nil, "space", "info", "nasbench101", "--json")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, `"max_nodes": 7`)

	for _, line := range []string{"space show nasbench101 nonsense", "space sample nasbench101 -n 0"} {
		code, _, _ = call(nil, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, line)
	}
}

func TestReportOfAFolderThatIsNoRun(t *testing.T) {
	code, _, stderr := call(nil, "report", t.TempDir())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "not the folder of a finished search")
}
