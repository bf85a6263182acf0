package report

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// SideBySide sets searches of one space beside each other, each by the name of its folder. Curves are of what a search
// saw: what judges is known of its pick alone.
func SideBySide(list []*Data) (*Comparison, error) {
	if len(list) < 2 {
		return nil, errors.New("want two searches or more to set side by side")
	}
	c := &Comparison{Title: fmt.Sprintf("%d searches", len(list)), What: "Searches", Space: list[0].Result.Space,
		Predicted: list[0].predicted(), Over: "as the search saw it",
		Note: "Each row has the accuracy that its search saw of its pick, and the one that judges it where that is " +
			"another one. Which they are stands in its last column: what differs there is not to be compared.",
		Table: Grid{Head: []string{"search", "method", "seed", "labels", "saw", "judged", "rank", "accuracies"}}}
	names := map[string]bool{}
	for row, d := range list {
		switch r := d.Result; {
		case names[d.Name]:
			return nil, fmt.Errorf("two of the searches are named %s: name their folders differently", d.Name)
		case r.Space != c.Space:
			return nil, fmt.Errorf("%s is a search of %s, %s of %s: want one space", list[0].Name, c.Space, d.Name,
				r.Space)
		case r.Metric != nil:
			return nil, fmt.Errorf("the labels of %s are of %s: searches by accuracies are set side by side", d.Name,
				r.Metric.Name)
		case d.predicted() != c.Predicted:
			return nil, fmt.Errorf("of %s and %s the labels of one are predicted scores: they do not compare",
				list[0].Name, d.Name)
		}
		names[d.Name] = true
		c.add(row+1, d)
	}
	return c, nil
}

// add enters a search with its row of the table.
func (c *Comparison) add(row int, d *Data) {
	r := d.Result
	method := r.Method
	if method == "" {
		method = "ctnas" // of older programs, which named the others alone
	}
	pick := ComparedPick{Method: d.Name, Row: row, Seed: r.Seed, Arch: r.Pick, Accuracy: math.NaN()}
	saw, judged, rank := unknown, unknown, unknown
	i := slices.IndexFunc(r.Architectures, func(a Architecture) bool { return a.Arch == r.Pick })
	if i >= 0 {
		a := r.Architectures[i]
		if a.Accuracy != nil {
			saw, pick.Accuracy = d.value(*a.Accuracy), *a.Accuracy
		}
		if a.Judged != nil {
			judged, pick.Accuracy = d.value(*a.Judged), *a.Judged
		}
		if a.Rank > 0 {
			rank, pick.Rank = grouped(a.Rank), &a.Rank
		}
	}
	labels := unknown
	if r.Queries != nil {
		labels = strconv.Itoa(*r.Queries)
	}
	c.Table.Rows = append(c.Table.Rows, []string{d.Name, method, strconv.FormatUint(r.Seed, 10), labels, saw, judged,
		rank, r.Labels})
	c.Picks = append(c.Picks, pick)
	line := ComparedCurve{Method: d.Name}
	best := math.Inf(-1)
	for i, l := range d.Ledger {
		best = max(best, l.Accuracy)
		line.Labels = append(line.Labels, i+1)
		line.Accuracy = append(line.Accuracy, Band{best, best, best})
		line.Regret, line.Rank = append(line.Regret, NoBand()), append(line.Rank, NoBand())
	}
	c.Curves = append(c.Curves, line)
}
