package command

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// guard ends the process groups of commands when this process dies, however that comes: a command's own children do not
// notice. It is a shell that is told of groups, and kills those that are left where its input ends.
type guard struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	err error
}

// watch is what the shell does: "+ 12" is a group that has begun, "- 12" one that has ended.
const watch = `groups=
while read -r what group; do
	left=
	for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
	groups=$left
	[ "$what" = - ] || groups="$groups $group"
done
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done`

// tell tells the guard of a group, which it is begun by.
func (g *guard) tell(what string, group int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil && g.err == nil {
		g.err = g.begin()
	}
	if g.err != nil {
		return g.err
	}
	_, err := fmt.Fprintf(g.in, "%s %d\n", what, group)
	return err
}

func (g *guard) begin() (err error) {
	cmd := exec.Command("/bin/sh", "-c", watch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what ends this process at a terminal does not end it
	if g.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("what ends commands that this process leaves behind cannot be started: %w", err)
	}
	g.cmd = cmd
	return nil
}

// Close ends the guard, and with it what it watches.
func (g *guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return nil
	}
	_ = g.in.Close()
	cmd := g.cmd
	g.cmd = nil
	return cmd.Wait()
}
