package trainer

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/elastic"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// pathCase is a supernet with some of its paths.
type pathCase struct {
	shared nn.Shared
	paths  []nn.Path
	names  []string
	batch  int
}

func (c *pathCase) add(t *testing.T, name string, p nn.Path, err error) {
	require.NoError(t, err, name)
	c.paths, c.names = append(c.paths, p), append(c.names, name)
}

// cellPaths are cells of NAS-Bench-101 in a small network: 3x3 and 1x1 convolutions whose weights are narrower than the
// shared ones on both sides.
func cellPaths(t *testing.T, name string, interior, channels, count int) pathCase {
	sp, err := space.Open(name)
	require.NoError(t, err)
	super := zoo.CellSupernet{CellNetwork: zoo.CellNetwork{Image: nn.Shape{H: 8, W: 8, C: 3}, Channels: channels,
		Stacks: 2, Modules: 1, Classes: 5}, Interior: interior}
	c := pathCase{batch: 3}
	c.shared, err = super.Shared()
	require.NoError(t, err)
	s := philox.New(5, philox.PurposeTest, 0)
	seen := map[space.Arch]bool{}
	for len(c.paths) < count {
		if a := sp.Sample(s); !seen[a] {
			seen[a] = true
			p, err := super.Path(a.(space.Cell), c.shared)
			c.add(t, a.String(), p, err)
		}
	}
	return c
}

// elasticPaths are sub-networks of once-for-all's: fewer blocks, fewer channels, smaller kernels.
func elasticPaths(t *testing.T, name string, count, side int) pathCase {
	opened, err := space.Open(name)
	require.NoError(t, err)
	sp := opened.(space.Elastic)
	size := space.NetworkSize{Side: side, Classes: 5}
	c := pathCase{batch: 2}
	c.shared, err = sp.Supernet(size)
	require.NoError(t, err)
	s := philox.New(6, philox.PurposeTest, 0)
	for k := range count {
		a := sp.Sample(s)
		switch k {
		case 0:
			a = sp.Largest(0)
		case 1:
			a = sp.Smallest(0)
		}
		p, err := sp.Path(a, size)
		c.add(t, a.String(), p, err)
	}
	return c
}

// chainPaths are networks of blocks that share them whole.
func chainPaths(t *testing.T, name string, count int) pathCase {
	opened, err := space.Open(name)
	require.NoError(t, err)
	sp := opened.(space.Strict)
	size := space.NetworkSize{Classes: 5}
	c := pathCase{batch: 2}
	c.shared, err = sp.Supernet(size)
	require.NoError(t, err)
	for _, path := range sp.StrictPaths(philox.New(9, philox.PurposeTest, 0))[:count] {
		p, err := sp.WrittenPath(path, size)
		c.add(t, path, p, err)
	}
	return c
}

// Genotypes of the space of DARTS: with each of its operations in both cells, and with one on the same node twice.
const (
	allOperations = "Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_5x5', 1), ('max_pool_3x3', 0), " +
		"('avg_pool_3x3', 2), ('skip_connect', 1), ('sep_conv_5x5', 3), ('dil_conv_3x3', 4), ('none', 0)], " +
		"normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), " +
		"('avg_pool_3x3', 1), ('dil_conv_5x5', 1), ('sep_conv_5x5', 3), ('dil_conv_3x3', 4), ('none', 0)], " +
		"reduce_concat=range(2, 6))@cifar10"
	oneTwice = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 0), " +
		"('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)], " +
		"normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 0), ('sep_conv_5x5', 0), ('skip_connect', 2), " +
		"('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)], " +
		"reduce_concat=range(2, 6))@cifar10"
)

// dartsPaths are genotypes in DARTS's search network.
func dartsPaths(t *testing.T, genotypes ...string) pathCase {
	sp, err := space.Open("darts@cifar10")
	require.NoError(t, err)
	size := space.NetworkSize{Side: 8, Classes: 5, Channels: 4, Modules: 1}
	c := pathCase{batch: 3}
	c.shared, err = sp.(space.Sharing).Supernet(size)
	require.NoError(t, err)
	for _, cells := range genotypes {
		a, err := sp.Parse(cells)
		require.NoError(t, err)
		p, err := sp.(space.Sharing).Path(a, size)
		c.add(t, a.String(), p, err)
	}
	return c
}

