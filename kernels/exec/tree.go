package exec

import (
	"cmp"
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"slices"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

// Each does something for each of n devices at the same time and returns the first error. What a device fails at is an
// error too; any other panic goes on in the caller's goroutine, which may be prepared for it, when all have ended. For
// one device it is done by that goroutine.
func Each(n int, do func(i int) error) error {
	one := func(i int) (err error) {
		defer Catch(&err)
		return do(i)
	}
	if n == 1 {
		return one(0)
	}
	var group errgroup.Group
	panics := make([]string, n)
	for i := range n {
		group.Go(func() error {
			defer func() {
				if p := recover(); p != nil {
					panics[i] = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			return one(i)
		})
	}
	err := group.Wait()
	if p := cmp.Or(panics...); p != "" {
		panic(p)
	}
	return err
}

// Peers tells whether devices are accelerators that copy from each other: by Follow, and by Buffer.CopyFrom.
func Peers(devices []*Device) bool {
	return !slices.ContainsFunc(devices, func(d *Device) bool {
		_, peer := d.acc.(Peer)
		return !peer
	})
}

// Fork opens a Peer once more: what is enqueued there runs beside what is enqueued on d, unless one follows the other.
// It is closed before d.
func (d *Device) Fork() (*Device, error) {
	acc, err := d.acc.(Peer).Fork()
	if err != nil {
		return nil, err
	}
	return &Device{threads: 1, acc: acc, precision: d.precision}, nil
}

// Of is a buffer of the device that d was forked from, as one of d.
func (d *Device) Of(b *Buffer) *Buffer { return &Buffer{d, b.ptr, b.n, b.kind, b.reused} }

// Follow has what is enqueued on a Peer from now on wait for what is enqueued on another one so far.
func (d *Device) Follow(other *Device) { Fail(d.acc.(Peer).Follow(other.acc)) }

// CopyFrom copies a buffer of as many float32 of another Peer, which d follows before, and which follows d before it
// changes src.
func (b *Buffer) CopyFrom(src *Buffer) {
	src.check(0, b.n, floats)
	if b.check(0, src.n, floats); b.n > 0 {
		Fail(b.dev.acc.(Peer).CopyFrom(src.dev.acc, b.ptr, src.ptr, floats.bytes()*b.n))
	}
}

// treePart is how many floats are added up at a time: they stay in a processor's cache.
const treePart = 4096

// SumTree adds up buffers of float32, one a device, and leaves the sum in each of them. They are a power of two, of one
// length. The order is that of a balanced tree, ((b0+b1)+(b2+b3))+…, so that a sum over aligned parts, added up by
// this function again, has the same bits as one over all. Accelerators' buffers go through the host's memory. What
// others have comes to it by beyond, which adds it in place; nil: there is nothing else.
func SumTree(buffers []*Buffer, beyond func(values []float32) error) error {
	n := len(buffers)
	if bits.OnesCount(uint(n)) != 1 {
		panic(fmt.Sprintf("exec: the sum of %d buffers", n))
	}
	length := buffers[0].n
	values := make([][]float32, n)
	if err := Each(n, func(i int) error {
		b := buffers[i]
		if b.check(0, length, floats); b.n != length {
			panic(fmt.Sprintf("exec: the sum of buffers of %d and %d", length, b.n))
		}
		if b.dev.acc != nil && (n > 1 || beyond != nil) {
			values[i] = b.Values()
		} else if length > 0 {
			values[i] = unsafe.Slice((*float32)(b.ptr), length)
		}
		return nil
	}); err != nil || length == 0 || n == 1 && beyond == nil {
		return err
	}
	// In parts, by all processors.
	parts := Blocks(length, treePart)
	workers := min(runtime.GOMAXPROCS(0), parts)
	inParts := func(do func(from, to int)) error {
		return Each(workers, func(w int) error {
			for part := w; part < parts; part += workers {
				do(part*treePart, min(length, (part+1)*treePart))
			}
			return nil
		})
	}
	spread := func(from, to int) {
		for _, v := range values[1:] {
			copy(v[from:to], values[0][from:to])
		}
	}
	err := inParts(func(from, to int) {
		for reach := 1; reach < n; reach *= 2 {
			for i := 0; i < n; i += 2 * reach {
				a, b := values[i][from:to], values[i+reach][from:to]
				for k, v := range b {
					a[k] += v
				}
			}
		}
		if beyond == nil {
			spread(from, to)
		}
	})
	if err == nil && beyond != nil {
		if err = beyond(values[0]); err == nil && n > 1 {
			err = inParts(spread)
		}
	}
	if err != nil {
		return err
	}
	return Each(n, func(i int) error {
		if buffers[i].dev.acc != nil {
			buffers[i].WriteF32(0, values[i])
		}
		return nil
	})
}
