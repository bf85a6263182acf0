// Package report shows what a search did: drawings of architectures, the events of a run (log.jsonl and TensorBoard),
// and report.html, one self-contained page.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// Result is result.json: what a search found. It holds nothing that differs between two identical runs: no times,
// paths, threads or versions.
type Result struct {
	Space      string `json:"space"`
	Method     string `json:"method,omitempty"`
	LabelsUsed int    `json:"labels_used"`
	Queries    *int   `json:"queries"` // the same; null of a method that asks for no labels
	// Of a run that was given more: all that it had, the last one last.
	Budgets []int  `json:"budgets,omitempty"`
	Seed    uint64 `json:"seed"`
	Device  string `json:"device"` // cpu or cuda: the executor, not the machine
	// Where accuracies come from and which one chose and judged, in words.
	Labels string `json:"labels"`
	// Best first; the labelled ones and those the comparator ranks best.
	Architectures []Architecture `json:"architectures"`
	// Ranked is how many architectures true ranks are among, those that a table has; 0: there are none.
	// PredictedAmong is the same of predicted ranks.
	Ranked         int `json:"ranked,omitempty"`
	PredictedAmong int `json:"predicted_among,omitempty"`
	// Predictor is what labels are predicted by; empty where they are accuracies that were measured.
	Predictor string `json:"predictor,omitempty"`
	// Metric is what labels measure where that is no accuracy; nil of accuracies.
	Metric *ledger.Metric `json:"metric,omitempty"`
	// Network is what madds and params are of where labels are of other networks than the space's own; nil: those of
	// the space.
	Network *space.NetworkSize `json:"network,omitempty"`
	Pick    string             `json:"pick"`   // the best label of the ledger, or by shared weights
	Pareto  []string           `json:"pareto"` // not beaten in both accuracy and cost, the cheapest first
	// ParetoCost is which cost: madds, params or latency; empty in results of older programs: madds.
	ParetoCost string `json:"pareto_cost"`
	// Suggestions are unlabelled architectures that are worth a label next; absent where none were looked for.
	Suggestions []Suggestion `json:"suggestions,omitempty"`
	// Shared says how well the shared weights rank that a method picked by which asks for no labels; nil of the others.
	Shared *Shared `json:"shared_weights,omitempty"`
	// ImagesForward is how many images labels that were evaluated took, through networks of shared weights; absent
	// where labels came otherwise.
	ImagesForward int64 `json:"images_forward,omitempty"`
	// Corrupt are the images that trainings for labels could not read and left out, of the training that left out
	// most; absent without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
}

// Suggestion is an architecture without a label that is worth one.
type Suggestion struct {
	Arch string `json:"arch"`
	Hash string `json:"hash"`
	// Probability of being at least as good as the best label, as the comparator has it; null where it has learned from
	// nothing.
	Probability   *float64 `json:"probability"`
	PredictedRank *int     `json:"predicted_rank"` // 1 = best of those that were ranked; null: not ranked
	Reason        string   `json:"reason"`
	Proposer      string   `json:"proposer"` // as in the ledger: random, space, mutation, explore, …
}

// Shared is how well shared weights rank architectures whose accuracies a table knows; null where none does. Tau-b of
// the parameter count stands beside: shared weights that rank worse have learned nothing of use.
type Shared struct {
	What       string   `json:"what"`     // what the accuracies are that picked, in words
	Measured   int      `json:"measured"` // architectures that were measured
	TauB       *float64 `json:"tau_b"`    // of an unselected sample of the whole space
	TauBParams *float64 `json:"tau_b_params"`
	Over       int      `json:"tau_b_over"` // how many of the sample the table has
	// The same over the pool that the supernet itself selected, as the source of the paper's rows has it.
	PoolTauB *float64 `json:"pool_tau_b,omitempty"`
	PoolOver int      `json:"pool_tau_b_over,omitempty"`
	// Drawn is how many architectures the weights of a mixture drew, the most frequent of which is the pick, and
	// Outside how many of these are outside of the space; absent where nothing was drawn so.
	Drawn   int  `json:"drawn,omitempty"`
	Outside *int `json:"drawn_outside,omitempty"`
}

