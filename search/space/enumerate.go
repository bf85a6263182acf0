package space

import (
	"bytes"
	"context"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// nasbench101Sizes are the numbers of cells of at most so many vertices that are not isomorphic to each other.
var nasbench101Sizes = [maxVertices + 1]int{2: 1, 3: 7, 4: 91, 5: 2532, 6: 64542, 7: 423624}

// structures lists by number of vertices every labelled graph without operations: strictly upper triangular, at most 9
// edges, every vertex on a path from input to output. There are 1, 2, 10, 121, 1,545 and 4,793 of 2..7 vertices.
var structures = sync.OnceValue(func() (list [maxVertices + 1][]dag) {
	for n := 2; n <= maxVertices; n++ {
		d := dag{n: n}
		var extend func(v, edges int, fed uint8)
		extend = func(v, edges int, fed uint8) {
			if edges > maxEdges {
				return
			}
			if v == n {
				if fed == 1<<(n-1)-1 { // every vertex but the output feeds another
					list[n] = append(list[n], d)
				}
				return
			}
			for in := uint8(1); in < 1<<v; in++ {
				d.in[v] = in
				extend(v+1, edges+bits.OnesCount8(in), fed|in)
			}
		}
		extend(1, 0, 0)
	}
	return list
})

// labellings is the number of ways to give n vertices their operations.
func labellings(n int) int {
	ways := 1
	for range n - 2 {
		ways *= len(opNames)
	}
	return ways
}

// labelledCells is the number of labelled cells of at most so many vertices, isomorphic ones counted apart: 1,293,208
// of up to 7.
func labelledCells(vertices int) int {
	total, all := 0, structures()
	for n := 2; n <= vertices; n++ {
		total += len(all[n]) * labellings(n)
	}
	return total
}

// labelled returns labelled cell i in 0..labelledCells(maxVertices)-1, those of fewer vertices first. Every cell comes
// once for each of its numberings, so exactly one of them is canonical.
func labelled(i int) dag {
	all := structures()
	n := 2
	for ; i >= len(all[n])*labellings(n); n++ {
		i -= len(all[n]) * labellings(n)
	}
	d := all[n][i/labellings(n)]
	i %= labellings(n)
	for v := 1; v < n-1; v++ {
		d.op[v] = uint8(i % len(opNames))
		i /= len(opNames)
	}
	return d
}

// All lists the cells in ascending order of their hash. All 423,624 take seconds, nearly all for MD5, and every
// processor is used; the result does not depend on how many there are. progress is never called twice at once.
func (sp NASBench101) All(ctx context.Context, progress func(done, total int)) ([]Arch, error) {
	cells, err := enumerate(ctx, sp.MaxNodes(), progress)
	if err != nil {
		return nil, err
	}
	list := make([]Arch, len(cells))
	for i, c := range cells {
		list[i] = c.cell
	}
	return list, nil
}

// hashedCell is a cell with its module hash.
type hashedCell struct {
	hash digest
	cell Cell
}

func enumerate(ctx context.Context, vertices int, progress func(done, total int)) ([]hashedCell, error) {
	const chunk = 1 << 14
	var (
		total = labelledCells(vertices)
		next  atomic.Int64
		mu    sync.Mutex
		cells = make([]hashedCell, 0, nasbench101Sizes[vertices])
	)
	workers, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() error {
			found := make([]hashedCell, 0, chunk)
			for {
				begin := int(next.Add(chunk)) - chunk
				if begin >= total {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				found = found[:0]
				for i := begin; i < min(begin+chunk, total); i++ {
					d := labelled(i)
					if cell := d.canonical(); cell == d.pack() {
						found = append(found, hashedCell{d.fingerprint(), cell})
					}
				}
				mu.Lock()
				cells = append(cells, found...)
				if progress != nil {
					progress(len(cells), nasbench101Sizes[vertices])
				}
				mu.Unlock()
			}
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(cells, func(a, b hashedCell) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return cells, nil
}
