package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cmd/ctnas/bench"
)

// listing is a function as cuobjdump prints it: an instruction a line, 16 bytes each, its encoding behind it and below.
func listing(name string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n\t\tFunction : %s\n\t.headerflags\t@\"EF_CUDA_SM90\"\n", name)
	for i, line := range lines {
		fmt.Fprintf(&b, "        /*%04x*/                   %s ;    /* 0x00000a00ff017b82 */\n", 16*i, line)
		fmt.Fprintf(&b, "                                                 /* 0x000fe20000000800 */\n")
	}
	return b.String()
}

func read(t *testing.T, text string) *kernel {
	t.Helper()
	list, err := parse(strings.NewReader(text))
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func measure(t *testing.T, lines ...string) figures {
	t.Helper()
	f, err := read(t, listing("cu_x", lines...)).figures()
	require.NoError(t, err)
	return f
}

func TestParse(t *testing.T) {
	k := read(t, listing("cu_x", "LDC R1, c[0x0][0x28]", "@!P0 BRA 0x40", "NOP", "EXIT"))
	require.Equal(t, "cu_x", k.name)
	require.Equal(t, []instruction{{0, "", "LDC", "R1, c[0x0][0x28]"}, {16, "@!P0", "BRA", "0x40"}, {32, "", "NOP", ""},
		{48, "", "EXIT", ""}}, k.code)
	two, err := parse(strings.NewReader(listing("a", "EXIT") + listing("b", "EXIT")))
	require.NoError(t, err)
	require.Len(t, two, 2)
	_, err = parse(strings.NewReader("        /*0000*/                   EXIT ;\n"))
	require.ErrorContains(t, err, "before the first function")
}

// The main loop is the innermost one with products; what lies behind a branch to slower code does not count, nor does
// an activation with a transcendental function or a table.
func TestMainLoop(t *testing.T) {
	f := measure(t,
		"MOV R1, R2",                          // 00
		"IADD3 R0, R0, 0x1, RZ",               // 10: the loop of tiles
		"IADD3 R4, R4, 0x1, RZ",               // 20: the main loop
		"@P0 BRA 0x60",                        // 30: not aligned
		"LDG.E.128 R8, desc[UR4][R2.64]",      // 40
		"BRA 0xa0",                            // 50
		"LDG.E.U16 R8, desc[UR4][R2.64]",      // 60
		"LDG.E.U16 R9, desc[UR4][R2.64+0x2]",  // 70
		"LDG.E.U16 R10, desc[UR4][R2.64+0x4]", // 80
		"LDG.E.U16 R11, desc[UR4][R2.64+0x6]", // 90
		"FFMA R8, R8, R9, R10",                // a0
		"@P1 BRA 0xe0",                        // b0: an activation
		"MUFU.EX2 R8, R8",                     // c0
		"BRX R28 -0xd0",                       // d0
		"FMNMX R8, R8, RZ, !PT",               // e0
		"STS.64 [R20], R8",                    // f0
		"HMMA.16816.F32.BF16 R4, R8, R10, R4", // 100
		"HMMA.16816.F32.BF16 R4, R8, R10, R4", // 110
		"HMMA.1688.F32.TF32 R4, R8, R10, R4",  // 120
		"@!P2 BRA 0x20",                       // 130
		"STG.E.128 desc[UR4][R2.64], R8",      // 140
		"FADD R1, R1, R2",                     // 150
		"BRA.U !UP0, 0x10",                    // 160
		"EXIT",                                // 170
	)
	require.Equal(t, 16, f.static, "of the block behind the jump through a table nothing goes on")
	require.Equal(t, 12, f.path)
	require.InDelta(t, 2.5, f.products, 0)
	require.InDelta(t, 12/2.5, f.perProduct, 1e-12)
	require.InDelta(t, 4.0/512, f.perByte, 1e-12, "four instructions of the loop of tiles store 512 bytes")
	require.False(t, f.warpgroup)
}

// A product of a warpgroup is that of four warps, each of which has 16 rows.
func TestWarpgroups(t *testing.T) {
	f := measure(t,
		"WARPGROUP.ARRIVE",
		"HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24, gsb0",
		"HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24, gsb0",
		"@!P0 BRA 0x0",
		"STG.E desc[UR4][R2.64], R24",
		"EXIT")
	require.True(t, f.warpgroup)
	require.InDelta(t, 32+16, f.products, 0)
	require.InDelta(t, 4.0/48, f.perProduct, 1e-12)
	require.InDelta(t, 2, f.once, 0, "no loop goes round the main loop")
	require.Zero(t, f.perByte)
}

func TestOfEntriesWithoutTensorCores(t *testing.T) {
	// Nothing but a way to the end, with a guard.
	f := measure(t, "ISETP.GE.AND P0, PT, R0, UR4, PT", "@P0 EXIT", "LDG.E.64 R2, desc[UR4][R2.64]",
		"STG.E.64 desc[UR4][R4.64], R2", "EXIT")
	require.Zero(t, f.perProduct)
	require.InDelta(t, 5.0/512, f.perByte, 1e-12)
	// The loop that moves most, and not one that only computes.
	f = measure(t, "IADD3 R0, R0, 0x1, RZ", "@P0 BRA 0x0", "LDG.E.128 R4, desc[UR4][R2.64]",
		"STG.E.128 desc[UR4][R2.64], R4", "@P0 BRA 0x20", "EXIT")
	require.InDelta(t, 3.0/1024, f.perByte, 1e-12)
	f = measure(t, "BAR.SYNC.DEFER_BLOCKING 0x0", "EXIT")
	require.Zero(t, f.perByte)
	_, err := read(t, listing("cu_x", "BRX R28 -0x10")).figures()
	require.ErrorContains(t, err, "no way to an exit")
}

func TestModel(t *testing.T) {
	known := func(v float64) *float64 { return &v }
	launch := func(entry string, blocks int, bytes, issued *float64) bench.Launch {
		return bench.Launch{Entry: entry, Grid: [3]int{blocks, 1, 1}, Block: 256, Bytes: bytes, Issued: issued}
	}
	code := map[string]figures{"copy": {perByte: 0.01}, "slow": {perByte: 1}, "mma": {perProduct: 1},
		"wgmma": {perProduct: 0.1, warpgroup: true}, "issue": {perProduct: 20}}
	g := gpu{"X", 1e12, 600e12, 800e12}
	seconds := func(l bench.Launch) float64 { return g.model([]bench.Launch{l}, code).seconds - gap }
	require.InEpsilon(t, 1e9/(reached*1e12), seconds(launch("copy", 132, known(1e9), nil)), 1e-9)
	require.InEpsilon(t, 2e9/(reached*1e12), seconds(launch("copy", 66, known(1e9), nil)), 1e-9, "half of it is idle")
	require.InEpsilon(t, 1e9/(issued*132*clock), seconds(launch("slow", 1320, known(1e9), nil)), 1e-9)
	require.InEpsilon(t, 1e12/600e12, seconds(launch("mma", 1320, nil, known(1e12))), 1e-9)
	require.InEpsilon(t, 1e12/800e12, seconds(launch("wgmma", 1320, nil, known(1e12))), 1e-9)
	require.InEpsilon(t, 20*1e12/4096/(issued*132*clock), seconds(launch("issue", 1320, nil, known(1e12))), 1e-9)

	m := g.model([]bench.Launch{launch("copy", 132, known(1e9), nil), launch("mma", 132, nil, known(1e12)),
		launch("copy", 132, nil, nil)}, code)
	require.Equal(t, map[string]int{"copy": 1}, m.unknown)
	require.False(t, m.less)
	m2 := g.model([]bench.Launch{launch("mma", 132, known(1e9), nil)}, code)
	require.Equal(t, map[string]int{"mma": 1}, m2.unknown)
	require.True(t, m2.less, "it has products, and nobody said how many")
	require.InEpsilon(t, m.bytes+m.instructions+m.tensor+3*gap, m.seconds, 1e-12)
	require.InEpsilon(t, m.seconds, m.byEntry["copy"]+m.byEntry["mma"], 1e-12)
}
