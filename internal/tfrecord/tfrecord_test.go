package tfrecord

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func readAll(r *Reader) (records [][]byte, err error) {
	for {
		data, err := r.Next(nil)
		if err != nil {
			return records, err
		}
		records = append(records, data)
	}
}

func TestKnownBytes(t *testing.T) {
	// CRC-32C of 32 zero bytes is 0x8a9136aa (RFC 3720, appendix B.4).
	require.Equal(t, uint32(0x0fd7fffa), masked(make([]byte, 32)))
	// A record with the CRC worked out bit by bit, from the polynomial.
	want, err := hex.DecodeString("0d00000000000000" + "3c37b834" + "627261696e2e4576656e743a32" + "ee01067c")
	require.NoError(t, err)
	require.Equal(t, want, Append(nil, []byte("brain.Event:2")))
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "records")
		var file bytes.Buffer
		w := NewWriter(&file)
		var offsets []int64
		for _, r := range records {
			offsets = append(offsets, int64(file.Len()))
			require.NoError(t, w.Write(r))
		}
		r := NewReader(iotest.OneByteReader(bytes.NewReader(file.Bytes())), 0)
		for i, want := range records {
			number, offset := r.Record()
			require.Equal(t, int64(i), number)
			require.Equal(t, offsets[i], offset)
			got, err := r.Next([]byte("prefix"))
			require.NoError(t, err)
			require.Equal(t, "prefix"+string(want), string(got))
		}
		_, err := r.Next(nil)
		require.Equal(t, io.EOF, err)
		_, err = r.Next(nil)
		require.Equal(t, io.EOF, err)
	})
}

func TestEveryTruncationIsNamed(t *testing.T) {
	file := Append(Append(nil, []byte("first")), []byte("the second"))
	second := int64(12 + 5 + 4)
	for cut := range len(file) {
		records, err := readAll(NewReader(bytes.NewReader(file[:cut]), 0))
		if cut == 0 || int64(cut) == second {
			require.Equal(t, io.EOF, err, "cut at %d lies between records", cut)
			continue
		}
		var damage *Error
		require.ErrorAs(t, err, &damage, "cut at %d", cut)
		require.ErrorIs(t, err, ErrTruncated)
		require.Equal(t, int64(len(records)), damage.Record)
		require.Equal(t, map[bool]int64{true: 0, false: second}[int64(cut) < second], damage.Offset)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	file := Append(Append(nil, []byte("first")), []byte("second"))
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := readAll(NewReader(bytes.NewReader(bad), 0))
		require.ErrorIs(t, err, ErrChecksum, "bit %d", bit)
	}
}

func TestLengths(t *testing.T) {
	frame := func(length uint64) []byte {
		b := binary.LittleEndian.AppendUint64(nil, length)
		return binary.LittleEndian.AppendUint32(b, masked(b))
	}
	for _, length := range []uint64{101, 1 << 40, 1 << 63, ^uint64(0)} {
		_, err := NewReader(bytes.NewReader(frame(length)), 100).Next(nil)
		require.ErrorIs(t, err, ErrTooLong)
		require.ErrorContains(t, err, "record 0 at offset 0")
	}
	_, err := NewReader(bytes.NewReader(Append(nil, make([]byte, 100))), 100).Next(nil)
	require.NoError(t, err)
}

func TestALengthThatIsALieCostsNoMemory(t *testing.T) {
	b := binary.LittleEndian.AppendUint64(nil, MaxRecord)
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	r := NewReader(bytes.NewReader(b), 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Next(nil)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrTruncated)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

func TestFailingStreamKeepsItsError(t *testing.T) {
	broken := errors.New("the disk is on fire")
	r := NewReader(io.MultiReader(bytes.NewReader(Append(nil, []byte("x"))[:14]), iotest.ErrReader(broken)), 0)
	_, err := r.Next(nil)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, ErrTruncated)
	_, again := r.Next(nil)
	require.Equal(t, err, again)
}

func TestWriterReportsItsStream(t *testing.T) {
	pr, pw := io.Pipe()
	require.NoError(t, pr.CloseWithError(io.ErrShortWrite))
	require.ErrorIs(t, NewWriter(pw).Write([]byte("x")), io.ErrShortWrite)
}

func FuzzReader(f *testing.F) {
	good := Append(Append(nil, []byte("first")), []byte("second"))
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(good[:7])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		var again []byte
		r := NewReader(bytes.NewReader(data), limit)
		for {
			record, err := r.Next(nil)
			if err != nil {
				var damage *Error
				if !errors.Is(err, io.EOF) && !errors.As(err, &damage) {
					t.Fatalf("an error without a place: %v", err)
				}
				break
			}
			if len(record) > limit {
				t.Fatalf("%d bytes", len(record))
			}
			again = Append(again, record)
		}
		if !bytes.HasPrefix(data, again) {
			t.Fatal("the records read are not the records written")
		}
	})
}
