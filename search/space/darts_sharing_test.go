package space

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The search network has the 1.930618 million parameters that the published code prints (quark0/darts,
// train_search.py on CIFAR-10); a path has a part of them, whole variables, each in the place of its operation.
func TestDartsSupernet(t *testing.T) {
	sp := open(t, "darts@cifar10").(Sharing)
	shared, err := sp.Supernet(NetworkSize{})
	require.NoError(t, err)
	parameters := 0
	for _, v := range shared.Variables {
		if v.Role.Trainable() {
			parameters += v.Len()
		}
	}
	require.Equal(t, 1930618, parameters)

	a, err := sp.Parse(dartsV2)
	require.NoError(t, err)
	a = a.(Genotype).on(1)
	p, err := sp.Path(a, NetworkSize{})
	require.NoError(t, err)
	require.Equal(t, a.String(), p.Name)
	reduces, normals := map[string]bool{}, map[string]bool{}
	for i, v := range p.Variables() {
		name := shared.Variables[p.Bindings[i].Shared].Name
		require.Equal(t, v.Shape, shared.Variables[p.Bindings[i].Shared].Shape, name)
		if cut, of := strings.CutPrefix(name, "cell2.node"); of && strings.Contains(name, ".from") {
			reduces[strings.Join(strings.Split(cut, ".")[:3], " ")] = true
		} else if cut, of := strings.CutPrefix(name, "cell7.node"); of && strings.Contains(name, ".from") {
			normals[strings.Join(strings.Split(cut, ".")[:3], " ")] = true
		}
	}
	normal, reduce := a.(Genotype).Cells()
	require.Equal(t, weighted(normal, 1), normals)
	require.Equal(t, weighted(reduce, 2), reduces)

	_, err = sp.Path(a.(Genotype).on(0), NetworkSize{})
	require.ErrorContains(t, err, "not in the supernet of darts@cifar10")
	_, err = sp.Path(Cell(0), NetworkSize{})
	require.ErrorContains(t, err, "not in the supernet of darts@cifar10")
}

// on is the genotype in another network.
func (g Genotype) on(macro uint8) Genotype {
	g.macro = macro
	return g
}

// weighted are the places of a cell's operations that have variables: all but none, and but an identity.
func weighted(cell []DartsOp, stride int) map[string]bool {
	places := map[string]bool{}
	for i, op := range cell {
		if op.Name == "none" || op.Name == "skip_connect" && (stride == 1 || op.From > 1) {
			continue
		}
		places[string(rune('2'+i/2))+" from"+string(rune('0'+op.From))+" "+op.Name] = true
	}
	return places
}
