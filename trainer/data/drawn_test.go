package data

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeldOut(t *testing.T) {
	train := few(4000, 1)
	d := &Dataset{Name: "few", Train: train, Validation: few(2000, 1), Test: few(2000, 1)}
	d.all, d.published = d.Train, d.Validation
	require.Equal(t, []int{400, 2000}, []int{d.HeldOutCount(), d.CalibrationCount()})
	h, err := d.HeldOut(100)
	require.NoError(t, err)
	require.Equal(t, []int{3900, 100, 2000}, []int{h.Train.Len(), h.Validation.Len(), h.Test.Len()})
	require.Equal(t, RandPerm(4000, 2147483647)[:100], h.Validation.index)
	require.True(t, slices.IsSorted(h.Train.index), "the others keep their order")
	all := slices.Sorted(slices.Values(append(slices.Clone(h.Train.index), h.Validation.index...)))
	require.Len(t, slices.Compact(all), 4000)
	more, err := d.HeldOut(101)
	require.NoError(t, err)
	require.Equal(t, h.Validation.index, more.Validation.index[:100], "fewer are the first of more")
	require.Equal(t, []int{4000, 2000}, []int{d.Train.Len(), d.Validation.Len()}, "the set itself is as before")
	require.Equal(t, SplitValidation, h.nameOf(h.Validation))

	c, err := h.Calibration(7)
	require.NoError(t, err)
	require.Equal(t, RandPerm(4000, 937162211)[:7], c.index, "of all training images, as once-for-all has it")

	// Images that were split off before are not trained on either.
	s := d.Split(3, 0.25)
	h, err = s.HeldOut(100)
	require.NoError(t, err)
	all = slices.Concat(h.Train.index, s.Validation.index, h.Validation.index)
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 4000)
	require.Less(t, h.Train.Len(), 3000)
	require.Greater(t, h.Train.Len(), 2900)

	for _, n := range []int{-1, 0, 4000, 5000} {
		_, err = d.HeldOut(n)
		require.ErrorContains(t, err, "images are to be held out: few has 4000 training images")
	}
	_, err = d.Calibration(4001)
	require.EqualError(t, err, "calibration images of few: 4001 images are wanted, there are 4000")
}

func TestDrawnKeepsLabels(t *testing.T) {
	set := few(10, 2).subset([]int{9, 8, 7, 6, 5}).Relabelled([]int32{0, 0, 0, 0, 0, 50, 60, 70, 80, 90})
	drawn, err := set.Drawn(3, 1)
	require.NoError(t, err)
	order := RandPerm(5, 1)
	for i := range drawn.Len() {
		require.Equal(t, set.ImageName(int(order[i])), drawn.ImageName(i))
		require.Equal(t, set.Label(int(order[i])), drawn.Label(i))
	}
}
