package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ctnas/ctnas/internal/setting"
)

// Widths of help, in characters.
const (
	leastWidth   = 40
	mostWidth    = 120 // longer lines are hard to read
	unknownWidth = 80  // where nothing says how wide the lines are
	flagWidth    = 30  // of the column of flags
	narrow       = 70  // below, what a flag does stands under it
)

// newHelpCommand is cobra's, which takes a word that is no command for none.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("unknown help topic %q", args)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// helpWidth is how wide help's lines may be: as the user says (COLUMNS), as the terminal is, also that of a pager whose
// messages go there.
func (a *app) helpWidth() int {
	width := unknownWidth
	if text, ok := a.env("COLUMNS"); ok {
		if n, err := strconv.Atoi(text); err == nil {
			return min(max(n, leastWidth), mostWidth)
		}
	}
	for _, w := range []io.Writer{a.stdout, a.stderr} {
		if f, ok := bare(w).(*os.File); ok {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				width = n
				break
			}
		}
	}
	return min(max(width, leastWidth), mostWidth)
}

// help writes what a command does: its description, its line, examples, the commands under it and its flags in their
// groups, those of every command last.
func (a *app) help(cmd *cobra.Command, _ []string) {
	var text strings.Builder
	width := a.helpWidth()
	text.WriteString(wrapped(description(cmd), width) + "\n\nUsage:\n  " + cmd.UseLine() + "\n")
	if cmd.Example != "" {
		text.WriteString("\nExamples:\n" + cmd.Example + "\n")
	}
	for _, s := range commandSections(cmd) {
		text.WriteString("\n" + s.Heading + ":\n" + columns(s.Entries, flagWidth/2+2, width))
	}
	for _, s := range a.flagSections(cmd) {
		text.WriteString("\n" + s.Heading + ":\n" + columns(s.Entries, flagWidth, width))
	}
	if cmd.HasAvailableSubCommands() {
		more := "`" + cmd.CommandPath() + " COMMAND --help` says more about a command."
		text.WriteString("\n" + wrapped(more, width) + "\n")
	}
	_, _ = io.WriteString(a.stdout, text.String()) // which notes what could not be written
}

// description is a command's text.
func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// commandSections are the commands under one, in their groups where it has some.
func commandSections(cmd *cobra.Command) []setting.Section {
	all := []setting.Section{}
	for _, g := range cmd.Groups() {
		all = append(all, setting.Section{Heading: g.Title})
	}
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() && sub.Name() != "help" {
			continue
		}
		i := max(0, slices.IndexFunc(cmd.Groups(), func(g *cobra.Group) bool { return g.ID == sub.GroupID }))
		if len(all) == 0 {
			all = append(all, setting.Section{Heading: "Commands"})
		}
		all[i].Entries = append(all[i].Entries, setting.Entry{Flag: sub.Name(), Text: sub.Short})
	}
	return all
}

// flagSections are a command's flags in their groups. Those that are no settings stand with the first ones of the
// command itself, for they say what it works on.
func (a *app) flagSections(cmd *cobra.Command) []setting.Section {
	all := a.lists[cmd].Sections()
	every := a.common.Sections()
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden || a.lists[cmd].Lookup(f.Name) != nil:
			return
		case f.Name == "help" || f.Name == "version":
			every[0].Entries = append(every[0].Entries, setting.FlagEntry(f))
			return
		case len(all) == 0:
			all = append(all, setting.Section{Heading: "Flags"})
		}
		all[0].Entries = append(all[0].Entries, setting.FlagEntry(f))
	})
	for i := range every { // a flag of the command's own with the name of one of all stands in its place
		every[i].Entries = slices.DeleteFunc(every[i].Entries, func(e setting.Entry) bool {
			name := longName.FindStringSubmatch(e.Flag)[1]
			return a.lists[cmd].Lookup(name) != nil && cmd.LocalNonPersistentFlags().Lookup(name) != nil
		})
	}
	return append(all, every...)
}

var longName = regexp.MustCompile(`--([a-z0-9-]+)`)

// columns are lines of what is typed and, beside or below it, what it does.
func columns(entries []setting.Entry, left, width int) string {
	var text strings.Builder
	for _, e := range entries {
		line := "  " + e.Flag
		hang := left
		if width < narrow {
			hang = 8
		}
		if n := utf8.RuneCountInString(line); n+2 > hang || width < narrow {
			text.WriteString(line + "\n")
			line = strings.Repeat(" ", hang)
		} else {
			line += strings.Repeat(" ", hang-n)
		}
		text.WriteString(fold(line, e.Text, hang, width) + "\n")
	}
	return text.String()
}

// wrapped is a text whose paragraphs fill lines of a width. Indented lines stay lines, and go on under the column in
// which their text begins.
func wrapped(text string, width int) string {
	var lines []string
	open := false // the last line may be gone on with
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, " "):
			lines, open = append(lines, line), false
		case open:
			lines[len(lines)-1] += " " + line
		default:
			lines, open = append(lines, line), true
		}
	}
	for i, line := range lines {
		head := hanging.FindString(line)
		lines[i] = fold(head, line[len(head):], utf8.RuneCountInString(head), width)
	}
	return strings.Join(lines, "\n")
}

// hanging is what stands before the text of an indented line: a word in a column of its own.
var hanging = regexp.MustCompile(`^( +(\S+  +)?)?`)

// fold puts words behind a line's beginning, in lines of a width of which all but the first are indented.
func fold(line, words string, indent, width int) string {
	var done strings.Builder
	used, first := utf8.RuneCountInString(line), true
	for _, word := range strings.Fields(words) {
		n := utf8.RuneCountInString(word)
		if !first && used+1+n > width {
			done.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used, first = strings.Repeat(" ", indent), indent, true
		}
		if !first {
			line, used = line+" ", used+1
		}
		line, used, first = line+word, used+n, false
	}
	done.WriteString(strings.TrimRight(line, " "))
	return done.String()
}
