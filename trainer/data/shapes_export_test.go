package data

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWriteShapes is our side of scripts/peers/one_shot.py, which names a folder in CTNAS_SHAPES: train.bin and
// heldout.bin there hold the images of `shapes` that a supernet is trained on and the 500 that judge it, in CIFAR-10's
// binary form (a byte for the class, then three planes of 32x32).
func TestWriteShapes(t *testing.T) {
	dir := os.Getenv("CTNAS_SHAPES")
	if dir == "" {
		t.Skip("scripts/peers/one_shot.py runs this")
	}
	d, err := Open("shapes", Options{})
	require.NoError(t, err)
	d, err = d.HeldOut(500)
	require.NoError(t, err)
	for name, set := range map[string]*Set{"train": d.Train, "heldout": d.Validation} {
		var out []byte
		for i := range set.Len() {
			pix, _, _, err := set.Image(i)
			require.NoError(t, err)
			out = append(out, byte(set.Label(i)))
			for c := range 3 {
				for k := c; k < len(pix); k += 3 {
					out = append(out, pix[k])
				}
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".bin"), out, 0o644))
	}
}
