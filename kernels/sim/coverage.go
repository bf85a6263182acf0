package sim

/*
#include <stdlib.h>
#include "sim.h"
*/
import "C"

import (
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"testing"
	"unsafe"
)

// Sources are the simulator's own kernels, compiled in and tested like a family's.
//
//go:embed *.cu
var Sources embed.FS

// An entry's definition, and any mention of one.
var (
	definition = regexp.MustCompile(`(?m)^CTN_ENTRY\((\w+), (?:const )?(?:__grid_constant__ )?\w+ \w+, [^)]*\) \{`)
	mention    = regexp.MustCompile(`\b(__global__|CTN_ENTRY)\b`)
)

// Sanitized tells whether AddressSanitizer watches the kernels' memory: it ends the process where a launch would
// otherwise fail.
func Sanitized() bool { return C.ctn_sim_sanitized() != 0 }

// CatchesFaults tells whether a kernel's access to no memory at all is an error of the launch: on Linux on x86-64,
// without AddressSanitizer.
func CatchesFaults() bool { return C.ctn_sim_catches_faults() != 0 }

// Entries lists the entries that are compiled in, in alphabetical order.
func Entries() []string {
	var out []string
	for i := 0; ; i++ {
		name := C.ctn_sim_entry(C.int(i))
		if name == nil {
			return out
		}
		out = append(out, C.GoString(name))
	}
}

// Launches is how often an entry was launched in this process.
func Launches(entry string) int {
	name := C.CString(entry)
	defer C.free(unsafe.Pointer(name))
	return int(C.ctn_sim_launches(name))
}

// Defined lists the entries that the .cu files of a folder define. A kernel that is not an entry as the simulator wants
// it is an error.
func Defined(files fs.FS) ([]string, error) {
	names, err := fs.Glob(files, "*.cu")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		entries := definition.FindAllStringSubmatch(string(text), -1)
		if n := len(mention.FindAll(text, -1)); n != len(entries) {
			return nil,
				fmt.Errorf("%s: __global__ or CTN_ENTRY %d times, but %d entries: CTN_ENTRY(cu_x, const ctn_x_args "+
					"g, THREADS) {", name, n, len(entries))
		}
		for _, e := range entries {
			out = append(out, e[1])
		}
	}
	return out, nil
}

// Covered requires that every entry of the .cu files is compiled in and has been launched in this process.
func Covered(files fs.FS) error {
	defined, err := Defined(files)
	if err != nil {
		return err
	}
	known := Entries()
	for _, name := range defined {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: not compiled into the simulator: a file of kernels/sim has to include its .cu file",
				name)
		}
		if Launches(name) == 0 {
			return fmt.Errorf("%s: no test launched it", name)
		}
	}
	return nil
}

// OnlyVariable is the environment variable that restricts the kernels' tests to one device, such as cuda:0.
const OnlyVariable = "CTNAS_TEST_DEVICE"

// Main is a family's TestMain: it runs the tests and, if all of them ran, on the simulator too, requires that the
// family's .cu files are Covered.
func Main(m *testing.M, files fs.FS) {
	code := m.Run()
	run := flag.Lookup("test.run")
	if code == 0 && !UnderRace && os.Getenv(OnlyVariable) == "" && (run == nil || run.Value.String() == "") {
		if err := Covered(files); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
