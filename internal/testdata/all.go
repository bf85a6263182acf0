package testdata

import (
	"os"
	"testing"
)

// All reports whether every case is asked for (CTNAS_TEST=all, which `make test-all` and .ci/run set). Without it a
// test leaves out what takes long and seldom says anything new: each of 423,624 cells, every order of threads and every
// number of them for every case. -short leaves out more.
func All() bool { return os.Getenv("CTNAS_TEST") == "all" && !testing.Short() }

// SkipUnlessAll skips a test, saying so, unless every case is asked for.
func SkipUnlessAll(t testing.TB, why string) {
	t.Helper()
	if !All() {
		t.Skipf("%s: only with CTNAS_TEST=all (make test-all)", why)
	}
}
