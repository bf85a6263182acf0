package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

func newTableCommand(a *app) *cobra.Command {
	return group("table", "Look at, convert and download tabular benchmarks", `  ctnas table info nb101_run0.csv.gz
  ctnas table get nasbench101`,
		newTableInfoCommand(a), newTableConvertCommand(a), newTableGetCommand(a), a.farmed(newTableTrainCommand(a)))
}

// openTable opens a space's table named on the command line: FILE, or table:FILE?… where a CSV file's columns need
// names.
func openTable(ctx context.Context, a *app, arg, space string, verify bool) (*table.Table, error) {
	sp, err := openSpace(space)
	if err != nil {
		return nil, err
	}
	path, query := arg, table.Query{}
	if strings.HasPrefix(arg, "table:") {
		if path, query, err = table.ParseLabels(arg); err != nil {
			return nil, usageError{err}
		}
	}
	update, finish := a.progress("read " + filepath.Base(path))
	defer finish()
	return table.Open(ctx, path, table.Options{
		Space: sp, Columns: query.Columns, Dataset: query.Dataset, VerifyChecksum: verify, Threads: a.threads,
		Progress: func(done, total int64) { update(int(done), int(total)) },
	})
}

func newTableInfoCommand(a *app) *cobra.Command {
	space := defaultSpace
	var verify bool
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Tell what a table holds",
		Example: `  ctnas table info nasbench_only108.tfrecord --verify
  ctnas table info 'table:mine.csv?arch=cell&accuracy=top1' --json
  ctnas table info ofa.csv --space mobilenetv3`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), a, args[0], space, false)
			if err != nil {
				return err
			}
			defer func() { _ = t.Close() }()
			verified := ""
			if verify {
				if verified, err = a.verifyTable(cmd.Context(), t); err != nil {
					return err
				}
			}
			info, err := t.Info()
			if err != nil {
				return err
			}
			info.Verified = verified
			if a.json {
				return a.printJSON(info)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "file\t%s\nformat\t%s\nspace\t%s\narchitectures\t%d\n", info.File, info.Format, info.Space,
				info.Records)
			if info.Merged > 0 {
				fmt.Fprintf(w, "averaged\t%d rows that write an architecture once more\n", info.Merged)
			}
			fmt.Fprintf(w, "SHA-256\t%s\n", info.Checksum)
			if info.Source.File != filepath.Base(info.File) {
				fmt.Fprintf(w, "made from\t%s (%s)\n", info.Source.File, info.Source.Format)
			}
			for i, m := range info.Metrics {
				fmt.Fprintf(w, "%s\t%s\n", strings.Repeat("metrics", 1-min(i, 1)), m)
			}
			if verified != "" {
				fmt.Fprintf(w, "verified\t%s\n", verified)
			}
			if info.Best != nil {
				fmt.Fprintf(w, "best\t%s\n\t%.4f %% (%s), %s MAdds, %s parameters\n",
					info.Best.Arch, info.Best.Accuracy*100, info.Best.Judged, count(info.Best.MAdds),
					count(info.Best.Params))
			}
			return w.Flush()
		},
	}
	l := setting.New()
	l.Group("Table")
	l.Text(&space, "space", "search `space` that the table's architectures are of")
	l.Bool(&verify, "verify", "look at all of a .ctt file, its trees too; of another file fail unless it has "+
		"a published SHA-256")
	a.bind(cmd, l)
	return cmd
}

// verifyTable looks at all of a converted table, and compares a table's source with what is published. It says what it
// found.
func (a *app) verifyTable(ctx context.Context, t *table.Table) (string, error) {
	if t.Format() != table.FormatCTT {
		return "published SHA-256", t.VerifyPublished()
	}
	_, finish := a.progress("verify " + filepath.Base(t.Path()))
	defer finish()
	if err := t.Verify(ctx); err != nil {
		return "", err
	}
	if err := trees.Verify(ctx, t); err != nil {
		return "", err
	}
	found := fmt.Sprintf("%d architectures in their order, %d columns, %d sections of trees", t.Len(),
		len(t.Metrics()), len(t.Sections()))
	if t.VerifyPublished() == nil {
		return found + ", made from a file with a published SHA-256", nil
	}
	return found + "; no SHA-256 is published for what it was made from", nil
}

func newTableConvertCommand(a *app) *cobra.Command {
	out, space := "", defaultSpace
	var verify bool
	cmd := &cobra.Command{
		Use:   "convert FILE -o OUT.ctt",
		Short: "Write a table in the compact form that opens at once",
		Long: `Writes a table of any space in the compact form, which every command takes in place of the file: a
million architectures open in a second. It carries the file's SHA-256, and a run goes on with either (search
--resume --labels).`,
		Example: `  ctnas table convert nasbench_only108.tfrecord -o nb101.ctt
  ctnas table convert 'table:mine.csv?arch=cell&accuracy=top1' -o mine.ctt
  ctnas table convert ofa.csv --space mobilenetv3 -o ofa.ctt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), a, args[0], space, verify)
			if err != nil {
				return err
			}
			defer func() { _ = t.Close() }()
			sections, err := trees.Sections(cmd.Context(), t)
			if err != nil {
				return err
			}
			if err := table.WriteCTT(out, t, sections...); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": out, "records": t.Len(), "checksum": t.Checksum()})
			}
			fmt.Fprintf(a.stdout, "%s: %d architectures of %s\n", out, t.Len(), t.Source().File)
			return nil
		},
	}
	l := setting.New()
	l.Group("Table")
	l.Text(&out, "out", "the `file` to write").Short("o")
	l.Text(&space, "space", "search `space` that the table's architectures are of")
	l.Bool(&verify, "verify", "fail unless the file has a published SHA-256")
	a.bind(cmd, l)
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	return cmd
}

// gettable are what table get knows.
var gettable = func() []string {
	known := []string{"nasbench101"}
	for _, m := range table.ByHand {
		known = append(known, m.Name)
	}
	return known
}()

func newTableGetCommand(a *app) *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Download a published table, checked against its SHA-256",
		Long: `Downloads nasbench_only108.tfrecord (499 MB), or with --full nasbench_full.tfrecord (1.9 GB), from
storage.googleapis.com/nasbench into the user's cache folder or --out. A download that was interrupted goes
on where it stopped.

nasbench201, nats-tss and nats-sss (NATS-Bench) lie on Google Drive, which hands them to browsers only: for these
it says where, and what to do then, and fails.`,
		Example: `  ctnas table get nasbench101
  ctnas table get nasbench101 --full --out data`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: gettable,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, m := range table.ByHand {
				if m.Name == args[0] {
					return errors.New(m.How())
				}
			}
			dir := a.out
			if dir == "" {
				cache, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("no cache folder: %w; name one with --out", err)
				}
				dir = filepath.Join(cache, "ctnas")
			}
			file := table.Published[0]
			if full {
				file = table.Published[1]
			}
			update, finish := a.progress("get " + file.Name)
			path, err := table.Get(cmd.Context(), dir, file.URL, file.SHA256, func(done, total int64) {
				update(int(done), int(total))
			})
			finish()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"file": path, "checksum": file.SHA256})
			}
			_, err = fmt.Fprintln(a.stdout, path)
			return err
		},
	}
	l := setting.New()
	l.Group("Table")
	l.Bool(&full, "full", "the file with all epoch budgets (1.9 GB)")
	a.bind(cmd, l)
	return cmd
}
