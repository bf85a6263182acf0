package zoo_test

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// onceForAll holds what once-for-all's package makes of a supernet; scripts/peers/supernet.py writes it and documents
// its format.
type onceForAll struct {
	width                        float64
	Classes, Parameters, Tensors int
	Variables                    string
	Tag                          int
	Images                       struct {
		Shape         []int
		Tag           int
		Scale, Offset float64
	}
	Networks map[string]struct {
		Depths, Kernels, Expansions string
		Logits                      []float64
	}
	Orders map[string][]struct{ Middle, Squeezed []int }
}

func openOnceForAll(t *testing.T, width float64) (f onceForAll, shared nn.Shared) {
	text, err := os.ReadFile(fmt.Sprintf("testdata/once_for_all_w%g.json", width))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &f))
	f.width = width
	shared, err = zoo.OnceForAll{Width: width}.Supernet(f.Classes)
	require.NoError(t, err)
	return f, shared
}

func (f *onceForAll) values(shared nn.Shared) (values [][]float32) {
	for i, v := range shared.Variables {
		scale, offset := f.scale(v)
		values = append(values, nn.FromTorch(v, floats32(testdata.Formula(v.Len(), f.Tag+i, scale, offset))))
	}
	return values
}

// scale is how large the values of a variable are.
func (*onceForAll) scale(v nn.Variable) (scale, offset float64) {
	switch {
	case strings.HasSuffix(v.Name, "_matrix"):
		return 0.25, 0
	case v.Role == nn.Scale || v.Role == nn.Variance:
		return 0.5, 1
	case v.Role != nn.Weight:
		return 0.25, 0
	}
	shape := v.TorchShape()
	inputs := v.Len() / shape[0]
	k := 0
	for 1<<(2*k+2) <= inputs {
		k++
	}
	return math.Ldexp(1, -k), 0
}

// The supernets are those of once-for-all's package: the same tensors in the same order.
func TestSupernetsOfOnceForAll(t *testing.T) {
	for _, width := range []float64{0.35, 1, 1.2} {
		f, shared := openOnceForAll(t, width)
		var lines strings.Builder
		parameters, tensors := 0, 0
		for _, v := range shared.Variables {
			shape := strings.ReplaceAll(strings.Trim(fmt.Sprint(v.TorchShape()), "[]"), " ", "x")
			fmt.Fprintf(&lines, "%s %s\n", v.Name, shape)
			if v.Role.Trainable() {
				parameters += v.Len()
			}
			if tensors++; v.Role == nn.Scale {
				tensors++ // PyTorch counts a norm's batches
			}
		}
		require.Equal(t, f.Parameters, parameters)
		require.Equal(t, f.Tensors, tensors)
		require.Equal(t, f.Variables, fmt.Sprintf("%x", md5.Sum([]byte(lines.String()))))
	}
	shared, err := zoo.OnceForAll{Width: 1}.Supernet(1000)
	require.NoError(t, err)
	parameters := 0
	for _, v := range shared.Variables {
		if v.Role.Trainable() {
			parameters += v.Len()
		}
	}
	require.Equal(t, 7678880, parameters)
}

// Sub-networks compute what they do in the package, with the statistics of the same images.
func TestPathsOfOnceForAll(t *testing.T) {
	widths := []float64{0.35}
	if testdata.All() {
		widths = append(widths, 1, 1.2)
	}
	for _, width := range widths {
		f, shared := openOnceForAll(t, width)
		values := f.values(shared)
		batch, side := f.Images.Shape[0], f.Images.Shape[1]
		images := testdata.Formula(batch*side*side*3, f.Images.Tag, f.Images.Scale, f.Images.Offset)
		for _, n := range f.Networks {
			o := zoo.OnceForAll{Width: width}
			for i, d := range n.Depths {
				o.Depths[i] = int(d - '0')
			}
			for i := range o.Kernels {
				o.Kernels[i], o.Ratios[i] = int(n.Kernels[i]-'0'), int(n.Expansions[i]-'0')
			}
			p, err := o.Path(side, f.Classes)
			require.NoError(t, err)
			require.NoError(t, shared.Check(p))
			m := reference.Path(shared, p, values)
			// The batch's statistics are those that a calibration on it would leave.
			logits := m.Forward(images, batch, reference.Mode{Train: true}).Logits(0)
			require.Len(t, n.Logits, len(logits))
			for i, want := range n.Logits {
				require.InDelta(t, want, logits[i], 1e-10, "w%g %+v", width, o)
			}
		}
	}
}

