package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// TestMain makes the test binary be ctnas where it is called by that name: scripts and tests that need a process of
// their own find it in the PATH.
func TestMain(m *testing.M) {
	testscript.Main(elsewhere{m}, map[string]func(){"ctnas": main, "signalled": signalled,
		"twice": twice})
}

// twice is a program that is told to end again and again, for it cannot see when the first time has set off all that it
// does.
func twice() {
	ctx := untilSignalled()
	for range 6 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond)
	}
	os.Exit(7)
}

// signalled is ctnas that gets a signal, its first argument, at the n-th line that it writes to stderr, its second: at
// the same place of its work on whatever machine.
func signalled() {
	number, err := strconv.Atoi(os.Args[1])
	line, err2 := strconv.Atoi(os.Args[2])
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	os.Exit(run(untilSignalled(), os.Args[3:], os.Stdout, &signalAt{syscall.Signal(number), line}, os.LookupEnv))
}

// signalAt is standard error of which a line has a signal follow.
type signalAt struct {
	signal syscall.Signal
	left   int
}

func (s *signalAt) Write(p []byte) (int, error) {
	written, err := os.Stderr.Write(p)
	before := s.left
	if s.left -= bytes.Count(p, []byte("\n")); before > 0 && s.left <= 0 {
		err = errors.Join(err, syscall.Kill(os.Getpid(), s.signal)) // which SIGKILL does not return from
	}
	return written, err
}

// elsewhere runs tests with a cache that is not the user's.
type elsewhere struct{ *testing.M }

func (m elsewhere) Run() int {
	cache, err := os.MkdirTemp("", "ctnas-test")
	if err == nil {
		err = os.Setenv("XDG_CACHE_HOME", cache)
	}
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(cache) }()
	return m.M.Run()
}

// TestScripts runs every story of testdata/script, side by side: the lines that a user types, with what they print,
// write and exit with. testdata/script/README.md has the commands beside testscript's own.
func TestScripts(t *testing.T) { runScripts(t, filepath.Join("testdata", "script")) }

// What is killed with SIGKILL again and again, and resumed each time, ends in the same bytes as what was left alone.
func TestKillAndResume(t *testing.T) { runScripts(t, filepath.Join("testdata", "script", "killed")) }

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "all":
				return testdata.All(), nil
			case "turbojpeg":
				return data.Decoder == "libjpeg-turbo", nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			e.Setenv("EXAMPLES", filepath.Join(testdata.Root(), "docs", "examples"))
			e.Setenv("CTNAS_THREADS", "1") // results do not depend on it, and the other processors run other scripts
			for _, name := range passedOn {
				if value, given := os.LookupEnv(name); given {
					e.Setenv(name, value)
				}
			}
			port, err := freePort()
			if err != nil {
				return err
			}
			e.Setenv("PORT", port)
			e.Values[locks{}] = map[string]*files.FolderLock{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"usage": func(ts *testscript.TestScript, neg bool, args []string) {
				refused(ts, neg, exitUsage, args)
			},
			"fails": func(ts *testscript.TestScript, neg bool, args []string) {
				refused(ts, neg, exitFailed, args)
			},
			"images":      made(2, func(path string, args []string) error { return writeColours(path, args...) }),
			"shard":       made(2, func(path string, args []string) error { return writeShard(path, args...) }),
			"cells":       made(2, scriptCells),
			"parts":       made(2, func(path string, args []string) error { return writeParts(path, args[0]) }),
			"supernet":    made(3, writeSupernet),
			"predictor":   made(1, func(path string, _ []string) error { return writePredictor(path) }),
			"edit":        made(3, editText),
			"shorten":     made(2, shorten),
			"killed":      killed,
			"interrupted": interrupted,
			"terminated":  terminated,
			"first":       first,
			"lock":        lock,
			"unlock":      unlock,
		},
	})
}

// freePort is one on this machine that nobody listens at, yet.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// passedOn are variables that say how the program is built or run, which scripts do not change.
var passedOn = []string{"ASAN_OPTIONS", "CTNAS_ISA", "GOCOVERDIR", "GORACE", "LD_LIBRARY_PATH",
	"LD_PRELOAD", "LSAN_OPTIONS"}

