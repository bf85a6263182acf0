package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/command"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/trained"
	"github.com/ctnas/ctnas/trainer"
)

var update = flag.Bool("update", false, "write docs/settings.md anew")

// aProgram is one whose commands are not run.
func aProgram() (*app, *cobra.Command) {
	a := &app{stdout: io.Discard, stderr: io.Discard, env: func(string) (string, bool) { return "", false }}
	return a, newRoot(a)
}

const settingsHead = `# Settings

For whoever runs a search or a training. After it you know what can be set, to what, and what it
does. This page is written by ` + "`make settings`" + ` from the lists in the program; a test fails where it
is not up to date.

A flag on the line wins, then the environment, then the file of ` + "`--config`" + `, whose keys are the flags
without their dashes. A run's config.yaml has every setting with the value in use. *On resume* says,
for commands that have ` + "`--resume`" + `, whether a setting may be another when a run goes on; what stays
is refused there. 0 or empty is what the meaning says of it.

`

// eachCommand visits all commands, in the order of help.
func eachCommand(cmd *cobra.Command, visit func(cmd *cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, visit)
	}
}

// settingsPage is docs/settings.md.
func settingsPage(t *testing.T) string {
	a, root := aProgram()
	var page strings.Builder
	page.WriteString(settingsHead + a.common.FlagTables(true))
	eachCommand(root, func(cmd *cobra.Command) {
		l := a.lists[cmd]
		if l == nil {
			return
		}
		fmt.Fprintf(&page, "## %s\n\n%s", cmd.CommandPath(), l.FlagTables(cmd.Flag("resume") != nil))
		if cmd.CommandPath() == "ctnas search" {
			page.WriteString("### What presets and spaces change\n\n" + searchPresets(t) + "\n")
		}
		if cmd.CommandPath() == "ctnas train" {
			names, lists := []string{"none"}, []*setting.List{l}
			for _, name := range trainer.RecipeNames() {
				r, err := trainer.OpenRecipe(name)
				require.NoError(t, err)
				names, lists = append(names, name), append(lists, r.Settings())
			}
			lists[0] = lists[0].Only(lists[1].Names()...)
			page.WriteString("### What the recipes say\n\n" + setting.CompareTable(names, lists...) + "\n")
		}
		if cmd.CommandPath() == "ctnas supernet train" {
			names, lists := []string{}, []*setting.List{}
			for _, name := range trainer.SupernetRecipeNames() {
				r, err := trainer.OpenSupernetRecipe(name)
				require.NoError(t, err)
				names, lists = append(names, name), append(lists, r.Settings())
			}
			page.WriteString("### What the recipes for supernets say\n\n")
			page.WriteString(setting.CompareTable(names, lists...) + "\n")
		}
	})
	spec, err := trained.Parse(trained.Prefix + "shapes")
	require.NoError(t, err)
	page.WriteString("## Labels by training\n\nKeys of `--labels train:DATA?recipe=R&key=value`, beside those of the " +
		"recipe,\nwhich are the flags above.\n\n" + spec.Settings().KeyTables("Labels by training", "Faults"))
	page.WriteString("## Labels by a command\n\nKeys of `--labels exec:COMMAND?key=value` ([exec.md](exec.md)).\n\n" +
		commandLabels(t).KeyTables("Labels by a command"))
	return strings.TrimSuffix(page.String(), "\n")
}

// searchPresets is a table of what the presets set, and what the default one sets where operations say where they
// stand.
func searchPresets(t *testing.T) string {
	names, lists := []string{}, []*setting.List{}
	for _, preset := range []string{search.PresetDefault, search.PresetPaper, search.PresetReleased} {
		c, err := search.Preset(preset)
		require.NoError(t, err)
		c.Preset = ""
		names, lists = append(names, preset), append(lists, c.Settings())
	}
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.For(c.Space, space.Darts{})
	c.Preset = ""
	return setting.CompareTable(append(names, "default, other spaces than nasbench101"), append(lists, c.Settings())...)
}

func TestSettingsPage(t *testing.T) {
	const path = "../../docs/settings.md"
	page := settingsPage(t)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o644))
	}
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, page == string(written), "docs/settings.md is of other settings: make settings")
}

// Every flag is a setting of a list, but for those that do something else than set.
func TestFlagsAreSettings(t *testing.T) {
	own := []string{"help", "version", "resume", "amp"}
	a, root := aProgram()
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			known := a.lists[cmd].Lookup(f.Name) != nil || a.common.Lookup(f.Name) != nil
			require.True(t, known || slices.Contains(own, f.Name), "%s --%s", cmd.CommandPath(), f.Name)
		})
	})
}

