package jsontext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/jsontext"
)

func TestCharactersStandAsTheyAre(t *testing.T) {
	t.Parallel()
	v := map[string]any{"b": []int{1}, "a": "<&>\n"}
	line, err := jsontext.Line(v)
	require.NoError(t, err)
	require.Equal(t, "{\"a\":\"<&>\\n\",\"b\":[1]}\n", string(line))
	document, err := jsontext.Document(v)
	require.NoError(t, err)
	require.Equal(t, "{\n  \"a\": \"<&>\\n\",\n  \"b\": [\n    1\n  ]\n}\n", string(document))
	_, err = jsontext.Line(func() {})
	require.ErrorContains(t, err, "unsupported type")
}
