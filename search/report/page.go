package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

//go:embed page.html
var pageHTML string

var pageTemplate = framed("page", pageHTML)

// What the template shows. Pictures are ready-made SVG.
type (
	pageView struct {
		frame
		differing
		Spoiled     []string
		Among       string // how many architectures predicted ranks are among; empty: not said
		Result      Result
		Pick        *archView
		Drawing     template.HTML
		Operations  []opView
		Tiles       []tile
		Labels      chartView
		Rounds      []roundView
		Curves      []chartView
		Shares      []chartView // of operations, in what was drawn
		Supernet    bool
		Baselines   []baselineView
		Measured    []chartView
		Retrained   *retrainedView
		Top         []archView
		Timed       bool   // latencies are known
		Scored      bool   // there are predicted scores
		Measure     string // what labels are
		MeasureName string // the same where a line begins
		Measures    bool   // there are accuracies
		Costs       []tile
		Phases      []phaseView
		Command     string
		Config      []Setting
		Run         []Setting
	}
	tile      struct{ Name, Value, Note string }
	opView    struct{ Name, Color string }
	chartView struct {
		Title, Note   string
		Legend, Chart template.HTML
	}
	roundView struct {
		Round, Labels, New int
		Best, Tau          string
	}
	archView struct {
		Place                                         int
		Thumb                                         template.HTML
		Arch, Hash, Accuracy, Score, Judged           string
		Source, Note                                  string
		PredictedRank, Rank, MAdds, Params, LatencyMS string
		SpaceMAdds, SpaceParams                       string // of the space's own network, where that is another one
		Picked, Pareto                                bool
	}
	differing struct {
		Different []differentView
		Unsaid    int // how many more there are of these
	}
	differentView struct{ Arch, First, Second string }
	baselineView  struct {
		Step          int
		Win, Accuracy string
		Thumb         template.HTML
		Arch          string
	}
	phaseView struct {
		Name, Seconds, Share string
		Width                float64
	}
)

// topArchitectures is how many the table shows.
const topArchitectures = 12

func (d *Data) page() ([]byte, error) {
	v := pageView{frame: newFrame("ctnas search report", d.Name), Spoiled: d.Spoiled, Result: d.Result,
		Command: d.Command, Config: d.Config, Run: d.Run}
	draw := d.drawer(&v)
	best := slices.Clone(d.Result.Architectures)
	slices.SortStableFunc(best, func(a, b Architecture) int {
		// Labelled ones first, by accuracy; then by predicted rank.
		switch {
		case a.Outside != b.Outside:
			return sign(b2f(a.Outside) - b2f(b.Outside))
		case a.Accuracy != nil && b.Accuracy != nil && *a.Accuracy != *b.Accuracy:
			return sign(d.better(*b.Accuracy) - d.better(*a.Accuracy))
		case (a.Accuracy != nil) != (b.Accuracy != nil):
			return sign(b2f(b.Accuracy != nil) - b2f(a.Accuracy != nil))
		}
		return standing(a.PredictedRank) - standing(b.PredictedRank)
	})
	for i, a := range best {
		v.Timed = v.Timed || a.LatencyMS != nil
		if i >= topArchitectures && a.Arch != d.Result.Pick {
			continue
		}
		row := d.archView(i+1, a, draw)
		if i < topArchitectures {
			v.Top = append(v.Top, row)
		}
		if row.Picked {
			v.Pick = &row
			v.Drawing = draw(a.Arch, Style{})
		}
	}
	if n := d.Result.PredictedAmong; n > 0 {
		v.Among = grouped(n)
	}
	v.Scored = d.predicted()
	v.Measures = !v.Scored
	v.Measure, v.MeasureName = d.measure(), d.heading()
	v.Tiles = d.tiles(v.Pick)
	v.Different, v.Unsaid = d.different()
	v.Retrained = d.retrained(draw)
	v.Labels, v.Rounds = d.labels()
	v.Curves = d.curves()
	v.Shares, v.Supernet = d.shares(), d.Supernet
	v.Baselines = d.baselines(draw)
	v.Measured = d.measured()
	v.Costs, v.Phases = d.costs()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		return nil, err
	}
	return visible.Bytes(b.Bytes()), nil
}

// Differing is how many jobs that are, in words.
func (v differing) Differing() string {
	if n := len(v.Different) + v.Unsaid; n != 1 {
		return grouped(n) + " jobs"
	}
	return "1 job"
}

