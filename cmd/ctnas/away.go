package main

import (
	"context"

	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/report"
	searchrun "github.com/ctnas/ctnas/search/run"
)

// away is where a search's labels are made when this machine does not; the zero value is nowhere.
type away struct {
	farm  job.Farm
	level string                      // of the devices there
	ended func(context.Context) error // the search has
	look  func(context.Context) *report.LiveFarm
	// differing is searchrun.Deps'.
	differing func(tell func(searchrun.Difference)) (last func())
	close     func()
}

// with are options of labels that are made there.
func (e away) with(o labels.Options) labels.Options {
	o.Farm, o.Level = e.farm, e.level
	return o
}

// end says that the search has ended, where anybody is to be told.
func (e away) end(ctx context.Context) error {
	if e.ended == nil {
		return nil
	}
	return e.ended(ctx)
}

// finish closes what was opened.
func (e away) finish() {
	if e.close != nil {
		e.close()
	}
}
