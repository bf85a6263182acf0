package report

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/internal/visible"
)

//go:embed live.html
var liveHTML string

//go:embed live.js
var liveJS string

var (
	liveTemplate = framed("live", liveHTML)
	liveHead     = framed("live head", `{{template "head" .}}
<p><code>{{.Command}}</code></p>
<p class="note" id="link">As it was when this was loaded.</p>
</header>
<div id="live">
`)
)

// liveRefresh is after how many seconds a browser that runs nothing loads the page again.
const liveRefresh = 10

// LiveFrame is what a page of work in progress has around its middle, and its content security policy: it may run one
// script of its own, which replaces the middle by what /live sends. Without that it loads itself again.
func LiveFrame(heading, command string) (policy string, head, tail []byte) {
	sum := sha256.Sum256([]byte(liveJS))
	f := struct {
		frame
		Command string
	}{newFrame("ctnas at work", heading), command}
	f.Policy += "; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; connect-src 'self'"
	f.Refresh = liveRefresh
	var b bytes.Buffer
	if err := liveHead.Execute(&b, f); err != nil {
		panic(fmt.Sprintf("report: %v", err)) // of text alone
	}
	end := "</div>\n</main>\n<script>" + liveJS + "</script>\n</body>\n</html>\n"
	return f.Policy, visible.Bytes(b.Bytes()), []byte(end)
}

// Live is work in progress, as its page shows it.
type Live struct {
	Dir     string // the folder of a search; empty: it is none
	Begun   time.Time
	Busy    string // why the program takes no work; empty: it does
	Farmed  bool   // candidates go to other machines
	Farm    *LiveFarm
	Numbers []metrics.Told
}

// LiveFarm are those machines; nil where there is nothing to know yet.
type LiveFarm struct {
	Queue   *LiveQueue // nil: not known
	Workers []LiveWorker
}

// LiveQueue counts the jobs that nobody, and that a worker is at.
type LiveQueue struct{ Waiting, Taken int }

// LiveWorker is one of them. What it says of itself is not to be trusted.
type LiveWorker struct {
	Name, Host string
	State      string // in one word
	Why        string // why it takes no jobs
	Jobs       []LiveJob
	Done       int
	Images     *float64 // a second; nil: not known
	GPU        *float64 // share of the time, from 0 to 1; nil: not known
	Heard      time.Duration
}

// LiveJob is what it is at; epoch 0: none has ended.
type LiveJob struct {
	Job   string
	Epoch int
}

// What the template shows.
type (
	liveView struct {
		differing
		Tiles       []tile
		Farmed      bool
		Workers     []liveWorkerView
		MoreWorkers int
		NoWorkers   string
		Failures    []failureView
		Labels      chartView
		Scored      bool // labels are predicted scores
		Rounds      []roundView
		Measure     string
		Top         []liveTopView
		Curves      []chartView
		Numbers     []tile
	}
	liveWorkerView struct {
		Name, Host, State, Why string
		Jobs                   []liveJobView
		Images, GPU, Heard     string
		Done                   int
	}
	liveJobView struct{ Job, Epoch string }
	failureView struct{ Arch, What, Why string }
	liveTopView struct {
		Place, Round int
		Thumb        template.HTML
		Arch, Value  string
	}
)

const (
	liveTop      = 5
	liveFailures = 10
	liveWorkers  = 200
)

// The events of trainings that did not go well, as package trained writes them.
const (
	eventRetry  = "candidate_retry"
	eventFailed = "candidate_failed"
)

// Body is the middle of the page as of now.
func (l Live) Body() []byte {
	d := &Data{}
	if l.Dir != "" {
		d = unended(l.Dir)
	}
	v := liveView{Farmed: l.Farmed}
	v.Different, v.Unsaid = d.different()
	v.Tiles = l.tiles(d)
	v.workers(l.Farm)
	v.Failures = d.failures()
	if len(d.Ledger) > 0 {
		v.Labels, v.Rounds = d.labels()
		v.Scored = d.predicted()
		v.top(d)
	}
	v.Curves = d.curves()
	for _, n := range l.Numbers {
		value, note := strconv.FormatFloat(n.Value, 'g', 6, 64), n.Help
		if n.Counts > 0 {
			value = seconds(n.Value)
			note = fmt.Sprintf("mean of %s. %s", grouped(int(n.Counts)), note)
		}
		v.Numbers = append(v.Numbers, tile{Name: n.Name, Value: value, Note: note})
	}
	var b bytes.Buffer
	if err := liveTemplate.Execute(&b, v); err != nil {
		return []byte("<p>" + template.HTMLEscapeString(err.Error()) + "</p>")
	}
	return visible.Bytes(b.Bytes())
}

