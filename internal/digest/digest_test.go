package digest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/digest"
)

// The examples of FIPS 180-2, appendix B.
func TestOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", digest.Of(nil))
	require.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", digest.Of([]byte("abc")))
}
