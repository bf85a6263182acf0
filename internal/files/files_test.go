package files

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What is not a regular file is refused at once, by name: /dev/zero never ends, a pipe without a writer never opens.
func TestOpenRefusesWhatIsNotRegular(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	require.NoError(t, unix.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Symlink("/dev/zero", link))
	for path, what := range map[string]string{pipe: "a pipe", link: "a device", "/dev/zero": "a device",
		dir: "a folder"} {
		_, err := Open(path)
		require.EqualError(t, err, path+" is "+what+", want a regular file")
		_, err = ReadText(path, 10)
		require.ErrorContains(t, err, what)
	}
	_, err := Open(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("text"), 0o644))
	through := filepath.Join(dir, "through")
	require.NoError(t, os.Symlink(plain, through))
	text, err := Read(through, 4)
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
}

func TestReadIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for size, fine := range map[int]bool{0: true, 1: true, 99: true, 100: true, 101: false, 5000: false} {
		want := bytes.Repeat([]byte{7}, size)
		require.NoError(t, os.WriteFile(path, want, 0o644))
		got, err := Read(path, 100)
		if !fine {
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "at most 100")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, append([]byte{}, got...))
	}
	// Files of /proc say that they are empty.
	text, err := Read("/proc/self/status", 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(text), "Name:")
	_, err = Read("/proc/self/status", 10)
	require.ErrorContains(t, err, "at most 10")
}

// The same text with every mark that editors write.
func TestTextWithMarks(t *testing.T) {
	const want = "größe,α\n1,2\n"
	var little, big []byte
	for _, r := range want { // all in the basic plane
		little = append(little, byte(r), byte(r>>8))
		big = append(big, byte(r>>8), byte(r))
	}
	for name, text := range map[string][]byte{
		"plain": []byte(want), "utf-8": append([]byte("\xef\xbb\xbf"), want...),
		"utf-16 little": append([]byte("\xff\xfe"), little...), "utf-16 big": append([]byte("\xfe\xff"), big...),
	} {
		path := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(path, text, 0o644))
		got, err := ReadText(path, 1000)
		require.NoError(t, err, name)
		require.Equal(t, want, string(got), name)
		got, err = io.ReadAll(Text(bytes.NewReader(text)))
		require.NoError(t, err, name)
		require.Equal(t, want, string(got), name)
	}
	// What is no text stays what it is, for its reader to complain about.
	got, err := io.ReadAll(Text(strings.NewReader("a\xff\x00b")))
	require.NoError(t, err)
	require.Equal(t, "a\xff\x00b", string(got))
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "nowhere")) // nothing is written there
	path := filepath.Join(dir, "f")
	require.NoError(t, Write(path, []byte("one")))
	require.NoError(t, Write(path, []byte("two")))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(text))

	// A file that is not committed leaves the one before, and nothing else.
	p, err := Create(path)
	require.NoError(t, err)
	_, err = p.Write([]byte("three"))
	require.NoError(t, err)
	require.Len(t, entries(t, dir), 2)
	p.Discard()
	require.Equal(t, []string{"f"}, entries(t, dir))

	// Errors name the target.
	err = Write(filepath.Join(dir, "none", "g"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	var named *fs.PathError
	require.ErrorAs(t, err, &named)
	require.Equal(t, filepath.Join(dir, "none", "g"), named.Path)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "taken"), 0o755))
	err = Write(filepath.Join(dir, "taken"), []byte("x"))
	require.ErrorContains(t, err, filepath.Join(dir, "taken")+":")
	require.NotRegexp(t, `\.taken\d`, err.Error())
	require.Equal(t, []string{"f", "taken"}, entries(t, dir))
}

// A new file belongs to the group of a folder that passes its group on.
func TestWriteKeepsAFoldersGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a folder another group")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, -1, 1234))
	require.NoError(t, os.Chmod(dir, 0o2775|fs.ModeSetgid))
	require.NoError(t, Write(filepath.Join(dir, "f"), []byte("x")))
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "f"), &stat))
	require.EqualValues(t, 1234, stat.Gid)
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".latest123", ".latest", ".latest12x", "latest12", ".other99",
		".best.onnx7", ".lock"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".latest5"), 0o755))
	// What Create itself begins is found.
	p, err := Create(filepath.Join(dir, "latest"))
	require.NoError(t, err)
	defer p.Discard()
	require.NoError(t, Sweep(dir, "latest", "best.onnx"))
	require.Equal(t, []string{".latest", ".latest12x", ".latest5", ".lock", ".other99", "latest12"}, entries(t, dir))
}

