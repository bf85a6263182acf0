//go:build cuda

package serve

import (
	"io"
	"strconv"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ctnas/ctnas/internal/metrics"
)

// gpus are the machine's GPUs as the driver's management library sees them, by its numbers, whatever
// CUDA_VISIBLE_DEVICES hides. What the library or a GPU does not tell is absent.
type gpus struct {
	lib     nvml.Interface
	devices []nvml.Device

	use, memory, power, ecc, xid *prometheus.Desc

	faults nvml.EventSet // nil: nobody tells of any
	stop   chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex
	last   map[nvml.Device]uint64 // the latest fault of each GPU that had one
}

type noGPUs struct{}

func (noGPUs) Close() error { return nil }

// watchGPUs watches the GPUs of the driver that is there. Without one, nothing is watched.
func watchGPUs() io.Closer {
	g, err := newGPUs()
	if err != nil {
		return noGPUs{}
	}
	metrics.Registry.MustRegister(g)
	return g
}

func newGPUs(library ...nvml.LibraryOption) (*gpus, error) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ctnas_gpu_"+name, help, []string{"gpu"}, nil)
	}
	g := &gpus{lib: nvml.New(library...), stop: make(chan struct{}), last: map[nvml.Device]uint64{},
		use:    desc("utilization", "Share of the last moments in which a kernel ran, from 0 to 1."),
		memory: desc("memory_bytes", "Memory in use, by whatever process."),
		power:  desc("power_watts", "Power that is drawn."),
		ecc:    desc("ecc_errors", "Errors of memory since the driver was loaded that could not be corrected."),
		xid:    desc("xid", "The latest critical fault (XID) since this process began; absent without one."),
	}
	if err := g.lib.Init(); err != nvml.SUCCESS {
		return nil, err
	}
	count, err := g.lib.DeviceGetCount()
	if err != nvml.SUCCESS {
		_ = g.lib.Shutdown()
		return nil, err
	}
	for i := range count {
		if d, err := g.lib.DeviceGetHandleByIndex(i); err == nvml.SUCCESS {
			g.devices = append(g.devices, d)
		}
	}
	g.watchFaults()
	return g, nil
}

// has tells whether the library has a function: calling one that an older driver lacks would end the process.
func (g *gpus) has(names ...string) bool {
	for _, name := range names {
		if g.lib.Extensions().LookupSymbol(name) != nil {
			return false
		}
	}
	return true
}

// watchFaults waits for critical faults until Close.
func (g *gpus) watchFaults() {
	if !g.has("nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlEventSetWait_v2", "nvmlEventSetFree") {
		return
	}
	set, err := g.lib.EventSetCreate()
	if err != nvml.SUCCESS {
		return
	}
	watched := 0
	for _, d := range g.devices {
		if d.RegisterEvents(nvml.EventTypeXidCriticalError, set) == nvml.SUCCESS {
			watched++
		}
	}
	if watched == 0 {
		_ = set.Free()
		return
	}
	g.faults = set
	g.done.Go(func() {
		for {
			select {
			case <-g.stop:
				return
			default:
			}
			event, err := set.Wait(200) // milliseconds
			if err != nvml.SUCCESS && err != nvml.ERROR_TIMEOUT {
				return
			}
			if err == nvml.SUCCESS && event.EventType == nvml.EventTypeXidCriticalError {
				g.mu.Lock()
				g.last[event.Device] = event.EventData
				g.mu.Unlock()
			}
		}
	})
}

// Describe is prometheus.Collector's.
func (g *gpus) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.use, g.memory, g.power, g.ecc, g.xid} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (g *gpus) Collect(to chan<- prometheus.Metric) {
	for i, d := range g.devices {
		tell := func(what *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(what, prometheus.GaugeValue, v, strconv.Itoa(i))
		}
		if g.has("nvmlDeviceGetUtilizationRates") {
			if use, err := d.GetUtilizationRates(); err == nvml.SUCCESS {
				tell(g.use, float64(use.Gpu)/100)
			}
		}
		if g.has("nvmlDeviceGetMemoryInfo") {
			if memory, err := d.GetMemoryInfo(); err == nvml.SUCCESS {
				tell(g.memory, float64(memory.Used))
			}
		}
		if g.has("nvmlDeviceGetPowerUsage") {
			if milliwatts, err := d.GetPowerUsage(); err == nvml.SUCCESS {
				tell(g.power, float64(milliwatts)/1000)
			}
		}
		if g.has("nvmlDeviceGetTotalEccErrors") {
			errors, err := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
			if err == nvml.SUCCESS {
				tell(g.ecc, float64(errors))
			}
		}
		g.mu.Lock()
		xid, fault := g.last[d]
		g.mu.Unlock()
		if fault {
			tell(g.xid, float64(xid))
		}
	}
}

// Close stops watching.
func (g *gpus) Close() error {
	metrics.Registry.Unregister(g)
	close(g.stop)
	g.done.Wait()
	if g.faults != nil {
		_ = g.faults.Free() // nothing is left to be told
	}
	_ = g.lib.Shutdown()
	return nil
}
