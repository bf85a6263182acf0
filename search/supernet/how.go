package supernet

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// How is how a space's supernet is trained: which paths there are, and who draws them.
type How struct {
	Paths   trainer.Paths
	Sampler trainer.Sampler // nil where the method draws by itself
	close   func()
}

// NewHow is that of a recipe on images. A sampler that is given takes the place of the method's own. A controller
// computes on the device.
func NewHow(sp space.Space, r trainer.SupernetRecipe, d *data.Dataset, seed uint64, device exec.Config,
	given trainer.Sampler) (h How, err error) {
	h.close = func() {}
	if !r.Sampled() {
		elastic, ok := sp.(space.Elastic)
		if _, sized := sp.(space.Resizing); !ok || !sized {
			return h, ErrNotElastic(sp)
		}
		h.Paths = Training(elastic)
		return h, nil
	}
	sharing, ok := sp.(space.Sharing)
	if !ok {
		return h, fmt.Errorf("there is no supernet of %s", sp.Name())
	}
	h.Paths = SinglePaths(sharing, space.NetworkSize{Side: r.Side(d), Channels: r.Channels, Stacks: r.Stacks,
		Modules: r.Modules})
	switch h.Sampler = given; {
	case given != nil:
	case r.Method == trainer.MethodENAS:
		c := PolicyConfig(r.Epochs)
		c.Seed = seed
		p, err := NewPolicy(device, sp, c)
		if err != nil {
			return h, err
		}
		h.Sampler, h.close = p, p.Close
	default:
		h.Sampler, err = NewSampler(sp, r.Method, seed)
	}
	return h, err
}

// Close frees what a controller holds.
func (h How) Close() { h.close() }
