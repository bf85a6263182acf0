package table

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/ctnas/ctnas/search/space"
	"golang.org/x/sync/errgroup"
)

// Limits that keep a wrong or hostile file from taking the machine down.
const (
	maxRecordBytes = 1 << 20
	maxMetrics     = 256
	batchSize      = 1024 // records that a worker parses at a time
)

// place is where a file has a record.
type place struct {
	record int64
	offset int64
	line   int // 0 in a file without lines
}

// moduleHash is the space's fingerprint of an architecture in bytes.
type moduleHash [16]byte

func parseHash(text string) (h moduleHash, err error) {
	if len(text) != hex.EncodedLen(len(h)) {
		return h, fmt.Errorf("module hash %.40q has %d digits, want %d", text, len(text), hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return h, fmt.Errorf("module hash %q: %w", text, err)
	}
	return h, nil
}

func hashOf(a space.Arch) moduleHash {
	h, err := parseHash(a.Hash())
	if err != nil { // every space makes 32 hexadecimal digits
		return moduleHash{}
	}
	return h
}

// claims are what a file says about an architecture and the space can compute.
type claims struct {
	hash          string // empty where the file has none
	params, madds int64  // negative where the file has none
}

var noClaims = claims{params: -1, madds: -1}

// verify compares a file's claims with what the space computes, and returns the hash.
func (c claims) verify(a space.Arch) (moduleHash, error) {
	hash := hashOf(a)
	if c.hash != "" {
		claimed, err := parseHash(c.hash)
		if err != nil {
			return hash, err
		}
		if claimed != hash {
			return hash, fmt.Errorf("module hash %s does not belong to the graph, whose hash is %x", c.hash, hash)
		}
	}
	if c.params >= 0 || c.madds >= 0 {
		cost := a.Cost()
		if c.params >= 0 && !fits(a, c.params, cost.Params) {
			return hash, fmt.Errorf("%d parameters, the architecture has %d", c.params, cost.Params)
		}
		if c.madds >= 0 && !fits(a, c.madds, cost.MAdds) {
			return hash, fmt.Errorf("%d multiply-adds, the architecture has %d", c.madds, cost.MAdds)
		}
	}
	return hash, nil
}

// fits tells whether a file's cost is that of an architecture. Where isomorphic cells are one, the file may have
// written one with operations that nothing reads, and count them.
func fits(a space.Arch, claimed, cost int64) bool {
	x, described := a.(space.FileArch)
	return claimed == cost || described && x.Isomorphic() && claimed > cost
}

// builder gathers the records of a file, in whatever order they come.
type builder struct {
	coder   space.Coder
	metrics []Metric
	codes   []byte // of the architectures, one behind the other
	hashes  []moduleHash
	places  []place
	values  [][]float64        // by metric; NaN is missing, and what a column lacks at its end
	costs   [len(told)][]int64 // that the file says and the space does not; negative is missing, as in values
	index   *codes

	merge  bool    // an architecture may come again: the mean of its values counts
	merged int     // rows that did
	times  [][]int // with merge: by metric, how many values each architecture has
	code   []byte
}

func newBuilder(in *input, metrics []Metric) *builder {
	return &builder{coder: in.space, metrics: metrics, values: make([][]float64, len(metrics)),
		index: newCodes(in.space.CodeBytes(), 0)}
}

// find returns the row of an architecture, the next one and false where the table has not got it yet.
func (b *builder) find(a space.Arch) (row int, known bool) {
	b.code, _ = b.coder.AppendCode(b.code[:0], a) // readers make architectures of their space
	return b.index.find(b.codes, b.code)
}

// add appends the architecture that find has just not found and returns its row.
func (b *builder) add(h moduleHash, at place) int {
	b.codes = append(b.codes, b.code...)
	b.hashes = append(b.hashes, h)
	b.places = append(b.places, at)
	b.index.add(b.codes)
	return len(b.hashes) - 1
}

// len is the number of architectures so far.
func (b *builder) len() int { return len(b.hashes) }

func (b *builder) set(metric, row int, v float64) {
	b.values[metric] = putAt(b.values[metric], row, v, math.NaN())
}

// putAt puts a value at a place of a list that may have to grow there.
func putAt[T any](list []T, at int, v, gap T) []T {
	for len(list) < at {
		list = append(list, gap)
	}
	if len(list) == at {
		return append(list, v)
	}
	list[at] = v
	return list
}

// finish sorts the rows by hash and packs the columns. A metric without a single value is dropped.
func (b *builder) finish(in *input) (*Table, error) {
	if len(b.hashes) == 0 {
		return nil, in.fail(-1, 0, 0, errors.New("the table lists no architecture"))
	}
	order := make([]int32, len(b.hashes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int { return bytes.Compare(b.hashes[i][:], b.hashes[j][:]) })
	width := b.coder.CodeBytes()
	sorted := make([]byte, 0, len(b.codes))
	for _, row := range order {
		sorted = append(sorted, b.codes[int(row)*width:(int(row)+1)*width]...)
	}
	t := &Table{space: b.coder, coder: b.coder, codes: newSection("architectures", sorted), merged: b.merged}
	values := make([]float64, len(order))
	for m, metric := range b.metrics {
		known := false
		for i, row := range order {
			values[i] = math.NaN()
			if int(row) < len(b.values[m]) {
				values[i] = b.values[m][row]
			}
			known = known || values[i] == values[i]
		}
		if known {
			t.columns = append(t.columns, pack(metric, values))
		}
		b.values[m] = nil
	}
	for k, list := range b.costs {
		if len(list) == 0 {
			continue
		}
		data := make([]byte, 0, 8*len(order))
		for _, row := range order {
			cost := space.Unknown
			if int(row) < len(list) {
				cost = list[row]
			}
			data = binary.LittleEndian.AppendUint64(data, uint64(cost))
		}
		t.costs[k] = newSection(told[k], data)
	}
	slices.SortStableFunc(t.columns, func(x, y *column) int { return compareMetrics(x.Metric, y.Metric) })
	if len(t.columns) == 0 {
		return nil, in.fail(-1, 0, 0, errors.New("the table holds no number"))
	}
	return t, nil
}

// row is a record of a format that has one an architecture.
type row struct {
	arch   space.Arch
	hash   moduleHash
	at     place
	values []float64 // by metric
	claims claims
}

// addRow adds a row; an architecture must not come twice unless they merge.
func (b *builder) addRow(in *input, r row) error {
	i, twice := b.find(r.arch)
	switch {
	case twice && !b.merge:
		return in.fail(r.at.record, r.at.offset, r.at.line, b.twice(r.arch, i))
	case twice:
		b.merged++
	default:
		b.add(r.hash, r.at)
	}
	for m, v := range r.values {
		if b.merge {
			v = b.mean(m, i, v)
		}
		b.set(m, i, v)
	}
	for k, cost := range [len(told)]int64{r.claims.madds, r.claims.params} {
		if cost < 0 || !in.tells[k] {
			continue
		}
		if i < len(b.costs[k]) && b.costs[k][i] >= 0 { // of isomorphic cells the one without what nothing reads
			cost = min(cost, b.costs[k][i])
		}
		b.costs[k] = putAt(b.costs[k], i, cost, space.Unknown)
	}
	return nil
}

// mean is the mean of a row's known values of a metric and one more.
func (b *builder) mean(metric, row int, v float64) float64 {
	if b.times == nil {
		b.times = make([][]int, len(b.metrics))
	}
	before, times := math.NaN(), 0
	if row < len(b.times[metric]) {
		before, times = b.values[metric][row], b.times[metric][row]
	}
	if v != v {
		return before
	}
	b.times[metric] = putAt(b.times[metric], row, times+1, 0)
	if times == 0 {
		return v
	}
	return before + (v-before)/float64(times+1)
}

func (b *builder) twice(a space.Arch, first int) error {
	p := b.places[first]
	if p.line > 0 {
		return fmt.Errorf("the architecture %v stands at line %d already", a, p.line)
	}
	return fmt.Errorf("the architecture %v stands at record %d already", a, p.record)
}

func (in *input) workers() int { return cmp.Or(max(in.threads, 0), runtime.GOMAXPROCS(0)) }

// inOrder reads with one goroutine, works with several and consumes in the order of reading, so that neither result nor
// error depends on their number. produce hands records out with emit until that returns an error, and returns it. The
// error returned is the earliest in that order; one that produce returns comes after all it has emitted. It ends early
// with ctx's error.
func inOrder[In, Out any](
	ctx context.Context, workers int,
	produce func(emit func(In) error) error, work func(In) (Out, error), consume func(Out) error,
) error {
	type result struct {
		out Out
		err error
	}
	type job struct {
		in   In
		done chan result
	}
	jobs := make(chan job, workers)
	queue := make(chan chan result, 2*workers)
	stop := make(chan struct{})
	stopped := errors.New("stopped")
	var group errgroup.Group
	group.Go(func() error {
		defer close(queue)
		defer close(jobs)
		err := produce(func(in In) error {
			j := job{in, make(chan result, 1)}
			if err := ctx.Err(); err != nil {
				return err
			}
			select {
			case queue <- j.done:
			case <-stop:
				return stopped
			}
			select {
			case jobs <- j:
			case <-stop:
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			last := make(chan result, 1)
			last <- result{err: err}
			select {
			case queue <- last:
			case <-stop:
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for j := range jobs {
				out, err := work(j.in)
				j.done <- result{out, err}
			}
			return nil
		})
	}
	var failure error
	for done := range queue {
		r := <-done
		if failure = cmp.Or(ctx.Err(), r.err); failure == nil {
			failure = consume(r.out)
		}
		if failure != nil {
			close(stop)
			break
		}
	}
	_ = group.Wait() // its functions return nil
	return failure
}

// eachRow runs f over 0..n-1 on several goroutines and returns the error of the lowest row that has one.
// It ends early with ctx's error.
func eachRow(ctx context.Context, workers, n int, f func(i int) error) error {
	failures := make([]error, workers)
	rows := make([]int, workers)
	var group errgroup.Group
	for w := range workers {
		group.Go(func() error {
			for begin := w * batchSize; begin < n && ctx.Err() == nil; begin += workers * batchSize {
				for i := begin; i < min(begin+batchSize, n); i++ {
					if err := f(i); err != nil {
						failures[w], rows[w] = err, i
						return nil
					}
				}
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return nil
	var first error
	lowest := n
	for w, err := range failures {
		if err != nil && rows[w] < lowest {
			first, lowest = err, rows[w]
		}
	}
	return cmp.Or(first, ctx.Err())
}
