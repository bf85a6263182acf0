package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/internal/testdata"
)

// commands visits all commands with their words behind ctnas.
func commands(visit func(cmd *cobra.Command, path []string)) {
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		visit(cmd, path)
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				walk(sub, append(slices.Clone(path), sub.Name()))
			}
		}
	}
	walk(newRoot(&app{}), nil)
}

// What each command wants, in words that are right; the last argument of many is a file that does not exist.
var wanted = map[string]string{
	"":                "",
	"bench":           "--filter nothing",
	"compare":         "--labels table:none.csv --methods random",
	"completion":      "bash",
	"data check":      "imagenet:none",
	"data pull":       "none --out none/x",
	"data pack":       "imagenet:none --out none/x",
	"data verify":     "none",
	"devices":         "",
	"eval":            "nasbench101:3:101:0 --data imagenet:none --weights none",
	"export":          "nasbench101:3:101:0 --onnx none/x.onnx",
	"farm cancel":     "none nasbench101:3:101:0",
	"farm drain":      "none x",
	"farm keys":       "none/x",
	"farm status":     "none",
	"farm workers":    "none",
	"latency collect": "--space mobilenetv3 --out none/x",
	"latency import":  "none none.csv --of x --out none/x.csv",
	"latency info":    "none.csv",
	"launch k8s":      "",
	"man":             "none/x",
	"launch slurm":    "",
	"launch systemd":  "",
	"latency measure": "--space mobilenetv3 --out none/x.csv",
	"rank":            "--labels table:none.csv",
	"report":          "none",
	"retrain":         "none",
	"search":          "--labels table:none.csv",
	"space enumerate": "nasbench101-v3",
	"space info":      "nasbench101",
	"space sample":    "nasbench101",
	"space show":      "nasbench101 nasbench101:3:101:0",
	"table convert":   "none.csv --out none/x.ctt",
	"table get":       "nasbench101",
	"suggest":         "none --space nasbench101",
	"supernet check":  "none.pth --labels table:none.csv --data imagenet:none",
	"supernet eval":   "none --arch largest",
	"supernet rank":   "none --labels table:none.csv",
	"supernet train":  "--space mobilenetv3 --data imagenet:none",
	"table info":      "none.csv",
	"tell":            "none nasbench101:3:101:0 accuracy=0.5 --space nasbench101",
	"table train":     "--space nasbench101-v3 --labels train:imagenet:none?recipe=shapes --out none/x.csv",
	"train":           "nasbench101:3:101:0 --data imagenet:none",
	"version":         "",
	"worker":          "--join tls://127.0.0.1:1",
	"zoo":             "",
}

// Every command refuses a flag that it does not have, a value that is none of a flag's, a negative count, an argument
// too many and one too few: all with exit code 2, before anything is opened or written.
func TestEveryCommandRefusesMistakesWithTwo(t *testing.T) {
	t.Chdir(t.TempDir())
	mistake := func(words []string, more ...string) {
		words = append(slices.Clone(words), more...)
		code, stdout, stderr := call(nil, words...)
		require.Equal(t, exitUsage, code, "%q: %s", words, stderr)
		require.Empty(t, stdout, "%q", words)
		require.Contains(t, stderr, "--help", "%q", words)
	}
	commands(func(cmd *cobra.Command, path []string) {
		line, known := wanted[strings.Join(path, " ")]
		if cmd.HasSubCommands() && len(path) > 0 {
			mistake(path)
			mistake(path, "no-such-command")
			return
		}
		require.True(t, known, "%v: say what it wants", path)
		words := append(slices.Clone(path), strings.Fields(line)...)
		mistake(words, "--no-such-flag")
		if cmd.Args != nil && cmd.Name() != "info" && cmd.Name() != "show" { // those take architectures without end
			mistake(words, "more", "arguments", "than", "there", "are")
		}
		if first := strings.Fields(line); len(first) > 0 && cmd.Name() != "bench" {
			mistake(path) // nothing of what it wants
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			switch f.Value.Type() {
			case "string", "stringArray", "stringSlice", "strings": // files and names: the cases below
			case "bool":
				mistake(words, "--"+f.Name+"=perhaps")
			case "int":
				mistake(words, "--"+f.Name+"=many")
				mistake(words, "--"+f.Name+"=-1")
			default:
				mistake(words, "--"+f.Name+"=many")
			}
		})
	})
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, left)
}

// otherVariables are the variables of the environment that are no flag's: of scripts, tests and libraries.
var otherVariables = []string{
	"CTNAS_CASES", "CTNAS_SECONDS", "CTNAS_CUDA_ARCHS", "CTNAS_CUDA_BLOCKING", "CTNAS_CUDA_HOME", "CTNAS_CUDA_SYNC",
	"CTNAS_FAKE_CUDA",
	"CTNAS_FATBINS", "CTNAS_ISA", "CTNAS_PARITY", "CTNAS_PEER_IMAGES", "CTNAS_PREEMPT_EXIT",
	"CTNAS_SHAPES",
	"CTNAS_EXECUTABLE", "CTNAS_PYTHON",
	"CTNAS_SIM_BROKEN", "CTNAS_TABLES", "CTNAS_TABLE_HELPER", "CTNAS_TEST", "CTNAS_TEST_ALONE",
	"CTNAS_TEST_CHILD_DIR",
	"CTNAS_TEST_CHILD_KILL", "CTNAS_TEST_CHILD_MODE", "CTNAS_TEST_COMMAND_CHILD", "CTNAS_TEST_DEVICE",
	"CTNAS_TEST_NOT_SET", "CTNAS_TEST_REPORT", "CTNAS_TEST_SVG", "CTNAS_TEST_TORCH_PYTHON",
	"CTNAS_TEST_ZOO",
}

