package supernet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/data"
)

// A batch that is not whole is filled up with the first images, which have no labels there.
func TestBatchesAreFilled(t *testing.T) {
	d, err := data.Open("imagenet:"+testdata.Images(t), data.Options{})
	require.NoError(t, err)
	const size, one = 4, 3 * 8 * 8
	for _, c := range []struct {
		images, batch, n int
		from             []int // of the set's images
	}{{5, 1, 1, []int{4, 0, 1, 2}}, {4, 0, 4, []int{0, 1, 2, 3}}, {2, 0, 2, []int{0, 1, 0, 1}}} {
		set, err := d.Train.Drawn(c.images, 1)
		require.NoError(t, err)
		decoded, err := data.Decode(t.Context(), set, data.DecodeConfig{Transform: d.EvalTransform(8)})
		require.NoError(t, err)
		all := make([]float32, c.images*one)
		decoded.Batch(0, all, make([]int32, c.images))
		b := &batch{images: make([]float32, size*one), labels: make([]int32, size)}
		b.n = decoded.Batch(c.batch, b.images, b.labels)
		require.Equal(t, c.n, b.n)
		b.fill(decoded)
		for i, from := range c.from {
			require.Equal(t, all[from*one:][:one], b.images[i*one:][:one], "image %d", i)
			require.Equal(t, i >= c.n, b.labels[i] < 0, "label %d", i)
		}
	}
}
