package trainer

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/nn"
)

// BenchmarkOperations prints where the processor's time of a training step goes, by operation; with CTNAS_PROFILE=all
// each one by itself, in order.
func BenchmarkOperations(b *testing.B) {
	for _, c := range benchmarked {
		b.Run(c.name, func(b *testing.B) {
			net, err := c.build()
			require.NoError(b, err)
			d, err := exec.Open(exec.Config{Threads: 1})
			require.NoError(b, err)
			defer d.Close()
			m, err := NewModel(d, net, Options{Batch: c.batch})
			require.NoError(b, err)
			defer m.Close()
			m.Initialize(nn.HeFanOut, 1)
			images, _ := kerneltest.Random(m.Images.Len(), 1)
			m.Images.WriteF32(0, images)
			m.Labels.WriteI32(0, make([]int32, c.batch))
			l := &lowering{m: m, name: "profile", mode: train}
			l.lower()
			memory := m.arena.F32(int(l.plan()))
			for _, v := range l.values {
				v.buf = memory.Slice(v.first, v.len)
			}
			programs := make([]*exec.Program, len(l.steps))
			for i, step := range l.steps {
				programs[i] = m.arena.NewProgram("profile")
				step(programs[i])
				programs[i].Run(1)
			}
			least := make([]float64, len(programs))
			for b.Loop() {
				for i, p := range programs {
					begin := kerneltest.CPUSeconds()
					p.Run(1)
					if t := kerneltest.CPUSeconds() - begin; least[i] == 0 || t < least[i] {
						least[i] = t
					}
				}
			}
			total, sums := 0.0, map[string]float64{}
			for i, p := range programs {
				name := strings.Join(p.Ops(), "+")
				total += least[i]
				sums[name] += least[i]
				if os.Getenv("CTNAS_PROFILE") == "all" {
					fmt.Printf("%4d %9.3f ms  %s\n", i, 1e3*least[i], name)
				}
			}
			names := slices.SortedFunc(maps.Keys(sums), func(x, y string) int { return cmp.Compare(sums[y], sums[x]) })
			for _, name := range names {
				fmt.Printf("%5.1f %%  %9.3f ms  %s\n", 100*sums[name]/total, 1e3*sums[name], name)
			}
			fmt.Printf("%s: %.2f ms of one thread, the least of %d runs of each operation, without the update\n",
				c.name, 1e3*total, b.N)
		})
	}
}
