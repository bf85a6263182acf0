package testdata_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	target  = regexp.MustCompile("`make ([a-z][a-z0-9-]*)")
	rule    = regexp.MustCompile(`(?m)^([a-z0-9-]+(?: [a-z0-9-]+)*):`)
)

// anchors are the names that a page's headings have in links, as GitHub makes them: small letters, digits, hyphens
// for blanks.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	fenced := false
	for _, line := range strings.Split(page, "\n") {
		fenced = fenced != strings.HasPrefix(line, "```")
		m := heading.FindStringSubmatch(line)
		if fenced || m == nil {
			continue
		}
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

// brokenLinks lists the links of a page, which lies in dir, that lead to no file or to no heading of one.
func brokenLinks(t *testing.T, path, page string) (broken []string) {
	for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(page, "x"), -1) {
		file, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
			continue
		}
		there := page
		if file != "" {
			to := filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			info, err := os.Stat(to)
			if err != nil {
				broken = append(broken, m[1])
				continue
			}
			if info.IsDir() || anchor == "" {
				continue
			}
			text, err := os.ReadFile(to)
			require.NoError(t, err)
			there = string(text)
		}
		if anchor != "" && !anchors(there)[anchor] {
			broken = append(broken, m[1])
		}
	}
	return broken
}

// Links between the pages lead somewhere, and the targets of make that they name are in the Makefile.
func TestLinks(t *testing.T) {
	root := testdata.Root()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	made := map[string]bool{}
	for _, m := range rule.FindAllStringSubmatch(string(makefile), -1) {
		for _, name := range strings.Fields(m[1]) {
			made[name] = true
		}
	}
	require.True(t, made["test"] && made["demo-train"])
	for _, path := range testdata.Pages(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Empty(t, brokenLinks(t, path, string(text)), path)
		for _, m := range target.FindAllStringSubmatch(string(text), -1) {
			require.True(t, made[m[1]], "%s: make %s", path, m[1])
		}
	}
	here := filepath.Join(root, "docs", "x.md")
	require.Equal(t, []string{"#no", "none.md", "gpu.md#no"}, brokenLinks(t, here,
		"# A `b` C, d\n[x](#a-b-c-d) [x](#no) [x](none.md) `[x](none.md)` [x](gpu.md#no)\n"+
			"[x](examples) [x](https://x.y)"))
}

// What code, scripts and messages say of a page names one that is there.
func TestPagesNamedInCode(t *testing.T) {
	root := testdata.Root()
	page := regexp.MustCompile(`\bdocs/[a-z][a-z/-]*\.md\b`)
	found := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			top := filepath.Dir(path) == root && (d.Name() == "build" || d.Name() == "docs")
			if top || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".sh", ".py", ".c", ".h", ".cu", ".cuh", ".cpp", ".html", ".yaml":
		default:
			if d.Name() != "Makefile" {
				return nil
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range page.FindAllString(string(text), -1) {
			found++
			require.FileExists(t, filepath.Join(root, filepath.FromSlash(name)), path)
		}
		return nil
	}))
	require.Greater(t, found, 20)
}
