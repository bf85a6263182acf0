package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

// deviceRow is a place to compute.
type deviceRow struct {
	Name        string `json:"name"`
	ISA         string `json:"isa,omitempty"`
	Threads     int    `json:"threads,omitempty"`
	Model       string `json:"model,omitempty"`
	SM          int    `json:"sm,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	Driver      string `json:"driver,omitempty"`
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
			gpus, why := cuda.Devices()
			for _, g := range gpus {
				rows = append(rows, deviceRow{Name: g.Name, Model: g.Model, SM: g.SM, MemoryBytes: g.MemoryBytes,
					Driver: g.Driver})
			}
			if a.json {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tWHAT")
			for _, r := range rows {
				what := fmt.Sprintf("%s, %d threads", r.ISA, r.Threads)
				if r.SM > 0 {
					what = fmt.Sprintf("%s, sm_%d, %.1f GiB, CUDA %s", r.Model, r.SM, float64(r.MemoryBytes)/(1<<30),
						r.Driver)
				}
				fmt.Fprintf(w, "%s\t%s\n", r.Name, what)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if why != nil && !a.quiet {
				without := "no GPU"
				if len(gpus) > 0 {
					without = "not all GPUs"
				}
				fmt.Fprintf(a.stderr, "%s: %v\n", without, why)
			}
			return nil
		},
	}
}