// refused runs a command that is wrong: it says why on stderr, nothing on stdout, and exits with the code.
func refused(ts *testscript.TestScript, neg bool, code int, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("want the words that stderr must have, and a command line")
	}
	err := ts.Exec("ctnas", args[1:]...)
	var exit *osexec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		ts.Fatalf("want exit code %d, got: %v", code, err)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("want nothing on stdout, got %q", out)
	}
	text := ts.ReadFile("stderr")
	switch {
	case !strings.Contains(text, args[0]):
		ts.Fatalf("want %q on stderr", args[0])
	case !strings.Contains(text, "ctnas: "), strings.Contains(text, "internal error"):
		ts.Fatalf("want a plain error on stderr")
	case strings.Contains(text, " --help`.") != (code == exitUsage):
		ts.Fatalf("--help is for mistakes on the line, and for them always")
	}
}

// killed runs a command that is killed with SIGKILL at a line of its stderr, interrupted one that gets SIGINT there.
// Both fail where it ends before.
func killed(ts *testscript.TestScript, neg bool, args []string) {
	if status := signalledAt(ts, neg, syscall.SIGKILL, args); status.Signal() != syscall.SIGKILL {
		ts.Fatalf("it was not killed at line %s", args[0])
	}
}

func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	endedBy(ts, neg, syscall.SIGINT, exitInterrupted, args)
}

// terminated runs a command that gets SIGTERM at a line of its stderr, after which it must exit with a code.
func terminated(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("want an exit code")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	endedBy(ts, neg, syscall.SIGTERM, code, args[1:])
}

func endedBy(ts *testscript.TestScript, neg bool, s syscall.Signal, code int, args []string) {
	if status := signalledAt(ts, neg, s, args); !status.Exited() || status.ExitStatus() != code {
		ts.Fatalf("it did not exit with %d after %v at line %s, but: %v", code, s, args[0], status)
	}
	for _, said := range []string{"ctnas: told to stop", "ctnas: interrupted"} {
		if !strings.Contains(ts.ReadFile("stderr"), said) {
			ts.Fatalf("it does not say %q", said)
		}
	}
}

func signalledAt(ts *testscript.TestScript, neg bool, s syscall.Signal, args []string) (status syscall.WaitStatus) {
	if neg || len(args) < 2 {
		ts.Fatalf("want the number of a line, and a command line")
	}
	err := ts.Exec("signalled", append([]string{strconv.Itoa(int(s))}, args...)...)
	var exit *osexec.ExitError
	if errors.As(err, &exit) {
		status = exit.Sys().(syscall.WaitStatus)
	}
	return status
}

// made is a command of at least n arguments whose first names a file or folder that it makes or changes.
func made(n int, work func(path string, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < n {
			ts.Fatalf("want %d arguments or more", n)
		}
		ts.Check(work(ts.MkAbs(args[0]), args[1:]))
	}
}

// locks is the key of a script's locks, by their folders.
type locks struct{}

func lock(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	held, err := files.Lock(dir, "ctnas of somebody else")
	ts.Check(err)
	ts.Value(locks{}).(map[string]*files.FolderLock)[dir] = held
	ts.Defer(func() { _ = held.Unlock() })
}

func unlock(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Value(locks{}).(map[string]*files.FolderLock)[ts.MkAbs(args[0])].Unlock())
}

// colours are classes that are told apart at a glance.
var colours = map[string]color.RGBA{
	"red": {230, 30, 30, 255}, "blue": {30, 30, 230, 255}, "green": {30, 230, 30, 255}, "yellow": {230, 230, 30, 255},
}

