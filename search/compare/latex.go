package compare

import (
	"fmt"
	"io"
	"strings"
)

// TestNote says what the column of p holds.
const TestNote = "p: Wilcoxon's signed-rank test of the accuracies that judge, paired by seed, two-sided, with " +
	"Holm's correction for all methods."

// latexText escapes what LaTeX would take for its own.
var latexText = strings.NewReplacer(`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "%", `\%`, "&", `\&`, "#", `\#`,
	"$", `\$`, "_", `\_`, "~", `\textasciitilde{}`, "^", `\textasciicircum{}`, "±", `$\pm$`, "<", `$<$`, ">", `$>$`)

// WriteLaTeX writes the methods as a tabular of the package booktabs, with what they rest on in comments.
func WriteLaTeX(w io.Writer, d Document) error {
	grid := methodGrid(d.Methods, d.Predictor, d.Tests)
	var b strings.Builder
	comment := func(text string) { fmt.Fprintf(&b, "%% %s\n", strings.ReplaceAll(text, "\n", " ")) }
	comment(d.Title())
	comment(d.Accuracy)
	comment("ctnas " + d.Version + "; needs \\usepackage{booktabs}; ± are standard deviations over the seeds")
	if telling(d.Tests) {
		comment(TestNote)
	}
	fmt.Fprintf(&b, "\\begin{tabular}{l%s}\n\\toprule\n", strings.Repeat("r", len(grid.Head)-1))
	for i, row := range append([][]string{grid.Head}, grid.Rows...) {
		cells := make([]string, len(row))
		for k, text := range row {
			cells[k] = latexText.Replace(text)
		}
		fmt.Fprintf(&b, "%s \\\\\n", strings.Join(cells, " & "))
		if i == 0 {
			b.WriteString("\\midrule\n")
		}
	}
	b.WriteString("\\bottomrule\n\\end{tabular}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