func entries(t *testing.T, dir string) []string {
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, MkdirAll(filepath.Join(dir, "a", "b", "c")))
	require.NoError(t, MkdirAll(filepath.Join(dir, "a", "b", "c")+"/"))
	require.DirExists(t, filepath.Join(dir, "a", "b", "c"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	require.ErrorIs(t, MkdirAll(filepath.Join(dir, "file")), fs.ErrExist)
	require.Error(t, MkdirAll(filepath.Join(dir, "file", "below")))
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	a, err := Lock(dir, "ctnas search --out a")
	require.NoError(t, err)
	require.Nil(t, a.Stale)
	_, err = Lock(dir, "another")
	var taken *ErrLocked
	require.ErrorAs(t, err, &taken)
	require.Equal(t, os.Getpid(), taken.Holder.PID)
	host, err2 := os.Hostname()
	require.NoError(t, err2)
	require.Regexp(t, `ctnas search --out a \(process \d+ on `+host+`, since 20\d\d-.*\) is at work there`, err.Error())
	require.NoError(t, a.Unlock())
	b, err := Lock(dir, "another")
	require.NoError(t, err)
	require.Nil(t, b.Stale, "it was given back")
	require.NoError(t, b.Unlock())
	_, err = Lock(filepath.Join(dir, "none"), "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestHelperLock is the process of TestLockOfADeadProcess.
func TestHelperLock(t *testing.T) {
	dir := os.Getenv("LOCK_HELPER_DIR")
	if dir == "" {
		t.Skip("not a test of its own: another test starts it as a process")
	}
	_, err := Lock(dir, "the one before")
	require.NoError(t, err)
	os.Stdout.WriteString("locked\n")
	_, _ = io.ReadAll(os.Stdin) // until it is killed
}

// The lock of a process that was killed is taken over, and who had it is told.
func TestLockOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelperLock$")
	cmd.Env = append(os.Environ(), "LOCK_HELPER_DIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	require.NoError(t, cmd.Start())
	head := make([]byte, len("locked\n"))
	_, err = io.ReadFull(out, head)
	require.NoError(t, err)
	require.Equal(t, "locked\n", string(head))

	_, err = Lock(dir, "me")
	var taken *ErrLocked
	require.ErrorAs(t, err, &taken)
	require.Equal(t, cmd.Process.Pid, taken.Holder.PID)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	l, err := Lock(dir, "me")
	require.NoError(t, err)
	require.NotNil(t, l.Stale)
	require.Equal(t, cmd.Process.Pid, l.Stale.PID)
	require.Equal(t, "the one before", l.Stale.Command)
	require.NoError(t, l.Unlock())
}

// A torn note of a lock hides nothing: the lock counts, not what is written in it.
func TestLockWithATornNote(t *testing.T) {
	dir := t.TempDir()
	note, err := json.Marshal(Holder{"h", 1, time.Now(), "c"})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, LockName), note[:len(note)/2], 0o644))
	l, err := Lock(dir, "me")
	require.NoError(t, err)
	require.Nil(t, l.Stale)
	require.NoError(t, l.Unlock())
}

func TestClaimWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	a, err := Claim(context.Background(), dir, "a")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Claim(ctx, dir, "b")
	require.ErrorIs(t, err, context.Canceled)
	done := make(chan error)
	go func() {
		b, err := Claim(context.Background(), dir, "b")
		if err == nil {
			err = b.Unlock()
		}
		done <- err
	}()
	require.NoError(t, a.Remove()) // as at the end of the work there
	require.NoError(t, <-done)
}

// Many that make, hold and remove the same folder never see each other in it, and none fails.
func TestClaimedFoldersAreRemovedWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	work := func() error {
		for range 50 {
			l, err := Claim(context.Background(), dir, "work")
			if err != nil {
				return err
			}
			alone := filepath.Join(dir, "alone")
			if err := os.Mkdir(alone, 0o700); err != nil {
				return err
			}
			if err := l.Remove(); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error)
	for range 4 {
		go func() { done <- work() }()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Empty(t, left)
}
