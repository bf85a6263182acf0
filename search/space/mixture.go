package space

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Mixed is a space with a network that mixes all of its choices, each times a weight that is learned (Liu et al.,
// "DARTS", ICLR 2019).
type Mixed interface {
	Written
	// Mixture is that network over the variables of Supernet; its rows (nn.Row) are the decisions. An error where the
	// size leaves a decision without a place.
	Mixture(size NetworkSize) (nn.Path, error)
	// Derive is the architecture that the rows' weights stand for, as a text that WrittenPath makes a path of in which
	// its nodes have the places that they have in the mixture. The weights of a row are numbers from 0 to 1.
	Derive(weights [][]float32) (string, error)
}

// mixture names a space's mixture, each row of which some node reads.
func mixture(sp Mixed, build func() (nn.Path, error)) (nn.Path, error) {
	p, err := build()
	if err != nil {
		return p, fmt.Errorf("the mixture of %s: %w", sp.Name(), err)
	}
	p.Name = "the mixture of " + sp.Name()
	read := make([]bool, len(p.Network.Mixture))
	for _, node := range p.Nodes {
		if mix, ok := node.Op.(nn.Mix); ok {
			for row := range mix.Rows {
				read[mix.Row+row] = true
			}
		}
	}
	if i := slices.Index(read, false); i >= 0 {
		return p, fmt.Errorf("%s: a network of this size decides nothing by %s", p.Name, p.Network.Mixture[i].Name)
	}
	return p, nil
}

// checkWeights tells why weights are none of a space's rows.
func checkWeights(sp Space, rows []nn.Row, weights [][]float32) error {
	if len(weights) != len(rows) {
		return fmt.Errorf("%s: %d rows of weights, want %d", sp.Name(), len(weights), len(rows))
	}
	for i, row := range rows {
		if len(weights[i]) != len(row.Choices) {
			return fmt.Errorf("%s: row %s has %d weights, want %d", sp.Name(), row.Name, len(weights[i]),
				len(row.Choices))
		}
		for k, w := range weights[i] {
			if !(w >= 0 && w <= 1) {
				return fmt.Errorf("%s: row %s has weight %v of %s, want a number from 0 to 1", sp.Name(), row.Name, w,
					row.Choices[k])
			}
		}
	}
	return nil
}

// largest is the place of the largest weight, of equal ones the first.
func largest(weights []float32) int {
	best := 0
	for k, w := range weights {
		if w > weights[best] {
			best = k
		}
	}
	return best
}