// mostDifferent is how many jobs the page lists whose results differ.
const mostDifferent = 20

// different lists jobs of which two workers have sent results that differ, and how many there are beside.
func (d *Data) different() (list []differentView, more int) {
	for _, e := range d.events(EventDifferent) {
		if len(list) == mostDifferent {
			more++
			continue
		}
		arch, others, several := strings.Cut(e.Text["archs"], " ")
		if several {
			arch += fmt.Sprintf(" and %d more", strings.Count(others, " ")+1)
		}
		list = append(list, differentView{cmp.Or(arch, unknown), cmp.Or(e.Text["first"], unknown),
			cmp.Or(e.Text["second"], unknown)})
	}
	return list, more
}

func sign(x float64) int {
	switch {
	case x < 0:
		return -1
	case x > 0:
		return 1
	}
	return 0
}

// standing is a rank for sorting: what is not ranked stands last.
func standing(rank *int) int {
	if rank == nil || *rank < 1 {
		return math.MaxInt32
	}
	return *rank
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// drawer returns a function that draws an architecture of the result's space, or nothing where that is not possible:
// the page of a run should also open where its space is unknown.
func (d *Data) drawer(v *pageView) func(arch string, s Style) template.HTML {
	s, err := space.Open(d.Result.Space)
	if err != nil && d.Space != nil {
		s, err = space.ParseFile(SpaceName, d.Space)
	}
	if err != nil {
		return func(string, Style) template.HTML { return "" }
	}
	v.Operations = colorsOf(s)
	return func(arch string, style Style) template.HTML {
		a, err := s.Parse(arch)
		if err != nil {
			return ""
		}
		svg, err := Draw(s, a, style)
		if err != nil {
			return ""
		}
		return template.HTML(svg)
	}
}

func (d *Data) archView(place int, a Architecture, draw func(string, Style) template.HTML) archView {
	v := archView{
		Place: place, Thumb: draw(a.Arch, Style{Compact: true}), Arch: a.Arch, Hash: a.Hash, Source: a.AccuracySource,
		Accuracy: unsaid, Score: unsaid, MAdds: known(a.MAdds), Params: known(a.Params), PredictedRank: unsaid,
		Note:   a.Note,
		Picked: a.Arch == d.Result.Pick, Pareto: slices.Contains(d.Result.Pareto, a.Arch),
	}
	if a.SpaceMAdds != nil {
		v.SpaceMAdds = quantity(*a.SpaceMAdds)
	}
	if a.SpaceParams != nil {
		v.SpaceParams = quantity(*a.SpaceParams)
	}
	switch {
	case a.Accuracy == nil:
	case a.Predicted || d.Result.Predictor != "":
		v.Score = score(*a.Accuracy)
	default:
		v.Accuracy = d.value(*a.Accuracy)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Metrics)) {
		v.Note = joined(v.Note, name+" "+number(a.Metrics[name]))
	}
	if a.Outside {
		v.Note = joined(v.Note, "outside of the bounds")
	}
	if a.Judged != nil && (a.Accuracy == nil || *a.Judged != *a.Accuracy) {
		// Once is enough where one accuracy chose and judged.
		v.Judged = percent(*a.Judged)
	}
	if a.PredictedRank != nil && *a.PredictedRank > 0 {
		v.PredictedRank = grouped(*a.PredictedRank)
	}
	if a.Rank > 0 {
		v.Rank = grouped(a.Rank)
	}
	if a.LatencyMS != nil {
		v.LatencyMS = milliseconds(*a.LatencyMS)
	}
	return v
}

