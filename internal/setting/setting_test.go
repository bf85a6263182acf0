package setting

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// word has a text of its own, in flags and in files.
type word string

func (w *word) Set(text string) error           { *w = word(strings.TrimPrefix(text, "<")); return nil }
func (w *word) String() string                  { return "<" + string(*w) }
func (w *word) Type() string                    { return "word" }
func (w word) MarshalText() ([]byte, error)     { return []byte("<" + string(w)), nil }
func (w *word) UnmarshalText(text []byte) error { return w.Set(string(text)) }

// example has a field of every kind. Its tags say how YAML by itself would write it.
type example struct {
	Count int     `yaml:"count"`
	Rate  float64 `yaml:"rate"`
	Seed  uint64  `yaml:"seed"`
	On    bool    `yaml:"on"`
	Name  string  `yaml:"name"`
	Word  word    `yaml:"word"`
	Size  int64   `yaml:"size"`
}

func (e *example) settings() *List {
	l := New()
	l.Group("First")
	l.Int(&e.Count, "count", "things", "how many", 0, 1000)
	l.Float(&e.Rate, "rate", "s", "time in between", 0, 1e6).MayChange().From("Somebody 2020")
	l.Uint64(&e.Seed, "seed", "", "seed").Shared()
	l.Group("Second")
	l.Bool(&e.On, "on", "whether")
	l.Text(&e.Name, "name", "a `file` | of it").Path(filepath.Abs)
	l.Value(&e.Word, &e.Word, "word", "", "a word").OneOf("<a", "<b")
	l.Value((*thousands)(&e.Size), &e.Size, "size", "", "a size").Between(0, 1<<40)
	return l
}

// thousands is a size with or without the letter K.
type thousands int64

func (b *thousands) Set(text string) error {
	number, thousand := strings.CutSuffix(text, "K")
	v, err := strconv.ParseInt(number, 10, 64)
	if thousand {
		v *= 1000
	}
	*b = thousands(v)
	return err
}
func (b *thousands) String() string { return strconv.FormatInt(int64(*b), 10) }
func (b *thousands) Type() string   { return "size" }

var examples = rapid.Custom(func(t *rapid.T) example {
	return example{
		Count: rapid.IntRange(0, 1000).Draw(t, "count"), Rate: rapid.Float64Range(0, 1e6).Draw(t, "rate"),
		Seed: rapid.Uint64().Draw(t, "seed"), On: rapid.Bool().Draw(t, "on"),
		Name: rapid.OneOf(rapid.SampledFrom([]string{"", "~", "null", "yes", "1.5", "a: b", "#", "é\n"}),
			rapid.String()).Draw(t, "name"),
		Word: word(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "word")),
		Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"),
	}
})

// A file is what YAML would write of a struct, and is read back; so are flags; and what differs is what was changed.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := examples.Draw(t, "a"), examples.Draw(t, "b")
		text, err := a.settings().YAML(nil)
		require.NoError(t, err)
		want, err := yaml.Marshal(a)
		require.NoError(t, err)
		require.Equal(t, string(want), string(text))
		require.NoError(t, a.settings().Check())

		got := b
		require.NoError(t, got.settings().Read(text), string(text))
		require.Equal(t, a, got)

		whole, err := a.settings().YAML(map[string]int{"threads": 2})
		require.NoError(t, err)
		require.Equal(t, string(text)+"run:\n    threads: 2\n", string(whole))
		got = b
		require.NoError(t, got.settings().ReadConfig(whole))
		require.Equal(t, a, got)
		require.ErrorContains(t, got.settings().Read(whole), `unknown key "run"`)

		// Flags that were given, and only those, are taken.
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		given := b
		given.settings().Bind(flags)
		require.Nil(t, flags.Lookup("seed"), "a flag of every command")
		names := a.settings().Names()
		chosen := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "chosen")
		var changed []string
		for _, c := range Changes(b.settings(), a.settings()) {
			changed = append(changed, c.Name)
			require.Equal(t, c.Name == "rate", c.MayChange)
			require.NotEqual(t, c.Before, c.After)
		}
		var line []string
		for _, name := range chosen {
			if name != "seed" {
				line = append(line, "--"+name+"="+a.settings().Lookup(name).flag.Value.String())
			}
		}
		require.NoError(t, flags.Parse(line))
		got = b
		require.NoError(t, got.settings().Take(flags, nil))
		require.Equal(t, got, given)
		for _, name := range names {
			is := slices.ContainsFunc(Changes(b.settings(), got.settings()), func(c Change) bool {
				return c.Name == name
			})
			require.Equal(t, name != "seed" && slices.Contains(chosen, name) && slices.Contains(changed, name),
				is, name)
		}
		got = b
		require.NoError(t, got.settings().Take(flags, func(name string) bool { return false }))
		require.Equal(t, b, got)
	})
}

