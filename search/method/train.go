package method

import (
	"context"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Train trains a network on labelled architectures. The released network with its own loss is trained by the released
// code's schedule: a thousand epochs of shuffled batches, which at 423 labels are the preset's 2,000 updates.
func Train(ctx context.Context, device exec.Config, c gcn.Config, sp space.Space, labels []ledger.Label,
	seed uint64) (*gcn.Comparator, error) {
	archs, values := make([]space.Arch, len(labels)), ledger.Scores(labels)
	for i, l := range labels {
		archs[i] = l.Arch
	}
	data := catalogue.Describe(sp, c.Network, archs, values)
	if c.Loss != gcn.Comparison || !c.Pair || c.Pad == 0 {
		return gcn.Train(ctx, device, c, data, seed, nil)
	}
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	r, err := gcn.NewReleased(dev, c, data, seed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for range max(1, c.Steps/2) {
		if _, err := r.Epoch(nil, nil); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return r.Comparator()
}
