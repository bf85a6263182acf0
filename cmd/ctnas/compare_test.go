package main

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnInterruptedComparisonSaysHowToGoOn(t *testing.T) {
	labels := "table:" + cellTable(t)
	dir := filepath.Join(t.TempDir(), "compare")
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	stop := stopAt{"evolution, seed 1", cancel, &bytes.Buffer{}}
	none := func(string) (string, bool) { return "", false }
	code := run(ctx, []string{"compare", "--labels", labels, "--budget", "200", "--seeds", "50", "--methods",
		"evolution", "--out", dir}, &out, stop, none)
	require.Equal(t, exitInterrupted, code)
	require.Empty(t, out.String())
	require.Contains(t, stop.text.String(), "the same command goes on from there")
	files, err := filepath.Glob(filepath.Join(dir, "evolution-seed*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
}

// stopAt is standard error that ends the program when it reads something.
type stopAt struct {
	words  string
	cancel func()
	text   *bytes.Buffer
}

func (s stopAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.words)) {
		s.cancel()
	}
	return s.text.Write(p)
}
