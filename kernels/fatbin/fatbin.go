// Package fatbin holds the compiled kernels: one fatbin for each .cu file of kernels/, with code for every
// architecture. `make gpu` compiles them into bin/ (CMakeLists.txt) and sets the build tag cuda, which embeds the
// folder. Without the tag there are none.
//
// A folder named by CTNAS_FATBINS takes the place of what is embedded, file by file: kernels can be compiled anew and
// measured with the same program, and a program can be built without any.
package fatbin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Variable is the environment variable that names a folder of fatbins.
const Variable = "CTNAS_FATBINS"

// Images returns the fatbin of a .cu file by its base name, with or without the suffix; nil where there is none.
type Images func(file string) []byte

// Load returns the kernels of this program and those of the folder that CTNAS_FATBINS names, which come first. The
// folder is read once in a process, whole: what is changed in it later does not matter.
var Load = sync.OnceValues(func() (Images, error) { return load(os.Getenv(Variable)) })

func load(dir string) (Images, error) {
	if dir == "" {
		return embedded, nil
	}
	files, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", Variable, dir, err)
	}
	return func(file string) []byte {
		if image, ok := files[strings.TrimSuffix(file, ".cu")]; ok {
			return image
		}
		return embedded(file)
	}, nil
}

// magic is how every fatbin begins.
const magic = "\x50\xed\x55\xba"

// read returns the fatbins of a folder by their names without the suffix.
func read(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".fatbin")
		if !ok {
			continue
		}
		image, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(string(image), magic) {
			return nil, fmt.Errorf("%s is no fatbin", e.Name())
		}
		files[name] = image
	}
	if len(files) == 0 {
		return nil, errors.New("there is no .fatbin file in it")
	}
	return files, nil
}
