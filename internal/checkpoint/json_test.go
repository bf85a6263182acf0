package checkpoint

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type sealed struct {
	A float64        `json:"a"`
	B string         `json:"b"`
	C map[string]int `json:"c"`
}

func TestSealedJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := sealed{rapid.Float64().Draw(t, "a"), rapid.String().Draw(t, "b"),
			rapid.MapOf(rapid.String(), rapid.Int()).Draw(t, "c")}
		text, err := SealJSON(want)
		require.NoError(t, err)
		var got sealed
		require.NoError(t, OpenJSON(text, &got))
		again, err := json.Marshal(want) // what is no text becomes some
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(again, &want))
		require.Equal(t, want, got)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, text))
		require.NoError(t, OpenJSON(compact.Bytes(), &got), "spaces do not count")

		// Whatever single character changes: an error, or the same values.
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		text[i] ^= byte(rapid.IntRange(1, 127).Draw(t, "by"))
		var changed sealed
		if OpenJSON(text, &changed) == nil {
			require.Equal(t, want, changed)
		}
	})
}

func TestSealedJSONRefuses(t *testing.T) {
	text, err := SealJSON(sealed{A: 0.9137, B: "x"})
	require.NoError(t, err)
	edited := strings.Replace(string(text), "0.9137", "0.9237", 1)
	require.NotEqual(t, string(text), edited)
	got := sealed{B: "before"}
	require.ErrorIs(t, OpenJSON([]byte(edited), &got), ErrChanged)
	require.Equal(t, sealed{B: "before"}, got)
	for text, want := range map[string]string{
		`{"a":1}`:        `no "sha256"`,
		`[1]`:            "want a JSON object",
		``:               "EOF",
		`{"a":1,"a":2}`:  "stands there twice",
		`{"sha256":1}`:   "sha256",
		`{"sha256":"x"}`: "changed",
		`{"a":`:          "EOF",
	} {
		require.ErrorContains(t, OpenJSON([]byte(text), &got), want, text)
	}
	_, err = SealJSON(map[string]string{"sha256": "x"})
	require.ErrorContains(t, err, "seal's")
	empty, err := SealJSON(struct{}{})
	require.NoError(t, err)
	require.NoError(t, OpenJSON(empty, &struct{}{}))
}
