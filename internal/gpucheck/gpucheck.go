// Package gpucheck runs the tests that take a GPU from one binary, which needs neither Go nor the sources: each test in
// a process of its own, because a kernel that fails kills the context of its process and every later test in it.
//
// scripts/dist/gpucheck.go writes the program that calls Main.
package gpucheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Case is a top-level test.
type Case struct {
	Package string // "kernels/conv"
	Name    string // "TestForward"
	Test    func(t *testing.T)
}

func (c Case) String() string { return strings.ReplaceAll(c.Package, "/", "_") + "." + c.Name }

// deviceVariable is sim.OnlyVariable, which names the device that tests take.
const deviceVariable = "CTNAS_TEST_DEVICE"

const usage = `usage: gpucheck list [REGEXP]      print the cases
       gpucheck run [FLAGS] [REGEXP] run each in a process of its own; gpucheck run -h lists the flags
       gpucheck -test.run REGEXP     run them in this process, with the flags of a Go test`

// Main is the program. counted is how many pieces of work a GPU has been given in this process: a test that ends
// without any, and was not skipped, fails.
func Main(cases []Case, counted func() int) {
	if os.Getenv(deviceVariable) == "" {
		if err := os.Setenv(deviceVariable, "cuda:0"); err != nil {
			panic(err)
		}
	}
	args := os.Args[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "-test.") {
		inProcess(cases, counted)
	}
	if err := command(cases, args, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "gpucheck: %v\n", err)
		os.Exit(1)
	}
}

func command(cases []Case, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("what to do?\n" + usage)
	}
	switch args[0] {
	case "list":
		chosen, err := choose(cases, args[1:])
		for _, c := range chosen {
			fmt.Fprintln(out, c)
		}
		return err
	case "run":
		return run(cases, args[1:], out)
	}
	return fmt.Errorf("what is %q?\n%s", args[0], usage)
}

// choose returns the cases whose name the pattern matches: all without one.
func choose(cases []Case, patterns []string) ([]Case, error) {
	if len(patterns) > 1 {
		return nil, fmt.Errorf("want one pattern, not %q", patterns)
	}
	pattern, err := regexp.Compile(strings.Join(patterns, ""))
	if err != nil {
		return nil, err
	}
	var chosen []Case
	for _, c := range cases {
		if pattern.MatchString(c.String()) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no case matches %q", pattern)
	}
	return chosen, nil
}

// counts is what a case's process prints of it.
var counts = regexp.MustCompile(`(?m)^gpucheck: \S+ gave the GPU (\d+) cases$`)

// inProcess runs the tests that -test.run chooses, and does not return.
func inProcess(cases []Case, counted func() int) {
	var tests []testing.InternalTest
	for _, c := range cases {
		tests = append(tests, testing.InternalTest{Name: c.String(), F: func(t *testing.T) {
			if dir := data(c); dir != "" {
				t.Chdir(dir)
			}
			before := counted()
			defer func() {
				n := counted() - before
				fmt.Printf("gpucheck: %s gave the GPU %d cases\n", c, n)
				if n == 0 && !t.Skipped() && !t.Failed() {
					t.Errorf("nothing ran on %s", os.Getenv(deviceVariable))
				}
			}()
			c.Test(t)
		}})
	}
	testing.Main(func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }, tests, nil, nil)
}

// data is the folder where a case finds its files: cases/PACKAGE beside the folder of the program; "" where there is
// none.
func data(c Case) string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(exe)), "cases", filepath.FromSlash(c.Package))
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// Statuses of a result.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
	late    = "out of time" // it took longer than a case may
	notRun  = "not run"     // the time of all was over
)

// Result is one line of the report.
type Result struct {
	Part    string  `json:"part"`
	Case    string  `json:"case"`
	Status  string  `json:"status"`
	Cases   int     `json:"cases"` // pieces of work that the GPU was given
	Seconds float64 `json:"seconds"`
	Output  string  `json:"output,omitempty"` // the end of it, where it did not pass
}

// runner is how cases are run.
type runner struct {
	part     string
	budget   time.Duration
	each     time.Duration
	parallel int
	wrap     []string // stands before the program's own command
	args     []string // behind it
	report   io.Writer
	out      io.Writer
	mu       sync.Mutex
}

