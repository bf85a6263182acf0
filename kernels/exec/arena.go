package exec

/*
#include <stdlib.h>
#include <string.h>
#include "pool.h"
*/
import "C"

import (
	"fmt"
	"slices"
	"unsafe"
)

// Arena owns the buffers and programs of one model and frees them together.
type Arena struct {
	dev       *Device
	memory    memory // buffers, in the device's
	host      memory // operations, in the processor's
	sequences []Sequence
	reusable  bool
	life      int // how often it was reset or freed: programs of another life are dead
}

// Bytes of the first chunks: of buffers that share memory, and of operations.
const (
	sharedChunk = 256 << 10
	hostChunk   = 16 << 10
)

// NewArena returns an empty arena, each of whose buffers is memory of its own.
func (d *Device) NewArena() *Arena {
	return &Arena{dev: d, memory: memory{dev: d}, host: memory{chunk: hostChunk, align: 64}}
}

// NewReusable returns an empty arena for what is recorded again and again: its buffers are pieces of large chunks,
// which Reset keeps. They start on 64 bytes, on an accelerator on 256.
func (d *Device) NewReusable() *Arena {
	a := d.NewArena()
	a.reusable = true
	if _, ok := d.acc.(Guarded); ok {
		return a
	}
	a.memory.chunk, a.memory.align = sharedChunk, 64
	if d.acc != nil {
		a.memory.align = 256
	}
	return a
}

// Device is where the arena's programs run.
func (a *Arena) Device() *Device { return a.dev }

// Bytes is how much of the device's memory the arena holds; a reusable one may hold more than its buffers take.
func (a *Arena) Bytes() int64 { return a.memory.bytes }

// Free returns all memory. Buffers and programs of the arena are dead afterwards. Work that an accelerator has not done
// yet is not disturbed: its memory is next used after that work.
func (a *Arena) Free() {
	a.end()
	a.memory.free()
	a.host.free()
}

// Reset forgets the buffers, programs and operations of a reusable arena, which are dead afterwards, and keeps the
// memory for the next ones. What is in it stays there (in tests it becomes NaN or -1, as in new memory), so nothing may
// count on zeros. An accelerator may still be at work on it: what is recorded next, and what is written from the host,
// comes after that.
//
// Memory does not grow with the number of resets: once the buffers of one life did not fit into one chunk, those of the
// next lives share one that is large enough for them and a quarter more.
func (a *Arena) Reset() {
	if !a.reusable {
		panic("exec: Reset of an arena that is not reusable")
	}
	a.end()
	a.memory.reset()
	a.host.reset()
}

// end ends the life of the arena's programs.
func (a *Arena) end() {
	for _, s := range a.sequences {
		s.Free()
	}
	a.sequences = nil
	a.life++
}

// memory hands out pieces of chunks, one behind the other, and takes them back all at once.
type memory struct {
	dev    *Device // nil: the processor's memory
	chunk  int     // bytes of the smallest chunk; 0: a chunk for each piece, as large as that
	align  int     // pieces of a chunk that has several start on this many bytes of it
	want   int     // bytes the next chunk should have, because the last life's pieces took so many
	chunks []chunk // pieces are taken from the last one
	bytes  int64   // of all chunks
}

// A chunk starts on 64 bytes, of an accelerator's memory on 256.
type chunk struct {
	at         unsafe.Pointer
	size, used int
}

// alloc returns so many bytes, or panics with a Failure.
func (m *memory) alloc(bytes int) unsafe.Pointer {
	size := bytes
	if m.chunk > 0 {
		size = max(1, Blocks(bytes, m.align)) * m.align
		if n := len(m.chunks); n > 0 && m.chunks[n-1].size-m.chunks[n-1].used >= size {
			return m.chunks[n-1].take(size)
		}
	}
	large := m.chunk == 0 || size > max(m.chunk, m.want)
	c := chunk{size: size}
	if !large {
		// Chunks grow with what there is, so that they are few and at most a third of them is not used.
		c.size = Blocks(max(m.chunk, m.want, int(m.bytes/2)), m.align) * m.align
	}
	c.at = m.more(c.size)
	m.bytes += int64(c.size)
	if large && len(m.chunks) > 0 && m.chunk > 0 {
		m.chunks = slices.Insert(m.chunks, len(m.chunks)-1, c) // pieces that are not as large still fit into the last
		return m.chunks[len(m.chunks)-2].take(size)
	}
	m.want = 0
	m.chunks = append(m.chunks, c)
	return m.chunks[len(m.chunks)-1].take(size)
}

func (c *chunk) take(bytes int) unsafe.Pointer {
	p := unsafe.Add(c.at, c.used)
	c.used += bytes
	return p
}

// more returns new memory.
func (m *memory) more(bytes int) unsafe.Pointer {
	if m.dev != nil && m.dev.acc != nil {
		p, err := m.dev.acc.Alloc(max(bytes, 4))
		Fail(err)
		return p
	}
	p := C.ctn_alloc(C.int64_t(bytes))
	if p == nil {
		Fail(fmt.Errorf("out of memory: %d bytes more than %d", bytes, m.bytes))
	}
	return p
}

func (m *memory) free() {
	for _, c := range m.chunks {
		if m.dev != nil && m.dev.acc != nil {
			m.dev.acc.Free(c.at)
		} else {
			C.free(c.at)
		}
	}
	m.chunks, m.bytes = nil, 0
}

// reset takes all pieces back. Of one chunk it keeps the memory; several become one, when it is needed.
func (m *memory) reset() {
	if len(m.chunks) == 1 && m.chunk > 0 {
		c := &m.chunks[0]
		if C.ctn_poison != 0 && (m.dev == nil || m.dev.acc == nil) {
			C.memset(c.at, 0xff, C.size_t(c.used))
		}
		c.used = 0
		return
	}
	used := 0
	for _, c := range m.chunks {
		used += c.used
	}
	if m.chunk > 0 && used > 0 {
		m.want = used + used/4
	}
	m.free()
}
