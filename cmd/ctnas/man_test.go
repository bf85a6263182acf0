package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// Every command has a page of man with all flags of its help, and no line of one is taken for a request of roff that is
// none.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	code, _, stderr := call(nil, "man", dir)
	require.Equal(t, exitOK, code, stderr)
	requests := regexp.MustCompile(`^\.(TH|SH|SS|PP|TP|B|BR|nf|fi)( |$)`)
	a, root := aProgram()
	pages := 0
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		pages++
		text, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		require.NoError(t, err)
		for line := range strings.SplitSeq(string(text), "\n") {
			require.False(t, strings.HasPrefix(line, "'"), line)
			require.True(t, !strings.HasPrefix(line, ".") || requests.MatchString(line), line)
		}
		for _, s := range a.flagSections(cmd) {
			for _, e := range s.Entries {
				require.Contains(t, string(text), roff(longName.FindString(e.Flag)), cmd.CommandPath())
			}
		}
	})
	written, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, written, pages)
	require.Equal(t, `a\eb \-\-c`+"\n"+`\&.TH`, roff(`a\b --c`+"\n.TH"))
	if _, err := exec.LookPath("groff"); err == nil {
		out, err := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z", filepath.Join(dir, "ctnas-space-info.1")).
			CombinedOutput()
		require.NoError(t, err)
		require.Empty(t, string(out))
	}
}

// A shell offers what flags may be: spaces, methods, recipes, the beginnings of labels and sets of images.
func TestValuesAreOffered(t *testing.T) {
	for line, want := range map[string][]string{
		"search --space ":                  {"nasbench101", "mobilenetv3", "file:"},
		"search --labels ":                 {"table:", "train:", "exec:", "predictor:"},
		"search --method ":                 {"ctnas", "evolution"},
		"compare --methods ":               {"ctnas", "random"},
		"compare --methods random,":        {"random,ctnas"},
		"train x --recipe ":                {"fast-cifar", "shapes"},
		"supernet train --recipe ":         {"ofa", "spos"},
		"train x --data ":                  {"shapes", "imagenet:"},
		"search --method spos --precision": nil,
	} {
		words := append([]string{"__complete"}, strings.Split(line, " ")...)
		code, stdout, _ := call(nil, words...)
		require.Equal(t, exitOK, code, line)
		for _, word := range want {
			require.Contains(t, strings.Split(stdout, "\n"), word, line)
		}
	}
}
