package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/report"
)

// Document is what a comparison ended in: what `ctnas compare --json` prints, and comparison.json of its folder.
type Document struct {
	Space    string `json:"space"`
	Labels   string `json:"labels"`
	Accuracy string `json:"accuracy"`        // which one chooses and which one judges
	Judge    string `json:"judge,omitempty"` // the table that judges; absent where labels do
	// Predictor is what labels are predicted by: accuracies of methods are then its scores. Absent where accuracies
	// were measured.
	Predictor string   `json:"predictor,omitempty"`
	Budget    int      `json:"budget"`
	Seeds     []uint64 `json:"seeds"`
	Preset    string   `json:"preset"`
	Propose   string   `json:"propose"`
	Device    string   `json:"device"`
	ISA       string   `json:"isa"`
	Threads   int      `json:"threads"`
	Version   string   `json:"version"` // of the program
	// Architectures that are ranked; 0: none, nobody knows the accuracy of all.
	Total   int       `json:"total"`
	Optimum *float64  `json:"optimum"` // the best accuracy that judges any of them, 0..1; null where nobody knows it
	Methods []Summary `json:"methods"`
	Tests   []Test    `json:"tests,omitempty"` // of all methods against one of them
	// Missing is how many runs had not finished when the comparison was stopped.
	Missing   int        `json:"runs_missing,omitempty"`
	Ablations []Ablation `json:"ablations,omitempty"`
	PaperNote string     `json:"paper_note,omitempty"` // in the paper's space
	Paper     []PaperRow `json:"paper,omitempty"`
}

// What a comparison's folder holds beside its runs.
const (
	DocumentName = "comparison.json"
	CurvesName   = "curves.csv"
	PictureName  = "curves.svg"
	LaTeXName    = "table.tex"
	MarkdownName = "table.md"
)

// maxDocumentBytes bounds comparison.json; a run has some thousand bytes.
const maxDocumentBytes = 1 << 28

// Is tells whether a folder is that of a comparison that has ended or was stopped.
func Is(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, DocumentName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// stored is comparison.json: the command stands beside, for the page.
type stored struct {
	Command string `json:"command"`
	Document
}

// Load reads comparison.json of a folder, and the command that made it.
func Load(dir string) (d Document, command string, err error) {
	path := filepath.Join(dir, DocumentName)
	text, err := files.Read(path, maxDocumentBytes)
	if err != nil {
		return d, "", err
	}
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return d, "", fmt.Errorf("%s is damaged (%w): the command that made it writes it anew from the runs beside it",
			path, err)
	}
	if len(s.Methods) == 0 || len(s.Seeds) == 0 {
		return d, "", fmt.Errorf("%s: there are no methods or no seeds in it", path)
	}
	return s.Document, s.Command, nil
}

// Write puts the document, its page, curves and tables into a folder. What a paper takes is written in its own formats:
// curves.csv and curves.svg, table.tex and table.md.
func (d Document) Write(dir, command string) error {
	text, err := json.MarshalIndent(stored{command, d}, "", "  ")
	if err != nil {
		return err
	}
	if err := files.Write(filepath.Join(dir, DocumentName), append(text, '\n')); err != nil {
		return err
	}
	page := d.page(command)
	if err := page.Write(dir); err != nil {
		return err
	}
	curves := Curves(d.Methods, d.Optimum)
	for _, x := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{CurvesName, func(w io.Writer) error { return WriteCurves(w, curves) }},
		{PictureName, page.WriteCurves},
		{LaTeXName, func(w io.Writer) error { return WriteLaTeX(w, d) }},
		{MarkdownName, func(w io.Writer) error {
			if _, err := fmt.Fprintf(w, "%s: %s\n\n", d.Title(), d.Accuracy); err != nil {
				return err
			}
			return WriteSummaries(w, FormatMarkdown, d.Methods, d.Predictor, d.Paper, d.Tests)
		}},
	} {
		var b bytes.Buffer
		if err := x.write(&b); err != nil {
			return err
		}
		if err := files.Write(filepath.Join(dir, x.name), b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// Title names a comparison in a line, and says where it is not whole.
func (d Document) Title() string {
	title := fmt.Sprintf("%s, %d labels, seeds %d..%d", d.Space, d.Budget, d.Seeds[0], d.Seeds[len(d.Seeds)-1])
	if d.Missing > 0 {
		title += fmt.Sprintf(", stopped before %d of its runs", d.Missing)
	}
	return title
}

const pageNote = "± are standard deviations over the seeds. A method without labels has a dash for them: it picks " +
	"by the weights of a supernet. Its tau-b is over a sample of the whole space; where that of the parameter count " +
	"is no lower, the supernet has learned nothing of use."

// page shows the comparison. Runs without labels have folders of their own beside it.
func (d Document) page(command string) *report.Comparison {
	page := &report.Comparison{Title: d.Title(), What: "Methods", Space: d.Space, Labels: d.Accuracy, Command: command,
		Repeats: true, Note: pageNote, Over: "mean over the seeds, with its 95 % interval",
		Table: methodGrid(d.Methods, d.Predictor, d.Tests), Predicted: d.Predictor != ""}
	if telling(d.Tests) {
		page.Note += " " + TestNote
	}
	if len(d.Paper) > 0 {
		page.PaperNote, page.Paper = PaperNote, paperGrid(d.Paper)
	}
	for row, s := range d.Methods {
		for _, r := range s.Runs {
			p := report.ComparedPick{Method: s.Method, Row: row + 1, Seed: r.Seed, Arch: r.Arch,
				Accuracy: float64(r.Accuracy), Rank: r.Rank}
			if r.Queries == nil {
				p.Folder = cellName(s.Method, r.Seed)
			}
			page.Picks = append(page.Picks, p)
		}
	}
	for _, c := range Curves(d.Methods, d.Optimum) {
		line := report.ComparedCurve{Method: c.Method}
		for _, p := range c.Points {
			line.Labels = append(line.Labels, p.Labels)
			line.Accuracy = append(line.Accuracy, band(p.Accuracy))
			line.Regret = append(line.Regret, band(p.Regret))
			line.Rank = append(line.Rank, band(p.Rank))
		}
		page.Curves = append(page.Curves, line)
	}
	return page
}

// band is an interval for a picture: of one seed it has no width.
func band(i *Interval) report.Band {
	if i == nil {
		return report.NoBand()
	}
	b := report.Band{Mean: float64(i.Mean), Low: float64(i.Low), High: float64(i.High)}
	if !i.Low.Known() {
		b.Low, b.High = b.Mean, b.Mean
	}
	return b
}