func (d *Data) tiles(pick *archView) []tile {
	var out []tile
	if pick != nil {
		switch {
		case d.predicted():
			out = append(out, tile{"Predicted score of the pick", pick.Score, pick.Source +
				"; no accuracy was measured"})
		case pick.Note != "":
			out = append(out, tile{d.heading() + " of the pick", pick.Accuracy, pick.Source + "; " + pick.Note})
		default:
			out = append(out, tile{d.heading() + " of the pick", pick.Accuracy, pick.Source})
		}
		if pick.Judged != "" {
			out = append(out, tile{"Judged on", pick.Judged, "sealed until the search had ended"})
		}
		if pick.Rank != "" {
			note := "in the table"
			if d.Result.Ranked > 0 {
				note = "of " + grouped(d.Result.Ranked) + " in the table"
			}
			out = append(out, tile{"True rank", pick.Rank, note})
		}
	}
	if s := d.Result.Shared; s != nil {
		out = append(out, tile{"Measured with shared weights", grouped(s.Measured), d.Result.Method})
		out = append(out, d.tauTiles(s)...)
		if s.Outside != nil {
			out = append(out, tile{"Drawn by the weights", grouped(s.Drawn),
				grouped(*s.Outside) + " of them outside of the space"})
		}
	} else {
		out = append(out, tile{"Labels used", grouped(d.Result.LabelsUsed), d.Result.Method})
	}
	if pick != nil {
		madds, params := "for one image", ""
		if d.Result.Network != nil || pick.SpaceMAdds != "" || pick.SpaceParams != "" {
			params = "of the network that the label is of"
			madds += ", " + params
		}
		if pick.SpaceMAdds != "" {
			madds += "; the space's own network: " + pick.SpaceMAdds
		}
		if pick.SpaceParams != "" {
			params += "; the space's own network: " + pick.SpaceParams
		}
		out = append(out, tile{"Multiply-adds", pick.MAdds, madds}, tile{"Parameters", pick.Params, params})
		if pick.LatencyMS != "" {
			note := "the sum of its parts in the run's table"
			if d.Result.Network != nil {
				note += ", of the space's own network"
			}
			out = append(out, tile{"Latency", pick.LatencyMS, note})
		}
	}
	return out
}

// predicted tells whether labels are a predictor's scores.
func (d *Data) predicted() bool { return d.Result.Predictor != "" }

// value is a label in words: an accuracy in per cent, or a predicted score, which is none.
func (d *Data) value(v float64) string {
	switch {
	case d.predicted():
		return "predicted score " + score(v)
	case d.Result.Metric != nil:
		return joinedBy(" ", number(v), d.Result.Metric.Unit)
	}
	return percent(v)
}

// better is a number that is larger for better labels.
func (d *Data) better(v float64) float64 {
	if m := d.Result.Metric; m != nil && m.Direction == ledger.Minimize {
		return -v
	}
	return v
}

// plain tells whether labels are no fractions that are shown in per cent.
func (d *Data) plain() bool { return d.predicted() || d.Result.Metric != nil }

// number is one of any size, in as many digits as tell something.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// joined are two texts with a semicolon between, joinedBy with something else, where both say something.
func joined(a, b string) string { return joinedBy("; ", a, b) }

func joinedBy(between, a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + between + b
}

// measure names what labels are.
func (d *Data) measure() string {
	switch {
	case d.predicted():
		return "predicted score"
	case d.Result.Metric != nil:
		return d.Result.Metric.Name
	}
	return "accuracy"
}

// heading is measure where a line begins.
func (d *Data) heading() string {
	if d.Result.Metric != nil { // a name stays as it is
		return d.measure()
	}
	text := d.measure()
	return strings.ToUpper(text[:1]) + text[1:]
}

// proposers say what the words of the ledger mean that are this program's.
var proposers = map[string]string{
	"random":     "drawn at random",
	"promising":  "the most promising of many random ones, by what the space says of networks at initialisation",
	"validation": "only measures the comparator",
	"controller": "proposed by the controller",
	"mutation":   "a neighbour of the best ones",
	"space":      "the comparator's choice of the whole space",
	"explore":    "chosen by one member of the comparator's ensemble, for exploration",
}