// unended is what the folder of a search in work holds by now. What cannot be read is not shown: it may be in the midst
// of being written.
func unended(dir string) *Data {
	d := &Data{}
	text, err := files.Read(filepath.Join(dir, SpaceName), maxBytes)
	if err == nil {
		d.Space = text
	}
	_ = d.readConfig(filepath.Join(dir, ConfigName))
	for _, s := range d.Config {
		if s.Key == "space" {
			d.Result.Space = s.Value
		}
	}
	if _, err := os.Stat(filepath.Join(dir, LedgerName)); !errors.Is(err, fs.ErrNotExist) {
		d.readLedger(filepath.Join(dir, LedgerName))
	}
	if len(d.Ledger) > 0 && d.Ledger[0].Source == "predictor" {
		d.Result.Predictor = "an accuracy predictor"
	}
	if len(d.Ledger) > 0 {
		if other := d.Ledger[0].Other(); !other.IsZero() {
			d.Result.Metric = &other
		}
	}
	d.Events, _, _ = events.Read(dir)
	return d
}

func (l Live) tiles(d *Data) (out []tile) {
	if l.Busy != "" {
		out = append(out, tile{"Takes no work", "waits", l.Busy})
	}
	if l.Dir != "" {
		bought := tile{Name: "Labels", Value: grouped(len(d.Ledger))}
		for _, s := range d.Config {
			if s.Key == "budget" {
				bought.Note = "of " + s.Value
			}
		}
		out = append(out, bought)
	}
	best := math.Inf(-1)
	for _, label := range d.Ledger {
		best = max(best, d.better(label.Accuracy))
	}
	if len(d.Ledger) > 0 {
		t := tile{"Best " + d.measure(), d.value(d.better(best)), d.Ledger[0].Metric}
		if d.predicted() {
			t.Value = score(best)
		}
		out = append(out, t)
	}
	if l.Farm != nil && l.Farm.Queue != nil {
		out = append(out, tile{"Queued", grouped(l.Farm.Queue.Waiting), "jobs that nobody is at"},
			tile{"With workers", grouped(l.Farm.Queue.Taken), "jobs"})
	}
	return append(out, tile{"At work for", time.Since(l.Begun).Truncate(time.Second).String(),
		"since this process began"})
}

func (v *liveView) workers(f *LiveFarm) {
	if v.NoWorkers = "None has joined yet."; f == nil {
		v.NoWorkers = "The farm opens with the first job."
		return
	}
	for i, w := range f.Workers {
		if i == liveWorkers {
			v.MoreWorkers = len(f.Workers) - i
			break
		}
		row := liveWorkerView{Name: w.Name, Host: w.Host, State: w.State, Why: w.Why, Images: unknown, GPU: unknown,
			Heard: w.Heard.Truncate(time.Second).String() + " ago", Done: w.Done}
		if w.Images != nil {
			row.Images = quantity(int64(math.Round(*w.Images)))
		}
		if w.GPU != nil {
			row.GPU = fmt.Sprintf("%.0f %%", 100**w.GPU)
		}
		for _, j := range w.Jobs {
			epoch := unsaid
			if j.Epoch > 0 {
				epoch = strconv.Itoa(j.Epoch)
			}
			row.Jobs = append(row.Jobs, liveJobView{j.Job, epoch})
		}
		v.Workers = append(v.Workers, row)
	}
}

// failures are the latest that the log tells of, the latest first.
func (d *Data) failures() (list []failureView) {
	byTime := slices.SortedStableFunc(slices.Values(d.Events), func(a, b Event) int {
		return cmp.Compare(a.Seconds, b.Seconds)
	})
	for _, e := range slices.Backward(byTime) {
		f := failureView{Arch: cmp.Or(e.Text["arch"], unknown), Why: e.Text["error"]}
		switch e.Name {
		case eventRetry:
			f.What = fmt.Sprintf("attempt %.0f failed", e.Values["attempt"])
		case eventFailed:
			f.What = "given up"
		default:
			continue
		}
		if list = append(list, f); len(list) == liveFailures {
			break
		}
	}
	return list
}

// top are the best labels so far.
func (v *liveView) top(d *Data) {
	v.Measure = d.heading()
	best := slices.Clone(d.Ledger)
	slices.SortStableFunc(best, func(a, b Label) int { return cmp.Compare(d.better(b.Accuracy), d.better(a.Accuracy)) })
	draw := d.drawer(&pageView{})
	for i, label := range best[:min(liveTop, len(best))] {
		row := liveTopView{Place: i + 1, Round: label.Round, Thumb: draw(label.Arch, Style{Compact: true}),
			Arch: label.Arch, Value: d.value(label.Accuracy)}
		if d.predicted() {
			row.Value = score(label.Accuracy)
		}
		v.Top = append(v.Top, row)
	}
}
