package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/cluster"
)

// nodesFolder is the part of a run's folder with the keys by which nodes know each other.
const nodesFolder = "nodes"

// exitLost is the exit code of a training whose other nodes are gone or hang, which what starts them all starts again:
// EX_TEMPFAIL of sysexits.h.
const exitLost = 75

// nodeVariables are how what starts processes on several machines numbers them, one a machine: Slurm, an indexed Job of
// Kubernetes, torchrun, Open MPI.
var nodeVariables = []string{"SLURM_NODEID", "JOB_COMPLETION_INDEX", "GROUP_RANK", "OMPI_COMM_WORLD_RANK"}

// nodeSettings are those of a training that several machines divide among them.
type nodeSettings struct {
	nodes      int
	given      string // which of them this is, in words; empty: the environment says it
	node       int
	rendezvous string
	keys       string
	patience   time.Duration
}

// onNodes gives a training --nodes N and what belongs to it. Without the flag no port is opened.
func (a *app) onNodes(cmd *cobra.Command) *cobra.Command {
	s := &a.nodes
	s.nodes, s.patience = 1, 10*time.Minute
	l := setting.New()
	l.Group("Several machines")
	l.Int(&s.nodes, "nodes", "nodes", "machines that divide a batch's --shards among them, a power of two: each runs "+
		"this command, and results do not depend on their number", 1, 1<<12).Check(func() error {
		if bits.OnesCount(uint(s.nodes)) != 1 {
			return fmt.Errorf("nodes %d: want a power of two", s.nodes)
		}
		return nil
	}).MayChange().Unkept()
	l.Text(&s.given, "node", "which `number` of the nodes this one is, from 0 (empty = as SLURM_NODEID, "+
		"JOB_COMPLETION_INDEX, GROUP_RANK or OMPI_COMM_WORLD_RANK says); node 0 has the run's folder").
		Check(func() (err error) {
			if s.given != "" {
				_, err = nodeNumber("node", s.given)
			}
			return err
		}).MayChange().Unkept()
	l.Text(&s.rendezvous, "rendezvous", "where node 0 waits for the others: `HOST:PORT` by which they reach it").
		Check(func() error {
			if s.rendezvous == "" {
				return nil
			}
			host, port, err := net.SplitHostPort(s.rendezvous)
			number, bad := strconv.Atoi(port)
			if err != nil || host == "" || bad != nil || number < 1 || number > 65535 {
				return fmt.Errorf("rendezvous %q: want HOST:PORT", s.rendezvous)
			}
			return nil
		}).MayChange().Unkept()
	l.Text(&s.keys, "node-keys", "`folder` that ctnas farm keys has made, or on nodes behind node 0 a copy of its "+
		"folder keys (default: nodes in the run's folder, on a disk that all nodes see)").
		Path(files.Absolute).MayChange().Unkept()
	l.Duration(&s.patience, "collective-timeout", "after how long without a word from a node whose part is waited for "+
		"all others end, with exit code 75", time.Second, 24*time.Hour).MayChange().Unkept()
	l.Bind(cmd.Flags())
	a.lists[cmd] = setting.Join(a.lists[cmd], l)
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := s.resolve(a.env); err != nil {
			return usageError{err}
		}
		err := work(cmd, args)
		switch {
		case errors.Is(err, cluster.ErrLost):
			return exitError{err, exitLost}
		case errors.Is(err, trainer.ErrInterrupted) && cmd.Context().Err() == nil:
			code, _ := a.interruptedExit() // which prepare has checked
			return exitError{errors.New("interrupted: another node was told to end"), code}
		}
		return err
	}
	return cmd
}

// resolve finds out which node this is.
func (s *nodeSettings) resolve(env func(string) (string, bool)) error {
	if s.nodes == 1 {
		if s.rendezvous != "" {
			return fmt.Errorf("--rendezvous %s is for several --nodes", s.rendezvous)
		}
		return nil
	}
	text, name := s.given, "--node"
	for _, variable := range nodeVariables {
		if value, given := env(variable); text == "" && given {
			text, name = value, variable
		}
	}
	if text == "" {
		return fmt.Errorf("--nodes %d: which of them is this? want --node N, from 0", s.nodes)
	}
	var err error
	if s.node, err = nodeNumber(name, text); err != nil {
		return err
	}
	switch {
	case s.node >= s.nodes:
		return fmt.Errorf("--node %d: want one of %d nodes, from 0", s.node, s.nodes)
	case s.rendezvous == "":
		return fmt.Errorf("--nodes %d needs --rendezvous HOST:PORT, where node 0 is reached", s.nodes)
	}
	return nil
}

// nodeNumber reads the number of a node.
func nodeNumber(name, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s %q: want the number of a node, from 0", name, text)
	}
	return n, nil
}

// follows tells whether this is a node behind node 0, which writes nothing and prints no result.
func (s *nodeSettings) follows() bool { return s.node > 0 }

// takeFolder leaves the run's folder to node 0.
func (a *app) takeFolder() error {
	s := &a.nodes
	if s.nodes == 1 {
		return nil
	}
	if s.keys == "" && a.out == "" {
		return usagef("--nodes %d needs --out, or --node-keys FOLDER: the keys by which nodes know each other",
			s.nodes)
	}
	if s.keys = cmp.Or(s.keys, filepath.Join(a.out, nodesFolder)); s.follows() {
		a.out = ""
	}
	return nil
}

// joinNodes meets the other nodes; nil where there are none. leave ends that with what the training has ended with.
func (a *app) joinNodes(ctx context.Context) (n trainer.Nodes, leave func(error), err error) {
	s := a.nodes
	if s.nodes <= 1 {
		return nil, func(error) {}, nil
	}
	a.log.Info("meeting the other nodes", "node", s.node, "nodes", s.nodes, "rendezvous", s.rendezvous)
	all, err := cluster.Join(ctx, cluster.Config{Node: s.node, Nodes: s.nodes, At: s.rendezvous,
		Keys: s.keys, Version: thisBuild().Version, Patience: s.patience, Tell: func(text string) {
			a.log.Info(text)
		}})
	if err != nil {
		return nil, nil, fmt.Errorf("--rendezvous %s: %w", s.rendezvous, err)
	}
	return all, func(why error) {
		if errors.Is(why, trainer.ErrInterrupted) {
			why = nil
		}
		all.Close(why)
	}, nil
}
