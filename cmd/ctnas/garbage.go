package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How far the heap grows before it is collected: by a tenth, or by 32 MiB where that is more. Most of a large heap are
// tables of a whole space that live to the end, so that Go's 100 % would double them for nothing; a tenth of a small
// one would have it collected all the time.
const (
	garbagePercent = 10
	garbageBytes   = 32 << 20
	smallestHeap   = 4 << 20 // what Go takes the percentage of while less than that is live
)

// growth is the percentage by which a heap of which `live` bytes are in use may grow.
func growth(live uint64) int {
	return max(garbagePercent, int(100*garbageBytes/max(live, smallestHeap)))
}

// collection is garbage itself: Go calls its finalizer once a collection.
type collection struct{ live []metrics.Sample }

// limitGarbage sets how far the heap may grow, and does so again after each collection.
func limitGarbage() {
	c := &collection{[]metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	c.ended()
}

func (c *collection) ended() {
	metrics.Read(c.live)
	debug.SetGCPercent(growth(c.live[0].Value.Uint64()))
	runtime.SetFinalizer(c, (*collection).ended)
}
