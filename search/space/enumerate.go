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

// nasbench101Size is the number of cells that are not isomorphic to each other.
const nasbench101Size = 423624

// structures lists by number of vertices every labelled graph without operations: strictly upper triangular, at most 9 edges, every vertex
// on a path from input to output. There are 1, 2, 10, 121, 1,545 and 4,793 of 2..7 vertices.
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

// labelledCells is the number of labelled cells, isomorphic ones counted apart: 1,293,208.
func labelledCells() int {
	total := 0
	for n, list := range structures() {
		total += len(list) * labellings(max(n, 2))
	}
	return total
}

// labelled returns labelled cell i in 0..labelledCells()-1. Every cell comes once for each of its numberings, so exactly
// one of them is canonical.
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

// All lists the 423,624 cells in ascending order of their hash. It takes seconds, nearly all for MD5, and uses every processor; the
// result does not depend on how many there are. progress is never called twice at once.
func (NASBench101) All(ctx context.Context, progress func(done, total int)) ([]Arch, error) {
	cells, err := enumerate(ctx, progress)
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

func enumerate(ctx context.Context, progress func(done, total int)) ([]hashedCell, error) {
	const chunk = 1 << 14
	var (
		total = labelledCells()
		next  atomic.Int64
		mu    sync.Mutex
		cells = make([]hashedCell, 0, nasbench101Size)
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
					progress(len(cells), nasbench101Size)
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