// values are random: kernels' matrices are far from the identity, norms from 1 and 0.
func (c *pathCase) values() [][]float32 {
	s := philox.New(7, philox.PurposeTest, 0)
	values := c.shared.Initialize(nn.HeFanOut, 3)
	for i, v := range c.shared.Variables {
		for k := range values[i] {
			switch {
			case strings.HasSuffix(v.Name, "_matrix"):
				values[i][k] += float32(0.2 * s.NormFloat64())
			case v.Role == nn.Scale:
				values[i][k] = float32(0.5 + s.Float64())
			case v.Role != nn.Weight && v.Role != nn.Variance:
				values[i][k] = float32(0.3 * s.NormFloat64())
			}
		}
	}
	return values
}

func (c *pathCase) open(t *testing.T, d *exec.Device) *Supernet {
	s, err := NewSupernet(d, c.shared, SupernetOptions{Batch: c.batch, Image: c.paths[0].Input(), Classes: 5, Seed: 4})
	require.NoError(t, err)
	s.SetValues(c.values())
	random := philox.New(8, philox.PurposeTest, 0)
	images := make([]float32, s.Images.Len())
	for i := range images {
		images[i] = float32(random.NormFloat64())
	}
	s.Images.WriteF32(0, images)
	s.Labels.WriteI32(0, []int32{1, 4, 0}[:c.batch])
	return s
}

// A path computes what the network by itself computes with the weights that the path takes out of the shared ones, to
// the bit: its loss, its logits with statistics of its own, and every gradient, which lies where its variable lies.
// Other gradients are zero.
func TestPathsAreNetworks(t *testing.T) {
	kerneltest.OnCPU(t)
	cases := map[string]func(t *testing.T) pathCase{
		"cells":       func(t *testing.T) pathCase { return cellPaths(t, "nasbench101-v5", 3, 13, 6) },
		"wide cells":  func(t *testing.T) pathCase { return cellPaths(t, "nasbench101-v4", 2, 67, 2) }, // by Winograd
		"mobilenetv3": func(t *testing.T) pathCase { return elasticPaths(t, "mobilenetv3", 3, 32) },
		"spos":        func(t *testing.T) pathCase { return chainPaths(t, "spos@w0.25,r32,s8", 2) },
		"fairnas":     func(t *testing.T) pathCase { return chainPaths(t, "fairnas@w0.25,r32,s8", 2) },
		"darts":       func(t *testing.T) pathCase { return dartsPaths(t, allOperations) },
	}
	if testdata.All() {
		cases["all small cells"] = func(t *testing.T) pathCase { return cellPaths(t, "nasbench101-v4", 2, 8, 91) }
		cases["any cells"] = func(t *testing.T) pathCase { return cellPaths(t, "nasbench101", 5, 16, 50) }
		cases["all blocks of spos"] = func(t *testing.T) pathCase { return chainPaths(t, "spos@w0.5,r32,s4", 4) }
		cases["all blocks of fairnas"] = func(t *testing.T) pathCase { return chainPaths(t, "fairnas@w0.5,r32,s4", 6) }
		cases["many of mobilenetv3"] = func(t *testing.T) pathCase { return elasticPaths(t, "mobilenetv3", 20, 64) }
	}
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			d, err := exec.Open(exec.Config{Threads: 2})
			require.NoError(t, err)
			defer d.Close()
			c := make(t)
			s := c.open(t, d)
			defer s.Close()
			for i, p := range c.paths {
				c.compare(t, s, c.names[i], p, exact)
			}
		})
	}
}

