package command

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestToolReturnsTheLastLine(t *testing.T) {
	tool, err := ParseTool(`exec:sh -c 'printf "first\n%s %s\n\n" "$1" "$2"' sh {file} {n}`, "file", "n")
	require.NoError(t, err)
	line, err := tool.Run(t.Context(), map[string]string{"file": "a b", "n": "3"})
	require.NoError(t, err)
	require.Equal(t, "a b 3", string(line), "a blank in what a word is given does not divide it")
}

// A command that hangs, or whose child does, ends when it is no longer wanted.
func TestToolEndsWithItsContext(t *testing.T) {
	tool, err := ParseTool(`exec:sh -c 'sleep 1000 & wait' {file}`, "file")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, stop)
	_, err = tool.Run(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestToolSaysWhatACommandSaid(t *testing.T) {
	tool, err := ParseTool(`exec:sh -c 'yes long | head -c 5000 >&2; echo the end >&2; exit 3' {file}`, "file")
	require.NoError(t, err)
	_, err = tool.Run(t.Context(), nil)
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "the end")
	require.Less(t, len(err.Error()), 2*mostSaid+1000, "the last lines alone are said")
}
