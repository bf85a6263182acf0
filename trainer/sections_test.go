package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// sameInSections cuts a network's evaluation at random places, a few times: it leaves what the evaluation leaves.
func sameInSections(t *testing.T, d *exec.Device, net *nn.Network) {
	t.Helper()
	m, err := NewModel(d, net, Options{Batch: 3, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.Initialize(nn.HeFanOut, 1)
	s := philox.New(1, philox.PurposeTest, 0)
	m.Labels.WriteI32(0, []int32{1, 2, 3})
	stored := map[int]bool{}
	for _, i := range m.fusion.Stored {
		stored[i] = true
	}
	for range 3 {
		images := make([]float32, m.Images.Len())
		for i := range images {
			images[i] = float32(s.NormFloat64())
		}
		m.Images.WriteF32(0, images)
		m.Evaluate()
		want, loss := m.Logits(), m.TotalLoss()
		section := make([]int, len(net.Nodes))
		at := 0
		for i := range section { // a section begins where something is computed
			if i > 1 && stored[i] && s.Intn(4) == 0 {
				at++
			}
			section[i] = at
		}
		sections, err := m.Sections(section)
		require.NoError(t, err)
		require.Equal(t, at+1, sections.Len())
		m.Images.WriteF32(0, make([]float32, len(images))) // so that what the evaluation left is not what is looked at
		m.Evaluate()
		require.NotEqual(t, want, m.Logits())
		m.Images.WriteF32(0, images)
		ms := make([]float64, sections.Len())
		sections.Times(ms)
		require.Equal(t, loss, m.TotalLoss())
		require.Equal(t, want, m.Logits())
		for _, v := range ms {
			require.Positive(t, v)
		}
		require.Positive(t, m.EvaluationTime(1))
	}
}

func TestSectionsEvaluate(t *testing.T) {
	net, err := zoo.Build("mobilenetv3_large_1.0", 64, 10)
	require.NoError(t, err)
	sameInSections(t, openTest(t), net)
	net, err = inverted(nn.Shape{H: 14, W: 14, C: 3})
	require.NoError(t, err)
	sameInSections(t, openTest(t), net)
	for _, device := range kerneltest.Accelerators() {
		for _, p := range []exec.Precision{exec.FP32, exec.BF16} {
			sameInSections(t, openOn(t, device, p), net)
		}
	}
}

func TestSectionsMustFollowTheNodes(t *testing.T) {
	net, err := inverted(nn.Shape{H: 14, W: 14, C: 3})
	require.NoError(t, err)
	m, err := NewModel(openTest(t), net, Options{Batch: 1, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	_, err = m.Sections(make([]int, 3))
	require.ErrorContains(t, err, "sections of 3 nodes")
	gap := make([]int, len(net.Nodes))
	gap[len(gap)-1] = 2
	_, err = m.Sections(gap)
	require.ErrorContains(t, err, "is of section 2, the one before of 0")
	gap[len(gap)-1] = -1
	_, err = m.Sections(gap)
	require.ErrorContains(t, err, "is of section -1")
}
