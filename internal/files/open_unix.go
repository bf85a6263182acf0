//go:build unix

package files

import "golang.org/x/sys/unix"

// dontWait makes the opening of a pipe return at once.
const dontWait = unix.O_NONBLOCK
