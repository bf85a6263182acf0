package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/setting"
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

For whoever runs a search or a training and wants to know what can be set, to what, and what it does. This page is written by
` + "`make settings`" + ` from the lists in the program; a test fails where it is not up to date.

A flag on the line wins, then the environment, then the file of ` + "`--config`" + `, whose keys are the flags without their dashes. A run's
config.yaml has every setting with the value in use. *On resume* says whether a setting may be another when a run goes on with
` + "`--resume`" + `; what stays is refused there. 0 or empty is what the meaning says of it.

`

// settingsPage is docs/settings.md.
func settingsPage(t *testing.T) string {
	a, _ := aProgram()
	var page strings.Builder
	page.WriteString(settingsHead + a.common.FlagTables())
	s := newTrainSettings()
	page.WriteString("## ctnas train\n\nThe defaults are those of a recipe's file that does not say them.\n\n" + s.settings().FlagTables())
	names, lists := []string{}, []*setting.List{}
	for _, name := range trainer.RecipeNames() {
		r, err := trainer.OpenRecipe(name)
		require.NoError(t, err)
		names, lists = append(names, name), append(lists, r.Settings())
	}
	page.WriteString("### What the recipes say\n\n" + setting.CompareTable(names, lists...) + "\n")
	spec, err := trained.Parse(trained.Prefix + "shapes")
	require.NoError(t, err)
	page.WriteString("## Labels by training\n\nKeys of `--labels train:DATA?recipe=R&key=value`, beside those of the recipe, which are the flags above.\n\n" +
		spec.Settings().KeyTables("Labels by training", "Faults"))
	return strings.TrimSuffix(page.String(), "\n")
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

// Every flag of these commands is a setting of a list.
func TestFlagsAreSettings(t *testing.T) {
	own := map[string]bool{"help": true, "version": true, "resume": true, "amp": true}
	a, root := aProgram()
	for _, name := range []string{"train"} {
		cmd, _, err := root.Find([]string{name})
		require.NoError(t, err)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			known := a.lists[cmd].Lookup(f.Name) != nil || a.common.Lookup(f.Name) != nil
			require.True(t, known != own[f.Name], "%s --%s", name, f.Name)
		})
	}
}

// Whatever is no value of a setting is refused with an error that names it: no number, one below all or above all, another word.
func TestEverySettingIsChecked(t *testing.T) {
	program := func(name string) (list func() *setting.List) {
		return func() *setting.List {
			a, root := aProgram()
			if name == "" {
				return a.common
			}
			cmd, _, err := root.Find([]string{name})
			require.NoError(t, err)
			return a.lists[cmd]
		}
	}
	spec := func() *setting.List {
		s, err := trained.Parse(trained.Prefix + "shapes")
		require.NoError(t, err)
		return s.Settings()
	}
	for where, list := range map[string]func() *setting.List{"": program(""), "train": program("train"), "eval": program("eval"),
		"export": program("export"), "retrain": program("retrain"), "labels": spec} {
		require.NoError(t, list().Check(), where)
		for _, name := range list().Names() {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			list().Bind(flags, name)
			kind := flags.Lookup(name).Value.Type()
			bad := []string{".nan", "-1", "1e300", "-.inf"}
			switch {
			case kind == "string" && list().Lookup(name).Words() == nil:
				continue // any name
			case kind == "bool":
				bad = []string{"2"}
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
