package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// marked is a text as editors write it: with a byte-order mark, in UTF-16.
func marked(text string) map[string][]byte {
	little, big := []byte("\xff\xfe"), []byte("\xfe\xff")
	for _, u := range utf16.Encode([]rune(text)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	return map[string][]byte{"plain": []byte(text), "UTF-8": []byte("\ufeff" + text), "UTF-16, little": little, "UTF-16, big": big}
}

// Every reader of a text that people write: a byte-order mark and UTF-16 change nothing of what a command says.
func TestTextsWithMarksAreReadAlike(t *testing.T) {
	for line, text := range map[string]string{
		"devices --json --config FILE":     "# größer\nthreads: 2\n",
		"space info file:FILE":             "space: tiny\nblocks:\n  - {name: stem, operations: [conv3x3, conv5x5]}\n",
		"latency info FILE":                "part,ms\nx,1.5\ny,2\n",
		"train x --recipe FILE --data y:z": "epochs: 3\n",
	} {
		want := ""
		for _, name := range []string{"plain", "UTF-8", "UTF-16, little", "UTF-16, big"} {
			path := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(path, marked(text)[name], 0o644))
			code, stdout, stderr := call(nil, strings.Fields(strings.ReplaceAll(line, "FILE", path))...)
			said := strings.ReplaceAll(stdout+stderr, path, "FILE")
			if name == "plain" {
				want = said
				if !strings.HasPrefix(line, "train") { // whose images are missing
					require.Equal(t, exitOK, code, "%s: %s", line, stderr)
				}
			}
			require.Equal(t, want, said, "%s: %s", line, name)
		}
	}
}
