package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// open is a source of labels by a shell script, which is given the architecture's text and the folder.
func open(t testing.TB, script, query string, change func(*Config)) *Source {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "train.sh"), []byte("set -e\n"+script), 0o755))
	spec, err := Parse("exec:sh train.sh {arch} {dir} {seed} {json}?dir=" + dir + query)
	require.NoError(t, err)
	c := Config{Spec: spec, Space: space.NASBench101{Vertices: 4}, Workers: 2, Cache: t.TempDir()}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// cells are the first n of the space.
func cells(t testing.TB, n int) []space.Arch {
	list, err := space.NASBench101{Vertices: 4}.All(t.Context(), nil)
	require.NoError(t, err)
	return list[:n]
}

// level is an accuracy that a script computes of an architecture and a seed: the digits behind 0.
const level = `digits=$(printf %s "$1$3" | cksum | cut -c1-4)
`

func levelOf(t *testing.T, a space.Arch, seed int) float64 {
	sum := exec.Command("cksum")
	sum.Stdin = strings.NewReader(a.String() + strconv.Itoa(seed))
	out, err := sum.Output()
	require.NoError(t, err)
	v, err := strconv.ParseFloat("0."+string(out[:4]), 64)
	require.NoError(t, err)
	return v
}

// Labels are what the command says, whatever else it prints and however many run at once; what is in the cache is not
// run again.
func TestLabels(t *testing.T) {
	t.Parallel()
	script := level + `echo hello; echo '{"this": "is no epoch"}'; echo '{"step": {"of": "epoch"}}'; echo noise >&2
echo x >>"$CANDIDATE_DIR/calls"
echo "{\"accuracy\": 0.$digits, \"test_accuracy\": 0.25, \"latency_ms\": $3, \"note\": \"fast\"}"; echo`
	s := open(t, script, "&seeds=2&env=HOME", nil)
	archs, folders := cells(t, 6), map[string]bool{}
	s.Observe(func(e events.Event) { folders[e.Text["folder"]] = true }, nil)
	got, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	for i, a := range archs {
		require.Equal(t, (levelOf(t, a, 1)/2)+levelOf(t, a, 2)/2, got[i])
		require.Equal(t, ledger.Note{Metrics: map[string]float64{"latency_ms": 1.5}}, s.Note(a))
		records, err := s.Records(a)
		require.NoError(t, err)
		require.Equal(t, map[string]float64{"latency_ms": 2}, records[1].Metrics)
		dir := made.Cache(s.cache).Base(records[1].Key.hash())
		require.True(t, folders[dir])
		log, err := os.ReadFile(filepath.Join(dir, logName))
		require.NoError(t, err)
		require.Contains(t, string(log), "hello\n")
		require.Contains(t, string(log), "noise\n")
		text, err := os.ReadFile(filepath.Join(dir, descriptionName))
		require.NoError(t, err)
		var d description
		require.NoError(t, json.Unmarshal(text, &d))
		require.Equal(t, a.String(), d.Arch)
		require.Len(t, d.Layers, len(a.Graph().Ops))
		require.Len(t, d.Edges, len(a.Graph().Edges))
		var actions []int
		for _, m := range d.Made {
			actions = append(actions, m.Choice)
		}
		back, err := s.Space.Decode(actions)
		require.NoError(t, err)
		require.Equal(t, a, back)
		calls, err := os.ReadFile(filepath.Join(dir, "calls"))
		require.NoError(t, err)
		require.Equal(t, "x\n", string(calls))
	}
	_, _, err = s.Judge(archs[0])
	require.Error(t, err, "sealed")
	s.Unseal()
	test, _, err := s.Judge(archs[0])
	require.NoError(t, err)
	require.Equal(t, 0.25, test)
	facts := s.Facts()
	require.Equal(t, map[string]string{"HOME": os.Getenv("HOME")}, facts.Environment)
	require.Len(t, facts.CommandSHA, 64)

	again := open(t, script, "&seeds=2&env=HOME", func(c *Config) { c.Cache, c.Workers = s.Config.Cache, 1 })
	cached, err := again.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, got, cached)
	require.Equal(t, s.Checksum(), again.Checksum(), "wherever the command lies")
	for _, other := range []*Source{open(t, script+" ", "&seeds=2&env=HOME", nil),
		open(t, script, "&seeds=2&env=PATH", nil), open(t, script, "&seeds=2&env=HOME&seed=2", nil),
		open(t, script, "&seeds=2&env=HOME&chance=0.1", nil)} {
		require.NotEqual(t, s.Checksum(), other.Checksum())
	}
}