// Architecture is one that a search labelled or ranked.
type Architecture struct {
	Arch           string   `json:"arch"`
	Hash           string   `json:"hash"`
	PredictedRank  *int     `json:"predicted_rank"`      // by the comparator at the end, 1 = best; null: not ranked
	Accuracy       *float64 `json:"accuracy"`            // 0..1, what the search saw; null without a label
	Value          *float64 `json:"value,omitempty"`     // in its place, where labels are of another metric
	AccuracySource string   `json:"accuracy_source"`     // e.g. "test accuracy, run 1", "predicted score of NAME"
	Predicted      bool     `json:"predicted,omitempty"` // accuracy is a predictor's score: nobody has measured it
	Note           string   `json:"note,omitempty"`      // e.g. "stopped after 5 epochs"
	Judged         *float64 `json:"judged_accuracy,omitempty"`
	Rank           int      `json:"rank,omitempty"` // 1 + number of better ones in the table, where there is one
	MAdds          *int64   `json:"madds"`          // of the network that the label is of; null where nobody says it
	Params         *int64   `json:"params"`         // likewise
	// Of the space's own network, where that is another one.
	SpaceMAdds  *int64   `json:"space_madds,omitempty"`
	SpaceParams *int64   `json:"space_params,omitempty"`
	LatencyMS   *float64 `json:"latency_ms"` // the sum of its parts in the run's latency table; null without one
	// What else was measured with the label, by name; absent where nothing was.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Outside bool               `json:"outside_of_bounds,omitempty"` // of what may be measured with a label
}

// Describe is an architecture with what it costs: what limits look at.
func Describe(a space.Arch, l space.Limits) Architecture {
	cost, own := l.Cost(a), a.Cost()
	x := Architecture{Arch: a.String(), Hash: a.Hash(), MAdds: space.Known(cost.MAdds),
		Params: space.Known(cost.Params), LatencyMS: l.Times.Milliseconds(a)}
	if cost != own {
		x.SpaceMAdds, x.SpaceParams = space.Known(own.MAdds), space.Known(own.Params)
	}
	return x
}

// Label enters what was bought.
func (x *Architecture) Label(l ledger.Label, f ledger.Facts) {
	x.AccuracySource, x.Predicted, x.Note = f.String(), f.Predicted(), l.Note.String()
	x.Metrics, x.Outside = l.Note.Metrics, !l.Fits()
	if f.Direction != "" {
		x.Value = &l.Value
	} else {
		x.Accuracy = &l.Value
	}
}

// Describe enters what the labels are that were used, and what costs are of.
func (r *Result) Describe(s ledger.Source) {
	r.Labels, r.Predictor = s.Describe(), s.Facts().Predictor
	if other := s.Facts().Other(); !other.IsZero() {
		r.Metric = &other
	}
	if sized, ok := s.(ledger.Sized); ok {
		size := sized.NetworkSize()
		r.Network = &size
	}
	if s, ok := s.(interface{ Forward() int }); ok {
		r.ImagesForward = int64(s.Forward()) * int64(r.LabelsUsed)
	}
	if s, ok := s.(interface{ Corrupt() *data.CorruptImages }); ok {
		r.Corrupt = s.Corrupt()
	}
}

// Label is what the page needs of a line of ledger.jsonl.
type Label struct {
	Arch     string  `json:"arch"`
	Accuracy float64 `json:"accuracy"`
	Value    float64 `json:"value"` // of another metric, in the place of accuracy
	Round    int     `json:"round"`
	Proposer string  `json:"proposer"` // who asked for it: random, controller, space, …
	ledger.Facts
	ledger.Note
}

// Setting is a key of config.yaml with its value.
type Setting struct{ Key, Value string }

// Data is a run folder as the page shows it.
type Data struct {
	Name    string // of the folder
	Result  Result
	Ledger  []Label
	Events  []Event // by name and step
	Config  []Setting
	Run     []Setting // the block run: of config.yaml, but for the command
	Command string    // run.command: the line that started the search

	Retrained *Retrained // nil: the pick has not been trained anew
	Space     []byte     // the file that describes the space; nil where the space is built in
	Supernet  bool       // there is a page of the supernet that the search trained
	Spoiled   []string   // files and lines that could not be read, and why: the page goes without them and says so
}

// Names of a run folder's files.
const (
	ResultName = "result.json"
	LedgerName = "ledger.jsonl"
	ConfigName = "config.yaml"
	PageName   = "report.html"
	SpaceName  = "space.yaml" // of a space that a file describes: a copy

	LatencyName = "latency.csv" // of --latency: a copy

	SupernetName = "supernet" // the folder of the supernet that a search trained
)

// maxBytes bounds what is read of a file of a run folder; the largest is result.json, with some 400 bytes an
// architecture.
const maxBytes = 1 << 28

