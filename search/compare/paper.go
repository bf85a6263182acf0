package compare

import "github.com/ctnas/ctnas/search"

// Methods lists the methods of the paper's table, in its order.
func Methods() []string {
	return []string{"random", "regression", "renas", "evolution", search.MethodName}
}

// Ablations are the variants that the paper compares: CTNAS as it is, with the predicted performance itself as reward,
// with the first baseline kept, and without data exploration.
func Ablations(c search.Config) []Variant {
	absolute, fixed, blind := c, c, c
	absolute.Reward = search.RewardAbsolute
	fixed.Baseline = search.BaselineFixed
	blind.Explore = false
	return []Variant{
		{Name: search.MethodName, Config: c}, {Name: "absolute reward", Config: absolute},
		{Name: "fixed baseline", Config: fixed}, {Name: "no exploration", Config: blind},
	}
}

// PaperRow is a line of the paper's comparison on NAS-Bench-101 (CTNAS, CVPR 2021, table 1): accuracies are 0..1, ranks
// are by the mean test accuracy of the three runs of each architecture, in per cent of all.
type PaperRow struct {
	Name         string   `json:"name"`
	Method       string   `json:"-"` // ours of the same kind, empty where there is none
	TauB         *float64 `json:"tau"`
	AccuracyMean float64  `json:"accuracy_mean"`
	AccuracySD   float64  `json:"accuracy_sd"`
	AccuracyBest float64  `json:"accuracy_best"`
	RankPercent  float64  `json:"rank_percent_best"`
	Queries      int      `json:"queries,omitempty"` // 0: weight-sharing methods, which ask for no labels
}

// PaperNote says what the paper's numbers are, beside ours.
const PaperNote = "The paper's numbers (CTNAS, CVPR 2021, table 1), which are other measurements: accuracies are " +
	"means of three runs of each architecture, by which it is " +
	"ranked; Kendall's tau is over 100 architectures."

// Paper is the table of the paper, in its order.
func Paper() []PaperRow {
	tau := func(v float64) *float64 { return &v }
	return []PaperRow{
		{"Random", "random", nil, 0.8931, 0.0392, 0.9346, 1.29, 423},
		{"DARTS", "darts", nil, 0.9221, 0.0061, 0.9302, 13.47, 0},
		{"ENAS", "enas", nil, 0.9183, 0.0042, 0.9254, 22.88, 0},
		{"FBNet", "fbnet", nil, 0.9229, 0.0125, 0.9398, 0.05, 0},
		{"SPOS", "spos", tau(0.195), 0.8985, 0.0380, 0.9384, 0.07, 0},
		{"FairNAS", "fairnas", tau(-0.232), 0.9110, 0.0184, 0.9355, 0.77, 0},
		{"ReNAS", "renas", tau(0.634), 0.9390, 0.0021, 0.9411, 0.04, 423},
		{"RegressionNAS", "regression", tau(0.430), 0.8951, 0.0494, 0.9365, 0.40, 423},
		{"CTNAS", "ctnas", tau(0.751), 0.9392, 0.0018, 0.9422, 0.01, 423},
	}
}

// paperOf is the paper's row of one of our methods; nil without one.
func paperOf(method string) *PaperRow {
	for _, row := range Paper() {
		if row.Method != "" && row.Method == method {
			return &row
		}
	}
	return nil
}
