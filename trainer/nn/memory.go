package nn

import (
	"cmp"
	"slices"
)

// Lifetime is a tensor that needs memory from one step to another.
type Lifetime struct {
	Name        string
	Bytes       int64
	First, Last int // the steps that write it first and use it last
}

// Placement says where in one arena each tensor lies.
type Placement struct {
	Offsets []int64 // in bytes, one a tensor
	Peak    int64   // the arena's size in bytes
	Live    int64   // the most bytes that are live at one step: no placement is smaller
}

// Place gives every tensor an offset, a multiple of align (a positive number of bytes), such that tensors that live at the same time do not
// overlap. The largest tensor is placed first, each in the smallest gap that it fits ("greedy by size", Pisarchyk and Lee 2020, "Efficient
// memory management for deep neural net inference"). The result depends on nothing but the arguments.
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
		at, _ := slices.BinarySearchFunc(placed, best, func(k int, offset int64) int { return cmp.Compare(p.Offsets[k], offset) })
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

// Lifetimes lists the tensors of a training step for a batch, with elements of the given number of bytes: of each stored node but the images
// its value, and of each that gradients flow through its gradient, named "gradient of" the node. The steps are the stored nodes in order (step
// 0 is the images), the loss, and the nodes again in reverse order: with s stored nodes, node k (from 0) runs forward in step k and backward in
// step 2s - k. A backward step reads what the node loaded where its own gradient, a pending activation, gate or batch norm needs it.
func (f *Fusion) Lifetimes(batch, bytes int) []Lifetime {
	position := make([]int, len(f.Nodes))
	for k, i := range f.Stored {
		position[i] = k
	}
	count := len(f.Stored)
	backward := func(i int) int { return 2*count - position[i] }
	last := make([]int, len(f.Nodes))  // of the value
	first := make([]int, len(f.Nodes)) // of the gradient
	for _, i := range f.Stored {
		last[i], first[i] = position[i], backward(i)
		if f.Summed[i] {
			last[i] = backward(i) // dz is formed from the gradient and z
		}
	}
	for _, out := range f.Outputs {
		last[out.Node], first[out.Node] = max(last[out.Node], count), count
	}
	for _, i := range f.Stored {
		again := readsAgain(f.Nodes[i].Op)
		for _, v := range f.Reads(i) {
			until := position[i]
			if again || !v.plain() {
				until = backward(i)
			}
			for {
				last[v.Raw] = max(last[v.Raw], until)
				first[v.Raw] = min(first[v.Raw], backward(i))
				if v.Gate == 0 {
					break
				}
				v = f.Views[v.Gate]
			}
		}
	}
	flows := f.flows()
	var all []Lifetime
	for _, i := range f.Stored[1:] {
		node := f.Nodes[i]
		size := int64(batch) * int64(node.Shape.Len()) * int64(bytes)
		all = append(all, Lifetime{node.Name, size, position[i], last[i]})
		if flows[i] {
			all = append(all, Lifetime{"gradient of " + node.Name, size, first[i], backward(i)})
		}
	}
	return all
}

// readsAgain tells whether an operation's backward step reads its inputs: for the gradient of a weight, to find the largest element again,
// or for the slope of something that could not be fused.
func readsAgain(op Op) bool {
	switch op.(type) {
	case Conv, Linear, BatchNorm, MaxPool, Activation, Gate:
		return true
	}
	return false
}

// flows tells of each node whether a gradient by its output is of use: whether a parameter comes before or in it.
func (f *Fusion) flows() []bool {
	flows := make([]bool, len(f.Nodes))
	for i, node := range f.Nodes {
		_, flows[i] = node.Op.(parametric)
		for _, in := range node.In {
			flows[i] = flows[i] || flows[in]
		}
		if _, ok := node.Op.(Zero); ok {
			flows[i] = false
		}
	}
	return flows
}
