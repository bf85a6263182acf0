package gcn

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Space is a whole search space prepared for scoring: its shared unfolding trees, which depend on the space alone, and
// its features.
type Space struct {
	alphabet int
	graphs   GraphSet
	features func(i int) []float32
	mu       sync.Mutex
	forests  map[string][]*Forest
	stored   func(name string) ([]byte, bool, error)
	flat     []float32 // features
	counts   []float32 // of operations
	kept     int       // rows of the pieces of a large space in forests

	whole, piece int // wholeGraphs, pieceGraphs, which tests replace
}

// NewSpace prepares nothing yet: forests are built when a network first needs them. features may be nil; it must be
// safe for concurrent calls.
func NewSpace(alphabet int, graphs GraphSet, features func(i int) []float32) *Space {
	return &Space{alphabet: alphabet, graphs: graphs, features: features, forests: map[string][]*Forest{},
		whole: wholeGraphs, piece: pieceGraphs}
}

// Len is the number of architectures.
func (s *Space) Len() int { return s.graphs.N }

// forestKey names the trees that a network needs; networks with one key share them.
func (n Network) forestKey() string {
	if n.Kind == LayeredGCN {
		return fmt.Sprintf("layered/%d/%d", n.Layers, n.Pad)
	}
	return string(n.Kind)
}

// Encoding is the whole space for a comparator. ctx ends the building of its trees.
func (s *Space) Encoding(ctx context.Context, c *Comparator) (*Encoding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.build(ctx, c.Config.Network); err != nil {
		return nil, err
	}
	e := &Encoding{N: s.graphs.N, Forests: s.forests[c.Config.forestKey()]}
	if c.Config.Features {
		if s.flat == nil {
			var err error
			if s.flat, err = s.featuresOf(ctx, s.graphs.N, func(i int) int { return i }); err != nil {
				return nil, err
			}
		}
		e.Features, e.Scale = s.flat, &c.Scale
	}
	if c.Config.Linear > 0 {
		if s.counts == nil {
			var err error
			if s.counts, err = s.countsOf(ctx, 0, s.graphs.N); err != nil {
				return nil, err
			}
		}
		e.Counts, e.CountScale = s.counts, &c.Counts
	}
	return e, nil
}

// A space of at most this many graphs is encoded as a whole, once, because they share most of their trees: all 423,624
// cells of NAS-Bench-101 take some 150 MB. A larger one is encoded and scored in pieces, so that the memory does not
// grow with it; the trees of a piece that take little are kept for the next time.
const (
	wholeGraphs = 1 << 19
	pieceGraphs = 1 << 13
	keptRows    = 1 << 22 // of all pieces
)

// Large tells whether the space is too large to be encoded as a whole.
func (s *Space) Large() bool { return s.graphs.N > s.whole }

// Score gives every graph its score, of a large space piece by piece. ctx ends it.
func (s *Space) Score(ctx context.Context, c *Comparator, device exec.Config) (*Scores, error) {
	if !s.Large() {
		e, err := s.Encoding(ctx, c)
		if err != nil {
			return nil, err
		}
		return c.score(ctx, device, e)
	}
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	scores := c.newScores(s.graphs.N)
	for begin := 0; begin < s.graphs.N; begin += s.piece {
		end := min(begin+s.piece, s.graphs.N)
		e, err := s.stretch(ctx, c, begin, end)
		if err != nil {
			return nil, err
		}
		if err := scores.fill(ctx, c, dev, e, begin); err != nil {
			return nil, err
		}
	}
	scores.rank()
	return scores, nil
}

// stretch encodes graphs [begin, end) of a large space.
func (s *Space) stretch(ctx context.Context, c *Comparator, begin, end int) (*Encoding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%s/%d", c.Config.forestKey(), begin)
	e := &Encoding{N: end - begin, Forests: s.forests[key]}
	if e.Forests == nil {
		graphs := GraphSet{N: end - begin, At: func(i int) Graph { return s.graphs.At(begin + i) }, Stop: ctx.Err}
		built, err := c.Config.Encode(graphs, s.alphabet, nil, false)
		if err != nil {
			return nil, err
		}
		e.Forests = built.Forests
		rows := 0
		for _, f := range e.Forests {
			rows += f.Rows()
		}
		if s.kept+rows <= keptRows {
			s.kept += rows
			s.forests[key] = e.Forests
		}
	}
	if c.Config.Features {
		var err error
		if e.Features, err = s.featuresOf(ctx, e.N, func(i int) int { return begin + i }); err != nil {
			return nil, err
		}
		e.Scale = &c.Scale
	}
	if c.Config.Linear > 0 {
		var err error
		if e.Counts, err = s.countsOf(ctx, begin, end); err != nil {
			return nil, err
		}
		e.CountScale = &c.Counts
	}
	return e, nil
}

