//go:build !unix

package files

const dontWait = 0
