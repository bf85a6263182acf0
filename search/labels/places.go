package labels

import (
	"fmt"
	"runtime"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Place is where one candidate at a time is worked on.
type Place struct {
	Device  exec.Config
	Name    string // "cpu", "cuda:0"
	Loaders int    // goroutines that load images
}

// mostWorkers bounds how many candidates are worked on at once unless a number is given: each takes memory.
const mostWorkers = 8

// Devices opens each of a device's parts once and returns how they are opened again, and what results depend on.
func Devices(device exec.Config) (each []exec.Config, level string, err error) {
	each = device.Each()
	for i, one := range each {
		d, err := exec.Open(one)
		if err != nil {
			return nil, "", err
		}
		if i > 0 && d.Level() != level {
			err = fmt.Errorf("%s is %s and %s is %s: results would depend on which of them computed what",
				each[0].Device, level, one.Device, d.Level())
		}
		level = d.Level()
		each[i].Level = level
		if !d.Accelerated() {
			each[i].Device, each[i].Threads = "cpu", d.Threads()
		}
		d.Close()
		if err != nil {
			return nil, "", err
		}
	}
	return each, level, nil
}

// Places divides devices, as Devices returns them, for a number of candidates: the processor's threads among the
// workers, or accelerators in turn. 0 workers: on the CPU as many as threads but at most mostWorkers, otherwise one an
// accelerator.
func Places(devices []exec.Config, workers, candidates int) (list []Place) {
	if devices[0].Device != "cpu" {
		for i := range min(candidates, max(workers, len(devices))) {
			one := devices[i%len(devices)]
			list = append(list, Place{one, one.Device, 0})
		}
		for i := range list {
			list[i].Loaders = max(1, runtime.GOMAXPROCS(0)/len(list))
		}
		return list
	}
	threads := devices[0].Threads
	if workers == 0 {
		workers = min(threads, mostWorkers)
	}
	workers = min(workers, candidates)
	for i := range workers {
		one := devices[0]
		one.Threads = threads / workers
		if i < threads%workers {
			one.Threads++
		}
		one.Threads = max(1, one.Threads)
		list = append(list, Place{one, "cpu", one.Threads})
	}
	return list
}
