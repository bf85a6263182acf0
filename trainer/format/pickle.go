package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// A pickle (Python's pickletools describes the format) is a program for a stack machine, which names the classes and
// functions that it wants to call. Here nothing is called: the few that a file of tensors needs are known by name, and
// what any other would have made is an opaque value.

// maxPickle bounds a pickle's bytes, maxValues the memory of all that the pickles of a file make: an instruction of
// two bytes may use again what others have made, so that a bound of what is read is none of what is made.
const (
	maxPickle = 16 << 20
	maxValues = 128 << 20
)

// What the machine's values take, in bytes: each on the stack with what it points to, each within a tuple, a list or
// dictionary itself, each remembered one.
const (
	valueBytes   = 32
	itemBytes    = 16
	containBytes = 64
	memoBytes    = 64
)

// Values are nil, bool, int64, float64, string, tuple, *list, *dict, global, opaque, and what persistent makes.
type (
	tuple []any
	list  struct{ items []any }
	dict  struct {
		keys, values []any
		// Where the unpickler was when it began: how many values it remembered, and what they all took.
		since, spent int64
	}
	global struct{ module, name string }
	opaque struct{ of any } // what calling of would have made
	mark   struct{}
)

// unpickler runs one pickle after the other from a reader.
type unpickler struct {
	r          *bufio.Reader
	read       int64                         // bytes so far, of all pickles
	most       int                           // bytes that a pickle may have: maxPickle unless set otherwise
	mostValues int64                         // maxValues unless set otherwise
	left       int                           // bytes that this pickle may have
	spent      int64                         // memory for values, of all pickles
	build      func(object, state any) error // sets an object's state; nil: none matters
	persistent func(id any) (any, error)
	call       func(f global, arguments tuple) (any, bool, error) // false: the function is unknown

	// part is told of each dictionary when entries of it have been set. Where it says so, what the dictionary does not
	// hold any longer is let go (forget).
	part func(d *dict) (taken bool, err error)

	stack []any
	memo  map[int64]any
	puts  int64 // how often something was remembered in a place of its own
	texts texts // with part: those that are remembered, which may be used again in any part
}

func newUnpickler(r io.Reader) *unpickler {
	return &unpickler{r: bufio.NewReaderSize(r, 1<<16), most: maxPickle, mostValues: maxValues,
		call: func(global, tuple) (any, bool, error) {
			return nil, false, nil
		},
		persistent: func(any) (any, error) { return nil, errors.New("a reference to something outside the pickle") }}
}

func (u *unpickler) byte() (byte, error) {
	if u.left--; u.left < 0 {
		return 0, fmt.Errorf("a pickle of more than %d bytes", u.most)
	}
	b, err := u.r.ReadByte()
	if err == nil {
		u.read++
	}
	return b, err
}

// bytes reads n bytes.
func (u *unpickler) bytes(n uint64) ([]byte, error) {
	if n > uint64(max(u.left, 0)) {
		return nil, fmt.Errorf("a string of %d bytes in a pickle of at most %d", n, u.most)
	}
	u.left -= int(n)
	if n > 1<<12 { // memory for what there is, not for what a length says
		var b bytes.Buffer
		k, err := io.CopyN(&b, u.r, int64(n))
		u.read += k
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return b.Bytes(), err
	}
	b := make([]byte, n)
	k, err := io.ReadFull(u.r, b)
	u.read += int64(k)
	return b, err
}

// line reads up to a newline, which it leaves out.
func (u *unpickler) line() (string, error) {
	var line []byte
	for {
		b, err := u.byte()
		if err != nil {
			return "", err
		}
		if b == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b)
	}
}

// unsigned reads a little-endian number of n bytes.
func (u *unpickler) unsigned(n int) (uint64, error) {
	b, err := u.bytes(uint64(n))
	if err != nil {
		return 0, err
	}
	var x [8]byte
	copy(x[:], b)
	return binary.LittleEndian.Uint64(x[:]), nil
}

// sized reads a length of n bytes and as many bytes.
func (u *unpickler) sized(n int) ([]byte, error) {
	size, err := u.unsigned(n)
	if err != nil {
		return nil, err
	}
	return u.bytes(size)
}

