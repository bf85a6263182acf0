package predictor

import (
	"context"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
)

// prefix marks an accuracy predictor among the sources of labels.
const prefix = "predictor:"

func init() {
	labels.Register(labels.Kind{Prefix: prefix, Usage: prefix + "FILE", Open: openLabels, Absolute: absolute})
}

// openLabels opens the predictor of a text for the one space whose networks it knows.
func openLabels(_ context.Context, text string, sp space.Space, _ labels.Options) (*labels.Labels, error) {
	if m, ok := sp.(space.MobileNetV3); !ok || !m.Published() {
		return nil, labels.Errorf(text, "the accuracy predictor knows networks of --space mobilenetv3 and "+
			"mobilenetv3@w1.2 only, not of %s", sp.Name())
	}
	p, err := Open(strings.TrimPrefix(text, prefix))
	if err != nil {
		return nil, err
	}
	return labels.New(sp, p, p.Checksum(), nil), nil
}

func absolute(text string) (string, error) {
	whole, err := files.Absolute(strings.TrimPrefix(text, prefix))
	return prefix + whole, err
}