func floats32(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// Channels are sorted as the package does, in float64.
func TestChannelOrderOfOnceForAll(t *testing.T) {
	f, shared := openOnceForAll(t, 0.35)
	values := f.values(shared)
	for stage, trained := range map[string][]int{"0": nil, "1": {4}} {
		order, err := zoo.OnceForAll{Width: f.width}.SortChannels(shared, values, trained...)
		require.NoError(t, err)
		require.Len(t, order, len(f.Orders[stage]))
		for i, want := range f.Orders[stage] {
			middle, squeezed := order.Block(i + 1)
			require.Equal(t, want.Middle, middle, "stage %s, block %d", stage, i+1)
			require.Equal(t, want.Squeezed, append([]int{}, squeezed...), "stage %s, block %d", stage, i+1)
		}
	}
}

// Sorting leaves what the largest network computes, and puts the channels that count first.
func TestSortedChannelsComputeTheSame(t *testing.T) {
	o := zoo.OnceForAll{Width: 0.35, Whole: 2}
	shared, err := o.Supernet(3)
	require.NoError(t, err)
	s := philox.New(7, philox.PurposeTest, 0)
	values := shared.Initialize(nn.TorchDefault, 1)
	for i, v := range shared.Variables {
		for k := range values[i] {
			if v.Role != nn.Weight { // norms and statistics differ by channel
				values[i][k] += float32(s.Float64())
			}
		}
	}
	p, err := o.Largest().Path(16, 3)
	require.NoError(t, err)
	images := make([]float64, p.Input().Len())
	for i := range images {
		images[i] = s.NormFloat64()
	}
	logits := func(values [][]float32) []float64 {
		return reference.Path(shared, p, values).Forward(images, 1, reference.Mode{}).Logits(0)
	}
	want := logits(values)
	for _, trained := range [][]int{nil, {4}} {
		order, err := o.SortChannels(shared, values, trained...)
		require.NoError(t, err)
		sorted, err := order.Apply(shared, values)
		require.NoError(t, err)
		require.NotEqual(t, values, sorted)
		require.InDeltaSlice(t, want, logits(sorted), 1e-12)
		require.Greater(t, math.Abs(want[0]), 1e-3)
		again, err := o.SortChannels(shared, sorted, trained...)
		require.NoError(t, err)
		middle, _ := again.Block(20)
		for c, was := range middle {
			require.Equal(t, c, was, "sorted channels are in their order")
		}
	}
	_, err = o.SortChannels(shared, values[1:])
	require.ErrorContains(t, err, "values of")
	_, err = o.SortChannels(nn.Shared{Name: "other"}, nil)
	require.ErrorContains(t, err, "is no supernet of once-for-all")
}

// Matrices start as identities, the ends of residual blocks as zeros where that is asked for, all else as in networks.
func TestSupernetStarts(t *testing.T) {
	o := zoo.OnceForAll{Width: 0.35}
	shared, err := o.Supernet(10)
	require.NoError(t, err)
	values := shared.Initialize(nn.HeFanOut, 3)
	require.Len(t, shared.Branches, 16) // block 0, and all but the first of each unit
	shared.ZeroBranches(values)
	zeros := 0
	for i, v := range shared.Variables {
		switch {
		case strings.HasSuffix(v.Name, "_matrix"):
			n := v.Shape[0]
			for k, x := range values[i] {
				require.Equal(t, k/n == k%n, x == 1)
				require.True(t, x == 0 || x == 1)
			}
		case v.Role == nn.Scale && values[i][0] == 0:
			require.True(t, strings.HasSuffix(v.Name, "point_linear.bn.bn.weight") ||
				v.Name == "blocks.0.conv.point_linear.bn.weight", v.Name)
			zeros++
		case v.Name == "blocks.7.conv.depth_conv.conv.conv.weight": // variance 2 / fan-out
			sum := 0.0
			for _, x := range values[i] {
				sum += float64(x) * float64(x)
			}
			require.InDelta(t, 2./49, sum/float64(v.Len()), 0.1*2./49)
		}
	}
	require.Equal(t, 16, zeros)
}
