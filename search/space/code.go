package space

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Coder is a space whose architectures have a binary form of one length each, so that a table of millions of them is a
// list of bytes. Every registered space is one.
type Coder interface {
	Space
	// CodeBytes is the length of a code, at least 1.
	CodeBytes() int
	// AppendCode appends the code of an architecture; false where it is none of the space's kind. Equal architectures
	// have equal codes, and only they.
	AppendCode(code []byte, a Arch) ([]byte, bool)
	// CheckCode tells whether bytes are the code of an architecture. That it is in canonical form is told where that
	// is cheap; what is not canonical is still an architecture.
	CheckCode(code []byte) error
	// FromCode is the architecture of a code that CheckCode has seen.
	FromCode(code []byte) Arch
}

var (
	_ Coder = NASBench101{}
	_ Coder = MobileNetV3{}
	_ Coder = Darts{}
	_ Coder = (*FileSpace)(nil)
	_ Coder = listedSpace{}
)

// CodeBytes is 8.
func (NASBench101) CodeBytes() int { return 8 }

// AppendCode appends a Cell's number, little-endian.
func (NASBench101) AppendCode(code []byte, a Arch) ([]byte, bool) {
	c, ok := a.(Cell)
	return binary.LittleEndian.AppendUint64(code, uint64(c)), ok
}

// CheckCode refuses numbers that are no cells in canonical form.
func (NASBench101) CheckCode(code []byte) error {
	_, err := UnpackCell(binary.LittleEndian.Uint64(code))
	return err
}

// FromCode returns the Cell.
func (NASBench101) FromCode(code []byte) Arch { return Cell(binary.LittleEndian.Uint64(code)) }

// A MobileNet's code: width, with the stride in the upper half of the byte, resolution (two bytes), the depths of the
// units, then a byte a slot with the kernel in the upper half and the expansion in the lower one.
const (
	mobileDepthsAt = 3
	mobileSlotsAt  = mobileDepthsAt + mobileUnits
)

// CodeBytes is 28.
func (MobileNetV3) CodeBytes() int { return mobileSlotsAt + mobileSlots }

// AppendCode appends the network's numbers.
func (MobileNetV3) AppendCode(code []byte, a Arch) ([]byte, bool) {
	m, ok := a.(MobileNet)
	code = append(code, m.stride<<4|m.width)
	code = binary.LittleEndian.AppendUint16(code, m.resolution)
	code = append(code, m.depth[:]...)
	for i := range m.kernel {
		code = append(code, m.kernel[i]<<4|m.expand[i])
	}
	return code, ok
}

func mobileOfCode(code []byte) MobileNet {
	m := MobileNet{width: code[0] & 15, stride: code[0] >> 4, resolution: binary.LittleEndian.Uint16(code[1:])}
	copy(m.depth[:], code[mobileDepthsAt:])
	for i, slot := range code[mobileSlotsAt:] {
		m.kernel[i], m.expand[i] = slot>>4, slot&15
	}
	return m
}

// CheckCode refuses numbers that Parse would not make.
func (MobileNetV3) CheckCode(code []byte) error {
	m := mobileOfCode(code)
	valid := int(m.width) < len(mobileWidths) && int(m.stride) < len(mobileStrides)
	valid = valid && int(m.resolution) >= leastResolution(m.stride) && m.resolution <= maxResolution &&
		m.resolution%4 == 0
	for _, d := range m.depth {
		valid = valid && d >= mobileMinDepth && d <= mobileMaxDepth
	}
	for i := 0; valid && i < mobileSlots; i++ {
		if m.has(i) {
			valid = slices.Contains(mobileKernels[:], m.kernel[i]) && slices.Contains(mobileExpansions[:], m.expand[i])
		} else {
			valid = m.kernel[i] == 0 && m.expand[i] == 0
		}
	}
	if !valid {
		return fmt.Errorf("%x is no network of %s", code, mobileName)
	}
	return nil
}

// FromCode returns the MobileNet.
func (MobileNetV3) FromCode(code []byte) Arch { return mobileOfCode(code) }

// CodeBytes is 17: the network around the cells, then a byte an operation with its name's number in the upper half and
// what it reads in the lower one.
func (Darts) CodeBytes() int { return 1 + 2*dartsEdges }

// AppendCode appends the genotype's numbers.
func (Darts) AppendCode(code []byte, a Arch) ([]byte, bool) {
	g, ok := a.(Genotype)
	code = append(code, g.macro)
	for _, c := range g.cells {
		for _, e := range c {
			code = append(code, e.op<<4|e.from)
		}
	}
	return code, ok
}

func genotypeOfCode(code []byte) Genotype {
	g := Genotype{macro: code[0]}
	for i, edge := range code[1:] {
		g.cells[i/dartsEdges][i%dartsEdges] = dartsEdge{edge >> 4, edge & 15}
	}
	return g
}

// CheckCode refuses operations and inputs that there are not. It does not look for a cell's canonical form.
func (Darts) CheckCode(code []byte) error {
	g := genotypeOfCode(code)
	valid := int(g.macro) < len(dartsMacros)
	for _, c := range g.cells {
		for i, e := range c {
			valid = valid && int(e.op) < len(dartsOps) && int(e.from) < dartsInputs+i/2
		}
	}
	if !valid {
		return fmt.Errorf("%x is no genotype of %s", code, dartsName)
	}
	return nil
}

// FromCode returns the Genotype.
func (Darts) FromCode(code []byte) Arch { return genotypeOfCode(code) }

// CodeBytes is one for every decision of the file, those of one choice included.
func (f *FileSpace) CodeBytes() int { return f.slots }

// AppendCode appends the choices' numbers in the order of the file.
func (f *FileSpace) AppendCode(code []byte, a Arch) ([]byte, bool) {
	x, ok := a.(FileArch)
	return append(code, x.code...), ok && x.of == f
}

// CheckCode refuses choices that there are not.
func (f *FileSpace) CheckCode(code []byte) error {
	valid := true
	f.each(func(p *choice, at int) {
		present := p.high
		if !valid {
			return
		}
		if !there(f, p, code) {
			present = 0
			valid = valid && code[at] == 0 // the count, too
		} else if p.counts() == 1 {
			present = p.low + int(code[at])
			valid = valid && present <= p.high
		}
		for b := range p.chosen(p.high) {
			o := int(code[at+p.counts()+b])
			valid = valid && o < len(p.options) && (b < present || o == 0)
		}
	})
	if !valid {
		return fmt.Errorf("%x is no architecture of %s", code, f.name)
	}
	if f.classes != nil {
		if i := f.numberOf(code); f.classes().first[i] != int32(i) {
			return fmt.Errorf("%x is not the text that stands for its network in %s: convert the table again", code,
				f.name)
		}
	}
	return nil
}

// FromCode returns the FileArch.
func (f *FileSpace) FromCode(code []byte) Arch { return FileArch{f, string(code)} }
