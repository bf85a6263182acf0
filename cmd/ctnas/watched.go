package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/internal/metrics/serve"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/report"
)

// live is what the page of a command in work shows.
type live struct {
	begun time.Time

	mu   sync.Mutex
	busy string
	dir  string // of a search
	look func(context.Context) *report.LiveFarm
}

// search says where a search is at work, and who looks at its farm. It does nothing where nobody watches.
func (l *live) search(dir string, look func(context.Context) *report.LiveFarm) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir, l.look = dir, look
}

// takes says why the program takes no work; empty: it does.
func (l *live) takes(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = why
}

// page is the page of a command line.
func (l *live) page(name, command string) *serve.Page {
	policy, head, tail := report.LiveFrame(name, command)
	return &serve.Page{Policy: policy, Head: head, Tail: tail, Body: func(ctx context.Context) []byte {
		l.mu.Lock()
		p, look := report.Live{Dir: l.dir, Begun: l.begun, Busy: l.busy, Farmed: l.look != nil}, l.look
		l.mu.Unlock()
		if look != nil {
			p.Farm = look(ctx)
		}
		metrics.Ask(ctx)
		p.Numbers = metrics.All()
		return p.Body()
	}}
}

// watched gives a command --metrics ADDR, where whoever watches is answered for as long as the command works. Without
// the flag no port is opened.
func (a *app) watched(cmd *cobra.Command) *cobra.Command {
	l := setting.New()
	l.Group("Watching")
	l.Text(&a.metrics, "metrics", "answer whoever watches at this `address` (9400, HOST:PORT; on loopback where no "+
		"host is named): a page for people, /metrics for Prometheus, /healthz, /readyz, /debug/pprof").
		Check(func() error {
			if a.metrics == "" {
				return nil
			}
			if _, err := serve.Address(a.metrics); err != nil {
				return fmt.Errorf("metrics %q: %w", a.metrics, err)
			}
			return nil
		}).MayChange().Unkept()
	l.Bind(cmd.Flags())
	a.lists[cmd] = setting.Join(a.lists[cmd], l)
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if a.metrics == "" {
			return work(cmd, args)
		}
		a.live = &live{begun: time.Now()}
		s, err := serve.New(a.metrics, a.live.page(cmd.CommandPath(), a.commandLine()))
		if err != nil {
			return fmt.Errorf("--metrics %s: %w", a.metrics, err)
		}
		a.busy = func(why string) {
			s.Busy(why)
			a.live.takes(why)
		}
		defer func() { _ = s.Close() }() // what it told is not what was asked for
		context.AfterFunc(cmd.Context(), func() { a.busy("ending: interrupted") })
		a.log.Info("watched", "page", s.URL(), "at", s.URL()+"/metrics")
		return work(cmd, args)
	}
	return cmd
}
