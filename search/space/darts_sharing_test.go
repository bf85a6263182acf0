package space

import (
	"math"
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

// Of each node the two edges with the largest weight besides none's stay; of equal ones the first.
func TestDartsDerive(t *testing.T) {
	sp := open(t, "darts@cifar10").(Darts)
	rows := func() [][]float32 {
		rows := make([][]float32, 2*dartsRows)
		for i := range rows {
			rows[i] = []float32{9, 0, 0, 0, 0, 0, 0, 0} // none is not looked at
		}
		return rows
	}
	derive := func(w [][]float32) string {
		a, err := sp.Derive(w, nil)
		require.NoError(t, err)
		normal, reduce := a.(Genotype).Cells()
		require.Len(t, append(normal, reduce...), 2*dartsEdges)
		return a.String()
	}
	text := func(normal, reduce string) string {
		a, err := sp.Parse("Genotype(normal=[" + normal + "], normal_concat=range(2, 6), reduce=[" + reduce +
			"], reduce_concat=range(2, 6))")
		require.NoError(t, err)
		return a.String()
	}
	const first = "('max_pool_3x3', 0), ('max_pool_3x3', 1)"
	flat := strings.Join([]string{first, first, first, first}, ", ")
	w := rows()
	require.Equal(t, text(flat, flat), derive(w))

	w[4][dartsSep5] = 0.3                         // normal: node 3 reads node 2 (rows 2, 3, 4)
	w[2][dartsSkip] = 0.2                         // and input 0
	w[2][dartsDil3] = 0.1                         // by its largest
	w[dartsRows+9+4][dartsDil5] = 0.5             // reduce: node 5 reads node 4 (rows 9 to 13)
	w[dartsRows+9+1][dartsSep3] = math.MaxFloat32 // and input 1
	w[dartsRows+9+2][dartsSep3] = 0.25            // not node 2
	require.Equal(t, text(strings.Join([]string{first, "('sep_conv_5x5', 2), ('skip_connect', 0)", first, first}, ", "),
		strings.Join([]string{first, first, first, "('dil_conv_5x5', 4), ('sep_conv_3x3', 1)"}, ", ")), derive(w))

	_, err := sp.Derive(w[1:], nil)
	require.ErrorContains(t, err, "27 rows of weights, want 14 of each of two cells")
	w[3] = w[3][1:]
	_, err = sp.Derive(w, nil)
	require.ErrorContains(t, err, "row 3 has 7 weights, want 8")
	for _, op := range []int{dartsMaxPool, dartsDil5} {
		w = rows()
		w[0][op] = float32(math.NaN())
		_, err = sp.Derive(w, nil)
		require.ErrorContains(t, err, "row 0 has a weight that is no number")
	}
}
