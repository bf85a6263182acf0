package names

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknown(t *testing.T) {
	known := []string{"random", "regression", "mobilenetv3_large_1.0", "mobilenetv3_small_1.0", "darts", "a", "b"}
	require.EqualError(t, Unknown("method", "Radnom", known[:2]),
		`unknown method "Radnom"; did you mean random? known: random, regression`)
	require.EqualError(t, Unknown("method", "best", known[:2]), `unknown method "best"; known: random, regression`)
	require.Equal(t, []string{"mobilenetv3_large_1.0"}, Near("mobilenetv3_large", known))
	require.Equal(t, []string{"mobilenetv3_large_1.0", "mobilenetv3_small_1.0"}, Near("mobilenetv3_1.0_1.0", known),
		"equally near")
	require.Empty(t, Near("", known[:5]))
	require.Empty(t, Near("x", []string{"a", "b", "c", "d"}), "too many")
}

func TestDistance(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		require.Equal(t, x.want, distance(x.a, x.b), "%q %q", x.a, x.b)
		require.Equal(t, x.want, distance(x.b, x.a), "%q %q", x.b, x.a)
	}
}
