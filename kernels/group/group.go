// Package group adds up what several devices have. It has no kernels of its own.
package group

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sum leaves the sum of buffers, one a device, in each of them, as exec.SumTree does: in float32, in the order of a
// balanced tree, so in the same bits wherever it is computed. Their number is a power of two.
//
// GPUs do that without the host: each copies its part of the buffers of all others, adds it up, and copies the other
// parts of the sum from where they are. Of a buffer of L elements on N GPUs each reads 2 L (N-1)/N, as much as by any
// way that uses all links, and needs memory for L (N-1)/N. What is enqueued on a GPU afterwards has the sum.
type Sum struct {
	buffers []*exec.Buffer
	devices []*exec.Device
	parts   [][2]int         // of each device: from, to
	others  [][]*exec.Buffer // of each device: what it has of each other's part
	add     []*exec.Program
	beyond  func(values []float32) error // see NewSum
}

// align is the number of elements at whose multiples parts begin.
const align = 64

// NewSum prepares the sum of buffers, with memory of arenas of their devices. Where other machines have some of the
// terms, beyond adds to what the devices of this one have, in place and in host memory, what the others do; nil: there
// are none.
func NewSum(arenas []*exec.Arena, buffers []*exec.Buffer, beyond func(values []float32) error) *Sum {
	s := &Sum{buffers: buffers, beyond: beyond}
	for _, b := range buffers {
		s.devices = append(s.devices, b.Device())
	}
	n, length := len(buffers), buffers[0].Len()
	if n == 1 || !exec.Peers(s.devices) {
		return s
	}
	each := exec.Blocks(exec.Blocks(length, n), align) * align
	for i, a := range arenas {
		from, to := min(length, i*each), min(length, (i+1)*each)
		s.parts = append(s.parts, [2]int{from, to})
		own := buffers[i].Slice(from, to-from)
		terms, others := make([]*exec.Buffer, n), make([]*exec.Buffer, n)
		p := a.NewProgram("sum_of_devices")
		for k := range n {
			if terms[k] = own; k != i {
				others[k] = a.F32(to - from)
				terms[k] = others[k]
			}
		}
		for reach := 1; reach < n && to > from; reach *= 2 {
			for k := 0; k < n; k += 2 * reach {
				out := terms[k]
				if 2*reach == n {
					out = own
				}
				elementwise.Sum{Terms: []elementwise.Term{term(terms[k]), term(terms[k+reach])}, Out: out}.Record(p)
			}
		}
		s.others, s.add = append(s.others, others), append(s.add, p)
	}
	return s
}

func term(b *exec.Buffer) elementwise.Term {
	return elementwise.Term{In: tensor.Input{Shape: tensor.Shape{N: 1, H: b.Len(), W: 1, C: 1}, Z: b}}
}

// Run adds up.
func (s *Sum) Run() (err error) {
	if s.add == nil {
		return exec.SumTree(s.buffers, s.beyond)
	}
	defer exec.Catch(&err)
	s.meet()
	for i, p := range s.parts {
		for k, to := range s.others[i] {
			if k != i {
				to.CopyFrom(s.buffers[k].Slice(p[0], p[1]-p[0]))
			}
		}
		s.add[i].Run(1)
	}
	s.meet() // nobody's part is read any more when the sum is written over it
	for i, b := range s.buffers {
		for k, p := range s.parts {
			if k != i {
				b.Slice(p[0], p[1]-p[0]).CopyFrom(s.buffers[k].Slice(p[0], p[1]-p[0]))
			}
		}
	}
	s.meet()
	if s.beyond == nil {
		return nil
	}
	values := s.buffers[0].Values()
	if err := s.beyond(values); err != nil {
		return err
	}
	return exec.Each(len(s.buffers), func(i int) error {
		s.buffers[i].WriteF32(0, values)
		return nil
	})
}

// meet has each device wait for all others.
func (s *Sum) meet() {
	for _, d := range s.devices {
		for _, other := range s.devices {
			if d != other {
				d.Follow(other)
			}
		}
	}
}
