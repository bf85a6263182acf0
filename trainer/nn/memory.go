package nn

import (
	"cmp"
	"slices"
)

// Lifetime is a tensor that needs memory from one step to another.
type Lifetime struct {
	Bytes       int64
	First, Last int // the steps that write it first and use it last
}

// Placement says where in one arena each tensor lies.
type Placement struct {
	Offsets []int64 // in bytes, one a tensor
	Peak    int64   // the arena's size in bytes
	Live    int64   // the most bytes that are live at one step: no placement is smaller
}

// Place gives every tensor an offset, a multiple of align (a positive number of bytes), such that tensors that live at
// the same time do not overlap. The largest tensor is placed first, each in the smallest gap that it fits ("greedy by
// size", Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference"). The result depends on
// nothing but the arguments.
func Place(tensors []Lifetime, align int64) Placement {
	size := func(i int) int64 { return (tensors[i].Bytes + align - 1) / align * align }
	order := make([]int, len(tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(size(b), size(a)) })
	p := Placement{Offsets: make([]int64, len(tensors)), Live: mostLive(tensors, size)}
	var placed []int // by ascending offset
	for _, i := range order {
		gap, best := int64(-1), int64(0)
		end := int64(0) // of the tensors before a gap
		for _, k := range placed {
			if tensors[k].Last < tensors[i].First || tensors[k].First > tensors[i].Last {
				continue
			}
			if room := p.Offsets[k] - end; room >= size(i) && (gap < 0 || room < gap) {
				gap, best = room, end
			}
			end = max(end, p.Offsets[k]+size(k))
		}
		if gap < 0 {
			best = end
		}
		p.Offsets[i] = best
		p.Peak = max(p.Peak, best+size(i))
		at, _ := slices.BinarySearchFunc(placed, best, func(k int, offset int64) int {
			return cmp.Compare(p.Offsets[k], offset)
		})
		placed = slices.Insert(placed, at, i)
	}
	return p
}

// mostLive is the most bytes that are live at one step.
func mostLive(tensors []Lifetime, size func(int) int64) int64 {
	changes := map[int]int64{}
	for i, t := range tensors {
		changes[t.First] += size(i)
		changes[t.Last+1] -= size(i)
	}
	steps := make([]int, 0, len(changes))
	for s := range changes {
		steps = append(steps, s)
	}
	slices.Sort(steps)
	live, most := int64(0), int64(0)
	for _, s := range steps {
		live += changes[s]
		most = max(most, live)
	}
	return most
}
