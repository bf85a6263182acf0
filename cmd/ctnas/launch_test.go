package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/testdata"
)

// launched are the examples of docs/examples/launch with the lines that print them.
var launched = map[string][]string{
	"workers.sbatch": {"launch", "slurm", "--nodes", "4", "--gpus", "8", "--cpus", "96", "--option", "partition=gpu",
		"--", "--join", "tls://10.0.0.5:7420", "--keys", "keys", "--data", "imagenet=/nvme/imagenet", "--idle", "30m"},
	"train.sbatch": {"launch", "slurm", "--mode", "train", "--gpus", "1", "--option", "time=4:00:00", "--",
		"mobilenetv3_large_1.0", "--data", "imagenet:/data/imagenet", "--recipe", "mobilenetv3", "--out", "runs/v3"},
	"train_nodes.sbatch": {"launch", "slurm", "--mode", "train", "--nodes", "4", "--gpus", "8", "--option",
		"time=4:00:00", "--", "mobilenetv3_large_1.0", "--data", "imagenet:/data/imagenet.pack", "--recipe",
		"mobilenetv3", "--device", "cuda:all", "--shards", "32", "--out", "runs/v3"},
	"workers.yaml": {"launch", "k8s", "--nodes", "4", "--gpus", "8", "--image", "registry.example/ctnas:cuda",
		"--volume", "images=/images", "--secret", "ctnas-keys=/keys", "--queue", "research", "--",
		"--join", "tls://10.0.0.5:7420", "--keys", "/keys", "--data", "imagenet=/images"},
	"search.yaml": {"launch", "k8s", "--mode", "search", "--cpus", "4", "--image", "registry.example/ctnas:cpu",
		"--volume", "runs=/runs", "--", "--space", "nasbench101", "--labels", "table:/runs/nb101.ctt", "--budget",
		"150", "--out", "/runs/a"},
	"ctnas-worker@.service": {"launch", "systemd", "--gpus", "1", "--", "--join", "tls://10.0.0.5:7420", "--keys",
		"/etc/ctnas/keys", "--data", "imagenet=/nvme/imagenet"},
}

// The examples are what the program prints; -update writes them anew.
func TestLaunchExamples(t *testing.T) {
	dir := filepath.Join(testdata.Root(), "docs", "examples", "launch")
	for name, line := range launched {
		code, stdout, stderr := call(nil, line...)
		require.Equal(t, exitOK, code, stderr)
		if *update {
			require.NoError(t, os.MkdirAll(dir, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(stdout), 0o644))
		}
		written, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, string(written), stdout, "%s: go test ./cmd/ctnas -run TestLaunchExamples -update", name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(launched))
}

// Whatever is asked for reaches the program as it was typed: through a shell, YAML and a unit.
func TestLaunchedWords(t *testing.T) {
	words := []string{"--labels", "train:imagenet:/data?recipe=proxy&stop=median", "--out", "a b", "it's", `"$HOME"`,
		"100%", "", `back\slash`, "é;#", "{}: [", "- x"}
	dir := t.TempDir()
	program := filepath.Join(dir, "ctnas program")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nfor w; do printf '%s\\n' \"$w\"; done\n"), 0o755))
	want := strings.Join(append([]string{"search"}, words...), "\n") + "\n"

	line := []string{"launch", "slurm", "--mode", "search", "--program", program, "--"}
	code, script, stderr := call(nil, append(line, words...)...)
	require.Equal(t, exitOK, code, stderr)
	sh := exec.Command("bash", "-c", script)
	out, err := sh.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, want, string(out))

	code, manifest, stderr := call(nil, append([]string{"launch", "k8s", "--mode", "search", "--image", "x:y", "--"},
		words...)...)
	require.Equal(t, exitOK, code, stderr)
	var job struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct{ Command []string }
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(manifest), &job))
	require.Equal(t, append(append([]string{"ctnas", "search"}, words...), "--metrics", "0.0.0.0:9400"),
		job.Spec.Template.Spec.Containers[0].Command)

	code, unit, stderr := call(nil, append([]string{"launch", "systemd", "--mode", "search", "--"}, words...)...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, unit, `"a b" "it's" "\"$$HOME\"" 100%% "" "back\\slash" "é;#" "{}: [" "- x"`+"\n")
}

// A training on several nodes is started on each, with where they meet, and its exit code is the script's.
func TestLaunchNodes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ctnas": `printf '%s|' "$SLURM_NODEID" "$@"; exit 75`,
		"scontrol": `case $1 in
			show) [ "$2 $3" = "hostnames n[3-6]" ] && printf 'n3\nn4\n' ;;
			requeue) echo "requeued $2" ;;
			esac`,
		"srun": `while [ "${1#--}" != "$1" ]; do printf '%s|' "$1"; shift; done
			for i in 0 1; do SLURM_NODEID=$i "$@"; code=$?; echo; done; exit $code`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	code, script, stderr := call(nil, "launch", "slurm", "--mode", "train", "--nodes", "2", "--", "a b", "--out", "x")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, script, "\n#SBATCH --nodes=2\n")
	require.NotContains(t, script, "--array")
	sh := exec.Command("bash", "-c", script)
	sh.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "SLURM_JOB_ID=7", "SLURM_JOB_NODELIST=n[3-6]")
	out, err := sh.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 75, exit.ExitCode())
	line := "|train|a b|--out|x|--nodes|2|--rendezvous|n3:7421|\n"
	require.Equal(t, "--ntasks-per-node=1|--kill-on-bad-exit=0|0"+line+"1"+line+"requeued 7\n", string(out))
}

