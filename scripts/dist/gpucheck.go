//go:build ignore

// gpucheck.go TREE PACKAGE... turns the tests of the packages into the program TREE/gpucheck: those that run on a GPU,
// with what they use. TREE is a copy of the module, which it changes: scripts/dist/bundle.sh makes one. Go cannot link
// the tests of several packages into one program, and one shares what several would each hold.
//
//   - Files of tests become plain ones. Those outside of their package move to PACKAGE/gpucases, the others stay. Of
//     their declarations what tests on a GPU can reach is left.
//   - The simulator goes. A package of its name takes its place, whose device is the GPU: its tests of the kernels of
//     selftest.cu compare the GPU with what the simulator does.
package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/ctnas/ctnas"

// gives tells whether a function of package kerneltest gives a test devices, a GPU among them.
func gives(name string) bool {
	return strings.HasPrefix(name, "Each") && name != "EachCPU" || name == "Accelerators" || name == "SameBits"
}

func main() {
	if len(os.Args) < 3 {
		fail("usage: go run scripts/dist/gpucheck.go TREE PACKAGE...")
	}
	tree := os.Args[1]
	var cases, imports []string
	for i, pkg := range os.Args[2:] {
		where := fmt.Sprintf("p%d", i)
		inside, outside := convert(tree, pkg)
		for suffix, tests := range map[string][]string{"": inside, "/gpucases": outside} {
			if len(tests) == 0 {
				continue
			}
			name := where
			if suffix != "" {
				name += "x"
			}
			imports = append(imports, fmt.Sprintf("\t%s %q\n", name, module+"/"+pkg+suffix))
			for _, test := range tests {
				cases = append(cases, fmt.Sprintf("\t\t{%q, %q, %s.%s},\n", pkg, test, name, test))
			}
		}
	}
	if len(cases) == 0 {
		fail("no test takes a GPU")
	}
	slices.Sort(imports)
	slices.Sort(cases)
	for _, pkg := range []string{"internal/gpucheck", "kernels/kerneltest", "kernels/sim"} {
		imports = append(imports, fmt.Sprintf("\t%q\n", module+"/"+pkg))
	}
	write(filepath.Join(tree, "gpucheck/main.go"), "package main\n\nimport (\n"+strings.Join(imports, "")+
		")\n\nfunc main() {\n\tgpucheck.Main([]gpucheck.Case{\n"+strings.Join(cases, "")+
		"\t}, func() int { return kerneltest.GPUCases() + sim.Opened })\n}\n")
	replaceSimulator(filepath.Join(tree, "kernels/sim"))
	fmt.Printf("%d cases\n", len(cases))
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gpucheck.go: "+format+"\n", args...)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func write(name, text string) {
	check(os.MkdirAll(filepath.Dir(name), 0o755))
	check(os.WriteFile(name, []byte(text), 0o644))
}

// file is one file of tests.
type file struct {
	name string
	text []byte
	tree *ast.File
}

// convert rewrites the tests of a package and returns the names of those that take a GPU, inside the package and
// outside.
func convert(tree, pkg string) (inside, outside []string) {
	dir := filepath.Join(tree, filepath.FromSlash(pkg))
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	check(err)
	context := build.Default
	context.BuildTags = []string{"cuda"}
	set := token.NewFileSet()
	var in, out []file
	for _, name := range names {
		if match, err := context.MatchFile(dir, filepath.Base(name)); err != nil || !match {
			check(err)
			check(os.Remove(name))
			continue
		}
		text, err := os.ReadFile(name)
		check(err)
		parsed, err := parser.ParseFile(set, name, text, parser.ParseComments)
		check(err)
		f := file{name, text, parsed}
		if strings.HasSuffix(parsed.Name.Name, "_test") {
			out = append(out, f)
		} else {
			in = append(in, f)
		}
		check(os.Remove(name))
	}
	return reduce(set, pkg, dir, in), reduce(set, pkg, filepath.Join(dir, "gpucases"), out)
}

// declared are the names that a declaration makes known, and those of the type whose method it is.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		ast.Inspect(d.Recv, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				names = append(names, id.Name)
			}
			return true
		})
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, id := range s.Names {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

// mentioned are all identifiers in a declaration.
func mentioned(d ast.Node) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(d, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names[id.Name] = true
		}
		return true
	})
	return names
}

// takesGPU tells whether a declaration asks for devices, a GPU among them.
func takesGPU(pkg string, d ast.Decl) bool {
	found := false
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			found = found || ok && x.Name == "kerneltest" && gives(n.Sel.Name)
		case *ast.CallExpr:
			id, ok := n.Fun.(*ast.Ident)
			found = found || ok && pkg == "kernels/sim" && id.Name == "each"
		}
		return true
	})
	return found
}

