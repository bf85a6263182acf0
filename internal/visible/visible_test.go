package visible

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestString(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"conv3x3 ± 0.5 %\n\t–×": "conv3x3 ± 0.5 %\n\t–×",
		"日本語 naïve Ελλάδα":      "日本語 naïve Ελλάδα",
		"a\u202eb\u202c":        `a\u202eb\u202c`, // right to left
		"\u2066x\u2069\u200f":   `\u2066x\u2069\u200f`,
		"\x1b[31mred\x07\r":     `\u001b[31mred\u0007\u000d`,
		"zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`,
		"soft\u00adhyphen":      `soft\u00adhyphen`,
		"\u3164\u115f\u034f":    `\u3164\u115f\u034f`, // letters without a shape
		"a\u00a0b\u2003c\u2800": `a\u00a0b\u2003c\u2800`,
		"\u2028\u2029\u0085":    `\u2028\u2029\u0085`,
		"\U000e0041":            `\udb40\udc41`, // a tag
		"\xff\xc3":              `\xff\xc3`,
		"\ufffd":                "\ufffd",
	} {
		require.Equal(t, want, String(text))
		require.Equal(t, want, string(Bytes([]byte(text))))
	}
}

// However a text is cut into writes, the same comes out, of which everything is seen; and of JSON nothing is changed
// but its looks.
func TestWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "text") {
			text = []byte(rapid.String().Draw(t, "string"))
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			got, err := w.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, got)
			rest = rest[n:]
		}
		require.NoError(t, w.Flush())
		require.Equal(t, String(string(text)), out.String())
		for _, r := range out.String() {
			require.True(t, r == '\n' || r == '\t' || unicode.IsPrint(r))
		}
		if utf8.Valid(text) {
			document, err := json.Marshal(string(text))
			require.NoError(t, err)
			var back string
			require.NoError(t, json.Unmarshal(Bytes(document), &back))
			require.Equal(t, string(text), back)
		}
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriterFails(t *testing.T) {
	_, err := NewWriter(full{}).Write([]byte("x"))
	require.ErrorContains(t, err, "no space left")
	require.Equal(t, full{}, NewWriter(full{}).Unwrap())
}