// labels draws every label in the order it was bought, with the best so far.
func (d *Data) labels() (chartView, []roundView) {
	c := chart{x: "labels used", y: d.measure(), percent: !d.plain(), height: 300}
	best := series{name: "best so far", meaning: "the best label until then", kind: steps, color: 0}
	colors := map[string]int{}
	var bought []series
	top := math.Inf(-1)
	outside := map[string]bool{}
	for _, a := range d.Result.Architectures {
		outside[a.Arch] = a.Outside
	}
	for i, l := range d.Ledger {
		at, known := colors[l.Proposer]
		if !known {
			at = len(bought)
			colors[l.Proposer] = at
			bought = append(bought, series{name: l.Proposer, meaning: proposers[l.Proposer], kind: dots,
				color: at%6 + 1})
		}
		title := fmt.Sprintf("label %d, round %d: %s\n%s", i+1, l.Round, d.value(l.Accuracy), l.Arch)
		if note := l.Note.String(); note != "" {
			title += "\n" + note
		}
		bought[at].points = append(bought[at].points, point{x: float64(i + 1), y: l.Accuracy, title: title})
		if d.better(l.Accuracy) > top && !outside[l.Arch] {
			top = d.better(l.Accuracy)
			best.points = append(best.points, point{x: float64(i + 1), y: l.Accuracy})
		}
	}
	c.series = append(bought, best)
	var rounds []roundView
	before := 0
	for _, e := range d.events(EventRound) {
		r := roundView{Round: e.Step, Labels: int(e.Values["labels"]), Best: unsaid, Tau: unsaid}
		r.New, before = r.Labels-before, r.Labels
		best, ok := e.Values[BestAccuracy]
		of, scored := e.Values[BestScore]
		switch {
		case scored && d.Result.Metric != nil:
			r.Best = number(of)
		case scored:
			r.Best = score(of)
		case ok && d.predicted(): // of an older program
			r.Best = score(best)
		case ok:
			r.Best = percent(best)
		}
		if tau, ok := e.Values["tau"]; ok {
			r.Tau = fmt.Sprintf("%.3f", tau)
			if n, ok := e.Values["tau_labels"]; ok {
				r.Tau += fmt.Sprintf(" (%.0f)", n)
			}
		}
		rounds = append(rounds, r)
	}
	return chartView{Title: "Labels", Legend: c.legend(), Chart: c.svg()}, rounds
}

func (d *Data) events(name string) (out []Event) {
	for _, e := range d.Events {
		if e.Name == name {
			out = append(out, e)
		}
	}
	return out
}

func (d *Data) curves() (out []chartView) {
	for _, p := range []struct {
		event, key, title, note, x, y string
		color                         int
	}{
		{EventController, "reward", "Reward", "mean probability of beating the baseline", "controller updates",
			"probability", 0},
		{EventController, "entropy", "Entropy", "of the controller's decisions", "controller updates", "nats", 1},
		{EventController, "loss", "Controller loss", "", "controller updates", "loss", 2},
		{EventComparator, "loss", "Comparator loss", "binary cross-entropy of a pair", "comparator updates", "loss", 3},
		{EventRound, "tau", "Comparator's tau-b", "each round's new labels against their prediction",
			"round", "tau-b", 4},
		{EventPolicy, "reward", "Reward", "mean accuracy of the controller's samples with shared weights",
			"epochs of the supernet", "accuracy", 0},
		{EventPolicy, "entropy", "Entropy", "of the controller's sequences", "epochs of the supernet", "nats", 1},
		{EventMixture, "entropy", "Entropy", "of a decision's weights, mean over the decisions",
			"epochs of the supernet", "nats", 1},
		{EventGeneration, "best", "Best of a generation", "accuracy with shared weights; 0 is the random sample",
			"generation", "accuracy", 0},
		{EventGeneration, "mean", "Mean of a generation", "accuracy with shared weights; 0 is the random sample",
			"generation", "accuracy", 1},
		{EventJudged, "percentile", "Samples' true percentile",
			"mean over those of the controller's samples that the table has, 0 = best; unseen by the search",
			"controller updates", "percentile", 2},
	} {
		s := series{color: p.color}
		for _, e := range d.events(p.event) {
			if y, ok := e.Values[p.key]; ok {
				s.points = append(s.points, point{x: float64(e.Step), y: y})
			}
		}
		if len(s.points) < 2 {
			continue
		}
		c := chart{x: p.x, y: p.y, series: []series{s}}
		out = append(out, chartView{Title: p.title, Note: p.note, Chart: c.svg()})
	}
	return out
}

// tauTiles say how well shared weights rank.
func (d *Data) tauTiles(s *Shared) []tile {
	if s.TauB == nil || s.TauBParams == nil {
		return nil
	}
	note := fmt.Sprintf("over %s architectures of the whole space; of the parameter count %.3f", grouped(s.Over),
		*s.TauBParams)
	if *s.TauB <= *s.TauBParams {
		note += ", which ranks no worse"
	}
	out := []tile{{"tau-b of shared weights", fmt.Sprintf("%.3f", *s.TauB), note}}
	if s.PoolTauB != nil {
		out = append(out, tile{"tau-b of the pool", fmt.Sprintf("%.3f", *s.PoolTauB),
			fmt.Sprintf("over %s architectures that the supernet itself selected", grouped(s.PoolOver))})
	}
	return out
}

