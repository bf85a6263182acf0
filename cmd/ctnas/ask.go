package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/ask"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

const askLong = `
RUN is a folder, which is all that is known: the settings, a ledger of what was told, and what was suggested.
The first suggest or tell of a folder begins it and says with --space what is searched; it may say limits,
which hold from then on. Several processes may work with one folder: each waits for the others.`

func newSuggestCommand(a *app) *cobra.Command {
	n := 1
	var pending bool
	begin := ask.Default()
	cmd := &cobra.Command{
		Use:   "suggest RUN",
		Short: "Say which architectures to measure next, for whoever measures them",
		Long: `Says which architectures to measure next: each with the probability of being at least as good as the best
measured one and the reason why it is there. None of them is measured, or was suggested before. Measure
them as you like, and tell what came of it with ctnas tell.
` + askLong,
		Example: `  ctnas suggest runs/mine --space file:space.yaml -n 10
  ctnas suggest runs/mine -n 10 --json
  ctnas suggest runs/mine --pending`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if pending && a.onLine["count"] {
				return usagef("--pending shows what was suggested, --count suggests more: one of them")
			}
			f, err := a.openAsk(cmd, args[0], begin)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			list := f.Pending()
			if !pending {
				how, err := a.askHow()
				if err != nil {
					return err
				}
				if list, err = f.Suggest(cmd.Context(), n, how); err != nil {
					return err
				}
				if len(list) < n {
					a.log.Warn("no more architectures can be suggested: the others are measured, pending or outside "+
						"of the limits", "asked", n, "suggested", len(list))
				}
			}
			return a.printSuggestions(list)
		},
	}
	l := setting.New()
	l.Group("Suggest")
	l.Int(&n, "count", "architectures", "how many architectures to suggest", 1, 1<<20).Short("n").MayChange()
	l.Bool(&pending, "pending", "show what was suggested and not told of, and suggest nothing").MayChange()
	a.bind(cmd, setting.Join(l, begin.List()))
	return cmd
}

