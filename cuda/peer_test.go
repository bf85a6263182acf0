//go:build cuda

package cuda

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// What follows another device sees what that has enqueued, and no more waits than it has to; copies between devices
// need their memory, not their neighbourhood.
func TestPeers(t *testing.T) {
	fake(t)
	for _, env := range []string{"devices:2", "devices:2,nopeer"} {
		t.Setenv("CTNAS_FAKE_CUDA", env)
		const n = 1000
		var devices [2]*Device
		var x, y [2]unsafe.Pointer
		for i := range devices {
			var err error
			devices[i], err = Open(i, probe)
			require.NoError(t, err)
			x[i], y[i] = upload(t, devices[i], ramp(n, float32(i))), upload(t, devices[i], make([]float32, n))
		}
		a, b := devices[0], devices[1]
		s, err := a.Sequence([]Launch{saxpy(y[0], x[0], 2, n)})
		require.NoError(t, err)
		for round := range 3 {
			require.NoError(t, s.Run(1))
			require.NoError(t, b.Follow(a))
			require.NoError(t, b.CopyFrom(a, y[1], y[0], 4*n))
			require.NoError(t, a.Follow(b)) // which may now change what was copied
			require.NoError(t, s.Run(1))
			require.Equal(t, 2*float32(2*round+1)*5, download(t, b, y[1], n)[5])
		}
		require.NoError(t, a.Follow(a))
		require.ErrorContains(t, b.CopyFrom(a, y[1], y[1], 4*n), "are not inside a buffer of this device")
		require.ErrorContains(t, b.CopyFrom(a, y[0], y[0], 4*n), "are not inside a buffer of this device")
		require.ErrorContains(t, b.CopyFrom(a, y[1], y[0], 4*n+1024), "are not inside a buffer of this device")
		s.Free()
		for i, d := range devices {
			d.Free(x[i])
			d.Free(y[i])
			require.NoError(t, d.Close())
		}
		require.ErrorContains(t, b.Follow(a), "the device is closed")
	}
}

// Without Follow the copy may come first: the fake driver does as little as it can, so that a missing one shows.
func TestMissingFollowShows(t *testing.T) {
	fake(t)
	if !strings.Contains(os.Getenv("CTNAS_FAKE_CUDA"), "devices") {
		t.Setenv("CTNAS_FAKE_CUDA", "devices:2")
	}
	a, err := Open(0, probe)
	require.NoError(t, err)
	b, err := Open(1, probe)
	require.NoError(t, err)
	const n = 100
	x, y, to := upload(t, a, ramp(n, 1)), upload(t, a, make([]float32, n)), upload(t, b, make([]float32, n))
	require.NoError(t, a.Sync())
	s, err := a.Sequence([]Launch{saxpy(y, x, 1, n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	require.NoError(t, b.CopyFrom(a, to, y, 4*n))
	require.Equal(t, float32(0), download(t, b, to, n)[7])
	s.Free()
	a.Free(x)
	a.Free(y)
	b.Free(to)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// Devices may follow each other from several goroutines at the same time, and one may be closed while another one still
// knows it: opened again, it is followed as before.
func TestFollowEachOther(t *testing.T) {
	fake(t)
	t.Setenv("CTNAS_FAKE_CUDA", "devices:2")
	a, err := Open(0, probe)
	require.NoError(t, err)
	const n = 100
	x := upload(t, a, ramp(n, 1))
	for range 2 {
		b, err := Open(1, probe)
		require.NoError(t, err)
		y := upload(t, b, make([]float32, n))
		var both errgroup.Group
		for _, pair := range [][2]*Device{{a, b}, {b, a}, {a, b}, {b, a}} {
			both.Go(func() error {
				for range 100 {
					if err := pair[0].Follow(pair[1]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, both.Wait())
		require.NoError(t, b.CopyFrom(a, y, x, 4*n))
		require.NoError(t, a.Follow(b))
		require.Equal(t, float32(8), download(t, b, y, n)[7])
		b.Free(y)
		require.NoError(t, b.Close())
		require.ErrorContains(t, a.Follow(b), "the device is closed")
		require.NoError(t, a.Sync())
	}
	a.Free(x)
	require.NoError(t, a.Close())
}

// What a fork does goes on beside what its device does, over the same buffers, and waits where it follows; a buffer
// that is neither's is refused. Without Follow the copy comes first on the fake driver.
func TestFork(t *testing.T) {
	fake(t)
	t.Setenv("CTNAS_FAKE_CUDA", "devices:2")
	a, err := Open(0, probe)
	require.NoError(t, err)
	other, err := Open(1, probe)
	require.NoError(t, err)
	f, err := a.Fork()
	require.NoError(t, err)
	require.Equal(t, a.Info().Name, f.Info().Name)
	const n = 100
	x, y, to := upload(t, a, ramp(n, 1)), upload(t, a, make([]float32, n)), upload(t, a, make([]float32, n))
	own, alien := upload(t, f, make([]float32, n)), upload(t, other, make([]float32, n))
	require.NoError(t, a.Sync())
	require.NoError(t, f.Sync())
	s, err := a.Sequence([]Launch{saxpy(y, x, 1, n)})
	require.NoError(t, err)
	require.NoError(t, s.Run(1))
	require.NoError(t, f.CopyFrom(f, own, y, 4*n))
	require.Equal(t, float32(0), download(t, f, own, n)[7])
	require.NoError(t, f.Follow(a))
	require.NoError(t, f.CopyFrom(f, to, y, 4*n))
	again, err := f.Sequence([]Launch{saxpy(to, x, 1, n)})
	require.NoError(t, err)
	require.NoError(t, again.Run(1))
	require.NoError(t, a.Follow(f))
	require.Equal(t, float32(16), download(t, a, to, n)[7])
	require.ErrorContains(t, f.CopyFrom(f, own, alien, 4*n), "are not inside a buffer of this device")
	require.ErrorContains(t, a.CopyFrom(a, own, y, 4*n), "are not inside a buffer of this device")
	again.Free()
	f.Free(own)
	require.NoError(t, f.Close())
	s.Free()
	for _, p := range []unsafe.Pointer{x, y, to} {
		a.Free(p)
	}
	other.Free(alien)
	require.NoError(t, a.Close())
	require.NoError(t, other.Close())
}