// reduce writes the files to dir with what tests on a GPU can reach, and returns those tests.
func reduce(set *token.FileSet, pkg, dir string, files []file) (tests []string) {
	by := map[string][]ast.Decl{} // by what they declare
	uses := map[ast.Decl]map[string]bool{}
	text := map[ast.Decl][]byte{}
	for _, f := range files {
		for _, d := range f.tree.Decls {
			text[d] = f.text[set.Position(d.Pos()).Offset:set.Position(d.End()).Offset]
			uses[d] = mentioned(d)
			for _, name := range declared(d) {
				by[name] = append(by[name], d)
			}
		}
	}
	// reach calls f with all declarations that those of a name lead to.
	reach := func(name string, seen map[ast.Decl]bool) {
		for todo := []string{name}; len(todo) > 0; {
			name, todo = todo[0], todo[1:]
			for _, d := range by[name] {
				if !seen[d] {
					seen[d] = true
					for used := range uses[d] {
						todo = append(todo, used)
					}
				}
			}
		}
	}
	keep := map[ast.Decl]bool{}
	for name, ds := range by {
		f, ok := ds[0].(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(name, "Test") || name == "TestMain" || f.Recv != nil ||
			f.Type.Params.NumFields() != 1 {
			continue
		}
		seen := map[ast.Decl]bool{}
		reach(name, seen)
		for d := range seen {
			if pkg == "kernels/sim" && !strings.Contains(string(text[ds[0]]), "ctn_selftest_") {
				continue // kernels that are broken on purpose
			}
			if takesGPU(pkg, d) {
				tests = append(tests, name)
				reach(name, keep)
				break
			}
		}
	}
	for _, f := range files {
		source(set, dir, f, keep, text)
	}
	slices.Sort(tests)
	return tests
}

// source writes what is kept of a file.
func source(set *token.FileSet, dir string, f file, keep map[ast.Decl]bool, text map[ast.Decl][]byte) {
	var body strings.Builder
	used := map[string]bool{}
	for _, d := range f.tree.Decls {
		if !keep[d] {
			continue
		}
		fmt.Fprintf(&body, "%s\n\n", text[d])
		ast.Inspect(d, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				// A name that the file itself declares is no package's.
				if x, ok := selector.X.(*ast.Ident); ok && x.Obj == nil {
					used[x.Name] = true
				}
			}
			return true
		})
	}
	if body.Len() == 0 {
		return
	}
	var head strings.Builder
	name := f.tree.Name.Name
	if strings.HasSuffix(name, "_test") {
		name = filepath.Base(dir)
	}
	fmt.Fprintf(&head, "//go:build cuda\n\npackage %s\n\n", name)
	for _, i := range f.tree.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		check(err)
		if name = path.Base(name); name == "v2" {
			name = "rand" // math/rand/v2
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		if name == "." || name == "_" || used[name] {
			fmt.Fprintf(&head, "import %s\n", f.text[set.Position(i.Pos()).Offset:set.Position(i.End()).Offset])
		}
	}
	base := strings.TrimSuffix(filepath.Base(f.name), "_test.go") + "_gpucase.go"
	write(filepath.Join(dir, base), head.String()+"\n"+body.String())
}

// replaceSimulator leaves of the simulator's package what tests use, over the GPU.
func replaceSimulator(dir string) {
	old, err := os.ReadDir(dir)
	check(err)
	for _, e := range old {
		if !e.IsDir() {
			check(os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	write(filepath.Join(dir, "sim.go"), simulator)
}

const simulator = `// Package sim has the GPU where the simulator was.
package sim

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/fatbin"
)

const OnlyVariable = "CTNAS_TEST_DEVICE"

const UnderRace = false

type Order int

const Ascending Order = 0

var Orders = []Order{Ascending}

func (Order) String() string { return "gpu" }

type Config struct {
	Order   Order
	Seed    uint32
	Threads int
}

type Launch = cuda.Launch

type Device struct{ *cuda.Device }

// Opened is how many devices were opened here.
var Opened int

func Open(Config) *Device {
	images, err := fatbin.Load()
	if err != nil {
		panic(err)
	}
	number, err := strconv.Atoi(strings.TrimPrefix(os.Getenv(OnlyVariable), "cuda:"))
	if err != nil {
		panic(err)
	}
	d, err := cuda.Open(number, images)
	if err != nil {
		panic(err)
	}
	last = &Device{d}
	Opened++
	return last
}

// HasHopper tells whether the GPU is of compute capability 9.0.
func HasHopper() bool {
	all, _ := cuda.Devices()
	return slices.ContainsFunc(all, func(d cuda.Info) bool { return d.Name == os.Getenv(OnlyVariable) && d.SM == 90 })
}

type Sequence struct {
	d *Device
	s *cuda.Sequence
}

// The simulator knows entries by their names alone, a GPU also by the file.
func (d *Device) Sequence(launches []Launch) (*Sequence, error) {
	var errs []error
	for _, file := range []string{"selftest", "selftest_hopper"} {
		for i := range launches {
			launches[i].File = file
		}
		s, err := d.Device.Sequence(launches)
		if err == nil {
			return &Sequence{d, s}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

var last *Device

func ImageMap(dst unsafe.Pointer, m cuda.ImageMap) error { return last.ImageMap(dst, m) }

func (s *Sequence) Run(n int) error {
	if err := s.s.Run(n); err != nil {
		return err
	}
	return s.d.Sync()
}

func (s *Sequence) Free() { s.s.Free() }
`
