package main

import (
	"math"

	"github.com/ctnas/ctnas/cmd/ctnas/bench"
)

// gpu is what the model knows of a GPU. The figures are documented in docs/performance.md.
type gpu struct {
	name    string
	copyBps float64 // bytes a second of a copy, read and written
	mma     float64 // FLOP a second of mma.sync, dense bfloat16
	wgmma   float64 // of wgmma
}

const (
	multiprocessors = 132
	clock           = 1.75e9 // Hz
	issued          = 2.5    // instructions a cycle and multiprocessor that are reached, of 4
	reached         = 0.85   // of a copy's bandwidth
	gap             = 2.5e-6 // seconds between two launches, and of the least that one does
	product         = 2 * 16 * 8 * 16
	// A convolution's epilogue sees about half of the bytes that it moves: what it writes, and what that is combined
	// with; the other half goes into the main loop.
	epilogue = 0.5
)

var gpus = []gpu{
	{"H100", 3.0e12, 600e12, 800e12},
	{"H200", 4.3e12, 600e12, 800e12},
}

// modelled is a program's time on a GPU: of each launch the longest of what bytes, instructions and tensor cores take,
// and the gap.
type modelled struct {
	seconds                     float64
	bytes, instructions, tensor float64        // seconds of the launches that each of them bounds
	gaps                        float64        //
	unknown                     map[string]int // launches by entry of which not all is known
	less                        bool           // there are such with products: the time is longer
	byEntry                     map[string]float64
}

func (g gpu) model(list []bench.Launch, code map[string]figures) modelled {
	m := modelled{unknown: map[string]int{}, byEntry: map[string]float64{}}
	for _, l := range list {
		f := code[l.Entry]
		var bytes, products float64
		if l.Bytes != nil {
			bytes = *l.Bytes
		}
		if l.Issued != nil && f.perProduct > 0 {
			products = *l.Issued / product
		}
		if bytes == 0 && products == 0 || f.perProduct > 0 && products == 0 {
			m.unknown[l.Entry]++
			m.less = m.less || f.perProduct > 0
		}
		outside := bytes
		if products > 0 {
			outside *= epilogue
		}
		rate := g.mma
		if f.warpgroup {
			rate = g.wgmma
		}
		moving := bytes / (reached * g.copyBps)
		once := f.once * float64(l.Blocks()*((l.Block+31)/32))
		issuing := (products*f.perProduct + outside*f.perByte + once) / (issued * multiprocessors * clock)
		multiplying := products * product / rate
		// Blocks that do not fill a round of the multiprocessors leave some of them idle.
		blocks := float64(l.Blocks())
		idle := math.Ceil(blocks/multiprocessors) * multiprocessors / blocks
		most := max(moving, issuing, multiplying) * idle
		switch most {
		case moving * idle:
			m.bytes += most
		case issuing * idle:
			m.instructions += most
		default:
			m.tensor += most
		}
		m.gaps += gap
		m.byEntry[l.Entry] += most + gap
	}
	m.seconds = m.bytes + m.instructions + m.tensor + m.gaps
	return m
}
