package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

// deviceRow is a place to compute: this machine's processors, or a GPU.
type deviceRow struct {
	Name        string `json:"name"`
	ISA         string `json:"isa"`
	Threads     int    `json:"threads,omitempty"`
	Model       string `json:"model,omitempty"`
	SMs         int    `json:"sms,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
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
			gpus, noGPU := cuda.Devices()
			for _, g := range gpus {
				rows = append(rows, deviceRow{
					Name: g.Name, ISA: fmt.Sprintf("sm_%d", g.SM), Model: g.Model, SMs: g.SMs, MemoryBytes: g.MemoryBytes,
				})
			}
			if a.json {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tISA\tHARDWARE")
			for _, r := range rows {
				what := fmt.Sprintf("%d threads", r.Threads)
				if r.Model != "" {
					what = fmt.Sprintf("%s, %d SMs, %.1f GiB", r.Model, r.SMs, float64(r.MemoryBytes)/(1<<30))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, r.ISA, what)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if noGPU != nil && !a.quiet {
				fmt.Fprintf(a.stderr, "no GPU: %v\n", noGPU)
			}
			return nil
		},
	}
}
