package space

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

const mobileName = "mobilenetv3"

// The once-for-all MobileNetV3 space (Cai et al., ICLR 2020; mit-han-lab/once-for-all, ofa_mbv3.py): five units of 2 to
// 4 inverted bottlenecks, each with a kernel and an expansion of its own.
const (
	mobileUnits    = 5
	mobileMinDepth = 2
	mobileMaxDepth = 4
	mobileSlots    = mobileUnits * mobileMaxDepth

	minResolution = 32 // at the published strides
	maxResolution = 512
)

var (
	mobileKernels    = [...]uint8{3, 5, 7}
	mobileExpansions = [...]uint8{3, 4, 6}
	// The first mobilePublished are those of once-for-all's supernets.
	mobileWidths = [...]string{"1.0", "1.2", "0.35", "0.5", "0.75"}

	mobileMultipliers = [...]float64{1.0, 1.2, 0.35, 0.5, 0.75} // mobileWidths as numbers

	// How many pixels of an image's row become one: the published strides, and those without the first one, two or
	// three of them, for small images.
	mobileStrides = [...]int{32, 16, 8, 4}
)

const mobilePublished = 2

// MobileNet is an architecture of the once-for-all MobileNetV3 space. Slots behind a unit's depth hold zeros, so that
// equal networks are equal with ==.
type MobileNet struct {
	width      uint8 // index into mobileWidths
	stride     uint8 // index into mobileStrides
	resolution uint16
	depth      [mobileUnits]uint8
	kernel     [mobileSlots]uint8
	expand     [mobileSlots]uint8
}

// Width is the multiplier of the channels: "1.0" or "1.2" as published, "0.35", "0.5" or "0.75".
func (m MobileNet) Width() string { return mobileWidths[m.width] }

// Stride is the product of the strides: 32 as published, 16, 8 or 4.
func (m MobileNet) Stride() int { return mobileStrides[m.stride] }

// Published tells whether the network is one of once-for-all's space.
func (m MobileNet) Published() bool { return published(m.width, m.stride) }

func published(width, stride uint8) bool { return width < mobilePublished && stride == 0 }

// Resolution is the side of the images in pixels.
func (m MobileNet) Resolution() int { return int(m.resolution) }

// Depths are the blocks of the five units.
func (m MobileNet) Depths() []int { return ints(m.depth[:]) }

// Kernels are those of the 20 slots, four a unit; 0 where there is no block.
func (m MobileNet) Kernels() []int { return ints(m.kernel[:]) }

// Expansions are those of the 20 slots, four a unit; 0 where there is no block.
func (m MobileNet) Expansions() []int { return ints(m.expand[:]) }

func ints(v []uint8) []int {
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	return out
}

func joined(v []uint8) string {
	text := make([]byte, 0, 2*len(v))
	for i, x := range v {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, uint64(x), 10)
	}
	return string(text)
}

// String is the canonical text, mobilenetv3:<depths>:<kernels>:<expansions>@w<width>,r<resolution>, and behind it
// ,s<stride> where that is not 32.
func (m MobileNet) String() string {
	return fmt.Sprintf("%s:%s:%s:%s@w%s,r%d%s", mobileName, joined(m.depth[:]), joined(m.kernel[:]),
		joined(m.expand[:]), m.Width(), m.resolution, strideSuffix(m.stride))
}

func strideSuffix(stride uint8) string {
	if stride == 0 {
		return ""
	}
	return fmt.Sprintf(",s%d", mobileStrides[stride])
}

// Hash is the MD5 of the text, since no fingerprint is published.
func (m MobileNet) Hash() string { return textHash(m.String()) }