// The same on accelerators.
func TestPathsAreNetworksOnAccelerators(t *testing.T) {
	for _, name := range kerneltest.Accelerators() {
		t.Run(name, func(t *testing.T) {
			d, err := exec.Open(exec.Config{Device: name})
			require.NoError(t, err)
			defer d.Close()
			c := cellPaths(t, "nasbench101-v4", 2, 6, 1)
			if testdata.All() {
				c = elasticPaths(t, "mobilenetv3@w0.35,r16,s8", 2, 16)
				c.paths, c.names = c.paths[1:], c.names[1:] // the simulator is slow
			}
			s := c.open(t, d)
			defer s.Close()
			for i, p := range c.paths {
				c.compare(t, s, c.names[i], p, exact)
			}
		})
	}
}

// A variable that a path takes twice has the sum of both gradients, in whatever order its elements are added up.
func TestPathsTakeAVariableTwice(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	defer d.Close()
	c := dartsPaths(t, oneTwice)
	times := map[int]int{}
	for _, b := range c.paths[0].Bindings {
		times[b.Shared]++
	}
	require.Contains(t, slices.Collect(maps.Values(times)), 2)
	s := c.open(t, d)
	defer s.Close()
	c.compare(t, s, c.names[0], c.paths[0], func(t *testing.T, want, got []float32, what string) {
		require.Len(t, got, len(want), what)
		for i := range want {
			require.InDelta(t, want[i], got[i], 1e-5*(1+math.Abs(float64(want[i]))), "%s: element %d", what, i)
		}
	})
}

// exact wants equal numbers; of zeros the sign does not count, which a sum that begins with zero does not keep.
func exact(t *testing.T, want, got []float32, what string) {
	require.Len(t, got, len(want), what)
	for i := range want {
		if want[i] != got[i] {
			require.Failf(t, what, "element %d of %d: want %g, got %g", i, len(want), want[i], got[i])
		}
	}
}

func (c *pathCase) compare(t *testing.T, s *Supernet, name string, p nn.Path, equal func(*testing.T, []float32,
	[]float32, string)) {
	build := func() (nn.Path, error) { return p, nil }
	loss := nn.Loss{Smoothing: 0.1}
	m, err := s.Path(name, PathOptions{Loss: loss}, build)
	require.NoError(t, err, name)
	s.ZeroGradient()
	m.Step(3, 0)
	s.FinishGradient()
	values := m.Values()

	alone, err := NewModel(s.arena.Device(), p.Network, Options{Batch: c.batch, Loss: loss, Seed: 4, Biased: true})
	require.NoError(t, err, name)
	defer alone.Close()
	alone.SetValues(values)
	alone.Images.WriteF32(0, s.Images.Values()[:alone.Images.Len()])
	alone.Labels.WriteI32(0, []int32{1, 4, 0}[:c.batch])
	alone.Step(3, 0)
	equal(t, alone.Loss.Values(), m.Loss.Values(), name+": loss")
	equal(t, c.scattered(t, s, p, alone), s.Grad.Values(), name+": gradient")

	e, err := s.Path(name, PathOptions{EvalOnly: true}, build)
	require.NoError(t, err, name)
	for _, m := range []*Model{alone, e} {
		m.BeginRecalibration()
		m.Recalibrate()
		m.Evaluate()
	}
	equal(t, alone.Logits(), e.Logits(), name+": logits")
	require.NotEqual(t, alone.Logits()[0], alone.Logits()[1])
}