func TestChecks(t *testing.T) {
	good := example{Word: "a"}
	for want, change := range map[string]func(e *example){
		"count -1: want 0 to 1000":             func(e *example) { e.Count = -1 },
		"count 1001: want 0 to 1000":           func(e *example) { e.Count = 1001 },
		"rate NaN: want 0 to 1000000":          func(e *example) { e.Rate = math.NaN() },
		"rate -0.5: want":                      func(e *example) { e.Rate = -0.5 },
		"rate -0: want":                        func(e *example) { e.Rate = math.Copysign(0, -1) },
		"rate +Inf: want":                      func(e *example) { e.Rate = math.Inf(1) },
		`word "<c": want <a, <b`:               func(e *example) { e.Word = "c" },
		"size -1: want 0 to 1099511627776":     func(e *example) { e.Size = -1 },
		"size 1099511627777: want 0 to 109951": func(e *example) { e.Size = 1<<40 + 1 },
	} {
		e := good
		require.NoError(t, e.settings().Check())
		change(&e)
		require.ErrorContains(t, e.settings().Check(), want)
	}
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"count: 2.5":         "line 1: count: 2.5: want a whole number",
		"count: .inf":        "line 1: count:",
		"seed: -1":           "line 1: seed:",
		"seed: -1.0":         "line 1: seed: -1: want a whole number",
		"\ncount: [1]":       "line 2: count: yaml: unmarshal errors: line 2: cannot unmarshal !!seq",
		"count:":             "line 1: count: want a value",
		"name: ~":            "line 1: name: want a value",
		"count: 1\ncount: 1": "line 2: count stands there twice",
		"speed: 1":           `line 1: unknown key "speed"`,
		"[a]: 1":             "line 1: want the name of a setting",
		"- 1":                "line 1: want names of settings with values",
		"size: 1K":           "line 1: size:",
		"name: &a [*a]":      "line 1: name:",
		"count: \"1":         "yaml:",
	} {
		e := example{}
		require.ErrorContains(t, e.settings().Read([]byte(text)), want, text)
	}
	e := example{}
	require.NoError(t, e.settings().Read([]byte("# nothing\n")))
	require.NoError(t, e.settings().Read([]byte("count: 1e2\nrate: &r 0.5\nname: *r\non: yes\n")))
	require.Equal(t, example{Count: 100, Rate: 0.5, Name: "0.5", On: true}, e)
	require.NoError(t, e.settings().Set("word", "<b"))
	require.Equal(t, word("b"), e.Word)
	for _, text := range []string{"", "~", "1", "x"} {
		require.NoError(t, e.settings().Set("name", text))
		require.Equal(t, text, e.Name)
	}
	require.ErrorContains(t, e.settings().Set("speed", "1"), `unknown key "speed"`)
	require.ErrorContains(t, e.settings().Set("count", "2.5"), `count "2.5": 2.5: want a whole number`)
	require.ErrorContains(t, e.settings().Set("rate", "fast"), `rate "fast": `)
}

func TestFixed(t *testing.T) {
	l := new(example).settings()
	require.Empty(t, l.Fixed(func(name string) bool { return name == "rate" }))
	require.Equal(t, "name", l.Fixed(func(name string) bool {
		return name == "rate" || name == "word" || name == "name"
	}))
	require.Equal(t, "CTNAS"+"_MAX_MADDS", EnvName("max-madds"))
}

func TestAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for given, want := range map[string]string{"": "", "a": filepath.Join(dir, "a"), "/a": "/a"} {
		e := example{Name: given}
		require.NoError(t, e.settings().Absolute())
		require.Equal(t, want, e.Name)
	}
}

func TestMarkdownAndHelp(t *testing.T) {
	e := example{Rate: 0.5, Word: "a"}
	l := e.settings()
	text := l.FlagTables(true)
	require.Contains(t, text, "### First\n\n| Flag |")
	require.Contains(t, text, "| `--count` | "+code(EnvName("count"))+" | `0` | 0 to 1000 | things | how many "+
		"| stays |  |\n")
	require.Contains(t, text, "| `--rate` | "+code(EnvName("rate"))+" | `0.5` | 0 to 1000000 | s | time in between | "+
		"may change | Somebody 2020 |\n")
	require.Contains(t, text, "| `--seed` | "+code(EnvName("seed"))+" | `0` | 0 or more |  | seed | stays |  |\n")
	require.Contains(t, text, "| `--name` | "+code(EnvName("name"))+" |  |  |  | a file \\| of it | stays |  |\n")
	require.Equal(t, "### Second\n\n| Key | Default | Allowed | Unit | Meaning | Source |\n|---|---|---|---|---|---|\n"+
		"| `on` | `false` |  |  | whether |  |\n| `name` |  |  |  | a file \\| of it |  |\n"+
		"| `word` | `<a` | <a, <b |  | a word |  |\n| `size` | `0` | 0 to 1099511627776 |  | a size |  |\n\n",
		l.KeyTables("Second"))
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	l.Only("count", "word", "name").Bind(flags)
	require.Equal(t, []any{"how many [things]", "a word: <a or <b"},
		[]any{flags.Lookup("count").Usage, flags.Lookup("word").Usage})
	require.Nil(t, flags.Lookup("rate"))
	what, _ := pflag.UnquoteUsage(flags.Lookup("name"))
	require.Equal(t, "file", what)

	other := e
	other.Rate, other.Name = 2, "x"
	require.Equal(t, "| Setting | one | two |\n|---|---|---|\n| `rate` | `0.5` | `2` |\n| `name` |  | `x` |\n",
		CompareTable([]string{"one", "two"}, l, other.settings()))
}

