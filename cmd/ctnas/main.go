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
	"sync"
	"syscall"

	"github.com/spf13/cobra"

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
	if os.Getenv("GOGC") == "" {
		limitGarbage()
	}
	os.Exit(run(untilSignalled(), os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv))
}

// untilSignalled is done at the first signal to end; a second one ends the program at once.
func untilSignalled() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// run is the program without its process: arguments in, output and exit code out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	lost := &output{w: stdout}
	out, messages := visible.NewWriter(lost), visible.NewWriter(stderr) // much of what is printed stands in files
	a := &app{stdout: out, stderr: messages, env: env, lost: lost}
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
	cmd, err := root.ExecuteContextC(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr, "ctnas: interrupted")
		return exitInterrupted
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
	return exitFailed
}

// usageError is a mistake on the command line that only the command itself could find.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

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
usage, 130 interrupted after a checkpoint was written.`,
		Version:           thisBuild().String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetHelpCommand(newHelpCommand(root))
	root.SetOut(a.stdout)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetErr(a.stderr)
	a.addFlags(root.PersistentFlags())
	completeWords(root, a.common)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }
	root.AddCommand(
		newSearchCommand(a),
		newRetrainCommand(a),
		newTrainCommand(a),
		newEvalCommand(a),
		newDataCommand(a),
		newZooCommand(a),
		newExportCommand(a),
		newSupernetCommand(a),
		newSpaceCommand(a),
		newRankCommand(a),
		newCompareCommand(a),
		newTableCommand(a),
		newLatencyCommand(a),
		newBenchCommand(a),
		newReportCommand(a),
		newDevicesCommand(a),
		newVersionCommand(a),
		newCompletionCommand(a),
	)
	a.watch(root)
	return root
}

// newHelpCommand is cobra's, which takes a word that is no command for none.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("unknown help topic %q", args)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// watch notes when a command starts its work: an error from before that is a usage error.
func (a *app) watch(cmd *cobra.Command) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return work(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.watch(sub)
	}
}

// group is a command that only holds others.
func group(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		names := make([]string, 0, len(subs))
		for _, sub := range subs {
			names = append(names, sub.Name())
		}
		return usagef("%q needs a command: %v", cmd.CommandPath(), names)
	}
	cmd.AddCommand(subs...)
	return cmd
}
