package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/search/labels"
	searchrun "github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// offered are what a shell offers for flags whose values are no list of words.
var offered = map[string]cobra.CompletionFunc{
	"space":           offer(func() []string { return append(space.Names(), "file:") }),
	"labels":          offer(labels.Prefixes),
	"supernet-recipe": offer(trainer.SupernetRecipeNames),
	"data":            offer(func() []string { return imageBeginnings }),
	"supernet-data":   offer(func() []string { return imageBeginnings }),
	"recipe": func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if cmd.Parent().Name() == "supernet" {
			return offer(trainer.SupernetRecipeNames)(cmd, args, typed)
		}
		return offer(trainer.RecipeNames)(cmd, args, typed)
	},
	"methods": func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1] // those that stand there
		var names []string
		for _, name := range searchrun.Names() {
			names = append(names, before+name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	},
}

var imageBeginnings = []string{"shapes", "cifar10:", "cifar100:", "imagenet:", "shards:"}

// offer completes words. Behind the beginning of one, which ends in a colon, no space follows.
func offer(words func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		known := slices.DeleteFunc(slices.Clone(words()), func(word string) bool {
			return !strings.HasPrefix(word, typed)
		})
		how := cobra.ShellCompDirectiveDefault
		if slices.ContainsFunc(known, func(word string) bool { return strings.HasSuffix(word, ":") }) {
			how = cobra.ShellCompDirectiveNoSpace
		}
		return known, how
	}
}

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a shell's completion script",
		Example: `  ctnas completion bash > /etc/bash_completion.d/ctnas
  source <(ctnas completion zsh)`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			default:
				return root.GenPowerShellCompletionWithDesc(a.stdout)
			}
		},
	}
}
