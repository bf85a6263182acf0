package guided

import (
	"cmp"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/space"
)

// Pseudo is a pair whose comparison the comparator itself made.
type Pseudo struct {
	A, B   space.Arch
	Target float32
	Round  int
}

// Confident picks of pairs with their probabilities the n most confident ones, half of each class: those most surely
// won and those most surely lost. Taking one end only, as the released code does, gives pairs of one class, of which
// nothing is learned.
func Confident(a, b []space.Arch, p []float64, n, round int) []Pseudo {
	order := make([]int, 0, len(p))
	for i := range p {
		if a[i] != b[i] {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(p[j], p[i]) })
	half := min(n/2, len(order)/2)
	var out []Pseudo
	take := func(i int, won bool) {
		if won == (p[i] >= 0.5) {
			target := float32(0)
			if won {
				target = 1
			}
			out = append(out, Pseudo{a[i], b[i], target, round})
		}
	}
	for k := range half {
		take(order[k], true)
		take(order[len(order)-1-k], false)
	}
	return out
}

// Age drops what is older than some rounds and keeps the newest pairs within a size.
func Age(pool []Pseudo, round, rounds, size int) []Pseudo {
	pool = slices.DeleteFunc(pool, func(p Pseudo) bool { return p.Round < round-rounds })
	if extra := len(pool) - size; extra > 0 {
		pool = slices.Delete(pool, 0, extra)
	}
	return pool
}

// Join adds pseudo-labelled pairs to training data of architectures that stand first.
func Join(
	data gcn.Data, sp space.Space, net gcn.Network, archs []space.Arch, pool []Pseudo, weight float64,
) gcn.Data {
	if len(pool) == 0 {
		return data
	}
	number := make(map[space.Arch]int, len(archs)+2*len(pool))
	for i, a := range archs {
		number[a] = i
	}
	at := func(a space.Arch) int {
		i, ok := number[a]
		if !ok {
			i = len(data.Graphs)
			number[a] = i
			catalogue.Add(&data, sp, net, a)
		}
		return i
	}
	for _, p := range pool {
		data.Pairs = append(data.Pairs, gcn.Pair{A: at(p.A), B: at(p.B), Target: p.Target})
	}
	data.PairWeight = weight
	return data
}
