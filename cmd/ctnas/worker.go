//go:build !nofarm

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/internal/objects"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/command"
	"github.com/ctnas/ctnas/search/farm"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/search/trained"
	"github.com/ctnas/ctnas/trainer/data"
)

// Exit codes of a worker, as sysexits.h has them.
const (
	exitUnfit = 74 // the machine cannot go on: a full disk, a GPU that is gone
	exitOther = 76 // --follow, and the search is of another program
)

// mostSlots is more candidates than are ever trained at once.
const mostSlots = 1024

// workerSettings are those of a worker.
type workerSettings struct {
	join, keys, name, work string
	data, supernets        []string
	commands               []string
	workers, retries, jobs int
	idle                   time.Duration
	follow                 bool
}

func (s *workerSettings) settings() *setting.List {
	s.retries = 2
	l := setting.New()
	l.Group("A worker")
	l.Text(&s.join, "join", "`address` of the search, as it prints it, or its file RUN/farm/join.json: then the "+
		"search may move")
	l.Text(&s.keys, "keys", "`folder` of keys, as the search prints it or a copy of it (default: the one that the "+
		"file of --join names)").Path(files.Absolute)
	l.Texts(&s.data, "data", "where a set of images lies here: imagenet=DIR or FILE, cifar10=DIR, shards=GLOB …; "+
		"the flag may come several times").Check(func() error {
		for _, text := range s.data {
			kind, where, _ := strings.Cut(text, "=")
			if err := data.CheckSpec(kind + ":" + where); err != nil || where == "" {
				return fmt.Errorf("data %q: want KIND=PATH, such as imagenet=DIR", text)
			}
		}
		return nil
	})
	l.Texts(&s.supernets, "supernet", "a supernet whose sub-networks are evaluated here: the folder of its training, "+
		"or a `file` of weights; the flag may come several times")
	l.Texts(&s.commands, "exec", "a `command` that this worker may run for a search with labels exec:, written as "+
		"there: COMMAND {arch}?dir=DIR; its words, files and variables are compared; the flag may come several times").
		Check(func() error {
			for _, text := range s.commands {
				if _, err := command.Parse(command.Prefix + strings.TrimPrefix(text, command.Prefix)); err != nil {
					return fmt.Errorf("exec: %w", err)
				}
			}
			return nil
		})
	l.Int(&s.workers, "workers", "candidates", "candidates trained at once, which share the devices (0 = one a GPU, "+
		"on the processor one a thread and at most 8)", 0, mostSlots).AtOnce(4)
	l.Int(&s.retries, "label-retries", "", "how often a candidate whose training failed is tried again here", 0, 100)
	l.Text(&s.work, "work", "`folder` of trainings, with their checkpoints and what could not be sent yet, which "+
		"several workers may share (default: in the user's cache folder); or s3://BUCKET/PREFIX, where trainings are "+
		"copied with every checkpoint and another machine goes on with them").Path(absoluteWork).Check(func() error {
		if !strings.HasPrefix(s.work, objects.Scheme) {
			return nil
		}
		if _, err := objects.Open(s.work); err != nil {
			return fmt.Errorf("work %w", err)
		}
		return nil
	})
	l.Int(&s.jobs, "max-jobs", "jobs", "end after so many (0 = never)", 0, 1<<30)
	l.Duration(&s.idle, "idle", "end after so long without a job (0s = never)", 0, 1000*time.Hour)
	l.Bool(&s.follow, "follow", fmt.Sprintf("exit with %d where the search is of another program, for what starts the "+
		"right one", exitOther))
	l.Text(&s.name, "name", "`name` of this worker (default: of the host and chance)")
	return l
}

