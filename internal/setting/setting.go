// Package setting lets a setting stand once. A List names, in a line beside the field that holds it, every setting's
// flag, unit, meaning and limits; from that line come the flag and its help, the key in YAML files, the check that
// names the flag, whether the setting may change when a run goes on, and its row in docs/settings.md.
package setting

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Setting is a value that users set. Its name is that of the flag and of the key in YAML files.
type Setting struct {
	Name    string
	Unit    string // empty: a plain number, a word or a name
	Meaning string

	group    string // heading under which it stands in docs/settings.md
	source   string // paper or program that it comes from
	at       any    // points to the field
	flag     *pflag.Flag
	atOnce   int // how many a processor are of use; 0: it is nothing that works at once
	checks   []func() error
	absolute func(string) (string, error)
	allowed
	kept
}

// allowed is what a setting may be.
type allowed struct {
	numeric     bool
	least, most float64  // of a number
	words       []string // all that a text may be; nil: any
	span        string   // of a time, in words
}

// kept is where a setting stands, and whether it stays.
type kept struct {
	resume  resume
	shared  bool // its flag is one of every command
	omitted bool // from a file, where it is empty
	unkept  bool // by files: it is about who watches
}

// resume is whether a setting may be given when a run goes on.
type resume int

const (
	stays   resume = iota // no: the run's folder says it
	repeats               // if it says what the folder says
	changes               // yes, something else too
)

// List is settings in the order in which files have them; nil is none. It belongs to the struct whose fields it points
// to: a list of another struct sets other fields.
type List struct {
	all   []*Setting
	flags *pflag.FlagSet
	group string
}

// New is an empty list.
func New() *List { return &List{flags: pflag.NewFlagSet("", pflag.ContinueOnError)} }

// Group is the heading of the settings that follow.
func (l *List) Group(heading string) { l.group = heading }

func (l *List) settings() []*Setting {
	if l == nil {
		return nil
	}
	return l.all
}

func (l *List) add(name, unit, meaning string, at any) *Setting {
	s := &Setting{Name: name, Unit: unit, Meaning: meaning, group: l.group, at: at, flag: l.flags.Lookup(name)}
	l.all = append(l.all, s)
	return s
}

// Int adds a whole number from least to most; its default is the value that it has.
func (l *List) Int(p *int, name, unit, meaning string, least, most int) *Setting {
	l.flags.IntVar(p, name, *p, "")
	s := l.add(name, unit, meaning, p)
	return s.within(float64(least), float64(most), func() float64 { return float64(*p) })
}

// Float adds a number from least to most, which NaN is not.
func (l *List) Float(p *float64, name, unit, meaning string, least, most float64) *Setting {
	l.flags.Float64Var(p, name, *p, "")
	return l.add(name, unit, meaning, p).within(least, most, func() float64 { return *p })
}

// Uint64 adds any whole number that is not negative.
func (l *List) Uint64(p *uint64, name, unit, meaning string) *Setting {
	l.flags.Uint64Var(p, name, *p, "")
	s := l.add(name, unit, meaning, p)
	s.most, s.numeric = math.MaxUint64, true
	return s
}

// Bool adds a switch.
func (l *List) Bool(p *bool, name, meaning string) *Setting {
	l.flags.BoolVar(p, name, *p, "")
	return l.add(name, "", meaning, p)
}

// Text adds a text; OneOf or Check say which ones are allowed. A word of the meaning in backquotes says in help what it
// is.
func (l *List) Text(p *string, name, meaning string) *Setting {
	l.flags.StringVar(p, name, *p, "")
	return l.add(name, "", meaning, p)
}

// Words adds a list of texts, with commas between them.
func (l *List) Words(p *[]string, name, meaning string) *Setting {
	l.flags.StringSliceVar(p, name, *p, "")
	return l.add(name, "", meaning, p)
}

// Texts adds a list of texts, each given with a flag of its own.
func (l *List) Texts(p *[]string, name, meaning string) *Setting {
	l.flags.StringArrayVar(p, name, *p, "")
	return l.add(name, "", meaning, p)
}

// Ints adds a list of whole numbers from least to most, with commas between them. A file does not have it where it is
// empty.
func (l *List) Ints(p *[]int, name, unit, meaning string, least, most int) *Setting {
	l.flags.IntSliceVar(p, name, *p, "")
	s := l.add(name, unit, meaning, p)
	s.omitted = true
	return s.each(float64(least), float64(most), func() (all []float64) {
		for _, v := range *p {
			all = append(all, float64(v))
		}
		return all
	})
}

// Floats32 adds a list of numbers from least to most, with commas between them.
func (l *List) Floats32(p *[]float32, name, unit, meaning string, least, most float64) *Setting {
	l.flags.Float32SliceVar(p, name, *p, "")
	return l.add(name, unit, meaning, p).each(least, most, func() (all []float64) {
		for _, v := range *p {
			all = append(all, float64(v))
		}
		return all
	})
}

// Duration adds a time from least to most.
func (l *List) Duration(p *time.Duration, name, meaning string, least, most time.Duration) *Setting {
	l.flags.DurationVar(p, name, *p, "")
	s := l.add(name, "", meaning, p)
	s.span = fmt.Sprintf("%v to %v", least, most)
	return s.Check(func() error {
		if *p < least || *p > most {
			return fmt.Errorf("%s %v: want %s", name, *p, s.limits())
		}
		return nil
	})
}