// ScoreSome scores some graphs of the space, by index.
func (s *Space) ScoreSome(ctx context.Context, c *Comparator, device exec.Config, idx []int) (*Scores, error) {
	if s.Large() {
		whole, err := s.Score(ctx, c, device)
		if err != nil {
			return nil, err
		}
		return whole.some(idx), nil
	}
	e, err := s.part(ctx, c, idx)
	if err != nil {
		return nil, err
	}
	return c.score(ctx, device, e)
}

// part encodes some graphs. The trees stay whole, for nearly all of them are needed; only what is read changes.
func (s *Space) part(ctx context.Context, c *Comparator, idx []int) (*Encoding, error) {
	e := &Encoding{N: len(idx)}
	whole, err := s.Encoding(ctx, c)
	if err != nil {
		return nil, err
	}
	e.Scale, e.CountScale = whole.Scale, whole.CountScale
	for _, f := range whole.Forests {
		part := *f
		part.ReadPtr = make([]int32, 1, len(idx)+1)
		part.ReadIdx = make([]int32, 0, len(idx)*len(f.ReadIdx)/max(1, whole.N))
		for _, i := range idx {
			part.ReadIdx = append(part.ReadIdx, f.ReadIdx[f.ReadPtr[i]:f.ReadPtr[i+1]]...)
			part.ReadPtr = append(part.ReadPtr, int32(len(part.ReadIdx)))
		}
		e.Forests = append(e.Forests, &part)
	}
	e.Features, e.Counts = someRows(whole.Features, whole.N, idx), someRows(whole.Counts, whole.N, idx)
	return e, nil
}

// someRows are some of n rows of equal width, by index.
func someRows(all []float32, n int, idx []int) []float32 {
	if len(all) == 0 {
		return nil
	}
	width := len(all) / n
	out := make([]float32, 0, len(idx)*width)
	for _, i := range idx {
		out = append(out, all[i*width:(i+1)*width]...)
	}
	return out
}

// UseTrees sets where stored trees are looked up before they are built: load returns what Trees wrote under a name, or
// false.
func (s *Space) UseTrees(load func(name string) ([]byte, bool, error)) { s.stored = load }

func (s *Space) build(ctx context.Context, n Network) error {
	name := n.forestKey()
	if s.forests[name] != nil {
		return nil
	}
	if s.stored != nil {
		data, ok, err := s.stored(name)
		if err != nil {
			return err
		}
		if ok {
			s.forests[name], err = s.parseTrees(name, data)
			return err
		}
	}
	graphs := s.graphs
	graphs.Stop = ctx.Err
	e, err := n.Encode(graphs, s.alphabet, nil, false)
	if err != nil {
		return err
	}
	s.forests[name] = e.Forests
	return nil
}

// featuresOf returns the features of n graphs, a row each.
func (s *Space) featuresOf(ctx context.Context, n int, at func(i int) int) ([]float32, error) {
	if s.features == nil {
		return nil, fmt.Errorf("the comparator uses features and the space has none")
	}
	return rowsOf(ctx, n, func(i int) []float32 { return s.features(at(i)) })
}

// countsOf returns the counts of operations of graphs [begin, end), a row each.
func (s *Space) countsOf(ctx context.Context, begin, end int) ([]float32, error) {
	return rowsOf(ctx, end-begin, func(i int) []float32 { return Counts(s.graphs.At(begin+i), s.alphabet) })
}

// rowsOf returns n rows of equal width, one after the other, which are made in parallel.
func rowsOf(ctx context.Context, n int, row func(i int) []float32) ([]float32, error) {
	if n == 0 {
		return nil, nil
	}
	width := len(row(0))
	flat := make([]float32, n*width)
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			for i := n * w / workers; i < n*(w+1)/workers; i++ {
				if i%stopEvery == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				copy(flat[i*width:], row(i))
			}
			return nil
		})
	}
	return flat, group.Wait()
}

