//go:build !nofarm

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/farm"
	"github.com/ctnas/ctnas/search/report"
	searchrun "github.com/ctnas/ctnas/search/run"
)

// farmSettings are those of a search whose candidates are trained on other machines.
type farmSettings struct {
	address string
	keys    string
	level   string
	ackWait time.Duration
	crashes int
	strict  bool
}

// farmed gives a command --farm ADDRESS and what belongs to it. Without the flag no port is opened.
func (a *app) farmed(cmd *cobra.Command) *cobra.Command {
	s := &a.farm
	s.ackWait, s.crashes = farm.DefaultAckWait, farm.DefaultCrashes
	l := setting.New()
	l.Group("A farm of other machines")
	l.Text(&s.address, "farm", "have candidates trained, or evaluated, by workers (ctnas worker) that join at this "+
		"`address`: HOST:PORT to listen at, or nats://… or tls://… of a NATS server with JetStream").
		Check(func() error {
			if s.address == "" {
				return nil
			}
			if err := farm.CheckAddress(s.address); err != nil {
				return fmt.Errorf("farm %w", err)
			}
			return nil
		}).MayChange().Unkept()
	l.Text(&s.keys, "farm-keys", "`folder` that ctnas farm keys has made (default: made in the run's folder)").
		Path(files.Absolute).MayChange().Unkept()
	l.Text(&s.level, "level", "what workers compute on, which labels depend on: avx512, avx2 …, or sm_90/bf16 … "+
		"(default: as --device of this machine)").Check(func() error {
		if s.level == "" {
			return nil
		}
		return exec.CheckLevel(s.level)
	}).MayChange().Unkept()
	l.Duration(&s.ackWait, "farm-patience", "after how long without a word from its worker a job is another's",
		time.Second, time.Hour).MayChange().Unkept()
	l.Int(&s.crashes, "max-crashes", "", "attempts at a candidate that may fail, or end without a word, before it "+
		"is given up", 1, 1000).MayChange().Unkept()
	l.Bool(&s.strict, "strict", "exit with 1 where two workers have sent results of one job that differ").
		MayChange().Unkept()
	l.Bind(cmd.Flags())
	a.lists[cmd] = setting.Join(a.lists[cmd], l)
	return cmd
}

// openFarm is the farm of --farm; nowhere without. It opens no port before the first candidate is to be trained.
func (a *app) openFarm(on device, run string) (e away, err error) {
	s := a.farm
	if s.address == "" {
		return e, nil
	}
	if e.level = s.level; e.level == "" {
		e.level = on.level
	}
	var tell func(searchrun.Difference) // which the run says before the first job
	q := farm.NewQueue(farm.Config{Dir: filepath.Join(run, farmFolder), Keys: s.keys, At: s.address,
		AckWait: s.ackWait, Crashes: s.crashes, Tell: func(text string) { a.log.Warn(text) },
		Joined: a.tellJoin, Command: a.commandLine(), Differs: func(d farm.Difference) {
			a.log.Warn("two workers have sent results of one job that differ: the first one counts", "job", d.Job,
				"archs", d.Archs, "first", d.First, "second", d.Second)
			if tell != nil {
				tell(searchrun.Difference(d))
			}
		}})
	e.differing = func(to func(searchrun.Difference)) func() {
		tell = to
		return func() { q.Different(context.Background()) }
	}
	unwatched := metrics.Whenever(q.Watched)
	e.farm = q
	e.look = func(ctx context.Context) *report.LiveFarm { return liveFarm(q.Look(ctx)) }
	e.ended = func(ctx context.Context) error {
		different := q.Different(ctx)
		err := q.End(ctx)
		if s.strict && len(different) > 0 {
			err = errors.Join(err, fmt.Errorf("--strict: of %d jobs two workers have sent results that differ",
				len(different)))
		}
		return err
	}
	e.close = func() {
		unwatched()
		if err := q.Close(); err != nil {
			a.log.Warn(err.Error())
		}
	}
	return e, nil
}

// liveFarm is a farm for the page of a search in work.
func liveFarm(s *farm.Seen) *report.LiveFarm {
	if s == nil {
		return nil
	}
	f := &report.LiveFarm{}
	if s.Queue != nil {
		f.Queue = &report.LiveQueue{Waiting: s.Queue.Waiting, Taken: s.Queue.Taken}
	}
	for i, w := range s.Workers {
		row := report.LiveWorker{Name: w.Name, Host: w.Host, State: s.States[i], Done: w.Done, Images: w.Images,
			GPU: w.GPU, Heard: max(0, time.Since(w.Heard))}
		if w.State != row.State {
			row.Why = w.State
		}
		for _, j := range w.Jobs {
			row.Jobs = append(row.Jobs, report.LiveJob{Job: j.Job, Epoch: j.Epoch})
		}
		f.Workers = append(f.Workers, row)
	}
	return f
}

// tellJoin prints how workers join.
func (a *app) tellJoin(join, keys string) {
	if keys != "" {
		keys = " --keys " + quoted(keys)
	}
	fmt.Fprintf(a.stderr, "workers join with: ctnas worker --join %s%s\n", join, keys)
}

