package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// The values of a whole training step are used in the order of the steps and never share memory while they live, and
// the memory comes close to the least that is possible.
func TestMemoryOfAStep(t *testing.T) {
	d := openTest(t)
	for _, name := range []string{"mobilenetv2_1.4", "mobilenetv3_large_1.0", "shufflenetv2_2.0", "shufflenetv1_2.0_g3",
		"darts_v2", "atomnas_c", "nasnet_a_mobile"} {
		net, err := zoo.Build(name, 64, 10)
		require.NoError(t, err)
		m, err := NewModel(d, net, Options{Batch: 2})
		require.NoError(t, err)
		l := &lowering{m: m, name: "train", mode: train}
		l.lower()
		lives := l.lifetimes()
		p := nn.Place(lives, 4*align)
		for i, a := range lives {
			require.LessOrEqual(t, a.First, a.Last)
			require.GreaterOrEqual(t, a.First, 0)
			require.Less(t, a.Last, len(l.steps))
			for k, b := range lives[:i] {
				if a.First <= b.Last && b.First <= a.Last && p.Offsets[i] < p.Offsets[k]+b.Bytes &&
					p.Offsets[k] < p.Offsets[i]+a.Bytes {
					require.Failf(t, "overlap", "%s: %+v and %+v", name, a, b)
				}
			}
		}
		require.Less(t, float64(p.Peak), 1.1*float64(p.Live), name)
		m.Close()
	}
}
