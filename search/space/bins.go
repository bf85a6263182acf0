package space

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Ranged is a space that draws within a range of multiply-adds without drawing in vain.
type Ranged interface {
	Space
	// SampleWithin returns a Sample that is uniform over the architectures whose networks of a size take low to high
	// multiply-adds, both included; an error where there are none.
	SampleWithin(low, high int64, size NetworkSize) (func(s *philox.Stream) Arch, error)
}

// Bins are how the authors of SPOS train their supernet (Guo et al. 2020; megvii-model/SinglePathOneShot, Supernet/
// train.py): a range of multiply-adds is cut into pieces of one width, of which each is drawn as often as any other,
// and architectures are uniform within one. Drawn uniformly, nearly all would be of middling cost.
type Bins struct{ Low, High, Width int64 }

// Sampler returns a draw of architectures of a space, whose costs are those of networks of a size; an error where the
// bins do not divide their range, or one of them is empty.
func (b Bins) Sampler(sp Space, size NetworkSize) (func(s *philox.Stream) Arch, error) {
	ranged, ok := sp.(Ranged)
	if !ok {
		return nil, fmt.Errorf("%s cannot draw within ranges of multiply-adds: only chains of blocks can", sp.Name())
	}
	const most = 10000
	if b.Low < 0 || b.Width < 1 || b.High <= b.Low || (b.High-b.Low)%b.Width != 0 || (b.High-b.Low)/b.Width > most {
		return nil, fmt.Errorf("bins of %d multiply-adds from %d to %d: want 1 to %d whole ones", b.Width, b.Low,
			b.High, most)
	}
	var draws []func(s *philox.Stream) Arch
	for low := b.Low; low < b.High; low += b.Width {
		draw, err := ranged.SampleWithin(low, low+b.Width, size)
		if err != nil {
			return nil, err
		}
		draws = append(draws, draw)
	}
	return func(s *philox.Stream) Arch { return draws[s.Intn(len(draws))](s) }, nil
}