func (u *unpickler) newDict() *dict {
	d := &dict{since: u.puts, spent: u.spent}
	u.spent += containBytes
	return d
}

// forget lets go what has been made since a dictionary began and is not held by it: what was remembered of it, but for
// texts. Where a pickle refers to such a thing later, it finds an opaque value.
func (u *unpickler) forget(d *dict) {
	for key := d.since; key < u.puts; key++ {
		if u.texts.at(key) != 0 {
			continue
		}
		switch u.memo[key].(type) {
		case *dict, *list, tuple, opaque: // not functions, nor types
			delete(u.memo, key)
		}
	}
	u.spent = d.spent + containBytes + int64(len(d.keys))*(valueBytes+2*itemBytes)
}

// texts are the different texts of a pickle, and which of them are remembered where.
type texts struct {
	number map[string]int32 // from 1
	all    []any            // strings; number n is at n-1
	bytes  int64            // that these take
	memo   [][]uint16       // by place, textsChunk at a time; 0 is none of them
}

const textsChunk = 1 << 20

// one is the text that bytes are, the same each time.
func (t *texts) one(b []byte) any {
	n := t.number[string(b)]
	if n == 0 {
		if t.number == nil {
			t.number = map[string]int32{}
		}
		t.all = append(t.all, string(b))
		n = int32(len(t.all))
		t.number[string(b)] = n
		t.bytes += int64(2*len(b) + memoBytes)
	}
	return t.all[n-1]
}

// put remembers a text at the next place; false where it is none of the first 65,535.
func (t *texts) put(place int64, text string) bool {
	n := t.number[text]
	if n == 0 || n > math.MaxUint16 {
		return false
	}
	for place >= int64(len(t.memo))*textsChunk { // the next place is not far away
		t.memo = append(t.memo, make([]uint16, textsChunk))
	}
	t.memo[place/textsChunk][place%textsChunk] = uint16(n)
	return true
}

// at is the number of the text at a place, 0 where there is none.
func (t *texts) at(place int64) uint16 {
	if place < 0 || place >= int64(len(t.memo))*textsChunk {
		return 0
	}
	return t.memo[place/textsChunk][place%textsChunk]
}

func (u *unpickler) push(v any) {
	u.spent += valueBytes
	u.stack = append(u.stack, v)
}

var errStack = errors.New("the pickle takes more from its stack than there is")