// meant are those with which a script or a test means the flag, and a name of C.
var meant = []string{"CTNAS_DEVICE", "CTNAS_PEER_DATA", "CTNAS_THREADS", "CTNAS_FAKE_CUDA_H"}

var variable = regexp.MustCompile(`CTNAS_[A-Z_0-9]*[A-Z0-9]`)

// A variable that a script or a test reads is never also that of a flag, which every run of the program would take for
// its own.
func TestVariablesAreNotFlags(t *testing.T) {
	flags := map[string]string{}
	commands(func(cmd *cobra.Command, path []string) {
		cmd.InheritedFlags() // merges
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			flags[setting.EnvName(f.Name)] = strings.Join(path, " ") + " --" + f.Name
		})
	})
	require.Equal(t, "worker --data", flags["CTNAS_DATA"], "the last one that has it")
	for _, name := range otherVariables {
		require.Empty(t, flags[name], name)
	}
	used := map[string]bool{}
	root := testdata.Root()
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if name := e.Name(); err == nil && path != root &&
				(name == "build" || name == "bin" || name == "docs" || name == ".git") {
				return filepath.SkipDir
			}
			return err
		}
		switch filepath.Ext(path) {
		case ".go", ".sh", ".py", ".c", ".h", ".cpp", ".cu", ".cuh":
		default:
			if e.Name() != "Makefile" && filepath.Base(filepath.Dir(path)) != ".ci" {
				return nil
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range variable.FindAllString(string(text), -1) {
			if filepath.Base(path) == "usage_test.go" {
				continue
			}
			used[name] = true
			if filepath.Dir(path) == filepath.Join(root, "cmd", "ctnas") && flags[name] != "" {
				// Which say what flags are for, and try them.
				continue
			}
			if !slices.Contains(otherVariables, name) && !slices.Contains(meant, name) {
				err = errors.Join(err, errors.New(path+": "+name+" is in no list: add it to otherVariables"))
			}
		}
		return err
	}))
	for _, name := range otherVariables {
		require.True(t, used[name], "%s: nothing reads it", name)
	}
}

// More threads than processors only wait for each other: they are lowered to what there is, with a line.
func TestNumbersAtOnceAreCapped(t *testing.T) {
	processors := runtime.GOMAXPROCS(0)
	for name, each := range map[string]int{"threads": 1, "workers": 4} {
		for given, want := range map[string]int{"0": 0, "1": 1, "1000": each * processors,
			"1000000": each * processors} {
			a, root := aProgram()
			var text strings.Builder
			a.stderr = &text
			cmd, _, err := root.Find([]string{"train"})
			require.NoError(t, err)
			require.NoError(t, cmd.ParseFlags([]string{"--" + name, given}))
			require.NoError(t, a.prepare(cmd))
			require.Equal(t, strconv.Itoa(want), cmd.Flag(name).Value.String())
			require.Equal(t, want > 1, strings.Contains(text.String(), "--"+name), text.String())
		}
	}
	code, stdout, stderr := call(nil, "devices", "--json", "--threads", "1000")
	require.Equal(t, exitOK, code)
	require.Contains(t, stderr, "flag=--threads given=1000")
	code, same, stderr := call(nil, "devices", "--json")
	require.Equal(t, exitOK, code)
	require.Equal(t, same, stdout)
	require.Empty(t, stderr)
}

func TestVersionFlag(t *testing.T) {
	code, line, stderr := call(nil, "--version")
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `^ctnas \S+ \(commit .*, go1\.\S+, \S+/\S+\)\n$`, line)
	_, long, _ := call(nil, "version")
	require.True(t, strings.HasPrefix(long, line), long)
}

// Every module that is linked has its licence in the program.
func TestLicenses(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "cuda,turbojpeg", "-deps", "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", ".").Output()
	require.NoError(t, err)
	code, text, stderr := call(nil, "version", "--licenses")
	require.Equal(t, exitOK, code, stderr)
	for _, module := range append(strings.Split(strings.TrimSpace(string(out)), "\n"), "Go") {
		require.Contains(t, text, "\n================ "+module+": ", "run scripts/licenses.sh")
	}
	code, _, _ = call(nil, "version", "--licenses", "--json")
	require.Equal(t, exitUsage, code)
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// Whoever reads a part of a table or of JSON must not take it for the whole: a command whose output is lost fails.
func TestLostOutputIsAFailure(t *testing.T) {
	for _, line := range []string{"", "--help", "--version", "help space", "version", "version --json", "devices",
		"devices --json", "zoo", "zoo --json", "zoo --format csv", "zoo --format markdown", "zoo mobilenetv3_large_1.0",
		"space info nasbench101", "space sample nasbench101 --json", "space show nasbench101 nasbench101:best",
		"space enumerate nasbench101-v4", "completion bash", "completion zsh", "search --help",
		"bench --filter nothing"} {
		var stderr strings.Builder
		code := run(t.Context(), strings.Fields(line), full{}, &stderr, func(string) (string, bool) {
			return "", false
		})
		require.Equal(t, exitFailed, code, line)
		require.Contains(t, stderr.String(), "no space left on device", line)
		require.NotContains(t, stderr.String(), "--help", line)
	}
}