// What fails is tried again, first with what it left in its folder and then without, and says why; what fails for good
// ends the search or has the label of guessing.
func TestFailures(t *testing.T) {
	t.Parallel()
	archs := cells(t, 3)
	flaky := open(t, `test -e "$2/begun" || { echo broken >&2; touch "$2/begun"; exit 3; }
echo '{"accuracy": 0.5}'`, "", func(c *Config) { c.Retries = 1 })
	var retries []string
	flaky.Observe(func(e events.Event) {
		if e.Name == made.EventRetry {
			retries = append(retries, e.Text["error"])
		}
	}, nil)
	got, err := flaky.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, []float64{0.5, 0.5, 0.5}, got)
	require.Len(t, retries, 3)
	require.Contains(t, retries[0], "exit status 3")

	long := "head -c 1100000 /dev/zero | tr '\\0' x; echo"
	for script, want := range map[string]string{
		"exit 3":                                     "exit status 3",
		"printf '%0999d\\n' 7 >&2; exit 4":           "exit status 4",
		"echo almost >&2; kill -9 $$":                "signal: killed",
		"true":                                       "it wrote nothing on stdout",
		"echo 91.3":                                  "line 1 of its output: it is no JSON object",
		"echo; echo '{\"accuracy\": NaN}'":           "line 2 of its output: NaN and Infinity are no numbers of JSON",
		"echo '{\"accuracy\": 91.3}'":                "accuracy is 91.3, want 0 to 1, not per cents",
		"echo '{\"accuracy\": -0.1}'":                "accuracy is -0.1, want 0 to 1",
		"echo '{\"accuracy\": \"good\"}'":            `accuracy is "good", want a number`,
		"echo '{\"accuracy\": null}'":                "accuracy is null, want a number",
		"echo '{\"accuracy\": 0.5'":                  "it is no JSON: unexpected end",
		"echo '{\"latency_ms\": 3}'":                 "it has no accuracy",
		"echo '{\"accuracy\": 1, \"a b\": 3}'":       `a number called "a b"`,
		"echo '{\"accuracy\": 1, \"x\": 1e999}'":     "x is 1e999, want a number",
		"echo '{\"epoch\": 1, \"accuracy\": 0.5}'":   "it tells of an epoch; the last line is to say",
		"echo '{\"epoch\": 2, \"accuracy\": 0.5}'":   "line 1 of its output: epoch 2 comes after epoch 0",
		"echo '{\"epoch\": 1.5, \"accuracy\": 0}'":   "epoch is 1.5, want 1, 2, …",
		"echo '{\"epoch\": 1}'":                      "an epoch without accuracy",
		"echo '{\"epoch\": 20001, \"accuracy\": 0}'": "epoch is 20001, want 1, 2, …, at most 20000",
		long + "; echo '{\"accuracy\": 1}'":          "line 1 of its output is longer than 1048576 bytes",
		"sleep 30; echo '{\"accuracy\": 1}'":         "it took longer than timeout=300ms",
	} {
		query := ""
		if strings.HasPrefix(script, "sleep") {
			query = "&timeout=300ms"
		}
		s := open(t, script, query, nil)
		_, err := s.Label(t.Context(), archs[:1])
		var failed *job.Failed
		require.ErrorAs(t, err, &failed, script)
		require.ErrorContains(t, err, want, script)
		require.ErrorContains(t, err, "candidate "+archs[0].String()+" with seed 1 on cpu, in "+s.Config.Cache)
		if strings.Contains(script, "almost") {
			require.ErrorContains(t, err, "log.txt ends in:\n  | almost")
		}
		if strings.Contains(script, "999d") {
			require.ErrorContains(t, err, "log.txt ends in:\n  | …000")
		}
		lucky := open(t, script, query+"&failed=chance&chance=0.1", nil)
		values, err := lucky.Label(t.Context(), archs[:1])
		require.NoError(t, err)
		require.Equal(t, []float64{0.1}, values)
		require.Equal(t, ledger.Note{Failed: []int{0}}, lucky.Note(archs[0]))
	}

	apart := open(t, `echo '{"diverged": true}'`, "&chance=0.25", nil)
	got, err = apart.Label(t.Context(), archs[:1])
	require.NoError(t, err)
	require.Equal(t, []float64{0.25}, got)
	require.Equal(t, ledger.Note{Diverged: true}, apart.Note(archs[0]))
	_, err = open(t, `echo '{"diverged": true}'`, "&diverged=fail", nil).Label(t.Context(), archs[:1])
	require.ErrorContains(t, err, "diverged=chance")
	_, err = open(t, `echo '{"accuracy": 1}'`, "&epochs=2", nil).Label(t.Context(), archs[:1])
	require.ErrorContains(t, err, "it told of 0 epochs, and epochs=2 says")
}

