package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// docCommand is a command of this program in a page.
type docCommand struct {
	line  int // from 1
	words []string
}

var (
	docPrompt  = regexp.MustCompile(`^(\$ )?([A-Z_]+=\S* )*(\S*/)?ctnas( |$)`)
	docFence   = regexp.MustCompile("^\\s*```")
	docComment = regexp.MustCompile(`(^|\s)#.*$`)
)

// docCommands are the commands in a page's blocks of code: lines that begin with ctnas, behind variables and a prompt
// as they may be. What follows a pipe, a redirection or && is another's.
func docCommands(text string) (list []docCommand) {
	fenced, output := false, false
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if docFence.MatchString(lines[i]) {
			fenced, output = !fenced, strings.HasSuffix(lines[i], "text")
			continue
		}
		if output && fenced || !fenced && !strings.HasPrefix(lines[i], "    ") {
			continue
		}
		at, line := i+1, strings.TrimSpace(lines[i])
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
		}
		for _, one := range strings.Split(line, " && ") {
			if begin := docPrompt.FindString(one); begin != "" {
				list = append(list, docCommand{at, docWords(one[len(begin):])})
			}
		}
	}
	return list
}

// docWords divides a command as a shell does, up to what is not its own.
func docWords(line string) (words []string) {
	if !strings.ContainsAny(line, `'"`) {
		line = docComment.ReplaceAllString(line, "")
	}
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			end()
		case strings.ContainsRune("|>;&", r), r == '#' && !begun:
			end()
			return words
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return words
}

func TestDocCommands(t *testing.T) {
	text := "    $ X=1 bin/ctnas search --a 'b # c' \\\n      --d e   # what | it does\n\n" +
		"ctnas is prose\n```sh\nctnas zoo > file\nmake && ctnas rank | head\n```\n```text\nctnas is printed\n```\n"
	require.Equal(t, []docCommand{{1, []string{"search", "--a", "b # c", "--d", "e"}}, {6, []string{"zoo"}},
		{7, []string{"rank"}}}, docCommands(text))
}

// Every command in the pages of docs is one of the program's, with flags that it has, values that they take, and as
// many arguments as it wants. A "…" stands for what a page leaves out.
func TestCommandsInDocs(t *testing.T) {
	found := 0
	for _, page := range testdata.Pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, c := range docCommands(string(text)) {
			found++
			checkDocCommand(t, page, c)
		}
	}
	require.Greater(t, found, 100)
}

func checkDocCommand(t *testing.T, page string, c docCommand) {
	partial := slices.ContainsFunc(c.words, func(w string) bool { return strings.ContainsAny(w, "…[]") })
	whole := slices.DeleteFunc(slices.Clone(c.words), func(w string) bool { return strings.ContainsAny(w, "…[]") })
	cmd, rest, err := newRoot(&app{}).Find(whole)
	require.NoError(t, err, "%s:%d: %q", page, c.line, c.words)
	if cmd.DisableFlagParsing {
		return
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	require.NoError(t, cmd.ParseFlags(rest), "%s:%d: %q", page, c.line, c.words)
	cmd.Flags().Visit(func(f *pflag.Flag) { // with these nothing else is wanted
		partial = partial || slices.Contains([]string{"resume", "help", "version"}, f.Name)
	})
	if partial {
		return
	}
	require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), "%s:%d: %q", page, c.line, c.words)
	require.NoError(t, cmd.ValidateRequiredFlags(), "%s:%d: %q", page, c.line, c.words)
}
