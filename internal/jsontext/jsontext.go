// Package jsontext writes JSON for people and other programs alike: characters such as < and & stand as they are, which
// the standard library escapes for pages of HTML.
package jsontext

import (
	"bytes"
	"encoding/json"
)

// Line is a value in one line, which it ends.
func Line(v any) ([]byte, error) { return encode(v, "") }

// Document is a value in lines indented by two spaces.
func Document(v any) ([]byte, error) { return encode(v, "  ") }

func encode(v any, indent string) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return text.Bytes(), err
}
