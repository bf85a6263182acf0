package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/kernels/exec"
)

// deviceRow is a place to compute.
type deviceRow struct {
	Name    string `json:"name"`
	ISA     string `json:"isa"`
	Threads int    `json:"threads"`
}

func newDevicesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "devices",
		Short: "List where this program can compute",
		Example: `  ctnas devices
  ctnas devices --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := exec.Open(exec.Config{Threads: a.threads})
			if err != nil {
				return err
			}
			defer d.Close()
			rows := []deviceRow{{Name: "cpu", ISA: d.Level(), Threads: d.Threads()}}
			if a.json {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tISA\tTHREADS")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%d\n", r.Name, r.ISA, r.Threads)
			}
			return w.Flush()
		},
	}
}
