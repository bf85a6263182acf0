package testdata_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// widest is how many columns a line of prose has at most. Tables, code and words that cannot be broken may be wider.
const widest = 100

// tooWide lists the lines of a page whose prose is too wide.
func tooWide(page string) []string {
	var wide []string
	fenced := false
	for _, line := range strings.Split(page, "\n") {
		fenced = fenced != strings.HasPrefix(line, "```")
		code := fenced || strings.HasPrefix(line, "    ")
		table := strings.HasPrefix(line, "|")
		breaks := strings.Count(strings.TrimSpace(codeSpan.ReplaceAllString(line, "x")), " ")
		if utf8.RuneCountInString(line) > widest && !code && !table && breaks > 1 {
			wide = append(wide, line)
		}
	}
	return wide
}

var codeSpan = regexp.MustCompile("`[^`]*`")

// Prose is wrapped, and a page of docs begins with who reads it and what they can do after it. The notes are no page:
// they are a log.
func TestDocs(t *testing.T) {
	for _, path := range testdata.Pages(t) {
		if filepath.Base(path) == "notes.md" {
			continue
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Empty(t, tooWide(string(text)), path)
		if filepath.Base(filepath.Dir(path)) == "docs" {
			require.Regexp(t, `^# .+\n\nFor whoever [^#]+?After\s+it\s+you\s`, string(text), path)
		}
	}
	long := strings.Repeat("word ", 21)
	require.Equal(t, []string{long}, tooWide("# A page\n\n"+long+"\n\n    "+long+"\n| "+long+"|\n```\n"+long+"\n```\n"))
	require.Empty(t, tooWide(strings.TrimSuffix(strings.Repeat("word ", 20), " ")))
}

// Every page of docs has a chapter in the site, and none a name that Sphinx writes a page of its own under.
func TestPagesHaveChapters(t *testing.T) {
	root := testdata.Root()
	text, err := os.ReadFile(filepath.Join(root, "scripts", "docs", "conf.py"))
	require.NoError(t, err)
	for _, path := range testdata.Pages(t) {
		name, err := filepath.Rel(filepath.Join(root, "docs"), path)
		require.NoError(t, err)
		name = strings.TrimSuffix(filepath.ToSlash(name), ".md")
		if strings.HasPrefix(name, "..") || strings.HasPrefix(name, "examples/") || name == "index" {
			continue
		}
		require.Contains(t, string(text), `"`+name+`"`, "scripts/docs/conf.py")
		require.NotContains(t, []string{"search", "genindex"}, name)
	}
}
