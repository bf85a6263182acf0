package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// lesson is a block of commands in a tutorial, and what the page says that they print.
type lesson struct {
	commands string
	prints   []string // nil: the page does not say
}

// lessons are the blocks marked sh, each with a block marked text that may follow.
func lessons(page string) (list []lesson) {
	for _, block := range regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		if block[1] == "sh" {
			list = append(list, lesson{commands: block[2]})
		} else {
			list[len(list)-1].prints = strings.Split(strings.TrimSuffix(block[2], "\n"), "\n")
		}
	}
	return list
}

// printed tells whether lines are as a page has them: "…" stands for any text, and alone in a line for any lines.
// How many blanks there are between words has no meaning.
func printed(want []string, got string) bool {
	var pattern strings.Builder
	for _, line := range want {
		if line == "…" {
			pattern.WriteString(`(.*\n)*`)
			continue
		}
		parts := strings.Split(strings.Join(strings.Fields(line), " "), "…")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		pattern.WriteString(strings.Join(parts, ".*") + `\n`)
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(strings.Join(lines, "\n") + "\n")
}

func TestPrinted(t *testing.T) {
	got := "a  1.5 b\nc\nd\n"
	for _, want := range []string{"a 1.5 b\nc\nd", "a … b\nc\nd", "…\nd", "a …\n…", "…", "a…b\n…\nd"} {
		require.True(t, printed(strings.Split(want, "\n"), got), want)
	}
	for _, want := range []string{"a 1x5 b\nc\nd", "a … b\nc", "…\nc", "b…\n…"} {
		require.False(t, printed(strings.Split(want, "\n"), got), want)
	}
	require.Equal(t, []lesson{{"a\nb\n", nil}, {"c\n", []string{"d", "e"}}},
		lessons("x\n```sh\na\nb\n```\ny\n```sh\nc\n```\n```text\nd\ne\n```\n"))
}

// Every command of the tutorials does what its page says.
func TestTutorials(t *testing.T) {
	testdata.SkipUnlessAll(t, "whole searches")
	pages, err := filepath.Glob(filepath.Join(testdata.Root(), "docs", "tutorials", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Symlink(filepath.Join(testdata.Root(), "docs"), filepath.Join(dir, "docs")))
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			for _, l := range lessons(string(text)) {
				command := exec.Command("sh", "-e", "-c", l.commands)
				command.Dir = dir
				var stderr strings.Builder
				command.Stderr = &stderr
				stdout, err := command.Output()
				require.NoError(t, err, "%s%s%s", l.commands, stdout, stderr.String())
				if l.prints != nil {
					require.True(t, printed(l.prints, string(stdout)), "the page says of %s%s\nand it printed\n%s",
						l.commands, strings.Join(l.prints, "\n"), stdout)
				}
			}
		})
	}
}
