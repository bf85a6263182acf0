package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/bench"
	"github.com/ctnas/ctnas/search/table"
)

func newBenchCommand(a *app) *cobra.Command {
	var filter, labels, peerData string
	var peerServe bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of kernels and steps on this machine",
		Long: `Measures single operations and whole steps. What needs the whole space is measured where --labels names a table of it. Other programs that
run at the same time make the figures worse; the spread (distance of the quartiles by the median) tells.`,
		Example: `  ctnas bench --filter gemm
  ctnas bench --labels table:nb101.ctt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := regexp.Compile(filter)
			if err != nil {
				return usagef("--filter: %w", err)
			}
			device, isa, threads, err := a.openDevice()
			if err != nil {
				return err
			}
			env := &bench.Env{Device: device}
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
					t, err := table.Open(path, table.Options{
						Columns: query.Columns, Threads: a.threads,
						Progress: func(done, total int64) { update(int(done), int(total)) },
					})
					return t, query, err
				}
			}
			if peerServe {
				return env.Serve(cmd.Context(), os.Stdin, a.stdout)
			}
			document := struct {
				Device   string         `json:"device"`
				ISA      string         `json:"isa"`
				Threads  int            `json:"threads"`
				CopyGBps float64        `json:"copy_gbps"`
				Results  []bench.Result `json:"results"`
			}{"cpu", isa, threads, bench.CopyGBps(threads), []bench.Result{}}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
			if !a.json {
				fmt.Fprintf(a.stdout, "cpu, %s, %d threads, copies at %.1f GB/s\n", isa, threads, document.CopyGBps)
				fmt.Fprintln(w, "MEDIAN MS\tMIN MS\tSPREAD\tGFLOP/S\tGB/S\tNAME\t")
			}
			left := 0
			for _, c := range bench.Cases() {
				if !wanted.MatchString(c.Name) {
					continue
				}
				r, err := env.Measure(cmd.Context(), c, document.CopyGBps)
				if errors.Is(err, bench.ErrNoTable) {
					left++
					continue
				}
				if err != nil {
					return fmt.Errorf("%s: %w", c.Name, err)
				}
				a.log.Debug("measured", "name", c.Name, "median_ms", r.MedianMS)
				if document.Results = append(document.Results, r); !a.json {
					fmt.Fprintf(w, "%.4g\t%.4g\t%.0f %%\t%s\t%s\t%s\t\n", r.MedianMS, r.MinMS, r.Spread*100, optional(r.GFLOPs), optional(r.GBps), r.Name)
				}
			}
			if a.json {
				return a.printJSON(document)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if left > 0 {
				fmt.Fprintf(a.stdout, "%d more with --labels table:FILE, a table of the whole space\n", left)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter, "filter", "", "`regular expression` of the names to measure")
	f.StringVar(&labels, "labels", "", "table of the whole space, table:FILE")
	f.BoolVar(&peerServe, "peer-serve", false, "answer lines NAME REPEATS on stdin, for scripts/peers")
	f.StringVar(&peerData, "peer-data", "", "table for --peer-serve; set by scripts/peers")
	_ = f.MarkHidden("peer-serve") // both fail only for a flag that does not exist
	_ = f.MarkHidden("peer-data")
	return cmd
}

func optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *v)
}
