package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/ctnas/ctnas/internal/visible"
)

// progress shows on stderr how far a long piece of work is: a bar on a terminal, a line every tenth in a pipe, nothing
// with --quiet or --json. update may be called from several goroutines; finish must be called once.
func (a *app) progress(name string) (update func(done, total int), finish func()) {
	switch {
	case a.quiet || a.json:
		return func(int, int) {}, func() {}
	case onTerminal(a.stderr):
		return a.progressBar(name)
	}
	var mu sync.Mutex
	tenths := 0
	update = func(done, total int) {
		mu.Lock()
		defer mu.Unlock()
		if total <= 0 || done >= total || done*10/total <= tenths { // the result itself says that it is done
			return
		}
		tenths = done * 10 / total
		fmt.Fprintf(a.stderr, "%s: %d of %d (%d%%)\n", name, done, total, tenths*10)
	}
	return update, func() {}
}

// stages shows how far the parts of a long piece of work are that follow each other, each by its name. update is called
// by one goroutine at a time.
func (a *app) stages() (update func(name string, done, total int), finish func()) {
	var show func(done, total int)
	var end func() // of the part that is shown, nil without one
	shown := ""
	finish = func() {
		if end != nil {
			end()
		}
		end, shown = nil, ""
	}
	return func(name string, done, total int) {
		if name != shown {
			finish()
			shown = name
			show, end = a.progress(name)
		}
		show(done, total)
	}, finish
}

func (a *app) progressBar(name string) (update func(done, total int), finish func()) {
	bars, wait := a.newBars(48)
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(visible.String(name)+" ")),
		mpb.AppendDecorators(decor.CountersNoUnit("%d / %d"), decor.Name("  "),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "")))
	update = func(done, total int) {
		bar.SetTotal(int64(total), false)
		bar.SetCurrent(int64(done))
	}
	return update, func() {
		if bar.Current() > 0 {
			bar.SetTotal(bar.Current(), true)
		} else {
			bar.Abort(true)
		}
		wait()
	}
}

// newBars is where bars of a width are drawn on the terminal, until they have ended and wait has returned. Messages
// stand above them meanwhile.
func (a *app) newBars(width int) (bars *mpb.Progress, wait func()) {
	bars = mpb.New(mpb.WithOutput(bare(a.stderr)), mpb.WithWidth(width))
	a.screen.draw(bars)
	return bars, func() {
		bars.Wait()
		a.screen.draw(nil)
	}
}

// screen is stderr with the bars that are drawn there: a message that went past them would be drawn over.
type screen struct {
	w    io.Writer
	mu   sync.Mutex
	bars *mpb.Progress // nil: none are drawn
}

func (s *screen) draw(bars *mpb.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bars = bars
}

func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	bars := s.bars
	s.mu.Unlock()
	if bars != nil {
		if n, err := bars.Write(text); !errors.Is(err, mpb.ErrDone) {
			return n, err
		}
	}
	return s.w.Write(text)
}

// bare is the writer itself behind those that escape what is not seen, know of bars and note errors.
func bare(w io.Writer) io.Writer {
	if v, ok := w.(*visible.Writer); ok {
		w = v.Unwrap()
	}
	switch x := w.(type) {
	case *screen:
		w = x.w
	case *output:
		w = x.w
	}
	return w
}

// onTerminal tells whether w is one.
func onTerminal(w io.Writer) bool {
	f, ok := bare(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// clock says how long work has taken and how long the rest will.
type clock struct {
	begun, last time.Time // it was first looked at; more was done than before
	done        int       // by then
}

// leastPace is how long work must have taken to say anything of the rest.
const leastPace = time.Second

// of is asked when so many of all are done, the first of them by an earlier process: "1m20s passed, 4m0s left", without
// the rest while nothing says how long it takes.
func (c *clock) of(first, done, total int) string {
	now := time.Now()
	if c.begun.IsZero() {
		c.begun, c.last, c.done = now, now, first
	}
	if done > c.done {
		c.last, c.done = now, done
	}
	text := now.Sub(c.begun).Round(time.Second).String() + " passed"
	if made := done - first; made > 0 && done < total && c.last.Sub(c.begun) >= leastPace {
		all := time.Duration(float64(c.last.Sub(c.begun)) / float64(made) * float64(total-done))
		text += ", " + max(0, all-now.Sub(c.last)).Round(time.Second).String() + " left"
	}
	return text
}
