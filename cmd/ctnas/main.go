// Command ctnas searches neural architectures by comparing them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx := untilSignalled() // before anything else: what is told to end earlier ends by the signal
	if os.Getenv("GOGC") == "" {
		limitGarbage()
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv))
}

// untilSignalled is done at the first signal to end; a second one ends the program at once. Launchers send SIGTERM to
// some processes twice, once through their parent: where one says how to exit (preemptExit), only SIGKILL ends it.
func untilSignalled() context.Context {
	if os.Getenv(preemptExit) != "" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// run is the program without its process: arguments in, output and exit code out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	lost := &output{w: stdout}
	shown := &screen{w: stderr}
	out, messages := visible.NewWriter(lost), visible.NewWriter(shown) // much of what is printed stands in files
	a := &app{stdout: out, stderr: messages, screen: shown, env: env, lost: lost}
	code := a.execute(ctx, newRoot(a), args)
	if err := errors.Join(out.Flush(), messages.Flush()); err != nil && code == exitOK {
		fmt.Fprintf(stderr, "ctnas: standard output: %v\n", err)
		return exitFailed
	}
	return code
}

// output is stdout, and remembers the first write that failed: who reads a table or JSON must not take a part of it for
// the whole.
type output struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if o.err == nil {
		o.err = err
	}
	return n, err
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (a *app) execute(ctx context.Context, root *cobra.Command, args []string) (code int) {
	defer func() {
		r := recover()
		if failure, ok := r.(exec.Failure); ok { // of a device, in the midst of work
			fmt.Fprintf(a.stderr, "ctnas: %v\n", failure)
			code = exitFailed
		} else if r != nil {
			fmt.Fprintf(a.stderr, "ctnas: internal error: %v\nThis is a defect of ctnas: please report it with the "+
				"command and the lines below.\n%s", r, debug.Stack())
			code = exitFailed
		}
	}()
	a.args = args
	root.SetArgs(args)
	end := a.acknowledge(ctx)
	cmd, err := root.ExecuteContextC(ctx)
	end()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr, "ctnas: interrupted")
		code, _ := a.interruptedExit() // which prepare has checked
		return code
	}
	if a.lost != nil {
		if lost := a.lost.failed(); lost != nil && (err == nil || errors.Is(err, lost)) {
			// In whatever command, in help too.
			fmt.Fprintf(a.stderr, "ctnas: standard output: %v\n", lost)
			return exitFailed
		}
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(a.stderr, "ctnas: %v\n", err)
	if data.IsCorrupt(err) {
		fmt.Fprintln(a.stderr, "`ctnas data check SET` finds all images that cannot be read; --on-corrupt skip "+
			"(or &on-corrupt=skip in train: labels) leaves them out.")
	}
	var usage usageError
	if !a.running || errors.As(err, &usage) {
		fmt.Fprintf(a.stderr, "See `%s --help`.\n", cmd.CommandPath())
		return exitUsage
	}
	if own := new(exitError); errors.As(err, own) {
		return own.code
	}
	return exitFailed
}

// acknowledge says at once that the program was told to stop, until end: what is at work may take a while to leave its
// checkpoint.
func (a *app) acknowledge(ctx context.Context) (end func()) {
	said := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(said)
		fmt.Fprintln(a.stderr, "ctnas: told to stop: what is at work is ended; told once more it ends at once")
	})
	return func() {
		if !stop() {
			<-said
		}
	}
}

// preemptExit is the variable by which what starts the program says with which code it exits when it was told to end:
// one that has it started again.
const preemptExit = "CTNAS_PREEMPT_EXIT"

// interruptedExit is the exit code of an interrupt that reached the work.
func (a *app) interruptedExit() (int, error) {
	text, given := a.env(preemptExit)
	if !given || text == "" {
		return exitInterrupted, nil
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 1 || code > 255 {
		return exitInterrupted, fmt.Errorf("%s=%q: want an exit code from 1 to 255", preemptExit, text)
	}
	return code, nil
}

// usageError is a mistake on the command line that only the command itself could find.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ctnas",
		Short: "Search neural architectures by comparing them",
		Long: `ctnas searches neural architectures. It learns from a few measured architectures which of two is the
better (a neural architecture comparator), and searches for one that beats ever better baselines (CTNAS,
CVPR 2021).

Every flag can also be set as CTNAS_<FLAG> in the environment (CTNAS_THREADS=2), or in a YAML file given
with --config; a flag on the line wins, then the environment, then the file. Exit codes: 0 ok, 1 failed, 2
usage, 130 interrupted (SIGINT, SIGTERM) after a checkpoint was written; CTNAS_PREEMPT_EXIT=75, which what
starts the program sets, makes that another one.`,
		Version:           thisBuild().String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetHelpCommand(newHelpCommand(root))
	root.SetHelpFunc(a.help)
	root.SetOut(a.stdout)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown := new(pflag.NotExistError); errors.As(err, &unknown) {
			known := flagNames(cmd.Flags())
			for i, name := range known {
				known[i] = "--" + name
			}
			return fmt.Errorf("%w%s", err, names.Meant("--"+unknown.GetSpecifiedName(), known))
		}
		return err
	})
	a.addFlags(root.PersistentFlags())
	completeWords(root, a.common)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }
	addGroup(root, "Search and compare",
		a.farmed(a.watched(a.copied(newSearchCommand(a)))),
		a.farmed(a.watched(newCompareCommand(a))),
		newRankCommand(a),
		newSuggestCommand(a),
		newTellCommand(a),
		newReportCommand(a),
	)
	addGroup(root, "Train and use networks",
		a.onNodes(a.watched(a.copied(newTrainCommand(a)))),
		a.farmed(newRetrainCommand(a)),
		newSupernetCommand(a),
		newEvalCommand(a),
		newExportCommand(a),
		newZooCommand(a),
	)
	addGroup(root, "What is searched, and by what",
		newSpaceCommand(a),
		newTableCommand(a),
		newDataCommand(a),
		newLatencyCommand(a),
	)
	addGroup(root, "Other machines", append(farmCommands(a), newLaunchCommand(a))...)
	addGroup(root, "This program",
		newBenchCommand(a),
		newDevicesCommand(a),
		newVersionCommand(a),
		newCompletionCommand(a),
		newManCommand(a),
	)
	root.SetHelpCommandGroupID(root.Groups()[len(root.Groups())-1].ID)
	a.noteWork(root)
	return root
}

// addGroup adds commands under a heading of help, which has none without commands.
func addGroup(root *cobra.Command, heading string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: heading, Title: heading})
	for _, cmd := range commands {
		cmd.GroupID = heading
	}
	root.AddCommand(commands...)
}

// noteWork notes when a command starts its work: an error from before that is a usage error.
func (a *app) noteWork(cmd *cobra.Command) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return work(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.noteWork(sub)
	}
}

// group is a command that only holds others.
func group(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example}
	known := make([]string, 0, len(subs))
	for _, sub := range subs {
		known = append(known, sub.Name())
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), names.Meant(args[0], known))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return usagef("%q needs a command: %v", cmd.CommandPath(), known)
	}
	cmd.AddCommand(subs...)
	return cmd
}