func newTellCommand(a *app) *cobra.Command {
	var file string
	var failed bool
	begin := ask.Default()
	cmd := &cobra.Command{
		Use:   "tell RUN [ARCH NAME=VALUE...]",
		Short: "Tell what architectures have been measured at, so that ctnas suggest knows it",
		Long: `Tells what was measured: of one architecture on the line, or of all rows of a CSV file, which may have a
column arch or a column a decision. All of it is taken or, where anything is wrong, nothing. What is
measured several times counts with its mean; what was told before is no new measurement, so that a file
that grows can be told again and again. Rows without an accuracy are left out. --metric, where a folder is
begun, says that something else than accuracy is told.
` + askLong,
		Example: `  ctnas tell runs/mine --space file:space.yaml --file measured.csv
  ctnas tell runs/mine 'conv3x3|k5e3+k5e3|k5e6|se' accuracy=91.3%
  ctnas tell runs/mine 'conv3x3|k5e3+k5e3|k5e6|se' accuracy=0.913 latency_ms=3.1
  ctnas tell runs/mine 'conv5x5|k3e6|k3e6|se' --failed
  ctnas tell runs/text --space file:space.yaml --metric perplexity:minimize --max 'latency_ms<=15' --file m.csv
  ctnas tell runs/mine --file 'measured.csv?accuracy=top1&unit=percent'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case file != "" && (len(args) > 1 || failed):
				return usagef("--file says which architectures: none on the line, and no --failed")
			case file == "" && len(args) == 1:
				return usagef("say an architecture with what was measured, as accuracy=0.913, or --file FILE")
			case failed == (len(args) > 2) && file == "":
				return usagef("say of an architecture what was measured, as accuracy=0.913, or --failed")
			}
			var values map[string]float64
			if !failed && file == "" {
				var err error
				if values, err = measured(args[2:]); err != nil {
					return err
				}
			}
			f, err := a.openAsk(cmd, args[0], begin)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			told, err := a.tell(cmd, f, file, args[1:], values)
			if err != nil {
				return err
			}
			how, err := a.askHow()
			if err != nil {
				return err
			}
			if err := f.Report(cmd.Context(), how); err != nil {
				return err
			}
			return a.printTold(f, told)
		},
	}
	l := setting.New()
	l.Group("Tell")
	l.Text(&file, "file", "CSV `file` of measurements").MayChange()
	l.Bool(&failed, "failed", "the architecture cannot be measured: it is not suggested again").MayChange()
	a.bind(cmd, setting.Join(l, begin.List()))
	return cmd
}

// openAsk takes a folder of ask and tell, which the flags begin where it is none yet.
func (a *app) openAsk(cmd *cobra.Command, dir string, begin ask.Settings) (*ask.Folder, error) {
	l, settings := begin.List(), &begin
	begun, err := ask.Is(dir)
	switch {
	case err != nil:
		return nil, err
	case begun:
		given := func(name string) bool { return a.onLine[name] }
		if name := setting.Join(l, a.common).Fixed(given); name != "" {
			return nil, usagef("--%s cannot be given: %s says it since it was begun", name, dir)
		}
		settings = nil
	default:
		if _, err := os.Stat(filepath.Join(dir, report.ConfigName)); err == nil {
			return nil, usagef("%s is the folder of something else than ask and tell", dir)
		}
		if err := refuseOther(dir, "run of ask and tell"); err != nil {
			return nil, err
		}
		if err := l.Take(cmd.Flags(), nil); err != nil {
			return nil, usagef("--%w", err)
		}
		if begin.Space == "" {
			return nil, usagef("%s is no folder of ask and tell yet: say with --space what is searched", dir)
		}
		if _, err := openSpace(begin.Space); err != nil {
			return nil, err
		}
		if err := begin.CheckFront(); err != nil {
			return nil, usageError{err}
		}
	}
	build := thisBuild()
	return ask.Open(cmd.Context(), dir, a.commandLine(), settings, struct {
		Command string `yaml:"command"`
		Version string `yaml:"version"`
		Commit  string `yaml:"commit"`
	}{a.commandLine(), build.Version, build.Commit})
}

// askHow is how suggestions are computed.
func (a *app) askHow() (ask.How, error) {
	dev, err := a.openOne()
	return ask.How{Device: dev.Config, Progress: a.progress}, err
}

// tell enters what a file says or, of an architecture on the line, values; none where it has failed.
func (a *app) tell(cmd *cobra.Command, f *ask.Folder, file string, words []string, values map[string]float64) (
	ask.Told, error) {
	if file != "" {
		path, query, _ := strings.Cut(file, "?")
		q, err := table.ParseQuery(query)
		if err != nil {
			return ask.Told{}, usagef("--file %q: %w", file, err)
		}
		all, unsaid, err := table.Measured(cmd.Context(), path, f.MetricName(), f.Others(), q,
			table.Options{Space: f.Sp, Threads: a.threads})
		if err != nil {
			return ask.Told{}, err
		}
		if unsaid > 0 {
			a.log.Warn("rows that do not say it are left out", "metric", f.MetricName(), "rows", unsaid, "file", path)
		}
		told, err := f.Tell(all)
		if err != nil {
			return ask.Told{}, fmt.Errorf("%s: %w", path, err)
		}
		return told, nil
	}
	arch, err := f.Sp.Parse(words[0])
	if err != nil {
		return ask.Told{}, usageError{err}
	}
	if values == nil {
		return f.Fail([]space.Arch{arch})
	}
	return f.Tell([]table.Measurement{{Arch: arch, Values: values}})
}

// measured reads NAME=VALUE, a number or per cent each.
func measured(words []string) (map[string]float64, error) {
	values := map[string]float64{}
	for _, word := range words {
		name, text, said := strings.Cut(word, "=")
		number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		_, twice := values[name]
		switch {
		case !said || name == "":
			return nil, usagef("%q: want NAME=VALUE, as accuracy=0.913", word)
		case err != nil:
			return nil, usagef("%q: want a number, or one with %% behind", word)
		case twice:
			return nil, usagef("%s is said twice", name)
		}
		if values[name] = v; percent {
			values[name] = v / 100
		}
	}
	return values, nil
}

// printSuggestions shows what to measure.
func (a *app) printSuggestions(list []ask.Suggestion) error {
	if a.json {
		if list == nil {
			list = []ask.Suggestion{}
		}
		return a.printJSON(map[string]any{"suggestions": list})
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ARCHITECTURE\tBEATS THE BEST\tWHY")
	for _, x := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", x.Arch, probability(x.Probability), x.Reason)
	}
	return w.Flush()
}

// printTold shows what became of what was told, and what is best.
func (a *app) printTold(f *ask.Folder, t ask.Told) error {
	labels := f.Labels()
	if a.json {
		return a.printJSON(struct {
			ask.Told
			Measured int `json:"measured"`
			Pending  int `json:"pending"`
		}{t, len(labels), len(f.Pending())})
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{t.New, "new"}, {t.Repeated, "repeated"}, {t.Known, "known before"}, {t.Failed, "failed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing"}
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %d measured, %d pending\n", strings.Join(parts, ", "), len(labels),
		len(f.Pending()))
	return err
}
