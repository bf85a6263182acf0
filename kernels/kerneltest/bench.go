package kerneltest

import (
	"syscall"
	"testing"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/peak"
)

// CPUSeconds is the processor time that this process has used. A benchmark of one thread measures with it what a busy
// machine does not disturb.
func CPUSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + 1e-6*float64(u.Utime.Usec+u.Stime.Usec)
}

// Bench runs a program on one thread and reports GFLOP/s, the share of what the instruction set reaches at that moment,
// and GB/s.
func Bench(b *testing.B, flops, bytes float64, p *exec.Program) {
	ceiling := p.Arena().NewProgram("peak")
	most := peak.Record(ceiling, p.Arena().F32(1), 200_000)
	p.Run(1)
	ceiling.Run(1)
	var ours, theirs float64
	runs := 0
	for b.Loop() {
		start := CPUSeconds()
		p.Run(1)
		middle := CPUSeconds()
		ours += middle - start
		if runs%10 == 0 {
			ceiling.Run(1)
			theirs += CPUSeconds() - middle
		}
		runs++
	}
	top := most * float64((runs+9)/10) / theirs
	b.ReportMetric(1e6*ours/float64(runs), "us(cpu)")
	b.ReportMetric(flops*float64(runs)/ours/1e9, "GFLOP/s")
	b.ReportMetric(100*flops*float64(runs)/ours/top, "%peak")
	b.ReportMetric(bytes*float64(runs)/ours/1e9, "GB/s")
	b.ReportMetric(0, "ns/op")
}
