// Package visible shows text that others wrote as it is: characters that are not seen, or that reorder what is seen,
// become escapes such as \u202e. A name in a file can then neither command a terminal nor read as another one
// ("Trojan Source", Boucher and Anderson, 2021).
package visible

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// hidden tells whether a character is not to be shown as it is: controls, what reorders text, spaces that are not the
// space, and what has no shape. The line feed and the tab lay text out.
func hidden(r rune) bool {
	switch {
	case r >= ' ' && r < 0x7f || r == '\n' || r == '\t':
		return false
	case !unicode.IsPrint(r), r == '\u2800': // a blank of Braille
		return true
	}
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// appendVisible escapes a text. \uXXXX is valid in a JSON string and means the same there; \xXX stands for a byte
// that is no UTF-8, which no JSON holds.
func appendVisible(out, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case !hidden(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			high, low := 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}

// plain tells whether a text has nothing to escape.
func plain(text []byte) bool {
	for _, c := range text {
		if c >= 0x7f || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// String returns a text with its hidden characters as escapes.
func String(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || hidden(r) }) < 0 {
		return s
	}
	return string(appendVisible(nil, []byte(s)))
}

// Bytes returns a text with its hidden characters as escapes.
func Bytes(text []byte) []byte {
	if plain(text) {
		return text
	}
	return appendVisible(make([]byte, 0, len(text)), text)
}

// Writer escapes what it passes on. It may be used by several goroutines.
type Writer struct {
	mu   sync.Mutex
	w    io.Writer
	left []byte // the beginning of a character whose end has not come
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Unwrap is the writer behind it, for what is no text, such as the bars on a terminal.
func (w *Writer) Unwrap() io.Writer { return w.w }

// Write writes a text. It keeps an unfinished character at its end for the next one.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := p
	if len(w.left) > 0 {
		text = append(w.left, p...)
		w.left = nil
	}
	if tail := unfinished(text); tail > 0 {
		w.left = append([]byte(nil), text[len(text)-tail:]...)
		text = text[:len(text)-tail]
	}
	if _, err := w.w.Write(Bytes(text)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unfinished is how many bytes at the end of a text are the beginning of a character.
func unfinished(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return n
			}
			return 0
		}
	}
	return 0
}

// Flush writes what is left of a character whose end never came.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.left
	w.left = nil
	if len(left) == 0 {
		return nil
	}
	_, err := w.w.Write(Bytes(left))
	return err
}
