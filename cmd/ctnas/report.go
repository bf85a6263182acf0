package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/search/report"
)

func newReportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "report DIR",
		Short:   "Write report.html of a search's or a supernet's folder anew",
		Example: `  ctnas report runs/a`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			write := report.WriteSupernet
			if is, err := report.IsSupernet(args[0]); err != nil {
				return err
			} else if !is {
				data, err := report.Load(args[0])
				if err != nil {
					return err
				}
				for _, line := range data.Spoiled {
					a.log.Warn("left out of the page", "what", line)
				}
				write = data.Write
			}
			unlock, err := a.lockFolder(args[0])
			if err != nil {
				return err
			}
			defer unlock()
			if err := write(args[0]); err != nil {
				return err
			}
			path := filepath.Join(args[0], report.PageName)
			if a.json {
				return a.printJSON(map[string]string{"report": path})
			}
			_, err = fmt.Fprintln(a.stdout, path)
			return err
		},
	}
}
