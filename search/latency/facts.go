package latency

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
)

// Keys of a table's head.
const (
	factSpace     = "space"
	factDevice    = "device"
	factDriver    = "driver"
	factLevel     = "level"
	factPrecision = "precision"
	factThreads   = "threads"
	factBatch     = "batch"
	factClock     = "clock"
	factProgram   = "program"
	factDate      = "date"
	factEffort    = "measured"
	factSpread    = "spread"
	factOverhead  = "overhead"
	factError     = "error of sums"
	factNetwork   = "network"
)

// describe writes the head: what the times are of, and how good their sums are.
func (t *Table) describe(sp space.Space, d *exec.Device, o Options, c *clocks, check Check, begin time.Time) {
	fact := func(key, format string, args ...any) {
		t.Facts = append(t.Facts, Fact{key, fmt.Sprintf(format, args...)})
	}
	fact(factSpace, "%s", sp.Name())
	fact(factDevice, "%s", c.model)
	fact(factDriver, "%s", c.driver)
	fact(factLevel, "%s", d.Level())
	fact(factPrecision, "%s", d.Precision())
	fact(factThreads, "%d", d.Threads())
	fact(factBatch, "%d", o.Batch)
	fact(factClock, "%s", c)
	fact(factProgram, "%s", o.Program)
	fact(factDate, "%s", begin.UTC().Format(time.RFC3339))
	fact(factEffort, "%d rounds of %v a network, seed %d, in %v", o.Rounds, o.Each, o.Seed,
		time.Since(begin).Round(time.Second))
	t.judged(check)
}

// judged says how good the times are.
func (t *Table) judged(check Check) {
	fact := func(key, format string, args ...any) {
		t.Facts = append(t.Facts, Fact{key, fmt.Sprintf(format, args...)})
	}
	if math.IsNaN(check.Spread) {
		fact(factSpread, "unknown: one sample a part")
	} else {
		fact(factSpread, "%.1f %%", 100*check.Spread)
	}
	fact(factOverhead, "%.4f ms a section, taken off", check.Overhead)
	if len(check.Networks) > 0 {
		fact(factError, "%s", check)
	}
	for _, w := range check.Networks {
		fact(factNetwork, "%s sum %.4f ms, measured %.4f ms", w.Arch, w.Predicted, w.Measured)
	}
}

// clocks say which device is measured and how fast its clock was meanwhile, as far as the system tells.
type clocks struct {
	model, driver string
	read          func() float64 // MHz; 0: not known
	rated         int            // MHz; 0: not known
	seen          []float64
}

// newClocks looks up the device of a configuration, which can be opened.
func newClocks(c exec.Config) *clocks {
	resolved, _ := c.Resolve() // the error says why auto is the CPU
	if resolved.Device != "" && resolved.Device != "cpu" {
		all, _ := cuda.Devices() // it was opened: it is there
		if i := slices.IndexFunc(all, func(g cuda.Info) bool { return g.Name == resolved.Each()[0].Device }); i >= 0 {
			return &clocks{model: fmt.Sprintf("%s (sm_%d)", all[i].Model, all[i].SM), driver: "CUDA " + all[i].Driver,
				rated: all[i].ClockMHz}
		}
		return &clocks{model: resolved.Device}
	}
	model := cpuField("model name")
	if model == "" {
		model = runtime.GOARCH
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	driver := ""
	if err == nil {
		driver = "Linux " + strings.TrimSpace(string(kernel))
	}
	return &clocks{model: fmt.Sprintf("%s (%d processors)", model, runtime.NumCPU()), driver: driver,
		read: processorMHz}
}

func (c *clocks) look() {
	if c.read != nil {
		if mhz := c.read(); mhz > 0 {
			c.seen = append(c.seen, mhz)
		}
	}
}

// String is the slowest and the fastest clock that was seen.
func (c *clocks) String() string {
	switch {
	case len(c.seen) > 0:
		return fmt.Sprintf("%.0f to %.0f MHz, as the system says", slices.Min(c.seen), slices.Max(c.seen))
	case c.rated > 0:
		return fmt.Sprintf("rated %d MHz, not watched", c.rated)
	}
	return "unknown"
}

// processorMHz is the mean over processors: what the frequency governor says, else /proc/cpuinfo, which on virtual
// machines is a constant.
func processorMHz() float64 {
	sum, n := 0.0, 0
	for i := range runtime.NumCPU() {
		text, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", i))
		if err != nil {
			continue
		}
		if khz, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err == nil {
			sum, n = sum+khz/1000, n+1
		}
	}
	if n > 0 {
		return sum / float64(n)
	}
	mhz, err := strconv.ParseFloat(cpuField("cpu MHz"), 64)
	if err != nil {
		return 0
	}
	return mhz
}

// cpuField is the first line of /proc/cpuinfo with a key; empty where there is none.
func cpuField(key string) string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
