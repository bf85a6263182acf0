package compare

import (
	"errors"

	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/table"
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

// JudgedBy is the same field, where a table judges what is picked by other labels. No search sees its accuracies. Where
// nobody has listed the space, the architectures of the table are what may be proposed.
func (f Field) JudgedBy(v *table.View) (Field, error) {
	if f.all != nil {
		return f, errors.New("labels of a table have a judge already")
	}
	all, err := v.Table().View(v.Query())
	if err != nil {
		return f, err
	}
	all.Unseal()
	f.all, f.Identity = all, f.Identity+" judged by "+v.Table().Checksum()+" "+v.Describe()
	if f.Pool == nil {
		f.Pool = catalogue.Of(all)
	}
	return f, nil
}
