package space

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/kernels/philox"
)

// coders are spaces of every kind.
func coders(t *testing.T) []Coder {
	var list []Coder
	for _, name := range []string{
		"nasbench101", "nasbench101-v5", "nasbench201", "mobilenetv3", "mobilenetv3@w1.2,r160-224", "darts",
		"darts@cifar10", "spos", "fairnas@w0.5,r32,s8",
		"file:../../docs/examples/nb201-like.yaml", "file:../../docs/examples/blocks.yaml",
	} {
		sp, err := Open(name)
		require.NoError(t, err)
		list = append(list, sp.(Coder))
	}
	return list
}

// An architecture's code gives it back, and different architectures have different codes.
func TestCodes(t *testing.T) {
	for _, sp := range coders(t) {
		seen := map[string]Arch{}
		s := philox.New(1, philox.PurposeTest, 0)
		for range 500 {
			a := sp.Sample(s)
			code, ok := sp.AppendCode([]byte("before"), a)
			require.True(t, ok)
			code = bytes.TrimPrefix(code, []byte("before"))
			require.Len(t, code, sp.CodeBytes())
			require.NoError(t, sp.CheckCode(code))
			require.Equal(t, a, sp.FromCode(code))
			if other, known := seen[string(code)]; known {
				require.Equal(t, other, a)
			}
			seen[string(code)] = a
		}
		_, ok := sp.AppendCode(nil, foreign{})
		require.False(t, ok, sp.Name())
	}
}

// foreign is an architecture of no space.
type foreign struct{ Arch }

// Any bytes are refused, or are an architecture whose text reads back; one in canonical form has no other code.
func TestCodesOfAnyBytes(t *testing.T) {
	list := coders(t)
	rapid.Check(t, func(t *rapid.T) {
		sp := rapid.SampledFrom(list).Draw(t, "space")
		code, _ := sp.AppendCode(nil, sp.Sample(philox.New(rapid.Uint64().Draw(t, "seed"), philox.PurposeTest, 0)))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			code[rapid.IntRange(0, len(code)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		if sp.CheckCode(code) != nil {
			return
		}
		a := sp.FromCode(code)
		again, err := sp.Parse(a.String())
		require.NoError(t, err)
		if again == a {
			same, _ := sp.AppendCode(nil, again)
			require.Equal(t, code, same)
		}
		require.NotEmpty(t, a.Graph().Ops)
		a.Cost()
	})
}
