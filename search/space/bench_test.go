package space

import (
	"testing"

	"github.com/ctnas/ctnas/kernels/philox"
)

func BenchmarkCanonical(b *testing.B) {
	total := labelledCells(maxVertices)
	i := 0
	for b.Loop() {
		d := labelled(i * 7919 % total)
		d.canonical()
		i++
	}
}

func BenchmarkSample(b *testing.B) {
	s := philox.New(1, philox.PurposeTest, 0)
	labelledCells(maxVertices)
	for b.Loop() {
		NASBench101{}.Sample(s)
	}
}

func BenchmarkMutate(b *testing.B) {
	s := philox.New(1, philox.PurposeTest, 0)
	a := NASBench101{}.Sample(s)
	for b.Loop() {
		a = NASBench101{}.Mutate(a, s)
	}
}

func BenchmarkHash(b *testing.B) {
	a := NASBench101{}.Sample(philox.New(1, philox.PurposeTest, 0))
	for b.Loop() {
		a.Hash()
	}
}

func BenchmarkCost(b *testing.B) {
	a := NASBench101{}.Sample(philox.New(1, philox.PurposeTest, 0))
	for b.Loop() {
		a.Cost()
	}
}

func BenchmarkParse(b *testing.B) {
	text := NASBench101{}.Sample(philox.New(1, philox.PurposeTest, 0)).String()
	for b.Loop() {
		if _, err := (NASBench101{}).Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAll(b *testing.B) {
	for b.Loop() {
		if _, err := (NASBench101{}).All(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