// epochs is a script that tells of six epochs, goes on behind those that its folder remembers, and remembers each.
const epochs = level + `n=0
if [ -e "$2/done" ]; then while read -r one; do n=$((n + 1)); done <"$2/done"; fi
while [ $n -lt 6 ]; do
	n=$((n + 1))
	echo "{\"epoch\": $n, \"accuracy\": 0.${n}$digits}"
	echo one >>"$2/done"
	if [ -e "$2/../../slow" ]; then sleep 0.05; fi
done
echo "{\"accuracy\": 0.9$digits}"`

// Hopeless trainings are ended by earlier submissions, with all that they have started, in the same labels whatever is
// faster and however much of them the cache holds.
func TestStop(t *testing.T) {
	t.Parallel()
	archs := cells(t, 24)
	run := func(workers int, cache string) (labels []float64, notes []ledger.Note) {
		s := open(t, epochs, "&epochs=6&stop=median&stop-after=2", func(c *Config) {
			c.Workers = workers
			if cache != "" {
				c.Cache = cache
			}
		})
		for begin := 0; begin < len(archs); begin += 12 {
			got, err := s.Label(t.Context(), archs[begin:begin+12])
			require.NoError(t, err)
			labels = append(labels, got...)
		}
		for _, a := range archs {
			notes = append(notes, s.Note(a))
		}
		return labels, notes
	}
	cache := t.TempDir()
	labels, notes := run(1, cache)
	again, notesAgain := run(5, "")
	require.Equal(t, labels, again)
	require.Equal(t, notes, notesAgain)
	stopped := 0
	for i, n := range notes {
		if n.Stopped != nil {
			require.GreaterOrEqual(t, i, 12)
			stopped++
		}
	}
	require.Greater(t, stopped, 1)
	whole := open(t, epochs, "&epochs=6", func(c *Config) { c.Cache = cache })
	full, err := whole.Label(t.Context(), archs) // those that were stopped go on behind what they remember
	require.NoError(t, err)
	require.Equal(t, full[:12], labels[:12])
	for _, a := range archs {
		r, err := whole.Records(a)
		require.NoError(t, err)
		require.Len(t, r[0].Epochs, 6)
	}
	labelsAfter, _ := run(3, cache)
	require.Equal(t, labels, labelsAfter)
}

// alive tells whether some process of a group is. Those that have ended and that nobody has waited for are not: whose
// turn that is may take its time.
func alive(group int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	return slices.ContainsFunc(stats, func(path string) bool {
		text, err := os.ReadFile(path)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state, parent, group
		return err == nil && fields[0] != "Z" && fields[0] != "X" && fields[2] == strconv.Itoa(group)
	})
}

