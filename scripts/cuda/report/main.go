// Command report prints, of the compiled kernels of H100 and H200, what the main loops on tensor cores execute, how
// many launches a training step takes, and how long a model says that it takes. It needs no GPU. `make gpu-report` runs
// it; docs/performance.md has the model.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/cmd/ctnas/bench"
	device "github.com/ctnas/ctnas/kernels/exec"
)

// steps are the training steps that are modelled, in batches of 256 in bfloat16.
var steps = []string{"train_mobilenetv3_large", "train_nb101_best"}

// others are entries that these steps launch on other GPUs, in the place of those for compute capability 9.0: their
// main loops are printed too, from the code for 9.0, which has the same instructions.
var others = map[string][]string{"conv_plain": {"cu_conv_plain_128", "cu_conv_input_plain_128",
	"cu_conv_weight_plain_128"}}

func main() {
	folder := flag.String("fatbins", "kernels/fatbin/bin", "folder of the compiled kernels")
	cuobjdump := flag.String("cuobjdump", "cuobjdump", "NVIDIA's program; nvdisasm must stand beside it")
	all := flag.Bool("entries", false, "also print the modelled time by entry")
	flag.Parse()
	if err := report(context.Background(), os.Stdout, *folder, *cuobjdump, *all); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(ctx context.Context, out io.Writer, folder, cuobjdump string, all bool) error {
	programs := map[string][]bench.Launch{}
	entries := map[string]map[string]bool{} // by file
	for _, name := range steps {
		list, err := bench.Launches(ctx, name, device.BF16, 0)
		if err != nil {
			return err
		}
		for _, l := range list {
			if entries[l.File] == nil {
				entries[l.File] = map[string]bool{}
			}
			entries[l.File][l.Entry] = true
		}
		programs[name] = list
	}
	for file, names := range others {
		if entries[file] == nil {
			entries[file] = map[string]bool{}
		}
		for _, name := range names {
			entries[file][name] = true
		}
	}
	code := map[string]figures{}
	for _, file := range slices.Sorted(maps.Keys(entries)) {
		kernels, err := disassemble(ctx, cuobjdump, filepath.Join(folder, file+".fatbin"),
			slices.Sorted(maps.Keys(entries[file])))
		if err != nil {
			return err
		}
		for _, k := range kernels {
			f, err := k.figures()
			if err != nil {
				return err
			}
			code[f.name] = f
		}
	}
	fmt.Fprintf(out, "\n%-36s %9s %9s %9s %9s\n", "MAIN LOOP ON TENSOR CORES (sm_90)", "static", "executed", "products",
		"each")
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if f := code[name]; f.perProduct > 0 {
			fmt.Fprintf(out, "%-36s %9d %9d %9.0f %9.1f\n", name, f.static, f.path, f.products, f.perProduct)
		}
	}
	fmt.Fprintln(out, "(instructions of a warp and iteration: all of them, and those of the way that is taken where "+
		"tensors are aligned,\nthe norm is applied and the activation is cheap; products of m16n8k16 and "+
		"instructions for each)")
	for _, name := range steps {
		list := programs[name]
		count := map[string]int{}
		for _, l := range list {
			count[l.Program]++
			if _, known := code[l.Entry]; !known {
				return fmt.Errorf("%s has no entry %s for compute capability 9.0", l.File, l.Entry)
			}
		}
		fmt.Fprintf(out, "\n%s, batch of 256, bf16: %d launches", name, len(list))
		for _, program := range slices.Sorted(maps.Keys(count)) {
			fmt.Fprintf(out, ", %d to %s", count[program], program)
		}
		fmt.Fprintln(out)
		for _, g := range gpus {
			m := g.model(list, code)
			least := ""
			if m.less {
				least = "at least "
			}
			fmt.Fprintf(out, "  modelled on an %s: %s%.1f ms (bound by bytes %.1f, by instructions %.1f, by "+
				"tensor cores %.1f; between launches %.1f)\n", g.name, least, 1e3*m.seconds, 1e3*m.bytes,
				1e3*m.instructions, 1e3*m.tensor, 1e3*m.gaps)
			for _, entry := range slices.Sorted(maps.Keys(m.unknown)) {
				if g == gpus[0] {
					fmt.Fprintf(out, "    of %d launches of %s not all that they do is known\n", m.unknown[entry],
						entry)
				}
			}
			if all {
				names := slices.SortedFunc(maps.Keys(m.byEntry), func(x, y string) int {
					return cmp.Compare(m.byEntry[y], m.byEntry[x])
				})
				for _, entry := range names {
					fmt.Fprintf(out, "    %8.3f ms  %s\n", 1e3*m.byEntry[entry], entry)
				}
			}
		}
	}
	return nil
}

// disassemble gives the machine code for H100 and H200 of a fatbin's entries: that of sm_90a where there is some.
func disassemble(ctx context.Context, cuobjdump, fatbin string, entries []string) ([]*kernel, error) {
	if _, err := os.Stat(fatbin); err != nil {
		return nil, err
	}
	var kernels []*kernel
	for _, arch := range []string{"sm_90a", "sm_90"} {
		cmd := exec.CommandContext(ctx, cuobjdump, "-sass", "-arch", arch, "-fun", strings.Join(entries, ","), fatbin)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(cuobjdump)+string(os.PathListSeparator)+os.Getenv("PATH"))
		var said bytes.Buffer
		cmd.Stderr = &said
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w\n%s", cuobjdump, fatbin, err, said.Bytes())
		}
		if kernels, err = parse(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", fatbin, err)
		}
		if len(kernels) > 0 {
			return kernels, nil
		}
	}
	return nil, fmt.Errorf("%s holds no machine code of compute capability 9.0: compile it with CTNAS_CUDA_ARCHS=90",
		fatbin)
}
