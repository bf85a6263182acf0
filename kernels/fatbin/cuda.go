//go:build cuda

package fatbin

import (
	"embed"
	"strings"
)

//go:embed bin
var files embed.FS

// Embedded tells whether this program holds compiled kernels.
const Embedded = true

// Image returns the fatbin of a .cu file by its base name, with or without the suffix; nil where there is none.
func Image(file string) []byte {
	image, err := files.ReadFile("bin/" + strings.TrimSuffix(file, ".cu") + ".fatbin")
	if err != nil {
		return nil
	}
	return image
}