// scattered is the shared gradient that a network's own gradients make.
func (c *pathCase) scattered(t *testing.T, s *Supernet, p nn.Path, alone *Model) []float32 {
	a := s.arena.Device().NewArena()
	defer a.Free()
	want := a.Zeros(s.Grad.Len())
	at := func(i int) *exec.Buffer { return want.Slice(s.offset[i], s.Variables[i].Len()) }
	for i, g := range alone.Gradients() {
		b := p.Bindings[i]
		v, whole := alone.variables[i], s.Variables[b.Shared]
		if g == nil {
			continue
		}
		if op, ok := p.Nodes[v.Node].Op.(nn.Conv); ok && v.Role == nn.Weight && op.Groups > 1 {
			e := elastic.Gradient{K: whole.Shape[0], C: v.Shape[3], LD: whole.Shape[3], DOut: a.Floats(g),
				Weight: s.State.Slice(s.offset[b.Shared], whole.Len()), DWeight: at(b.Shared)}
			for _, k := range b.Through {
				e.Matrices = append(e.Matrices, s.State.Slice(s.offset[k], s.Variables[k].Len()))
				e.DMatrices = append(e.DMatrices, at(k))
			}
			program := a.NewProgram("scatter")
			e.Record(program)
			program.Run(1)
			continue
		}
		columns, rows, wholeRows := v.Shape[len(v.Shape)-1], 1, 1
		if len(v.Shape) > 1 {
			rows, wholeRows = v.Shape[len(v.Shape)-2], whole.Shape[len(v.Shape)-2]
		}
		for k := 0; k < len(g); k += columns {
			r := k / columns
			to := at(b.Shared).Slice((r/rows*wholeRows+r%rows)*whole.Shape[len(v.Shape)-1], columns)
			sum := to.Values() // of all that take the variable
			for i, x := range g[k : k+columns] {
				sum[i] += x
			}
			to.WriteF32(0, sum)
		}
	}
	return want.Values()
}

// A path that teaches leaves its logits, and one that learns from them has the loss and the gradient that it would have
// from a teacher's. Gradients of paths add up.
func TestPathsLearnFromOthers(t *testing.T) {
	d, err := exec.Open(exec.Config{})
	require.NoError(t, err)
	defer d.Close()
	c := cellPaths(t, "nasbench101-v5", 3, 8, 2)
	s := c.open(t, d)
	defer s.Close()
	path := func(k int, o PathOptions) *Model {
		m, err := s.Path(c.names[k], o, func() (nn.Path, error) { return c.paths[k], nil })
		require.NoError(t, err)
		return m
	}
	soft := nn.Loss{Distill: 1, Temperature: 1}
	s.ZeroGradient()
	path(0, PathOptions{Teach: true}).Step(0, 0)
	taught := s.Grad.Values()
	learner := path(1, PathOptions{Loss: soft})
	learner.Step(0, 0)
	both := s.Grad.Values()

	alone, err := NewModel(d, c.paths[1].Network, Options{Batch: c.batch, Loss: soft, Seed: 4})
	require.NoError(t, err)
	defer alone.Close()
	alone.SetValues(learner.Values())
	alone.Images.WriteF32(0, s.Images.Values())
	alone.Labels.WriteI32(0, []int32{1, 4, 0}[:c.batch])
	alone.Teacher.WriteF32(0, s.Teacher.Values())
	alone.Step(0, 0)
	require.Equal(t, alone.Loss.Values(), learner.Loss.Values())
	require.InDelta(t, alone.TotalLoss(), learner.TotalLoss(), 0)
	for i, g := range c.scattered(t, s, c.paths[1], alone) {
		require.InDelta(t, taught[i]+g, both[i], 1e-5*float64(max(1, both[i])))
	}

	// A loss that is divided among paths is reported as it was.
	half := path(1, PathOptions{Loss: soft, Divide: 2})
	s.ZeroGradient()
	half.Step(0, 0)
	require.InDelta(t, learner.TotalLoss(), half.TotalLoss(), 1e-6)
	learned := s.Grad.Values()
	s.ZeroGradient()
	learner.Step(0, 0)
	for i, g := range s.Grad.Values() {
		require.InDelta(t, g/2, learned[i], 1e-7)
	}
}

// A transient path normalises by each batch as one does whose statistics were computed on that batch alone, for any
// batch, and leaves the shared statistics as they are.
func TestTransientPaths(t *testing.T) {
	c := cellPaths(t, "nasbench101-v4", 2, 8, 2)
	s := c.open(t, openTest(t))
	defer s.Close()
	shared := s.Values()
	labels := make([]int32, c.batch)
	for i, p := range c.paths {
		build := func() (nn.Path, error) { return p, nil }
		own, err := s.Path(c.names[i], PathOptions{EvalOnly: true}, build)
		require.NoError(t, err)
		transient, err := s.Path(c.names[i], PathOptions{Transient: true}, build)
		require.NoError(t, err)
		random := philox.New(9, philox.PurposeTest, uint32(i))
		for range 2 {
			images := make([]float32, s.Images.Len())
			for k := range images {
				images[k] = float32(random.NormFloat64())
			}
			s.Images.WriteF32(0, images)
			for k := range labels {
				labels[k] = int32(random.Intn(5))
			}
			s.Labels.WriteI32(0, labels)
			own.BeginRecalibration()
			own.Recalibrate()
			own.Evaluate()
			want, loss := own.Logits(), own.TotalLoss()
			transient.Evaluate()
			require.InDeltaSlice(t, want, transient.Logits(), 1e-5)
			require.InDelta(t, loss, transient.TotalLoss(), 1e-5)
		}
	}
	require.Equal(t, shared, s.Values())
}

