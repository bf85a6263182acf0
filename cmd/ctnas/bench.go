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
	var filter, labels, peerData, launched, profiled, linesPath string
	var serve bool
	var batch int
	wanted := time.Second
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of kernels and steps on this machine",
		Long: `Measures single operations and whole steps, beside what the machine reaches at most in the same run:
multiply-adds in registers (GFLOP/s) and copying of memory (GB/s, read and written). The ceiling is the larger
of the shares of the two; operations whose data stay in the caches may pass 100 %. Where a case does the work
of another one in another way, as its shape says, both run in turns, and the ratio is the other's time by the
case's. On a GPU single
operations are timed by its own clock, some in a row, and each kernel's registers, shared memory and
occupancy follow; with --precision bf16 the ceiling of arithmetic is that of the tensor cores.

Steps over the whole space take their cells from --labels, or list the space first, which takes seconds. A
few need a table, and some are so long that they run only when --filter names them: training of networks and
of comparators, the whole search. A case that ends in _plain or _unshared does the work of its namesake
without the exact shortcuts: nothing shared, each pair encoded by itself.

Other programs that run at the same time make the figures worse; the spread (distance of the quartiles by
the median) tells.

A case that fails does not end the others: it is said where it would stand, and the status is 1 at the end.
With --lines what was measured is kept when the rest is cut off.

--profile NAME prints each launch of a case with its time by the GPU's clock, the longest first, and sums by
entry; a case's programs are run in the order and with the caches of a real run.

--launches NAME records the programs of a case as for a GPU and lists their launches, without a GPU.

--serve is our side of the comparison with PyTorch (make bench-peers): a line "NAME REPEATS" is answered by
a line of JSON.`,
		Example: `  ctnas bench --filter gemm
  ctnas bench --device cuda:0 --precision bf16
  ctnas bench --device cuda:0 --precision bf16 --profile train_mobilenetv3_large
  ctnas bench --launches train_mobilenetv3_large --precision bf16
  ctnas bench --labels table:nb101.ctt --json
  ctnas bench --labels table:nb101.ctt --filter search_released_schedule`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if launched != "" {
				return a.listLaunches(cmd.Context(), launched, batch)
			}
			name, err := regexp.Compile(filter)
			if err != nil {
				return usagef("--filter: %w", err)
			}
			dev, err := a.openDevice()
			if err != nil {
				return err
			}
			env := &bench.Env{Device: dev.Config, Batch: batch}
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
						Columns: query.Columns, Dataset: query.Dataset, Threads: a.threads,
						Progress: func(done, total int64) { update(int(done), int(total)) },
					})
					return t, query, err
				}
			}
			if serve {
				return env.Serve(cmd.Context(), os.Stdin, a.stdout)
			}
			lines := (*os.File)(nil)
			if linesPath != "" {
				if lines, err = os.OpenFile(linesPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
					return usagef("--lines: %w", err)
				}
				defer func() { err = errors.Join(err, lines.Close()) }()
			}
			p := &benchPass{app: a, env: env, dev: dev, lines: lines, wanted: wanted}
			if p.ceilings, err = env.Ceilings(); err != nil {
				return err
			}
			if profiled != "" {
				return p.profile(cmd.Context(), profiled)
			}
			var cases []bench.Case
			long := 0
			for _, c := range bench.Cases() {
				switch {
				case !name.MatchString(c.Name):
				case (c.Long || c.Slow && dev.kind == "cpu") && filter == "":
					long++
				default:
					cases = append(cases, c)
				}
			}
			if err := p.run(cmd.Context(), cases); err != nil || a.json {
				return err
			}
			if long > 0 {
				fmt.Fprintf(a.stdout, "%d more, which take long, with --filter and their names\n", long)
			}
			return nil
		},
	}
	l := setting.New()
	l.Group("Benchmarks")
	l.Text(&filter, "filter", "`pattern` of the names to measure, a regular expression")
	l.Text(&labels, "labels", "table of the whole space, table:FILE")
	l.Duration(&wanted, "time", "how long each case is measured, at least 3 times", time.Nanosecond, time.Hour)
	l.Int(&batch, "batch", "images", "images of a batch of a network and of its operations (0 = as each case says)", 0,
		1<<16)
	l.Text(&launched, "launches", "list what the case of this `name` launches on an H100 or H200, which need not be "+
		"there")
	l.Text(&profiled, "profile", "where the time of the case of this `name` goes: each launch on a GPU, each "+
		"operation on the CPU")
	l.Text(&linesPath, "lines", "`file` to which each result is appended as a line of JSON when it is measured")
	l.Bool(&serve, "serve", "answer lines NAME REPEATS on stdin, for scripts/peers")
	l.Text(&peerData, "peer-data", "table for --serve; set by scripts/peers")
	a.bind(cmd, l)
	_ = cmd.Flags().MarkHidden("peer-data") // fails only for a flag that does not exist
	return cmd
}
