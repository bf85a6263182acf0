package setting

import (
	"fmt"
	"slices"
	"strings"
)

// column is one of a table of settings.
type column struct {
	title string
	cell  func(s *Setting) string
}

var common = []column{
	{"Default", func(s *Setting) string { return code(s.flag.DefValue) }},
	{"Allowed", (*Setting).limits},
	{"Unit", func(s *Setting) string { return s.Unit }},
	{"Meaning", func(s *Setting) string { return strings.ReplaceAll(s.Meaning, "`", "") }},
}

var (
	flags = []column{
		{"Flag", func(s *Setting) string { return code("--" + s.Name) }},
		{"Environment", func(s *Setting) string { return code(EnvName(s.Name)) }},
	}
	keys     = []column{{"Key", func(s *Setting) string { return code(s.Name) }}}
	onResume = []column{{"On resume", func(s *Setting) string {
		return map[resume]string{stays: "stays", repeats: "may be repeated", changes: "may change"}[s.resume]
	}}}
	source = []column{{"Source", func(s *Setting) string { return s.source }}}
)

// FlagTables is a Markdown table of each group of a command's settings, in the order in which they begin; with what
// becomes of them when a run goes on where the command resumes some.
func (l *List) FlagTables(resumes bool) string {
	var groups []string
	for _, s := range l.all {
		if !slices.Contains(groups, s.group) {
			groups = append(groups, s.group)
		}
	}
	columns := slices.Concat(flags, common)
	if resumes {
		columns = append(columns, onResume...)
	}
	return l.tables(append(columns, source...), groups)
}

// KeyTables is a Markdown table of each of the groups, of settings that are keys of something else than a command.
func (l *List) KeyTables(groups ...string) string {
	return l.tables(slices.Concat(keys, common, source), groups)
}

func (l *List) tables(columns []column, groups []string) string {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	var text strings.Builder
	for _, group := range groups {
		fmt.Fprintf(&text, "### %s\n\n%s|%s\n", group, line(titles), strings.Repeat("---|", len(columns)))
		for _, s := range l.all {
			if s.group != group {
				continue
			}
			cells := make([]string, len(columns))
			for i, c := range columns {
				cells[i] = c.cell(s)
			}
			text.WriteString(line(cells))
		}
		text.WriteString("\n")
	}
	return text.String()
}

// line is a row of a table.
func line(cells []string) string {
	text := "|"
	for _, cell := range cells {
		text += " " + strings.ReplaceAll(cell, "|", `\|`) + " |"
	}
	return text + "\n"
}

// code is text in backquotes; nothing for nothing.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// CompareTable is a Markdown table of the settings that are not the same in all of the lists, which are of one kind and
// have names.
func CompareTable(names []string, lists ...*List) string {
	text := line(append([]string{"Setting"}, names...)) + "|" + strings.Repeat("---|", len(names)+1) + "\n"
	for i, s := range lists[0].all {
		cells, same := []string{code(s.Name)}, true
		for _, l := range lists {
			cells = append(cells, code(l.all[i].flag.Value.String()))
			same = same && cells[len(cells)-1] == cells[1]
		}
		if !same {
			text += line(cells)
		}
	}
	return text
}
