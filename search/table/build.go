package table

import (
	"bytes"
	"cmp"
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
		if c.params >= 0 && c.params != cost.Params {
			return hash, fmt.Errorf("%d parameters, the architecture has %d", c.params, cost.Params)
		}
		if c.madds >= 0 && c.madds != cost.MAdds {
			return hash, fmt.Errorf("%d multiply-adds, the architecture has %d", c.madds, cost.MAdds)
		}
	}
	return hash, nil
}

// builder gathers the records of a file, in whatever order they come.
type builder struct {
	metrics []Metric
	cells   []space.Cell
	hashes  []moduleHash
	places  []place
	values  [][]float64 // by metric; NaN is missing, and what a column lacks at its end
	index   map[space.Cell]int32

	// Other spaces than NASBench101; cells and index are then empty.
	space  space.Space
	archs  []space.Arch
	at     map[space.Arch]int32
	merge  bool  // an architecture may come again: the mean of its values counts
	merged int   // rows that did
	times  []int // how often each architecture came
}

func newBuilder(metrics []Metric) *builder {
	return &builder{metrics: metrics, values: make([][]float64, len(metrics)), index: map[space.Cell]int32{}}
}

// add appends an architecture that the table has not got yet and returns its row.
func (b *builder) add(c space.Cell, h moduleHash, at place) int {
	row := len(b.cells)
	b.cells = append(b.cells, c)
	b.hashes = append(b.hashes, h)
	b.places = append(b.places, at)
	b.index[c] = int32(row)
	return row
}

func (b *builder) set(metric, row int, v float64) {
	for len(b.values[metric]) < row {
		b.values[metric] = append(b.values[metric], math.NaN())
	}
	if len(b.values[metric]) == row {
		b.values[metric] = append(b.values[metric], v)
	} else {
		b.values[metric][row] = v
	}
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
	t := b.list(order)
	sorted := make([]float64, len(order))
	for m, metric := range b.metrics {
		known := false
		for i, row := range order {
			sorted[i] = math.NaN()
			if int(row) < len(b.values[m]) {
				sorted[i] = b.values[m][row]
			}
			known = known || sorted[i] == sorted[i]
		}
		if known {
			t.columns = append(t.columns, pack(metric, sorted))
		}
		b.values[m] = nil
	}
	slices.SortStableFunc(t.columns, func(x, y *column) int { return compareMetrics(x.Metric, y.Metric) })
	if len(t.columns) == 0 {
		return nil, in.fail(-1, 0, 0, errors.New("the table holds no number"))
	}
	return t, nil
}

// list is a table of the architectures in an order, without numbers.
func (b *builder) list(order []int32) *Table {
	if b.space == nil {
		cells := make([]byte, 0, 8*len(order))
		for _, row := range order {
			cells = binary.LittleEndian.AppendUint64(cells, uint64(b.cells[row]))
		}
		return &Table{space: space.NASBench101{}, cells: newSection("cells", cells)}
	}
	t := &Table{space: b.space, at: make(map[space.Arch]int32, len(order))}
	for i, row := range order {
		t.archs = append(t.archs, b.archs[row])
		t.at[b.archs[row]] = int32(i)
	}
	if b.merged > 0 {
		t.note = fmt.Sprintf("; %d rows that write an architecture once more, averaged", b.merged)
	}
	return t
}

// row is a record of a format that has one an architecture.
type row struct {
	cell   space.Cell
	arch   space.Arch // of another space than NASBench101
	hash   moduleHash
	at     place
	values []float64 // by metric
}

// addRow adds a row; an architecture must not come twice.
func (b *builder) addRow(in *input, r row) error {
	if r.arch != nil {
		return b.addArch(in, r)
	}
	if first, twice := b.index[r.cell]; twice {
		return in.fail(r.at.record, r.at.offset, r.at.line, b.twice(r.cell, first))
	}
	i := b.add(r.cell, r.hash, r.at)
	for m, v := range r.values {
		b.set(m, i, v)
	}
	return nil
}

func (b *builder) twice(a space.Arch, first int32) error {
	p := b.places[first]
	if p.line > 0 {
		return fmt.Errorf("the architecture %v stands at line %d already", a, p.line)
	}
	return fmt.Errorf("the architecture %v stands at record %d already", a, p.record)
}

// addArch is addRow for other spaces than NASBench101.
func (b *builder) addArch(in *input, r row) error {
	i, twice := b.at[r.arch]
	switch {
	case twice && !b.merge:
		return in.fail(r.at.record, r.at.offset, r.at.line, b.twice(r.arch, i))
	case !twice:
		i = int32(len(b.archs))
		b.at[r.arch] = i
		b.archs, b.hashes, b.places, b.times = append(b.archs, r.arch), append(b.hashes, r.hash), append(b.places, r.at), append(b.times, 0)
	default:
		b.merged++
	}
	b.times[i]++
	for m, v := range r.values {
		if b.times[i] > 1 { // the mean of all so far
			before := b.values[m][i]
			v = before + (v-before)/float64(b.times[i])
		}
		b.set(m, int(i), v)
	}
	return nil
}

func (in *input) workers() int { return cmp.Or(max(in.threads, 0), runtime.GOMAXPROCS(0)) }

// inOrder reads with one goroutine, works with several and consumes in the order of reading, so that neither result nor error depends on
// their number. produce hands records out with emit until that returns an error, and returns it. The error returned is the earliest
// in that order; one that produce returns comes after all it has emitted.
func inOrder[In, Out any](workers int, produce func(emit func(In) error) error, work func(In) (Out, error), consume func(Out) error) error {
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
		if failure = r.err; failure == nil {
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
func eachRow(workers, n int, f func(i int) error) error {
	failures := make([]error, workers)
	rows := make([]int, workers)
	var group errgroup.Group
	for w := range workers {
		group.Go(func() error {
			for begin := w * batchSize; begin < n; begin += workers * batchSize {
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
	return first
}
