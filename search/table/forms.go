package table

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/ctnas/ctnas/internal/files"
)

// What people's programs write into tables, and how it is read: where it can mean one thing only it is read, else it
// is an error that says what to write instead.

// byteOrderMark begins some texts in UTF-8.
const byteOrderMark = "\ufeff"

// plainText makes the input's text UTF-8 without a byte-order mark. UTF-16 is told by its mark, or without one by its
// zeros: every other byte of a text's first characters, where a tfrecord has seven in a row.
func (in *input) plainText() {
	head, _ := in.r.Peek(4)
	ascii := func(b byte) bool { return b == '\t' || b == '\n' || b == '\r' || b >= ' ' && b < 0x7f }
	var text io.Reader
	switch {
	case bytes.HasPrefix(head, []byte(byteOrderMark)):
		_, _ = in.r.Discard(len(byteOrderMark)) // just peeked at
		in.base = int64(len(byteOrderMark))
		return
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		text = files.Text(in.r)
	case len(head) == 4 && ascii(head[0]) && head[1] == 0 && ascii(head[2]) && head[3] == 0:
		text = transform.NewReader(in.r, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder())
	case len(head) == 4 && head[0] == 0 && ascii(head[1]) && head[2] == 0 && ascii(head[3]):
		text = transform.NewReader(in.r, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder())
	default:
		return
	}
	in.r = bufio.NewReaderSize(text, 1<<18)
}

// headBytes is how much of a text is looked at to tell how its lines end and what separates its columns.
const headBytes = 1 << 16

// unixLines makes lines that end with a carriage return alone end with a line feed.
func (in *input) unixLines() {
	head, _ := in.r.Peek(headBytes)
	if bytes.IndexByte(head, '\r') >= 0 && bytes.IndexByte(head, '\n') < 0 {
		in.r = bufio.NewReaderSize(carriageReturns{in.r}, 1<<18)
	}
}

type carriageReturns struct{ r io.Reader }

func (c carriageReturns) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\r' {
			p[i] = '\n'
		}
	}
	return n, err
}

// separated takes the line "sep=;" from the text's beginning, with which spreadsheets say what separates columns; 0
// where it is not there.
func (in *input) separated() rune {
	head, _ := in.r.Peek(16)
	line, _, found := bytes.Cut(head, []byte("\n"))
	text := strings.Trim(string(line), "\"\r ")
	mark, told := strings.CutPrefix(text, "sep=")
	if !found || !told || len(mark) != 1 || !slices.Contains(separatorsOfColumns, rune(mark[0])) {
		return 0
	}
	_, _ = in.r.Discard(len(line) + 1)
	in.base += int64(len(line) + 1)
	in.skipped = 1
	return rune(mark[0])
}

// separatorsOfColumns are tried in this order.
var separatorsOfColumns = []rune{',', ';', '\t'}

// headerName is a column's name as it is compared: in lower case, without brackets, with _ between its words and the
// word percent for %.
func headerName(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "%", " percent "))
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("()[]{}\"'", r):
			return ' '
		case strings.ContainsRune("-/\u00a0\t\r\n", r):
			return ' '
		}
		return r
	}, name)
	words := strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == '_' })
	for i, w := range words {
		words[i] = strings.TrimSuffix(w, ".")
	}
	return strings.Join(words, "_")
}

// calls are what Python writes around values: np.str_('x'), array([…]), tensor(0.9), and the dtype behind.
var (
	calls  = regexp.MustCompile(`[A-Za-z_][\w.]*\(`)
	dtypes = regexp.MustCompile(`,?\s*(?:dtype|device|requires_grad|grad_fn)=[\w.'":<>]*`)
)

// bare takes off what stands around a single value.
func bare(text string) string {
	text = strings.Trim(text, " \t\r\n\u00a0")
	if strings.HasSuffix(text, ")") && calls.MatchString(text) {
		text = calls.ReplaceAllString(dtypes.ReplaceAllString(text, ""), "")
		text = strings.TrimRight(text, ") ")
	}
	for len(text) >= 2 && (text[0] == '\'' || text[0] == '"') && text[len(text)-1] == text[0] {
		text = strings.Trim(text[1:len(text)-1], " \t\r\n\u00a0")
	}
	return text
}

// words are the entries of a written list or matrix.
func words(text string) []string {
	if strings.Contains(text, "(") {
		text = calls.ReplaceAllString(dtypes.ReplaceAllString(text, ""), " ")
	}
	return strings.FieldsFunc(text, separators)
}

// separators stand between the numbers of a matrix and between the names of operations.
func separators(r rune) bool { return strings.ContainsRune(" \t\r\n,;[](){}'\"\u00a0", r) }

// matrixDigits makes zeros and ones of a written matrix: 0 and 1, True and False, 0.0 and 1.0, or rows of digits.
func matrixDigits(text string) (string, error) {
	var b strings.Builder
	for _, w := range words(text) {
		switch strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(w, "numpy."), "np."), "_")) {
		case "true":
			b.WriteByte('1')
			continue
		case "false":
			b.WriteByte('0')
			continue
		}
		if strings.Trim(w, "01") == "" {
			b.WriteString(w)
			continue
		}
		switch v, err := strconv.ParseFloat(w, 64); {
		case err == nil && v == 0:
			b.WriteByte('0')
		case err == nil && v == 1:
			b.WriteByte('1')
		default:
			return "", fmt.Errorf("%.40q is neither 0 nor 1 (nor False, True, 0.0, 1.0)", w)
		}
	}
	return b.String(), nil
}