// groupOf waits for the number that a script has written, which is its process group's.
func groupOf(t *testing.T, path string) int {
	var group int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		group, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	return group
}

// A search that is told to end ends its commands with all that they have started, even what does not listen; what a
// command leaves behind at its own end is ended too. Gone on with, it ends in the same label.
func TestStopped(t *testing.T) {
	t.Parallel()
	archs := cells(t, 1)
	at := filepath.Join(t.TempDir(), "group")
	s := open(t, `trap '' TERM
echo $$ >`+at+`.new; mv `+at+`.new `+at+`
if [ ! -e "$2/once" ]; then touch "$2/once"; sleep 300 & sleep 300; fi
sleep 300 & echo '{"accuracy": 0.5}'`, "", nil)
	s.local.grace = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	wait := s.Submit(ctx, 0, 0, archs)
	group := groupOf(t, at)
	cancel()
	begun := time.Now()
	_, err := wait()
	require.ErrorIs(t, err, context.Canceled)
	require.GreaterOrEqual(t, time.Since(begun), s.local.grace, "it has time to listen")
	require.Eventually(t, func() bool { return !alive(group) }, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, os.Remove(at))
	got, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, []float64{0.5}, got)
	require.Eventually(t, func() bool { return !alive(groupOf(t, at)) }, 5*time.Second, 5*time.Millisecond)
}

const childDir = "CTNAS_TEST_COMMAND_CHILD"

// TestChild is a process that is killed in the midst of commands.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("the process of TestKilled")
	}
	s := open(t, epochs, "&epochs=6&stop=median&stop-after=2", func(c *Config) { c.Cache, c.Workers = dir, 3 })
	archs := cells(t, 30)
	for begin := 0; begin < len(archs); begin += 10 {
		if _, err := s.Label(t.Context(), archs[begin:begin+10]); err != nil {
			t.Fatal(err)
		}
	}
}

// Killed in the midst of commands, again and again, a search ends what they have started, and gone on with it ends in
// the same labels; what had told of epochs goes on behind them.
func TestKilled(t *testing.T) {
	t.Parallel()
	archs := cells(t, 30)
	label := func(cache string) (all []float64) {
		s := open(t, epochs, "&epochs=6&stop=median&stop-after=2", func(c *Config) { c.Cache = cache })
		for begin := 0; begin < len(archs); begin += 10 {
			got, err := s.Label(t.Context(), archs[begin:begin+10])
			require.NoError(t, err)
			all = append(all, got...)
		}
		return all
	}
	want := label(t.TempDir())
	cache := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(cache, "slow"), nil, 0o644))
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run", "^TestChild$")
		child.Env = append(os.Environ(), childDir+"="+cache, "TMPDIR="+t.TempDir()) // it cannot clean up itself
		require.NoError(t, child.Start())
		time.Sleep(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	require.NoError(t, os.Remove(filepath.Join(cache, "slow")))
	require.Equal(t, want, label(cache))
}

