// Package predictor gives labels without training: once-for-all's accuracy predictor for its MobileNetV3 space.
package predictor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// The network of mit-han-lab/once-for-all (ofa/nas/accuracy_predictor): inputs are kernels and expansions of 20 slots and the resolution, each
// one-hot, zeros for an absent block; three hidden layers with ReLU; one output, the accuracy.
const (
	slots        = 20
	kinds        = 3
	resolutions  = 8
	lowest, step = 112, 16
	inputs       = 2*slots*kinds + resolutions
	hidden       = 400
)

var layers = [...]struct{ in, out int }{{inputs, hidden}, {hidden, hidden}, {hidden, hidden}, {hidden, 1}}

// Predictor is a source of labels. It may be asked by several goroutines.
type Predictor struct {
	name     string
	checksum string
	weight   [len(layers)][]float64 // out x in
	bias     [len(layers)][]float64
}

var _ ledger.Source = (*Predictor)(nil)

// Open reads a predictor's weights: for each layer its weights, a row an output, then its biases, all little-endian float32 and nothing else.
func Open(path string) (*Predictor, error) {
	want := int64(0)
	for _, l := range layers {
		want += 4 * int64(l.in*l.out+l.out)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() != want {
		return nil, fmt.Errorf("%s has %d bytes: the accuracy predictor's float32 numbers (%d-%d-%d-%d-1) have %d", path, info.Size(), inputs, hidden, hidden, hidden, want)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != want {
		return nil, fmt.Errorf("%s has changed while it was read", path)
	}
	sum := sha256.Sum256(data)
	p := &Predictor{name: filepath.Base(path), checksum: hex.EncodeToString(sum[:])}
	at := 0
	take := func(n int) ([]float64, error) {
		out := make([]float64, n)
		for i := range out {
			v := float64(math.Float32frombits(binary.LittleEndian.Uint32(data[at:])))
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("%s: the number at offset %d is %v", path, at, v)
			}
			out[i] = v
			at += 4
		}
		return out, nil
	}
	for i, l := range layers {
		if p.weight[i], err = take(l.in * l.out); err != nil {
			return nil, err
		}
		if p.bias[i], err = take(l.out); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Checksum is the SHA-256 of the file.
func (p *Predictor) Checksum() string { return p.checksum }

// Has tells whether an architecture is a MobileNetV3 network of a resolution that the predictor knows: 112, 128, ... 224. It does not look at the width.
func (p *Predictor) Has(a space.Arch) bool {
	m, ok := a.(space.MobileNet)
	return ok && m.Resolution() >= lowest && m.Resolution() < lowest+resolutions*step && (m.Resolution()-lowest)%step == 0
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

// ones lists which inputs are 1.
func ones(m space.MobileNet) []int {
	var on []int
	for part, values := range [][]int{m.Kernels(), m.Expansions()} {
		for slot, v := range values {
			if v == 0 {
				continue
			}
			kind := slices.Index([][]int{{3, 5, 7}, {3, 4, 6}}[part], v)
			on = append(on, part*slots*kinds+slot*kinds+kind)
		}
	}
	return append(on, 2*slots*kinds+(m.Resolution()-lowest)/step)
}

func (p *Predictor) predict(m space.MobileNet) float64 {
	x := make([]float64, hidden)
	on := ones(m)
	for o := range x {
		x[o] = p.bias[0][o]
		for _, i := range on {
			x[o] += p.weight[0][o*inputs+i]
		}
		x[o] = max(x[o], 0)
	}
	for k := 1; k < len(layers); k++ {
		y := make([]float64, layers[k].out)
		for o := range y {
			y[o] = p.bias[k][o]
			for i, v := range x {
				y[o] += p.weight[k][o*layers[k].in+i] * v
			}
			if k < len(layers)-1 {
				y[o] = max(y[o], 0)
			}
		}
		x = y
	}
	return x[0]
}

// Facts say that labels are predictions.
func (p *Predictor) Facts() ledger.Facts {
	return ledger.Facts{Source: "predictor", Metric: "predicted accuracy"}
}

// Describe quotes the file.
func (p *Predictor) Describe() string {
	return "chosen and judged on the accuracy that " + p.name + " predicts; no network is trained"
}
