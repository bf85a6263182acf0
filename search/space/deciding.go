package space

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Deciding is a space in whose supernet a path takes some of the choices of each decision that it makes.
type Deciding interface {
	Written
	// Decisions are the supernet's, with their choices, but without costs.
	Decisions() []nn.Row
	// Chosen are the choices that the path of a text takes (WrittenPath): of a decision that it does not make none.
	Chosen(text string) ([]nn.Choice, error)
}

var (
	_ Deciding = NASBench101{}
	_ Deciding = Darts{}
	_ Deciding = BlockChains{}
)

// Decisions are the operations of the vertices.
func (sp NASBench101) Decisions() (rows []nn.Row) {
	for v := 1; v < sp.MaxNodes()-1; v++ {
		rows = append(rows, nn.Row{Name: fmt.Sprintf("vertex%d", v), Choices: opNames[:]})
	}
	return rows
}

// Chosen are the operations of a cell's vertices as they are written.
func (sp NASBench101) Chosen(text string) ([]nn.Choice, error) {
	d, err := writtenCell(text)
	if err != nil {
		return nil, err
	}
	var chosen []nn.Choice
	for v := 1; v < d.n-1; v++ {
		chosen = append(chosen, nn.Choice{Row: v - 1, Choice: int(d.op[v])})
	}
	return chosen, nil
}

// Decisions are the operations of the edges.
func (Darts) Decisions() []nn.Row { return zoo.DARTSRows() }

// Chosen are two operations of each node. An edge may have both.
func (sp Darts) Chosen(text string) ([]nn.Choice, error) {
	g, err := sp.parse(text)
	if err != nil {
		return nil, err
	}
	var chosen []nn.Choice
	first := 0 // of the node's rows
	for _, cell := range g.cells {
		for n := range dartsNodes {
			for _, e := range cell[2*n : 2*n+2] {
				chosen = append(chosen, nn.Choice{Row: first + int(e.from), Choice: int(e.op)})
			}
			first += dartsInputs + n
		}
	}
	return chosen, nil
}

// Decisions are the blocks of the layers.
func (sp BlockChains) Decisions() (rows []nn.Row) {
	for i, layer := range sp.layers() {
		rows = append(rows, nn.Row{Name: fmt.Sprintf("layer%d", i+1), Choices: blockNames(layer)})
	}
	return rows
}

// Chosen are a block of each layer.
func (sp BlockChains) Chosen(text string) ([]nn.Choice, error) {
	a, err := sp.Parse(text)
	if err != nil {
		return nil, err
	}
	var chosen []nn.Choice
	for i, block := range a.(BlockChain).Blocks() {
		chosen = append(chosen, nn.Choice{Row: i, Choice: block})
	}
	return chosen, nil
}
