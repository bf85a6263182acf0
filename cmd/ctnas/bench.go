package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/cmd/ctnas/bench"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/table"
)

func newBenchCommand(a *app) *cobra.Command {
	var filter, labels, peerData string
	var serve bool
	wanted := time.Second
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of kernels and steps on this machine",
		Long: `Measures single operations and whole steps, beside what the machine reaches at most in the same run:
multiply-adds in registers (GFLOP/s) and copying of memory (GB/s, read and written). The last column is the
larger of the shares of the two; operations whose data stay in the caches may pass 100 %. On a GPU single
operations are timed by its own clock, some in a row, and each kernel's registers, shared memory and
occupancy follow; with --precision bf16 the ceiling of arithmetic is that of the tensor cores.

Steps over the whole space take their cells from --labels, or list the space first, which takes seconds. A
few need a table, and some are so long that they run only when --filter names them: training of networks and
of comparators, the whole search. A case that ends in _plain or _unshared does the work of its namesake
without the exact shortcuts: nothing shared, each pair encoded by itself.

Other programs that run at the same time make the figures worse; the spread (distance of the quartiles by
the median) tells.

--serve is our side of the comparison with PyTorch (make bench-peers): a line "NAME REPEATS" is answered by
a line of JSON.`,
		Example: `  ctnas bench --filter gemm
  ctnas bench --device cuda:0 --precision bf16
  ctnas bench --labels table:nb101.ctt --json
  ctnas bench --labels table:nb101.ctt --filter search_released_schedule`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := regexp.Compile(filter)
			if err != nil {
				return usagef("--filter: %w", err)
			}
			dev, err := a.openDevice()
			if err != nil {
				return err
			}
			env := &bench.Env{Device: dev.Config}
			defer env.Close()
			if labels == "" && peerData != "" {
				labels = "table:" + peerData
			}
			if labels != "" {
				path, query, err := table.ParseLabels(labels)
				if err != nil {
					return usagef("--labels: %w", err)
				}
				env.Open = func() (*table.Table, table.Query, error) {
					update, finish := a.progress("read " + filepath.Base(path))
					defer finish()
					t, err := table.Open(cmd.Context(), path, table.Options{
						Columns: query.Columns, Threads: a.threads,
						Progress: func(done, total int64) { update(int(done), int(total)) },
					})
					return t, query, err
				}
			}
			if serve {
				return env.Serve(cmd.Context(), os.Stdin, a.stdout)
			}
			ceilings, err := env.Ceilings()
			if err != nil {
				return err
			}
			document := struct {
				Device   string         `json:"device"`
				ISA      string         `json:"isa"`
				Threads  int            `json:"threads"`
				Ceilings bench.Ceilings `json:"ceilings"`
				Results  []bench.Result `json:"results"`
			}{dev.name, dev.level, dev.threads, ceilings, []bench.Result{}}
			var cases []bench.Case
			long, width := 0, 0
			for _, c := range bench.Cases() {
				switch {
				case !name.MatchString(c.Name):
				case c.Long && filter == "":
					long++
				default:
					cases = append(cases, c)
					width = max(width, len(c.Name))
				}
			}
			const columns = "%-*s  %10s  %10s  %6s  %8s  %7s  %7s  %s\n"
			if !a.json {
				fmt.Fprintf(a.stdout, "%s, %s, %d threads: at most %.0f GFLOP/s, %.1f GB/s\n", dev.name, dev.level,
					dev.threads, ceilings.GFLOPs, ceilings.CopyGBps)
				fmt.Fprintf(a.stdout, columns, width, "name", "median ms", "min ms", "spread", "GFLOP/s", "GB/s",
					"ceiling", "shape")
			}
			tables := 0
			for _, c := range cases {
				r, err := env.Measure(cmd.Context(), c, ceilings, wanted)
				if errors.Is(err, bench.ErrNoTable) {
					tables++
					continue
				}
				if err != nil {
					return fmt.Errorf("%s: %w", c.Name, err)
				}
				if document.Results = append(document.Results, r); !a.json {
					fmt.Fprintf(a.stdout, columns, width, r.Name, fmt.Sprintf("%.4g", r.MedianMS),
						fmt.Sprintf("%.4g", r.MinMS), percent(&r.Spread), optional(r.GFLOPs), optional(r.GBps),
						percent(r.CeilingShare), r.Shape)
					for _, k := range r.Kernels {
						fmt.Fprintf(a.stdout, "    %s: %d registers, %.1f KiB shared, %d bytes local, occupancy %s\n",
							k.Entry, k.Registers, float64(k.Shared)/1024, k.LocalBytes, percent(&k.Occupancy))
					}
				}
			}
			if a.json {
				return a.printJSON(document)
			}
			if tables > 0 {
				fmt.Fprintf(a.stdout, "%d more with --labels table:FILE, a table of the whole space\n", tables)
			}
			if long > 0 {
				fmt.Fprintf(a.stdout, "%d more, which take long, with --filter and their names\n", long)
			}
			return nil
		},
	}
	l := setting.New()
	l.Group("Benchmarks")
	l.Text(&filter, "filter", "`regular expression` of the names to measure")
	l.Text(&labels, "labels", "table of the whole space, table:FILE")
	l.Duration(&wanted, "time", "how long each case is measured, at least 3 times", time.Nanosecond, time.Hour)
	l.Bool(&serve, "serve", "answer lines NAME REPEATS on stdin, for scripts/peers")
	l.Text(&peerData, "peer-data", "table for --serve; set by scripts/peers")
	a.bind(cmd, l)
	_ = cmd.Flags().MarkHidden("peer-data") // fails only for a flag that does not exist
	return cmd
}

func optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *v)
}

func percent(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", *v*100)
}