func (u *unpickler) pop() (any, error) {
	if len(u.stack) == 0 {
		return nil, errStack
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	if _, is := v.(mark); is {
		return nil, errStack
	}
	return v, nil
}

// top pops n values, the lowest first.
func (u *unpickler) top(n int) (tuple, error) {
	values := make(tuple, n)
	u.spent += itemBytes * int64(n)
	for i := n - 1; i >= 0; i-- {
		v, err := u.pop()
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// marked pops what lies above the latest mark, and the mark.
func (u *unpickler) marked() (tuple, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, is := u.stack[i].(mark); is {
			values := append(tuple{}, u.stack[i+1:]...)
			u.spent += itemBytes * int64(len(values))
			u.stack = u.stack[:i]
			return values, nil
		}
	}
	return nil, errStack
}

// load runs a pickle and returns its value.
func (u *unpickler) load() (any, error) {
	u.left, u.stack, u.memo, u.puts, u.texts = u.most, nil, map[int64]any{}, 0, texts{}
	for {
		op, err := u.byte()
		if err == nil {
			if op == '.' {
				return u.pop()
			}
			err = u.step(op)
		}
		if err == nil && u.spent+u.texts.bytes > u.mostValues {
			err = fmt.Errorf("the values take more than %d bytes", u.mostValues)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("pickle: byte %d: %w", u.read, err)
		}
	}
}

// step runs one instruction.
func (u *unpickler) step(op byte) error {
	switch op {
	case 'N':
		u.push(nil)
	case '\x88':
		u.push(true)
	case '\x89':
		u.push(false)
	case ')':
		u.push(tuple{})
	case '\x80': // PROTO
		_, err := u.byte()
		return err
	case '\x95': // FRAME
		_, err := u.unsigned(8)
		return err
	case '(':
		u.push(mark{})
	case '}':
		u.push(u.newDict())
	case ']', '\x8f': // EMPTY_SET, which is a list here
		u.spent += containBytes
		u.push(&list{})
	case '0': // POP, of a mark too
		if len(u.stack) == 0 {
			return errStack
		}
		u.stack = u.stack[:len(u.stack)-1]
	case '1': // POP_MARK
		_, err := u.marked()
		return err
	case '2': // DUP
		v, err := u.pop()
		u.push(v)
		u.push(v)
		return err
	case 'K', 'M', 'J', '\x8a', '\x8b', 'I', 'L', 'G', 'F':
		return u.number(op)
	case 'X', '\x8c', '\x8d', 'U', 'T', 'C', 'B', '\x8e', 'V', 'S':
		return u.text(op)
	case 'q', 'r', 'p', '\x94', 'h', 'j', 'g':
		return u.remember(op)
	case 't', 'l', 'd', '\x85', '\x86', '\x87', 'a', 'e', 's', 'u', '\x90', '\x91':
		return u.collect(op)
	case 'c', '\x93', 'R', '\x81', 'b', 'Q', 'P':
		return u.object(op)
	default:
		return fmt.Errorf("unknown instruction %#x", op)
	}
	return nil
}

// width is how many bytes follow an instruction: a number, or how long a text is, or a place of the memo.
func width(op byte) int {
	switch op {
	case 'K', '\x8a', '\x8c', 'U', 'C', 'q', 'h':
		return 1
	case 'M':
		return 2
	case 'J', '\x8b', 'X', 'T', 'B', 'r', 'j':
		return 4
	}
	return 8 // G, 0x8d, 0x8e
}

// number runs the instructions that push one.
func (u *unpickler) number(op byte) error {
	switch op {
	case 'K', 'M', 'J': // BININT1, BININT2, BININT
		n, err := u.unsigned(width(op))
		if op == 'J' {
			n = uint64(int64(int32(uint32(n))))
		}
		u.push(int64(n))
		return err
	case 'G': // BINFLOAT
		b, err := u.bytes(8)
		if err == nil {
			u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
		}
		return err
	case '\x8a', '\x8b': // LONG1, LONG4: two's complement, little-endian
		b, err := u.sized(width(op))
		if err != nil {
			return err
		}
		if len(b) > 8 {
			u.push(opaque{"a large number"})
			return nil
		}
		n := uint64(0)
		if len(b) > 0 && b[len(b)-1] >= 0x80 {
			n = math.MaxUint64
		}
		for i := len(b) - 1; i >= 0; i-- {
			n = n<<8 | uint64(b[i])
		}
		u.push(int64(n))
		return nil
	}
	line, err := u.line()
	if err != nil {
		return err
	}
	switch {
	case op == 'F':
		if len(line) > 64 {
			return errors.New("a number of too many digits")
		}
		x, err := strconv.ParseFloat(line, 64)
		u.push(x)
		return err
	case op == 'I' && (line == "00" || line == "01"):
		u.push(line == "01")
		return nil
	}
	if len(line) > 64 {
		return errors.New("a number of too many digits")
	}
	x, ok := new(big.Int).SetString(strings.TrimSuffix(line, "L"), 10)
	switch {
	case !ok:
		return fmt.Errorf("%q is no number", line)
	case !x.IsInt64():
		u.push(opaque{"a large number"})
	default:
		u.push(x.Int64())
	}
	return nil
}

// text runs the instructions that push a string or bytes.
func (u *unpickler) text(op byte) error {
	if op == 'V' || op == 'S' {
		line, err := u.line()
		if op == 'S' && len(line) > 1 {
			line = line[1 : len(line)-1] // quotes
		}
		u.spent += int64(len(line))
		u.push(line)
		return err
	}
	b, err := u.sized(width(op))
	if u.part != nil {
		u.push(u.texts.one(b))
		return err
	}
	u.spent += int64(len(b))
	u.push(string(b))
	return err
}

// remember runs the instructions of the memo.
func (u *unpickler) remember(op byte) error {
	var key int64
	switch op {
	case '\x94': // MEMOIZE
		key = u.puts
	case 'p', 'g':
		line, err := u.line()
		if err != nil {
			return err
		}
		if key, err = strconv.ParseInt(line, 10, 64); err != nil {
			return fmt.Errorf("%.64q is no place of the memo", line)
		}
	default:
		n, err := u.unsigned(width(op))
		if err != nil {
			return err
		}
		key = int64(n)
	}
	switch op {
	case 'h', 'j', 'g':
		if n := u.texts.at(key); n != 0 {
			u.push(u.texts.all[n-1])
			return nil
		}
		v, there := u.memo[key]
		if !there && u.part != nil && key < u.puts {
			v, there = opaque{"a part that was taken"}, true
		}
		if !there {
			return fmt.Errorf("nothing was remembered as %d", key)
		}
		u.push(v)
		return nil
	}
	v, err := u.pop()
	if text, is := v.(string); is && u.part != nil && key == u.puts && u.texts.put(key, text) {
		u.puts++
		u.push(v)
		return err
	}
	u.spent += memoBytes
	if _, again := u.memo[key]; !again {
		u.puts++
	}
	u.memo[key] = v
	u.push(v)
	return err
}

// collect runs the instructions that make tuples, lists and dictionaries, and those that fill them.
func (u *unpickler) collect(op byte) error {
	var values tuple
	var err error
	switch op {
	case '\x85', '\x86', '\x87': // TUPLE1 to TUPLE3
		if values, err = u.top(int(op - '\x84')); err == nil {
			u.push(values)
		}
		return err
	case 'a':
		values, err = u.top(1)
	case 's':
		values, err = u.top(2)
	default:
		values, err = u.marked()
	}
	if err != nil {
		return err
	}
	switch op {
	case 't', '\x91': // FROZENSET
		u.push(values)
		return nil
	case 'l':
		u.spent += containBytes
		u.push(&list{values})
		return nil
	case 'd':
		u.push(u.newDict())
	}
	if len(u.stack) == 0 {
		return errStack
	}
	switch to := u.stack[len(u.stack)-1].(type) {
	case *list:
		to.items = append(to.items, values...)
	case *dict:
		if len(values)%2 != 0 {
			return errors.New("a key without a value")
		}
		for i := 0; i < len(values); i += 2 {
			to.keys, to.values = append(to.keys, values[i]), append(to.values, values[i+1])
		}
		if u.part != nil {
			taken, err := u.part(to)
			if taken {
				u.forget(to)
			}
			return err
		}
	case opaque: // of a class that is not known
	default:
		return fmt.Errorf("%T cannot be added to", to)
	}
	return nil
}

// object runs the instructions that name functions and classes, call them and fill in what they made.
func (u *unpickler) object(op byte) error {
	switch op {
	case 'c': // GLOBAL
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		u.spent += int64(len(module) + len(name))
		u.push(global{module, name})
		return err
	case '\x93': // STACK_GLOBAL
		v, err := u.top(2)
		if err != nil {
			return err
		}
		module, isText := v[0].(string)
		name, isName := v[1].(string)
		if !isText || !isName {
			return errors.New("a global without a name")
		}
		u.push(global{module, name})
		return nil
	case 'b': // BUILD: attributes of an object
		state, err := u.pop()
		if err == nil && u.build != nil && len(u.stack) > 0 {
			err = u.build(u.stack[len(u.stack)-1], state)
		}
		return err
	case 'P', 'Q': // PERSID, BINPERSID
		var id any
		var err error
		if op == 'P' {
			id, err = u.line()
		} else {
			id, err = u.pop()
		}
		if err != nil {
			return err
		}
		v, err := u.persistent(id)
		u.push(v)
		return err
	}
	v, err := u.top(2) // REDUCE, NEWOBJ
	if err != nil {
		return err
	}
	arguments, ok := v[1].(tuple)
	if !ok {
		return errors.New("a call without arguments")
	}
	if f, is := v[0].(global); is {
		if f == (global{"collections", "OrderedDict"}) {
			u.push(u.newDict())
			return nil
		}
		made, known, err := u.call(f, arguments)
		if err != nil || known {
			u.push(made)
			return err
		}
	}
	u.push(opaque{v[0]})
	return nil
}