// The memory of many paths does not grow, and what a path computes does not depend on which others were recorded.
func TestMemoryOfManyPaths(t *testing.T) {
	d, err := exec.Open(exec.Config{})
	require.NoError(t, err)
	defer d.Close()
	count := 60
	if testdata.All() {
		count = 1000
	}
	c := cellPaths(t, "nasbench101", 5, 8, count)
	byCost := make([]int, count)
	for k := range byCost {
		byCost[k] = k
	}
	slices.SortStableFunc(byCost, func(i, k int) int { // so that no later one needs more than those before
		return cmp.Compare(c.paths[k].Cost().MAdds, c.paths[i].Cost().MAdds)
	})
	sorted := c
	sorted.paths, sorted.names = nil, nil
	for _, k := range byCost {
		sorted.paths, sorted.names = append(sorted.paths, c.paths[k]), append(sorted.names, c.names[k])
	}
	c = sorted
	s := c.open(t, d)
	defer s.Close()
	losses := make([]float32, count)
	var after20 int64
	for k := range count {
		m, err := s.Path(c.names[k], PathOptions{}, func() (nn.Path, error) { return c.paths[k], nil })
		require.NoError(t, err)
		m.Step(0, 0)
		losses[k] = m.Loss.Values()[0]
		if k == 20 {
			after20 = s.Bytes()
		}
	}
	require.Less(t, float64(s.Bytes()), 1.05*float64(after20))
	recorded := 0
	for k := count - 1; k >= 0; k -= 7 {
		m, err := s.Path(c.names[k], PathOptions{}, func() (nn.Path, error) {
			recorded++
			return c.paths[k], nil
		})
		require.NoError(t, err)
		m.Step(0, 0)
		require.Equal(t, losses[k], m.Loss.Values()[0])
	}
	require.Positive(t, recorded)
	require.Less(t, recorded, (count+6)/7, "the last path is still there")
}

func TestPathsThatAreNone(t *testing.T) {
	d, err := exec.Open(exec.Config{})
	require.NoError(t, err)
	defer d.Close()
	c := cellPaths(t, "nasbench101-v5", 3, 8, 2)
	s := c.open(t, d)
	defer s.Close()
	wide := cellPaths(t, "nasbench101-v5", 3, 12, 1)
	_, err = s.Path("wide", PathOptions{}, func() (nn.Path, error) { return wide.paths[0], nil })
	require.ErrorContains(t, err, "is no part of")
	_, err = s.Path("fails", PathOptions{}, func() (nn.Path, error) { return nn.Path{}, fmt.Errorf("no such path") })
	require.ErrorContains(t, err, "no such path")
	_, err = s.Path("loss", PathOptions{Loss: nn.Loss{Distill: -1}}, func() (nn.Path, error) { return c.paths[0], nil })
	require.ErrorContains(t, err, "distillation weight")
	m, err := s.Path("good", PathOptions{}, func() (nn.Path, error) { return c.paths[0], nil })
	require.NoError(t, err)
	m.Step(0, 0)
	_, err = NewSupernet(d, c.shared, SupernetOptions{Batch: 0, Image: c.paths[0].Input(), Classes: 5})
	require.ErrorContains(t, err, "batches of 0 images")
	_, err = NewSupernet(d, c.shared, SupernetOptions{Batch: 1, Classes: 5})
	require.ErrorContains(t, err, "images of 0x0x0")
}
