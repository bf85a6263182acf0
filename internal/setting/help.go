package setting

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Section is flags that belong together, as help shows them.
type Section struct {
	Heading string
	Entries []Entry
}

// Entry is a flag of help: as it is typed, "-o, --out FOLDER", and what it does.
type Entry struct {
	Flag, Text string
}

// Sections are the settings' flags by the groups that they are in, in the order in which the groups begin.
func (l *List) Sections() []Section {
	var all []Section
	for _, s := range l.settings() {
		if s.shared || s.flag.Hidden {
			continue
		}
		i := slices.IndexFunc(all, func(x Section) bool { return x.Heading == s.group })
		if i < 0 {
			i, all = len(all), append(all, Section{Heading: s.group})
		}
		all[i].Entries = append(all[i].Entries, s.entry())
	}
	return all
}

// entry is the setting's flag in help.
func (s *Setting) entry() Entry {
	f := *s.flag
	f.Usage = s.usage()
	return FlagEntry(&f)
}

// FlagEntry is a flag in help, be it one of a list or not.
func FlagEntry(f *pflag.Flag) Entry {
	e := Entry{"    --" + f.Name, unquoted.ReplaceAllString(f.Usage, "$1")}
	if f.Shorthand != "" {
		e.Flag = "-" + f.Shorthand + ", --" + f.Name
	}
	if word := placeholder(f); word != "" {
		e.Flag += " " + word
	}
	switch value := f.DefValue; {
	case f.Value.Type() == "duration" && value != "0s": // which has all units down to seconds
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(value, zero) {
				value = value[:len(value)-2]
			}
		}
		e.Text += " (default " + value + ")"
	case f.Value.Type() == "bool" && value == "true":
		e.Text += " (default; --" + f.Name + "=false: not)"
	case !slices.Contains([]string{"", "0", "false", "[]", "0s"}, value):
		e.Text += " (default " + strings.Trim(value, "[]") + ")"
	}
	return e
}

// unquoted is a word that a flag's meaning has in backquotes.
var unquoted = regexp.MustCompile("`([^`]*)`")

// placeholder stands for the value in help: the word that the meaning has in backquotes, otherwise what the kind of
// value or the flag's name says. A switch has none.
func placeholder(f *pflag.Flag) string {
	if quoted := unquoted.FindStringSubmatch(f.Usage); quoted != nil {
		if strings.ContainsAny(quoted[1], "=:") { // a form, as key=value
			return quoted[1]
		}
		return strings.ToUpper(quoted[1])
	}
	switch f.Value.Type() {
	case "bool":
		return ""
	case "int", "uint64":
		return "N"
	case "float64":
		return "X"
	case "intSlice":
		return "N,N"
	case "float32Slice":
		return "X,X,X"
	case "duration":
		return "TIME"
	case "size":
		return "SIZE"
	}
	return strings.ToUpper(f.Name[strings.LastIndexByte(f.Name, '-')+1:])
}