func textHash(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// has tells whether a slot holds a block.
func (m *MobileNet) has(slot int) bool {
	return slot%mobileMaxDepth < int(m.depth[slot/mobileMaxDepth])
}

// clear empties the slots without a block.
func (m *MobileNet) clear() {
	for i := range mobileSlots {
		if !m.has(i) {
			m.kernel[i], m.expand[i] = 0, 0
		}
	}
}

// MobileNetV3 is the space of one width, one product of the strides, and one or several resolutions.
type MobileNetV3 struct {
	width       uint8
	stride      uint8
	resolutions []uint16 // ascending, at least one
}

// mobileSetting is what all networks of a space have in common, as its name and the networks' texts say it.
var (
	mobileWidthPattern = strings.ReplaceAll(strings.Join(mobileWidths[:], "|"), ".", `\.`)
	mobileSpaceName    = regexp.MustCompile(`^mobilenetv3(?:@w(` + mobileWidthPattern +
		`)(?:,r(\d{2,3})(?:-(\d{2,3}))?)?(?:,s(32|16|8|4))?)?$`)
)

// openMobileNetV3 reads mobilenetv3, which is @w1.0,r224,s32, mobilenetv3@w1.2, mobilenetv3@w1.2,r192,
// mobilenetv3@w1.2,r160-224, where the resolution is a decision, in steps of 16, or mobilenetv3@w0.5,r32,s8.
func openMobileNetV3(name string) (Space, error) {
	part := mobileSpaceName.FindStringSubmatch(name)
	if part == nil {
		return nil, fmt.Errorf("search space %q: want %s, %s@w1.2, %s@w1.2,r192, %s@w1.2,r160-224 or %s@w0.5,r32,s8 "+
			"with width %s and stride 32, 16, 8 or 4", name, mobileName, mobileName, mobileName, mobileName,
			mobileName, strings.Join(mobileWidths[:], ", "))
	}
	sp := MobileNetV3{width: uint8(max(0, slices.Index(mobileWidths[:], part[1]))), stride: parseStride(part[4]),
		resolutions: []uint16{224}}
	if part[2] != "" {
		low, err := sp.parseResolution(part[2])
		if err != nil {
			return nil, fmt.Errorf("search space %q: %w", name, err)
		}
		high := low
		if part[3] != "" {
			if high, err = sp.parseResolution(part[3]); err != nil {
				return nil, fmt.Errorf("search space %q: %w", name, err)
			}
			if high < low || (high-low)%resolutionStep != 0 {
				return nil, fmt.Errorf("search space %q: resolutions %d to %d: want steps of %d upwards", name, low,
					high, resolutionStep)
			}
		}
		sp.resolutions = nil
		for r := low; r <= high; r += resolutionStep {
			sp.resolutions = append(sp.resolutions, r)
		}
	}
	return sp, nil
}

// Positional: every block has operations of its own.
func (MobileNetV3) Positional() {}

// resolutionStep is that of once-for-all's accuracy predictor.
const resolutionStep = 16

// parseStride reads the product of the strides; empty is 32.
func parseStride(text string) uint8 {
	n, _ := strconv.Atoi(text) // digits, if anything
	return uint8(max(0, slices.Index(mobileStrides[:], n)))
}

// leastResolution is the smallest one at a product of strides.
func leastResolution(stride uint8) int {
	return max(minResolution/2, min(minResolution, mobileStrides[stride]))
}

func (sp MobileNetV3) parseResolution(text string) (uint16, error) {
	return parseResolution(text, sp.stride)
}

func parseResolution(text string, stride uint8) (uint16, error) {
	r, err := strconv.Atoi(text)
	if least := leastResolution(stride); err != nil || r < least || r > maxResolution || r%4 != 0 {
		return 0, fmt.Errorf("resolution %.10q: want a multiple of 4 in %d..%d", text, least, maxResolution)
	}
	return uint16(r), nil
}

// Name is "mobilenetv3", with width and resolution where they are not 1.0 and 224, and the stride where it is not 32.
func (sp MobileNetV3) Name() string {
	first, last := sp.resolutions[0], sp.resolutions[len(sp.resolutions)-1]
	switch {
	case sp.width == 0 && sp.stride == 0 && first == 224 && last == 224:
		return mobileName
	case first == last:
		return fmt.Sprintf("%s@w%s,r%d%s", mobileName, mobileWidths[sp.width], first, strideSuffix(sp.stride))
	}
	return fmt.Sprintf("%s@w%s,r%d-%d%s", mobileName, mobileWidths[sp.width], first, last, strideSuffix(sp.stride))
}

// Published tells whether the space is one of once-for-all's supernets.
func (sp MobileNetV3) Published() bool { return published(sp.width, sp.stride) }

// Resolutions are the sides of the images in pixels, ascending. Where there are several, one is a decision.
func (sp MobileNetV3) Resolutions() []int {
	out := make([]int, len(sp.resolutions))
	for i, r := range sp.resolutions {
		out[i] = int(r)
	}
	return out
}

// Parse reads mobilenetv3:<depths>:<kernels>:<expansions>[@w<width>][,r<resolution>][,s<stride>]: 5, 20 and 20
// numbers, four slots a unit, with commas or as single digits without. What stands in slots behind a unit's depth does
// not matter. Width and resolution, which may differ from the space's own, are the space's where they are not said. A
// stride is the space's where neither it nor the width is said, and 32 where the width is.
func (sp MobileNetV3) Parse(s string) (Arch, error) {
	m, err := sp.parse(s)
	if err != nil {
		return nil, fmt.Errorf("architecture %.200q: %w", s, err)
	}
	return m, nil
}

var mobileSuffix = regexp.MustCompile(`^(?:w(` + mobileWidthPattern + `))?,?(?:r(\d{2,3}))?,?(?:s(32|16|8|4))?$`)

func (sp MobileNetV3) parse(s string) (MobileNet, error) {
	body, suffix, marked := strings.Cut(s, "@")
	fields := strings.Split(body, ":")
	if len(fields) != 4 || fields[0] != mobileName {
		return MobileNet{}, fmt.Errorf("want %s:<depths>:<kernels>:<expansions>, perhaps with @w1.2,r224 behind",
			mobileName)
	}
	m := sp.network(sp.resolutions[len(sp.resolutions)-1])
	if marked {
		part := mobileSuffix.FindStringSubmatch(suffix)
		if part == nil || suffix == "" {
			return m, fmt.Errorf("suffix %.40q: want w%s, r<resolution> and s<stride>, as @w1.2,r224 or @w0.5,r32,s8",
				suffix, strings.Join(mobileWidths[:], " or w"))
		}
		if part[1] != "" {
			m.width = uint8(slices.Index(mobileWidths[:], part[1]))
		}
		if part[1] != "" || part[3] != "" {
			m.stride = parseStride(part[3])
		}
		if part[2] != "" {
			var err error
			if m.resolution, err = parseResolution(part[2], m.stride); err != nil {
				return m, err
			}
		}
	}
	return m, m.fill(fields[1], fields[2], fields[3])
}

// network is one of the space without its blocks.
func (sp MobileNetV3) network(resolution uint16) MobileNet {
	return MobileNet{width: sp.width, stride: sp.stride, resolution: resolution}
}

// has tells whether a network is of the width and the stride of the space.
func (sp MobileNetV3) has(m MobileNet) bool { return m.width == sp.width && m.stride == sp.stride }

// NewMobileNet makes an architecture of its depths, kernels and expansions as Parse reads them.
func (sp MobileNetV3) NewMobileNet(depths, kernels, expansions string) (Arch, error) {
	m := sp.network(sp.resolutions[len(sp.resolutions)-1])
	if err := m.fill(depths, kernels, expansions); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *MobileNet) fill(depths, kernels, expansions string) error {
	if err := digits(m.depth[:], "depths", depths); err != nil {
		return err
	}
	if err := digits(m.kernel[:], "kernels", kernels); err != nil {
		return err
	}
	if err := digits(m.expand[:], "expansions", expansions); err != nil {
		return err
	}
	for u, d := range m.depth {
		if d < mobileMinDepth || d > mobileMaxDepth {
			return fmt.Errorf("unit %d has depth %d, want %d..%d", u+1, d, mobileMinDepth, mobileMaxDepth)
		}
	}
	m.clear()
	for i := range mobileSlots {
		if !m.has(i) {
			continue
		}
		if !slices.Contains(mobileKernels[:], m.kernel[i]) {
			return fmt.Errorf("unit %d, block %d has kernel %d, want 3, 5 or 7", i/mobileMaxDepth+1, i%mobileMaxDepth+1,
				m.kernel[i])
		}
		if !slices.Contains(mobileExpansions[:], m.expand[i]) {
			return fmt.Errorf("unit %d, block %d has expansion %d, want 3, 4 or 6", i/mobileMaxDepth+1,
				i%mobileMaxDepth+1, m.expand[i])
		}
	}
	return nil
}

// digits reads single digits, with commas between them or without.
func digits(out []uint8, what, text string) error {
	list := strings.Split(text, ",")
	if len(list) == 1 {
		list = strings.Split(text, "")
	}
	if len(list) != len(out) {
		return fmt.Errorf("%d %s, want %d", len(list), what, len(out))
	}
	for i, word := range list {
		word = strings.TrimSpace(word)
		if len(word) != 1 || word[0] < '0' || word[0] > '9' {
			return fmt.Errorf("%s: %.20q is not a digit", what, word)
		}
		out[i] = word[0] - '0'
	}
	return nil
}

// Sample draws with the same probability for each network of the space: a unit's depth comes with the number of its
// networks.
func (sp MobileNetV3) Sample(s *philox.Stream) Arch {
	m := sp.network(sp.resolutions[s.Intn(len(sp.resolutions))])
	for u := range mobileUnits {
		m.setUnit(u, unitOptions()[s.Intn(len(unitOptions()))])
	}
	return m
}

// Within draws uniformly over the networks within limits. The costs of units are independent of each other, and so are
// their times, so that those under a limit can be counted; of several limits the tightest one is, and the others
// reject.
func (sp MobileNetV3) Within(l Limits) (func(s *philox.Stream) Arch, error) {
	if l.None() {
		return sp.Sample, nil
	}
	var counted []*sums
	var sizes []uint16
	var shares []float64
	total := 0.0
	for at, r := range sp.resolutions {
		tightest, ok := sp.tightest(l, at)
		if !ok {
			continue
		}
		total += tightest.total()
		counted, sizes, shares = append(counted, tightest), append(sizes, r), append(shares, total)
	}
	if len(counted) == 0 {
		return nil, errNone(sp, l)
	}
	return within(sp, l, func(s *philox.Stream) Arch {
		k := 0
		if len(counted) > 1 {
			x := s.Float64() * total
			for k < len(shares)-1 && x >= shares[k] {
				k++
			}
		}
		m := sp.network(sizes[k])
		for u, o := range counted[k].draw(s) {
			m.setUnit(u, unitOptions()[o])
		}
		return m
	})
}

// tightest counts the networks of a resolution under each limit and returns the count that is the smallest; false: one
// of them is none.
func (sp MobileNetV3) tightest(l Limits, resolution int) (best *sums, ok bool) {
	table := costTable(sp.width, sp.stride, cmp.Or(l.Size.Side, int(sp.resolutions[resolution])),
		cmp.Or(l.Size.Classes, imageNetClasses))
	under := func(limit, fixed int64, cost func(u int, o unit) int64) bool {
		costs := make([][]int64, mobileUnits)
		for u := range costs {
			for _, o := range unitOptions() {
				costs[u] = append(costs[u], cost(u, o))
			}
		}
		t, ok := newSums(costs, 0, limit-fixed)
		if ok && (best == nil || t.total() < best.total()) {
			best = t
		}
		return ok
	}
	if l.MAdds > 0 && !under(l.MAdds, table.fixed.MAdds, func(u int, o unit) int64 { return table.unit(u, o).MAdds }) {
		return nil, false
	}
	if l.Params > 0 && !under(l.Params, table.fixed.Params, func(u int, o unit) int64 {
		return table.unit(u, o).Params
	}) {
		return nil, false
	}
	if l.Latency > 0 && (l.Times == nil ||
		!under(l.Latency, sp.fixedTime(l.Times, resolution), func(u int, o unit) int64 {
			return sp.unitTime(l.Times, resolution, u, o)
		})) {
		return nil, false
	}
	return best, true
}

// mobileMutation is the probability that once-for-all's evolution changes a gene.
const mobileMutation = 0.1

// Mutate is the mutation of once-for-all's evolutionary search (ofa/nas/search_algorithm/evolution.py): each slot's
// kernel and expansion, each depth and the resolution is drawn again with probability 0.1, until a different network
// results. a must be a MobileNet.
func (sp MobileNetV3) Mutate(a Arch, s *philox.Stream) Arch {
	parent := a.(MobileNet)
	for {
		m := parent
		if len(sp.resolutions) > 1 && s.Float64() < mobileMutation {
			m.resolution = sp.resolutions[s.Intn(len(sp.resolutions))]
		}
		for i := range mobileSlots {
			if !parent.has(i) || s.Float64() < mobileMutation {
				m.kernel[i], m.expand[i] = mobileKernels[s.Intn(len(mobileKernels))],
					mobileExpansions[s.Intn(len(mobileExpansions))]
			}
		}
		for u := range m.depth {
			if s.Float64() < mobileMutation {
				m.depth[u] = uint8(mobileMinDepth + s.Intn(mobileMaxDepth-mobileMinDepth+1))
			}
		}
		if m.clear(); m != parent {
			return m
		}
	}
}

// Cross is once-for-all's crossover: every gene comes from one of the parents, of equal probability; a slot that one of
// them does not have comes from the other.
func (sp MobileNetV3) Cross(x, y Arch, s *philox.Stream) Arch {
	a, b := x.(MobileNet), y.(MobileNet)
	m := a
	if s.Intn(2) == 1 {
		m.resolution = b.resolution
	}
	for i := range mobileSlots {
		if take := s.Intn(2) == 1; !a.has(i) || take && b.has(i) {
			m.kernel[i], m.expand[i] = b.kernel[i], b.expand[i]
		}
	}
	for u := range m.depth {
		if s.Intn(2) == 1 {
			m.depth[u] = b.depth[u]
		}
	}
	m.clear()
	return m
}

// unit is a unit's part of a MobileNet.
type unit struct {
	depth          uint8
	kernel, expand [mobileMaxDepth]uint8
}

func (m *MobileNet) setUnit(u int, o unit) {
	m.depth[u] = o.depth
	copy(m.kernel[u*mobileMaxDepth:], o.kernel[:])
	copy(m.expand[u*mobileMaxDepth:], o.expand[:])
}
