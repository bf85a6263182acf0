package method

import (
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
)

// PoolOfLabels lists the architectures that may be labelled; nil where they were not listed.
func PoolOfLabels(l *labels.Labels) *Pool {
	switch v := l.View(); {
	case v != nil:
		return PoolOf(v)
	case l.Listed == nil:
		return nil
	}
	return NewPool(l.Space, search.NewList(l.Listed), nil)
}

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
	return Field{Space: l.Space, Pool: PoolOfLabels(l), Source: source,
		Identity: l.Checksum + " " + l.Source.Describe()}, nil
}
