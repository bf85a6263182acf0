package main

import (
	"fmt"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

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
	bars := mpb.New(mpb.WithOutput(bare(a.stderr)), mpb.WithWidth(48))
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
		bars.Wait()
	}
}