// farmCommands are those that a farm has.
func farmCommands(a *app) []*cobra.Command {
	return []*cobra.Command{a.watched(newWorkerCommand(a)), group("farm", "See and steer the farm of a search",
		`  ctnas farm status runs/a
  ctnas farm workers runs/a
  ctnas farm cancel runs/a nasbench101:resnet
  ctnas farm drain runs/a gpu7-3fa1
  ctnas farm keys secrets`,
		newFarmStatusCommand(a), newFarmWorkersCommand(a), newFarmCancelCommand(a), newFarmDrainCommand(a),
		newFarmKeysCommand(a))}
}

// atFarm works with the farm of a run.
func atFarm(ctx context.Context, run string, work func(*farm.Admin) error) error {
	f, err := farm.Open(ctx, filepath.Join(run, farmFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no folder of a search with a farm: %w", run, err)
	} else if err != nil {
		return err
	}
	defer f.Close()
	return work(f)
}

// newFarmLookCommand is `ctnas farm NAME RUN`: what pick takes of the farm's status as JSON, or as a table.
func newFarmLookCommand(a *app, name, short string, pick func(farm.Status) any,
	table func(io.Writer, farm.Status)) *cobra.Command {
	return &cobra.Command{
		Use: name + " RUN", Short: short, Args: cobra.ExactArgs(1),
		Example: fmt.Sprintf("  ctnas farm %s runs/a\n  ctnas farm %s runs/a --json", name, name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return atFarm(cmd.Context(), args[0], func(f *farm.Admin) error {
				s, err := f.Status(cmd.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(pick(s))
				}
				w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				table(w, s)
				return w.Flush()
			})
		},
	}
}

func newFarmStatusCommand(a *app) *cobra.Command {
	return newFarmLookCommand(a, "status", "How many jobs are queued, at work and done, and who is there",
		func(s farm.Status) any { return s },
		func(w io.Writer, s farm.Status) {
			fmt.Fprintf(w, "queued\t%d\nwith workers\t%d\nresults on the server\t%d\nworkers\t%d\n", s.Queued,
				s.Taken, s.Results, len(s.Workers))
			fmt.Fprintf(w, "jobs\t%s\nprogram\t%s\n", s.Charter.Kind, s.Charter.Version)
			if s.Charter.Command != "" {
				fmt.Fprintf(w, "command\tchecksum %.12s\n", s.Charter.Command)
			} else {
				fmt.Fprintf(w, "level\t%s\nimages\t%s, checksum %.12s\n", s.Charter.Level, s.Charter.Data,
					s.Charter.Images)
			}
			if s.Charter.Weights != "" {
				fmt.Fprintf(w, "supernet\tchecksum %.12s\n", s.Charter.Weights)
			}
			for _, some := range s.Waiting {
				fmt.Fprintf(w, "waiting\t%d jobs wait for a GPU of %d GB\n", some.Jobs, some.Memory)
			}
			if s.Charter.Ended {
				fmt.Fprintln(w, "search\tended")
			}
		})
}

func newFarmWorkersCommand(a *app) *cobra.Command {
	return newFarmLookCommand(a, "workers", "Who is there, what they do, and why some take no jobs",
		func(s farm.Status) any { return s.Workers },
		func(w io.Writer, s farm.Status) {
			fmt.Fprintln(w, "WORKER\tHOST\tJOBS\tDONE\tHEARD\tSTATE")
			for _, one := range s.Workers {
				fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%s\t%s\n", one.Name, one.Host, len(one.Jobs), one.Slots,
					one.Done, one.Heard.Local().Format(time.DateTime), one.State)
			}
		})
}

func newFarmCancelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel RUN ARCH", Short: "End a candidate's jobs as failed",
		Long: `Takes a candidate's jobs from the queue, also from a worker that is at it, and ends them as failed: with
&failed=chance in --labels the search goes on with the accuracy of guessing, otherwise it ends with an error. A job
of evaluations ends whole.`,
		Example: "  ctnas farm cancel runs/a nasbench101:resnet", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return atFarm(cmd.Context(), args[0], func(f *farm.Admin) error {
				n, err := f.Cancel(cmd.Context(), args[1])
				if err == nil && n == 0 {
					err = fmt.Errorf("no job of %s is in the queue", args[1])
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stderr, "%d jobs were cancelled\n", n)
				return nil
			})
		},
	}
}

func newFarmDrainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "drain RUN WORKER", Short: "Have a worker end its jobs and take no more",
		Example: "  ctnas farm drain runs/a gpu7-3fa1", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return atFarm(cmd.Context(), args[0], func(f *farm.Admin) error {
				if err := f.Drain(cmd.Context(), args[1]); err != nil {
					return err
				}
				fmt.Fprintf(a.stderr, "%s ends when its jobs have\n", args[1])
				return nil
			})
		},
	}
}

func newFarmKeysCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "keys DIR", Short: "Make the keys of a farm before its search begins",
		Long: `Makes an authority and keys in a folder, if there are none: DIR/keys is what workers need (copy it to
their machines), DIR/secret stays with the search (--farm-keys DIR). Without this a search makes its own.`,
		Example: "  ctnas farm keys secrets\n  ctnas search --farm :7420 --farm-keys secrets --labels " +
			"train:shapes --budget 60",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := farm.MakeKeys(args[0])
			if err == nil {
				fmt.Fprintf(a.stderr, "workers need %s, the search %s\n", keys, args[0])
			}
			return err
		},
	}
}

// levelPrecision is how devices of a level multiply.
func levelPrecision(level string) string {
	_, precision, _ := strings.Cut(level, "/")
	return precision
}