// operationDigit is an operation written as a number: 0, 1, 2, or 0.0; -1 and -2 are input and output.
var operationDigit = regexp.MustCompile(`^(-?[0-9])(?:\.0*)?$`)

// operationsOf are the digits of the interior vertices' operations, or the names of all vertices.
func operationsOf(text string) (digits string, names []string) {
	names = words(text)
	joined := strings.Join(names, "")
	if strings.Trim(joined, "012") == "" {
		return joined, nil
	}
	var b strings.Builder
	for i, w := range names {
		m := operationDigit.FindStringSubmatch(w)
		switch {
		case m == nil:
			if names[0] != "input" {
				names = append(append([]string{"input"}, names...), "output")
			}
			return "", names
		case i == 0 && m[1] == "-1", i == len(names)-1 && m[1] == "-2":
		default:
			b.WriteString(m[1])
		}
	}
	return b.String(), nil
}

// gaps are the ways to write that a number is not known.
var gaps = []string{"", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "np.nan", "-", "--", "?"}

func isGap(text string) bool { return len(text) <= 6 && slices.Contains(gaps, strings.ToLower(text)) }

// kind is what a column's numbers are, as far as it tells how to read them.
type kind int

const (
	anyNumber kind = iota
	fraction       // accuracies
	count          // whole numbers
)

// groups are numbers with a mark between thousands that stands nowhere else.
var (
	groups      = regexp.MustCompile(`^[+-]?\d{1,3}(?:[ _'’\x{a0}\x{202f}]\d{3})+(?:[.,]\d+)?$`)
	commaGroups = regexp.MustCompile(`^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?$`)
	pointGroups = regexp.MustCompile(`^[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?$`)
	decimals    = regexp.MustCompile(`^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$`)
)

// ungrouped writes a number without marks between thousands and with a decimal point. Where a comma may be either it
// is refused.
func ungrouped(text string, k kind) (string, error) {
	if groups.MatchString(text) {
		text = strings.Map(func(r rune) rune {
			if strings.ContainsRune(" _'’\u00a0\u202f", r) {
				return -1
			}
			return r
		}, text)
	}
	commas, points := strings.Count(text, ","), strings.Count(text, ".")
	switch {
	case commas == 0 && points <= 1:
		return text, nil
	case commas > 1 || commas == 1 && points == 1 && strings.Index(text, ",") < strings.Index(text, "."):
		if commaGroups.MatchString(text) {
			return strings.ReplaceAll(text, ",", ""), nil
		}
	case points >= 1:
		if pointGroups.MatchString(text) {
			return strings.Replace(strings.ReplaceAll(text, ".", ""), ",", ".", 1), nil
		}
	case commaGroups.MatchString(text) && k == count:
		return strings.ReplaceAll(text, ",", ""), nil
	case decimals.MatchString(text) && k != count:
		whole, _, _ := strings.Cut(text, ",")
		if k == anyNumber && commaGroups.MatchString(text) && strings.Trim(whole, "+-0") != "" {
			return "", fmt.Errorf("%q may be %s or %s: write it without the comma", text,
				strings.Replace(text, ",", ".", 1), strings.Replace(text, ",", "", 1))
		}
		return strings.Replace(text, ",", ".", 1), nil
	}
	return "", errNoNumber
}

var errNoNumber = errors.New("is not a number")

// number reads a field; NaN where it is a gap. percent tells whether a % stood behind it.
func number(field string, k kind) (v float64, percent bool, err error) {
	if v, err = strconv.ParseFloat(field, 64); err == nil && !strings.Contains(field, "_") { // nearly all of them
		return v, false, nil
	}
	text := bare(field)
	if isGap(text) {
		return math.NaN(), false, nil
	}
	if k != count {
		text, percent = strings.CutSuffix(text, "%")
		text = strings.TrimSpace(text)
	}
	plain, err := ungrouped(text, k)
	if err == nil {
		if v, err = strconv.ParseFloat(plain, 64); err == nil {
			return v, percent, nil
		}
		err = errNoNumber
	}
	if errors.Is(err, errNoNumber) {
		err = fmt.Errorf("%.40q is not a number; one that is not known is left empty", field)
	}
	return 0, false, err
}

// wholeNumber reads a count, such as 8555530, 8555530.0 or 8,555,530; negative where it is a gap.
func wholeNumber(field string) (int64, error) {
	if v, err := strconv.ParseInt(field, 10, 64); err == nil && v >= 0 {
		return v, nil
	}
	v, _, err := number(field, count)
	switch {
	case err != nil:
		return 0, err
	case v != v:
		return -1, nil
	case v < 0 || v != math.Trunc(v) || v > 1<<53:
		return 0, fmt.Errorf("%.40q is not a count: want a whole number, all its digits written", field)
	}
	return int64(v), nil
}
