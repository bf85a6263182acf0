package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/jsontext"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// app holds what all commands share: where output goes and the common flags.
type app struct {
	stdout, stderr io.Writer
	screen         *screen // stderr's, with the bars
	env            func(string) (string, bool)
	log            *slog.Logger
	args           []string
	onLine         map[string]bool   // the flags given on the line
	running        bool              // a command has started its work
	resumes        bool              // a search goes on
	moved          map[string]string // what it began with and was given anew, by flag
	common         *setting.List     // of every command
	lists          map[*cobra.Command]*setting.List
	lost           *output // stdout itself, which tells whether a write failed

	device    string
	precision string
	threads   int
	seed      uint64
	json      bool
	quiet     bool
	logLevel  string
	config    string
	out       string
	manifests string
	cacheRAM  string      // bytes that cache may have
	cache     *data.Cache // of files of images, of the whole process; nil until it is wanted
	metrics   string
	live      *live            // what whoever watches is shown; nil: nobody does
	busy      func(why string) // tells whoever watches that the program takes no work, and why; empty: it does
	farm      farmSettings
	nodes     nodeSettings
}

// mostThreads is more than any machine has, whose number such settings are lowered to.
const mostThreads = 1 << 24

// defaultSeed is the seed where none is given, and the first one of those commands that take several.
const defaultSeed = 1

// addFlags adds those of every command.
func (a *app) addFlags(f *pflag.FlagSet) {
	a.common = a.settings()
	a.common.Bind(f)
}

// settings are those of every command.
func (a *app) settings() *setting.List {
	a.device, a.precision, a.seed, a.logLevel = exec.Auto, string(exec.FP32), defaultSeed, "info"
	l := setting.New()
	l.Group("Every command")
	l.Text(&a.device, "device", "where to compute: auto (a GPU where there is one), cpu, cuda:N or, for "+
		"several, cuda:0,1 or cuda:all").
		MayChange().Check(a.checkDevice)
	l.Text(&a.precision, "precision", "how a GPU multiplies matrices and stores the tensors of networks in training "+
		"(bf16 on tensor cores)").
		OneOf(string(exec.FP32), string(exec.BF16)).MayChange()
	l.Int(&a.threads, "threads", "threads",
		"threads to compute with (0 = all processors, which is also the most); results do not depend on it", 0,
		mostThreads).MayChange().AtOnce(1)
	seedSetting(l, &a.seed)
	l.Bool(&a.json, "json", "print one JSON document on stdout and nothing else there").MayChange().Unkept()
	l.Bool(&a.quiet, "quiet", "no progress and no log below errors").MayChange().Unkept()
	l.Text(&a.logLevel, "log-level", "what is logged to stderr").OneOf("debug", "info", "warn",
		"error").MayChange().Unkept()
	l.Text(&a.config, "config", "YAML `file` of flag names and values; a flag on the line wins").Unkept()
	l.Text(&a.manifests, "manifests", "`folder` that keeps hashes of image files, so that unchanged ones are "+
		"not read again "+
		"(off = none; default: in the user's cache folder)").MayChange().Unkept()
	l.Text(&a.cacheRAM, "cache-ram", "`memory` for files of images, each of which is then read once, for slow "+
		"storage; 64G, 500M (empty = none; what the system keeps of files has room beside it)").
		MayChange().Unkept().Check(a.checkCache)
	l.Text(&a.out, "out", "`folder` of the run; it must be new or empty").Unkept()
	return l
}

func seedSetting(l *setting.List, p *uint64) *setting.Setting {
	return l.Uint64(p, "seed", "", "seed of all random numbers")
}

// bind adds the flags of settings to a command. Their values are checked before it begins.
func (a *app) bind(cmd *cobra.Command, l *setting.List) {
	l.Bind(cmd.Flags())
	if a.lists == nil {
		a.lists = map[*cobra.Command]*setting.List{}
	}
	a.lists[cmd] = l
	completeWords(cmd, l)
}

// completeWords lets a shell complete the words that settings may be, and names and beginnings of those that may be
// files too.
func completeWords(cmd *cobra.Command, l *setting.List) {
	for _, name := range l.Names() {
		if cmd.Flag(name) == nil {
			continue
		}
		// It is there.
		if words := l.Lookup(name).Words(); words != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		} else if known := offered[name]; known != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, known)
		}
	}
}

// mayResume refuses flags of settings that may not change when a run goes on.
func (a *app) mayResume(l *setting.List) error {
	given := func(name string) bool { return a.onLine[name] }
	if name := cmp.Or(l.Fixed(given), a.common.Fixed(given)); name != "" {
		return usagef("--%s cannot be given with --resume: the folder says it", name)
	}
	return nil
}

// device is a device that can be opened.
type device struct {
	exec.Config
	name    string // "cpu", "cuda:0"
	kind    string // what result.json says
	level   string // what results depend on
	threads int
}

// openDevice checks that the device can be opened and says what it is.
func (a *app) openDevice() (device, error) {
	c := exec.Config{Device: a.device, Threads: a.threads, Precision: exec.Precision(a.precision)}
	resolved, why := c.Resolve()
	if why != nil && exec.HasGPUSupport {
		a.log.Info("computing on "+resolved.Device, "because", why)
	}
	d, err := exec.Open(resolved)
	if err != nil {
		return device{}, fmt.Errorf("--device %s --precision %s: %w", a.device, a.precision, err)
	}
	defer d.Close()
	return device{c, resolved.Device, d.Kind(), d.Level(), d.Threads()}, nil
}

