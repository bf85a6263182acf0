package setting

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return "CTNAS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Bind adds the flags to a command's, but for those that every command has. Parsing them sets the fields.
func (l *List) Bind(f *pflag.FlagSet) {
	for _, s := range l.all {
		s.flag.Usage = s.usage()
		if !s.shared {
			f.AddFlag(s.flag)
		}
	}
}

// Join is the settings of several lists, each name once.
func Join(lists ...*List) *List {
	all := New()
	for _, l := range lists {
		for _, s := range l.settings() {
			if all.Lookup(s.Name) == nil {
				all.all = append(all.all, s)
			}
		}
	}
	return all
}

// Only is the list of some of the settings.
func (l *List) Only(names ...string) *List {
	some := &List{flags: l.flags}
	for _, s := range l.all {
		if slices.Contains(names, s.Name) {
			some.all = append(some.all, s)
		}
	}
	return some
}

// Take sets what was set in another list's flags, on the line, in the environment or by a file; where which is given,
// what it allows of that.
func (l *List) Take(f *pflag.FlagSet, which func(name string) bool) error {
	for _, s := range l.all {
		given := f.Lookup(s.Name)
		if given == nil || !given.Changed || which != nil && !which(s.Name) {
			continue
		}
		if err := set(s.flag.Value, given.Value); err != nil {
			return fmt.Errorf("%s %q: %w", s.Name, given.Value, err)
		}
	}
	return nil
}

// set sets a flag to what another one of its kind is.
func set(to, from pflag.Value) error {
	if list, ok := from.(pflag.SliceValue); ok {
		return to.(pflag.SliceValue).Replace(list.GetSlice())
	}
	return to.Set(from.String())
}

// Cap lowers the numbers of what works at once to what so many processors can use, and says which.
func (l *List) Cap(processors int, said func(name string, given, used int)) {
	for _, s := range l.settings() {
		p, ok := s.at.(*int)
		if most := s.atOnce * processors; ok && most > 0 && *p > most {
			said(s.Name, *p, most)
			*p = most
		}
	}
}

// Fixed is the first of the given names whose setting may not be given when a run goes on; empty where all may.
func (l *List) Fixed(given func(name string) bool) string {
	for _, s := range l.all {
		if given(s.Name) && s.resume == stays {
			return s.Name
		}
	}
	return ""
}
