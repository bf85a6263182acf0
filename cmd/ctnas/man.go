package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
)

// newManCommand writes what help says as pages of man. It is for whoever packs the program.
func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the pages of man, one a command",
		Example: "  ctnas man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return a.writeMan(cmd.Root(), args[0])
		},
	}
}

func (a *app) writeMan(cmd *cobra.Command, dir string) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if err := files.Write(filepath.Join(dir, name+".1"), []byte(a.manPage(cmd))); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := a.writeMan(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage is a command's help in roff (man(7)).
func (a *app) manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	var text strings.Builder
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&text, ".TH %q 1 \"\" %q \"Neural architecture search\"\n", strings.ToUpper(name),
		"ctnas "+thisBuild().Version)
	fmt.Fprintf(&text, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", roff(name), roff(cmd.Short),
		roff(cmd.UseLine()))
	verbatim := false // what is indented stays as it is
	for line := range strings.SplitSeq(description(cmd), "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != verbatim && line != "" {
			text.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[indented])
			verbatim = indented
		}
		if line == "" {
			line = ".PP"
		} else {
			line = roff(line)
		}
		text.WriteString(line + "\n")
	}
	if verbatim {
		text.WriteString(".fi\n")
	}
	for _, s := range commandSections(cmd) {
		fmt.Fprintf(&text, ".SH %s\n", roff(strings.ToUpper(s.Heading)))
		for _, e := range s.Entries {
			fmt.Fprintf(&text, ".TP\n.B %s\n%s\n", roff(e.Flag), roff(e.Text))
		}
	}
	text.WriteString(".SH OPTIONS\n")
	for _, s := range a.flagSections(cmd) {
		fmt.Fprintf(&text, ".SS %s\n", roff(s.Heading))
		for _, e := range s.Entries {
			flag, value, _ := strings.Cut(strings.TrimSpace(e.Flag), " ")
			if strings.HasSuffix(flag, ",") { // a letter and the name
				long, rest, _ := strings.Cut(value, " ")
				flag, value = flag+" "+long, rest
			}
			fmt.Fprintf(&text, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s\n", roff(flag), roff(value), roff(e.Text))
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(&text, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	if parent := cmd.Parent(); parent != nil {
		fmt.Fprintf(&text, ".SH SEE ALSO\n.BR %s (1)\n", roff(strings.ReplaceAll(parent.CommandPath(), " ", "-")))
	}
	return text.String()
}

// roff is text whose characters mean nothing to roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