// openAll checks that the other devices can be opened too, where there are several, and compute the same.
func (a *app) openAll(d device) error {
	if len(d.Config.Each()) == 1 {
		return nil
	}
	if _, _, err := labels.Devices(d.Config); err != nil {
		return fmt.Errorf("--device %s: %w", a.device, err)
	}
	return nil
}

// whereKeys are the settings of every command that results depend on.
var whereKeys = []string{"device", "precision"}

// where is where a run computes, as its config.yaml says it so that it is repeated: on the CPU, or on a GPU by whatever
// number, which is another one elsewhere.
func (a *app) where(d device) *setting.List {
	kept := &app{}
	l := kept.settings().Only(whereKeys...)
	kept.precision = a.precision
	if d.kind == "cpu" {
		kept.device = d.kind
	}
	return l
}

// computeWhere takes from the config.yaml of a run that goes on where it computes, unless flags or the environment say
// so.
func (a *app) computeWhere(dir string, given *pflag.FlagSet) error {
	path := filepath.Join(dir, report.ConfigName)
	text, err := files.ReadText(path, maxConfigBytes)
	if err != nil {
		return err
	}
	l := a.common.Only(slices.DeleteFunc(slices.Clone(whereKeys), given.Changed)...)
	if err := cmp.Or(l.ReadConfig(text), l.Check()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// openOne is openDevice for commands that work on one device.
func (a *app) openOne() (device, error) {
	if c, _ := (exec.Config{Device: a.device}).Resolve(); strings.Contains(c.Device, ",") {
		return device{}, usagef("--device %s: this works on one device", a.device)
	}
	return a.openDevice()
}

var devicePattern = regexp.MustCompile(`^cuda:\d+(,(cuda:)?\d+)*$`)

// checkDevice tells whether the device's name is one, and there is a GPU where it is a GPU's.
func (a *app) checkDevice() error {
	switch {
	case a.device == exec.Auto || a.device == "cpu":
		return nil
	case a.device == exec.All:
	case !devicePattern.MatchString(a.device):
		return fmt.Errorf("device %q: want auto, cpu, cuda:N, cuda:N,M or cuda:all", a.device)
	}
	if gpus, err := cuda.Devices(); len(gpus) == 0 {
		return fmt.Errorf("device %s: %w", a.device, err)
	}
	return nil
}

// prepare fills in the flags from the environment and the configuration, checks the common ones and starts the log.
func (a *app) prepare(cmd *cobra.Command) error {
	a.onLine = map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { a.onLine[f.Name] = true })
	if err := setFromEnvironment(cmd.Flags(), a.env); err != nil {
		return err
	}
	if a.config != "" {
		if err := setFromFile(cmd.Flags(), a.config); err != nil {
			return err
		}
	}
	if _, err := a.interruptedExit(); err != nil {
		return err
	}
	lists := []*setting.List{a.common, a.lists[cmd]}
	for _, l := range lists {
		if err := l.Check(); err != nil {
			return fmt.Errorf("--%w", err)
		}
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.logLevel)) // it was checked
	if a.quiet {
		level = max(level, slog.LevelError)
	}
	a.log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	for _, l := range lists {
		l.Cap(runtime.GOMAXPROCS(0), func(name string, given, used int) {
			a.log.Warn("more than this machine can use at once: lowered", "flag", "--"+name, "given", given,
				"used", used, "processors", runtime.GOMAXPROCS(0))
		})
	}
	return nil
}

func setFromEnvironment(flags *pflag.FlagSet, env func(string) (string, bool)) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil || f.Name == "help" {
			return
		}
		if value, ok := env(setting.EnvName(f.Name)); ok {
			if e := flags.Set(f.Name, value); e != nil {
				err = fmt.Errorf("%s=%q: %w", setting.EnvName(f.Name), value, e)
			}
		}
	})
	return err
}

// runFiles are the files of runs that are written whole: a kill may leave the beginnings of some behind.
var runFiles = []string{report.ConfigName, comparisonName, report.SpaceName, report.LatencyName, report.ResultName,
	report.RetrainedName, report.RetrainedWeightsName, report.PageName,
	trainer.WeightsName, trainer.WeightsTorchName, trainer.TeacherName}

// lockFolder makes the folder of a run and takes it for this process, until unlock. What a process that was killed left
// there is tidied.
func (a *app) lockFolder(dir string) (unlock func(), err error) {
	lock, err := checkpoint.Take(dir, a.commandLine(), runFiles...)
	if err != nil {
		return nil, err
	}
	if lock.Stale != nil {
		a.takenOver(dir, lock.Stale)
	}
	return func() { _ = lock.Unlock() }, nil
}

// takenOver says that a folder was another process's, which was killed.
func (a *app) takenOver(dir string, from *files.Holder) {
	a.log.Warn("a process that was at work in this folder has ended without a word: its place is taken", "folder", dir,
		"process", from)
}

// commandLine is the line that started the program, for a shell.
func (a *app) commandLine() string {
	words := []string{"ctnas"}
	for _, arg := range a.args {
		words = append(words, quoted(arg))
	}
	return strings.Join(words, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// quoted is a word for a shell.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// printJSON writes the one document of --json.
func (a *app) printJSON(v any) error {
	text, err := jsontext.Document(v)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text)
	return err
}
