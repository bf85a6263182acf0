package supernet

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// How is how a space's supernet is trained: which paths there are, and who draws them.
type How struct {
	Paths   trainer.Paths
	Sampler trainer.Sampler        // nil where the method draws by itself, or none
	Recipe  trainer.SupernetRecipe // with the side of the space's images, where it says one
	close   func()
}

// NewHow is that of a recipe on images. A sampler that is given takes the place of the method's own. A controller
// computes on the device.
func NewHow(sp space.Space, r trainer.SupernetRecipe, d *data.Dataset, seed uint64, device exec.Config,
	given trainer.Sampler) (h How, err error) {
	h.close = func() {}
	h.Recipe = r
	if !r.Sampled() && !r.Mixed() {
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
	if h.Recipe.Resolution, err = resolution(sp, r); err != nil {
		return h, err
	}
	size := space.NetworkSize{Side: h.Recipe.Side(d), Channels: r.Channels, Stacks: r.Stacks, Modules: r.Modules}
	h.Paths = SinglePaths(sharing, size)
	switch h.Sampler = given; {
	case given != nil:
	case r.Mixed():
		if _, ok := sp.(space.Mixed); !ok {
			return h, fmt.Errorf("no network mixes the choices of %s, which %s trains", sp.Name(), r.Method)
		}
	case r.Method == trainer.MethodENAS:
		c := PolicyConfig(r)
		c.Seed = seed
		p, err := NewPolicy(device, sp, c, r.ControllerEpochs())
		if err != nil {
			return h, err
		}
		h.Sampler, h.close = p, p.Close
	default:
		size.Classes = len(d.Classes)
		h.Sampler, err = NewSampler(sp, r, size, seed)
	}
	return h, err
}

// resolution is the side of a recipe's images in pixels, which is the space's where it says one; 0: the set's own.
func resolution(sp space.Space, r trainer.SupernetRecipe) (int, error) {
	sized, ok := sp.(space.Resizing)
	if !ok {
		return r.Resolution, nil
	}
	all := sized.Resolutions()
	if len(all) > 1 || r.Resolution > 0 && r.Resolution != all[0] {
		return 0, fmt.Errorf("resolution %d: paths of %s are trained at one resolution, and %s has %s", r.Resolution,
			r.Method, sp.Name(), strings.Trim(fmt.Sprint(all), "[]"))
	}
	return all[0], nil
}

// Close frees what a controller holds.
func (h How) Close() { h.close() }