// Trees returns the trees of a network's kind as bytes, for a table's cached form: UseTrees reads them back.
func (s *Space) Trees(ctx context.Context, n Network) (name string, data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.build(ctx, n); err != nil {
		return "", nil, err
	}
	data = binary.LittleEndian.AppendUint32(data, uint32(len(s.forests[n.forestKey()])))
	for _, f := range s.forests[n.forestKey()] {
		for _, v := range f.arrays() {
			data = binary.LittleEndian.AppendUint32(data, uint32(len(*v)))
			for _, x := range *v {
				data = binary.LittleEndian.AppendUint32(data, uint32(x))
			}
		}
	}
	return n.forestKey(), data, nil
}

func (f *Forest) arrays() []*[]int32 {
	return []*[]int32{&f.Start, &f.Label, &f.Self, &f.Ptr, &f.Idx, &f.ReadPtr, &f.ReadIdx}
}

// parseTrees reads what Trees wrote for the same space. Damaged or foreign data is refused: every index is checked.
func (s *Space) parseTrees(name string, data []byte) ([]*Forest, error) {
	fail := func(what string) ([]*Forest, error) { return nil, fmt.Errorf("shared trees %q: %s", name, what) }
	take := func() (uint32, bool) {
		if len(data) < 4 {
			return 0, false
		}
		v := binary.LittleEndian.Uint32(data)
		data = data[4:]
		return v, true
	}
	n, ok := take()
	if !ok || n == 0 || n > 8 {
		return fail("no count of forests")
	}
	var forests []*Forest
	for range n {
		f := &Forest{}
		for _, v := range f.arrays() {
			k, ok := take()
			if !ok || uint64(k)*4 > uint64(len(data)) {
				return fail("cut short")
			}
			if k > 0 {
				*v = make([]int32, k)
				for i := range *v {
					(*v)[i] = int32(binary.LittleEndian.Uint32(data[4*i:]))
				}
				data = data[4*k:]
			}
		}
		if err := f.check(s.alphabet); err != nil {
			return fail(err.Error())
		}
		if f.Graphs() != s.graphs.N {
			return fail(fmt.Sprintf("trees of %d graphs in a space of %d", f.Graphs(), s.graphs.N))
		}
		forests = append(forests, f)
	}
	if len(data) != 0 {
		return fail("data behind the end")
	}
	return forests, nil
}

// check makes sure that no index leaves its array, so that kernels, which trust them, may follow.
func (f *Forest) check(alphabet int) error {
	rows := f.Rows()
	if len(f.Start) < 2 || f.Start[0] != 0 || int(f.Start[len(f.Start)-1]) != rows {
		return fmt.Errorf("levels do not cover the rows")
	}
	for l := range f.Levels() {
		if f.Start[l] > f.Start[l+1] {
			return fmt.Errorf("level %d ends before it begins", l)
		}
	}
	if len(f.Self) != 0 && len(f.Self) != rows {
		return fmt.Errorf("%d own rows for %d rows", len(f.Self), rows)
	}
	if err := checkLists(f.Ptr, f.Idx, rows); err != nil {
		return fmt.Errorf("edges: %w", err)
	}
	if err := checkLists(f.ReadPtr, f.ReadIdx, len(f.ReadPtr)-1); err != nil {
		return fmt.Errorf("readout: %w", err)
	}
	for l := range f.Levels() {
		b, e := f.Level(l)
		low := 0 // the lowest row that may be aggregated
		if len(f.Self) > 0 && l > 0 {
			low, _ = f.Level(l - 1)
		}
		for r := b; r < e; r++ {
			if f.Label[r] < 0 || int(f.Label[r]) > alphabet {
				return fmt.Errorf("row %d has operation %d", r, f.Label[r])
			}
			if len(f.Self) > 0 && l > 0 && (int(f.Self[r]) < low || int(f.Self[r]) >= b) {
				return fmt.Errorf("row %d follows row %d", r, f.Self[r])
			}
			for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
				if int(u) < low || int(u) >= b {
					return fmt.Errorf("row %d aggregates row %d", r, u)
				}
			}
		}
	}
	first := 0 // the lowest row that may be read
	if len(f.Self) > 0 {
		first, _ = f.Level(f.Levels() - 1)
	}
	for _, r := range f.ReadIdx {
		if int(r) < first || int(r) >= rows {
			return fmt.Errorf("a graph reads row %d of %d", r, rows)
		}
	}
	return nil
}

