package catalogue

import "github.com/ctnas/ctnas/search/labels"

// OfLabels takes the architectures that may be labelled; nil where they were not listed.
func OfLabels(l *labels.Labels) *Catalogue {
	switch v := l.View(); {
	case v != nil:
		return Of(v)
	case l.Listed == nil:
		return nil
	}
	return New(l.Space, NewList(l.Listed), nil)
}
