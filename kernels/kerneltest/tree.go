package kerneltest

// Tree is element `at` of the sum of values, a power of two of them, in float32 in the order of a balanced tree.
func Tree(values [][]float32, at int) float32 {
	if half := len(values) / 2; half > 0 {
		return Tree(values[:half], at) + Tree(values[half:], at)
	}
	return values[0][at]
}
