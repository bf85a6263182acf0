package space

import (
	"math"
	"math/big"
)

// Count is how many distinct architectures a space has. Where exact is false nobody has counted them, and it is the
// number of sequences of decisions, several of which may stand for one architecture.
func Count(sp Space) (n *big.Int, exact bool) {
	switch s := sp.(type) {
	case NASBench101:
		return big.NewInt(int64(nasbench101Sizes[s.MaxNodes()])), true
	case MobileNetV3:
		unit := big.NewInt(int64(len(unitOptions())))
		all := unit.Exp(unit, big.NewInt(mobileUnits), nil)
		return all.Mul(all, big.NewInt(int64(len(s.resolutions)))), true
	case NASBench201, BlockChains: // a decision each, of which every sequence is another architecture
		return sequences(sp.Grammar()), true
	}
	if f := FileOf(sp); f != nil && f.Size() < 1<<53 {
		return big.NewInt(int64(f.Size())), true
	} else if f != nil && !math.IsInf(f.Size(), 0) { // counted in floating point
		n, _ = big.NewFloat(f.Size()).Int(nil)
		return n, false
	}
	return sequences(sp.Grammar()), false
}

// sequences is how many sequences of decisions a grammar allows.
func sequences(g *Grammar) *big.Int {
	sum := new(big.Int)
	for _, variant := range g.Variants {
		ways := big.NewInt(1)
		for _, step := range variant {
			ways.Mul(ways, big.NewInt(int64(step.Choices)))
		}
		sum.Add(sum, ways)
	}
	return sum
}