// A command may have told of epochs that a killed search did not remember, and goes on behind them: in their midst or
// at the end. Then it is run afresh. What tells of too few by itself is an error, and is run twice at most.
func TestLostEpochs(t *testing.T) {
	t.Parallel()
	archs := cells(t, 1)
	want, err := open(t, epochs, "&epochs=6", nil).Label(t.Context(), archs)
	require.NoError(t, err)
	for done := range 7 { // by the command's checkpoint; two are remembered
		script := `echo x >>"$2/../../../calls"
if [ ! -e "$2/../../../once" ]; then
	touch "$2/../../../once"; for n in $(seq ` + strconv.Itoa(done) + `); do echo one >>"$2/done"; done
	for n in 1 2; do echo "{\"epoch\": $n, \"accuracy\": 0.${n}1}"; done
	exit 1
fi
` + epochs
		s := open(t, script, "&epochs=6", func(c *Config) {
			c.Retries, c.Cache = 1, filepath.Join(t.TempDir(), "cache")
		})
		got, err := s.Label(t.Context(), archs)
		require.NoError(t, err, done)
		require.Equal(t, want, got)
		records, err := s.Records(archs[0])
		require.NoError(t, err)
		require.Len(t, records[0].Epochs, 6)
		calls, err := os.ReadFile(filepath.Join(s.Config.Cache, "..", "calls"))
		require.NoError(t, err)
		require.Len(t, calls, len("x\n")*map[bool]int{false: 2, true: 3}[done > 2], "%d of the checkpoint", done)
	}
	s := open(t, `echo x >>"$2/../../../calls"
echo '{"epoch": 1, "accuracy": 0.5}'
echo '{"accuracy": 0.5}'`, "&epochs=2", func(c *Config) { c.Cache = filepath.Join(t.TempDir(), "cache") })
	for range 2 { // the second finds the first one's folder
		_, err = s.Label(t.Context(), archs)
		require.ErrorContains(t, err, "it told of 1 epochs, and epochs=2 says how many there are")
	}
	calls, err := os.ReadFile(filepath.Join(s.Config.Cache, "..", "calls"))
	require.NoError(t, err)
	require.Len(t, calls, len("x\n")*3)
}

// TestOrphan is a process that is killed while its command waits in a process of its own.
func TestOrphan(t *testing.T) {
	at := os.Getenv(childDir)
	if at == "" {
		t.Skip("the process of TestOrphansAreEnded")
	}
	s := open(t, `sh -c 'echo $PPID >`+at+`.new; mv `+at+`.new `+at+`; sleep 300; echo late'
echo '{"accuracy": 1}'`, "", nil)
	_, _ = s.Label(t.Context(), cells(t, 1))
}

// What a search's commands have started ends when the search is killed.
func TestOrphansAreEnded(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "group")
	child := exec.Command(os.Args[0], "-test.run", "^TestOrphan$")
	child.Env = append(os.Environ(), childDir+"="+at, "TMPDIR="+t.TempDir())
	require.NoError(t, child.Start())
	group := groupOf(t, at)
	require.True(t, alive(group))
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.Eventually(t, func() bool { return !alive(group) }, 20*time.Second, 5*time.Millisecond)
}

// A file of the command that is changed while a search goes on makes other labels, and is an error.
func TestChangedFile(t *testing.T) {
	t.Parallel()
	s := open(t, `echo '{"accuracy": 0.5}'`, "", nil)
	archs := cells(t, 3)
	_, err := s.Label(t.Context(), archs[:1])
	require.NoError(t, err)
	stock, err := OpenStock("this", []string{s.String()})
	require.NoError(t, err)
	path := filepath.Join(s.Dir, "train.sh")
	now := time.Now().Add(time.Minute)
	require.NoError(t, os.Chtimes(path, now, now))
	_, err = s.Label(t.Context(), archs[1:2])
	require.NoError(t, err, "its content is the same")
	require.NoError(t, stock.Changed(s.program.Checksum()))
	require.NoError(t, os.WriteFile(path, []byte(`echo '{"accuracy": 0.6}'`), 0o755))
	_, err = s.Label(t.Context(), archs[2:])
	require.ErrorContains(t, err, path+" was changed since the search began")
	require.Error(t, stock.Changed(s.program.Checksum()), "no other job can be done either")
}

// Candidates have devices in turn.
func TestDevices(t *testing.T) {
	s := open(t, `echo "{\"accuracy\": 0.$CUDA_VISIBLE_DEVICES}"`, "&gpus=3,5", func(c *Config) { c.Workers = 0 })
	require.Equal(t, 2, s.local.Capacity(9))
	got, err := s.Label(t.Context(), cells(t, 8))
	require.NoError(t, err)
	for _, v := range got {
		require.Contains(t, []float64{0.3, 0.5}, v)
	}
	t.Setenv(envVisible, "7, 8,9")
	require.Equal(t, []string{"7", "8", "9"}, NewLocal(LocalConfig{}, nil).gpus)
}

