package predictor

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/format"
)

// The authors' network gave these outputs for these inputs. Its numbers are read by themselves and from the authors'
// file.
func TestPredictionsOfTheData(t *testing.T) {
	p, err := Open(testdata.Path(t, "mobilenetv3/ofa_acc_predictor.f32"))
	require.NoError(t, err)
	published, err := Open(testdata.Path(t, "mobilenetv3/ofa_acc_predictor.pth"))
	require.NoError(t, err)
	require.Equal(t, p.network, published.network)
	require.NotEqual(t, p.Checksum(), published.Checksum())
	f, err := os.Open(testdata.Path(t, "mobilenetv3/ofa_acc_predictor_check.csv"))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 51)
	for _, r := range rows[1:] {
		sp, err := space.Open("mobilenetv3@w1.2,r" + r[3])
		require.NoError(t, err)
		a, err := sp.(space.MobileNetV3).NewMobileNet(r[0], r[1], r[2])
		require.NoError(t, err)
		require.True(t, p.Has(a))
		got, err := p.Label(t.Context(), []space.Arch{a})
		require.NoError(t, err)
		want, err := strconv.ParseFloat(r[4], 64)
		require.NoError(t, err)
		require.InDelta(t, want, got[0], 2e-6, a)
	}
	other, err := space.Open("mobilenetv3@w1.2,r236")
	require.NoError(t, err)
	a := other.Sample(philox.New(1, philox.PurposeTest, 0))
	require.False(t, p.Has(a))
	_, err = p.Label(t.Context(), []space.Arch{a})
	require.ErrorIs(t, err, ledger.ErrNoLabel)
}

// A network of another size, from the file that once-for-all's package saves, predicts what PyTorch does with it.
func TestPredictionsOfPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("runs PyTorch")
	}
	python, dir := testdata.Python(t, "torch", "ofa"), t.TempDir()
	out, err := exec.Command(python, filepath.Join(testdata.Root(), "scripts", "peers", "predictor.py"),
		dir).CombinedOutput()
	require.NoError(t, err, string(out))
	p, err := Open(filepath.Join(dir, "package.pth"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	require.NoError(t, err)
	var rows []struct {
		Depths, Kernels, Expansions string
		Accuracy                    float64
	}
	require.NoError(t, json.Unmarshal(text, &rows))
	require.Len(t, rows, 20)
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	for _, r := range rows {
		a, err := sp.(space.MobileNetV3).NewMobileNet(r.Depths, r.Kernels, r.Expansions)
		require.NoError(t, err)
		got, err := p.Label(t.Context(), []space.Arch{a})
		require.NoError(t, err)
		require.InDelta(t, r.Accuracy, got[0], 2e-6, a)
	}
}

// tensorsOf are the tensors of a network of some widths under the names of a form.
func tensorsOf(name func(layer int, part string) string, widths ...int) (list []format.Tensor) {
	for i, in := range widths[:len(widths)-1] {
		o := widths[i+1]
		list = append(list, format.Tensor{Name: name(i, "weight"), Shape: []int{o, in}, Data: make([]float32, o*in)},
			format.Tensor{Name: name(i, "bias"), Shape: []int{o}, Data: make([]float32, o)})
	}
	return list
}

func tutorialName(layer int, part string) string { return fmt.Sprintf("%d.%s", 2*layer, part) }
func packagedName(layer int, part string) string { return fmt.Sprintf("layers.%d.0.%s", layer, part) }

func TestForms(t *testing.T) {
	write := func(tensors []format.Tensor) string {
		path := filepath.Join(t.TempDir(), "p.safetensors")
		require.NoError(t, format.WriteSafetensors(path, tensors, nil))
		return path
	}
	list := tensorsOf(packagedName, 121, 2, 1)
	// The resolution; slot 4 with kernel 3; slot 19 with expansion 6.
	list[0].Data[0], list[0].Data[1+3*4], list[0].Data[121+61+3*19+2] = 0.25, 0.125, 0.5
	list[2].Data[0], list[2].Data[1] = 1, -1
	list = append(list[:3], format.Tensor{Name: "base_acc", Shape: []int{1}, Data: []float32{0.5}})
	p, err := Open(write(list))
	require.NoError(t, err)
	sp, err := space.Open("mobilenetv3@w1.2,r112-224")
	require.NoError(t, err)
	for text, want := range map[string]float64{
		"22222:33003300330033003300:33003300330033003300": 0.875,
		"22222:33005300330033003300:33003300330033003300": 0.75,
		"22224:33005300330033003333:33003300330033003336": 0.25,
	} {
		a, err := sp.Parse("mobilenetv3:" + text)
		require.NoError(t, err)
		got, err := p.Label(t.Context(), []space.Arch{a})
		require.NoError(t, err)
		require.InDelta(t, want, got[0], 1e-7, text)
		small, err := sp.Parse("mobilenetv3:" + text + "@r208")
		require.NoError(t, err)
		require.False(t, p.Has(small), "the file does not say more than one resolution")
	}

	for want, change := range map[string]func(list []format.Tensor) []format.Tensor{
		`tensor "conv.weight"`: func(l []format.Tensor) []format.Tensor { l[0].Name = "conv.weight"; return l },
		`layer 2 has 5 inputs, want 6`: func([]format.Tensor) []format.Tensor {
			return append(tensorsOf(tutorialName, 128, 6), tensorsOf(func(_ int, part string) string {
				return "2." + part
			}, 5, 1)...)
		},
		`layer 0 has 121 inputs, want 128`: func([]format.Tensor) []format.Tensor {
			return tensorsOf(tutorialName, 121, 6, 1)
		},
		`nothing says which they are`: func([]format.Tensor) []format.Tensor {
			return tensorsOf(packagedName, 128, 6, 1)
		},
		`has 2 outputs, want 1`: func([]format.Tensor) []format.Tensor {
			return tensorsOf(tutorialName, 128, 6, 2)
		},
		`a weight of 6 x 128 and 0 biases`: func(l []format.Tensor) []format.Tensor {
			return append(l[:1], l[2:]...)
		},
		`shape [6] of a linear layer's weight`: func(l []format.Tensor) []format.Tensor {
			l[1].Name = "4.weight"
			return l
		},
		`tensor "base_acc": shape [6]`: func(l []format.Tensor) []format.Tensor {
			l[1].Name = "base_acc"
			return l
		},
		`number 3 is NaN`: func(l []format.Tensor) []format.Tensor {
			l[0].Data[3] = float32(math.NaN())
			return l
		},
		"no layer": func(l []format.Tensor) []format.Tensor {
			l[1] = format.Tensor{Name: "base_acc", Shape: []int{1}, Data: []float32{1}}
			return l[1:2]
		},
	} {
		_, err := Open(write(change(tensorsOf(tutorialName, 128, 6, 1))))
		require.ErrorContains(t, err, want)
	}
}

func TestBadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.f32")
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o600))
	_, err := Open(path)
	require.ErrorContains(t, err, "100 bytes are not")
	data := make([]byte, 1491204)
	data[7], data[6] = 0x7f, 0xc0
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "offset 4 is NaN")
}
