// Package format reads and writes weights in the formats of other programs.
package format

import (
	"fmt"
	"io"
	"os"
)

// Tensor is a named array of float32, the last dimension varying fastest. No dimensions: a single number.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// Read reads the tensors of a file of safetensors or of PyTorch.
func Read(path string) ([]Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tensors, err := Decode(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tensors, nil
}

// Decode reads the tensors of such a file's content.
func Decode(r io.ReaderAt, size int64) ([]Tensor, error) {
	if isTorch(r) {
		return decodeTorch(r, size)
	}
	tensors, _, err := decodeSafetensors(io.NewSectionReader(r, 0, size), size)
	return tensors, err
}
