package table

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// section is a stretch of a table's bytes with its checksum. Those of a file are read, and compared with it, when they
// are first asked for: a file of 100 MB opens at once. They are read, not mapped: a mapped file that somebody shortens
// kills the program.
type section struct {
	name string
	size int64
	crc  uint32
	data []byte                 // after check
	load func() ([]byte, error) // nil: data is there from the beginning

	once sync.Once
	err  error
}

func newSection(name string, data []byte) *section {
	return &section{name: name, size: int64(len(data)), data: data, crc: crc32.Checksum(data, castagnoli)}
}

// fetch returns the bytes, without keeping those of a file.
func (s *section) fetch() ([]byte, error) {
	data := s.data
	if s.load != nil {
		var err error
		if data, err = s.load(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if crc32.Checksum(data, castagnoli) != s.crc {
		return nil, fmt.Errorf("%s: checksum does not match, the file is damaged", s.name)
	}
	return data, nil
}

// check fetches the bytes into data, once.
func (s *section) check() error {
	s.once.Do(func() { s.data, s.err = s.fetch() })
	return s.err
}

// column holds one metric's numbers, packed without loss.
type column struct {
	Metric
	packing
	*section

	valid    sync.Once
	validErr error
}

// packing says how a number is stored. Accuracies are counts of correct images, so that two bytes hold them; what does
// not fit is stored as it is.
type packing struct {
	Encoding string `json:"encoding"` // encodeFloat64, encodeFloat32, encodeCount
	// Of a count k: the value is k/Of, in float32 arithmetic if Single (TensorFlow's accuracies), else in float64.
	// 65535 is missing.
	Of     int  `json:"of,omitempty"`
	Single bool `json:"single,omitempty"`
}

const (
	encodeFloat64 = "float64"
	encodeFloat32 = "float32"
	encodeCount   = "uint16"
	missingCount  = math.MaxUint16
)

// countsOf are the numbers of images over which NAS-Bench-101 takes accuracies: whole batches of 256 of its 10,000
// validation and test and 40,000 training images, and the round numbers that others use.
var countsOf = []int{9984, 10000, 39936, 40000, 50000}

func (p packing) width() int {
	switch p.Encoding {
	case encodeFloat64:
		return 8
	case encodeFloat32:
		return 4
	case encodeCount:
		return 2
	}
	return 0
}

func (p packing) fraction(k uint16) float64 {
	if p.Single {
		return float64(float32(k) / float32(p.Of))
	}
	return float64(k) / float64(p.Of)
}

// count is the inverse of fraction; false where no k gives exactly v.
func (p packing) count(v float64) (uint16, bool) {
	if v != v {
		return missingCount, true
	}
	k := math.Round(v * float64(p.Of))
	if k < 0 || k >= missingCount {
		return 0, false
	}
	return uint16(k), p.fraction(uint16(k)) == v
}

// choosePacking returns the smallest packing that gives every value back bit by bit.
func choosePacking(values []float64) packing {
	for _, of := range countsOf {
		for _, single := range []bool{false, true} {
			p := packing{encodeCount, of, single}
			if all(values, func(v float64) bool { _, ok := p.count(v); return ok && !negativeZero(v) }) {
				return p
			}
		}
	}
	if all(values, func(v float64) bool { return v != v || float64(float32(v)) == v }) {
		return packing{Encoding: encodeFloat32}
	}
	return packing{Encoding: encodeFloat64}
}

func negativeZero(v float64) bool { return v == 0 && math.Signbit(v) }

func all(values []float64, ok func(float64) bool) bool {
	for _, v := range values {
		if !ok(v) {
			return false
		}
	}
	return true
}

// pack stores values.
func pack(m Metric, values []float64) *column {
	c := &column{Metric: m, packing: choosePacking(values)}
	data := make([]byte, 0, len(values)*c.width())
	for _, v := range values {
		switch c.Encoding {
		case encodeCount:
			k, _ := c.count(v)
			data = binary.LittleEndian.AppendUint16(data, k)
		case encodeFloat32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
		default:
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
	}
	c.section = newSection(m.String(), data)
	return c
}

// at returns value i; NaN is missing.
func (c *column) at(i int) float64 {
	switch c.Encoding {
	case encodeCount:
		k := binary.LittleEndian.Uint16(c.data[2*i:])
		if k == missingCount {
			return math.NaN()
		}
		return c.fraction(k)
	case encodeFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(c.data[4*i:])))
	default:
		return math.Float64frombits(binary.LittleEndian.Uint64(c.data[8*i:]))
	}
}

func (c *column) len() int { return int(c.size) / c.width() }

// check compares the checksum and the range of the numbers, once.
func (c *column) check() error {
	c.valid.Do(func() {
		if c.validErr = c.section.check(); c.validErr != nil {
			return
		}
		for i := range c.len() {
			if v := c.at(i); v == v {
				if err := checkValue(c.Name, v); err != nil {
					c.validErr = fmt.Errorf("%s: record %d: %w", c.name, i, err)
					return
				}
			}
		}
	})
	return c.validErr
}

// counted are the metrics that the program knows and that are never negative.
var counted = []string{TrainingTime, TrainedMAdds, TrainedParams}

// checkValue tells whether v, which is not missing, can be a value of the metric with this name.
func checkValue(name string, v float64) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Errorf("%s is %v, want a number", name, v)
	case name == Accuracy && (v < 0 || v > 1):
		return fmt.Errorf("accuracy %v is outside of 0..1", v)
	case v < 0 && slices.Contains(counted, name):
		return fmt.Errorf("%s %v is negative", name, v)
	}
	return nil
}