// A damaged or foreign record is refused, never believed.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	s := open(t, `echo '{"accuracy": 0.5}'`, "", nil)
	archs := cells(t, 2)
	_, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	path := made.Cache(s.cache).Base(s.key(archs[0].String(), 0).hash()) + ".json"
	other := made.Cache(s.cache).Base(s.key(archs[1].String(), 0).hash()) + ".json"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	swapped, err := os.ReadFile(other)
	require.NoError(t, err)
	for _, bad := range []string{"", "{}", strings.Replace(string(text), "0.5", "0.6", 1), string(swapped)} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o644))
		_, err := open(t, `echo '{"accuracy": 0.5}'`, "", func(c *Config) { c.Cache = s.Config.Cache }).
			Label(t.Context(), archs)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "delete the file to have it trained again")
	}
}

// Jobs that come from elsewhere are run by commands that this machine knows, and no other.
func TestStock(t *testing.T) {
	t.Parallel()
	s := open(t, level+`echo "{\"accuracy\": 0.$digits}"`, "", func(c *Config) { c.Version = "this" })
	archs := cells(t, 4)
	want, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	stock, err := OpenStock("this", []string{strings.TrimPrefix(s.String(), Prefix)})
	require.NoError(t, err)
	there := NewLocal(LocalConfig{Cache: Cache(t.TempDir()), Workers: 2, Find: stock.Find}, nil)
	defer there.Close()
	there.Capacity(2)
	for i, a := range archs {
		j := s.job(a, 0, nil)
		text, err := json.Marshal(j)
		require.NoError(t, err)
		var sent Job
		require.NoError(t, json.Unmarshal(text, &sent))
		r, err := there.Do(t.Context(), sent, func(job.Notice) {})
		require.NoError(t, err)
		require.NoError(t, j.Check(r))
		require.Equal(t, want[i], *r.Accuracy)
	}
	j := s.job(archs[0], 0, nil)
	require.NoError(t, stock.Lacks(j.Terms().Command))
	for want, change := range map[string]func(*Job){
		"this worker may run only": func(j *Job) { j.Key.Command = "other" },
		"of program that":          func(j *Job) { j.Version = "that" },
		"a file of another":        func(j *Job) { j.Space = "file:x" },
		"is another here":          func(j *Job) { j.Key.Space = "x" },
		"epochs":                   func(j *Job) { j.Key.Epochs = -1 },
		"resolution":               func(j *Job) { j.Key.Size.Side = 1 << 20 },
	} {
		other := j
		change(&other)
		_, err := there.Do(t.Context(), other, func(job.Notice) {})
		require.ErrorContains(t, err, want)
	}
}