// Load reads a run folder. result.json must be there and whole; of the other files what cannot be read is told, and
// the page says less.
func Load(dir string) (*Data, error) {
	abs, err := files.Absolute(dir)
	if err != nil {
		return nil, err
	}
	d := &Data{Name: filepath.Base(abs)}
	path := filepath.Join(dir, ResultName)
	text, err := files.Read(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unfinished(dir)
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &d.Result); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if d.Result.Metric != nil { // where the page looks
		for i := range d.Result.Architectures {
			d.Result.Architectures[i].Accuracy = d.Result.Architectures[i].Value
		}
	}
	if d.Space, err = files.Read(filepath.Join(dir, SpaceName), maxBytes); !errors.Is(err, fs.ErrNotExist) {
		d.spoiled(err)
	}
	d.readLedger(filepath.Join(dir, LedgerName))
	if d.Result.Predictor == "" && len(d.Ledger) > 0 && d.Ledger[0].Source == "predictor" { // of an older program
		d.Result.Predictor = "an accuracy predictor"
	}
	log, lines, err := events.Read(dir)
	d.Events, d.Spoiled = log, append(d.Spoiled, lines...)
	d.spoiled(err)
	d.Retrained, err = readRetrained(dir)
	d.spoiled(err)
	d.spoiled(d.readConfig(filepath.Join(dir, ConfigName)))
	_, err = os.Stat(filepath.Join(dir, SupernetName, PageName))
	d.Supernet = err == nil
	for i, s := range d.Spoiled { // the page says the same wherever the folder lies
		d.Spoiled[i] = strings.ReplaceAll(s, filepath.Clean(dir)+string(filepath.Separator), "")
	}
	return d, nil
}

// unfinished says why a folder without a result has no page.
func unfinished(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, ConfigName)); err == nil {
		return fmt.Errorf("the search in %s has not ended: it has no %s; go on with ctnas search --resume %s", dir,
			ResultName, dir)
	}
	return fmt.Errorf("%s is not the folder of a finished search: it has no %s", dir, ResultName)
}

// spoiled notes what could not be read.
func (d *Data) spoiled(err error) {
	if err != nil {
		d.Spoiled = append(d.Spoiled, err.Error())
	}
}

// readLedger takes the lines that are labels.
func (d *Data) readLedger(path string) {
	file, err := files.Open(path)
	if err != nil {
		d.spoiled(err)
		return
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 1
	for ; lines.Scan(); n++ {
		var l Label
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			d.spoiled(fmt.Errorf("%s: line %d: %w", path, n, err))
			continue
		}
		if l.Direction != "" {
			l.Accuracy = l.Value
		}
		d.Ledger = append(d.Ledger, l)
	}
	if err := lines.Err(); err != nil {
		d.spoiled(fmt.Errorf("%s: line %d: %w", path, n, err))
	}
	if len(d.Ledger) != d.Result.LabelsUsed {
		d.spoiled(fmt.Errorf("%s: %d labels can be read, %s counts %d", path, len(d.Ledger), ResultName,
			d.Result.LabelsUsed))
	}
}

func (d *Data) readConfig(path string) error {
	text, err := files.ReadText(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err = setting.EachKey(text, func(key string, value *yaml.Node) error {
		if key == setting.RunKey {
			d.Run = settings("", value)
		} else {
			d.Config = append(d.Config, settings(key, value)...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if i := slices.IndexFunc(d.Run, func(s Setting) bool { return s.Key == "command" }); i >= 0 {
		d.Command = d.Run[i].Value
		d.Run = slices.Delete(d.Run, i, i+1)
	}
	return nil
}

// settings flattens a YAML value into lines: a map becomes one a key, a list one value.
func settings(key string, node *yaml.Node) (out []Setting) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(node.Content); i += 2 {
			name := node.Content[i].Value
			if key != "" {
				name = key + "." + name
			}
			out = append(out, settings(name, node.Content[i+1])...)
		}
		return out
	case yaml.SequenceNode:
		value := ""
		for i, item := range node.Content {
			if i > 0 {
				value += ", "
			}
			value += item.Value
		}
		return []Setting{{key, value}}
	}
	return []Setting{{key, node.Value}}
}

// Write puts report.html into the run folder, whole or not at all.
func (d *Data) Write(dir string) error {
	html, err := d.page()
	if err != nil {
		return err
	}
	return files.Write(filepath.Join(dir, PageName), html)
}