func run(cases []Case, args []string, out io.Writer) error {
	r := runner{out: out, report: io.Discard}
	f := flag.NewFlagSet("gpucheck run", flag.ContinueOnError)
	f.StringVar(&r.part, "part", "parity", "what the report calls this run")
	f.DurationVar(&r.budget, "budget", 7*time.Minute, "end after this time: what is left is not run")
	f.DurationVar(&r.each, "each", 2*time.Minute, "the most a case may take")
	f.IntVar(&r.parallel, "parallel", min(8, runtime.NumCPU()), "processes at a time")
	report := f.String("report", "", "append a line of JSON for each case to this file")
	wrap := f.String("wrap", "", "command that runs each case, such as \"compute-sanitizer --tool memcheck\"")
	short := f.Bool("short", false, "the tests' shorter form")
	if err := f.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(cases, f.Args())
	if err != nil {
		return err
	}
	r.wrap = strings.Fields(*wrap)
	if *short {
		r.args = append(r.args, "-test.short")
	}
	if *report != "" {
		file, err := os.OpenFile(*report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		r.report = file
	}
	return r.all(chosen)
}

// all runs the cases and prints a table. It is an error if one did not pass, was not run, or nothing reached the GPU.
func (r *runner) all(cases []Case) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.budget)
	defer cancel()
	next := make(chan Case)
	var results []Result
	var workers sync.WaitGroup
	for range max(1, r.parallel) {
		workers.Go(func() {
			for c := range next {
				result := r.one(ctx, c)
				r.mu.Lock()
				results = append(results, result)
				err := json.NewEncoder(r.report).Encode(result)
				if result.Status != passed && result.Status != skipped {
					fmt.Fprintf(r.out, "%s: %s\n%s\n", result.Case, result.Status, result.Output)
				}
				if err != nil {
					fmt.Fprintf(r.out, "the report could not be written: %v\n", err)
				}
				r.mu.Unlock()
			}
		})
	}
	for _, c := range cases {
		next <- c
	}
	close(next)
	workers.Wait()
	return r.table(results)
}

// one runs a case in a process of its own.
func (r *runner) one(ctx context.Context, c Case) Result {
	result := Result{Part: r.part, Case: c.String(), Status: notRun}
	if ctx.Err() != nil {
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, r.each)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		result.Status, result.Output = failed, err.Error()
		return result
	}
	words := append(append([]string{}, r.wrap...), exe, "-test.run", "^"+regexp.QuoteMeta(c.String())+"$", "-test.v")
	words = append(words, r.args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	// With a wrapper the test is its child: both must go, or the test would stay on the GPU.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err = cmd.Run()
	result.Seconds = time.Since(start).Round(time.Millisecond).Seconds()
	text := output.String()
	if found := counts.FindStringSubmatch(text); found != nil {
		_, _ = fmt.Sscan(found[1], &result.Cases)
	}
	switch {
	case ctx.Err() != nil:
		result.Status = late
	case err != nil:
		result.Status = failed
		text += "\n" + err.Error()
	case strings.Contains(text, "--- SKIP: "+c.String()+" "):
		result.Status = skipped
	case strings.Contains(text, "--- PASS: "+c.String()+" "):
		result.Status = passed
	default: // a process that ends well and ran nothing
		result.Status = failed
	}
	if result.Status != passed {
		result.Output = tail(text, 6000)
	}
	return result
}

// tail is the end of a text.
func tail(text string, bytes int) string {
	text = strings.TrimSpace(text)
	if len(text) <= bytes {
		return text
	}
	return "..." + strings.ToValidUTF8(text[len(text)-bytes:], "")
}

// table prints what became of the cases of each package.
func (r *runner) table(results []Result) error {
	type row struct {
		status  map[string]int
		cases   int
		seconds float64
	}
	rows, order := map[string]*row{}, []string{}
	total := &row{status: map[string]int{}}
	for _, one := range results {
		name, _, _ := strings.Cut(one.Case, ".")
		if rows[name] == nil {
			rows[name] = &row{status: map[string]int{}}
			order = append(order, name)
		}
		for _, to := range []*row{rows[name], total} {
			to.status[one.Status]++
			to.cases += one.Cases
			to.seconds += one.Seconds
		}
	}
	rows["all"] = total
	fmt.Fprintf(r.out, "%-24s %6s %6s %7s %6s %7s %9s %8s\n", r.part, passed, failed, skipped, "late", notRun,
		"GPU cases", "seconds")
	for _, name := range append(order, "all") {
		s := rows[name].status
		fmt.Fprintf(r.out, "%-24s %6d %6d %7d %6d %7d %9d %8.1f\n", name, s[passed], s[failed], s[skipped], s[late],
			s[notRun], rows[name].cases, rows[name].seconds)
	}
	if bad := len(results) - total.status[passed] - total.status[skipped]; bad > 0 {
		return fmt.Errorf("%s: %d of %d cases did not pass", r.part, bad, len(results))
	}
	if total.cases == 0 || total.status[passed] == 0 {
		return fmt.Errorf("%s: nothing ran on the GPU", r.part)
	}
	return nil
}
