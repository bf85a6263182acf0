package space

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Find is the architecture that a text names: one of a space, behind the space's name and a colon, or a network of the
// zoo that is of a space.
func Find(text string) (Arch, error) {
	kind, _, ofSpace := strings.Cut(text, ":")
	if !ofSpace {
		if o, side, ok := zoo.SubNetwork(text); ok {
			return mobileNetOf(o, side)
		}
		return nil, fmt.Errorf("architecture %.200q: want one of a space, such as mobilenetv3:…, or a network of the "+
			"zoo that is of one, such as ofa_230m", text)
	}
	sp, err := Open(kind)
	if err != nil {
		return nil, fmt.Errorf("architecture %.200q: %w", text, err)
	}
	return sp.Parse(text)
}

// mobileNetOf is the architecture of a once-for-all network.
func mobileNetOf(o zoo.OnceForAll, side int) (Arch, error) {
	text := func(list []int) string {
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
	}
	return MobileNetV3{resolutions: []uint16{224}}.Parse(fmt.Sprintf("%s:%s:%s:%s@w%.1f,r%d", mobileName,
		text(o.Depths[:]), text(o.Kernels[:]), text(o.Ratios[:]), o.Width, side))
}

// Narrow is the name of the space of an architecture that leaves nothing open but what its own decisions are: of a
// MobileNet the one of its width, resolution and stride.
func Narrow(a Arch) string {
	text := a.String()
	kind, _, _ := strings.Cut(text, ":")
	if _, suffix, marked := strings.Cut(text, "@"); marked {
		return kind + "@" + suffix
	}
	return kind
}
