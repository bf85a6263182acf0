// Command text names what is wrong with the text of Go files alone, whatever they are built for: lines longer than 120
// characters and common misspellings. No comment silences a linter here, so that one that pretends to is a mistake.
package main

import (
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/golangci/misspell"
)

const (
	longest  = 120
	tabWidth = 4
)

// A line is as long as a text in it that stands best in one piece: an architecture, a regular expression, a file.
var onePiece = regexp.MustCompile("\"[^\"]{70,}\"|`[^`]{60,}")

func main() {
	log.SetFlags(0)
	words := misspell.Replacer{Replacements: misspell.DictMain}
	words.RemoveRule([]string{"wih"}) // PyTorch's name of an LSTM's input weights
	words.Compile()
	failed := false
	for _, path := range os.Args[1:] {
		content, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		for _, found := range check(string(content), &words) {
			fmt.Printf("%s:%s\n", path, found)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// check returns "LINE:COLUMN: what is wrong" for everything that is wrong with a file.
func check(content string, words *misspell.Replacer) []string {
	var found []string
	for i, line := range strings.Split(content, "\n") {
		length := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", strings.Repeat(" ", tabWidth)))
		if length > longest && !strings.HasPrefix(line, "//go:") && !onePiece.MatchString(line) {
			found = append(found, fmt.Sprintf("%d:1: lll: %d characters, which is more than %d", i+1, length, longest))
		}
		if strings.Contains(line, "//no"+"lint") || strings.Contains(line, "//lint"+":") {
			found = append(found, fmt.Sprintf("%d:1: silence: no linter reads such a comment", i+1))
		}
	}
	_, wrong := words.Replace(content)
	for _, word := range wrong {
		found = append(found,
			fmt.Sprintf("%d:%d: misspell: %q should be %q", word.Line, word.Column+1, word.Original, word.Corrected))
	}
	return found
}
