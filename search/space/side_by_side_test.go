package space

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/kernels/philox"
)

// TestSideBySide asks several goroutines' questions of the same spaces at once, which keep and share what they have
// worked out. All get the same answers; what else is wrong with sharing the race detector sees.
func TestSideBySide(t *testing.T) {
	names := append([]string{"nasbench101", "file:" + examples + "nb201-like.yaml", "file:" + examples + "blocks.yaml"},
		cases...)
	for _, name := range names {
		answers := make([][]Cost, 4)
		var asking errgroup.Group
		for i := range answers {
			asking.Go(func() error {
				sp, err := Open(name)
				if err != nil {
					return err
				}
				s := philox.New(5, philox.PurposeTest, 0)
				for range 5 {
					a := sp.Sample(s)
					b := sp.Mutate(a, s)
					answers[i] = append(answers[i], a.Cost(), b.Cost())
					if _, err := sp.Encode(b); err != nil {
						return err
					}
					b.Graph()
					b.Hash()
				}
				return nil
			})
		}
		require.NoError(t, asking.Wait(), name)
		for _, other := range answers[1:] {
			require.Equal(t, answers[0], other, name)
		}
	}
}