// What a search, a training or a comparison takes, its file keeps, and flags hand on.
func TestWhatIsTakenIsKept(t *testing.T) {
	fresh := []func() *setting.List{
		func() *setting.List { return new(search.Config).Settings() },
		func() *setting.List { return new(trainSettings).settings() },
		func() *setting.List { return new(supernetTrainSettings).settings() },
		func() *setting.List { return new(compareFlags).settings() },
	}
	texts := rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,6}(\.[0-9]{1,3})?(e-?[0-9])?[KMG]?`), rapid.String(),
		rapid.SampledFrom([]string{"true", "no", "", "~", "null", "0x10", "1_0", ".5", "skip=3", "adam",
			"released", "a, b", "\nA", "a\n b\n", "\r\n"}))
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.SampledFrom(fresh).Draw(t, "list")
		given, file, taken := one(), one(), one()
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		given.Bind(flags)
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(given.Names()), rapid.ID).Draw(t, "names") {
			text := texts.Draw(t, name)
			alone, only := pflag.NewFlagSet("", pflag.ContinueOnError), one().Only(name)
			only.Bind(alone)
			if alone.Lookup(name) != nil && alone.Set(name, text) == nil && only.Check() == nil {
				require.NoError(t, flags.Set(name, text))
			}
		}
		want, err := given.YAML(nil)
		require.NoError(t, err)
		if strings.Contains(string(want), "\\x") || !utf8.Valid(want) { // no text
			return
		}
		require.NoError(t, file.Read(want), string(want))
		got, err := file.YAML(nil)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
		require.NoError(t, taken.Take(flags, nil))
		got, err = taken.YAML(nil)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
}

// commandLabels are the keys of labels by a command.
func commandLabels(t *testing.T) *setting.List {
	s, err := command.Parse(command.Prefix + "true {arch}")
	require.NoError(t, err)
	s.Dir = ""
	return s.Settings()
}

// Whatever is no value of a setting is refused with an error that names it: no number, one below all or above all,
// another word.
func TestEverySettingIsChecked(t *testing.T) {
	lists := map[string]func() *setting.List{
		"": func() *setting.List { a, _ := aProgram(); return a.common },
		"labels": func() *setting.List {
			s, err := trained.Parse(trained.Prefix + "shapes")
			require.NoError(t, err)
			return s.Settings()
		},
		"command": func() *setting.List { return commandLabels(t) },
	}
	_, root := aProgram()
	eachCommand(root, func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		lists[cmd.CommandPath()] = func() *setting.List {
			a, root := aProgram()
			cmd, _, err := root.Find(path)
			require.NoError(t, err)
			if l := a.lists[cmd]; l != nil {
				return l
			}
			return setting.New()
		}
	})
	for where, list := range lists {
		require.NoError(t, list().Check(), where)
		for _, name := range list().Names() {
			kind := list().Lookup(name).Kind()
			bad := []string{".nan", "-1", "1e300", "-.inf"}
			switch {
			case kind == "string" && list().Lookup(name).Words() == nil && name != "data" && name != "device",
				where == "command" && (name == "gpus" || name == "files"):
				continue // any name
			case kind == "bool":
				bad = []string{"2"}
			case kind == "duration":
				bad = []string{"-1s", "x"}
			case name == "data":
				bad = []string{"photos"}
			}
			for _, text := range bad {
				l := list()
				err := l.Set(name, text)
				if err == nil {
					err = l.Check()
				}
				require.Error(t, err, "%s: --%s %s", where, name, text)
				require.True(t, strings.HasPrefix(err.Error(), name+" "), "%s: --%s %s: %v", where, name, text, err)
			}
		}
	}
}

// The settings of a search's folder that an older version began are read, and what is read would be written the same;
// the folders of methods other than ctnas had their flags by the alphabet.
func TestOlderSearches(t *testing.T) {
	for name, check := range map[string]func(c search.Config){
		"search": func(c search.Config) {
			require.Equal(t, []any{10, int64(9e6), 4}, []any{c.Init, c.MaxParams, c.Members})
		},
		"released": func(c search.Config) {
			require.Equal(t, []any{search.PresetReleased, 5, 100}, []any{c.Preset, c.Validation, c.Iterations})
		},
		"random": func(c search.Config) {
			require.Equal(t, []any{"random", 30, uint64(3)}, []any{c.Method, c.Budget, c.Seed})
		},
	} {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		require.NoError(t, err)
		c, err := search.ParseConfig(text)
		require.NoError(t, err, name)
		check(c)
		again, err := c.Settings().YAML(nil)
		require.NoError(t, err)
		if before, _, _ := strings.Cut(string(text), "run:\n"); name != "random" {
			// Settings that it did not have are written at their defaults.
			const since = "supernet-preset: default\nsupernet-cells: 1000\n"
			before = strings.Replace(before, "thompson:", "lag: 0\nthompson:", 1)
			before = strings.Replace(before, "per-round:", fmt.Sprintf("preselect: %d\nper-round:", c.Preselect), 1)
			require.Equal(t, before+since, string(again))
		}
		back, err := search.ParseConfig(again)
		require.NoError(t, err)
		require.Equal(t, c, back)
	}
}

// The folder of a training that an older version began is read, and what is read would be written the same.
func TestOlderTraining(t *testing.T) {
	const path = "testdata/training.yaml"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	s := newTrainSettings()
	require.NoError(t, s.parse(text))
	require.Equal(t, []any{"nasbench101:4:110011:12", 0.05, 100, uint64(5), "skip=3"},
		[]any{s.Arch, s.LR, s.Batch, s.Seed, fmt.Sprint(s.OnCorrupt)})
	again, err := s.settings().YAML(nil)
	require.NoError(t, err)
	before, _, _ := strings.Cut(string(text), "run:\n")
	require.Equal(t, before, string(again))
}

func TestWordsAreCompleted(t *testing.T) {
	for flag, want := range map[string]string{"--optimizer": "sgd\nrmsprop\nadam\nadamw\n:4\n",
		"--log-level": "debug\ninfo\nwarn\nerror\n:4\n"} {
		code, stdout, _ := call(nil, "__complete", "train", "x", flag, "")
		require.Equal(t, exitOK, code)
		require.Equal(t, want, stdout)
	}
}
