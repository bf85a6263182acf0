package data

import (
	"fmt"
	"sync"
)

// Cache keeps files of images in memory, so that slow storage is asked for each of them once in a process. Any number
// of sets share its bytes; what it keeps of one goes when that is closed, and nothing else goes before: an epoch visits
// every image once, so what had to go would be wanted as soon as what came for it (Mohan et al. 2021, "Analyzing and
// Mitigating Data Stalls in DNN Training", section 4.1). The memory is no part of Go's heap, which would grow to twice
// of it.
type Cache struct {
	most int64
	warn func(text string)

	mu   sync.Mutex
	held int64 // bytes of slabs
	full bool  // somebody was told that it is
}

// slabBytes is how much memory a cache takes at a time. A larger file is not kept.
const slabBytes = 16 << 20

// NewCache is an empty cache of at most so many bytes. warn is told once when it is full; may be nil.
func NewCache(most int64, warn func(text string)) *Cache { return &Cache{most: most, warn: warn} }

// slab is memory for a file of so many bytes; nil: there is none. kept are the files of the set so far, which whoever
// watches is told when the cache is full.
func (c *Cache) slab(file, kept, of int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(slabBytes, c.most-c.held)
	if int64(file) <= n {
		if memory, err := mapped(int(n)); err == nil {
			c.held += n
			return memory
		}
	}
	if !c.full && n < slabBytes && c.warn != nil {
		c.full = true
		c.warn(fmt.Sprintf("the memory for files of images is full: it keeps %d of %d, the others are read each time",
			kept, of))
	}
	return nil
}

// release gives slabs back.
func (c *Cache) release(slabs [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slabs {
		c.held -= int64(len(s))
		unmap(s)
	}
	c.full = false
}

// cached is a store whose files a cache keeps.
type cached struct {
	encoded
	cache *Cache

	mu     sync.RWMutex
	files  [][]byte // by image; nil: not there
	kept   int      // of them
	slabs  [][]byte
	room   []byte // of the last slab, behind what is kept in it
	closed bool
}

// over is a store that asks the cache first. Close it before what it is over.
func (c *Cache) over(s encoded) *cached {
	return &cached{encoded: s, cache: c, files: make([][]byte, s.count())}
}

func (s *cached) read(i int, buf []byte) ([]byte, error) {
	s.mu.RLock()
	if s.files[i] != nil {
		buf = append(buf, s.files[i]...)
		s.mu.RUnlock()
		return buf, nil
	}
	s.mu.RUnlock()
	at := len(buf)
	buf, err := s.encoded.read(i, buf)
	if err == nil {
		s.keep(i, buf[at:])
	}
	return buf, err
}

// keep takes a file unless it is there or there is no room.
func (s *cached) keep(i int, file []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[i] != nil || s.closed || len(file) == 0 {
		return
	}
	if len(file) > len(s.room) {
		slab := s.cache.slab(len(file), s.kept, len(s.files))
		if slab == nil {
			return
		}
		s.slabs, s.room = append(s.slabs, slab), slab
	}
	n := copy(s.room, file)
	s.files[i], s.room = s.room[:n:n], s.room[n:]
	s.kept++
}

// close forgets everything. Nothing is kept any more.
func (s *cached) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.release(s.slabs)
	clear(s.files)
	s.slabs, s.room, s.kept, s.closed = nil, nil, 0, true
}
