package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/search/ask"
	"github.com/ctnas/ctnas/search/compare"
	"github.com/ctnas/ctnas/search/report"
)

func newReportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "report DIR...",
		Short: "Write report.html of a search, a comparison or a supernet anew, or of several searches side by side",
		Long: `Writes report.html of a folder anew: of a search, of a supernet's training, or of a comparison, with its
curves and tables (curves.csv, curves.svg, table.tex, table.md).

Several folders of searches in one space are set side by side on a page in the folder that --out names.`,
		Example: `  ctnas report runs/a
  ctnas report runs/compare150
  ctnas report runs/a runs/b runs/c --out runs/abc`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, write, err := a.reportOf(args)
			if err != nil {
				return err
			}
			unlock, err := a.lockFolder(dir)
			if err != nil {
				return err
			}
			defer unlock()
			if err := write(dir); err != nil {
				return err
			}
			path := filepath.Join(dir, report.PageName)
			if a.json {
				return a.printJSON(map[string]string{"report": path})
			}
			_, err = fmt.Fprintln(a.stdout, path)
			return err
		},
	}
}

// reportOf is the folder that a page is written to, and what writes it.
func (a *app) reportOf(args []string) (dir string, write func(dir string) error, err error) {
	if len(args) > 1 {
		if a.out == "" {
			return "", nil, usagef("--out is missing: the folder for the page of %d searches", len(args))
		}
		var list []*report.Data
		for _, arg := range args {
			data, err := a.loadSearch(arg)
			if err != nil {
				return "", nil, err
			}
			list = append(list, data)
		}
		page, err := report.SideBySide(list)
		if err != nil {
			return "", nil, usageError{err}
		}
		page.Command = a.commandLine()
		return a.out, page.Write, nil
	}
	dir = args[0]
	if a.out != "" {
		return "", nil, usagef("--out is of several searches: the page of one stands in its own folder")
	}
	if is, err := compare.Is(dir); err != nil {
		return "", nil, err
	} else if is {
		d, command, err := compare.Load(dir)
		return dir, func(dir string) error { return d.Write(dir, command) }, err
	}
	if is, err := report.IsSupernet(dir); err != nil {
		return "", nil, err
	} else if is {
		return dir, report.WriteSupernet, nil
	}
	data, err := a.loadSearch(dir)
	if err != nil {
		return "", nil, err
	}
	return dir, data.Write, nil
}

// loadSearch reads a search's folder and tells what of it cannot be read.
func (a *app) loadSearch(dir string) (*report.Data, error) {
	data, err := report.Load(dir)
	if told, is := ask.Is(dir); err != nil && is == nil && told {
		return nil, fmt.Errorf("%s: nothing within the limits has been told yet: there is nothing to show", dir)
	} else if err != nil {
		return nil, err
	}
	for _, line := range data.Spoiled {
		a.log.Warn("left out of the page", "what", line)
	}
	return data, nil
}
