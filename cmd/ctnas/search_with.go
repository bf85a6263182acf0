package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/report"
)

// otherMethod is the method of a name; nil for ctnas, which has a loop of its own with checkpoints.
func otherMethod(name string) (method.Method, error) {
	m, err := method.Open(name, method.CTNAS{})
	if err != nil {
		return nil, usagef("--method: %w", err)
	}
	if m.Name() == search.MethodName {
		return nil, nil
	}
	return m, nil
}

// folderName is a space's name without what a folder's should not have: of a file its name.
func folderName(space string) string {
	path, ok := strings.CutPrefix(space, "file:")
	if ok {
		return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return space
}

// newOut names a folder that does not exist yet.
func newOut(c search.Config, method string) string {
	base := filepath.Join("runs", fmt.Sprintf("%s-%s-%d-seed%d", folderName(c.Space), method, c.Budget, c.Seed))
	dir := base
	for n := 2; ; n++ {
		if _, err := os.Stat(dir); err != nil {
			return dir
		}
		dir = fmt.Sprintf("%s-%d", base, n)
	}
}

// searchWith searches with another method than ctnas and writes its folder.
func (a *app) searchWith(cmd *cobra.Command, c search.Config, m method.Method) (*search.Result, error) {
	if _, err := os.Stat(filepath.Join(a.out, search.ConfigName)); err == nil {
		return nil, usagef("--out %s: the folder holds a run, and a search with %s cannot be resumed", a.out, m.Name())
	}
	place, err := a.openDevice()
	if err != nil {
		return nil, err
	}
	listed := c.Propose != search.ProposeController
	l, err := a.openLabels(cmd.Context(), c.Labels, c.Space,
		a.labelOptions(place, labelFlags{&c.LabelWorkers, &c.LabelRetries, &c.LabelCache}, listed))
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	network, err := c.Comparator(l.Space)
	if err != nil {
		return nil, usagef("--preset: %w", err)
	}
	times, err := a.openLatency(c.Latency, l.Space)
	if err != nil {
		return nil, err
	}
	unlock, err := a.lockFolder(a.out)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(a.out, search.ConfigName)); err == nil { // since the first look
		return nil, usagef("--out %s: the folder holds a run, and a search with %s cannot be resumed", a.out, m.Name())
	}
	build := thisBuild()
	config, err := resolvedConfig(cmd.Flags(), runFacts{
		a.commandLine(), build.Version, build.Commit, build.Modified, build.Go, build.Platform, place.name, place.level, place.threads,
		l.Source.Describe(), l.Checksum, l.Content, l.Images, a.out,
	})
	if err != nil {
		return nil, err
	}
	if err := files.Write(filepath.Join(a.out, search.ConfigName), config); err != nil {
		return nil, err
	}
	if err := search.KeepInputs(a.out, l.Space, times); err != nil {
		return nil, err
	}
	p := method.Problem{
		Space: l.Space, Source: l.Source, Budget: c.Budget, Seed: c.Seed, Device: place.Config, Config: network, All: method.PoolOfLabels(l),
		Listed: listed, MaxMAdds: c.MaxMAdds, MaxParams: c.MaxParams, MaxLatency: c.MaxLatency, Latency: times, ParetoCost: c.ParetoCost,
		Ledger: filepath.Join(a.out, report.LedgerName),
	}
	update, finish := a.progress(m.Name())
	p.Progress = func(labels int, _ float64) { update(labels, c.Budget) }
	start := time.Now()
	out, err := m.Run(cmd.Context(), p)
	finish()
	if err != nil {
		return nil, err
	}
	seconds := time.Since(start).Seconds()
	found, err := method.Result(m.Name(), p, out)
	if err != nil {
		return nil, err
	}
	found.Device = place.kind
	result := &search.Result{Result: *found, PickAccuracy: out.Pick.Value, Seconds: seconds}
	for _, x := range found.Architectures {
		if x.Arch == found.Pick {
			result.PickRank, result.PickJudged = x.Rank, x.Judged
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(result); err != nil {
		return nil, err
	}
	if err := files.Write(filepath.Join(a.out, report.ResultName), text.Bytes()); err != nil {
		return nil, err
	}
	page, err := report.Load(a.out)
	if err != nil {
		return nil, err
	}
	return result, page.Write(a.out)
}
