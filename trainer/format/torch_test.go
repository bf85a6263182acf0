package format

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The fixtures are written by scripts/peers/torch_files.py, which says what they hold.
func TestTorchFiles(t *testing.T) {
	whole := make([]float32, 24)
	for i := range whole {
		whole[i] = float32(i)/8 - 1
	}
	var turned []float32
	for c := range 4 {
		for a := range 6 {
			turned = append(turned, whole[a*4+c])
		}
	}
	want := []Tensor{
		{"conv.weight", []int{2, 3, 4}, whole}, {"turned", []int{4, 2, 3}, turned},
		{"part", []int{2, 2}, []float32{1, 1.25, 1.5, 1.75}},
		{"one", []int{}, []float32{0.5}}, {"none", []int{0, 3}, []float32{}},
		{"bn.num_batches_tracked", []int{}, []float32{7}},
	}
	for _, name := range []string{"zip", "pickles", "tar"} {
		got, _, err := Read(filepath.Join("testdata", name+".pth"))
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	got, _, err := Read(filepath.Join("testdata", "half.pth"))
	require.NoError(t, err)
	require.Len(t, got, 6)
	for _, x := range got {
		for i, v := range x.Data {
			expected := whole[i] // which fits each of the types of numbers with a point
			if strings.HasPrefix(x.Name, "int") {
				expected = float32(math.Trunc(float64(expected)))
			}
			require.Equal(t, expected, v, x.Name)
		}
	}
}

// half against the definition: (-1)^s * fraction * 2^exponent.
func TestHalf(t *testing.T) {
	for bits := range 1 << 16 {
		exponent, fraction := bits>>10&31, float64(bits&1023)
		want := math.Ldexp(1+fraction/1024, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -24)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			require.True(t, math.IsNaN(float64(half(uint16(bits)))))
			continue
		}
		if bits>>15 == 1 {
			want = -want
		}
		require.Equal(t, math.Float64bits(want), math.Float64bits(float64(half(uint16(bits)))))
	}
}

// pickled is the second kind of files around a pickle and the storages behind it.
func pickled(root string, storages ...string) []byte {
	out := append([]byte{}, torchMagic...)
	out = append(out, ".\x80\x02M\xe9\x03.\x80\x02}."...)
	out = append(out, root...)
	return append(out, strings.Join(storages, "")...)
}

func TestTorchDamage(t *testing.T) {
	// A tensor of a storage of FLOATS numbers from OFFSET with a SIZE and a STRIDE.
	tensor := func(size, stride, offset string) string {
		return "\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((" +
			"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02NtQ" +
			offset + size + stride + "\x89Nt" + "Rs."
	}
	keys := "\x80\x02]X\x01\x00\x00\x000a."
	two := string(binary.LittleEndian.AppendUint64(nil, 2)) + strings.Repeat("\x00", 8)
	good := pickled(tensor("K\x02\x85", "K\x01\x85", "K\x00"), keys, two)
	got, err := decodeTorch(bytes.NewReader(good), int64(len(good)))
	require.NoError(t, err)
	require.Equal(t, []Tensor{{"w", []int{2}, []float32{0, 0}}}, got)
	huge := string(binary.LittleEndian.AppendUint64(nil, 1<<62))
	for want, content := range map[string][]byte{
		"shape [3] with strides [1] from number 0 of 2": pickled(tensor("K\x03\x85", "K\x01\x85", "K\x00"),
			keys, two),
		"shape [2] with strides [1] from number 1 of 2": pickled(tensor("K\x02\x85", "K\x01\x85", "K\x01"),
			keys, two),
		"shape [2] with strides [-1] from number 1 of 2": pickled(tensor("K\x02\x85", "J\xff\xff\xff\xff\x85",
			"K\x01"), keys, two),
		"shape [2] with strides [1] from number -1 of 2": pickled(tensor("K\x02\x85", "K\x01\x85",
			"J\xff\xff\xff\xff"), keys, two),
		"shape [2 2] with strides [1] from number 0": pickled(tensor("K\x02K\x02\x86", "K\x01\x85",
			"K\x00"), keys, two),
		"shape [1000000] in a file": pickled(tensor("J\x40\x42\x0f\x00\x85", "K\x00\x85",
			"K\x00"), keys, two),
		"shape [2147483647 2147483647] in a file": pickled(
			tensor("J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", "K\x00K\x00\x86", "K\x00"), keys, two),
		`storage "0": 4611686018427387904 numbers at byte`: pickled(tensor("K\x02\x85", "K\x01\x85", "K\x00"),
			keys, huge),
		`nothing refers to the storage "1"`: pickled(tensor("K\x02\x85", "K\x01\x85", "K\x00"),
			"\x80\x02]X\x01\x00\x00\x001a.", two),
		"the pickle is no dictionary":                         pickled("\x80\x02K\x01.", "\x80\x02]."),
		"there are no tensors in the dictionary":              pickled("\x80\x02}.", "\x80\x02]."),
		"takes more from its stack":                           pickled("\x80\x02s."),
		"unknown instruction 0xff":                            pickled("\x80\x02\xff."),
		"a string of 4294967295 bytes in a pickle of at most": pickled("\x80\x02X\xff\xff\xff\xff."),
		"nothing was remembered as 7":                         pickled("\x80\x02h\x07."),
		"unexpected EOF":                                      pickled("\x80\x02("),
		`numbers of the class "builtins.eval"`: pickled(
			"\x80\x02(X\x07\x00\x00\x00storagecbuiltins\neval\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02NtQ."),
		// Not called.
		"the pickle is no dictionary: save a model's state_dict(": pickled(
			"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "\x80\x02]."),
	} {
		_, err := decodeTorch(bytes.NewReader(content), int64(len(content)))
		require.ErrorContains(t, err, want)
	}
	path := filepath.Join(t.TempDir(), "w.pth")
	require.NoError(t, os.WriteFile(path, []byte("PK\x03\x04 and no archive"), 0o644))
	_, _, err = Read(path)
	require.ErrorContains(t, err, path)
}

func FuzzTorch(f *testing.F) {
	for _, name := range []string{"zip", "pickles", "tar", "half"} {
		content, err := os.ReadFile(filepath.Join("testdata", name+".pth"))
		require.NoError(f, err)
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) { _, _ = checkTorch(t, content) })
}
