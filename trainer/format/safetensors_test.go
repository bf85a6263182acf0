package format

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

func file(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func TestSafetensorsRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	want := []Tensor{{"z", []int{2, 3}, []float32{1, 2, 3, 4, 5, -6}}, {"a.b", []int{}, []float32{7}},
		{"empty", []int{0, 4}, []float32{}}}
	require.NoError(t, WriteSafetensors(path, want, map[string]string{"arch": "x"}))
	got, metadata, err := Read(path)
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
	require.Equal(t, "z", got[0].Name)
	require.Equal(t, map[string]string{"arch": "x"}, metadata)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Zero(t, binary.LittleEndian.Uint64(text)%8)
	for _, bad := range [][]Tensor{{{"a", []int{2}, make([]float32, 3)}},
		{{"a", nil, make([]float32, 1)}, {"a", nil, make([]float32, 1)}}} {
		require.ErrorContains(t, WriteSafetensors(path, bad, nil), `tensor "a"`)
	}
}

func TestSafetensorsDamage(t *testing.T) {
	f32 := func(name, shape, offsets string) string {
		return `"` + name + `":{"dtype":"F32","shape":` + shape + `,"data_offsets":` + offsets + `}`
	}
	many := "[" + strings.Repeat("1,", 64) + "1]"
	for want, content := range map[string][]byte{
		"3 bytes are no safetensors file": []byte("abc"),
		"a header of 1000 bytes in a file of 10": append(binary.LittleEndian.AppendUint64(nil, 1000), '{',
			'}'),
		"a header of 18446744073709551615 bytes": append(binary.LittleEndian.AppendUint64(nil, 1<<64-1), '{',
			'}'),
		"no JSON object": file("[]", 0),
		`"a" stands there twice`: file("{"+f32("a", "[1]", "[0,4]")+","+f32("a", "[1]",
			"[4,8]")+"}", 8),
		"begins at offset 0, the one before it ends at 8": file("{"+f32("a", "[2]", "[0,8]")+","+f32("b", "[3]",
			"[0,12]")+"}", 12),
		"begins at offset 8, the one before it ends at 4": file("{"+f32("a", "[1]", "[0,4]")+","+f32("b", "[1]",
			"[8,12]")+"}", 12),
		"offsets 0 to 8 of 4 bytes":             file("{"+f32("a", "[2]", "[0,8]")+"}", 4),
		"8 bytes of tensors, the header says 4": file("{"+f32("a", "[1]", "[0,4]")+"}", 8),
		"8 bytes for shape [3] of F32":          file("{"+f32("a", "[3]", "[0,8]")+"}", 8),
		"shape [2147483647 2147483647]": file("{"+f32("a", "[2147483647,2147483647]", "[0,4]")+"}",
			4),
		"shape [-1]": file("{"+f32("a", "[-1]", "[0,4]")+"}", 4),
		`type "F8_E4M3", want one of BF16, BOOL, F16`: file(
			`{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}`, 8),
		"65 dimensions, at most 64 are accepted":           file("{"+f32("a", many, "[0,4]")+"}", 4),
		"something stands behind the JSON object":          file("{} {}", 0),
		"begins at offset -4, the one before it ends at 0": file("{"+f32("a", "[1]", "[-4,0]")+"}", 0),
	} {
		path := filepath.Join(t.TempDir(), "w")
		require.NoError(t, os.WriteFile(path, content, 0o644))
		_, _, err := Read(path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
	}
}

func FuzzSafetensors(f *testing.F) {
	header, err := encodeHeader([]Tensor{{"a", []int{1, 2}, make([]float32, 2)}, {"b", nil, make([]float32, 1)}},
		map[string]string{"k": "v"})
	require.NoError(f, err)
	f.Add(append(header, make([]byte, 12)...))
	f.Add(file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, content []byte) {
		var tensors []Tensor
		var metadata map[string]string
		var err error
		testdata.WithinFactor(t, len(content), perByte, func() {
			tensors, metadata, err = decodeSafetensors(bytes.NewReader(content), int64(len(content)))
		})
		if err != nil {
			return
		}
		total := 0
		for _, x := range tensors {
			total += len(x.Data)
		}
		require.LessOrEqual(t, total, len(content))
		again, err := encodeHeader(tensors, metadata)
		require.NoError(t, err)
		require.NotEmpty(t, again)
	})
}
