package main

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// columnsEnv is an environment that says how wide lines are.
func columnsEnv(width string) func(string) (string, bool) {
	return func(name string) (string, bool) { return width, name == "COLUMNS" }
}

var helpFlag = regexp.MustCompile(`(?m)^  -h, --help$|^  -h, --help  `)

// A placeholder is one word in capitals, numbers of one, or a form.
var goodPlaceholder = regexp.MustCompile(
	`^(-[a-z], |    )--[a-z0-9-]+( ([A-Z]+(,[A-Z]+)*|[A-Z]+[:=]/?[A-Z]+|key=value))?$`)

// The help of every command has lines of the width of the terminal, says nothing of pflag's kinds of values, and each
// flag has one entry.
func TestHelpOfEveryCommand(t *testing.T) {
	for _, width := range []string{"50", "80", "120"} {
		commands(func(cmd *cobra.Command, path []string) {
			var stdout strings.Builder
			code := run(t.Context(), append(path, "--help"), &stdout, &stdout, columnsEnv(width))
			require.Equal(t, exitOK, code)
			text, most := stdout.String(), map[string]int{"50": 50, "80": 80, "120": 120}[width]
			head, rest, _ := strings.Cut(text, "\nUsage:\n")
			usage, flags, found := strings.Cut(rest, "\nEvery command:\n")
			require.True(t, found, "%v", path)
			if _, own, has := strings.Cut(usage, "\nExamples:\n"); has {
				_, usage, _ = strings.Cut(own, "\n\n") // examples are typed as they stand
			} else {
				_, usage, _ = strings.Cut(usage, "\n\n")
			}
			for _, line := range strings.Split(head+"\n"+usage+"\n"+flags, "\n") {
				if strings.ContainsRune(strings.TrimSpace(line), ' ') { // a word may be longer
					require.LessOrEqual(t, utf8.RuneCountInString(line), most, "%v: %q", path, line)
				}
			}
			require.NotContains(t, text, "[=true|false]")
			require.NotRegexp(t, `(?m)^ +(-., )?--\S+ (string|int|float|uint|strings|stringArray|duration)\b`, text)
			require.Len(t, helpFlag.FindAllString(text, -1), 1, "%v", path)
		})
	}
}

func TestEveryFlagHasAPlaceholder(t *testing.T) {
	a, root := aProgram()
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		seen := map[string]bool{}
		for _, s := range a.flagSections(cmd) {
			for _, e := range s.Entries {
				require.Regexp(t, goodPlaceholder, e.Flag, cmd.CommandPath())
				name := longName.FindString(e.Flag)
				require.False(t, seen[name], "%s %s stands twice", cmd.CommandPath(), name)
				seen[name] = true
				require.NotNil(t, cmd.Flag(name[2:]), "%s %s", cmd.CommandPath(), name)
			}
		}
		require.True(t, seen["--help"] && seen["--seed"], cmd.CommandPath())
	})
}

// One default for all: whoever leaves --seed out gets the same numbers everywhere.
func TestSeedHasOneDefault(t *testing.T) {
	_, root := aProgram()
	eachCommand(root, func(cmd *cobra.Command) {
		require.Equal(t, "1", cmd.Flag("seed").DefValue, cmd.CommandPath())
	})
}

func TestWrapped(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"one two\nthree four five", "one two\nthree four\nfive"},
		{"one\n\ntwo three four", "one\n\ntwo three\nfour"},
		{"  ab  one two three", "  ab  one\n      two\n      three"},
		{"a-word-that-is-longer b", "a-word-that-is-longer\nb"},
		{"é é é é é é", "é é é é é\né"},
	} {
		require.Equal(t, c.want, wrapped(c.text, 10), c.text)
	}
}
