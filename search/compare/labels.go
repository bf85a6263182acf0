package compare

import (
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
)

// FieldOf is where methods are compared on labels.
func FieldOf(l *labels.Labels) (Field, error) {
	if v := l.View(); v != nil {
		return OnTable(v.Table(), v.Query())
	}
	source := func() (ledger.Source, error) {
		if r, remembers := l.Source.(ledger.Renewable); remembers {
			return r.Fresh(), nil
		}
		return l.Source, nil
	}
	return Field{Space: l.Space, Pool: catalogue.OfLabels(l), Source: source,
		Identity: l.Checksum + " " + l.Source.Describe()}, nil
}
