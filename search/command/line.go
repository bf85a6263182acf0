package command

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The words in braces that a command is given something for.
const (
	heldArch   = "arch"   // the architecture's text
	heldJSON   = "json"   // a file that describes it, see description
	heldONNX   = "onnx"   // its network as a file, with random weights
	heldModule = "module" // its network as a module of Python, a torch.nn.Module
	heldSeed   = "seed"   // of the training
	heldDir    = "dir"    // the candidate's folder, which stays
)

var holders = []string{heldArch, heldJSON, heldONNX, heldModule, heldSeed, heldDir}

// holder is a word in braces, which a command is written with.
var holder = regexp.MustCompile(`\{[a-z]+\}`)

// words divides a command into words as a POSIX shell does: by blanks outside of quotes, with a backslash for what is
// special. Nothing is expanded. Words in braces are among those of holders.
func words(command string, holders []string) (list []string, err error) {
	var word strings.Builder
	begun, quote := false, rune(0)
	escaped := false
	for _, r := range command {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			begun, escaped = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			begun, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if begun {
				list = append(list, word.String())
				word.Reset()
				begun = false
			}
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("the command %q has a quote %c that does not end", command, quote)
	case escaped:
		return nil, fmt.Errorf("the command %q ends in a backslash", command)
	case begun:
		list = append(list, word.String())
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no command is named: want exec:COMMAND {%s}", holders[0])
	}
	for _, w := range list {
		for _, h := range holder.FindAllString(w, -1) {
			if !slices.Contains(holders, strings.Trim(h, "{}")) {
				return nil, fmt.Errorf("the command %q has %s; known are {%s}, and braces of your own want a blank in "+
					"them", command, h, strings.Join(holders, "}, {"))
			}
		}
	}
	return list, nil
}

// holds tells whether a command is given something.
func holds(words []string, what string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, "{"+what+"}") })
}

// filled are a command's words with what they are given.
func filled(words []string, given map[string]string) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = holder.ReplaceAllStringFunc(w, func(h string) string { return given[strings.Trim(h, "{}")] })
	}
	return list
}