// plainPNG is a picture of 10x10 pixels of one colour.
func plainPNG(name string) ([]byte, error) {
	c, known := colours[name]
	if !known {
		return nil, fmt.Errorf("no colour %q", name)
	}
	m := image.NewRGBA(image.Rect(0, 0, 10, 10))
	for i := range 100 {
		m.Set(i%10, i/10, c)
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	return b.Bytes(), err
}

// writeColours makes a folder of images, 12 of each class for training and 3 for tests. A class is called as its
// colour, "red", or otherwise, "name=red".
func writeColours(dir string, classes ...string) error {
	for _, class := range classes {
		name, colour, renamed := strings.Cut(class, "=")
		if !renamed {
			colour = name
		}
		picture, err := plainPNG(colour)
		if err != nil {
			return err
		}
		for part, n := range map[string]int{"train": 12, "val": 3} {
			folder := filepath.Join(dir, part, name)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
			for i := range n {
				if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.png", i)), picture, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writeShard makes a tar file of 32 pictures, by turns of the classes 0, 1, …, which have these colours.
func writeShard(path string, classes ...string) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 32 {
		picture, err := plainPNG(classes[i%len(classes)])
		if err != nil {
			return err
		}
		for ext, text := range map[string][]byte{"png": picture, "cls": fmt.Append(nil, i%len(classes))} {
			h := &tar.Header{Name: fmt.Sprintf("%03d.%s", i, ext), Size: int64(len(text)), Mode: 0o644}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(w.Close(), os.MkdirAll(filepath.Dir(path), 0o755)); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// sampledCells are lines of a table of sampled cells whose accuracy grows with their parameters.
var sampledCells = sync.OnceValues(func() (lines []string, err error) {
	_, stdout, stderr := call(nil, "space", "sample", "nasbench101", "-n", "2000", "--json")
	var rows []archRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		return nil, errors.New(stderr)
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.Hash] {
			accuracy := 0.95 - 0.1/(1+float64(*r.Params)/1e6) - 0.001*float64(r.Hash[0]%7)
			lines = append(lines, fmt.Sprintf("%s,%.6f\n", r.Arch, accuracy))
		}
		seen[r.Hash] = true
	}
	return lines, nil
})

// writeCells makes a CSV table of n sampled cells, at most some 2,000.
func writeCells(path string, n int) error {
	lines, err := sampledCells()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte("arch,accuracy\n"+strings.Join(lines[:min(n, len(lines))], "")), 0o644)
}

func scriptCells(path string, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return writeCells(path, n)
}

// writeParts makes a table of the latencies of a space's parts: 0.1 ms each, more for larger numbers at the end of
// their names.
func writeParts(path, name string) error {
	sp, err := space.Open(name)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("part,ms\n")
	for _, p := range sp.(space.Composed).Parts() {
		ms := 0.1
		if digit := p[len(p)-1]; digit > '0' && digit <= '9' {
			ms *= float64(digit - '0')
		}
		fmt.Fprintf(&b, "%s,%.3f\n", p, ms)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// writePredictor makes an accuracy predictor with random weights.
func writePredictor(path string) error {
	const numbers = 1491204 / 4
	s := philox.New(4, philox.PurposeTest, 0)
	var data []byte
	for i := range numbers {
		v := 0.05 * s.NormFloat64()
		if i == numbers-1 { // the last bias: accuracies lie about it
			v = 0.8
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
	}
	return os.WriteFile(path, data, 0o644)
}

// writeSupernet makes random weights of a space's supernet for some classes, where the space leaves the size open that
// of a tiny network.
func writeSupernet(path string, args []string) error {
	name, classes := args[0], args[1:]
	sp, err := space.Open(name)
	if err != nil {
		return err
	}
	size, metadata := space.NetworkSize{Classes: len(classes)}, map[string]string{trainer.SpaceKey: name}
	if _, elastic := sp.(space.Elastic); !elastic {
		size.Channels, size.Stacks, size.Modules, size.Side = 8, 2, 1, 16
		trainer.AddSize(metadata, trainer.Size{Channels: 8, Stacks: 2, Modules: 1, Resolution: 16})
	}
	shared, err := sp.(space.Sharing).Supernet(size)
	if err != nil {
		return err
	}
	trainer.AddClasses(metadata, classes)
	return trainer.WriteShared(path, shared, shared.Initialize(anyValue, 1), metadata)
}

// anyValue is a start that takes little time to draw, about as large as He's.
func anyValue(role nn.Role, fan nn.Fan, linear bool, s *philox.Stream) float64 {
	switch {
	case role == nn.Bias:
		return 0
	case linear:
		return (float64(s.Uint32())/(1<<31) - 1) / math.Sqrt(float64(fan.In))
	}
	return (float64(s.Uint32())/(1<<31) - 1) * math.Sqrt(6/float64(fan.Out))
}

// editText replaces the first of some words in a file, which must have them.
func editText(path string, words []string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(words[0])) {
		return fmt.Errorf("%s: no %q in it", path, words[0])
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(words[0]), []byte(words[1]), 1), 0o644)
}

// first sets a variable to the first text that a JSON document has under a key: first NAME FILE KEY.
func first(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: first NAME FILE KEY")
	}
	found := regexp.MustCompile(`"` + args[2] + `": "([^"]*)"`).FindStringSubmatch(ts.ReadFile(args[1]))
	if found == nil {
		ts.Fatalf("%s: no text %q", args[1], args[2])
	}
	ts.Setenv(args[0], found[1])
}

// shorten cuts a file off.
func shorten(path string, args []string) error {
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	return os.Truncate(path, n)
}

// cellTable is a table of some 2,000 cells.
func cellTable(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "cells.csv")
	require.NoError(t, writeCells(path, 2000))
	return path
}