// shares draw which operations were drawn as the search went on.
func (d *Data) shares() (out []chartView) {
	for _, p := range []struct{ event, title, note, x string }{
		{EventPolicy, "What the controller draws", "shares of operations among the nodes", "epochs of the supernet"},
		{EventMixture, "What the mixture prefers", "weights of choices, of each the mean over the decisions that " +
			"have it; every decision's are on the supernet's page", "epochs of the supernet"},
		{EventGeneration, "What the evolution measured", "shares of operations among the nodes; generation 0 is the " +
			"random sample", "generation"},
	} {
		c := chart{x: p.x, y: "share", percent: true}
		at := map[string]int{}
		for _, e := range d.events(p.event) {
			for _, key := range slices.Sorted(maps.Keys(e.Values)) {
				op, share := strings.CutPrefix(key, SharePrefix)
				if !share {
					continue
				}
				k, known := at[op]
				if !known {
					k = len(c.series)
					at[op] = k
					c.series = append(c.series, series{name: op, color: k % 7})
				}
				c.series[k].points = append(c.series[k].points, point{x: float64(e.Step), y: e.Values[key]})
			}
		}
		if len(c.series) > 0 && len(c.series[0].points) > 1 {
			out = append(out, chartView{Title: p.title, Note: p.note, Legend: c.legend(), Chart: c.svg()})
		}
	}
	return out
}

func (d *Data) baselines(draw func(string, Style) template.HTML) (out []baselineView) {
	accuracy := map[string]float64{}
	for _, l := range d.Ledger {
		accuracy[l.Arch] = l.Accuracy
	}
	last := ""
	for _, e := range d.events(EventBaseline) {
		arch := e.Text["arch"]
		if arch == last {
			continue
		}
		last = arch
		v := baselineView{Step: e.Step, Thumb: draw(arch, Style{Compact: true}), Arch: arch}
		if win, ok := e.Values["win"]; ok {
			v.Win = fmt.Sprintf("%.2f", win)
		}
		if a, ok := accuracy[arch]; ok {
			v.Accuracy = d.value(a)
		}
		out = append(out, v)
	}
	return out
}

// measured compares the labelled architectures' accuracy with what the comparator predicts, and with what they cost.
func (d *Data) measured() (out []chartView) {
	var labelled []Architecture // and ranked
	labels := 0
	var predicted, accuracy []float64
	cost := series{name: "labelled", kind: dots, color: 2}
	pareto := series{name: "not beaten in both (Pareto)", kind: dots, color: 1}
	for _, a := range d.Result.Architectures {
		if a.Accuracy == nil {
			continue
		}
		labels++
		x, said, known := d.cost(a)
		if a.Note != "" {
			said += ", " + a.Note
		}
		p := point{x: x, y: *a.Accuracy,
			title: fmt.Sprintf("%s\n%s, %s", a.Arch, d.value(*a.Accuracy), said)}
		switch {
		case !known:
		case slices.Contains(d.Result.Pareto, a.Arch):
			pareto.points = append(pareto.points, p)
		default:
			cost.points = append(cost.points, p)
		}
		if a.PredictedRank != nil && *a.PredictedRank > 0 {
			labelled = append(labelled, a)
			predicted = append(predicted, float64(*a.PredictedRank))
			accuracy = append(accuracy, -d.better(*a.Accuracy))
		}
	}
	if len(labelled) >= 3 {
		x, y := stat.Ranks(predicted), stat.Ranks(accuracy)
		s := series{kind: dots, color: 0}
		for i, a := range labelled {
			title := fmt.Sprintf("%s\npredicted rank %s, %s", a.Arch, grouped(*a.PredictedRank), d.value(*a.Accuracy))
			s.points = append(s.points, point{x: x[i], y: y[i], title: title})
		}
		by, title := "measured rank", "Predicted against measured rank"
		if d.predicted() {
			by, title = "rank by predicted score", "The comparator's rank against that of "+d.Result.Predictor
		}
		c := chart{x: "comparator's predicted rank", y: by, log: true, height: 340,
			series: []series{{kind: diagonal}, s}}
		out = append(out, chartView{
			Title: title,
			Note: fmt.Sprintf("tau-b %.3f over %d labelled architectures it has learned from", stat.KendallB(x, y),
				len(labelled)),
			Chart: c.svg(),
		})
	}
	if len(cost.points)+len(pareto.points) >= 3 {
		axis := cmp.Or(d.Result.ParetoCost, space.CostMAdds)
		c := chart{x: cmp.Or(costAxes[axis], axis), y: d.measure(), percent: !d.plain(),
			height: 340,
			series: []series{cost, pareto}}
		n, title := len(cost.points)+len(pareto.points), d.heading()+" against cost"
		note := "every labelled architecture"
		if n < labels {
			note = fmt.Sprintf("%d of %d labelled architectures: what the others cost is not known", n, labels)
		}
		out = append(out, chartView{Title: title, Note: note, Legend: c.legend(), Chart: c.svg()})
	}
	return out
}

