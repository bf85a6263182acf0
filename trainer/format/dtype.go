package format

import (
	"encoding/binary"
	"math"
)

// dtype is a type of numbers in a file: its size in bytes and how a number is read, as the nearest float32.
type dtype struct {
	size int
	read func(b []byte) float32
}

// dtypes have the names of safetensors.
var dtypes = map[string]dtype{
	"F64":  {8, func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) }},
	"F32":  {4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }},
	"F16":  {2, func(b []byte) float32 { return half(binary.LittleEndian.Uint16(b)) }},
	"BF16": {2, func(b []byte) float32 { return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16) }},
	"I64":  {8, func(b []byte) float32 { return float32(int64(binary.LittleEndian.Uint64(b))) }},
	"I32":  {4, func(b []byte) float32 { return float32(int32(binary.LittleEndian.Uint32(b))) }},
	"I16":  {2, func(b []byte) float32 { return float32(int16(binary.LittleEndian.Uint16(b))) }},
	"I8":   {1, func(b []byte) float32 { return float32(int8(b[0])) }},
	"U8":   {1, func(b []byte) float32 { return float32(b[0]) }},
	"BOOL": {1, func(b []byte) float32 { return float32(min(b[0], 1)) }},
}

// half is a number of IEEE 754's binary16: a sign, 5 bits of exponent, 10 of fraction.
func half(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits>>15)<<31, uint32(bits>>10&31), uint32(bits&1023)
	switch exponent {
	case 0: // zero and numbers below 2^-14: fraction * 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31: // infinities and NaNs
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// numbers reads all numbers of bytes.
func (d dtype) numbers(to []float32, from []byte) []float32 {
	for ; len(from) >= d.size; from = from[d.size:] {
		to = append(to, d.read(from))
	}
	return to
}

// elements is the product of a shape's dimensions, or false where one is negative or there are more than 2^31.
func elements(shape []int64) (int64, bool) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}