func TestUnits(t *testing.T) {
	var n int64
	var ms float64
	l := New()
	l.Size(&n, "size", "parameters", "a size")
	l.Milliseconds(&ms, "time", "a time", 1e6)
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	l.Bind(flags)
	for text, want := range map[string]int64{"482M": 482e6, "1.2G": 1.2e9, "1200M": 1.2e9, "7": 7, "3k": 3000, "0": 0,
		"1234567": 1234567} {
		require.NoError(t, flags.Set("size", text))
		require.Equal(t, want, n, text)
		require.NoError(t, flags.Set("size", flags.Lookup("size").Value.String()))
		require.Equal(t, want, n, text)
		require.NoError(t, l.Check())
		file, err := l.YAML(nil)
		require.NoError(t, err)
		require.Contains(t, string(file), "size: "+strconv.FormatInt(want, 10)+"\n")
	}
	for _, text := range []string{"", "M", "-1", "1e3", "NaN", "inf", "1_0", "0x10", "9999999999G", "1MM"} {
		require.Error(t, flags.Set("size", text), text)
	}
	for text, want := range map[string]float64{"12": 12, "12ms": 12, "0.5": 0.5, "800us": 0.8, " 1s": 1000, "0": 0} {
		require.NoError(t, flags.Set("time", text))
		require.Equal(t, want, ms, text)
		require.NoError(t, flags.Set("time", flags.Lookup("time").Value.String()))
		require.Equal(t, want, ms, text)
		require.NoError(t, l.Check())
	}
	for _, text := range []string{"", "x", "-1", "-1ms", "NaN", "Inf", "1e9", "0x5", "2h"} {
		err := flags.Set("time", text)
		if err == nil {
			err = l.Check()
		}
		require.Error(t, err, text)
	}
	require.NoError(t, l.Set("size", "-1"))
	require.ErrorContains(t, l.Check(), "size -1: want 0 or more")
}

func TestLists(t *testing.T) {
	var words []string
	var numbers []int
	var shares []float32
	each := time.Second
	workers := 1000
	l := New()
	l.Words(&words, "words", "some")
	l.Ints(&numbers, "numbers", "", "some", 1, 9)
	l.Floats32(&shares, "shares", "", "some", 0, 1)
	l.Duration(&each, "each", "a while", 0, time.Minute)
	l.Int(&workers, "workers", "", "at work", 0, 1<<20).AtOnce(2)
	text, err := l.YAML(nil)
	require.NoError(t, err)
	require.Equal(t, "words: []\nshares: []\neach: 1s\nworkers: 1000\n", string(text))

	require.NoError(t, l.Read([]byte("words: [a, b]\nnumbers: [1, 2]\nshares: [0.5]\neach: 2s\n")))
	require.Equal(t, []any{[]string{"a", "b"}, []int{1, 2}, []float32{0.5}, 2 * time.Second},
		[]any{words, numbers, shares, each})
	text, err = l.YAML(nil)
	require.NoError(t, err)
	require.Contains(t, string(text), "words: [a, b]\nnumbers: [1, 2]\n")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	l.Bind(flags)
	require.NoError(t, flags.Parse([]string{"--words=x,y", "--numbers", "3", "--numbers=4", "--each", "3s"}))
	require.Equal(t, []any{[]string{"x", "y"}, []int{3, 4}, 3 * time.Second}, []any{words, numbers, each})
	var other []int
	to := New()
	to.Ints(&other, "numbers", "", "some", 1, 9)
	require.NoError(t, to.Take(flags, nil))
	require.Equal(t, numbers, other)

	require.NoError(t, l.Check())
	numbers[1] = 10
	require.ErrorContains(t, l.Check(), "numbers 10: want 1 to 9")
	numbers = nil
	shares = []float32{0, float32(math.NaN())}
	require.ErrorContains(t, l.Check(), "shares NaN: want 0 to 1")
	shares, each = nil, -1
	require.ErrorContains(t, l.Check(), "each -1ns: want 0s to 1m0s")
	said := ""
	l.Cap(3, func(name string, given, used int) { said = fmt.Sprint(name, given, used) })
	require.Equal(t, "workers1000 6", said)
	require.Equal(t, 6, workers)
	require.NoError(t, (*List)(nil).Check())
}
