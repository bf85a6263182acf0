package testdata

// Formula is the generator of the fixtures' numbers: element i is offset plus a fraction of scale that is exact in
// float32. The formula stands at the top of scripts/peers/fixtures.py.
func Formula(count, tag int, scale, offset float64) []float64 {
	out := make([]float64, count)
	for i := range out {
		x := uint32(uint64(i)*2654435769 + uint64(tag)*2246822507)
		x ^= x >> 16
		x *= 569420461
		x ^= x >> 15
		x *= 1935289751
		x ^= x >> 15
		out[i] = offset + (float64(x>>16)-32768)/32768*scale
	}
	return out
}
