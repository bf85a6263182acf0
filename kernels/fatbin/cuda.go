//go:build cuda

package fatbin

import (
	"embed"
	"strings"
)

//go:embed bin
var files embed.FS

// Embedded tells whether this program runs kernels on GPUs.
const Embedded = true

func embedded(file string) []byte {
	image, err := files.ReadFile("bin/" + strings.TrimSuffix(file, ".cu") + ".fatbin")
	if err != nil {
		return nil
	}
	return image
}