func TestLaunchRefuses(t *testing.T) {
	for want, line := range map[string]string{
		"want what comes behind":           "launch slurm",
		"a search runs on one node":        "launch slurm --mode search --nodes 2 -- x",
		"a train runs on one node":         "launch k8s --image x --mode train --nodes 2 -- x",
		"nodes 3: want a power of two":     "launch slurm --mode train --nodes 3 -- x",
		"option \"x y\": want KEY=VALUE":   "launch slurm --option x|y -- x",
		"option \"a=#\": want":             "launch slurm --option a=# -- x",
		"mode \"all\": want workers":       "launch slurm --mode all -- x",
		"want an --image":                  "launch k8s -- x",
		"\"runs\": want NAME=/PATH":        "launch k8s --image x --volume runs -- x",
		"\"runs=/../x\": want NAME=/PATH":  "launch k8s --image x --volume runs=/../x -- x",
		"\"Keys=/x\": want NAME=/PATH":     "launch k8s --image x --secret Keys=/x -- x",
		"name \"A_b\": want small letters": "launch k8s --image x --name A_b -- x",
		"a unit wants an absolute path":    "launch systemd --program ctnas -- x",
		"has more than one line":           "launch systemd -- a\nb",
		"grace 5: want 10 to":              "launch slurm --grace 5 -- x",
		"unknown flag: --nodes":            "launch systemd --nodes 2 -- x",
		"port 0: want 1 to 65535":          "launch k8s --image x --port 0 -- x",
		"unknown command \"cloud\"":        "launch cloud",
		"gpus 5000: want 0 to 1024":        "launch slurm --gpus 5000 -- x",
		"\"a=/x:y\": want NAME=/PATH":      "launch k8s --image x --volume a=/x:y -- x",
		"unknown flag: --image":            "launch slurm --image x -- x",
		"/tmp: something is mounted":       "launch k8s --image x --volume a=/tmp -- x",
		"/a: something is mounted":         "launch k8s --image x --volume a=/a --secret b=/a -- x",
		"\"a\\u2028b\" has characters":     "launch k8s --image x -- a\u2028b",
		"\"a\\u0085b\" has characters":     "launch systemd -- a\u0085b",
		"\"a\\xffb\" has characters":       "launch slurm -- a\xffb",
	} {
		args := strings.Split(line, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "|", " ")
		}
		code, stdout, stderr := call(nil, args...)
		require.Equal(t, exitUsage, code, line)
		require.Empty(t, stdout)
		require.Contains(t, stderr, want, line)
	}
}

// A script of Slurm hands SIGTERM on, waits until the program has ended, and asks for another turn where it was told
// to.
func TestSlurmScriptIsToldToEnd(t *testing.T) {
	code, script, stderr := call(nil, "launch", "slurm", "--mode", "train", "--", "x", "--out", "y")
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, regexp.MustCompile(`(?m)^#SBATCH --signal=B:TERM@120$`), script)
	for name, c := range map[string]struct {
		trap    string // what the program does at SIGTERM
		code    int
		requeue bool
	}{
		"checkpoint": {`sleep 0.2; echo saved; exit "$CTNAS_PREEMPT_EXIT"`, 75, true},
		"too early":  {"echo saved; trap - TERM; kill -TERM $$", 75, true}, // as if it did not watch yet
		"fails":      {"exit 1", 1, false},
		"ends":       {"exit 0", 0, false},
	} {
		code, out := toldToEnd(t, script, c.trap)
		require.Equal(t, c.code, code, "%s: %s", name, out)
		require.Contains(t, out, "train x --out y\n")
		require.Equal(t, c.requeue, strings.Contains(out, "saved\nscontrol requeue 17\n"), "%s: %s", name, out)
	}
}

// A name that is a number or a word of YAML stays a name.
func TestALaunchedNameIsText(t *testing.T) {
	for _, name := range []string{"12", "1e3", "null", "yes"} {
		code, manifest, stderr := call(nil, "launch", "k8s", "--image", "x", "--name", name, "--", "x")
		require.Equal(t, exitOK, code, stderr)
		var job struct{ Metadata struct{ Name any } }
		require.NoError(t, yaml.Unmarshal([]byte(manifest), &job))
		require.Equal(t, name, job.Metadata.Name)
	}
}

// toldToEnd runs a script of Slurm over a program that does what trap says at SIGTERM, sends the script SIGTERM once
// the program is there, then makes a file `told`, and returns the script's exit code and what was printed. Nothing of
// it outlives the test.
func toldToEnd(t *testing.T, script, trap string) (code int, out string) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ctnas":    "trap '" + trap + "' TERM\necho \"$@\"\ntouch ready\nwhile :; do sleep 0.05; done\n",
		"scontrol": "echo scontrol \"$@\"\n",
		"job":      script,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/bash\n"+text), 0o755))
	}
	cmd := exec.Command("./job")
	var printed strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &printed, &printed, time.Second
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "SLURM_JOB_ID=17")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "told"), nil, 0o644))
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), printed.String()
}

// A script that is told to end before it knows its program, or whose program has ended before it looks again, leaves no
// program behind and goes back to the queue.
func TestSlurmScriptIsLate(t *testing.T) {
	code, printed, stderr := call(nil, "launch", "slurm", "--mode", "train", "--", "x")
	require.Equal(t, exitOK, code, stderr)
	for name, at := range map[string][2]string{
		"early": {"child=$!\n", "until [ -e told ]; do sleep 0.05; done\nchild=$!\n"},
		"late":  {`"$child"' TERM`, `"$child"; while kill -0 "$child"; do sleep 0.05; done' TERM`},
	} {
		script := strings.Replace(printed, at[0], at[1], 1)
		require.NotEqual(t, printed, script, name)
		code, out := toldToEnd(t, script, "exit 75")
		require.Equal(t, 75, code, "%s: %s", name, out)
		require.Contains(t, out, "scontrol requeue 17\n", name)
	}
}
