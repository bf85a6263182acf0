// Command vet is a tool for `go vet -vettool`: go vet's own analyzers, staticcheck's and a few more, each with its
// settings here. A program of these alone compiles in a fraction of what golangci-lint takes, and Go's build cache
// keeps what it found.
package main

import (
	"fmt"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"

	"codeberg.org/polyfloyd/go-errorlint/errorlint"
	"github.com/golangci/unconvert"
	"github.com/gordonklaus/ineffassign/pkg/ineffassign"
	"github.com/karamaru-alpha/copyloopvar"
	"github.com/kisielk/errcheck/errcheck"
	usestdlibvars "github.com/sashamelentyev/usestdlibvars/pkg/analyzer"
	"github.com/timakin/bodyclose/passes/bodyclose"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/suite/vet"
	"golang.org/x/tools/go/analysis/unitchecker"
	"golang.org/x/tools/go/packages"
	"honnef.co/go/tools/config"
	"honnef.co/go/tools/quickfix"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
	"honnef.co/go/tools/unused"
)

// Of staticcheck's checks these are left out. All but the last are off by default: comments and names of exported
// things.
var leftOut = []string{
	"ST1000", "ST1003", "ST1016", "ST1020", "ST1021", "ST1022",
	"QF1008", // naming the embedded field can be the clearer way
}

// Errors of these may be ignored: what closes, removes and prints after the work is done.
var mayFail = regexp.MustCompile(`(?i)^((os\.)?std(out|err)\..*|.*Close|.*Flush|os\.Remove(All)?|.*print(f|ln)?|os\.(Un)?Setenv)$`)

func main() {
	// A folder's staticcheck.conf is not asked.
	config.Analyzer.Run = func(*analysis.Pass) (any, error) { return &config.DefaultConfig, nil }

	wrapped := errorlint.NewAnalyzer()
	if err := wrapped.Flags.Set("errorf", "true"); err != nil {
		panic(err)
	}
	unused := &analysis.Analyzer{
		Name: "unused", Doc: "finds what nothing uses", Run: unusedObjects,
		Requires: []*analysis.Analyzer{unused.Analyzer.Analyzer},
	}
	all := slices.Concat(vet.Suite, []*analysis.Analyzer{
		bodyclose.Analyzer, copyloopvar.NewAnalyzer(), ineffassign.Analyzer, usestdlibvars.New(), wrapped, unused,
		{Name: "errcheck", Doc: "finds errors that nothing looks at", Run: uncheckedErrors},
		{Name: "unconvert", Doc: "finds conversions to the type a value has", Run: conversions},
	})
	checks := slices.Concat(staticcheck.Analyzers, simple.Analyzers, stylecheck.Analyzers, quickfix.Analyzers)
	for _, check := range checks {
		if !slices.Contains(leftOut, check.Analyzer.Name) {
			all = append(all, check.Analyzer)
		}
	}
	for _, analyzer := range all {
		signed(analyzer)
	}
	if last := os.Args[len(os.Args)-1]; strings.HasSuffix(last, ".cfg") {
		if err := moved(last); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	unitchecker.Main(all...)
}

// signed puts the analyzer's name before what it reports.
func signed(analyzer *analysis.Analyzer) {
	run := analyzer.Run
	analyzer.Run = func(pass *analysis.Pass) (any, error) {
		report := pass.Report
		pass.Report = func(found analysis.Diagnostic) {
			found.Message = analyzer.Name + ": " + found.Message
			report(found)
		}
		return run(pass)
	}
}

// uncheckedErrors is errcheck with exclusions by a function's name.
func uncheckedErrors(pass *analysis.Pass) (any, error) {
	checker := errcheck.Checker{Exclusions: errcheck.Exclusions{
		BlankAssignments: true, TypeAssertions: true, SymbolRegexpsByPackage: map[string]*regexp.Regexp{},
		// Output to a terminal or a pipe: a reader who went away is not an error worth a branch a line.
		Symbols: append([]string{"fmt.Fprint", "fmt.Fprintf", "fmt.Fprintln"}, errcheck.DefaultExcludedSymbols...),
	}}
	unit := &packages.Package{Fset: pass.Fset, Syntax: pass.Files, Types: pass.Pkg, TypesInfo: pass.TypesInfo}
	for _, found := range checker.CheckPackage(unit).Unique().UncheckedErrors {
		name := found.SelectorName
		if name == "" {
			name = found.FuncName
		}
		if !mayFail.MatchString(name) {
			report(pass, found.Pos, fmt.Sprintf("the error of %q is not checked", name))
		}
	}
	return nil, nil
}

func conversions(pass *analysis.Pass) (any, error) {
	for _, position := range unconvert.Run(pass) {
		report(pass, position, "unnecessary conversion")
	}
	return nil, nil
}

// unusedObjects reports what staticcheck's analyzer only lists. An object can stand in both lists.
func unusedObjects(pass *analysis.Pass) (any, error) {
	found := pass.ResultOf[unused.Analyzer.Analyzer].(unused.Result)
	used := map[token.Position]bool{}
	for _, object := range found.Used {
		used[object.Position] = true
	}
	for _, object := range found.Unused {
		if object.Kind != "type param" && !used[object.Position] {
			report(pass, object.Position, fmt.Sprintf("%s %s is unused", object.Kind, object.Name))
		}
	}
	return nil, nil
}

// report reports by a position. In what cgo made of a file that is a position in the file that was written, and no way
// leads back but by looking.
func report(pass *analysis.Pass, position token.Position, message string) {
	place := pass.Files[0].Package
	for _, syntax := range pass.Files {
		file := pass.Fset.File(syntax.Package)
		for line := 1; line <= file.LineCount(); line++ {
			start := file.LineStart(line)
			if at := pass.Fset.Position(start); at.Filename == position.Filename && at.Line == position.Line {
				place = start
			}
		}
	}
	pass.Report(analysis.Diagnostic{Pos: place, Message: message})
}
