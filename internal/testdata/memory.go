package testdata

import (
	"runtime"
	"testing"
)

// Allocated is how many bytes f allocates, freed or not.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// WithinMemory fails where f, which reads a file of size bytes, allocates more than 4 MiB and 4096 bytes for each of
// them: a small file must not be able to ask for much. Nothing else may run meanwhile.
func WithinMemory(t testing.TB, size int, f func()) {
	t.Helper()
	WithinFactor(t, size, 4096, f)
}

// WithinFactor is WithinMemory with another number of bytes for each.
func WithinFactor(t testing.TB, size, factor int, f func()) {
	t.Helper()
	if got, most := Allocated(f), uint64(4<<20+factor*size); got > most {
		t.Errorf("%d bytes allocated for a file of %d: want at most %d", got, size, most)
	}
}
