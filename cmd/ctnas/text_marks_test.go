package main

import (
	"os"
	"path/filepath"
	"regexp"
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
	return map[string][]byte{"plain": []byte(text), "UTF-8": []byte("\ufeff" + text), "UTF-16, little": little,
		"UTF-16, big": big}
}

// Every reader of a text that people write: a byte-order mark and UTF-16 change nothing of what a command says.
func TestTextsWithMarksAreReadAlike(t *testing.T) {
	for line, text := range map[string]string{
		"devices --json --config FILE":     "# größer\nthreads: 2\n",
		"space info file:FILE":             "space: tiny\nblocks:\n  - {name: stem, operations: [conv3x3, conv5x5]}\n",
		"latency info FILE":                "part,ms\nx,1.5\ny,2\n",
		"table info FILE":                  "arch,test_accuracy\nnasbench101:best,0.5\nnasbench101:resnet,0.25\n",
		"table info FILE --space darts":    "arch,test_accuracy\n\"" + dartsGenotype + "\",0.5\n",
		"train x --recipe FILE --data y:z": "epochs: 3\n",
	} {
		want := ""
		for _, name := range []string{"plain", "UTF-8", "UTF-16, little", "UTF-16, big"} {
			path := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(path, marked(text)[name], 0o644))
			code, stdout, stderr := call(nil, strings.Fields(strings.ReplaceAll(line, "FILE", path))...)
			said := strings.ReplaceAll(stdout+stderr, path, "FILE")
			said = regexp.MustCompile(`(SHA-256 +)[0-9a-f]{64}`).ReplaceAllString(said, "$1of the file")
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

const dartsGenotype = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), " +
	"('sep_conv_3x3', 1), " + "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], " +
	"normal_concat=range(2, 6), " + "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), " +
	"('max_pool_3x3', 1), ('max_pool_3x3', 0), " + "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], " +
	"reduce_concat=range(2, 6))"
