// Package digest is how contents are named: by their SHA-256 in hexadecimal digits.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
)

// Of is the SHA-256 of a content, 64 hexadecimal digits.
func Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
