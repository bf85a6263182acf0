package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/launch"
	"github.com/ctnas/ctnas/internal/setting"
)

func newLaunchCommand(a *app) *cobra.Command {
	return group("launch", "Print what a cluster or a machine starts ctnas with",
		`  ctnas launch slurm --nodes 4 --gpus 8 -- --join tls://10.0.0.5:7420 --keys keys | sbatch
  ctnas launch k8s --mode train --gpus 1 --image ctnas:cuda --volume runs=/runs -- ARCH --data D --out /runs/a
  ctnas launch systemd --gpus 1 -- --join tls://10.0.0.5:7420 --keys /etc/ctnas/keys`,
		newLaunchSlurmCommand(a), newLaunchKubernetesCommand(a), newLaunchSystemdCommand(a))
}

// launchLong is what the three have in common.
const launchLong = `What stands behind -- is what you would type behind ctnas worker, ctnas train or ctnas search,
whichever --mode names. When the machine is taken back, SIGTERM has ctnas leave a checkpoint, and it is started again.`

// launchSettings are those that all have.
func launchSettings(l *launch.Launch, group string) *setting.List {
	l.Mode, l.Nodes, l.Grace = launch.Workers, 1, 120
	s := setting.New()
	s.Group(group)
	s.Text(&l.Mode, "mode", "what is started: workers of a farm on every node, one training or one search").
		OneOf(launch.Workers, launch.Train, launch.Search)
	s.Int(&l.Nodes, "nodes", "nodes", "nodes, each of which runs one process", 1, 1<<16)
	s.Int(&l.GPUs, "gpus", "GPUs", "GPUs of each node (0 = none)", 0, 1024)
	s.Int(&l.CPUs, "cpus", "processors", "processors of each node (0 = as they see fit there)", 0, 1<<16)
	s.Int(&l.Grace, "grace", "seconds", "time between SIGTERM and the end", 10, 1<<16)
	s.Text(&l.Name, "name", "`name` of the job (default: ctnas- and the mode)")
	return s
}

// launcher is a command that prints what write makes.
func (a *app) launcher(cmd *cobra.Command, l *launch.Launch, s *setting.List,
	write func() (string, error)) *cobra.Command {
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		l.Args, l.Command = args, a.commandLine()
		text, err := write()
		if err != nil {
			return usageError{err}
		}
		_, err = fmt.Fprint(a.stdout, text)
		return err
	}
	cmd.Flags().SetInterspersed(false) // what stands behind is another command's
	a.bind(cmd, s)
	return cmd
}

func newLaunchSlurmCommand(a *app) *cobra.Command {
	l := &launch.Launch{Program: "ctnas"}
	s := launchSettings(l, "Slurm")
	s.Text(&l.Program, "program", "the program `file` on the nodes")
	s.Texts(&l.Options, "option", "another option of sbatch, `KEY=VALUE` (partition=gpu); may be repeated")
	return a.launcher(&cobra.Command{
		Use:   "slurm [flags] -- ARGS",
		Short: "Print a script for sbatch",
		Long: `Prints a script for sbatch: an array of jobs for workers, one job for a training or a search.

` + launchLong,
		Example: `  ctnas launch slurm --nodes 4 --gpus 8 --option partition=gpu -- \
      --join tls://10.0.0.5:7420 --keys keys --idle 30m | sbatch
  ctnas launch slurm --mode train --gpus 1 --option time=4:00:00 -- \
      mobilenetv3_large_1.0 --data imagenet:/data/imagenet --recipe mobilenetv3 --out runs/v3 > v3.sbatch`,
	}, l, s, func() (string, error) { return launch.Slurm(*l, quoted) })
}

func newLaunchKubernetesCommand(a *app) *cobra.Command {
	l := &launch.Launch{Program: "ctnas", Port: 9400}
	s := launchSettings(l, "Kubernetes")
	var volumes, secrets []string
	s.Text(&l.Image, "image", "`image` that holds ctnas, see make image")
	s.Texts(&volumes, "volume", "a claim and where it is mounted, `NAME=/PATH`; may be repeated")
	s.Texts(&secrets, "secret", "a secret and where it is mounted, `NAME=/PATH`; may be repeated")
	s.Text(&l.Queue, "queue", "`queue` of Kueue that admits the job (empty = none)")
	s.Int(&l.Port, "port", "", "port of --metrics in the containers", 1, 65535)
	return a.launcher(&cobra.Command{
		Use:   "k8s [flags] -- ARGS",
		Short: "Print a manifest of a Job for Kubernetes",
		Long: `Prints a manifest of a Job: as many pods as nodes for workers, one for a training or a search, whose
--out lies in a --volume. Containers are no root's, with a root file system that is only read.

` + launchLong,
		Example: `  ctnas launch k8s --nodes 4 --gpus 8 --image ctnas:cuda --secret ctnas-keys=/keys \
      --volume images=/images -- \
      --join tls://10.0.0.5:7420 --keys /keys --data imagenet=/images | kubectl apply -f -
  ctnas launch k8s --mode train --gpus 1 --image ctnas:cuda --volume runs=/runs -- \
      nasbench101:best --data shapes --recipe shapes --out /runs/a`,
	}, l, s, func() (string, error) {
		l.Volumes = nil
		for i, text := range append(append([]string{}, volumes...), secrets...) {
			v, err := launch.ParseVolume(text, i >= len(volumes))
			if err != nil {
				return "", err
			}
			l.Volumes = append(l.Volumes, v)
		}
		return launch.Kubernetes(*l)
	})
}

func newLaunchSystemdCommand(a *app) *cobra.Command {
	l := &launch.Launch{Program: "/usr/local/bin/ctnas"}
	s := launchSettings(l, "systemd").Only("mode", "gpus", "cpus", "grace", "name")
	s.Text(&l.Program, "program", "the program `file`, by its absolute path")
	return a.launcher(&cobra.Command{
		Use:   "systemd [flags] -- ARGS",
		Short: "Print a unit for systemd",
		Long: `Prints a unit with instances. With --gpus 1 an instance is a GPU, by its number: ctnas-worker@0 is the
first. What it writes lies in /var/lib/ctnas, which is its working directory.

` + launchLong,
		Example: strings.TrimPrefix(`
  ctnas launch systemd --gpus 1 -- --join tls://10.0.0.5:7420 --keys /etc/ctnas/keys \
      > /etc/systemd/system/ctnas-worker@.service`, "\n"),
	}, l, s, func() (string, error) { return launch.Systemd(*l) })
}
