package gpucheck

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childVariable makes this test binary the program itself, with the cases below.
const childVariable = "CTNAS_TEST_CHILD_MODE"

var given int // to the GPU that there is not

func give(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) {
		given++
		f(t)
	}
}

var cases = []Case{
	{"a/b", "TestGood", give(func(*testing.T) {})},
	{"a/b", "TestGoodToo", give(func(t *testing.T) { t.Run("part", func(*testing.T) { given++ }) })},
	{"a/b", "TestNothing", func(*testing.T) {}},
	{"c", "TestBad", give(func(t *testing.T) { t.Fatal("it is wrong") })},
	{"c", "TestCrash", give(func(*testing.T) { panic("a fault") })},
	{"c", "TestExit", give(func(*testing.T) { os.Exit(0) })},
	{"c", "TestSkipped", func(t *testing.T) { t.Skip("not here") }},
	{"c", "TestSlow", give(func(*testing.T) { time.Sleep(time.Hour) })},
}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "gpucheck" {
		Main(cases, func() int { return given })
	}
	os.Exit(m.Run())
}

func check(t *testing.T, args ...string) (lines map[string]Result, out string, err error) {
	t.Setenv(childVariable, "gpucheck")
	report := filepath.Join(t.TempDir(), "report.jsonl")
	var b bytes.Buffer
	err = command(cases, append([]string{"run", "-report", report}, args...), &b)
	lines = map[string]Result{}
	text, _ := os.ReadFile(report)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if line != "" {
			var r Result
			require.NoError(t, json.Unmarshal([]byte(line), &r))
			lines[r.Case] = r
		}
	}
	return lines, b.String(), err
}

func TestRun(t *testing.T) {
	lines, out, err := check(t, "-parallel", "3", "[^w]$")
	require.EqualError(t, err, "parity: 4 of 7 cases did not pass")
	status := map[string]string{}
	for name, r := range lines {
		status[name] = r.Status
		require.Equal(t, "parity", r.Part)
	}
	require.Equal(t, map[string]string{
		"a_b.TestGood": passed, "a_b.TestGoodToo": passed, "a_b.TestNothing": failed, "c.TestBad": failed,
		"c.TestCrash": failed, "c.TestExit": failed, "c.TestSkipped": skipped,
	}, status)
	require.Equal(t, 2, lines["a_b.TestGoodToo"].Cases)
	require.Contains(t, lines["a_b.TestNothing"].Output, "nothing ran on cuda:0")
	require.Contains(t, lines["c.TestBad"].Output, "it is wrong")
	require.Contains(t, lines["c.TestCrash"].Output, "a fault")
	require.Contains(t, out, "c.TestBad: failed")
	require.Regexp(t, `(?m)^all +2 +4 +1 +0 +0 +5 `, out)
}

func TestRunChosen(t *testing.T) {
	lines, out, err := check(t, "-part", "some", "Good")
	require.NoError(t, err, out)
	require.Len(t, lines, 2)
	require.Equal(t, "some", lines["a_b.TestGood"].Part)

	_, _, err = check(t, "Skipped")
	require.EqualError(t, err, "parity: nothing ran on the GPU", "skipped is not passed")
	lines, _, err = check(t, "-budget", "0s", "Good")
	require.EqualError(t, err, "parity: 2 of 2 cases did not pass")
	require.Equal(t, notRun, lines["a_b.TestGood"].Status)
	lines, _, err = check(t, "-each", "1s", "Slow")
	require.Error(t, err)
	require.Equal(t, late, lines["c.TestSlow"].Status)
	_, _, err = check(t, "Absent")
	require.EqualError(t, err, `no case matches "Absent"`)
	lines, _, err = check(t, "-wrap", "/bin/false", "TestGood$")
	require.Error(t, err)
	require.Equal(t, failed, lines["a_b.TestGood"].Status)
	lines, _, err = check(t, "-wrap", "timeout 60", "TestGood$")
	require.NoError(t, err)
	require.Equal(t, passed, lines["a_b.TestGood"].Status)
}

func TestCommand(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, command(cases, []string{"list", "^a_b.*Good"}, &out))
	require.Equal(t, "a_b.TestGood\na_b.TestGoodToo\n", out.String())
	require.ErrorContains(t, command(cases, nil, &out), "usage: gpucheck list")
	require.ErrorContains(t, command(cases, []string{"walk"}, &out), `what is "walk"?`)
	require.ErrorContains(t, command(cases, []string{"list", "("}, &out), "missing closing")
	require.ErrorContains(t, command(cases, []string{"list", "a", "b"}, &out), "want one pattern")
	require.Error(t, command(cases, []string{"run", "-report", t.TempDir(), "Good"}, &out))
}

func TestTail(t *testing.T) {
	require.Equal(t, "abc", tail(" abc\n", 3))
	require.Equal(t, "...bc", tail("abc", 2))
	require.Equal(t, "...c", tail("äc", 2))
}
