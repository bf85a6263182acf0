package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tool is a command that is run for a file and prints one line: what a device or another program makes of it.
type Tool struct {
	Command string // as it was given
	words   []string
}

// mostSaid is how many bytes of a tool's errors an error quotes, the last ones.
const mostSaid = 2000

// ParseTool reads exec:COMMAND, whose words may hold holders in braces and must hold the first of them.
func ParseTool(text string, holders ...string) (t Tool, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return t, fmt.Errorf("%q: want %sCOMMAND {%s}", text, Prefix, holders[0])
	}
	t.Command = rest
	if t.words, err = words(rest, holders); err != nil {
		return t, err
	}
	if !holds(t.words, holders[0]) {
		return t, fmt.Errorf("the command %q is not given {%s}", rest, holders[0])
	}
	return t, nil
}

// Run runs the command with what its holders are given and returns the last line that it printed and is not empty. It
// ends, with all that it has started, where ctx does.
func (t Tool) Run(ctx context.Context, given map[string]string) (line []byte, err error) {
	cmd := exec.CommandContext(ctx, t.words[0], filled(t.words[1:], given)...)
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return end(cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lastWord
	var said tail
	cmd.Stderr = &said
	in, out := io.Pipe()
	cmd.Stdout = out
	var o output
	var wrong error
	var reading sync.WaitGroup
	reading.Add(1)
	go func() {
		defer reading.Done()
		wrong = o.read(in, io.Discard, func(epochLine) {})
	}()
	begin := time.Now()
	err = cmd.Run()
	_ = out.Close()
	reading.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err = errors.Join(err, wrong); err == nil && o.last == nil {
		err = errors.New("it printed nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("`%s`, after %v: %w%s", strings.Join(filled(t.words, given), " "),
			time.Since(begin).Round(time.Millisecond), err, said.quoted())
	}
	return o.last, nil
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if n := len(t.text) - mostSaid; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

// quoted is the text for the end of an error, line by line.
func (t *tail) quoted() string {
	var b strings.Builder
	for line := range bytes.Lines(t.text) {
		fmt.Fprintf(&b, "\n  | %s", quote(bytes.TrimRight(line, "\r\n")))
	}
	return b.String()
}
