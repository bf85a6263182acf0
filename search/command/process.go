package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long what was told to end has for that, and how long its output is waited for behind its end.
const (
	grace    = 10 * time.Second
	lastWord = 2 * time.Second
)

// process is a command that is run once.
type process struct {
	words   []string // filled
	dir     string
	env     []string // beside that of this process
	log     *os.File // that stdout and stderr go to
	timeout time.Duration
	grace   time.Duration
	// epoch is told of each epoch, also while the command is ended, and says whether that was the last one.
	epoch func(epochLine) (ends bool, err error)
}

// errEnds is the reason of an end at an epoch.
var errEnds = errors.New("the training ends early")

// run runs it until it ends, with all that it has started, and returns what it said; stopped says that it was ended
// after an epoch.
func (p *process) run(ctx context.Context, g *guard) (r result, stopped bool, err error) {
	// A command is told of the end of the thread that started it, for which it takes that of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, out, err := os.Pipe()
	if err != nil {
		return r, false, err
	}
	defer in.Close()
	cmd := exec.Command(p.words[0], p.words[1:]...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	_ = out.Close()
	if err != nil {
		return r, false, err
	}
	group := cmd.Process.Pid
	if err := g.tell("+", group); err != nil {
		return r, false, errors.Join(err, end(group, syscall.SIGKILL), cmd.Wait())
	}

	why := make(chan error, 1) // why it is to end
	because := func(err error) {
		select {
		case why <- err:
		default: // there is a reason already
		}
	}
	var o output
	read := make(chan error, 1)
	go func() {
		err := o.read(in, p.log, func(e epochLine) {
			switch ends, err := p.epoch(e); {
			case err != nil:
				because(o.wrong(err))
			case ends:
				because(errEnds)
			}
		})
		if err != nil {
			because(err)
		}
		read <- err
	}()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		for unix.Waitid(unix.P_PID, group, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()

	reason := p.wait(ctx, group, exited, why)
	_ = end(group, syscall.SIGKILL) // what it left behind; its number is its own until it has been waited for
	err = cmd.Wait()
	_ = g.tell("-", group)
	_ = in.SetReadDeadline(time.Now().Add(lastWord)) // a daemon may hold the other end
	wrong := <-read
	if reason == nil {
		select {
		case reason = <-why: // in its last words
		default:
			reason = wrong
		}
	}
	switch {
	case errors.Is(reason, errEnds):
		return r, true, nil
	case reason != nil:
		return r, false, reason
	case err != nil:
		return r, false, fmt.Errorf("it ended with %w", err)
	}
	r, err = o.result()
	return r, false, err
}

// wait waits until a command has ended, which it is told to where there is a reason; that is returned.
func (p *process) wait(ctx context.Context, group int, exited <-chan struct{}, why <-chan error) (reason error) {
	late := make(<-chan time.Time)
	if p.timeout > 0 {
		late = time.After(p.timeout)
	}
	select {
	case <-exited:
		return nil
	case <-ctx.Done():
		reason = ctx.Err()
	case <-late:
		reason = fmt.Errorf("it took longer than timeout=%v", p.timeout)
	case reason = <-why:
	}
	_ = end(group, syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(p.grace):
		_ = end(group, syscall.SIGKILL)
		<-exited
	}
	return reason
}

// end sends a signal to a group.
func end(group int, s syscall.Signal) error { return syscall.Kill(-group, s) }
