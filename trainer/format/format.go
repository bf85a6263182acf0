// Package format reads and writes weights in the formats of other programs.
package format

import (
	"fmt"
	"io"

	"github.com/ctnas/ctnas/internal/files"
)

// Tensor is a named array of float32, the last dimension varying fastest. No dimensions: a single number.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// Read reads the tensors of a file of safetensors or of PyTorch, and the metadata of safetensors; PyTorch's files have
// none.
func Read(path string) (tensors []Tensor, metadata map[string]string, err error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if tensors, metadata, err = decode(f, info.Size()); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return tensors, metadata, nil
}

// Decode reads the tensors of such a file's content.
func Decode(r io.ReaderAt, size int64) ([]Tensor, error) {
	tensors, _, err := decode(r, size)
	return tensors, err
}

func decode(r io.ReaderAt, size int64) (tensors []Tensor, metadata map[string]string, err error) {
	if isTorch(r) {
		tensors, err = decodeTorch(r, size)
		return tensors, nil, err
	}
	return decodeSafetensors(io.NewSectionReader(r, 0, size), size)
}