func TestParse(t *testing.T) {
	s, err := Parse(`exec:python3 -c 'import x; x("a b")' "{arch}" a\ b --out={dir}?epochs=9&stop=0.25&env=A,B` +
		`&gpus=0,GPU-7`)
	require.NoError(t, err)
	require.Equal(t, []string{"python3", "-c", `import x; x("a b")`, "{arch}", "a b", "--out={dir}"}, s.words)
	require.Equal(t, 3, s.StopAfter)
	require.Equal(t, []string{"A", "B"}, s.Env)
	require.Equal(t, []string{"0", "GPU-7"}, s.GPUs)
	whole, err := Parse(s.String())
	require.NoError(t, err)
	require.Equal(t, s.String(), whole.String())
	require.Equal(t, s.words, whole.words)
	require.True(t, filepath.IsAbs(whole.Dir))
	s, err = Parse("exec:curl http://x/?arch={arch}?")
	require.NoError(t, err)
	require.Equal(t, "curl http://x/?arch={arch}", s.Command)
	s, err = Parse(s.String())
	require.NoError(t, err)
	require.Equal(t, "curl http://x/?arch={arch}", s.Command)
	for text, want := range map[string]string{
		"exec:":                       "no command is named",
		"exec:./train.sh":             "is not told which architecture",
		"exec:./t {arch} 'a":          "a quote ' that does not end",
		"exec:./t {arch} \\":          "ends in a backslash",
		"exec:./t {acrh}":             "known are {arch}",
		"exec:./t http://x?a={arch}":  "if that is its own, add another at the end",
		"exec:./t {arch}?epoch=3":     `unknown key "epoch"`,
		"exec:./t {arch}?stop=median": "epochs=N says how many",
		"exec:./t {arch}?env=A%3DB":   "want the name of a variable",
		"exec:./t {arch}?timeout=-1s": "timeout",
		"exec:./t {arch}?chance=1.5":  "chance",
		"exec:./t {arch}?seeds=0":     "seeds",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

// Networks are given as files, of the size that is asked for, where the space knows its networks.
func TestNetworks(t *testing.T) {
	t.Parallel()
	spec, err := Parse(`exec:sh -c 'test -s "$1" && grep -q "class Network" "$2" && echo "{\"accuracy\": 0.5}"' x ` +
		`{onnx} {module}?resolution=16&classes=3&channels=8&modules=1`)
	require.NoError(t, err)
	c := Config{Spec: spec, Space: space.NASBench101{Vertices: 4}, Cache: t.TempDir()}
	s, err := Open(c)
	require.NoError(t, err)
	defer s.Close()
	got, err := s.Label(t.Context(), cells(t, 2))
	require.NoError(t, err)
	require.Equal(t, []float64{0.5, 0.5}, got)
	require.Equal(t, 16, s.whole().(ledger.Sized).NetworkSize().Side)
	require.True(t, s.Has(cells(t, 1)[0]))

	c.Size.Side = -1
	_, err = Open(c)
	require.Error(t, err)
	c.Spec, err = Parse("exec:true {arch}?classes=3")
	require.NoError(t, err)
	_, err = Open(c)
	require.ErrorContains(t, err, "of which the command has none")
	for query, want := range map[string]string{"?dir=/nowhere": "/nowhere", "?files=none.py": "none.py",
		"?env=CTNAS_TEST_NOT_SET": "no such variable"} {
		c.Spec, err = Parse("exec:true {arch}" + query)
		require.NoError(t, err)
		_, err = Open(c)
		require.ErrorContains(t, err, want)
	}
	c.Spec, err = Parse("exec:" + filepath.Join(t.TempDir(), "none.sh") + " {arch}")
	require.NoError(t, err)
	s, err = Open(c)
	require.NoError(t, err, "nobody looks for programs")
	defer s.Close()
	_, err = s.Label(t.Context(), cells(t, 1))
	require.ErrorIs(t, err, os.ErrNotExist)
	var failed *job.Failed
	require.True(t, errors.As(err, &failed))
}

// What a line of output may hold.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("{\"epoch\": 1, \"accuracy\": 0.5}\n{\"accuracy\": 0.5, \"x\": 1}\n"))
	f.Add([]byte("{\"accuracy\": 1e999}"))
	f.Add([]byte("\x00\xff{}\r\n{\"accuracy\": true}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var o output
		var log strings.Builder
		err := o.read(strings.NewReader(string(text)), &log, func(e epochLine) {
			if e.epoch < 1 || !(e.accuracy >= 0 && e.accuracy <= 1) {
				t.Fatal(fmt.Sprint(e))
			}
		})
		if log.String() != string(text) {
			t.Fatal("the log is not the output")
		}
		if err != nil {
			return
		}
		if r, err := o.result(); err == nil && !(r.accuracy >= 0 && r.accuracy <= 1) {
			t.Fatal(r.accuracy)
		}
	})
}

// What a label costs beside the command's own time.
func BenchmarkLabel(b *testing.B) {
	s := open(b, `echo '{"accuracy": 0.5}'`, "", nil)
	list, err := space.NASBench101{Vertices: 5}.All(b.Context(), nil)
	require.NoError(b, err)
	s.Space = space.NASBench101{Vertices: 5}
	s.make()
	for i := 0; b.Loop(); i++ {
		if i == len(list) {
			b.Skip("there are no more cells")
		}
		_, err := s.Label(b.Context(), list[i:i+1])
		require.NoError(b, err)
	}
}