// Value adds a setting whose flag reads and writes text in its own way, as sizes do. In YAML files it is what p points
// to.
func (l *List) Value(v pflag.Value, p any, name, unit, meaning string) *Setting {
	l.flags.Var(v, name, "")
	return l.add(name, unit, meaning, p)
}

func (s *Setting) within(least, most float64, value func() float64) *Setting {
	return s.each(least, most, func() []float64 { return []float64{value()} })
}

func (s *Setting) each(least, most float64, values func() []float64) *Setting {
	s.least, s.most, s.numeric = least, most, true
	return s.Check(func() error {
		for _, v := range values() {
			if !(v >= least && v <= most) || v == 0 && math.Signbit(v) { // files would keep -0 as another number
				return fmt.Errorf("%s %s: want %s", s.Name, number(v), s.limits())
			}
		}
		return nil
	})
}

// number is a number as people write it: whole ones in digits.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// limits says what values are allowed; empty where that is not told by numbers or words.
func (s *Setting) limits() string {
	switch {
	case s.numeric && s.least == 0 && s.most >= mostSize:
		return "0 or more"
	case s.numeric:
		return number(s.least) + " to " + number(s.most)
	case s.span != "":
		return s.span
	}
	return strings.Join(s.words, ", ")
}

// OneOf says what a text may be; an empty one too, where that is its default.
func (s *Setting) OneOf(words ...string) *Setting {
	s.words = words
	return s.Check(func() error {
		if text := s.flag.Value.String(); !slices.Contains(words, text) && (text != "" || s.flag.DefValue != "") {
			return fmt.Errorf("%s %q: want %s", s.Name, text, s.limits())
		}
		return nil
	})
}

// Between says what a number of Value may be.
func (s *Setting) Between(least, most float64) *Setting {
	field := reflect.ValueOf(s.at).Elem()
	return s.within(least, most, func() float64 {
		if field.CanInt() {
			return float64(field.Int())
		}
		return field.Float()
	})
}

// Check adds a check. Its error begins with the setting's name.
func (s *Setting) Check(check func() error) *Setting {
	s.checks = append(s.checks, check)
	return s
}

// From says which paper or program it comes from.
func (s *Setting) From(source string) *Setting {
	s.source = source
	return s
}

// MayChange says that nothing of a run depends on it, so that it may be another when the run goes on.
func (s *Setting) MayChange() *Setting {
	s.resume = changes
	return s
}

// MayRepeat says that it may be given again when the run goes on, as it was.
func (s *Setting) MayRepeat() *Setting {
	s.resume = repeats
	return s
}

// OmitZero says that a file does not have it where it is 0: files of before it was there are written as they were.
func (s *Setting) OmitZero() *Setting {
	s.omitted = true
	return s
}

// Unkept says that no file of a run has it, for it is about who watches.
func (s *Setting) Unkept() *Setting {
	s.unkept = true
	return s
}

// Shared says that its flag is one of every command, so that Bind leaves it alone.
func (s *Setting) Shared() *Setting {
	s.shared = true
	return s
}

// Short is a letter for the flag.
func (s *Setting) Short(letter string) *Setting {
	s.flag.Shorthand = letter
	return s
}

// AtOnce says that the number is of what works at once, and that more than so many a processor only wait for each
// other.
func (s *Setting) AtOnce(perProcessor int) *Setting {
	s.atOnce = perProcessor
	return s
}

// Path says that the text names files, which the function makes valid in any working directory.
func (s *Setting) Path(absolute func(string) (string, error)) *Setting {
	s.absolute = absolute
	return s
}

// usage is the flag's help. It says the unit where the meaning does not.
func (s *Setting) usage() string {
	text := s.Meaning
	if n := len(s.words); n > 1 {
		text += ": " + strings.Join(s.words[:n-1], ", ") + " or " + s.words[n-1]
	}
	if s.Unit != "" && !strings.Contains(text, s.Unit) {
		text += " [" + s.Unit + "]"
	}
	return text
}

// Names lists the settings' names.
func (l *List) Names() []string {
	names := make([]string, len(l.all))
	for i, s := range l.all {
		names[i] = s.Name
	}
	return names
}

// Lookup is the setting of a name, nil where there is none.
func (l *List) Lookup(name string) *Setting {
	i := slices.IndexFunc(l.settings(), func(s *Setting) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return l.all[i]
}

// Check tells what is wrong with the first setting that is not as it must be. The error begins with its name, so that
// two dashes before it make a flag of it.
func (l *List) Check() error {
	for _, s := range l.settings() {
		for _, check := range s.checks {
			if err := check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Absolute makes what names files valid in any working directory. An empty text names none.
func (l *List) Absolute() error {
	for _, s := range l.all {
		text, ok := s.at.(*string)
		if !ok || s.absolute == nil || *text == "" {
			continue
		}
		whole, err := s.absolute(*text)
		if err != nil {
			return err
		}
		*text = whole
	}
	return nil
}

// Kind is the flag's type, as pflag has it.
func (s *Setting) Kind() string { return s.flag.Value.Type() }

// Words are what a text may be; nil where that is not a list of words.
func (s *Setting) Words() []string { return s.words }
