package dense

import (
	"cmp"
	"slices"
)

// TopKReference returns the indices of the k largest of v in TopK's order.
func TopKReference(v []float32, k int) []int32 {
	index := make([]int32, len(v))
	for i := range index {
		index[i] = int32(i)
	}
	// A NaN is less than any number, zeros are equal.
	slices.SortStableFunc(index, func(a, b int32) int { return cmp.Compare(v[b], v[a]) })
	return index[:k]
}