// costAxes name what the front is of beside accuracy.
var costAxes = map[string]string{space.CostMAdds: "multiply-adds", space.CostParams: "parameters",
	space.CostLatency: "latency in ms"}

// cost is that of the front, as a number and in words.
func (d *Data) cost(a Architecture) (x float64, said string, known bool) {
	switch d.Result.ParetoCost {
	case space.CostParams:
		if a.Params == nil {
			return 0, "parameters not known", false
		}
		return float64(*a.Params), quantity(*a.Params) + " parameters", true
	case space.CostLatency:
		if a.LatencyMS == nil {
			return 0, "latency not known", false
		}
		return *a.LatencyMS, milliseconds(*a.LatencyMS), true
	}
	if name := cmp.Or(d.Result.ParetoCost, space.CostMAdds); name != space.CostMAdds {
		x, known = a.Metrics[name]
		return x, name + " " + number(x), known
	}
	if a.MAdds == nil {
		return 0, "multiply-adds not known", false
	}
	return float64(*a.MAdds), quantity(*a.MAdds) + " multiply-adds", true
}

func (d *Data) costs() (costs []tile, phases []phaseView) {
	sources := map[string]int{}
	name := func(f ledger.Facts) string { return f.Source + ": " + f.String() }
	for _, l := range d.Ledger {
		sources[name(l.Facts)]++
	}
	for _, l := range d.Ledger { // in the order of first use
		if n := sources[name(l.Facts)]; n > 0 {
			costs = append(costs, tile{"Labels", grouped(n), name(l.Facts)})
			sources[name(l.Facts)] = 0
		}
	}
	if n := d.Result.ImagesForward; n > 0 {
		costs = append(costs, tile{"Images forward", grouped(int(n)), "through networks with shared weights"})
	}
	if len(d.Events) > 0 {
		total := 0.0
		for _, e := range d.Events {
			total = max(total, e.Seconds)
		}
		costs = append(costs, tile{"Wall time", seconds(total), "with the parts before a resume"})
	}
	for _, e := range d.events(EventCost) {
		if bytes, ok := e.Values["peak_bytes"]; ok {
			costs = append(costs, tile{"Peak memory", fmt.Sprintf("%.0f MB", bytes/1e6), ""})
		}
		sum := 0.0
		var names []string
		for k, v := range e.Values {
			if name, ok := strings.CutPrefix(k, "seconds_"); ok {
				names = append(names, name)
				sum += v
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			if c := sign(e.Values["seconds_"+b] - e.Values["seconds_"+a]); c != 0 {
				return c
			}
			return strings.Compare(a, b)
		})
		for _, name := range names {
			s := e.Values["seconds_"+name]
			share := 0.0
			if sum > 0 {
				share = s / sum
			}
			phases = append(phases, phaseView{strings.ReplaceAll(name, "_", " "), seconds(s),
				fmt.Sprintf("%.0f %%", share*100), share * 100})
		}
	}
	return costs, phases
}

func milliseconds(ms float64) string { return strconv.FormatFloat(ms, 'f', 2, 64) + " ms" }

// unsaid stands where there is nothing to say; unknown where there is something that nobody knows.
const (
	unsaid  = "–"
	unknown = "unknown"
)

// known is a quantity, or the word for none.
func known(n *int64) string {
	if n == nil {
		return unknown
	}
	return quantity(*n)
}

// score is a predicted score as a plain number, so that it does not read like an accuracy.
func score(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }

func percent(fraction float64) string { return fmt.Sprintf("%.2f %%", fraction*100) }

func seconds(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	case s < 120:
		return fmt.Sprintf("%.1f s", s)
	case s < 7200:
		return fmt.Sprintf("%.1f min", s/60)
	}
	return fmt.Sprintf("%.1f h", s/3600)
}

// quantity prints multiply-adds and parameters: 9.98 M, 2.81 G.
func quantity(n int64) string {
	switch v := float64(n); {
	case v >= 1e9:
		return fmt.Sprintf("%.2f G", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	}
	return strconv.FormatInt(n, 10)
}

// grouped prints a count with its thousands apart: 423,624.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