func newWorkerCommand(a *app) *cobra.Command {
	var s workerSettings
	cmd := &cobra.Command{
		Use:   "worker --join ADDRESS --keys DIR",
		Short: "Train or evaluate candidates for a search on another machine",
		Long: fmt.Sprintf(`Takes candidates from a search that was started with --farm, trains them on this machine's
--device, and sends back how good they became, until the search has ended. What images the search trains on must be
here, too: --data says where; their checksum is compared. So must the supernet whose sub-networks are evaluated
(--labels supernet:…): --supernet. A command of the search's (--labels exec:…) is run where --exec allows it, and
no other. A worker of another program, without the right device, images or supernet
takes nothing and says why.

It may be started before its search, and goes on by itself where that is gone for a while. At SIGTERM what
it trains leaves its checkpoint and goes back to the queue; the exit code is 0, or what CTNAS_PREEMPT_EXIT
says. It is %d where this machine cannot go on, because a disk is full or a GPU is gone.`, exitUnfit),
		Example: `  ctnas worker --join tls://10.0.0.5:7420 --keys keys --data imagenet=/nvme/imagenet
  ctnas worker --join tls://10.0.0.5:7420 --keys keys --device cuda:all --idle 10m --work /shared/work
  ctnas worker --join tls://10.0.0.5:7420 --keys keys --data imagenet=/nvme/imagenet --supernet ofa.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.work(cmd.Context(), s) },
	}
	a.bind(cmd, s.settings())
	return cmd
}

// work is a worker until it ends.
func (a *app) work(ctx context.Context, s workerSettings) error {
	if s.join == "" {
		return usagef(`required flag(s) "join" not set`)
	}
	copies := ""
	if strings.HasPrefix(s.work, objects.Scheme) {
		s.work, copies = "", strings.TrimSuffix(s.work, "/")
	}
	if s.work == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("no cache folder: %w; name one with --work", err)
		}
		s.work = filepath.Join(cache, "ctnas", "trained")
	}
	version, err := exactVersion()
	if err != nil {
		return err
	}
	if _, err := a.openDevice(); err != nil {
		return err
	}
	var sets []string
	for _, text := range s.data {
		kind, where, _ := strings.Cut(text, "=")
		sets = append(sets, kind+":"+where)
	}
	o, finish := a.imageOptions()
	stock, err := trained.OpenStock(ctx, version, sets, o)
	finish()
	if err != nil {
		return err
	}
	defer func() { _ = stock.Close() }()
	supernets, err := supernet.OpenStock(s.supernets)
	if err != nil {
		return fmt.Errorf("--supernet: %w", err)
	}
	commands, err := command.OpenStock(version, s.commands)
	if err != nil {
		return fmt.Errorf("--exec: %w", err)
	}
	var runner *command.Local
	defer func() {
		if runner != nil {
			_ = runner.Close()
		}
	}()
	var evaluator *supernet.Local
	defer func() {
		if evaluator != nil {
			evaluator.Close()
		}
	}()
	if a.busy == nil {
		a.busy = func(string) {}
	}
	a.busy("waiting for a search that this worker fits")
	err = farm.Work(ctx, farm.Worker{Join: s.join, Keys: s.keys, Name: s.name, Work: s.work, Version: version,
		Jobs: s.jobs, Idle: s.idle, Follow: s.follow, Tell: func(text string) { a.log.Info(text) }, Vitals: vitals,
		Executor: func(_ context.Context, c farm.Charter) (f farm.Fitted, err error) {
			if c.Kind == command.KindName { // on whatever device it likes
				if err := commands.Lacks(c.Command); err != nil {
					return f, err
				}
				a.busy("")
				if runner != nil {
					_ = runner.Close()
				}
				runner = command.NewLocal(command.LocalConfig{Cache: command.Cache(s.work), Workers: s.workers,
					Retries: s.retries, Find: commands.Find}, commands.GPUs(c.Command))
				return farm.Fit(runner, c.Level, mostSlots, func() error { return commands.Changed(c.Command) }), nil
			}
			if err := stock.Lacks(c.Data, c.Images); err != nil {
				return f, err
			}
			on := exec.Config{Device: a.device, Threads: a.threads, Level: c.Level,
				Precision: exec.Precision(levelPrecision(c.Level))}
			devices, level, err := labels.Devices(on)
			if err != nil {
				return f, fmt.Errorf("the search is on level %s: %w", c.Level, err)
			}
			sound := func() error { // a GPU that is gone cannot be opened
				_, _, err := labels.Devices(on)
				return err
			}
			if evaluator != nil { // of an earlier search, or of what it was before
				evaluator.Close()
				evaluator = nil
			}
			defer func() { f.Memory = memoryEach(devices, s.workers) }()
			switch c.Kind {
			case trained.KindName:
				a.busy("")
				local := trained.NewLocal(trained.Cache(s.work), devices, s.workers, stock.Materials)
				local.Retries, local.Copies = s.retries, copies
				local.Warn = func(err error) { a.log.Warn(err.Error()) }
				return farm.Fit(local, level, mostSlots, sound), nil
			case supernet.KindName:
				if err := supernets.Lacks(c.Weights); err != nil {
					return f, err
				}
				a.busy("")
				evaluator = supernet.NewLocal(supernet.LocalConfig{Version: version, Stock: supernets,
					Images: stock.Images, Devices: devices, Workers: s.workers, Retries: s.retries, Cache: s.work})
				return farm.Fit(evaluator, level, mostSlots, sound), nil
			}
			return f, fmt.Errorf("this program does no jobs of kind %q", c.Kind)
		}})
	_, launched := a.env(preemptExit)
	switch {
	case errors.Is(err, farm.ErrUnfit):
		return exitError{err, exitUnfit}
	case errors.Is(err, farm.ErrOther):
		return exitError{err, exitOther}
	case err == nil && ctx.Err() != nil && launched:
		return ctx.Err() // its launcher tells a worker that was told to end from one whose search has ended
	}
	return err
}

// absoluteWork makes a folder's path absolute, and leaves a bucket's.
func absoluteWork(work string) (string, error) {
	if strings.HasPrefix(work, objects.Scheme) {
		return work, nil
	}
	return files.Absolute(work)
}

// memoryEach is how many bytes of a GPU's memory each of a worker's jobs has at least; 0 on the processor.
func memoryEach(devices []exec.Config, workers int) (least int64) {
	gpus, _ := cuda.Devices() // those in use are there
	for _, g := range gpus {
		used := slices.ContainsFunc(devices, func(d exec.Config) bool { return d.Device == g.Name })
		if used && (least == 0 || g.MemoryBytes < least) {
			least = g.MemoryBytes
		}
	}
	return least / int64(max(1, (workers+len(devices)-1)/len(devices)))
}

// vitals are how this machine does: what GPUs do is known where somebody watches them (--metrics).
func vitals() (v farm.Vitals) {
	var speed, use []float64
	for _, n := range metrics.All() {
		switch name, _, _ := strings.Cut(n.Name, " "); name {
		case "ctnas_images_per_second":
			speed = append(speed, n.Value)
		case "ctnas_gpu_utilization":
			use = append(use, n.Value)
		}
	}
	if len(speed) > 0 {
		sum := stat.Mean(speed) * float64(len(speed))
		v.Images = &sum
	}
	if len(use) > 0 {
		mean := stat.Mean(use)
		v.GPU = &mean
	}
	return v
}
