// Package testdata finds the large real inputs that tests use but the repository does not hold, and makes small ones.
package testdata

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Path returns the file name below the data folder (CTNAS_TABLES, otherwise ../shared/data beside the repository) and
// skips the test, saying so, where it is absent.
func Path(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Dir(), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("data file %s is not here: set CTNAS_TABLES to the folder that holds it", name)
	}
	return path
}

// Dir is the data folder, whether or not it exists.
func Dir() string {
	if dir := os.Getenv("CTNAS_TABLES"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "..", "shared", "data")
}

// Pages are the paths of all pages of documentation.
func Pages(t testing.TB) (all []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "search/*/*.md", "scripts/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(Root(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 10 {
		t.Fatalf("%d pages of documentation in %s", len(all), Root())
	}
	return all
}

// Root is the repository's folder: the one with go.mod above the folder that a test runs in, its package's.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// Python returns a Python program that has some modules, CTNAS_PYTHON or that of `make peers`, and skips the test,
// saying so, where there is none.
func Python(t testing.TB, modules ...string) string {
	t.Helper()
	program := os.Getenv("CTNAS_PYTHON")
	if program == "" {
		program = filepath.Join(Root(), "build", "peers", "bin", "python")
	}
	if err := exec.Command(program, "-c", "import "+strings.Join(modules, ", ")).Run(); err != nil {
		t.Skipf("%s with %s is not here: make peers, or set CTNAS_PYTHON", program, strings.Join(modules, ", "))
	}
	return program
}
