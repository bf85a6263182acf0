// Package predictor gives labels without training: once-for-all's accuracy predictor for its MobileNetV3 space.
package predictor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Inputs of the networks of mit-han-lab/once-for-all are kernels, expansions and the resolution, each one-hot, zeros
// for an absent block.
const (
	slots = 20 // blocks that there could be
	kinds = 3  // kernels, and expansions, of a block
)

// Predictor is a source of labels. It may be asked by several goroutines.
type Predictor struct {
	name     string
	checksum string
	network
}

var _ ledger.Source = (*Predictor)(nil)

// maxBytes bounds a predictor's file; the authors' has 1.5 million.
const maxBytes = 1 << 26

// Open reads a predictor in one of its forms (see network.go).
func Open(path string) (*Predictor, error) {
	data, err := files.Read(path, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("accuracy predictor: %w", err)
	}
	p := &Predictor{name: filepath.Base(path), checksum: digest.Of(data)}
	if p.network, err = decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Checksum is the SHA-256 of the file.
func (p *Predictor) Checksum() string { return p.checksum }

// Has tells whether an architecture is a MobileNetV3 network, of once-for-all's own, of a resolution that the predictor
// knows. It does not look at which of their widths it has.
func (p *Predictor) Has(a space.Arch) bool {
	m, ok := a.(space.MobileNet)
	return ok && m.Published() && slices.Contains(p.resolutions, m.Resolution())
}

// Label predicts accuracies.
func (p *Predictor) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	out := make([]float64, len(archs))
	for i, a := range archs {
		if !p.Has(a) {
			return nil, fmt.Errorf("accuracy of %v: %w", a, ledger.ErrNoLabel)
		}
		out[i] = min(max(p.predict(a.(space.MobileNet)), 0), 1)
	}
	return out, ctx.Err()
}

// Facts say that labels are predictions.
func (p *Predictor) Facts() ledger.Facts {
	return ledger.Facts{Source: "predictor", Metric: "predicted score", Predictor: p.name}
}

// Describe quotes the file.
func (p *Predictor) Describe() string {
	return "chosen and judged on the predicted score of " + p.name + "; no network is trained and no accuracy measured"
}