func checkLists(ptr, idx []int32, n int) error {
	if n < 0 || len(ptr) != n+1 || ptr[0] != 0 || int(ptr[n]) != len(idx) {
		return fmt.Errorf("lists do not fit")
	}
	for i := range n {
		if ptr[i] > ptr[i+1] {
			return fmt.Errorf("list %d ends before it begins", i)
		}
	}
	return nil
}

// comparatorMagic starts a comparator's binary form; the digit is its version.
const comparatorMagic = "ctnas comparator 1\n"

// MarshalBinary writes a comparator exactly: magic, a checksum, and the fields in Go's gob encoding.
func (c *Comparator) MarshalBinary() ([]byte, error) {
	type plain Comparator // without methods
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode((*plain)(c)); err != nil {
		return nil, err
	}
	out := []byte(comparatorMagic)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(body.Bytes()))
	return append(out, body.Bytes()...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote and checks it.
func (c *Comparator) UnmarshalBinary(data []byte) error {
	type plain Comparator
	head := len(comparatorMagic) + 4
	if len(data) < head || string(data[:len(comparatorMagic)]) != comparatorMagic {
		return fmt.Errorf("not a comparator of this version")
	}
	if binary.LittleEndian.Uint32(data[head-4:]) != crc32.ChecksumIEEE(data[head:]) {
		return fmt.Errorf("a damaged comparator: the checksum is wrong")
	}
	var p plain
	if err := gob.NewDecoder(bytes.NewReader(data[head:])).Decode(&p); err != nil {
		return fmt.Errorf("a damaged comparator: %w", err)
	}
	read := Comparator(p)
	if err := read.check(); err != nil {
		return fmt.Errorf("a damaged comparator: %w", err)
	}
	*c = read
	return nil
}

// The largest sizes of a comparator that is read; those in use are below 256.
const (
	maxReadWidth  = 1 << 14
	maxReadLayers = 1 << 10
)

// check tells whether a comparator that was read is one: what its network's sizes say is what is there.
func (c *Comparator) check() error {
	n := c.Config.Network
	if n.Kind != LayeredGCN && n.Kind != Gated {
		return fmt.Errorf("a network of the kind %.40q", n.Kind)
	}
	for _, size := range []struct {
		name  string
		value int
		most  int
	}{
		{"width", n.Width, maxReadWidth}, {"layers", n.Layers, maxReadLayers},
		{"feature width", n.FeatureWidth, maxReadWidth},
		{"head width", n.HeadWidth, maxReadWidth}, {"operations", c.Alphabet, maxReadWidth},
		{"padded nodes", n.Pad, maxReadWidth},
		{"features", len(c.Scale.Mean), maxReadWidth}, {"counts", len(c.Counts.Mean), maxReadWidth},
	} {
		if size.value < 0 || size.value > size.most {
			return fmt.Errorf("%s %d, want at most %d", size.name, size.value, size.most)
		}
	}
	if n.Width == 0 || c.Alphabet == 0 || n.Kind == Gated && n.HeadWidth == 0 {
		return fmt.Errorf("width %d, head width %d, %d operations", n.Width, n.HeadWidth, c.Alphabet)
	}
	for _, scale := range []Standard{c.Scale, c.Counts} {
		if len(scale.Mean) != len(scale.SD) {
			return fmt.Errorf("%d means and %d deviations of features", len(scale.Mean), len(scale.SD))
		}
	}
	if n.Linear > 0 && len(c.Counts.Mean) != c.Alphabet {
		return fmt.Errorf("the scale of %d counts of %d operations", len(c.Counts.Mean), c.Alphabet)
	}
	if c.Places != nil {
		if err := c.Places.check(c.Alphabet); err != nil {
			return err
		}
	}
	if len(c.Weights) != len(c.Spread) || len(c.Weights) == 0 {
		return fmt.Errorf("%d members with %d scales", len(c.Weights), len(c.Spread))
	}
	want := c.layout().size
	for _, w := range c.Weights {
		if len(w) != want {
			return fmt.Errorf("%d weights, want %d", len(w), want)
		}
	}
	if (c.Process != nil) != (c.Config.Process > 0) || !(c.Config.Process <= 1) {
		return fmt.Errorf("a process of weight %v, there: %v", c.Config.Process, c.Process != nil)
	}
	if c.Process != nil {
		return c.Process.check(len(c.Scale.Mean))
	}
	return nil
}
