package supernet

import (
	"context"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Standing is an architecture with what the supernet and a table say of it.
type Standing struct {
	Arch     string  `json:"arch"`
	Supernet float64 `json:"supernet_accuracy"` // with shared weights
	Table    float64 `json:"table_accuracy"`
	Params   *int64  `json:"params"` // null where nobody says it
	MAdds    *int64  `json:"madds"`
}

// Agreement says how well a supernet orders the architectures of a table. The orders by parameters and by multiply-adds
// stand beside it: a supernet that does not beat them has learned nothing of use.
type Agreement struct {
	TauB       stat.Number `json:"tau_b"` // Kendall's, of the supernet's accuracy with the table's; null: unknown
	TauBParams stat.Number `json:"tau_b_params"`
	TauBMAdds  stat.Number `json:"tau_b_madds"`
	// Worse says that the order by parameters is the better one; null where one of the two is unknown.
	Worse          *bool      `json:"worse_than_parameters"`
	MeanDifference float64    `json:"mean_absolute_difference"` // of accuracies, 0..1
	Bias           float64    `json:"mean_difference"`          // supernet's less table's
	Architectures  []Standing `json:"architectures"`
}

// Rank measures up to n architectures of a table, drawn at random, and compares them with the accuracy that judges
// there, which is unsealed. 0 takes all. tell is as Evaluate's.
func (e *Evaluator) Rank(ctx context.Context, v *table.View, n int, seed uint64, tell func(archs []space.Arch,
	t Told)) (*Agreement, error) {
	source := ledger.FromTable(v)
	source.Unseal()
	if n == 0 {
		n = source.Len()
	}
	archs := ledger.Draw(source, n, philox.New(seed, philox.PurposeSample, 0),
		func(a space.Arch) bool { return e.Has(a) == nil })
	if len(archs) < 2 {
		return nil, fmt.Errorf("%s has %d architectures of the supernet %s, want 2 or more", v.Table().Path(),
			len(archs), e.Path)
	}
	measured, err := e.Evaluate(ctx, archs, func(t Told) { tell(archs, t) })
	if err != nil {
		return nil, err
	}
	counted := ledger.Counted(space.Limits{}, source) // the networks whose accuracies the table has
	g := &Agreement{}
	var ours, theirs, params, madds []float64
	for i, a := range archs {
		accuracy, _, err := source.Judge(a)
		if err != nil {
			return nil, err
		}
		cost := counted.Cost(a)
		g.Architectures = append(g.Architectures, Standing{a.String(), measured[i].Top1, accuracy,
			space.Known(cost.Params), space.Known(cost.MAdds)})
		ours, theirs = append(ours, measured[i].Top1), append(theirs, accuracy)
		params, madds = append(params, float64(cost.Params)), append(madds, float64(cost.MAdds))
		g.Bias += (measured[i].Top1 - accuracy) / float64(len(archs))
		g.MeanDifference += math.Abs(measured[i].Top1-accuracy) / float64(len(archs))
	}
	tau := func(x []float64) stat.Number { return stat.Number(stat.KendallB(x, theirs)) }
	g.TauB, g.TauBParams, g.TauBMAdds = tau(ours), tau(params), tau(madds)
	if g.TauB.Known() && g.TauBParams.Known() {
		worse := g.TauB < g.TauBParams
		g.Worse = &worse
	}
	return g, nil
}
